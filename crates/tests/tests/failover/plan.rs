//! What a run is to be.

use testkit::chance::number;
use uuid::Uuid;

use crate::rounds::Fault;

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Of all that is drawn.
    pub seed: u64,
    /// How often each fault befalls the leader of each store; `None`: one fault of one store, by chance, as a slice of all tests.
    pub rounds: Option<usize>,
    /// Which stores, or what else: all, or those named.
    only: Vec<String>,
    /// How many servers.
    pub servers: usize,
    /// Whether the folder with logs and history stays, whatever comes.
    pub keep: bool,
}

impl Plan {
    /// By the environment: `FAILOVER_ROUNDS` of each fault, `FAILOVER_ONLY` names stores (postgres, sentinel, cluster) and `throughput`,
    /// `FAILOVER_SERVERS` is how many servers there are where stores fail over, `FAILOVER_SEED` draws the same again, `FAILOVER_KEEP` keeps
    /// the folder.
    pub fn of_environment() -> Plan {
        let only = std::env::var("FAILOVER_ONLY").unwrap_or_default();
        let only = only.split(',').map(str::trim).filter(|name| !name.is_empty());
        let count = |name| number(name).and_then(|number| usize::try_from(number).ok());
        Plan {
            seed: number("FAILOVER_SEED").unwrap_or_else(|| Uuid::now_v7().as_u64_pair().1),
            rounds: count("FAILOVER_ROUNDS"),
            only: only.map(str::to_owned).collect(),
            servers: count("FAILOVER_SERVERS").unwrap_or(2),
            keep: std::env::var_os("FAILOVER_KEEP").is_some(),
        }
    }

    /// Whether this store, of this number, is to fail over; or whether what has a number beyond those of the stores is to be done, which is
    /// no part of a slice.
    pub fn has(&self, number: usize, store: &str) -> bool {
        if !self.only.is_empty() {
            return self.only.iter().any(|name| name == store);
        }
        self.rounds.is_some() || self.draw(0) == number
    }

    /// The faults of a store, one after the other.
    pub fn faults(&self) -> Vec<Fault> {
        match self.rounds {
            Some(rounds) => (0..rounds).flat_map(|_| Fault::ALL).collect(),
            None => Fault::ALL.into_iter().skip(self.draw(8)).take(1).collect(),
        }
    }

    /// One of three, by some bits of the seed.
    fn draw(&self, bits: u32) -> usize {
        usize::from((self.seed >> bits).to_le_bytes()[0] % 3)
    }
}
