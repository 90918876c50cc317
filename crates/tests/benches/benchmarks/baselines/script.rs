//! The recorded order as a script of pgbench.
//!
//! A statement stays as it is; only its parameters become variables. What is the order's own in them comes from a
//! counter: ids grow with time, as ours do, so that they too come one after the other in the indexes by order. Each connection has a driver
//! of its own.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::recording::Recording;
use crate::load::one_order::DRIVERS_PREFIX;
use testkit::benchmark::pgbench::{CONNECTIONS, ID, PAYMENT_KEY, Script};
use testkit::benchmark::statements::Executed;

/// Inserts the drivers of the connections.
pub fn insert_drivers() -> String {
    let last = CONNECTIONS - 1;
    format!(
        "insert into drivers (driver_id) select 'cab-of-' || client || '-' || driver
           from generate_series(0, {last}) client, generate_series(0, 7) driver
         on conflict do nothing"
    )
}

/// Whether nothing that follows in its transaction needs its answer.
fn is_write_that_need_not_be_awaited(sql: &str) -> bool {
    sql.starts_with("insert") || sql.starts_with("update")
}

/// The script of an order.
pub fn of(recording: &Recording) -> Script {
    let mut script = Script::new("order", "key-of-the-bench-", 0, CONNECTIONS, "");
    // What need not be awaited goes out together, also where the program awaits it: a baseline waits for nothing.
    let mut together = Vec::new();
    for one in &recording.statements {
        let sql = with_variables(one, &recording.own, &mut script.constants);
        if is_write_that_need_not_be_awaited(&sql) {
            together.push(sql);
            continue;
        }
        send(&mut together, &mut script.text);
        writeln!(script.text, "{sql};").unwrap();
    }
    script
}

/// Writes what has come together.
fn send(together: &mut Vec<String>, text: &mut String) {
    let (begin, end) = match together.len() {
        0 | 1 => ("", ""),
        _ => ("\\startpipeline\n", "\\endpipeline\n"),
    };
    text.push_str(begin);
    for sql in together.drain(..) {
        writeln!(text, "{sql};").unwrap();
    }
    text.push_str(end);
}

/// Constants: names and values.
type Constants = Vec<(String, String)>;

fn with_variables(one: &Executed, own: &HashMap<String, &'static str>, constants: &mut Constants) -> String {
    let mut sql = String::new();
    let mut rest = one.sql.as_str();
    while let Some((before, after)) = rest.split_once('$') {
        let digits = after.len() - after.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let number: usize = after[..digits].parse().expect("the number of a parameter");
        sql.push_str(before);
        sql.push_str(&expression(one.parameters[number - 1].as_deref(), own, constants));
        rest = &after[digits..];
    }
    sql + rest
}

fn expression(value: Option<&str>, own: &HashMap<String, &'static str>, constants: &mut Constants) -> String {
    let Some(value) = value else { return "null".to_owned() };
    // pgbench takes no empty constant.
    if value.is_empty() {
        return "''".to_owned();
    }
    // By itself, in an array of one, or in a longer text, as the payment's key in those of the provider.
    let found = own
        .iter()
        .find_map(|(text, name)| Some((value.split_once(text.as_str())?, of_order(name, text))));
    match found {
        Some((("", ""), own)) => own,
        // An array of one, whose type a statement need not say.
        Some((("{", "}"), own)) if own == ID => format!("array[{ID}]"),
        Some((("{", "}"), own)) => format!("array[{own}]::text[]"),
        // Of several, of which one is its own.
        Some(((before, after), own)) if before.starts_with('{') => {
            format!("('{before}' || {own} || '{after}')::text[]")
        }
        Some(((before, after), own)) => format!("('{before}' || {own} || '{after}')"),
        None => format!(":{}", constant(value, constants)),
    }
}

/// The name of a new constant with this value.
fn constant(value: &str, constants: &mut Constants) -> String {
    let name = format!("constant{}", constants.len());
    constants.push((name.clone(), value.to_owned()));
    name
}

/// What is the order's own, of the order of the turn.
fn of_order(name: &str, recorded: &str) -> String {
    match name {
        "order" => ID.to_owned(),
        "driver" => {
            let number = recorded.strip_prefix(DRIVERS_PREFIX).expect("one of ours");
            format!("('cab-of-' || :client_id::bigint || '-{number}')")
        }
        // Anywhere among the others, as those of the load. A hash takes Postgres about a microsecond.
        "payment" => PAYMENT_KEY.to_owned(),
        "user" => "('user-of-the-bench-' || md5((:id::bigint)::text))".to_owned(),
        _ => format!("('{name}-of-the-bench-' || :id::bigint)"),
    }
}
