//! The values of flags.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A time above nothing, such as `30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let signed: jiff::SignedDuration = text
        .parse()
        .map_err(|_| format!("{text:?} is not a duration such as \"30s\" or \"2m\""))?;
    match Duration::try_from(signed) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(format!("{text:?} must be longer than nothing")),
    }
}

/// How many a second: above none, and up to `max`.
pub(super) fn rate(text: &str, max: f64) -> Result<f64, String> {
    within(text, f64::MIN_POSITIVE..=max).ok_or_else(|| format!("{text:?} must be a number above 0 and at most {max}"))
}

/// A number in a range; NaN is in none.
pub(super) fn within(text: &str, range: RangeInclusive<f64>) -> Option<f64> {
    text.parse::<f64>().ok().filter(|number| range.contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_positive() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        for bad in ["", "30", "fast", "0s", "-5s"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
