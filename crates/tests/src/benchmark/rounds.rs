//! Turns: we, the baseline, we, the baseline. Both see the same machine, whatever else it does meanwhile; and neither
//! is always the first, who finds clean caches and an idle disk.

use std::time::Duration;

use super::arithmetic::number;

/// What came of a turn.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// How many were done while the clock ran.
    pub count: u64,
    /// How long it ran.
    pub elapsed: Duration,
    /// How many were done in all: those too that were under way when the clock stopped. What a turn cost was for them.
    pub all: u64,
}

impl Turn {
    /// How many a second.
    pub fn per_second(self) -> f64 {
        number(self.count) / self.elapsed.as_secs_f64()
    }
}

/// The rounds of a benchmark and of its baseline, side by side.
#[derive(Debug, Default, Clone)]
pub struct Pairs {
    /// Ours.
    pub ours: Vec<f64>,
    /// The baseline's.
    pub baseline: Vec<f64>,
}

/// Lets both take their turns, so many of each. A turn tells its number: a rate, or whatever is measured.
pub async fn take_turns(
    rounds: usize,
    mut ours: impl AsyncFnMut() -> f64,
    mut baseline: impl AsyncFnMut() -> f64,
) -> Pairs {
    let mut pairs = Pairs::default();
    for round in 0..rounds {
        if round % 2 == 0 {
            pairs.ours.push(ours().await);
            pairs.baseline.push(baseline().await);
        } else {
            pairs.baseline.push(baseline().await);
            pairs.ours.push(ours().await);
        }
    }
    pairs
}
