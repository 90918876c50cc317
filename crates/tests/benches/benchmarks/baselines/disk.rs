//! One write to the disk that the stores are on: what an answer that survives the loss of power cannot be faster than.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant};

use crate::world::World;
use testkit::benchmark::arithmetic::millis;

/// A page of Postgres's log.
const PAGE: usize = 8_192;
/// The file is there already, as a log's are: only its content has to go to the disk, not its length.
const PAGES: u64 = 2_048;

/// Writes a page and waits for the disk, again and again for so long; how long each took, in milliseconds.
pub fn fsyncs(world: &World, time: Duration) -> Vec<f64> {
    let mut file = File::create(world.path("pages")).unwrap();
    let page = [0x57; PAGE];
    for _ in 0..PAGES {
        file.write_all(&page).unwrap();
    }
    file.sync_all().unwrap();
    let until = Instant::now() + time;
    let mut taken = Vec::new();
    let mut at = 0;
    while Instant::now() < until {
        let began_at = Instant::now();
        file.seek(SeekFrom::Start(at * PAGE as u64)).unwrap();
        file.write_all(&page).unwrap();
        file.sync_data().unwrap();
        taken.push(millis(began_at.elapsed()));
        at = (at + 1) % PAGES;
    }
    taken
}
