//! What a run is to be: how long, how hard, with which settings, and what it must reach to count as one.

use std::path::PathBuf;
use std::time::Duration;

use testkit::chance::number;
use testkit::process::{Flags, program};
use uuid::Uuid;
use waybill_sandbox::tokens::TokenSigner;

/// Of the provider's signatures.
pub const WEBHOOK_SECRET: &str = "whsec_torture";

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Of all that is drawn.
    pub seed: u64,
    /// First, for so long: nothing goes wrong. Longer than a lease.
    pub steady: Duration,
    /// How long the provider takes for an answer then. Shorter than a server waits for it.
    pub slow_answer: Duration,
    /// Then, for so long: servers are killed while all else is well, to see how long their orders wait.
    pub owners_only: Duration,
    /// At last, for so long at most: everything goes wrong.
    pub storm: Duration,
    /// It ends after so many kills.
    pub kills_enough: u64,
    /// With fewer kills, and fewer orders that got a driver, a run shows nothing.
    pub kills_least: u64,
    /// Whether the run fails if a crash point did not kill a process.
    pub every_point: bool,
    /// A server lives so long before something befalls it, in milliseconds.
    pub life_ms: (u64, u64),
    /// A process sleeps so long, in milliseconds.
    pub sleep_ms: (u64, u64),
    /// In so many of a hundred cases what befalls a server is sleep.
    pub sleep_percent: u64,
    /// Orders a second.
    pub orders_per_second: u64,
    /// How long a server looks for a driver.
    pub assignment_window: Duration,
    /// When all is well again, and this time has passed, orders that wait for their next try are tried at once: a short
    /// run does not sit out a back-off of a minute.
    pub hurry_after: Option<Duration>,
    /// Which faults: all, or those named.
    pub only: Vec<String>,
    /// Whether the folder with logs and history stays, whatever comes.
    pub keep: bool,
    /// What the servers are: the program that cargo built from the same sources, unless another is given.
    pub program: PathBuf,
    /// Their settings.
    pub flags: Flags,
}

impl Plan {
    /// By the environment: `TORTURE_MINUTES` for a full run with the default times, `TORTURE_SECONDS` for a short one
    /// with short times, neither for the slice that runs with all tests; `TORTURE_SEED` to draw the same again;
    /// `TORTURE_ONLY` names the faults that there are to be (servers, postgres, redis, provider, lines); `TORTURE_KEEP`
    /// keeps the folder; `TORTURE_SLEEP_PERCENT` is how often a server sleeps instead of being killed;
    /// `TORTURE_PROGRAM` is another program to test.
    pub fn of_environment() -> Plan {
        let seed = number("TORTURE_SEED").unwrap_or_else(|| Uuid::now_v7().as_u64_pair().1);
        let only = std::env::var("TORTURE_ONLY").unwrap_or_default();
        let only = only.split(',').map(str::trim).filter(|name| !name.is_empty());
        let plan = Plan {
            only: only.map(str::to_owned).collect(),
            ..match (number("TORTURE_MINUTES"), number("TORTURE_SECONDS")) {
                (Some(minutes), _) => Plan::full(minutes),
                (None, Some(seconds)) => Plan::short(Duration::from_secs(seconds), u64::MAX),
                (None, None) => Plan::short(Duration::from_secs(32), 60),
            }
        };
        let program = std::env::var_os("TORTURE_PROGRAM").map_or_else(program, PathBuf::from);
        let keep = std::env::var_os("TORTURE_KEEP").is_some();
        let sleep_percent = number("TORTURE_SLEEP_PERCENT").unwrap_or(plan.sleep_percent);
        Plan {
            seed,
            sleep_percent,
            keep,
            program,
            ..plan
        }
    }

    /// The times that are the defaults of the program: a lease is 15 s.
    fn full(minutes: u64) -> Plan {
        let all = Duration::from_secs(minutes * 60);
        let owners_only = (all / 3).min(Duration::from_secs(150));
        Plan {
            seed: 0,
            steady: Duration::from_secs(25),
            slow_answer: Duration::from_secs(2),
            owners_only,
            storm: all.saturating_sub(owners_only),
            kills_enough: u64::MAX,
            kills_least: 20 * minutes,
            every_point: true,
            life_ms: (500, 8_000),
            sleep_ms: (1_000, 20_000),
            sleep_percent: 30,
            orders_per_second: 10,
            assignment_window: Duration::from_secs(20),
            hurry_after: None,
            only: Vec::new(),
            keep: false,
            program: PathBuf::new(),
            flags: flags(&[("orders.lease", "15s"), ("orders.assignment_window", "20s")]),
        }
    }

    /// Times that let an order be taken over in seconds.
    fn short(storm: Duration, kills_enough: u64) -> Plan {
        Plan {
            seed: 0,
            steady: Duration::from_secs(9),
            slow_answer: Duration::from_millis(600),
            owners_only: Duration::ZERO,
            storm,
            kills_enough,
            kills_least: 15,
            every_point: false,
            life_ms: (100, 1_500),
            sleep_ms: (3_000, 6_500),
            sleep_percent: 10,
            orders_per_second: 14,
            assignment_window: Duration::from_secs(3),
            hurry_after: Some(Duration::from_secs(8)),
            only: Vec::new(),
            keep: false,
            program: PathBuf::new(),
            flags: flags(&[
                ("orders.lease", "4s"),
                ("orders.assignment_window", "3s"),
                ("orders.sweep_interval", "500ms"),
                ("payments.attempt_timeout", "1s"),
                ("payments.total_timeout", "2s"),
                ("postgres.statement_timeout", "1s"),
                ("postgres.acquire_timeout", "1s"),
            ]),
        }
    }

    /// Whether this kind of fault is to be.
    pub fn has(&self, fault: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == fault)
    }
}

fn flags(times: &[(&'static str, &str)]) -> Flags {
    let common = [
        ("grpc.addr", "127.0.0.1:0"),
        ("auth.issuer", TokenSigner::ISSUER),
        ("http.addr", "127.0.0.1:0"),
        ("webhooks.addr", "127.0.0.1:0"),
        ("web.addr", "127.0.0.1:0"),
        ("payments.secret_key", "sk_test_torture"),
        ("payments.rate_per_second", "1000"),
        ("payments.webhook_secrets", WEBHOOK_SECRET),
        ("postgres.pool_max", "8"),
        ("redis.command_timeout", "500ms"),
        // The rig reads its own answers back at the end, all of them at once.
        ("limits.orders_per_user.burst", "1000"),
        ("limits.orders_in_all.per_second", "10000"),
        ("limits.orders_in_all.burst", "10000"),
        ("limits.completions_per_caller.burst", "1000"),
        ("limits.completions_in_all.per_second", "10000"),
        ("limits.completions_in_all.burst", "10000"),
        ("limits.reads_per_caller.burst", "10000"),
        ("drain.unready", "0s"),
        ("drain.work", "5s"),
        ("drain.hard_stop", "10s"),
        ("log.format", "json"),
    ];
    let all = common.iter().chain(times);
    all.map(|(key, value)| (*key, (*value).to_owned())).collect()
}
