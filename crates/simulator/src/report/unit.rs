//! How numbers are written: with their unit, and with as many digits as mean something.

use std::borrow::Cow;

/// What a number counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// Things, or a ratio of things: `1,234`, `0.93`.
    Count,
    /// A time that is given in milliseconds: `850 µs`, `12.4 ms`, `1.20 s`.
    Milliseconds,
    /// A time that is given in seconds: `30 s`, `5 min`.
    Seconds,
    /// Anything else, by the name that is written behind it: `1,234 /s`, `56.0 MiB`.
    Named(Cow<'static, str>),
}

/// Something a second.
pub const PER_SECOND: Unit = Unit::Named(Cow::Borrowed("/s"));

impl Unit {
    /// A value to be read: three digits at least, all of a whole number. A number that is none is a dash.
    pub fn exact(&self, value: f64) -> String {
        if !value.is_finite() {
            return "–".to_owned();
        }
        match self {
            Unit::Count => grouped(value),
            Unit::Milliseconds if value == 0.0 => "0 ms".to_owned(),
            Unit::Milliseconds => {
                let (value, unit) = scaled_time(value);
                format!("{} {unit}", three_digits(value))
            }
            Unit::Seconds => format!("{} s", grouped(value)),
            Unit::Named(name) => format!("{} {name}", grouped(value)),
        }
    }

    /// A round value on an axis with such a `step`, as short as can be: `50 ms`, `10k`. A named unit is left to the
    /// axis' title.
    pub(super) fn tick(&self, value: f64, step: f64) -> String {
        match self {
            Unit::Milliseconds if value == 0.0 => "0".to_owned(),
            Unit::Milliseconds => {
                let (value, unit) = scaled_time(value);
                format!("{} {unit}", trimmed(value))
            }
            // All of an axis in one unit, so that they can be compared.
            Unit::Seconds if step >= 3_600.0 => format!("{} h", trimmed(value / 3_600.0)),
            Unit::Seconds if step >= 60.0 => format!("{} min", trimmed(value / 60.0)),
            Unit::Seconds => format!("{} s", trimmed(value)),
            Unit::Count | Unit::Named(_) => {
                let (value, prefix) = scaled(value);
                format!("{}{prefix}", trimmed(value))
            }
        }
    }

    /// What an axis says behind its title, where its ticks do not say it.
    pub(super) fn suffix(&self) -> Option<&str> {
        match self {
            Unit::Named(name) => Some(name),
            Unit::Count | Unit::Milliseconds | Unit::Seconds => None,
        }
    }
}

/// A count as a number to draw.
#[expect(clippy::cast_precision_loss, reason = "a point of a picture, or three digits of it")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

/// A whole number with its thousands apart: `1,234,567`.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn grouped(value: f64) -> String {
    let whole = value.abs().round();
    if !(1_000.0..1e15).contains(&whole) {
        return if value.fract() == 0.0 && whole < 1e15 {
            format!("{value}")
        } else {
            three_digits(value)
        };
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let digits = format!("{whole:.0}");
    digits
        .parse()
        .map_or(digits, |whole| format!("{sign}{}", thousands(whole)))
}

fn three_digits(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size == 0.0 => "0".to_owned(),
        _ if !(1e-4..1e15).contains(&size) => format!("{value:.2e}"),
        _ if size < 0.099_95 => format!("{value:.4}"),
        _ if size < 0.999_5 => format!("{value:.3}"),
        _ if size < 9.995 => format!("{value:.2}"),
        _ if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A time in milliseconds, in the unit that suits it.
fn scaled_time(millis: f64) -> (f64, &'static str) {
    match millis.abs() {
        size if size < 0.001 => (millis * 1e6, "ns"),
        size if size < 0.999_5 => (millis * 1e3, "µs"),
        size if size < 999.5 => (millis, "ms"),
        _ => (millis / 1e3, "s"),
    }
}

fn scaled(value: f64) -> (f64, &'static str) {
    match value.abs() {
        size if size >= 1e12 => (value / 1e12, "T"),
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    }
}

/// Without the noise of binary fractions, and without zeros that say nothing.
fn trimmed(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e7).contains(&value.abs()) {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_unit_that_suits_them() {
        for (millis, exact, tick) in [
            (0.0, "0 ms", "0"),
            (0.05, "50.0 µs", "50 µs"),
            (0.9999, "1.00 ms", "0.9999 ms"),
            (1.0, "1.00 ms", "1 ms"),
            (12.44, "12.4 ms", "12.44 ms"),
            (999.7, "1.00 s", "0.9997 s"),
            (30_000.0, "30.0 s", "30 s"),
        ] {
            assert_eq!(Unit::Milliseconds.exact(millis), exact);
            assert_eq!(Unit::Milliseconds.tick(millis, 1.0), tick);
        }
        assert_eq!(Unit::Seconds.tick(120.0, 30.0), "120 s");
        assert_eq!(Unit::Seconds.tick(120.0, 60.0), "2 min");
        assert_eq!(Unit::Seconds.tick(7_200.0, 3_600.0), "2 h");
    }

    #[test]
    fn counts_have_their_thousands_apart_and_ticks_are_short() {
        for (value, exact, tick) in [
            (7.0, "7", "7"),
            (0.1 + 0.2, "0.300", "0.3"),
            (1_234.0, "1,234", "1.234k"),
            (-20_000.4, "-20,000", "-20.0004k"),
            (1_500_000.0, "1,500,000", "1.5M"),
        ] {
            assert_eq!(Unit::Count.exact(value), exact);
            assert_eq!(Unit::Count.tick(value, 1.0), tick);
        }
        assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(PER_SECOND.exact(1_234.4), "1,234 /s");
        assert_eq!(Unit::Count.exact(f64::NAN), "–");
    }
}
