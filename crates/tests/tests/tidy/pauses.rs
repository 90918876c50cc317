//! Where a test may pause.

use super::source::{refuse, root, rust};

/// Where tests may pause, and why.
const PAUSES: &[(&str, &str)] = &[
    ("crates/tests/src/until.rs", "the poll of a condition"),
    (
        "crates/tests/src/chance.rs",
        "lives, faults and rides are times that are drawn",
    ),
    ("crates/sandbox/tests/it/rig.rs", "the poll of a condition"),
    ("crates/server/tests/edge/rig.rs", "the poll of a condition"),
    (
        "crates/server/tests/payments_client/guards.rs",
        "the breaker says itself when it will let a probe through",
    ),
];

#[test]
fn no_test_sleeps() {
    let words = [concat!("sle", "ep("), concat!("sleep_", "until(")];
    let files = rust(&[
        "crates/tests/src",
        "crates/tests/tests",
        "crates/server/tests",
        "crates/sandbox/tests",
    ]);
    let files = files
        .iter()
        .filter(|file| !PAUSES.iter().any(|(path, _)| file.path == *path));
    let offences: Vec<String> = files.flat_map(|file| file.code_with(&words)).collect();
    refuse(
        &offences,
        "wait for the condition with `until`, which fails with the last state at its deadline",
    );
}

#[test]
fn every_pause_is_in_a_file_that_exists() {
    let gone = PAUSES.iter().filter(|(path, _)| !root().join(path).is_file());
    let gone: Vec<String> = gone.map(|(path, _)| (*path).to_owned()).collect();
    refuse(&gone, "remove the exception of a file that is gone");
}
