// Draws the charts: fills each <figure data-chart="KIND" data-of="N"> from the report in this page, with uPlot.
"use strict";
const report = JSON.parse(document.getElementById("report").textContent);
const subjects = report.operations ?? report.benchmarks;

// Numbers: with three digits at least, as the tables have them; and as short as can be, on an axis.

function digits(value) {
  const size = Math.abs(value);
  if (size >= 999.5) return Math.round(value).toLocaleString("en-US");
  return Number.isInteger(value) ? String(value) : value.toPrecision(3);
}

function scaled(value, steps, written) {
  const [size, name] = steps.find(([size]) => Math.abs(value) >= size * 0.9995) ?? steps.at(-1);
  return written(value / size) + name;
}

const times = [[1e3, " s"], [1, " ms"], [1e-3, " µs"], [1e-6, " ns"]];
const prefixes = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
const trimmed = (value) => String(Number(value.toPrecision(4)));
const count = { exact: digits, tick: (value) => scaled(value, prefixes, trimmed) };
const rate = { ...count, exact: (value) => digits(value) + " /s" };
const latency = { exact: (value) => scaled(value, times, digits), tick: (value) => scaled(value, times, trimmed) };
const percent = { exact: (value) => digits(value) + " %", tick: (value) => trimmed(value) + " %" };
const seconds = {
  exact: (value) => value + " s",
  tick: (value, step) => (step >= 3600 ? value / 3600 + " h" : step >= 60 ? value / 60 + " min" : value + " s"),
  steps: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400],
};

// Charts: what each kind shows of its operation or benchmark. A value that is not there is null, and leaves a gap.

const answered = (rows, field) => rows.map((row) => (row.answered > 0 ? row[field] : null));
const PERCENTILES = [["p50", "p50_ms"], ["p99", "p99_ms"], ["p99.9", "p999_ms"]];
const percentiles = (rows) => PERCENTILES.map(([label, field]) => ({ label, values: answered(rows, field) }));
const byLoad = (stages) => [...stages].sort((one, other) => one.offered_per_second - other.offered_per_second);
const rates = (stages, field) => stages.map((stage) => stage[field]);
const offered = (stages) =>
  ({ label: "offered /s", name: "offered", unit: rate, values: rates(stages, "offered_per_second"), from: 0 });

function overTime({ seconds: all, stages }) {
  let begin = 0;
  const marks = stages.map((stage) => {
    const mark = { x: begin, label: rate.tick(Number(stage.offered_per_second.toPrecision(3))) + "/s" };
    begin += stage.duration_seconds;
    return mark;
  });
  const x = { label: "time since the warm-up", name: "at", unit: seconds, values: all.map(({ second }) => second), sync: true };
  return { x, marks: marks.length > 1 ? marks : [] };
}

