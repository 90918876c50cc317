//! Chance that can be had again: numbers from a seed, and the seed from the environment. And the times that are drawn,
//! which pass here: they wait for nothing, they are the lives and the faults themselves.

use std::time::Duration;

use uuid::Uuid;

/// A number that the environment gives under this name.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The seed of a run: another at each, unless the variable `name` gives one to see a run again.
pub fn seed(name: &str) -> u64 {
    let seed = number(name).unwrap_or_else(|| Uuid::now_v7().as_u64_pair().1);
    // Cargo shows it where the test fails.
    println!("{name}={seed}");
    seed
}

/// A time passes.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The splitmix64 of a seed: one number after the other.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The chance of this seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Another, for one who draws at times of its own: what it draws does not depend on who else draws.
    #[must_use]
    pub fn of(&self, whom: u64) -> Chance {
        let mut chance = Chance(self.0 ^ whom.wrapping_mul(0xff51_afd7_ed55_8ccd));
        chance.next();
        chance
    }

    /// The beginning of a sequence of its own, for a task of its own.
    #[must_use]
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

    /// From 0 to below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// A place in a list of this length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// True in so many of a hundred.
    pub fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.below(1 << 32)).unwrap_or(0)) / f64::from(u32::MAX)
    }

    /// A time between these, in milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to.saturating_sub(from) + 1))
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }
}
