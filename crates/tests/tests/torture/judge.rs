//! The checks: every few seconds of the storm what must never be, and after it everything that was promised.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use testkit::chance::pass;
use testkit::load::calls::{Outcome, create, patient_channel};
use testkit::load::findings::{Findings, Tally, lock};
use testkit::load::history::{Asked, History};
use testkit::load::tokens::Tokens;
use testkit::load::{ledger_view, promises};
use testkit::process::config;
use testkit::rig::history::is_written;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use uuid::Uuid;
use waybill_sandbox::payments::{Movement, MovementKind};
use waybill_server::app::{Sources, run_audit};

use crate::plan::Plan;
use crate::world::World;

/// The promise of M2, and a little for the query.
const SETTLED_WITHIN: Duration = Duration::from_secs(60 + 2);
/// An order that takes so long, in seconds, is shown.
const SHOWN_FROM_SECS: f64 = 30.0;
/// The promise of D3, in seconds.
const OWNER_REPLACED_WITHIN_SECS: f64 = 20.0;
const READY_WITHIN: Duration = Duration::from_secs(30);
/// So many refunds fail days later.
const FAILED_REFUNDS: usize = 5;
const POLL: Duration = Duration::from_millis(100);
const ASKED_AT_ONCE: usize = 16;

/// What was read for panics and errors of our own.
#[derive(Debug, Default)]
pub struct Logs {
    /// Each start of a server has one.
    pub files: usize,
    /// In all of them.
    pub lines: usize,
}

/// What the end of a run is judged by.
pub struct Judge<'a> {
    /// Healed.
    pub world: &'a mut World,
    /// What the clients know.
    pub history: Arc<History>,
    /// What was done.
    pub tally: &'a Tally,
    /// Where violations go.
    pub findings: &'a Findings,
    /// How long an order may rightly look for a driver, and how long it may wait.
    pub plan: &'a Plan,
}

