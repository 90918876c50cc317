//! The fleet as those who watch it see it: where each driver is now, and what has changed since any moment of the last minute. No
//! one is sent anything from here: who watches asks, as often as it likes, what is newer than what it knows.
//!
//! Drivers lie in cells. What leaves a cell leaves its name there for a while, so that who knew it there learns that it is gone.

mod area;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

pub use self::area::{AREA_SIDE_MAX_DEG, Area, AreaError};

use self::area::Cell;
use crate::fix::{Fix, LatestFix};
use crate::id::{DriverId, OrderId};

/// A moment of the fleet: grows with every change. It says nothing to another process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u64);

/// A driver as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its latest fix.
    pub fix: Fix,
    /// When that arrived, by our clock.
    pub arrived_at: Timestamp,
    /// The order that it serves.
    pub order: Option<OrderId>,
    /// Whether it takes no orders.
    pub off_duty: bool,
}

/// What is newer than a version.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// Drivers that came, moved, were taken or are free again: shared with the map, so that a thousand watchers copy none.
    pub drivers: Vec<Arc<Seen>>,
    /// Drivers that left, or are silent. One that was not known may be among them.
    pub gone: Vec<DriverId>,
    /// Whether this is all that there is, and not what is newer: the version was the first one, or the departures since then have expired.
    pub is_whole: bool,
    /// Up to this one.
    pub version: Version,
}

/// How many drivers are in a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CellCount {
    /// The middle of the cell, in degrees north and east.
    pub centre: (f64, f64),
    /// All of them.
    pub drivers: usize,
    /// Those who serve no order and are on duty.
    pub free: usize,
}

/// The cells that changed since a version.
#[derive(Debug, Clone, PartialEq)]
pub struct CellNews {
    /// Their counts now.
    pub cells: Vec<CellCount>,
    /// Whether these are all that have drivers, and not those that changed.
    pub is_whole: bool,
    /// Up to this one.
    pub version: Version,
}

/// The fleet of one business.
#[derive(Debug, Clone, Default)]
pub struct LiveMap {
    version: Version,
    cells: BTreeMap<Cell, Contents>,
    /// Where each driver is.
    whereabouts: HashMap<DriverId, Cell>,
    /// Who was removed for being silent.
    silent: HashMap<DriverId, Departure>,
    /// Who serves what, as was last said: also of drivers who are not there.
    serving: HashMap<DriverId, OrderId>,
    /// Who came, and of whom nothing was said yet.
    newcomers: HashSet<DriverId>,
    /// The departures at this version and before have expired.
    expired: Version,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    drivers: HashMap<DriverId, Entry>,
    departed: HashMap<DriverId, Departure>,
    /// The version of its last change.
    newest: Version,
    /// That of its last change of who is there, or of who of them is free.
    counted: Version,
}

#[derive(Debug, Clone)]
struct Entry {
    seen: Arc<Seen>,
    version: Version,
}

#[derive(Debug, Clone, Copy)]
struct Departure {
    version: Version,
    at: Timestamp,
}

impl News {
    /// Nothing is newer than this.
    pub fn none(version: Version) -> News {
        News {
            drivers: Vec::new(),
            gone: Vec::new(),
            is_whole: false,
            version,
        }
    }
}

impl LiveMap {
    /// How many drivers there are.
    pub fn len(&self) -> usize {
        self.whereabouts.len()
    }

    /// Whether there is no driver.
    pub fn is_empty(&self) -> bool {
        self.whereabouts.is_empty()
    }

    /// Where it stands: what changes from now on is newer.
    pub fn version(&self) -> Version {
        self.version
    }

