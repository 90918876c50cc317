//! The layer over a chart that shows values where a pointer is: a transparent column for each x, with the values as its
//! title, a line and dots that the style sheet shows while the pointer is there. The script of the page only shows the
//! titles at once; without it browsers show them after a moment.

use maud::{Markup, html};

use super::chart::{Bar, Chart, Line, Span};
use super::drawing::{Area, classes};

/// How far a dot reaches, in the unit of the drawing.
const DOT: i32 = 36;

pub(super) fn over_lines(chart: &Chart, lines: &[Line], area: &Area<'_>) -> Markup {
    let mut columns: Vec<f64> = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.0)
        .collect();
    columns.retain(|x| chart.x.shows(*x));
    columns.sort_by(f64::total_cmp);
    columns.dedup();
    let places: Vec<i32> = columns.iter().map(|x| (area.place)(*x, 1.0).0).collect();
    let classes = classes(lines);
    html! {
        @for (index, x) in columns.iter().enumerate() {
            @let (from, to) = around(&places, index, area);
            @let here: Vec<(&Line, &str, f64)> = lines.iter().zip(&classes)
                .filter_map(|(line, class)| Some((line, *class, value_at(line, *x)?)))
                .filter(|(_, _, y)| chart.y.shows(*y))
                .collect();
            g.at {
                title {
                    (chart.x.unit.exact(*x))
                    @for (line, _, y) in &here { "\n" (line.name) ": " (chart.y.unit.exact(*y)) }
                }
                rect x=(from) y=(area.top) width=(to - from) height=(area.bottom - area.top) {}
                @if let Some(place) = places.get(index) {
                    path d={ "M" (place) "," (area.top) "V" (area.bottom) } {}
                }
                @for (_, class, y) in &here {
                    @let (x, y) = (area.place)(*x, *y);
                    circle class=(class) cx=(x) cy=(y) r=(DOT) {}
                }
            }
        }
    }
}

fn value_at(line: &Line, x: f64) -> Option<f64> {
    let mut points = line.points.iter();
    points.find(|point| point.0.total_cmp(&x).is_eq()).map(|point| point.1)
}

/// Half the way to the neighbours of a place.
fn around(places: &[i32], index: usize, area: &Area<'_>) -> (i32, i32) {
    let here = places.get(index).copied().unwrap_or(area.left);
    let before = index.checked_sub(1).and_then(|before| places.get(before));
    let after = places.get(index + 1);
    (
        before.map_or(area.left, |before| i32::midpoint(*before, here)),
        after.map_or(area.right, |after| i32::midpoint(here, *after)),
    )
}

pub(super) fn over_bars(chart: &Chart, bars: &[Bar], area: &Area<'_>) -> Markup {
    html! {
        @for bar in bars.iter().filter(|bar| chart.x.shows(bar.from) && chart.x.shows(bar.to)) {
            @let (from, to) = ((area.place)(bar.from, 1.0).0, (area.place)(bar.to, 1.0).0);
            g.at {
                title {
                    (chart.x.unit.exact(bar.from)) " to " (chart.x.unit.exact(bar.to))
                    "\n" (chart.y.title) ": " (chart.y.unit.exact(bar.height))
                }
                rect.tint x=(from) y=(area.top) width=(to - from) height=(area.bottom - area.top) {}
            }
        }
    }
}

pub(super) fn over_ranges(chart: &Chart, rows: &[Span], area: &Area<'_>) -> Markup {
    let height = (area.bottom - area.top) / i32::try_from(rows.len().max(1)).unwrap_or(i32::MAX);
    let exact = |value: f64| chart.x.unit.exact(value);
    html! {
        @for (index, row) in (0_i32..).zip(rows) {
            g.at {
                title {
                    (row.label) "\n" (exact(row.value)) ", from " (exact(row.min)) " to " (exact(row.max))
                    @if let Some(floor) = row.floor { "\nfloor: " (exact(floor)) }
                }
                rect.tint x=(area.left) y=(area.top + index * height) width=(area.right - area.left) height=(height) {}
            }
        }
    }
}
