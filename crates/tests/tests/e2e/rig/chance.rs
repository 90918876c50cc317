//! Chance that can be had again: numbers from a seed, and the seed from the environment.

#[path = "../../shared/chance.rs"]
mod shared;

use uuid::Uuid;

pub use self::shared::Chance;

/// The seed of a run: another at each, unless the variable `name` gives one to see a run again.
pub fn seed(name: &str) -> u64 {
    let given = std::env::var(name)
        .ok()
        .map(|seed| seed.parse().unwrap_or_else(|_| panic!("{name} is a number")));
    let seed = given.unwrap_or_else(|| u64::from_be_bytes(Uuid::now_v7().as_bytes()[8..].try_into().unwrap()));
    // Cargo shows it where the test fails.
    println!("{name}={seed}");
    seed
}
