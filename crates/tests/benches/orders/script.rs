//! The recorded order as a script of pgbench, and its turns.
//!
//! A statement stays as it is; only its parameters become variables. What is the order's own in them comes from a
//! counter: ids grow with time, as ours do, so that they too are put at the right of every index. What the program
//! reads from an answer (the driver, its sequence) the script reads from it too.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::process::Command;
use waybill_sandbox::binaries;

use super::CONNECTIONS;
use super::load::drivers_of;
use super::recording::{Executed, Recording};
use super::world::World;

/// The order's id of the turn.
const ID: &str = "lpad(to_hex(:id::bigint), 32, '0')::uuid";

fn is_write_without_answer(sql: &str) -> bool {
    (sql.starts_with("insert") || sql.starts_with("update")) && !sql.contains("returning")
}

/// A script, and the constants that it is run with.
pub struct Script {
    text: String,
    constants: Vec<(String, String)>,
    runs: AtomicU64,
}

impl Script {
    /// The script of an order.
    pub fn of(recording: &Recording) -> Script {
        let mut script = Script {
            text: format!("\\set turn :turn + 1\n\\set id :turn * {CONNECTIONS} + :client_id\n"),
            constants: Vec::new(),
            runs: AtomicU64::new(0),
        };
        // What nobody waits for an answer of goes out together, as the program sends it.
        let mut together = Vec::new();
        for one in &recording.statements {
            let sql = script.with_variables(one, &recording.own);
            if is_write_without_answer(&sql) {
                together.push(sql);
                continue;
            }
            script.send(&mut together);
            // What later statements are given.
            let is_given = sql.contains("returning assignment_seq") || sql.starts_with("select driver_id");
            let end = if is_given { " \\gset" } else { ";" };
            writeln!(script.text, "{sql}{end}").unwrap();
        }
        script
    }

    /// Writes what has come together.
    fn send(&mut self, together: &mut Vec<String>) {
        let (begin, end) = match together.len() {
            0 | 1 => ("", ""),
            _ => ("\\startpipeline\n", "\\endpipeline\n"),
        };
        self.text.push_str(begin);
        for sql in together.drain(..) {
            writeln!(self.text, "{sql};").unwrap();
        }
        self.text.push_str(end);
    }

    fn with_variables(&mut self, one: &Executed, own: &HashMap<String, &'static str>) -> String {
        let mut sql = String::new();
        let mut rest = one.sql.as_str();
        while let Some((before, after)) = rest.split_once('$') {
            let digits = after.len() - after.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
            let number: usize = after[..digits].parse().expect("the number of a parameter");
            sql.push_str(before);
            sql.push_str(&self.expression(one.parameters[number - 1].as_deref(), own));
            rest = &after[digits..];
        }
        sql + rest
    }

    fn expression(&mut self, value: Option<&str>, own: &HashMap<String, &'static str>) -> String {
        let Some(value) = value else { return "null".to_owned() };
        // pgbench takes no empty constant.
        if value.is_empty() {
            return "''".to_owned();
        }
        match own.get(value) {
            Some(&"order") => return ID.to_owned(),
            Some(&"driver") => return ":driver_id".to_owned(),
            Some(&"sequence") => return ":assignment_seq".to_owned(),
            Some(name) => return format!("('{name}-of-the-bench-' || :id::bigint)"),
            None => {}
        }
        if let Some((order, _)) = own
            .iter()
            .find(|(text, name)| **name == "order" && value.contains(*text))
        {
            let (before, after) = value.split_once(order.as_str()).unwrap();
            return format!("('{before}' || {ID} || '{after}')");
        }
        let name = format!("constant{}", self.constants.len());
        let drivers = drivers_of(0);
        let expression = if value.starts_with('{') && value.contains(&drivers) {
            format!("replace(:{name}, '{drivers}', 'cab-of-' || :client_id::bigint || '-')::text[]")
        } else {
            format!(":{name}")
        };
        self.constants.push((name, value.to_owned()));
        expression
    }

    /// Puts it where pgbench reads it.
    pub fn write(&self, world: &World) {
        fs::write(world.script(), &self.text).unwrap();
        if let Ok(copy) = std::env::var("BENCH_SCRIPT_COPY") {
            fs::write(copy, &self.text).unwrap();
        }
    }

    /// What it did is what an order is: a statement that finds no row is fast, and no order.
    pub async fn assert_served(world: &World) {
        let count = "select count(*), count(*) filter (where s.status = 'succeeded' and s.response_body is not null
                                                        and p.order_id is not null and t.state = 'succeeded'
                                                        and a.release_reason = 'completed')
                       from order_sagas s
                       left join payments p using (order_id)
                       left join payment_attempts t using (order_id)
                       left join order_assignments a using (order_id)
                      where s.idempotency_key like 'key-of-the-bench-%'";
        let counted = world.sql.query_one(count, &[]).await.unwrap();
        let (orders, served): (i64, i64) = (counted.get(0), counted.get(1));
        assert!(
            orders > 0 && orders == served,
            "{served} of {orders} orders of pgbench are served"
        );
    }

    /// Orders a second of one turn.
    pub async fn run(&self, world: &World, time: Duration) -> f64 {
        let program = binaries::postgres().unwrap().postgres.with_file_name("pgbench");
        assert!(
            program.exists(),
            "pgbench is not beside {}: install postgresql (Debian) or postgresql-contrib",
            program.display()
        );
        // A counter of its own for each turn; four billion orders are enough for one.
        let first = self.runs.fetch_add(1, Ordering::Relaxed) << 32;
        let mut pgbench = Command::new(program);
        pgbench
            .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
            .arg(format!("--client={CONNECTIONS}"))
            .arg(format!("--time={}", time.as_secs().max(1)))
            .arg(format!("--define=turn={first}"))
            .arg("--file")
            .arg(world.script());
        for (name, value) in &self.constants {
            pgbench.arg(format!("--define={name}={value}"));
        }
        let output = pgbench
            .arg(world.database_url())
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let (told, errors) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success() && !errors.contains("ERROR"), "{told}{errors}");
        let rate = told.lines().find_map(|line| line.strip_prefix("tps = "));
        let rate = rate.and_then(|rate| rate.split(' ').next());
        rate.expect(&told).parse().unwrap()
    }
}
