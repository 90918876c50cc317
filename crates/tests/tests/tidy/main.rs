//! The rules of this repository that its text can show. Each message says what to do.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that are longer than a file should be, and why.
const LONG: &[(&str, &str)] = &[
    (
        "crates/sandbox/tests/it/payments.rs",
        "one provider, tested rule by rule of Stripe's",
    ),
    (
        "crates/server/tests/payments_client.rs",
        "one client against one scripted provider",
    ),
];
const LINES_MAX: usize = 500;

/// Where tests may pause, and why.
const PAUSES: &[(&str, &str)] = &[
    ("crates/tests/tests/e2e/rig/until.rs", "the poll of a condition"),
    (
        "crates/tests/tests/e2e/kill.rs",
        "a victim lives for a random time before it is killed",
    ),
    (
        "crates/tests/tests/torture/chance.rs",
        "lives, faults and rides are times that are drawn",
    ),
    ("crates/sandbox/tests/it/wait.rs", "the poll of a condition"),
    ("crates/server/tests/edge/rig.rs", "the poll of a condition"),
    (
        "crates/server/tests/payments_client.rs",
        "the breaker says itself when it will let a probe through",
    ),
];

/// A file of the repository.
struct File {
    /// From the root, with slashes.
    path: String,
    text: String,
}

impl File {
    /// `path:line` of each line, comments too, that has one of the words.
    fn text_with(&self, words: &[&str]) -> Vec<String> {
        let lines = self.text.lines().enumerate();
        lines
            .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
            .map(|(number, line)| format!("{}:{}: {}", self.path, number + 1, line.trim()))
            .collect()
    }

    /// `path:line` of each line, comments left out, that has one of the words.
    fn lines_with<'a>(&'a self, words: &'a [&str]) -> impl Iterator<Item = String> + 'a {
        let is_comment = |line: &str| ["//", "--", "#"].iter().any(|mark| line.trim_start().starts_with(mark));
        let lines = self.text.lines().enumerate();
        lines
            .filter(move |(_, line)| !is_comment(line) || line.trim_start().starts_with("#["))
            .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
            .map(|(number, line)| format!("{}:{}: {}", self.path, number + 1, line.trim()))
    }

    fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// All files below these places of the root with one of these endings.
fn files(places: &[&str], endings: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = places.iter().map(|place| root().join(place)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            open.extend(entries.filter(|entry| !entry.ends_with("target")));
        } else if path
            .extension()
            .is_some_and(|ending| endings.iter().any(|one| ending == *one))
        {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            let text = fs::read_to_string(&path).unwrap();
            found.push(File { path: name, text });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(
        !found.is_empty(),
        "nothing found in {places:?}: the rule looks at the wrong place"
    );
    found
}

fn rust(place: &str) -> Vec<File> {
    files(&[place], &["rs"])
}

fn refuse(offences: &[String], what_to_do: &str) {
    assert!(offences.is_empty(), "{what_to_do}:\n  {}", offences.join("\n  "));
}

#[test]
fn sql_and_redis_commands_are_in_storage_only() {
    let words = [
        "tokio_postgres",
        "deadpool_postgres",
        "redis::cmd",
        "redis::pipe",
        "redis::Script",
        "redis::aio",
        "AsyncCommands",
        "batch_execute",
        "\"select ",
        "\"insert into ",
        "\"delete from ",
        "\"update ",
        "\"create table ",
    ];
    let mut files = rust("crates/server/src");
    files.retain(|file| !file.is_under(&["crates/server/src/storage/"]));
    for place in ["crates/simulator/src", "crates/waybill/src", "crates/domain/src"] {
        files.extend(rust(place));
    }
    let offences: Vec<_> = files.iter().flat_map(|file| file.lines_with(&words)).collect();
    refuse(
        &offences,
        "give the store a method in crates/server/src/storage that owns the whole transaction",
    );
}

#[test]
fn no_protobuf_type_goes_past_the_grpc_face() {
    // The root assembles the services; the metrics count calls by gRPC's own status codes.
    let faces = [
        "crates/server/src/grpc/",
        "crates/server/src/app/",
        "crates/server/src/metrics/grpc.rs",
    ];
    let mut files = rust("crates/server/src");
    files.retain(|file| !file.is_under(&faces));
    files.extend(rust("crates/domain/src"));
    let words = ["tonic::", "tonic_", "waybill_proto", "prost::", "prost_types"];
    let offences: Vec<_> = files.iter().flat_map(|file| file.lines_with(&words)).collect();
    refuse(
        &offences,
        "parse into domain types in crates/server/src/grpc, and render there",
    );
}

#[test]
fn the_domain_has_no_clock_no_chance_and_no_input_or_output() {
    let words = [
        "Timestamp::now",
        "Zoned::now",
        "Instant",
        "SystemTime",
        "rand::",
        "now_v7",
        "new_v4",
        "std::fs",
        "std::net",
        "std::io",
        "std::env",
        "tokio",
        "async fn",
        "println!",
    ];
    let offences: Vec<_> = rust("crates/domain/src")
        .iter()
        .flat_map(|file| file.lines_with(&words).collect::<Vec<_>>())
        .collect();
    refuse(
        &offences,
        "take times, random numbers and ids as arguments; act in crates/server",
    );
}

#[test]
fn no_part_past_the_root_knows_the_whole_configuration() {
    let mut files = rust("crates/server/src");
    files.retain(|file| !file.is_under(&["crates/server/src/app/", "crates/server/src/config.rs"]));
    let words = ["crate::config", "super::config", "config::Config"];
    let offences: Vec<_> = files.iter().flat_map(|file| file.lines_with(&words)).collect();
    refuse(
        &offences,
        "give the part a Settings of its own, made in crates/server/src/app/settings.rs",
    );
}

#[test]
fn nothing_is_left_for_later() {
    // In pieces, or this file would be its own offence.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[", "ignore"),
    ];
    let files = files(
        &["crates", "migrations", "proto", "config"],
        &["rs", "sql", "proto", "toml"],
    );
    let mut offences: Vec<String> = files.iter().flat_map(|file| file.text_with(&words)).collect();
    // Not a test at all: what a test starts this binary as, to be killed.
    offences.retain(|line| !line.contains(concat!("#[", "ignore = \"runs only as the ")));
    refuse(&offences, "do it now, or write down in an ADR why not");
}

#[test]
fn no_test_sleeps() {
    let words = [concat!("sle", "ep("), concat!("sleep_", "until(")];
    let mut offences = Vec::new();
    for place in ["crates/tests/tests", "crates/server/tests", "crates/sandbox/tests"] {
        let mut files = rust(place);
        files.retain(|file| !PAUSES.iter().any(|(path, _)| file.path == *path));
        offences.extend(
            files
                .iter()
                .flat_map(|file| file.lines_with(&words).collect::<Vec<_>>()),
        );
    }
    refuse(
        &offences,
        "wait for the condition with `until`, which fails with the last state at its deadline",
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut offences = Vec::new();
    for file in rust("crates") {
        let first = file.text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") {
            offences.push(format!("{}: {first:?}", file.path));
        }
    }
    refuse(
        &offences,
        "begin the file with a `//!` line: what it is for, and what it leaves to others",
    );
}

#[test]
fn no_file_is_longer_than_a_reader_likes() {
    let mut offences = Vec::new();
    for file in rust("crates") {
        let lines = file.text.lines().count();
        if lines > LINES_MAX && !LONG.iter().any(|(path, _)| file.path == *path) {
            offences.push(format!("{}: {lines} lines", file.path));
        }
    }
    refuse(
        &offences,
        "split it by idea, at most 500 lines a file; or name it in LONG with the reason",
    );
}

#[test]
fn exceptions_are_of_files_that_exist() {
    let gone = LONG
        .iter()
        .chain(PAUSES)
        .filter(|(path, _)| !root().join(path).is_file());
    refuse(
        &gone.map(|(path, _)| (*path).to_owned()).collect::<Vec<_>>(),
        "remove the exception of a file that is gone",
    );
}

#[test]
fn migrations_are_numbered_without_a_gap_and_named() {
    let mut offences = Vec::new();
    for (index, file) in files(&["migrations"], &["sql"]).iter().enumerate() {
        let name = file.path.trim_start_matches("migrations/").trim_end_matches(".sql");
        let number = format!("{:04}_", index + 1);
        let is_named = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if !name.strip_prefix(&number).is_some_and(is_named) {
            offences.push(format!("{}: expected {number}name.sql", file.path));
        }
    }
    refuse(
        &offences,
        "name migrations NNNN_name.sql, numbered from 0001; an applied one is never edited",
    );
}

#[test]
fn no_module_is_a_drawer() {
    let drawers = [
        "utils", "util", "helpers", "helper", "common", "misc", "manager", "types",
    ];
    let mut files = rust("crates");
    files.retain(|file| {
        let path = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        path.rsplit('/').next().is_some_and(|name| drawers.contains(&name))
    });
    refuse(
        &files.into_iter().map(|file| file.path).collect::<Vec<_>>(),
        "name the module after what is in it",
    );
}

#[test]
fn the_product_speaks_of_the_product_alone() {
    // Folders of one machine, and the tools that somebody wrote it with.
    let words = [
        concat!("/wo", "rk/"),
        concat!(".lib", "rary/"),
        concat!("/ro", "ot/"),
        concat!("Cla", "ude"),
        concat!("Chat", "GPT"),
        concat!("Cop", "ilot"),
    ];
    let mut places = vec!["crates", "migrations", "proto", "config"];
    places.extend(
        ["docs", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "Makefile"]
            .iter()
            .filter(|place| root().join(place).exists()),
    );
    let files = files(&places, &["rs", "sql", "proto", "toml", "md"]);
    let offences: Vec<_> = files.iter().flat_map(|file| file.text_with(&words)).collect();
    refuse(
        &offences,
        "say it without the machine and the tools of whoever wrote it",
    );
}

#[test]
fn every_crash_point_has_a_place_and_a_name() {
    let call = concat!("crash_", "point!(\"");
    let name = |line: &str| line.split_once(call)?.1.split('"').next().map(str::to_owned);
    let mut files = rust("crates/server/src");
    files.retain(|file| file.path != "crates/server/src/crash_points.rs");
    let lines = files.iter().flat_map(|file| file.text.lines());
    let mut placed: Vec<String> = lines.filter_map(name).collect();
    placed.sort();
    let mut named = waybill_server::crash_points::NAMES.map(str::to_owned);
    named.sort();
    assert_eq!(placed, named, "name each place once, in NAMES of crash_points.rs too");
}
