//! What one order says to Postgres, word for word, out of Postgres's own log: no copy of a statement to grow old.

use std::collections::HashMap;

use super::load::{self, Load};
use super::world::World;

/// One statement as it was run.
#[derive(Debug, Clone)]
pub struct Executed {
    /// With `$1` and so on in it.
    pub sql: String,
    /// Their values as text; `None` is null.
    pub parameters: Vec<Option<String>>,
}

/// The transactions of one order, with their begins and commits, in the order in which they were made.
#[derive(Debug)]
pub struct Recording {
    /// Every statement, `START TRANSACTION` and `COMMIT` too.
    pub statements: Vec<Executed>,
    /// What is the order's own in the parameters: the value, and the name of what it is.
    pub own: HashMap<String, &'static str>,
}

/// Where the driver's sequence stands before: a number that no other parameter has.
const SEQUENCE: i64 = 770_000;

impl Recording {
    /// Serves one order while Postgres logs.
    pub async fn of_one_order(world: &World, load: &Load) -> Recording {
        let drivers = load::drivers_of(0);
        // One order before, so that caches, prepared statements and the drivers' rows are there.
        load::serve(load.channel(), load::request(0)).await;
        let mark = format!("update drivers set assignment_seq = {SEQUENCE} where driver_id like '{drivers}%'");
        world.sql.execute(mark.as_str(), &[]).await.unwrap();

        set(world, "log_line_prefix", "'%p|'").await;
        set(world, "log_statement", "'all'").await;
        let begun_at = world.postgres_log().len();
        let request = load::request(0);
        let order = load::serve(load.channel(), request.clone()).await;
        let log = world.postgres_log()[begun_at..].to_owned();
        world.sql.batch_execute("alter system reset all").await.unwrap();
        reload(world).await;

        let provider_id = "select provider_charge_id from payments where order_id::text = $1";
        let provider_id = world.sql.query_one(provider_id, &[&order.order_id]).await.unwrap();
        let own = HashMap::from([
            (order.order_id.clone(), "order"),
            (request.idempotency_key, "key"),
            (request.user_id, "user"),
            (provider_id.get(0), "charge"),
            (order.assignment.unwrap().driver_id, "driver"),
            ((SEQUENCE + 1).to_string(), "sequence"),
            ((SEQUENCE + 2).to_string(), "sequence"),
        ]);
        let statements = of_order(&parse(&log), &order.order_id);
        Recording { statements, own }
    }

    /// How much it is.
    pub fn summary(&self) -> String {
        let commits = self.statements.iter().filter(|one| one.sql == "COMMIT").count();
        format!(
            "an order, placed and completed: {} statements in {commits} transactions, and their begins and commits",
            self.statements.len() - 2 * commits,
        )
    }
}

async fn set(world: &World, name: &str, value: &str) {
    let statement = format!("alter system set {name} = {value}");
    world.sql.batch_execute(&statement).await.unwrap();
    reload(world).await;
}

/// Every session takes the setting over before its next statement.
async fn reload(world: &World) {
    world.sql.batch_execute("select pg_reload_conf()").await.unwrap();
    // The postmaster has told all others when it has told us.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
}

/// The statements of the log with the session of each.
fn parse(log: &str) -> Vec<(String, Executed)> {
    let mut found: Vec<(String, Executed)> = Vec::new();
    // A line that begins with a tab goes on with the one before.
    for line in log
        .replace("\n\t", "\n ")
        .split_inclusive('\n')
        .fold(Vec::new(), entries)
    {
        let Some((session, text)) = line.split_once('|') else {
            continue;
        };
        if let Some(text) = text.strip_prefix("LOG:  statement: ") {
            found.push((session.to_owned(), executed(text)));
        } else if let Some(text) = text.strip_prefix("LOG:  execute ") {
            found.push((session.to_owned(), executed(text.split_once(": ").expect("a name").1)));
        } else if let Some(text) = text.strip_prefix("DETAIL:  parameters: ") {
            let last = found.iter_mut().rfind(|(of, _)| of == session);
            last.expect("a statement").1.parameters = parameters(text.trim_end());
        }
    }
    found
}

/// Lines put together to entries: an entry begins with the number of a session.
fn entries(mut entries: Vec<String>, line: &str) -> Vec<String> {
    let begins = line
        .split_once('|')
        .is_some_and(|(session, _)| !session.is_empty() && session.bytes().all(|byte| byte.is_ascii_digit()));
    match entries.last_mut() {
        Some(last) if !begins => last.push_str(line),
        _ => entries.push(line.to_owned()),
    }
    entries
}

fn executed(sql: &str) -> Executed {
    Executed {
        sql: sql.trim_end().to_owned(),
        parameters: Vec::new(),
    }
}

/// The values of `$1 = 'it''s', $2 = NULL`.
fn parameters(text: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    let mut rest = text;
    while let Some((_, value)) = rest.split_once(" = ") {
        let Some(quoted) = value.strip_prefix('\'') else {
            values.push(None);
            rest = value.strip_prefix("NULL").expect("NULL or a quoted value");
            continue;
        };
        let end = end_of_quoted(quoted);
        values.push(Some(quoted[..end].replace("''", "'")));
        rest = &quoted[end + 1..];
    }
    values
}

/// Where the closing quote is.
fn end_of_quoted(text: &str) -> usize {
    let mut at = 0;
    loop {
        at += text[at..].find('\'').expect("a closing quote");
        if !text[at + 1..].starts_with('\'') {
            return at;
        }
        at += 2;
    }
}

/// The transactions, whole, in which the order is named.
fn of_order(log: &[(String, Executed)], order: &str) -> Vec<Executed> {
    let names = |one: &Executed| one.parameters.iter().flatten().any(|value| value.contains(order));
    let mut open: HashMap<&str, Vec<Executed>> = HashMap::new();
    let mut found = Vec::new();
    for (session, one) in log {
        match (one.sql.as_str(), open.get_mut(session.as_str())) {
            ("START TRANSACTION", _) => drop(open.insert(session, vec![one.clone()])),
            ("COMMIT" | "ROLLBACK", Some(_)) => {
                let mut transaction = open.remove(session.as_str()).unwrap();
                transaction.push(one.clone());
                if transaction.iter().any(names) {
                    found.append(&mut transaction);
                }
            }
            (_, Some(transaction)) => transaction.push(one.clone()),
            (_, None) if names(one) => found.push(one.clone()),
            _ => {}
        }
    }
    found
}
