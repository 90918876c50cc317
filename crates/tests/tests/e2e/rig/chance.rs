//! Chance that can be had again: numbers from a seed, and the seed from the environment.

use uuid::Uuid;

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

/// The splitmix64 of a seed: one number after the other.
#[derive(Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// The beginning of a sequence of its own, for a task of its own.
    pub fn fork(&mut self) -> Chance {
        Chance(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
