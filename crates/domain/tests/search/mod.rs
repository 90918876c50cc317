//! All worlds that can come about, the nearest first, and the shortest way to the first that breaks a promise. The models
//! beside this folder share it: each says what a world is, what may happen in it, and what must hold.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::Instant;

use waybill_domain::order::State;

/// What is explored: the service as it is built, or with one flaw.
pub trait Model {
    /// All of it at one moment. `Copy`: a move makes a new one.
    type World: Copy;
    /// Equal for worlds that do not differ in what matters.
    type Key: Eq + Hash;
    /// One thing that happens.
    type Move: Copy + fmt::Debug + fmt::Display;
    /// What must hold.
    type Promise: Copy + PartialEq + fmt::Debug + fmt::Display;

    /// Before anything happens.
    const BEGINNING: Self::World;
    /// The promise that everything can still finish.
    const CAN_FINISH: Self::Promise;

    /// By what a world is known.
    fn key(&self, world: &Self::World) -> Self::Key;
    /// Adds all that may happen next.
    fn add_moves(&self, world: &Self::World, next: &mut Next<Self::Move, Self::World>);
    /// The promise that this world breaks.
    fn broken(&self, world: &Self::World) -> Option<Self::Promise>;
    /// Whether nothing more has to happen.
    fn is_at_rest(&self, world: &Self::World) -> bool;
    /// Whether the way on may lead over days and an operator.
    fn needs_a_person(&self, world: &Self::World) -> bool;
    /// The order's state.
    fn state(&self, world: &Self::World) -> State;
}

/// Why something happens; what "can still finish" may build on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Progress: the service, the provider, the network.
    Work,
    /// Days go by, and a person looks.
    Patience,
    /// Something goes wrong, or someone outside wants something else.
    Fault,
}

/// All that may happen next in one world.
#[derive(Debug)]
pub struct Next<Move, World> {
    /// Each thing, with the world after it.
    moves: Vec<(Kind, Move, World)>,
}

impl<Move, World> Next<Move, World> {
    /// Progress.
    pub fn work(&mut self, what: Move, world: World) {
        self.moves.push((Kind::Work, what, world));
    }

    /// Days go by, or a person acts.
    pub fn patience(&mut self, what: Move, world: World) {
        self.moves.push((Kind::Patience, what, world));
    }

    /// Something goes wrong.
    pub fn fault(&mut self, what: Move, world: World) {
        self.moves.push((Kind::Fault, what, world));
    }
}

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
pub struct Counterexample<Move, Promise> {
    /// Which.
    pub promise: Promise,
    /// All that happens, in order.
    pub path: Vec<Move>,
}

/// How a search of this model ends.
pub type Searched<M> = Result<Found, Counterexample<<M as Model>::Move, <M as Model>::Promise>>;

/// Explores all that can happen to the service as it is built, and prints what was found. Fails with the way to the first
/// promise that is broken.
pub fn explore<M: Model>(name: &str, as_built: M) -> Found {
    let began = Instant::now();
    let found = search(as_built).unwrap_or_else(|counterexample| panic!("{counterexample}"));
    println!(
        "{name}: {} states, depth {}, 0 violations ({} settled, {} wait for an operator or for a key to expire; {:.1} s)",
        found.states,
        found.depth,
        found.at_rest,
        found.need_a_person,
        began.elapsed().as_secs_f64()
    );
    found
}

/// Fails unless the search sees that the flaw breaks the promise, and shows how in a few moves.
pub fn assert_breaks<M: Model>(flaw: &dyn fmt::Debug, with_flaw: M, promise: M::Promise) {
    let Err(counterexample) = search(with_flaw) else {
        panic!("{flaw:?} breaks nothing");
    };
    println!("{flaw:?}: {counterexample}");
    assert_eq!(counterexample.promise, promise, "{counterexample}");
    assert!(counterexample.path.len() <= 13, "{counterexample}");
}

/// Explores all that can happen, or stops at the first broken promise.
fn search<M: Model>(model: M) -> Searched<M> {
    let mut search = Search::new(model);
    search.add(M::BEGINNING, None)?;
    let mut next = Next { moves: Vec::new() };
    let mut from = 0;
    while let Some(world) = search.worlds.get(from).copied() {
        search.model.add_moves(&world, &mut next);
        let state = search.model.state(&world);
        for (kind, what, after) in next.moves.drain(..) {
            let to = search.add(after, Some((from, what)))?;
            let state_after = search.model.state(&after);
            if state_after != state {
                search.transitions.insert((state, state_after));
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

struct Search<M: Model> {
    model: M,
    worlds: Vec<M::World>,
    /// From which world, by what; `None` for the beginning.
    came_from: Vec<Option<(u32, M::Move)>>,
    depths: Vec<u16>,
    places: HashMap<M::Key, u32, BuildHasherDefault<Spread>>,
    /// From where to where, by work alone.
    work: Vec<(u32, u32)>,
    /// From where to where, by waiting for days and for people.
    patience: Vec<(u32, u32)>,
    transitions: HashSet<(State, State)>,
}

impl<M: Model> Search<M> {
    fn new(model: M) -> Search<M> {
        Search {
            model,
            worlds: Vec::new(),
            came_from: Vec::new(),
            depths: Vec::new(),
            places: HashMap::default(),
            work: Vec::new(),
            patience: Vec::new(),
            transitions: HashSet::new(),
        }
    }

    /// The place of a world, which is new or was found before.
    fn add(
        &mut self,
        world: M::World,
        by: Option<(usize, M::Move)>,
    ) -> Result<usize, Counterexample<M::Move, M::Promise>> {
        let place = self.worlds.len();
        let known = *self.places.entry(self.model.key(&world)).or_insert(index(place));
        if known as usize != place {
            return Ok(known as usize);
        }
        self.worlds.push(world);
        self.depths.push(by.map_or(0, |(from, _)| self.depths[from] + 1));
        self.came_from.push(by.map(|(from, what)| (index(from), what)));
        match self.model.broken(&world) {
            None => Ok(place),
            Some(promise) => Err(self.counterexample(promise, place)),
        }
    }

    fn counterexample(&self, promise: M::Promise, mut at: usize) -> Counterexample<M::Move, M::Promise> {
        let mut path = Vec::new();
        while let Some((from, what)) = self.came_from[at] {
            path.push(what);
            at = from as usize;
        }
        path.reverse();
        Counterexample { promise, path }
    }

    /// Once all is explored: can everything still finish?
    fn finish(self) -> Searched<M> {
        let rests: Vec<bool> = self.worlds.iter().map(|world| self.model.is_at_rest(world)).collect();
        let by_work = reaching(&rests, &[&self.work]);
        let by_patience = reaching(&by_work, &[&self.work, &self.patience]);
        for (place, world) in self.worlds.iter().enumerate() {
            let can_finish = by_work[place] || (self.model.needs_a_person(world) && by_patience[place]);
            if !can_finish {
                return Err(self.counterexample(M::CAN_FINISH, place));
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

/// A hash of few numbers, for which the default hasher is ten times too careful.
#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing (Knuth, vol. 3, section 6.4), folded so that the low bits are spread too.
        let spread = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is of u64");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<Move: fmt::Display, Promise: fmt::Display> fmt::Display for Counterexample<Move, Promise> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken in {} moves: {}", self.path.len(), self.promise)?;
        for (number, what) in self.path.iter().enumerate() {
            write!(f, "\n{:4}. {what}", number + 1)?;
        }
        Ok(())
    }
}
