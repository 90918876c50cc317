//! What befalls the world: each process and each line has a nemesis of its own, which draws when and how, and heals
//! what it did when the storm is over.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use testkit::chance::{Chance, pass};
use testkit::load::findings::{Findings, Tally};
use testkit::load::server_slot::ServerSlot;
use tokio_util::sync::CancellationToken;
use waybill_sandbox::Postgres;
use waybill_sandbox::Redis;
use waybill_sandbox::payments::{Fault, FaultKind, WebhookBehaviour};
use waybill_sandbox::process::Signal;
use waybill_sandbox::proxy::Mode;
use waybill_server::crash_points::NAMES;

use crate::plan::Plan;
use crate::provider::PaymentProvider;
use crate::world::{Line, To};

/// The status of a server that found no store when it started, or had to cut its drain short.
const UNAVAILABLE: i32 = 69;

/// What every nemesis needs.
pub struct Storm<'a> {
    /// How hard.
    pub plan: &'a Plan,
    /// The payment provider.
    pub provider: &'a PaymentProvider,
    /// Counts.
    pub tally: &'a Tally,
    /// For a server that dies on its own account.
    pub findings: &'a Findings,
    /// When to heal.
    pub end: &'a CancellationToken,
}

impl Storm<'_> {
    /// A time passes, or the storm is over.
    async fn pass(&self, time: Duration) {
        self.end.run_until_cancelled(pass(time)).await;
    }

    fn is_over(&self) -> bool {
        self.end.is_cancelled()
    }

    /// Kills a server, puts it to sleep, stops it, or lets it die at a crash point; again and again.
    pub async fn over_server(&self, slot: &mut ServerSlot, mut chance: Chance) {
        if !self.plan.has("servers") {
            return;
        }
        while !self.is_over() {
            if !slot.is_taken() {
                slot.start(Some(self.tally.next_point(&mut chance)));
            }
            let life = chance.millis(self.plan.life_ms.0, self.plan.life_ms.1);
            if let Some(status) = slot.lives(life, self.end).await {
                self.autopsy(slot, status, false);
            } else if !self.is_over() {
                self.strike(slot, &mut chance).await;
            }
            self.pass(chance.millis(0, 400)).await;
        }
        // None that could still die at a crash point is left.
        if slot.kill().await.is_some() {
            Tally::count(&self.tally.kills);
        }
        slot.start(None);
    }

    async fn strike(&self, slot: &mut ServerSlot, chance: &mut Chance) {
        if chance.percent(self.plan.sleep_percent) {
            // At times in the middle of calls to a provider that does not answer: whoever takes the orders over knows
            // no more than the sleeper, and both will want to write the same.
            let unanswered = chance.percent(50) && self.plan.has("provider");
            if unanswered {
                self.provider.hold_answers();
                self.pass(chance.millis(200, 600)).await;
            }
            slot.signal(Signal::SIGSTOP);
            Tally::count(&self.tally.sleeps);
            let time = chance.millis(self.plan.sleep_ms.0, self.plan.sleep_ms.1);
            self.pass(time).await;
            slot.signal(Signal::SIGCONT);
            // It learns that its leases are lost, and may be at a crash point.
            if let Some(status) = slot.lives(chance.millis(500, 2_000), self.end).await {
                self.autopsy(slot, status, false);
            }
            if unanswered {
                self.provider.release_answers();
            }
        } else if chance.percent(10) {
            if let Some(status) = slot.stop().await {
                self.autopsy(slot, status, true);
            }
        } else {
            slot.kill().await;
            Tally::count(&self.tally.kills);
        }
    }

    /// Why a server ended that was not killed, and whether it was asked to.
    fn autopsy(&self, slot: &ServerSlot, status: std::process::ExitStatus, was_asked: bool) {
        let log = slot.log();
        let died_at = NAMES
            .into_iter()
            .find(|name| log.contains(&format!("crash point {name}\n")));
        match (died_at, status.code()) {
            (Some(name), None) => self.tally.died_at(name),
            (None, Some(UNAVAILABLE)) => {}
            (None, Some(0)) if was_asked => {}
            _ => {
                let what = format!("a server ended by itself: {status}; it logged {:?}", slot.log_tail());
                self.findings.add("X2", &what);
            }
        }
    }

    /// Kills Postgres, or puts its postmaster to sleep.
    pub async fn over_postgres(&self, postgres: &mut Postgres, mut chance: Chance) {
        while self.plan.has("postgres") && self.waits(chance.millis(2_000, 10_000)).await {
            if chance.percent(80) {
                postgres.kill().await.expect("Postgres is killed");
                Tally::count(&self.tally.kills);
                self.pass(chance.millis(0, 1_000)).await;
                postgres.restart().await.expect("Postgres starts again");
            } else {
                let signal = |signal| postgres.signal(signal).expect("Postgres runs");
                self.sleeps(signal, chance.millis(500, 3_000)).await;
            }
        }
    }

    /// Kills Redis, or puts it to sleep.
    pub async fn over_redis(&self, redis: &mut Redis, mut chance: Chance) {
        while self.plan.has("redis") && self.waits(chance.millis(1_500, 7_000)).await {
            if chance.percent(80) {
                redis.kill().await.expect("Redis is killed");
                Tally::count(&self.tally.kills);
                self.pass(chance.millis(0, 1_500)).await;
                redis.restart().await.expect("Redis starts again");
            } else {
                let signal = |signal| redis.signal(signal).expect("Redis runs");
                self.sleeps(signal, chance.millis(500, 3_000)).await;
            }
        }
    }

    /// A time passes; whether the storm is not over then.
    async fn waits(&self, time: Duration) -> bool {
        self.pass(time).await;
        !self.is_over()
    }

    async fn sleeps(&self, signal: impl Fn(Signal), time: Duration) {
        signal(Signal::SIGSTOP);
        Tally::count(&self.tally.sleeps);
        self.pass(time).await;
        signal(Signal::SIGCONT);
    }

    /// Has the provider err in all ways, and kills it.
    pub async fn over_provider(&self, mut chance: Chance) {
        if !self.plan.has("provider") {
            return;
        }
        let provider = self.provider;
        while !self.is_over() {
            provider.set_faults(provider_faults(&mut chance));
            provider.set_webhook_behaviour(WebhookBehaviour {
                copies: 1 + u32::try_from(chance.below(3)).unwrap_or(0),
                reordered: chance.percent(50),
                delay_ms: chance.below(1_500),
                before_response: chance.percent(30),
                forged: chance.percent(10),
            });
            self.pass(chance.millis(1_000, 5_000)).await;
            if chance.percent(50) && !self.is_over() {
                provider.close().await;
                Tally::count(&self.tally.kills);
                self.pass(chance.millis(200, 2_500)).await;
                provider.open().await;
            }
        }
        provider.set_faults(Vec::new());
    }

    /// Spoils one line after the other for a while. Several of these may be at work.
    pub async fn over_lines(&self, lines: &[Line], mut chance: Chance) {
        if !self.plan.has("lines") {
            return;
        }
        while !self.is_over() {
            self.pass(chance.millis(100, 1_500)).await;
            let line = chance.pick(lines);
            let mode = spoil(line.to, &mut chance);
            line.proxy.set_mode(mode);
            Tally::count(&self.tally.spoiled_lines);
            // A line that cuts each commit lets nothing come to an end: enough for a few of them.
            let most = if mode == Mode::CutAtCommit { 1_000 } else { 3_000 };
            self.pass(chance.millis(200, most)).await;
            line.proxy.set_mode(Mode::Pass);
        }
        for line in lines {
            line.proxy.set_mode(Mode::Pass);
        }
    }
}