impl Judge<'_> {
    /// Waits until every order is settled; how long after now the last one was, in seconds.
    #[allow(clippy::print_stdout, reason = "what the run is for")]
    pub async fn until_settled(&mut self, sql: &Client) -> f64 {
        let healed = ledger_view::now(sql).await.expect("Postgres answers");
        let began = Instant::now();
        for slot in &mut self.world.slots {
            if !slot.is_ready_within(READY_WITHIN).await {
                let what = format!("a server is not ready when all is well: {:?}", slot.log_tail());
                self.findings.add("M2", &what);
            }
        }
        let until = began + SETTLED_WITHIN + self.plan.assignment_window;
        let failed = self.world.provider.fail_refunds(FAILED_REFUNDS).await;
        println!("torture: {failed} refunds failed after they were made");
        loop {
            let open = ledger_view::unsettled(sql).await.expect("Postgres answers");
            let failed_unseen = self.failed_unseen(sql).await;
            if open.is_empty() && failed_unseen.is_empty() {
                break;
            }
            if Instant::now() > until {
                for order in open {
                    self.findings.add("M2", &format!("order {order} is not settled"));
                }
                for refund in failed_unseen {
                    let what = format!("refund {refund} failed at the provider, and the ledger has it as made");
                    self.findings.add("M9", &what);
                }
                break;
            }
            if self.plan.hurry_after.is_some_and(|after| began.elapsed() > after) {
                ledger_view::hurry(sql).await.expect("Postgres answers");
            }
            pass(POLL).await;
        }
        let last = ledger_view::last_settled(sql, healed).await.expect("Postgres answers");
        if let Some((order, secs)) = last.filter(|(_, secs)| *secs > SHOWN_FROM_SECS) {
            let story = ledger_view::story(sql, order).await.expect("Postgres answers");
            println!("torture: the last order settled {secs:.1} s after all was well:\n{story}");
        }
        last.map_or(0.0, |(_, secs)| secs)
    }

    /// Refunds that failed at the provider, and that the ledger has as made.
    async fn failed_unseen(&self, sql: &Client) -> Vec<String> {
        let ledger = self.world.provider.ledger().unwrap_or_default();
        let failed = ledger
            .into_iter()
            .filter(|movement| movement.kind == MovementKind::FailedRefund);
        let failed: Vec<String> = failed.map(|movement| movement.provider_id).collect();
        ledger_view::made_by_the_ledger(sql, &failed)
            .await
            .expect("Postgres answers")
    }

    /// The audit, with what the clients know as evidence.
    pub async fn audit(&self, sql: &Client) {
        self.until_written(sql).await;
        let sources = Sources {
            provider: true,
            stream: true,
            answered_orders: Some(self.history.answered()),
            acknowledged_fixes: Some(self.history.acknowledged_fixes()),
        };
        let report = run_audit(&config(&self.world.observer), sources)
            .await
            .expect("the audit is made");
        assert_eq!(report.checks(), report.findings.len(), "every check is made");
        for finding in report.findings.iter().filter(|finding| finding.count > 0) {
            for violation in finding.violations.iter().flatten() {
                self.findings.add(
                    finding.check.promise,
                    &format!("{}: {violation}", finding.check.violation),
                );
            }
        }
        let ledger = self.world.provider.ledger().expect("the provider runs");
        promises::check_ledger(&ledger, self.findings);
        self.check_amounts(&ledger);
        promises::check_ledger_view(sql, self.findings)
            .await
            .expect("Postgres answers");
    }

    /// What was taken is what was asked for, or less: and of an order that is charged first it is all of it.
    fn check_amounts(&self, ledger: &[Movement]) {
        let prices = self.history.prices();
        let charges = ledger.iter().filter(|movement| movement.kind == MovementKind::Charge);
        for charge in charges {
            let Some(price) = charge.order_id.as_ref().and_then(|order| prices.get(order)) else {
                continue;
            };
            // A fee is a fifth, a ride at least half of the price: a hundredth is another unit.
            if charge.amount_minor > *price || charge.amount_minor * 20 < *price {
                let what = format!(
                    "{} of {price} {} taken: {charge:?}",
                    charge.amount_minor, charge.currency
                );
                self.findings.add("M11", &what);
            }
        }
    }

    /// Asks once more for every order that there is, at any of the servers: the same bytes as ever. And for some with
    /// another amount: refused.
    pub async fn replay(&self, sql: &Client) {
        let there: HashSet<(String, String)> = ledger_view::users_with_orders(sql)
            .await
            .expect("Postgres answers")
            .into_iter()
            .collect();
        let asked: Vec<Asked> = self.history.keys();
        let is_there =
            |asked: &&Asked| there.contains(&(asked.request.user_id.clone(), asked.request.idempotency_key.clone()));
        for lost in asked.iter().filter(|asked| asked.answer.is_some() && !is_there(asked)) {
            self.findings
                .add("M3", &format!("an answered order is not settled: {:?}", lost.answer));
        }
        let channels = self.channels();
        let tasks = TaskTracker::new();
        let mut under_way = Vec::new();
        for (number, asked) in asked.iter().filter(is_there).enumerate() {
            let ask = ask_again(
                self.history.clone(),
                self.world.tokens.clone(),
                asked.clone(),
                channels[number % channels.len()].clone(),
                number,
            );
            under_way.push(tasks.spawn(ask));
            if under_way.len() == ASKED_AT_ONCE {
                self.collect(under_way.drain(..)).await;
            }
        }
        self.collect(under_way.drain(..)).await;
    }

    async fn collect(&self, answers: impl Iterator<Item = tokio::task::JoinHandle<Option<String>>>) {
        for answer in answers {
            if let Some(what) = answer.await.expect("no panic") {
                self.findings.add("M4", &what);
            }
        }
    }

    fn channels(&self) -> Vec<Channel> {
        let addresses = self.world.slots.iter().filter_map(|slot| *lock(&slot.backend));
        addresses
            .map(|addr| patient_channel(&format!("http://{addr}")))
            .collect()
    }

    /// How long the orders of killed owners waited to be settled, in seconds, shortest first. Only the last kill of an
    /// order's owner counts.
    pub async fn owner_kill_settle_secs(&self, sql: &Client) -> Vec<f64> {
        let mut last_kill: HashMap<Uuid, (i64, f64)> = HashMap::new();
        for kill in self.tally.owner_kills() {
            last_kill.extend(
                kill.orders
                    .iter()
                    .map(|(order, fence)| (*order, (*fence, kill.at_secs))),
            );
        }
        let mut waited = Vec::new();
        for (order, (fence, killed_at)) in last_kill {
            let settled = ledger_view::settled_after(sql, order, fence)
                .await
                .expect("Postgres answers");
            let Some(secs) = settled.map(|at| at - killed_at) else {
                continue;
            };
            waited.push(secs);
            if secs > OWNER_REPLACED_WITHIN_SECS {
                let what = format!("order {order} waited {secs:.1} s after its owner was killed");
                self.findings.add("D3", &what);
            }
        }
        waited.sort_by(f64::total_cmp);
        waited
    }

    /// No server may have panicked or met a defect of its own, whatever else it met.
    pub fn check_logs(&self) -> Logs {
        let mut logs = Logs::default();
        let entries = std::fs::read_dir(self.world.folder.path()).expect("the folder");
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|ending| ending == "log") {
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                logs.files += 1;
                logs.lines += log.lines().count();
                for line in log.lines().filter(|line| promises::is_defect(line)) {
                    self.findings.add("X2", &format!("{}: {line}", path.display()));
                }
            }
        }
        logs
    }

    /// The log of every order that a violation names.
    #[allow(clippy::print_stdout, reason = "what the run is for")]
    pub async fn print_stories(&self, sql: &Client) {
        let all = self.findings.all().join(" ");
        let words = all.split(|letter: char| !letter.is_ascii_hexdigit() && letter != '-');
        let orders: HashSet<Uuid> = words.filter_map(|word| word.parse().ok()).collect();
        let ledger = self.world.provider.ledger().unwrap_or_default();
        for order in orders.into_iter().take(10) {
            println!(
                "{}",
                ledger_view::story(sql, order)
                    .await
                    .unwrap_or_else(|error| error.to_string())
            );
            let id = order.to_string();
            for movement in ledger.iter().filter(|movement| movement.order_id.as_ref() == Some(&id)) {
                println!(
                    "  ledger | {:?} | {} | {}",
                    movement.kind, movement.provider_id, movement.amount_minor
                );
            }
        }
    }

    /// Waits until the history holds what the stream does: fixes that are on their way are not lost.
    async fn until_written(&self, sql: &Client) {
        let stream = "location_events";
        let client = redis::Client::open(self.world.observer["redis.url"].as_str()).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("Redis answers");
        let until = Instant::now() + READY_WITHIN;
        while let Err((last, cursor)) = is_written(&mut connection, sql, stream).await {
            if Instant::now() > until {
                let what = format!("the history stands at {cursor:?}, the stream at {last}");
                self.findings.add("L1", &what);
                return;
            }
            pass(POLL).await;
        }
    }
}

/// Asks for an order again; what is wrong about the answer, beside what the history finds.
async fn ask_again(
    history: Arc<History>,
    tokens: Arc<Tokens>,
    asked: Asked,
    channel: Channel,
    number: usize,
) -> Option<String> {
    let deadline = Duration::from_secs(10);
    let whose = format!("{}/{}", asked.request.user_id, asked.request.idempotency_key);
    let answer = create(channel.clone(), &tokens, &asked.request, deadline).await;
    let answered = history.record_create(&asked.request, &answer, usize::MAX);
    if answered.is_none() {
        return Some(format!("{whose} has a settled order and no answer: {answer:?}"));
    }
    if number.is_multiple_of(10) {
        let mut other = asked.request.clone();
        other.amount = other.amount.map(|mut amount| {
            amount.minor_units += 1;
            amount
        });
        let answer = create(channel, &tokens, &other, deadline).await;
        if !matches!(&answer, Outcome::Refused(status) if status.code() == tonic::Code::FailedPrecondition) {
            return Some(format!("{whose} with another amount is not refused: {answer:?}"));
        }
    }
    None
}
