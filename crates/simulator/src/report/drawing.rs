//! Draws charts as SVG, with plotters.
//!
//! Three things plotters' SVG backend does not give, and how they come about. Its coordinates are whole pixels: a chart
//! is drawn ten times as large as it is shown. It writes colours into each element: each stands for a role here
//! ([`AXIS`] and its neighbours, nearly black all of them), and the style sheet of the page selects elements by it, such
//! as `[stroke="#000010"]`, for light, dark and print. And it knows nothing of pointers: [`hover`](super::hover) puts a
//! layer on top, with the places that plotters computed.

use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Fitted;
use super::chart::{Bar, Chart, Content, Line, Mark, Span};
use super::hover;

/// Drawing stops where the backend fails, which into a string it does not.
pub(super) type Failed = DrawingAreaErrorKind<std::io::Error>;

type Plot<'drawing, 'text> = ChartContext<'drawing, SVGBackend<'text>, Cartesian2d<Fitted, Fitted>>;

/// Tenths of a pixel of the size that a chart has on a wide screen.
const WIDTH: u32 = 5_600;
const HEIGHT: u32 = 2_500;
const ROW: u32 = 460;
/// Room for the numbers on the axes, at the size that they have on a narrow screen.
const LEFT: u32 = 680;
const BELOW: u32 = 250;
const MARGIN: u32 = 120;
/// Half a number of an axis: what stands out on both sides of rows.
const SIDE: u32 = 280;
/// Of a row's label; all of it is in the row's title. So many have room on a narrow screen, beside the value.
const LABEL_CHARS_MAX: usize = 40;
const LABEL: u32 = 150;
const DOT: u32 = 26;
/// On both sides of a bar that is wide enough.
const GAP: u32 = 4;

const AXIS: RGBColor = RGBColor(0, 0, 1);
const GRID: RGBColor = RGBColor(0, 0, 2);
const TEXT: RGBColor = RGBColor(0, 0, 3);
const MARK: RGBColor = RGBColor(0, 0, 4);
const BAR: RGBColor = RGBColor(0, 0, 5);
const QUIET: RGBColor = RGBColor(0, 0, 6);
const NAME: RGBColor = RGBColor(0, 0, 7);
const LINES: [RGBColor; 4] = [
    RGBColor(0, 0, 0x10),
    RGBColor(0, 0, 0x11),
    RGBColor(0, 0, 0x12),
    RGBColor(0, 0, 0x13),
];

/// The classes of the style sheet that have the same looks as the lines, in their order.
pub(super) fn classes(lines: &[Line]) -> Vec<&'static str> {
    let mut loud = ["line-0", "line-1", "line-2", "line-3"].into_iter().cycle();
    let class = |line: &Line| {
        if line.quiet {
            "quiet"
        } else {
            loud.next().unwrap_or("quiet")
        }
    };
    lines.iter().map(class).collect()
}

/// The chart as one `svg` element.
pub(super) fn svg(chart: &Chart) -> Result<String, Failed> {
    match &chart.content {
        Content::Lines(lines) => draw_lines(chart, lines),
        Content::Bars(bars) => draw_bars(chart, bars),
        Content::Ranges(rows) => draw_ranges(chart, rows),
    }
}

fn draw_lines(chart: &Chart, lines: &[Line]) -> Result<String, Failed> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let drawn = points().filter(|(x, y)| chart.x.shows(*x) && chart.y.shows(*y));
    let x = chart.x.fit(points().map(|point| point.0), false, 7);
    let y = chart.y.fit(drawn.map(|point| point.1), true, 6);
    let is_empty = !points().any(|(x, y)| chart.x.shows(*x) && chart.y.shows(*y));
    on_canvas(&chart.title, HEIGHT, |area| {
        let mut plot = framed(area, x, y, LEFT, marks_height(&chart.marks))?;
        draw_marks(&mut plot, chart)?;
        if is_empty {
            let middle = text(TEXT).pos(Pos::new(HPos::Center, VPos::Center));
            area.draw(&Text::new(
                "no values",
                (WIDTH.cast_signed() / 2, HEIGHT.cast_signed() / 2),
                middle,
            ))?;
        }
        let mut loud = LINES.into_iter().cycle();
        for line in lines {
            let colour = if line.quiet {
                QUIET
            } else {
                loud.next().unwrap_or(QUIET)
            };
            for stretch in stretches(chart, line) {
                // A stretch of one is seen as a dot, and so are the few points of a staircase.
                let dots = stretch.len() == 1 || (line.points.len() <= 24 && !line.quiet);
                let dot = if dots { DOT } else { 0 };
                plot.draw_series(LineSeries::new(stretch, colour.filled()).point_size(dot))?;
            }
        }
        Ok(hover::over_lines(chart, lines, &plot_area(&plot)))
    })
}