    /// A driver is there now, unless a newer fix of it is known. `now`: by our clock.
    pub fn apply(&mut self, latest: LatestFix, now: Timestamp) {
        let LatestFix { fix, arrived_at } = latest;
        let cell = Cell::of(fix.position);
        let mut off_duty = false;
        let old = self.whereabouts.get(&fix.driver).copied();
        if let Some(old) = old {
            let contents = self.cells.entry(old).or_default();
            let Some(entry) = contents.drivers.get_mut(&fix.driver) else {
                return;
            };
            if entry.seen.fix.recorded_at >= fix.recorded_at {
                return;
            }
            if old == cell {
                self.version.0 += 1;
                match Arc::get_mut(&mut entry.seen) {
                    Some(seen) => (seen.fix, seen.arrived_at) = (fix, arrived_at),
                    // Whoever took it from here keeps what it took.
                    None => {
                        entry.seen = Arc::new(Seen {
                            fix,
                            arrived_at,
                            ..*entry.seen
                        });
                    }
                }
                (entry.version, contents.newest) = (self.version, self.version);
                return;
            }
            off_duty = entry.seen.off_duty;
        }
        let driver = fix.driver.clone();
        match old {
            Some(old) => {
                self.depart(&driver, old, now);
            }
            None => {
                self.newcomers.insert(driver.clone());
            }
        }
        self.version.0 += 1;
        self.silent.remove(&driver);
        let order = self.serving.get(&driver).copied();
        let contents = self.cells.entry(cell).or_default();
        let entry = Entry {
            seen: Arc::new(Seen {
                fix,
                arrived_at,
                order,
                off_duty,
            }),
            version: self.version,
        };
        (contents.newest, contents.counted) = (self.version, self.version);
        contents.departed.remove(&driver);
        contents.drivers.insert(driver.clone(), entry);
        self.whereabouts.insert(driver, cell);
    }

    /// These drivers serve these orders, and no others do.
    pub fn set_serving(&mut self, serving: HashMap<DriverId, OrderId>) {
        let before = std::mem::replace(&mut self.serving, serving);
        let left = before.keys().filter(|driver| !self.serving.contains_key(*driver));
        let taken = self.serving.iter();
        let taken = taken.filter(|(driver, order)| before.get(*driver) != Some(*order));
        for driver in left.chain(taken.map(|(driver, _)| driver)) {
            let contents = self.whereabouts.get(driver).and_then(|cell| self.cells.get_mut(cell));
            let Some(contents) = contents else { continue };
            let Some(entry) = contents.drivers.get_mut(driver) else {
                continue;
            };
            self.version.0 += 1;
            let order = self.serving.get(driver).copied();
            Arc::make_mut(&mut entry.seen).order = order;
            (entry.version, contents.newest, contents.counted) = (self.version, self.version, self.version);
        }
    }

    /// Some of those who came, and of whom it was not said yet whether they are off duty: whoever calls says so.
    pub fn take_newcomers(&mut self, count: usize) -> Vec<DriverId> {
        let some: Vec<DriverId> = self.newcomers.iter().take(count).cloned().collect();
        for driver in &some {
            self.newcomers.remove(driver);
        }
        some
    }

    /// Nothing could be said of these.
    pub fn put_back(&mut self, newcomers: Vec<DriverId>) {
        let there = newcomers
            .into_iter()
            .filter(|driver| self.whereabouts.contains_key(driver));
        self.newcomers.extend(there);
    }

    /// Whether a driver takes no orders. Of one who is not there nothing is kept.
    pub fn set_off_duty(&mut self, driver: &DriverId, off_duty: bool) {
        let contents = self.whereabouts.get(driver).and_then(|cell| self.cells.get_mut(cell));
        let Some(contents) = contents else { return };
        if let Some(entry) = contents.drivers.get_mut(driver)
            && entry.seen.off_duty != off_duty
        {
            self.version.0 += 1;
            Arc::make_mut(&mut entry.seen).off_duty = off_duty;
            (entry.version, contents.newest, contents.counted) = (self.version, self.version, self.version);
        }
    }

    /// Who is off duty there is so here, too, until something else is said.
    pub fn copy_duty(&mut self, other: &LiveMap) {
        let entries = other.cells.values().flat_map(|contents| &contents.drivers);
        for (driver, _) in entries.filter(|(_, entry)| entry.seen.off_duty) {
            self.set_off_duty(driver, true);
        }
    }

    /// Who serves what, as was last said.
    pub fn serving(&self) -> &HashMap<DriverId, OrderId> {
        &self.serving
    }

    /// Removes the drivers whose last fix arrived before `fresh_since`, and the departures from before `known_since`.
    pub fn expire(&mut self, fresh_since: Timestamp, known_since: Timestamp, now: Timestamp) {
        let drivers = self.cells.values().flat_map(|contents| &contents.drivers);
        let silent = drivers.filter(|(_, entry)| entry.seen.arrived_at < fresh_since);
        let silent: Vec<DriverId> = silent.map(|(driver, _)| driver.clone()).collect();
        for driver in silent {
            self.newcomers.remove(&driver);
            if let Some(cell) = self.whereabouts.remove(&driver) {
                let departure = self.depart(&driver, cell, now);
                self.silent.insert(driver, departure);
            }
        }
        let mut expired = self.expired;
        let mut is_known = |departure: &Departure| {
            let is_known = departure.at >= known_since;
            if !is_known {
                expired = expired.max(departure.version);
            }
            is_known
        };
        self.silent.retain(|_, departure| is_known(departure));
        self.cells.retain(|_, contents| {
            contents.departed.retain(|_, departure| is_known(departure));
            !contents.drivers.is_empty() || !contents.departed.is_empty()
        });
        self.expired = expired;
    }

