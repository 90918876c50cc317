//! What went wrong with the promises, and what happened in the run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::chance::Chance;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waybill_server::crash_points::NAMES;

/// Broken promises. The first one ends the run.
#[derive(Debug, Default)]
pub struct Findings {
    found: Mutex<BTreeSet<String>>,
    /// Cancelled with the first.
    pub any: CancellationToken,
}

impl Findings {
    /// A promise is broken, in this way. The same is found once.
    #[allow(clippy::print_stdout, reason = "what the run is for")]
    pub fn add(&self, promise: &str, what: &str) {
        let line = format!("{promise}: {what}");
        if lock(&self.found).insert(line.clone()) {
            println!("VIOLATION {line}");
        }
        self.any.cancel();
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        lock(&self.found).iter().cloned().collect()
    }
}

/// What was done to the processes.
#[derive(Debug, Default)]
pub struct Tally {
    /// `kill -9`, from outside or at a crash point, of any process.
    pub kills: AtomicU64,
    /// Processes put to sleep and woken again.
    pub sleeps: AtomicU64,
    /// Lines spoiled for a while.
    pub spoiled_lines: AtomicU64,
    /// Orders that customers placed.
    pub orders: AtomicU64,
    points: Mutex<BTreeMap<&'static str, Point>>,
    owner_kills: Mutex<Vec<OwnerKill>>,
}

/// How often a crash point was set, and how often it killed.
#[derive(Debug, Clone, Copy, Default)]
struct Point {
    armed: u64,
    killed: u64,
}

/// A server was killed that held these orders.
#[derive(Debug, Clone)]
pub struct OwnerKill {
    /// When, in seconds since 1970 by the database's clock.
    pub at_secs: f64,
    /// Which, and under which fence.
    pub orders: Vec<(Uuid, i64)>,
}

impl Tally {
    /// One more.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Where the next server is to die, and at which hit: every second time a point that has not killed yet, if there
    /// is one; else the one that was tried the least.
    pub fn next_point(&self, chance: &mut Chance) -> (&'static str, u64) {
        let mut points = lock(&self.points);
        let seen = |name: &&'static str| points.get(name).copied().unwrap_or_default();
        let fresh: Vec<_> = NAMES.into_iter().filter(|name| seen(name).killed == 0).collect();
        let candidates = if fresh.is_empty() || chance.percent(50) {
            NAMES.to_vec()
        } else {
            fresh
        };
        let name = candidates
            .into_iter()
            .min_by_key(|name| seen(name).armed)
            .unwrap_or(NAMES[0]);
        points.entry(name).or_default().armed += 1;
        (name, 1 + chance.below(3))
    }

    /// A process died there.
    pub fn died_at(&self, name: &'static str) {
        Tally::count(&self.kills);
        lock(&self.points).entry(name).or_default().killed += 1;
    }

    /// How many different points have killed a process.
    pub fn points_hit(&self) -> usize {
        lock(&self.points).values().filter(|point| point.killed > 0).count()
    }

    /// Each point with how often it killed, for people.
    pub fn points(&self) -> String {
        let points = lock(&self.points);
        let killed = |name: &&str| points.get(name).map_or(0, |point| point.killed);
        NAMES
            .iter()
            .map(|name| format!("{name}={}", killed(name)))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// A server was killed in the stage in which nothing else goes wrong.
    pub fn owner_killed(&self, kill: OwnerKill) {
        lock(&self.owner_kills).push(kill);
    }

    /// Every such kill.
    pub fn owner_kills(&self) -> Vec<OwnerKill> {
        lock(&self.owner_kills).clone()
    }
}

/// What is only ever added to is whole, whoever panicked.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