/// Lines that the balancer's clients and the servers' stores and provider are reached by, each in ways of its own.
fn spoil(to: To, chance: &mut Chance) -> Mode {
    let requests = chance.millis(0, 300);
    let replies = chance.millis(50, 700);
    let late = Mode::Latency { requests, replies };
    let mut modes = vec![
        late,
        Mode::Blackhole,
        Mode::Reset,
        Mode::Refuse,
        Mode::DropReplies,
        Mode::DropReplies,
    ];
    match to {
        To::Postgres => modes.extend([Mode::CutAtCommit; 6]),
        _ => modes.push(Mode::CutAfter(chance.below(4_000))),
    }
    *chance.pick(&modes)
}

/// Some of the provider's ways to err, each for some of the requests.
fn provider_faults(chance: &mut Chance) -> Vec<Fault> {
    if chance.percent(20) {
        return Vec::new();
    }
    // Mostly a quarter of all requests; at times nearly all of them.
    let share = if chance.percent(15) { 0.3 } else { 0.08 };
    let late = chance.millis(200, 4_000);
    let slow = chance.millis(20, 1_200);
    let all = [
        Fault::always(FaultKind::Decline),
        Fault::always(FaultKind::RateLimited),
        Fault::always(FaultKind::InProgress),
        Fault::always(FaultKind::ErrorBeforeEffect),
        Fault::always(FaultKind::ErrorAfterEffect),
        Fault::always(FaultKind::ErrorAfterEffectSaved),
        Fault::always(FaultKind::Hang),
        Fault::always(FaultKind::LateSuccess).delayed(late),
        Fault::always(FaultKind::ReplyLost),
        Fault::always(FaultKind::Garbage),
        Fault::always(FaultKind::WrongAmount),
        Fault::always(FaultKind::WrongCurrency),
        Fault::always(FaultKind::EmptyBody),
        Fault::always(FaultKind::SlowBody),
        Fault::always(FaultKind::Latency).delayed(slow),
    ];
    let mut faults = Vec::new();
    for fault in all {
        if chance.percent(60) {
            faults.push(fault.with_probability(chance.unit() * share));
        }
    }
    faults
}

/// Kills of one counter, for whoever reads it while it grows.
pub fn so_far(counter: &AtomicU64) -> u64 {
    counter.load(std::sync::atomic::Ordering::Relaxed)
}
