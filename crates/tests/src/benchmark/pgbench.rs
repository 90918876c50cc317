//! The baselines of orders: pgbench running the statements of one order, prepared, over as many connections as the
//! server's pool has, or as those of several servers have together.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::process::Command;
use tokio_postgres::Client;
use waybill_sandbox::programs;

use super::pgbench_output::transactions_per_second;
use crate::sql::connect;

/// Connections of each side: what a server's pool has by default.
pub const CONNECTIONS: usize = 16;

/// The order's id of the turn.
pub const ID: &str = "lpad(to_hex(:id::bigint), 32, '0')::uuid";

/// The payment's key of the turn: a hash of the request, as ours is.
pub const PAYMENT_KEY: &str = "('waybill-' || md5((:id::bigint)::text))";

/// A script, and the constants that it is run with.
pub struct Script {
    /// Of its file.
    pub name: &'static str,
    /// What the keys of its orders begin with.
    pub keys: &'static str,
    /// From where its turns are counted, so that no two scripts make the same ids.
    pub first_turn: u64,
    /// What pgbench reads.
    pub text: String,
    /// Names and values.
    pub constants: Vec<(String, String)>,
}

impl Script {
    /// This one, after which `id` is the number of the order, over so many connections at most.
    pub fn new(name: &'static str, keys: &'static str, first_turn: u64, connections: usize, text: &str) -> Script {
        Script {
            name,
            keys,
            first_turn,
            text: format!("\\set turn :turn + 1\n\\set id :turn * {connections} + :client_id\n{text}"),
            constants: Vec::new(),
        }
    }
}

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
    /// This script, to be run on this database from a file in this folder.
    pub fn new(script: Script, folder: &Path, database_url: String) -> Pgbench {
        let program = programs::postgres().unwrap().postgres.with_file_name("pgbench");
        assert!(
            program.exists(),
            "pgbench is not beside {}: install postgresql (Debian) or postgresql-contrib",
            program.display()
        );
        let file = folder.join(format!("{}.sql", script.name));
        fs::write(&file, &script.text).unwrap();
        if let Ok(copy) = std::env::var("BENCH_SCRIPT_COPY") {
            fs::write(copy, &script.text).unwrap();
        }
        Pgbench {
            program,
            file,
            constants: script.constants,
            keys: script.keys,
            database_url,
            runs: AtomicU64::new(script.first_turn),
        }
    }

    /// Orders a second of one turn, over as many connections as a server has.
    pub async fn run(&self, time: Duration) -> f64 {
        self.run_over(CONNECTIONS, time).await
    }

    /// The same over so many connections.
    pub async fn run_over(&self, connections: usize, time: Duration) -> f64 {
        // A counter of its own for each turn; four billion orders are enough for one.
        let first = self.runs.fetch_add(1, Ordering::Relaxed) << 32;
        let mut pgbench = Command::new(&self.program);
        pgbench
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
            .arg(format!("--client={connections}"))
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
        let sql: Client = connect(&self.database_url).await.unwrap();
        let keys = format!("{}%", self.keys);
        let counted = sql.query_one(count, &[&keys]).await.unwrap();
        let (orders, served): (i64, i64) = (counted.get(0), counted.get(1));
        assert!(
            orders > 0 && orders == served,
            "{served} of {orders} orders of pgbench are served"
        );
    }
}
