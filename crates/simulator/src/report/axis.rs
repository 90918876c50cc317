//! What an axis shows: its title, its unit, its range, and the round values on it.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use super::unit::Unit;

/// One axis of a chart. Its range comes from what is drawn.
#[derive(Debug, Clone)]
pub struct Axis {
    pub(super) title: String,
    pub(super) unit: Unit,
    scale: Scale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Linear { from_zero: bool },
    Log,
}

impl Axis {
    /// Equal steps are equally far apart. Starts at zero, unless all is below.
    pub fn linear(title: impl Into<String>, unit: Unit) -> Axis {
        let scale = Scale::Linear { from_zero: true };
        Axis {
            title: title.into(),
            unit,
            scale,
        }
    }

    /// As [`Axis::linear`], but only as long as what is drawn: for a time, or where zero means nothing.
    pub fn close(title: impl Into<String>, unit: Unit) -> Axis {
        let scale = Scale::Linear { from_zero: false };
        Axis {
            title: title.into(),
            unit,
            scale,
        }
    }

    /// Equal factors are equally far apart. What is not above zero is not drawn.
    pub fn log(title: impl Into<String>, unit: Unit) -> Axis {
        Axis {
            title: title.into(),
            unit,
            scale: Scale::Log,
        }
    }

    /// The title with its unit, where the ticks do not say it.
    pub(super) fn label(&self) -> String {
        match self.unit.suffix() {
            Some(suffix) if suffix.starts_with('/') => format!("{}{suffix}", self.title),
            Some(suffix) => format!("{}, {suffix}", self.title),
            None => self.title.clone(),
        }
    }

    /// Whether a value has a place on the axis.
    pub(super) fn shows(&self, value: f64) -> bool {
        value.is_finite() && (self.scale != Scale::Log || value > 0.0)
    }

    /// The range of these values; `rounded` to the next ticks. Without values, some range.
    pub(super) fn fit(&self, values: impl IntoIterator<Item = f64>, rounded: bool, ticks_max: usize) -> Fitted {
        let shown = values.into_iter().filter(|value| self.shows(*value));
        // Wider than anything measured, and no sum or step below can overflow.
        let least = if self.scale == Scale::Log { 1e-30 } else { -1e30 };
        let shown = shown.map(|value| value.clamp(least, 1e30));
        let (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let (low, high, ticks) = match self.scale {
            Scale::Log => logarithmic(low, high, rounded, ticks_max),
            Scale::Linear { from_zero } => {
                let low = if from_zero && high >= 0.0 { low.min(0.0) } else { low };
                linear(low, high, &self.unit, rounded, ticks_max)
            }
        };
        Fitted {
            unit: self.unit.clone(),
            log: self.scale == Scale::Log,
            low,
            high,
            ticks,
        }
    }
}

/// An axis that knows its range. Invariant: `low < high`, both finite, and above zero on a logarithmic one.
#[derive(Debug, Clone)]
pub(super) struct Fitted {
    unit: Unit,
    log: bool,
    pub(super) low: f64,
    pub(super) high: f64,
    ticks: Vec<f64>,
}

impl Fitted {
    pub(super) fn ticks(&self) -> usize {
        self.ticks.len()
    }

    fn part(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high);
        if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }
}

impl Ranged for Fitted {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a place within the limits, which are i32"
    )]
    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let length = f64::from(limit.1) - f64::from(limit.0);
        limit.0 + (length * self.part(*value)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Fitted {
    fn format_ext(&self, value: &f64) -> String {
        let step = match self.ticks.as_slice() {
            [first, second, ..] => second - first,
            _ => 0.0,
        };
        self.unit.tick(*value, step)
    }
}

fn linear(low: f64, high: f64, unit: &Unit, rounded: bool, ticks_max: usize) -> (f64, f64, Vec<f64>) {
    let (mut low, mut high) = match (low.is_finite() && high.is_finite(), low < high) {
        (false, _) => (0.0, 1.0),
        (true, true) => (low, high),
        (true, false) if low == 0.0 => (0.0, 1.0),
        (true, false) => (low - low.abs() / 2.0, low + low.abs() / 2.0),
    };
    let step = step((high - low) / super::unit::number(ticks_max.max(2) as u64), unit);
    if rounded {
        low = (low / step).floor() * step;
        high = (high / step).ceil() * step;
    }
    // A hair more than the range, for what division left over.
    let slack = step * 1e-9;
    let first = ((low - slack) / step).ceil();
    let ticks = (0..=2 * ticks_max)
        .map(|index| (first + super::unit::number(index as u64)) * step)
        .take_while(|tick| *tick <= high + slack)
        .collect();
    (low, high, ticks)
}

/// The next round step that is not below `least`.
fn step(least: f64, unit: &Unit) -> f64 {
    const TIMES: [f64; 14] = [
        1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0,
    ];
    if *unit == Unit::Seconds
        && let Some(step) = TIMES.into_iter().find(|step| *step >= least)
        && least > 0.5
    {
        return step;
    }
    let least = least.max(1e-30);
    let decade = 10_f64.powf(least.log10().floor());
    let found = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * decade >= least);
    found.unwrap_or(10.0) * decade
}

