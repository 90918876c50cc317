//! Postgres's log, read: which statements were run with which parameters, and which transactions were those of one
//! order.

use std::collections::HashMap;

/// One statement as it was run.
#[derive(Debug, Clone)]
pub struct Executed {
    /// With `$1` and so on in it.
    pub sql: String,
    /// Their values as text; `None` is null.
    pub parameters: Vec<Option<String>>,
}

/// The statements of the log with the session of each.
pub fn parse(log: &str) -> Vec<(String, Executed)> {
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
pub fn of_order(log: &[(String, Executed)], order: &str) -> Vec<Executed> {
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