/// The points between gaps.
fn stretches(chart: &Chart, line: &Line) -> Vec<Vec<(f64, f64)>> {
    let shown = |(x, y): &(f64, f64)| chart.x.shows(*x) && chart.y.shows(*y);
    let parts = line.points.split(|point| !shown(point));
    parts.filter(|part| !part.is_empty()).map(<[_]>::to_vec).collect()
}

fn draw_bars(chart: &Chart, bars: &[Bar]) -> Result<String, Failed> {
    let edges = bars.iter().flat_map(|bar| [bar.from, bar.to]);
    let x = chart.x.fit(edges, false, 8);
    let y = chart.y.fit(bars.iter().map(|bar| bar.height), true, 5);
    let floor = y.low;
    on_canvas(&chart.title, HEIGHT, |area| {
        let mut plot = framed(area, x, y, LEFT, marks_height(&chart.marks))?;
        let shown = |bar: &&Bar| [bar.from, bar.to].iter().all(|x| chart.x.shows(*x)) && chart.y.shows(bar.height);
        for bar in bars.iter().filter(shown) {
            let mut drawn = Rectangle::new([(bar.from, bar.height), (bar.to, floor)], BAR.filled());
            let wide = plot.backend_coord(&(bar.to, floor)).0 - plot.backend_coord(&(bar.from, floor)).0;
            if wide > 4 * GAP.cast_signed() {
                drawn.set_margin(0, 0, GAP, GAP);
            }
            plot.draw_series([drawn])?;
        }
        draw_marks(&mut plot, chart)?;
        Ok(hover::over_bars(chart, bars, &plot_area(&plot)))
    })
}

fn draw_ranges(chart: &Chart, rows: &[Span]) -> Result<String, Failed> {
    let values = |row: &Span| [row.value, row.min, row.max, row.floor.unwrap_or(row.value)];
    let x = chart.x.fit(rows.iter().flat_map(values), true, 7);
    let (left, right) = (x.low, x.high);
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX).clamp(1, 1_000);
    let y = chart.y.fit([0.0, f64::from(count)], false, 2);
    let height = count * ROW + BELOW + MARGIN;
    on_canvas(&chart.title, height, |area| {
        let mut plot = framed(area, x, y, 0, 0)?;
        for (index, row) in (0..count).zip(rows) {
            let top = f64::from(count - index);
            let middle = top - 0.68;
            let named = text(NAME).pos(Pos::new(HPos::Left, VPos::Center));
            let to_the_right = text(NAME).pos(Pos::new(HPos::Right, VPos::Center));
            let exact = chart.x.unit.exact(row.value);
            plot.draw_series([Text::new(shortened(&row.label), (left, top - 0.28), named)])?;
            plot.draw_series([Text::new(exact, (right, top - 0.28), to_the_right)])?;
            if chart.x.shows(row.min) && chart.x.shows(row.max) {
                let whisker = vec![(row.min, middle), (row.max, middle)];
                plot.draw_series([PathElement::new(whisker, LINES[0])])?;
                for end in [row.min, row.max] {
                    let cap = |x| EmptyElement::at((x, middle)) + PathElement::new(vec![(0, -40), (0, 40)], LINES[0]);
                    plot.draw_series([cap(end)])?;
                }
            }
            if let Some(floor) = row.floor.filter(|floor| chart.x.shows(*floor)) {
                plot.draw_series([Circle::new((floor, middle), 42, LINES[1])])?;
            }
            if chart.x.shows(row.value) {
                plot.draw_series([Circle::new((row.value, middle), 42, LINES[0].filled())])?;
            }
        }
        Ok(hover::over_ranges(chart, rows, &plot_area(&plot)))
    })
}

