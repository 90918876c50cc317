//! All worlds that can come about, the nearest first, and the shortest way to the first that breaks a promise.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use waybill_domain::order::State;

use crate::flaws::Flaw;
use crate::moves::{Kind, Move, Next};
use crate::promises::{Promise, broken, needs_a_person};
use crate::world::World;

/// What a whole search found.
#[derive(Debug)]
pub struct Found {
    /// How many worlds.
    pub states: usize,
    /// The longest of the shortest ways to a world.
    pub depth: usize,
    /// How many of them are settled.
    pub at_rest: usize,
    /// From how many of them only a person leads on.
    pub need_a_person: usize,
    /// From which state to which the order went.
    pub transitions: HashSet<(State, State)>,
}

/// A promise that is broken, and how it comes to it in as few moves as possible.
#[derive(Debug)]
pub struct Counterexample {
    /// Which.
    pub promise: Promise,
    /// All that happens, in order.
    pub path: Vec<Move>,
}

/// Explores all that can happen, or stops at the first broken promise.
pub fn search(flaw: Option<Flaw>) -> Result<Found, Counterexample> {
    let mut search = Search::default();
    search.add(World::BEGINNING, (0, Move::Beginning))?;
    let mut next = Next::default();
    let mut from = 0;
    while let Some(world) = search.worlds.get(from).copied() {
        next.after(&world, flaw);
        for &(kind, what, after) in &next.moves {
            let to = search.add(after, (from, what))?;
            if after.row.state != world.row.state {
                search.transitions.insert((world.row.state, after.row.state));
            }
            match kind {
                Kind::Work => search.work.push((index(from), index(to))),
                Kind::Patience => search.patience.push((index(from), index(to))),
                Kind::Fault => {}
            }
        }
        from += 1;
    }
    search.finish()
}

#[derive(Debug, Default)]
struct Search {
    worlds: Vec<World>,
    /// From which world, by what.
    came_from: Vec<(u32, Move)>,
    depths: Vec<u16>,
    places: HashMap<u64, u32, BuildHasherDefault<Spread>>,
    /// From where to where, by work alone.
    work: Vec<(u32, u32)>,
    /// From where to where, by waiting for days and for people.
    patience: Vec<(u32, u32)>,
    transitions: HashSet<(State, State)>,
}

impl Search {
    /// The place of a world, which is new or was found before.
    fn add(&mut self, world: World, (from, what): (usize, Move)) -> Result<usize, Counterexample> {
        let place = self.worlds.len();
        let known = *self.places.entry(world.packed()).or_insert(index(place));
        if known as usize != place {
            return Ok(known as usize);
        }
        self.worlds.push(world);
        self.came_from.push((index(from), what));
        self.depths.push(self.depths.get(from).map_or(0, |depth| depth + 1));
        match broken(&world) {
            None => Ok(place),
            Some(promise) => Err(self.counterexample(promise, place)),
        }
    }

    fn counterexample(&self, promise: Promise, mut at: usize) -> Counterexample {
        let mut path = Vec::new();
        while at != 0 {
            let (from, what) = self.came_from[at];
            path.push(what);
            at = from as usize;
        }
        path.reverse();
        Counterexample { promise, path }
    }

    /// Once all is explored: can everything still finish?
    fn finish(self) -> Result<Found, Counterexample> {
        let rests: Vec<bool> = self.worlds.iter().map(World::is_at_rest).collect();
        let by_work = reaching(&rests, &[&self.work]);
        let by_patience = reaching(&by_work, &[&self.work, &self.patience]);
        for (place, world) in self.worlds.iter().enumerate() {
            let can_finish = by_work[place] || (needs_a_person(world) && by_patience[place]);
            if !can_finish {
                return Err(self.counterexample(Promise::CanFinish, place));
            }
        }
        let count = |marks: &[bool]| marks.iter().filter(|mark| **mark).count();
        Ok(Found {
            states: self.worlds.len(),
            depth: self.depths.iter().copied().max().unwrap_or(0).into(),
            at_rest: count(&rests),
            need_a_person: self.worlds.len() - count(&by_work),
            transitions: self.transitions,
        })
    }
}

/// From which places a marked one can be reached.
fn reaching(marked: &[bool], edges: &[&[(u32, u32)]]) -> Vec<bool> {
    // The edges backwards, by where they end: those into `place` are from `ends[place]` to `ends[place + 1]`.
    let mut ends = vec![0_usize; marked.len() + 1];
    for &(_, to) in edges.iter().copied().flatten() {
        ends[to as usize + 1] += 1;
    }
    for place in 0..marked.len() {
        ends[place + 1] += ends[place];
    }
    let mut sources = vec![0_u32; ends[marked.len()]];
    let mut filled = ends.clone();
    for &(from, to) in edges.iter().copied().flatten() {
        sources[filled[to as usize]] = from;
        filled[to as usize] += 1;
    }

    let mut reached = marked.to_vec();
    let mut open: Vec<usize> = (0..marked.len()).filter(|place| marked[*place]).collect();
    while let Some(place) = open.pop() {
        for &source in &sources[ends[place]..ends[place + 1]] {
            if !reached[source as usize] {
                reached[source as usize] = true;
                open.push(source as usize);
            }
        }
    }
    reached
}

fn index(place: usize) -> u32 {
    u32::try_from(place).expect("fewer than four billion worlds")
}

/// A hash of one number, for which the default hasher is ten times too careful.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing (Knuth, vol. 3, section 6.4), folded so that the low bits are spread too.
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the key is one u64");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken in {} moves: {}", self.path.len(), self.promise)?;
        for (number, what) in self.path.iter().enumerate() {
            write!(f, "\n{:4}. {what}", number + 1)?;
        }
        Ok(())
    }
}
