//! The charts that a page can have, as data. [`super::drawing`] draws them.

use super::axis::Axis;
use super::unit::{Unit, number};

/// A picture on a page, with its title.
#[derive(Debug, Clone)]
pub struct Chart {
    pub(super) title: String,
    pub(super) note: Option<String>,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) marks: Vec<Mark>,
    pub(super) content: Content,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Lines(Vec<Line>),
    Bars(Vec<Bar>),
    Ranges(Vec<Span>),
}

/// A value of x that is named.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) label: String,
    pub(super) x: f64,
}

impl Chart {
    /// Lines over x, told apart by colour and dash. All should be in the unit of `y`.
    pub fn lines(title: impl Into<String>, x: Axis, y: Axis, lines: impl IntoIterator<Item = Line>) -> Chart {
        Chart::new(title, x, y, Content::Lines(lines.into_iter().collect()))
    }

    /// Bars that stand side by side. `x` and `y` may both be logarithmic.
    pub fn bars(title: impl Into<String>, x: Axis, y: Axis, bars: impl IntoIterator<Item = Bar>) -> Chart {
        Chart::new(title, x, y, Content::Bars(bars.into_iter().collect()))
    }

    /// Rows, each with a dot where its value is, a line from its smallest to its largest, and a hollow dot for what it
    /// is compared with. All rows are in the unit of `x`.
    pub fn ranges(title: impl Into<String>, x: Axis, rows: impl IntoIterator<Item = Span>) -> Chart {
        let rows: Vec<Span> = rows.into_iter().collect();
        Chart::new(title, x, Axis::close("", Unit::Count), Content::Ranges(rows))
    }

    fn new(title: impl Into<String>, x: Axis, y: Axis, content: Content) -> Chart {
        Chart {
            title: title.into(),
            note: None,
            x,
            y,
            marks: Vec::new(),
            content,
        }
    }

    /// A sentence below it.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Chart {
        self.note = Some(note.into());
        self
    }

    /// An upright line at `x`, named. Not drawn where the axis has no place for it.
    #[must_use]
    pub fn mark(mut self, label: impl Into<String>, x: f64) -> Chart {
        let label = label.into();
        self.marks.push(Mark { label, x });
        self
    }
}

/// A line of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    pub(super) name: String,
    pub(super) quiet: bool,
    pub(super) points: Vec<(f64, f64)>,
}

impl Line {
    /// Through these points (x, y), in their order. A y that is not finite, or that a logarithmic axis cannot
    /// show, leaves a gap.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Line {
        Line {
            name: name.into(),
            quiet: false,
            points: points.into_iter().collect(),
        }
    }

    /// Grey and dashed: for what the other lines are compared with.
    #[must_use]
    pub fn quiet(mut self) -> Line {
        self.quiet = true;
        self
    }
}

/// A bar from one x to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// How high it is.
    pub height: f64,
}

impl Bar {
    /// Bars of equal width on a logarithmic axis, `per_decade` for each power of ten, that count what is at (or up to)
    /// each value. Values that are not above zero go into the first bar.
    pub fn binned(counts: impl IntoIterator<Item = (f64, u64)>, per_decade: u32) -> Vec<Bar> {
        let per_decade = f64::from(per_decade.max(1));
        let edge = |bin: f64| 10_f64.powf(bin / per_decade);
        let mut counts: Vec<(f64, u64)> = counts.into_iter().filter(|(value, _)| value.is_finite()).collect();
        counts.sort_by(|one, other| one.0.total_cmp(&other.0));
        let least = counts.iter().map(|(value, _)| *value).find(|value| *value > 0.0);
        let least = least.unwrap_or(1.0).max(1e-30);
        let mut bins: Vec<(f64, u64)> = Vec::new();
        for (value, count) in counts {
            // A value on an edge belongs below it; a hair is taken off for what the logarithm leaves over.
            let bin = (value.clamp(least, 1e30).log10() * per_decade - 1e-9).ceil() - 1.0;
            match bins.last_mut() {
                Some((open, sum)) if (*open - bin).abs() < 0.5 => *sum = sum.saturating_add(count),
                _ => bins.push((bin, count)),
            }
        }
        let bar = |(bin, count)| Bar {
            from: edge(bin),
            to: edge(bin + 1.0),
            height: number(count),
        };
        bins.into_iter().map(bar).collect()
    }
}

/// A row of a chart of ranges.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What it is.
    pub label: String,
    /// The value that stands for all, such as the median.
    pub value: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// What it is compared with, such as a floor; drawn hollow.
    pub floor: Option<f64>,
}