fn draw_marks(plot: &mut Plot<'_, '_>, chart: &Chart) -> Result<(), Failed> {
    let (columns, low, high) = (
        plot.plotting_area().get_pixel_range().0,
        plot.y_range().start,
        plot.y_range().end,
    );
    let levels = i32::try_from(chart.marks.len()).unwrap_or(0);
    for (level, mark) in (0..levels).zip(&chart.marks) {
        if !chart.x.shows(mark.x) {
            continue;
        }
        let above = (levels - level) * LABEL.cast_signed() - 30;
        // Towards the side with more room.
        let place = plot.backend_coord(&(mark.x, low)).0;
        let is_right = place > i32::midpoint(columns.start, columns.end);
        let (side, shift) = if is_right { (HPos::Right, -40) } else { (HPos::Left, 40) };
        let named = text(TEXT).pos(Pos::new(side, VPos::Center));
        plot.draw_series([PathElement::new(vec![(mark.x, low), (mark.x, high)], MARK)])?;
        plot.draw_series([EmptyElement::at((mark.x, high))
            + PathElement::new(vec![(0, 0), (0, -above)], MARK)
            + Text::new(mark.label.clone(), (shift, -above + 20), named)])?;
    }
    Ok(())
}

fn marks_height(marks: &[Mark]) -> u32 {
    u32::try_from(marks.len()).unwrap_or(0).min(8) * LABEL
}

/// Axes with their numbers, and lines across at those of y (rows have none: lines upright at those of x).
fn framed<'drawing, 'text>(
    area: &DrawingArea<SVGBackend<'text>, Shift>,
    x: Fitted,
    y: Fitted,
    left: u32,
    above: u32,
) -> Result<Plot<'drawing, 'text>, Failed> {
    let (across, upright) = (y.ticks(), x.ticks());
    let has_numbers = left > 0;
    let mut plot = ChartBuilder::on(area)
        .margin(MARGIN)
        .margin_left(if has_numbers { 0 } else { SIDE })
        .margin_right(if has_numbers { MARGIN } else { SIDE })
        .margin_top(MARGIN + above)
        .margin_bottom(0)
        .x_label_area_size(BELOW)
        .y_label_area_size(left)
        .build_cartesian_2d(x, y)?;
    let mut mesh = plot.configure_mesh();
    mesh.x_labels(upright)
        .y_labels(across)
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(AXIS)
        .set_all_tick_mark_size(40)
        .label_style(text(TEXT));
    if has_numbers {
        mesh.disable_x_mesh();
    } else {
        mesh.disable_y_mesh().y_labels(0).disable_y_axis();
    }
    mesh.draw()?;
    Ok(plot)
}

fn text(colour: RGBColor) -> TextStyle<'static> {
    // Size and family are those of the style sheet.
    ("sans-serif", 120.0).into_font().color(&colour)
}

fn shortened(label: &str) -> String {
    match label.char_indices().nth(LABEL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", label.get(..end).unwrap_or_default().trim_end()),
        None => label.to_owned(),
    }
}

/// Where things are on the canvas.
pub(super) struct Area<'plot> {
    pub(super) left: i32,
    pub(super) right: i32,
    pub(super) top: i32,
    pub(super) bottom: i32,
    pub(super) place: Box<dyn Fn(f64, f64) -> (i32, i32) + 'plot>,
}

fn plot_area<'plot>(plot: &'plot Plot<'_, '_>) -> Area<'plot> {
    let (columns, rows) = plot.plotting_area().get_pixel_range();
    Area {
        left: columns.start,
        right: columns.end,
        top: rows.start,
        bottom: rows.end,
        place: Box::new(|x, y| plot.backend_coord(&(x, y))),
    }
}

/// An `svg` element with what `draw` drew, and the layer that it returned on top.
fn on_canvas(
    title: &str,
    height: u32,
    draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, Shift>) -> Result<maud::Markup, Failed>,
) -> Result<String, Failed> {
    let mut drawn = String::new();
    let layer = {
        let area = SVGBackend::with_string(&mut drawn, (WIDTH, height)).into_drawing_area();
        let layer = draw(&area)?;
        area.present()?;
        layer
    };
    // The backend's own tag has a size in pixels, and no name for those who cannot see.
    let inner = drawn.split_once('>').map_or("", |(_, inner)| inner);
    let inner = inner.trim_end().trim_end_matches("</svg>");
    let markup = maud::html! {
        svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-label=(title) xmlns="http://www.w3.org/2000/svg" {
            (maud::PreEscaped(inner)) (layer)
        }
    };
    Ok(markup.into_string())
}
