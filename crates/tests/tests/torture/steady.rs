//! A steady run before the faults: nothing is killed and no line is spoiled, the provider is slow and customers hang
//! up. What is promised of a bad day cannot be seen then, and this can: a saga goes on without its caller, and no
//! transaction stays open while the provider is asked.

use std::collections::HashSet;
use std::time::Duration;

use testkit::chance::pass;
use testkit::load::findings::Findings;
use testkit::load::ledger_view;
use testkit::sql::{column, connect};
use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::plan::Plan;
use crate::world::World;

const SAMPLE_EVERY: Duration = Duration::from_millis(25);
/// A busy machine may stop a server for longer than a lease; a server that leaves orders on its own account leaves every one whose customer hangs up.
const LEFT_MAX: usize = 3;
/// Or in the middle of some transactions: with so many orders comes one such accident.
const ORDERS_PER_ACCIDENT: usize = 10;

/// Waits out the steady run, and judges it. The load is there already; no server has been killed.
pub async fn run(plan: &Plan, world: &World, findings: &Findings) {
    world.provider.set_slow(plan.slow_answer);
    let sql = connect(&world.database()).await.expect("Postgres answers");
    let began = ledger_view::now(&sql).await.expect("Postgres answers");
    let mut idle = HashSet::new();
    let until = Instant::now() + plan.steady;
    while Instant::now() < until && !findings.any.is_cancelled() {
        idle.extend(idle_transactions(&sql, plan.slow_answer / 2).await);
        pass(SAMPLE_EVERY).await;
    }
    let orders = orders_since(&sql, began).await;
    if idle.len() > orders / ORDERS_PER_ACCIDENT {
        let what = format!(
            "{} transactions were open while nothing was done in them, beside {orders} orders",
            idle.len()
        );
        findings.add("V3", &what);
    }
    let left = left_by_their_servers(&sql, began).await;
    if left.len() > LEFT_MAX {
        let what = format!("servers that live left {} orders to others, as {}", left.len(), left[0]);
        findings.add("M7", &what);
    }
    world.provider.set_faults(Vec::new());
}

/// The transactions of servers that have waited for their next statement for so long, by their session and beginning.
async fn idle_transactions(sql: &Client, longer_than: Duration) -> Vec<String> {
    let query = "select pid || ' since ' || xact_start from pg_stat_activity
                  where state = 'idle in transaction' and pid <> pg_backend_pid()
                    and clock_timestamp() - state_change > make_interval(secs => $1)";
    let transactions = column(sql, query, &[&longer_than.as_secs_f64()]).await;
    transactions.expect("Postgres answers")
}

async fn orders_since(sql: &Client, since_secs: f64) -> usize {
    let query = "select order_id from order_sagas where created_at > to_timestamp($1)";
    let orders: Vec<Uuid> = column(sql, query, &[&since_secs]).await.expect("Postgres answers");
    orders.len()
}

/// Orders of this time that went to a second worker though every outcome was known and no one cancelled them. A completion
/// and a requested refund begin under a fence of their own.
async fn left_by_their_servers(sql: &Client, since_secs: f64) -> Vec<Uuid> {
    let query = "select order_id from order_sagas s
                  where created_at > to_timestamp($1)
                    and (fence > 1 and reopened_at is null
                         or exists (select 1 from order_saga_steps t
                                     where t.order_id = s.order_id and t.step in ('charge', 'assign') and t.fence > 1))
                    and cancel_requested_at is null and reassignments = 0
                    and not exists (select 1 from order_saga_steps t
                                     where t.order_id = s.order_id and t.status in ('unknown', 'postponed'))";
    column(sql, query, &[&since_secs]).await.expect("Postgres answers")
}
