//! What one order says to Postgres, word for word, out of Postgres's own log: no copy of a statement to grow old.

use std::collections::HashMap;

use testkit::until_eq;
use tokio_postgres::Client;

use crate::load::one_order;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::statements::{Executed, of_order, parse};

/// The transactions of one order, with their begins and commits, in the order in which they were made.
#[derive(Debug)]
pub struct Recording {
    /// Every statement, `START TRANSACTION` and `COMMIT` too.
    pub statements: Vec<Executed>,
    /// What is the order's own in the parameters: the value, and the name of what it is.
    pub own: HashMap<String, &'static str>,
}

impl Recording {
    /// Serves one order while Postgres logs.
    pub async fn of_one_order(world: &World, server: &Server) -> Recording {
        let sql = world.session(&server.database).await;
        let channel = server.channel();
        one_order::bring_drivers(&channel).await;
        // One order before, so that caches, prepared statements and the drivers' rows are there.
        one_order::serve(&channel, one_order::request()).await;

        let settings = ["log_line_prefix = '%p|'", "log_statement = 'all'"];
        alter(&sql, &settings.map(|setting| format!("set {setting}")), "all").await;
        let begun_at = world.postgres_log().len();
        let request = one_order::request();
        let order = one_order::serve(&channel, request.clone()).await;
        let log = world.postgres_log()[begun_at..].to_owned();
        alter(
            &sql,
            &["reset log_line_prefix", "reset log_statement"].map(str::to_owned),
            "none",
        )
        .await;

        let ids = "select p.provider_charge_id, s.payment_key
                     from payments p join order_sagas s using (order_id) where order_id::text = $1";
        let ids = sql.query_one(ids, &[&order.order_id]).await.unwrap();
        let own = HashMap::from([
            (order.order_id.clone(), "order"),
            (request.idempotency_key, "key"),
            (request.user_id, "user"),
            (ids.get(0), "charge"),
            (ids.get(1), "payment"),
            (order.assignment.unwrap().driver_id, "driver"),
        ]);
        let statements = of_order(&parse(&log), &order.order_id);
        Recording { statements, own }
    }

    /// The order's id.
    pub fn order(&self) -> &str {
        let order = self.own.iter().find(|(_, name)| **name == "order");
        order.expect("an order was recorded").0
    }

    /// How much it is.
    pub fn summary(&self) -> String {
        let whole = self.statements.iter().filter(|one| one.sql == "COMMIT").count();
        format!(
            "an order, placed and completed: {} statements, {whole} transactions of several and their begins and commits",
            self.statements.len() - 2 * whole,
        )
    }
}

/// Returns when every session takes the settings over before its next statement: when this one has, which the
/// postmaster tells together with all others. `log_statement`: what it is then.
async fn alter(sql: &Client, changes: &[String], log_statement: &str) {
    for change in changes {
        sql.batch_execute(&format!("alter system {change}")).await.unwrap();
    }
    sql.batch_execute("select pg_reload_conf()").await.unwrap();
    until_eq("the settings of Postgres", log_statement.to_owned(), async || {
        sql.query_one("show log_statement", &[]).await.unwrap().get(0)
    })
    .await;
}
