//! The baselines of orders: pgbench running the statements of one order, prepared, over as many connections as the
//! server's pool has.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::process::Command;
use tokio_postgres::Client;
use waybill_sandbox::programs;

use super::script::{CONNECTIONS, Script};
use crate::server::Server;
use crate::world::{World, connect};
use testkit::benchmark::pgbench_output::transactions_per_second;

/// A script on a database.
pub struct Pgbench {
    program: PathBuf,
    file: PathBuf,
    constants: Vec<(String, String)>,
    /// What the keys of its orders begin with.
    keys: &'static str,
    database_url: String,
    runs: AtomicU64,
}

impl Pgbench {
    /// This script, to be run on the server's database.
    pub async fn of(world: &World, server: &Server, script: Script) -> Pgbench {
        let program = programs::postgres().unwrap().postgres.with_file_name("pgbench");
        assert!(
            program.exists(),
            "pgbench is not beside {}: install postgresql (Debian) or postgresql-contrib",
            program.display()
        );
        let file = world.path(&format!("{}.sql", script.name));
        fs::write(&file, &script.text).unwrap();
        if let Ok(copy) = std::env::var("BENCH_SCRIPT_COPY") {
            fs::write(copy, &script.text).unwrap();
        }
        Pgbench {
            program,
            file,
            constants: script.constants,
            keys: script.keys,
            database_url: world.create_database(&server.database).await,
            runs: AtomicU64::new(script.first_turn),
        }
    }

    /// Orders a second of one turn.
    pub async fn run(&self, time: Duration) -> f64 {
        // A counter of its own for each turn; four billion orders are enough for one.
        let first = self.runs.fetch_add(1, Ordering::Relaxed) << 32;
        let mut pgbench = Command::new(&self.program);
        pgbench
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
            .arg(format!("--client={CONNECTIONS}"))
            .arg(format!("--time={}", time.as_secs().max(1)))
            .arg(format!("--define=turn={first}"))
            .arg("--file")
            .arg(&self.file);
        for (name, value) in &self.constants {
            pgbench.arg(format!("--define={name}={value}"));
        }
        let output = pgbench
            .arg(&self.database_url)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let (printed, errors) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success() && !errors.contains("ERROR"),
            "{printed}{errors}"
        );
        transactions_per_second(&printed).expect(&printed)
    }

    /// What it did is what an order is: a statement that finds no row is fast, and no order.
    pub async fn assert_served(&self) {
        let count = "select count(*), count(*) filter (where s.status = 'succeeded' and s.response_body is not null
                                                        and p.order_id is not null and t.state = 'succeeded'
                                                        and a.release_reason = 'completed')
                       from order_sagas s
                       left join payments p using (order_id)
                       left join payment_attempts t using (order_id)
                       left join order_assignments a using (order_id)
                      where s.idempotency_key like $1";
        let sql: Client = connect(&self.database_url).await;
        let keys = format!("{}%", self.keys);
        let counted = sql.query_one(count, &[&keys]).await.unwrap();
        let (orders, served): (i64, i64) = (counted.get(0), counted.get(1));
        assert!(
            orders > 0 && orders == served,
            "{served} of {orders} orders of pgbench are served"
        );
    }
}
