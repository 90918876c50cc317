//! How numbers are written: with their unit, and with as many digits as mean something.

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things, or a ratio of things: `1,234`, `0.93`.
    Count,
    /// A time that is given in milliseconds: `850 µs`, `12.4 ms`, `1.20 s`.
    Milliseconds,
    /// A time that is given in seconds: `30 s`.
    Seconds,
}

impl Unit {
    /// A value to be read: three digits at least, all of a whole number. A number that is none is a dash.
    pub fn exact(self, value: f64) -> String {
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
        }
    }
}

/// A count as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_unit_that_suits_them() {
        for (millis, exact) in [
            (0.0, "0 ms"),
            (0.000_9, "900 ns"),
            (0.05, "50.0 µs"),
            (0.9999, "1.00 ms"),
            (12.44, "12.4 ms"),
            (999.7, "1.00 s"),
            (30_000.0, "30.0 s"),
        ] {
            assert_eq!(Unit::Milliseconds.exact(millis), exact);
        }
        assert_eq!(Unit::Seconds.exact(120.0), "120 s");
    }

    #[test]
    fn counts_have_three_digits_at_least_and_their_thousands_apart() {
        for (value, exact) in [
            (7.0, "7"),
            (0.1 + 0.2, "0.300"),
            (1_234.4, "1,234"),
            (-20_000.4, "-20,000"),
            (1_500_000.0, "1,500,000"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(Unit::Count.exact(value), exact);
        }
        assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
    }
}
