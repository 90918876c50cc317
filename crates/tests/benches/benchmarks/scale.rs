//! How long and how much: a full run, or a quick one that shows whether everything still runs.

use std::time::Duration;

/// The sizes of a run.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Whether it is the quick one.
    pub quick: bool,
    /// Rounds of a benchmark, where nothing else is said.
    pub rounds: usize,
    /// Rounds of fleets of different sizes: more, for the disk's own moods are wider apart than the sizes.
    pub fleet_rounds: usize,
    /// Their turn.
    pub fleet_turn: Duration,
    /// A turn of those whose speed the disk decides: orders and fixes.
    pub stored_turn: Duration,
    /// Rounds of what never writes, searches and refused calls: many, for it is processors that they wait for, and what
    /// a neighbour leaves of those changes within seconds.
    pub read_rounds: usize,
    /// A turn of searches. All callers share a connection to Redis, where they wait for each other and are answered in
    /// bursts: there must be many of these in a turn.
    pub search_turn: Duration,
    /// A turn of refused calls.
    pub refusal_turn: Duration,
    /// Rounds of latencies at half of the peak, each of the two times that they are measured.
    pub latency_rounds: usize,
    /// A turn that looks for the peak.
    pub peak_turn: Duration,
    /// A turn at half of the peak; its 99th of 100 needs some thousands.
    pub paced_turn: Duration,
    /// Rounds of open streams.
    pub stream_rounds: usize,
    /// How long they are silent while the server is looked at.
    pub silence: Duration,
    /// Orders that are stored already: nothing, some, many.
    pub stored_orders: [u64; 3],
}

impl Scale {
    /// What the environment asks for.
    pub fn chosen() -> Scale {
        match std::env::var("BENCH_QUICK") {
            Ok(quick) if quick != "0" && !quick.is_empty() => Scale::QUICK,
            _ => Scale::FULL,
        }
    }

    const FULL: Scale = Scale {
        quick: false,
        // Even, so that neither is the first more often; and a multiple of the three sizes that take turns.
        rounds: 6,
        fleet_rounds: 12,
        fleet_turn: Duration::from_millis(1_500),
        stored_turn: Duration::from_secs(3),
        read_rounds: 12,
        search_turn: Duration::from_secs(2),
        refusal_turn: Duration::from_millis(1_250),
        latency_rounds: 4,
        peak_turn: Duration::from_secs(2),
        paced_turn: Duration::from_secs(6),
        stream_rounds: 5,
        silence: Duration::from_secs(4),
        stored_orders: [0, 1_000_000, 5_000_000],
    };

    const QUICK: Scale = Scale {
        quick: true,
        rounds: 3,
        fleet_rounds: 3,
        fleet_turn: Duration::from_secs(1),
        stored_turn: Duration::from_secs(1),
        read_rounds: 3,
        search_turn: Duration::from_millis(700),
        refusal_turn: Duration::from_millis(700),
        latency_rounds: 2,
        peak_turn: Duration::from_millis(500),
        paced_turn: Duration::from_millis(1_500),
        stream_rounds: 2,
        silence: Duration::from_secs(1),
        stored_orders: [0, 20_000, 100_000],
    };
}
