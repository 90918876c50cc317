//! The values of flags: parsers that several of them share.

use std::time::Duration;

/// Longer than anything that is measured, and within what a clock can tell.
pub(super) const A_YEAR: &str = "8784h";

/// A time above nothing and up to `longest`, such as `30s`.
pub(super) fn duration(longest: &'static str) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text| {
        let duration = parse(text).ok_or_else(|| format!("{text:?} is not a duration such as \"30s\" or \"2m\""))?;
        match parse(longest) {
            _ if duration.is_zero() => Err(format!("{text:?} must be longer than nothing")),
            Some(max) if duration > max => Err(format!("{text:?} must be at most {longest}")),
            _ => Ok(duration),
        }
    }
}

/// A time that may be none, up to a year.
pub(super) fn duration_or_none(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" | "0ms" => Ok(Duration::ZERO),
        text => duration(A_YEAR)(text),
    }
}

/// How many a second: above none, and up to `max`.
pub(super) fn rate(max: f64) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| {
        let rate = number_within(text, f64::MIN_POSITIVE, max);
        rate.ok_or_else(|| format!("{text:?} must be a number above 0 and at most {max}"))
    }
}

/// A number from `min` to `max`.
pub(super) fn number(min: f64, max: f64) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| number_within(text, min, max).ok_or_else(|| format!("{text:?} must be a number from {min} to {max}"))
}

/// NaN is in no range.
fn number_within(text: &str, min: f64, max: f64) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| (min..=max).contains(number))
}

fn parse(text: &str) -> Option<Duration> {
    let signed: jiff::SignedDuration = text.parse().ok()?;
    // None that is below zero.
    Duration::try_from(signed).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_positive_and_bounded() {
        let parser = duration("10m");
        assert_eq!(parser("30s"), Ok(Duration::from_secs(30)));
        assert!(parser("10m").is_ok());
        for bad in ["", "30", "fast", "0s", "-5s", "11m"] {
            assert!(parser(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_duration_is_longer_than_a_clock_can_tell() {
        for bad in ["9223372036854775807s", "8785h", "2y"] {
            assert!(duration_or_none(bad).is_err(), "{bad:?}");
        }
        assert_eq!(duration_or_none("24h"), Ok(Duration::from_hours(24)));
        assert_eq!(duration_or_none("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn rates_are_positive_and_bounded() {
        assert_eq!(rate(10_000.0)("0.5"), Ok(0.5));
        for bad in ["", "0", "-1", "NaN", "inf", "10001", "many"] {
            assert!(rate(10_000.0)(bad).is_err(), "{bad:?}");
        }
    }
}
