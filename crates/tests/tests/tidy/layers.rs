//! What each part of the product leaves to others.

use super::source::{File, files, refuse, rust};

/// In the code of these places, but for the exceptions, none of the words, which the parts below know.
fn refuse_words(places: &[&str], but_not: &[&str], words: &[&str], what_to_do: &str) {
    let files = rust(places).into_iter().filter(|file| !file.is_under(but_not));
    let offences: Vec<String> = files.flat_map(|file| file.code_with(words)).collect();
    refuse(&offences, what_to_do);
}

#[test]
fn sql_and_redis_commands_are_in_storage_only() {
    refuse_words(
        &[
            "crates/server/src",
            "crates/simulator/src",
            "crates/waybill/src",
            "crates/domain/src",
        ],
        // The log is quiet about the driver of Postgres, by its name.
        &["crates/server/src/storage/", "crates/waybill/src/logging.rs"],
        &[
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
        ],
        "give the store a method in crates/server/src/storage that owns the whole transaction",
    );
}

#[test]
fn what_is_printed_goes_through_one_place() {
    refuse_words(
        &["crates/waybill/src"],
        &["crates/waybill/src/print.rs"],
        // Also those of standard error, whose names end in these.
        &["print!(", "println!("],
        "print it with crates/waybill/src/print.rs, which writes what a terminal would obey as its code",
    );
}

#[test]
fn no_protobuf_type_goes_past_the_grpc_face() {
    // The root assembles the services; the metrics count calls by gRPC's own status codes.
    refuse_words(
        &["crates/server/src", "crates/domain/src"],
        &[
            "crates/server/src/grpc/",
            "crates/server/src/app/",
            "crates/server/src/metrics/grpc.rs",
        ],
        &["tonic::", "tonic_", "waybill_proto", "prost::", "prost_types"],
        "parse into domain types in crates/server/src/grpc, and render there",
    );
}

#[test]
fn the_domain_has_no_clock_no_chance_and_no_input_or_output() {
    refuse_words(
        &["crates/domain/src"],
        &[],
        &[
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
        ],
        "take times, random numbers and ids as arguments; act in crates/server",
    );
}

#[test]
fn no_part_past_the_root_knows_the_whole_configuration() {
    refuse_words(
        &["crates/server/src"],
        &["crates/server/src/app/", "crates/server/src/config/"],
        &["crate::config", "super::config", "config::Config"],
        "give the part a Settings of its own, made in crates/server/src/app/settings.rs",
    );
}

#[test]
fn every_crash_point_has_a_place_and_a_name() {
    let call = concat!("crash_", "point!(\"");
    let name = |line: &str| line.split_once(call)?.1.split('"').next().map(str::to_owned);
    let mut files = rust(&["crates/server/src"]);
    files.retain(|file| file.path != "crates/server/src/crash_points.rs");
    let lines = files.iter().flat_map(|file| file.text.lines());
    let mut placed: Vec<String> = lines.filter_map(name).collect();
    placed.sort();
    let mut named = waybill_server::crash_points::NAMES.map(str::to_owned);
    named.sort();
    assert_eq!(placed, named, "name each place once, in NAMES of crash_points.rs too");
}

#[test]
fn migrations_are_numbered_without_a_gap_and_named() {
    let is_named = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_good = |number: usize, file: &File| {
        let name = file.path.trim_start_matches("migrations/").trim_end_matches(".sql");
        name.strip_prefix(&format!("{number:04}_")).is_some_and(is_named)
    };
    let migrations = files(&["migrations"], &[".sql"]);
    let bad = (1..).zip(&migrations).filter(|(number, file)| !is_good(*number, file));
    let bad: Vec<_> = bad
        .map(|(number, file)| format!("{}: is number {number}", file.path))
        .collect();
    refuse(
        &bad,
        "name migrations NNNN_name.sql, numbered from 0001; an applied one is never edited",
    );
}
