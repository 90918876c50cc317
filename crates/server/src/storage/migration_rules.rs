//! What a migration may do beside servers that work: it reads and writes no table while it holds a lock that they need, so that each of its locks is over
//! in a moment. For the tests of [`migrations`](super::migrations).
//!
//! A statement is allowed if it is known to be so, and refused if it is anything else. A table that the same transaction makes is no one's yet, so all may be
//! done to it.

/// Words of a statement.
type Words<'a> = &'a [&'a str];

/// Types of columns that can be added without a look at the rows. A domain may have a check of its own, and `serial` numbers all rows.
const TYPES: &str = "bigint boolean bytea date double inet int integer interval json jsonb numeric real smallint text timestamptz uuid \
                     varchar xid8";

const UNKNOWN: &str = "is not known to keep no one waiting: see migration_rules.rs";

/// What of a migration that runs in a transaction would keep servers waiting, with the reason.
pub(super) fn refused_in_a_transaction(sql: &str) -> Vec<String> {
    let statements = statements(sql);
    let mut made = Vec::new();
    let mut refused = Vec::new();
    for statement in &statements {
        let words: Vec<&str> = statement.iter().map(String::as_str).collect();
        if let ["create", "table", name, "(", ..] = words.as_slice()
            && !words.contains(&"select")
        {
            made.push(*name);
        } else if let Some(why) = of_statement(&words, &made) {
            refused.push(format!("{}: {why}", words.join(" ")));
        }
    }
    refused
}

/// What of a migration whose statements run one by one would keep servers waiting, or cannot be interrupted and begun anew.
pub(super) fn refused_outside(sql: &str) -> Vec<String> {
    let statements = statements(sql);
    let refused = statements.iter().filter(|statement| {
        let words: Vec<&str> = statement.iter().map(String::as_str).collect();
        !matches!(
            words.as_slice(),
            ["create", "index", "concurrently", "if", "not", "exists", ..]
                | ["create", "unique", "index", "concurrently", "if", "not", "exists", ..]
                | ["drop", "index", "concurrently", "if", "exists", ..]
                // One that is valid stays so, and no writer waits for who reads the table meanwhile.
                | ["alter", "table", _, "validate", "constraint", _]
        )
    });
    refused
        .map(|statement| {
            format!(
                "{}: cannot be interrupted and begun anew beside the work",
                statement.join(" ")
            )
        })
        .collect()
}

/// Why a statement is refused in a transaction that made these tables.
fn of_statement(words: Words<'_>, made: &[&str]) -> Option<&'static str> {
    match words {
        ["create", "index", _, "on", table, ..]
        | ["create", "unique", "index", _, "on", table, ..]
        | ["alter", "table", table, ..]
            if made.contains(table) =>
        {
            None
        }
        ["insert", "into", table, rest @ ..] if made.contains(table) && !rest.contains(&"select") => None,
        _ if is_quick(words) => None,
        ["alter", "table", "only", _, actions @ ..] | ["alter", "table", _, actions @ ..] => of_actions(actions),
        ["create", "index", ..] | ["create", "unique", "index", ..] => {
            Some("keeps writers waiting while it reads the table: make it concurrently, outside a transaction")
        }
        ["drop", "index", ..] => {
            Some("keeps all waiting until it has the table: drop it concurrently, outside a transaction")
        }
        ["insert" | "update" | "delete" | "select" | "with" | "do", ..] => {
            Some("works on rows while the locks of the transaction are held")
        }
        _ => Some(UNKNOWN),
    }
}

/// Whether a statement only changes the catalogue.
fn is_quick(words: Words<'_>) -> bool {
    matches!(
        words,
        ["create" | "drop", "function" | "trigger" | "type", ..]
            | ["create", "or", "replace", "function" | "trigger", ..]
            | ["comment", "on", ..]
            | ["drop", "table", ..]
    )
}

/// Why one of the actions of an `alter table` is refused. They are parted by the commas that are in no brackets.
fn of_actions(actions: Words<'_>) -> Option<&'static str> {
    let mut depth = 0;
    let mut parts = actions.split(|word| {
        depth += match *word {
            "(" | "[" => 1,
            ")" | "]" => -1,
            _ => 0,
        };
        depth == 0 && *word == ","
    });
    parts.find_map(of_action)
}

fn of_action(action: Words<'_>) -> Option<&'static str> {
    if is_quick_action(action) {
        return None;
    }
    match action {
        ["add", "column", definition @ ..] => of_column(definition),
        [
            "add",
            "constraint" | "check" | "foreign" | "unique" | "primary" | "exclude",
            ..,
        ] => Some(
            "reads the table under a lock: name it and add it `not valid`, or, of what is unique, `using index` of one that was made before",
        ),
        ["alter", "column", _, "set", "not", "null"] => {
            Some("reads the table under a lock: add a check that it is not null, `not valid`, and validate that")
        }
        ["alter", "column", _, "type", ..] | ["alter", "column", _, "set", "data", "type", ..] => {
            Some("may write the table anew under a lock: add a column, and fill it by and by")
        }
        ["validate", ..] => {
            Some("reads the table while the locks of the transaction are held: validate it outside a transaction")
        }
        ["rename", ..] => Some("takes away a name that the version before uses"),
        _ => Some(UNKNOWN),
    }
}

/// Whether an action of an `alter table` only changes the catalogue.
fn is_quick_action(action: Words<'_>) -> bool {
    matches!(
        action,
        ["add", "constraint", _, "check" | "foreign", .., "not", "valid"]
            | ["add", "constraint", _, "unique", "using", "index", _]
            | ["alter", "column", _, "drop", "not", "null"]
            | ["alter", "column", _, "drop", "default"]
            | ["alter", "column", _, "set", "default" | "statistics", ..]
            | ["drop", "column" | "constraint", ..]
            | ["set" | "reset", "(", ..]
    )
}

/// Why a column cannot be added so to a table with rows.
fn of_column(definition: Words<'_>) -> Option<&'static str> {
    let definition = definition.strip_prefix(&["if", "not", "exists"]).unwrap_or(definition);
    let Some(mut rest) = definition.get(1..).and_then(after_type) else {
        return Some("is of a type that is not known to leave the rows as they are");
    };
    let (mut has_value, mut is_required) = (false, false);
    while let Some((word, after)) = rest.split_first() {
        rest = match (*word, after) {
            ("not", ["null", after @ ..]) => {
                is_required = true;
                after
            }
            ("null", after) => after,
            ("default", value) => {
                let Some(after) = after_constant(value) else {
                    return Some("may write the table anew under a lock: only a constant is kept once for all rows");
                };
                has_value = value.first() != Some(&"null");
                after
            }
            ("references" | "check" | "unique" | "primary", _) => {
                return Some("reads or locks more than the catalogue: add the constraint by itself, `not valid`");
            }
            _ => return Some(UNKNOWN),
        };
    }
    (is_required && !has_value).then_some("has no value in the rows that are there")
}

/// What follows the type of a column.
fn after_type(words: Words<'_>) -> Option<Words<'_>> {
    let (name, rest) = words.split_first()?;
    TYPES.split(' ').find(|one| one == name)?;
    let rest = rest.strip_prefix(&["precision"]).unwrap_or(rest);
    let rest = match rest {
        ["(", size @ ..] => {
            let end = size.iter().position(|word| *word == ")")?;
            size.get(end + 1..)?
        }
        _ => rest,
    };
    Some(after_brackets(rest))
}

/// What follows a constant.
fn after_constant(words: Words<'_>) -> Option<Words<'_>> {
    match words {
        // The same for all rows: it is asked once.
        ["now", "(", ")", rest @ ..] => Some(rest),
        ["-", value, rest @ ..] if is_number(value) => Some(rest),
        [value, ":", ":", _, rest @ ..] if is_constant(value) => Some(after_brackets(rest)),
        [value, rest @ ..] if is_constant(value) || is_number(value) => Some(rest),
        _ => None,
    }
}

fn is_constant(word: &str) -> bool {
    word.starts_with('\'') || ["null", "true", "false", "current_timestamp"].contains(&word)
}

fn is_number(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_digit())
}

/// What follows the brackets of an array's type, if it is one.
fn after_brackets(words: Words<'_>) -> Words<'_> {
    words.strip_prefix(&["[", "]"]).unwrap_or(words)
}

/// The statements of a file, each by its words: without comments, in small letters, and with what is in quotes or between dollars as one word.
pub(super) fn statements(sql: &str) -> Vec<Vec<String>> {
    let mut statements = Vec::new();
    let mut statement = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '\'' | '"' => quoted_end(rest, first),
            '$' => dollars_end(rest).unwrap_or(1),
            _ if is_of_name(first) => rest.find(|letter: char| !is_of_name(letter)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (word, after) = rest.split_at(end);
        rest = after.trim_start();
        if word == ";" {
            statements.push(std::mem::take(&mut statement));
        } else if !word.starts_with("--") {
            statement.push(word.to_lowercase());
        }
    }
    statements.push(statement);
    statements.retain(|statement| !statement.is_empty());
    statements
}

fn is_of_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '.'
}

/// Where the quote with which the text begins is closed. Two of them within are one.
fn quoted_end(text: &str, quote: char) -> usize {
    let mut letters = text.char_indices().skip(1).peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == quote && letters.next_if(|(_, next)| *next == quote).is_none() {
            return at + 1;
        }
    }
    text.len()
}

/// Where what is between `$$` and `$$`, or `$name$` and `$name$`, ends.
fn dollars_end(text: &str) -> Option<usize> {
    let (name, _) = text.strip_prefix('$')?.split_once('$')?;
    let mark = name.chars().all(is_of_name).then(|| format!("${name}$"))?;
    let begins_at = mark.len();
    Some(begins_at + text.get(begins_at..)?.find(&mark)? + mark.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_catalogue_alone_is_allowed_in_a_transaction() {
        let allowed = [
            "create table lines (id bigint primary key, order_id uuid references order_sagas (order_id), at timestamptz default clock_timestamp());
             create index lines_at on lines (at);
             create unique index lines_order on lines (order_id);
             alter table lines alter column at set not null;
             insert into lines (id) values (1)",
            "alter table drivers add column note text",
            "alter table only drivers add column if not exists note text",
            "alter table drivers add column note text null, add column hours integer",
            "alter table drivers add column note text not null default 'it''s; -- not'",
            "alter table drivers add column \"a, b\" text default ''",
            "alter table drivers add column seen_at timestamptz not null default now()",
            "alter table drivers add column seen_at timestamptz default current_timestamp",
            "alter table drivers add column tags text[] not null default '{}'::text[], add column more jsonb default '{}'::jsonb",
            "alter table drivers add column share numeric(12, 2) default 0.5, add column height double precision default -1",
            "alter table drivers add column is_new boolean default false not null",
            "alter table drivers add constraint drivers_hours check (hours > 0) not valid",
            "alter table drivers add constraint drivers_order foreign key (active_order_id) references order_sagas (order_id) not valid",
            "alter table drivers add constraint drivers_note unique using index drivers_note",
            "alter table drivers alter column note drop not null, alter column note drop default",
            "alter table drivers alter column note set default random()::text",
            "alter table drivers alter column note set statistics 500",
            "alter table drivers drop constraint drivers_hours, drop column if exists hours",
            "alter table drivers set (fillfactor = 90)",
            "create or replace function f() returns trigger language plpgsql as $$ begin update drivers set note = ''; return new; end $$",
            "create function f() returns trigger language plpgsql as $of$ begin perform $$;$$; return new; end $of$",
            "create trigger t before update on drivers for each row execute function f(); drop trigger t on drivers; drop function f()",
            "comment on table drivers is 'those who serve'; create type kind as enum ('a'); drop table old_lines",
            "-- create index i on drivers (note);\n",
        ];
        for sql in allowed {
            assert_eq!(refused_in_a_transaction(sql), Vec::<String>::new(), "{sql}");
        }
    }

    #[test]
    fn what_reads_or_writes_a_table_under_a_lock_is_refused_in_a_transaction() {
        let refused: [(&str, &[&str]); 11] = [
            (
                "writers waiting",
                &[
                    "create index i on drivers (note)",
                    "create unique index i on drivers (note)",
                    "CREATE INDEX i ON drivers (note)",
                    "create index concurrently if not exists i on drivers (note)",
                    "create table lines (id int); create index i on drivers (note)",
                ],
            ),
            (
                "drop it concurrently",
                &["drop index i", "drop index concurrently if exists i"],
            ),
            (
                "add it `not valid`, or, of what is unique, `using index`",
                &[
                    "alter table drivers add constraint c check (hours > 0)",
                    "alter table drivers add check (hours > 0)",
                    "alter table drivers add column a int, add constraint c check (a in (1, 2))",
                    "alter table drivers add constraint c foreign key (a) references order_sagas (order_id)",
                    "alter table drivers add foreign key (a) references order_sagas (order_id)",
                    "alter table drivers add constraint c unique (note)",
                    "alter table drivers add primary key (note)",
                    "alter table drivers add constraint c primary key using index i",
                    "alter table drivers add constraint c exclude (note with =)",
                ],
            ),
            (
                "add the constraint by itself",
                &[
                    "alter table drivers add column a uuid references order_sagas (order_id)",
                    "alter table drivers add column a int check (a > 0)",
                    "alter table drivers add column a int unique",
                    "alter table drivers add column a int primary key",
                ],
            ),
            (
                "add a check that it is not null",
                &["alter table drivers alter column note set not null"],
            ),
            (
                "fill it by and by",
                &[
                    "alter table drivers alter column note type varchar(20)",
                    "alter table drivers alter column note set data type bytea",
                ],
            ),
            (
                "validate it outside a transaction",
                &["alter table drivers validate constraint c"],
            ),
            (
                "only a constant",
                &[
                    "alter table drivers add column a uuid default gen_random_uuid()",
                    "alter table drivers add column a double precision default random()",
                    "alter table drivers add column a timestamptz default clock_timestamp()",
                    "alter table drivers add column a bigint default nextval('s')",
                    "alter table drivers add column a int default (1)",
                ],
            ),
            (
                "a type that is not known",
                &[
                    "alter table drivers add column a bigserial",
                    "alter table drivers add column a a_domain",
                ],
            ),
            (
                "no value",
                &[
                    "alter table drivers add column a int not null",
                    "alter table drivers add column a int not null default null",
                ],
            ),
            (
                "works on rows",
                &[
                    "update drivers set note = ''",
                    "delete from drivers",
                    "insert into drivers values ('cab-1')",
                    "create table lines (id text); insert into lines select driver_id from drivers",
                    "with gone as (delete from drivers returning 1) select 1",
                    "select f()",
                    "do $$ begin update drivers set note = ''; end $$",
                ],
            ),
        ];
        for (why, statements) in refused {
            for sql in statements {
                assert_refused(sql, why);
            }
        }
    }

    #[test]
    fn what_takes_a_name_away_or_is_not_known_is_refused_in_a_transaction() {
        for sql in [
            "alter table drivers rename column note to remark",
            "alter table drivers rename to people",
        ] {
            assert_refused(sql, "the version before");
        }
        for sql in [
            "create table if not exists lines (id int)",
            "create table lines partition of driver_locations default",
            "create table lines as select * from drivers",
            "create table lines (id) as select driver_id from drivers",
            "alter table drivers",
            "alter table if exists drivers add column a int",
            "alter table drivers add a int",
            "alter table drivers add column a int default 1 + random()",
            "alter table drivers add column a text default 'a' || random()",
            "alter table drivers add column a int generated always as (hours * 2) stored",
            "alter table drivers add column a bigint generated always as identity",
            "alter table drivers set logged",
            "alter table drivers set tablespace other",
            "alter table driver_locations attach partition p for values from (1) to (2)",
            "lock table drivers in access exclusive mode",
            "cluster drivers using i",
            "reindex table drivers",
            "truncate drivers",
            "refresh materialized view v",
            "set lock_timeout = 0",
        ] {
            assert_refused(sql, UNKNOWN);
        }
    }

    fn assert_refused(sql: &str, why: &str) {
        let found = refused_in_a_transaction(sql);
        assert!(found.len() == 1 && found[0].contains(why), "{sql}: {found:?}");
    }

    #[test]
    fn outside_a_transaction_indexes_come_and_go_beside_the_work_and_constraints_are_validated() {
        let allowed = [
            "create index concurrently if not exists i on drivers (note)",
            "create unique index concurrently if not exists i on drivers (note) where note <> ';'",
            "drop index concurrently if exists i",
            "alter table drivers validate constraint drivers_hours",
        ];
        assert_eq!(refused_outside(&allowed.join(";\n")), Vec::<String>::new());
        let refused = [
            "create index i on drivers (note)",
            "create index if not exists i on drivers (note)",
            "create index concurrently i on drivers (note)",
            "create unique index concurrently i on drivers (note)",
            "drop index i",
            "drop index concurrently i",
            "alter table drivers add column note text",
            "alter table drivers validate constraint c, alter column note set not null",
            "alter table drivers add constraint c check (hours > 0) not valid",
            "update drivers set note = ''",
            "vacuum drivers",
        ];
        for sql in refused {
            assert_eq!(refused_outside(sql).len(), 1, "{sql}");
        }
    }

    #[test]
    fn a_statement_ends_where_postgres_ends_it() {
        let sql = "select ';', \"a;b\", 'it''s;' -- ;\n, $$;$$, $of$ ; $$ ; $of$ ; -- the last\nSELECT 2";
        let statements = statements(sql);
        let words = |index: usize| statements[index].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(statements.len(), 2, "{statements:?}");
        assert_eq!(words(0).last(), Some(&"$of$ ; $$ ; $of$"));
        assert_eq!(words(1), ["select", "2"]);
    }
}