fn logarithmic(low: f64, high: f64, rounded: bool, ticks_max: usize) -> (f64, f64, Vec<f64>) {
    if !(low.is_finite() && high.is_finite()) {
        return (1.0, 10.0, vec![1.0, 10.0]);
    }
    let fine = ladder(low, high, &[1.0, 2.0, 5.0]);
    let (from, to) = match (fine.first(), fine.last()) {
        (Some(from), Some(to)) if rounded && from < to => (*from, *to),
        // On a step itself: from there to the next.
        (Some(from), _) if low >= high => (from / 2.0, from * 5.0),
        _ => (low, high),
    };
    let within = |ticks: Vec<f64>| -> Vec<f64> {
        let slack = 1.0 + 1e-9;
        let mut ticks = ticks;
        ticks.retain(|tick| (from / slack..=to * slack).contains(tick));
        ticks
    };
    let fine = within(ladder(from, to, &[1.0, 2.0, 5.0]));
    if fine.len() <= ticks_max {
        return (from, to, fine);
    }
    let decades = within(ladder(from, to, &[1.0]));
    let every = decades.len().div_ceil(ticks_max.max(1)).max(1);
    (from, to, decades.into_iter().step_by(every).collect())
}

/// The values of these factors of each power of ten, from the last that is not above `low` to the first that is not
/// below `high`.
fn ladder(low: f64, high: f64, factors: &[f64]) -> Vec<f64> {
    let mut steps = Vec::new();
    let mut exponent = low.log10().floor();
    let last = high.log10().ceil();
    while exponent <= last {
        steps.extend(factors.iter().map(|factor| factor * 10_f64.powf(exponent)));
        exponent += 1.0;
    }
    let slack = 1.0 + 1e-9;
    let first = steps.iter().rposition(|step| *step <= low * slack).unwrap_or(0);
    let last = steps.iter().position(|step| *step * slack >= high);
    let last = last.unwrap_or(steps.len().saturating_sub(1));
    steps.get(first..=last.max(first)).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: &Axis, values: &[f64]) -> Vec<String> {
        let fitted = axis.fit(values.iter().copied(), true, 6);
        assert!(fitted.low < fitted.high && fitted.low.is_finite() && fitted.high.is_finite());
        fitted.ticks.iter().map(|tick| fitted.format_ext(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_few() {
        let linear = Axis::linear("", Unit::Count);
        assert_eq!(ticks(&linear, &[3.0, 9_700.0]), ["0", "2k", "4k", "6k", "8k", "10k"]);
        let log = Axis::log("", Unit::Milliseconds);
        assert_eq!(ticks(&log, &[0.3, 4.0]), ["200 µs", "500 µs", "1 ms", "2 ms", "5 ms"]);
        assert_eq!(ticks(&log, &[0.3, 4_000.0]), ["1 ms", "10 ms", "100 ms", "1 s"]);
        let time = Axis::close("", Unit::Seconds);
        assert_eq!(
            ticks(&time, &[0.0, 61.0]),
            ["0 s", "15 s", "30 s", "45 s", "60 s", "75 s"]
        );
    }

    #[test]
    fn a_range_is_never_empty_and_never_endless() {
        for axis in [
            Axis::linear("", Unit::Count),
            Axis::close("", Unit::Seconds),
            Axis::log("", Unit::Milliseconds),
        ] {
            for values in [
                vec![],
                vec![0.0],
                vec![5.0],
                vec![-3.0, -3.0],
                vec![f64::NAN, f64::INFINITY],
                vec![f64::MIN_POSITIVE, f64::MAX],
                vec![f64::MIN, f64::MAX],
            ] {
                assert!(ticks(&axis, &values).len() <= 8, "{axis:?} {values:?}");
                for value in values {
                    let fitted = axis.fit([value], false, 6);
                    let place = fitted.map(&value.clamp(-1e300, 1e300), (10, 110));
                    assert!((10..=110).contains(&place), "{axis:?} {value}: {place}");
                }
            }
        }
    }
}