const charts = {
  throughput(operation) {
    const { seconds: all, totals } = operation;
    const line = (label, field) => ({ label, values: all.map((second) => second[field]) });
    const lines = [{ ...line("offered", "offered"), quiet: true }, line("answered", "completed")];
    if (totals.refused + totals.failed > 0) lines.push(line("refused", "refused"), line("failed", "failed"));
    return { ...overTime(operation), y: { unit: rate }, lines };
  },
  latency(operation) {
    return { ...overTime(operation), y: { unit: latency, log: true }, lines: percentiles(operation.seconds) };
  },
  "latency-by-load"({ stages }) {
    const sorted = byLoad(stages);
    return { x: offered(sorted), y: { unit: latency, log: true }, lines: percentiles(sorted) };
  },
  "answered-by-load"({ stages }) {
    const sorted = byLoad(stages);
    const all = { label: "all that is offered", values: rates(sorted, "offered_per_second"), quiet: true };
    const line = { label: "answered", values: rates(sorted, "answered_per_second") };
    return { x: offered(sorted), y: { unit: rate }, lines: [all, line] };
  },
  // Bars of equal width on a logarithmic axis, ten for each power of ten.
  histogram({ histogram, latency: of }) {
    const bin = (value) => Math.ceil(Math.log10(Math.max(value, 1e-6)) * 10 - 1e-9);
    const edge = (index) => 10 ** (index / 10);
    const first = bin(histogram[0].up_to_ms), bars = [];
    for (const { up_to_ms, count } of histogram) {
      const place = bin(up_to_ms) - first;
      while (bars.length <= place) bars.push(0);
      bars[place] += count;
    }
    const name = (place) => latency.exact(edge(first + place - 1)) + " – " + latency.exact(edge(first + place));
    const values = bars.map((_, place) => edge(first + place - 0.5));
    const x = { label: "latency", unit: latency, log: true, values, nameOf: name };
    const marks = PERCENTILES.map(([label, field]) => ({ label, x: of[field] }));
    return { x, y: { unit: count }, marks, lines: [{ label: "answered", values: bars, bars: true }] };
  },
  // The tail that a histogram hides, down to one of 100,000.
  tail({ histogram }) {
    let left = histogram.reduce((sum, bucket) => sum + bucket.count, 0);
    const all = left;
    const points = histogram.map(({ up_to_ms, count }) => [up_to_ms, 100 * (left -= count) / all]);
    const shown = points.filter(([at, share]) => at > 0 && share >= 0.001);
    const x = { label: "latency", unit: latency, log: true, values: shown.map(([at]) => at) };
    return { x, y: { unit: percent, log: true }, lines: [{ label: "took longer", values: shown.map(([, share]) => share) }] };
  },
  rounds({ rounds, baseline_rounds: baseline, better }) {
    const values = rounds.map((_, round) => round + 1);
    const x = { label: "round", unit: { ...count, steps: [1, 2, 5, 10] }, values, whole: true };
    const lines = [{ label: "Waybill", values: rounds, dots: true }];
    if (baseline.length > 0) {
      const ratios = rounds.map((ours, round) => (better === "more" ? ours / baseline[round] : baseline[round] / ours));
      lines.push({ label: "baseline", values: baseline, dots: true }, { label: "ratio", values: ratios, legendOnly: true });
    }
    return { x, y: { unit: count }, lines };
  },
};

// Drawing.

const NICE = [1, 2, 5, 10];
const HEIGHT = 230;
// Twice as large as page.css shows it: sharp on paper.
const PRINTED = { width: 660, height: 340, scale: 1.7 };
let printing = false;
let drawn = [];

/** The limits of a logarithmic axis: 1, 2 or 5 of a power of ten. */
function around(_, min, max) {
  if (min == null) return [1, 10];
  const nice = (value, pick) => {
    const power = 10 ** Math.floor(Math.log10(value));
    return Number((pick(value / power) * power).toPrecision(1));
  };
  const low = nice(min, (part) => NICE.findLast((step) => step <= part * 1.0001) ?? 1);
  const high = nice(max, (part) => NICE.find((step) => step >= part * 0.9999) ?? 10);
  return low < high ? [low, high] : [low / 2, high * 2];
}

function scale({ log, from, whole }, isX) {
  if (log) return { time: false, distr: 3, range: around };
  const withZero = (_, min, max) => uPlot.rangeNum(Math.min(min, 0), Math.max(max, 0), 0.08, true);
  if (!isX) return { range: (_, min, max) => (max > 0 || min < 0 ? withZero(_, min, max) : [0, 1]) };
  return {
    time: false,
    range({ data: [all] }, min, max) {
      if (all.length === 1) return [all[0] - 0.5, all[0] + 0.5];
      return whole ? [min - 0.5, max + 0.5] : [from ?? min, max];
    },
  };
}

function axis({ label, unit, log }, color, size) {
  const font = 12 * size + "px system-ui, sans-serif";
  const line = { stroke: color("--rule"), width: size };
  const hasLine = (value) => !log || /^[125]/.test(value.toExponential());
  const letters = (ticks) => Math.max(1, ...(ticks ?? []).map((tick) => tick?.length ?? 0));
  return {
    label, font, labelFont: font, labelSize: 20 * size, gap: 4 * size, stroke: color("--dim"),
    grid: { ...line, filter: (_, values) => values.map((value) => (hasLine(value) ? value : null)) },
    ticks: { ...line, size: 4 * size },
    values: (_, values, __, ___, step) => values.map((value) => (value == null ? null : unit.tick(value, step))),
    ...(unit.steps && { incrs: unit.steps }),
    ...(label ? { space: 64 * size, size: 26 * size } : { space: 32 * size, size: (_, ticks) => (12 + 7 * letters(ticks)) * size }),
  };
}

