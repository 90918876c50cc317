//! What pgbench says at its end.

/// Transactions a second, the time of connecting left out.
pub fn transactions_per_second(said: &str) -> Option<f64> {
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = "))?;
    rate.split(' ').next()?.parse().ok()
}
