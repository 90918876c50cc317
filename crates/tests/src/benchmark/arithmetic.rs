//! Medians, shares and ratios: what the rounds of a benchmark are boiled down to.

use std::time::Duration;

/// The middle one, or the mean of the two in the middle. NaN of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The smallest and the largest. NaN of nothing.
pub fn range(values: &[f64]) -> (f64, f64) {
    let smallest = values.iter().copied().fold(f64::NAN, f64::min);
    let largest = values.iter().copied().fold(f64::NAN, f64::max);
    (smallest, largest)
}

/// The value that so large a share (0 to 1) of them does not exceed. NaN of nothing.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rank among millions"
)]
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).or(sorted.last()).copied().unwrap_or(f64::NAN)
}

/// Each of one list through its neighbour in the other: rounds that ran side by side saw the same machine.
pub fn ratios(over: &[f64], under: &[f64]) -> Vec<f64> {
    over.iter().zip(under).map(|(over, under)| over / under).collect()
}

/// A count as a number to reckon with.
#[allow(clippy::cast_precision_loss, reason = "counts stay below 2^52")]
pub fn number(count: u64) -> f64 {
    count as f64
}

/// A time as a number of milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