function series({ label, values, quiet, bars, dots, legendOnly }, index, y, color, size) {
  const variable = quiet ? "--quiet" : bars ? "--bar" : "--line-" + index;
  const dash = quiet ? [3, 3] : [[], [7, 3], [2.5, 2], [8, 2, 2, 2]][dots ? 0 : index];
  const value = (_, found) => (found == null ? "–" : (legendOnly ? count : y.unit).exact(found));
  const hidden = { width: 0, points: { show: false } };
  if (legendOnly) return { label, value, ...hidden, scale: "none", paths: () => null, class: "unmarked" };
  // A line through one value is not seen: it gets a dot.
  const has = (at) => values[at] != null;
  const lone = [...values.keys()].filter((at) => has(at) && !has(at - 1) && !has(at + 1));
  return {
    label, value, stroke: color(variable), width: 1.75 * size, dash: dash.map((part) => part * size),
    points: {
      size: (dots ? 7 : 5) * size, fill: color(dots && index > 0 ? "--paper" : variable), ...(dots && { show: true }),
      filter: (_, __, show) => (show ? null : lone),
    },
    ...(bars && { ...hidden, fill: color(variable), paths: uPlot.paths.bars({ size: [1, Infinity], gap: 1 }) }),
  };
}

/** Upright lines with names, drawn where there is room for them. */
function drawMarks(marks, color, size) {
  return (chart) => {
    const { ctx, bbox } = chart, ratio = uPlot.pxRatio;
    let free = -Infinity;
    ctx.save();
    [ctx.textAlign, ctx.textBaseline] = ["left", "alphabetic"];
    ctx.font = 11 * size * ratio + "px system-ui, sans-serif";
    [ctx.strokeStyle, ctx.fillStyle, ctx.lineWidth] = [color("--dim"), color("--dim"), size * ratio];
    ctx.setLineDash([2 * size * ratio, 3 * size * ratio]);
    for (const { x, label } of marks) {
      const at = Math.round(chart.valToPos(x, "x", true));
      if (!(at >= bbox.left && at <= bbox.left + bbox.width)) continue;
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
      if (at < free) continue;
      ctx.fillText(label, at, bbox.top - 5 * size * ratio);
      free = at + ctx.measureText(label).width + 6 * ratio;
    }
    ctx.restore();
  };
}

function draw(figure) {
  const { x, y, lines, marks = [] } = charts[figure.dataset.chart](subjects[figure.dataset.of]);
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name);
  for (const line of lines) line.values = line.values.map((value) => (value == null || (y.log && value <= 0) ? null : value));
  if (!lines.some(({ values }) => values.some((value) => value != null))) {
    figure.append(Object.assign(document.createElement("p"), { textContent: "no values" }));
    return null;
  }
  const { width, height, scale: size } = printing ? PRINTED : { width: figure.clientWidth, height: HEIGHT, scale: 1 };
  let shade = 0;
  const all = lines.map((line) => series(line, line.quiet ? 0 : shade++, y, color, size));
  const named = (_, value, __, index) => (index == null ? "–" : x.nameOf ? x.nameOf(index) : x.unit.exact(value));
  const options = {
    width, height,
    padding: [marks.length > 0 ? 20 * size : 8 * size, 14 * size, 0, 0],
    scales: { x: scale(x, true), y: scale(y, false) },
    axes: [axis(x, color, size), axis(y, color, size)],
    series: [{ label: x.name ?? x.label, value: named }, ...all],
    hooks: { draw: [drawMarks(marks, color, size)] },
    cursor: { y: false, points: { size: 8 }, ...(x.sync && { sync: { key: figure.dataset.of } }) },
    legend: { markers: { width: 2 } },
  };
  return new uPlot(options, [x.values, ...lines.map(({ values }) => values)], figure);
}

function drawAll() {
  for (const chart of drawn) chart?.destroy();
  for (const note of document.querySelectorAll("figure > p")) note.remove();
  document.documentElement.classList.toggle("printing", printing);
  drawn = [...document.querySelectorAll("figure[data-chart]")].map(draw);
}

drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
addEventListener("resize", () => {
  for (const chart of printing ? [] : drawn) chart?.setSize({ width: chart.root.parentElement.clientWidth, height: HEIGHT });
});
for (const [event, state] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(event, () => { printing = state; drawAll(); });
}
