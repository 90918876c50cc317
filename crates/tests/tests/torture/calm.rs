//! A calm hour: nothing is killed and no line is spoiled, the provider is slow and customers hang up. What is promised
//! of a bad day cannot be seen then, and this can: a saga goes on without its caller, and no transaction stays open
//! while the provider is asked.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::books;
use crate::chance::pass;
use crate::findings::Findings;
use crate::plan::Plan;
use crate::world::World;

const LOOK_EVERY: Duration = Duration::from_millis(25);
/// A busy machine may stop a server in the middle of a few transactions, or for longer than a lease; a server that
/// does so on its own account does it with every order.
const ACCIDENTS_MAX: usize = 3;

/// Waits out the calm, and judges it. The load is there already; no server has been killed.
pub async fn calm(plan: &Plan, world: &World, findings: &Findings) {
    world.cashier.set_slow(plan.slow_answer);
    let sql = books::connect(&world.database()).await.expect("Postgres answers");
    let began = books::now(&sql).await.expect("Postgres answers");
    let mut idle = HashSet::new();
    let until = Instant::now() + plan.calm;
    while Instant::now() < until && !findings.any.is_cancelled() {
        idle.extend(idle_transactions(&sql, plan.slow_answer / 2).await);
        pass(LOOK_EVERY).await;
    }
    if idle.len() > ACCIDENTS_MAX {
        let what = format!("{} transactions were open while nothing was done in them", idle.len());
        findings.add("V3", &what);
    }
    let left = left_by_their_servers(&sql, began).await;
    if left.len() > ACCIDENTS_MAX {
        let what = format!("servers that live left {} orders to others, as {}", left.len(), left[0]);
        findings.add("M7", &what);
    }
    world.cashier.set_faults(Vec::new());
}

/// The transactions of servers that have waited for their next statement for so long, by their session and beginning.
async fn idle_transactions(sql: &Client, longer_than: Duration) -> Vec<String> {
    let query = "select pid || ' since ' || xact_start from pg_stat_activity
                  where state = 'idle in transaction' and pid <> pg_backend_pid()
                    and clock_timestamp() - state_change > make_interval(secs => $1)";
    let rows = sql.query(query, &[&longer_than.as_secs_f64()]).await;
    rows.expect("Postgres answers").iter().map(|row| row.get(0)).collect()
}

/// Orders of this time that went to a second worker though nothing was in doubt and nobody cancelled them.
async fn left_by_their_servers(sql: &Client, since_secs: f64) -> Vec<Uuid> {
    let query = "select order_id from order_sagas s
                  where created_at > to_timestamp($1) and fence > 1
                    and cancel_requested_at is null and reassignments = 0
                    and not exists (select 1 from order_saga_steps t
                                     where t.order_id = s.order_id and t.status in ('unknown', 'postponed'))";
    let rows = sql.query(query, &[&since_secs]).await;
    rows.expect("Postgres answers").iter().map(|row| row.get(0)).collect()
}
