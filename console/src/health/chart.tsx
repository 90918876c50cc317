// A chart over time: drawn by uPlot on a canvas, with its newest values as text for everyone.
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { useCell } from "../cell.js";
import { colour, theme } from "../theme.js";
import { KEPT_MS } from "./samples.js";

interface Line {
  readonly label: string;
  /** The style sheet's name of its colour. */
  readonly colour: string;
  readonly values: readonly number[];
}

interface Properties {
  title: string;
  at: readonly number[];
  unit(value: number): string;
  lines: readonly Line[];
}

const HEIGHT = 150;

export function Chart({ title, at, unit, lines }: Properties) {
  const element = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const now = useCell(theme);

  useEffect(() => {
    const place = element.current;
    if (place === null) return;
    plot.current = new uPlot(options(place.clientWidth, unit, lines), data(at, lines), place);
    const resized = new ResizeObserver(() => plot.current?.setSize({ width: place.clientWidth, height: HEIGHT }));
    resized.observe(place);
    return () => {
      resized.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
    // The canvas has the theme's colours in it.
  }, [now]);

  useEffect(() => plot.current?.setData(data(at, lines)), [at.at(-1)]);

  return (
    <figure class="chart panel-box">
      <figcaption>
        <h2>{title}</h2>
        <ul class="legend">
          {lines.map((line) => {
            const newest = line.values.at(-1) ?? Number.NaN;
            return (
              <li key={line.label} class={`ink${line.colour}`}>
                <span class="stroke" aria-hidden="true" />
                {line.label} <b>{Number.isFinite(newest) ? unit(newest) : "–"}</b>
              </li>
            );
          })}
        </ul>
      </figcaption>
      <div ref={element} class="plot" aria-hidden="true" />
    </figure>
  );
}

function options(width: number, unit: (value: number) => string, lines: readonly Line[]): uPlot.Options {
  const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  return {
    width,
    height: HEIGHT,
    padding: [8, 28, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: {
      // A minute at least, so that a page that was just opened does not make much of two seconds.
      x: { range: (_plot, min, max) => [max - Math.min(KEPT_MS / 1000, Math.max(60, max - min)), max] },
      y: { range: (_plot, _min, max) => [0, Math.max(max * 1.15, 1)] },
    },
    axes: [
      { ...axis, size: 26, space: 80, values: (_plot, splits) => splits.map(clock) },
      { ...axis, size: 58, values: (_plot, splits) => splits.map(unit) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour),
        width: 1.6,
        points: { show: false },
        fill: `${colour(line.colour)}1f`,
      })),
    ],
  };
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const clock = (seconds: number): string => CLOCK.format(seconds * 1000);

function data(at: readonly number[], lines: readonly Line[]): uPlot.AlignedData {
  const values = lines.map((line) => line.values.map((value) => (Number.isFinite(value) ? value : null)));
  return [[...at], ...values] as uPlot.AlignedData;
}