    /// From which version on there are news; the first one, if they are all that there is.
    fn known(&self, since: Version) -> Version {
        if since < self.expired {
            Version::default()
        } else {
            since
        }
    }

    fn depart(&mut self, driver: &DriverId, cell: Cell, now: Timestamp) -> Departure {
        self.version.0 += 1;
        let departure = Departure {
            version: self.version,
            at: now,
        };
        let contents = self.cells.entry(cell).or_default();
        contents.drivers.remove(driver);
        contents.departed.insert(driver.clone(), departure);
        (contents.newest, contents.counted) = (self.version, self.version);
        departure
    }

    /// What is newer than `since` in the cells that the area touches. With the first version, all that is there.
    pub fn in_area(&self, area: &Area, since: Version) -> News {
        let since = self.known(since);
        let is_whole = since == Version::default();
        let mut drivers = Vec::new();
        // A driver that crossed several cells left its name in each.
        let mut gone = BTreeSet::new();
        for (first, last) in area.rows() {
            for contents in self.cells.range(first..=last).map(|(_, contents)| contents) {
                if contents.newest <= since {
                    continue;
                }
                let moved = contents.drivers.values().filter(|entry| entry.version > since);
                drivers.extend(moved.map(|entry| Arc::clone(&entry.seen)));
                if !is_whole {
                    let left = contents.departed.iter();
                    gone.extend(left.filter(|(_, left)| left.version > since).map(|(driver, _)| driver));
                }
            }
        }
        let is_elsewhere = |driver: &&DriverId| {
            let entry = self.entry(driver);
            entry.is_none_or(|entry| !area.touches_cell_of(entry.seen.fix.position))
        };
        News {
            drivers,
            gone: gone.into_iter().filter(is_elsewhere).cloned().collect(),
            is_whole,
            version: self.version,
        }
    }

    /// How many drivers are in the cells that the area touches.
    pub fn count_in(&self, area: &Area) -> usize {
        let contents = area.rows().flat_map(|(first, last)| self.cells.range(first..=last));
        contents.map(|(_, contents)| contents.drivers.len()).sum()
    }

    /// How many drivers are in each of those cells whose drivers changed since then. With the first version, in each that has any.
    pub fn cells_in(&self, area: &Area, since: Version) -> CellNews {
        let since = self.known(since);
        let is_whole = since == Version::default();
        let mut cells = Vec::new();
        for (cell, contents) in area.rows().flat_map(|(first, last)| self.cells.range(first..=last)) {
            let is_news = if is_whole {
                !contents.drivers.is_empty()
            } else {
                contents.counted > since
            };
            if is_news {
                let entries = contents.drivers.values();
                let free = entries.filter(|entry| entry.seen.order.is_none() && !entry.seen.off_duty);
                cells.push(CellCount {
                    centre: cell.centre(),
                    drivers: contents.drivers.len(),
                    free: free.count(),
                });
            }
        }
        CellNews {
            cells,
            is_whole,
            version: self.version,
        }
    }

    /// What is newer than `since` of these drivers.
    pub fn of_drivers<'a>(&self, drivers: impl IntoIterator<Item = &'a DriverId>, since: Version) -> News {
        let since = self.known(since);
        let is_whole = since == Version::default();
        let (mut newer, mut gone) = (Vec::new(), Vec::new());
        for driver in drivers {
            match self.entry(driver) {
                Some(entry) if entry.version > since => newer.push(Arc::clone(&entry.seen)),
                Some(_) => {}
                None => {
                    let is_news = self.silent.get(driver).is_some_and(|silent| silent.version > since);
                    if is_news && !is_whole {
                        gone.push(driver.clone());
                    }
                }
            }
        }
        News {
            drivers: newer,
            gone,
            is_whole,
            version: self.version,
        }
    }

    fn entry(&self, driver: &DriverId) -> Option<&Entry> {
        let contents = self.whereabouts.get(driver).and_then(|cell| self.cells.get(cell));
        contents.and_then(|contents| contents.drivers.get(driver))
    }
}

#[cfg(test)]
mod tests;
