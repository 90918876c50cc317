//! What `docs/guarantees.md` says of tests: each place and each test that it names is there.

use std::path::Path;

use regex::Regex;

use super::source::{File, files, refuse, root, rust};

/// What a text names that is not there: places of end-to-end tests (`e2e/orders/placed`), and tests in a place or, if
/// none is named before them in the cell, anywhere.
fn missing(text: &str, is_place: impl Fn(&str) -> bool, tests: &[File]) -> Vec<String> {
    let name = Regex::new("`([a-z0-9_/]+)`").expect("a regex");
    let mut missing = Vec::new();
    for cell in text.split([';', '|']) {
        let mut place = "";
        for name in name.captures_iter(cell).filter_map(|found| found.get(1)) {
            let name = name.as_str();
            if name.starts_with("e2e/") {
                place = name;
                if !is_place(place) {
                    missing.push(name.to_owned());
                }
            } else if name.matches('_').count() > 3 {
                let definition = format!("fn {name}(");
                let mut there = tests.iter().filter(|file| file.path.contains(place));
                if !there.any(|file| file.text.contains(&definition)) {
                    missing.push(format!("{place} {name}").trim_start().to_owned());
                }
            }
        }
    }
    missing
}

/// The guarantees whose row has no third cell that names a kind of test or a file.
fn held_by_nothing(text: &str) -> Vec<String> {
    let row = Regex::new(r"(?m)^\| ([A-Z][0-9]+)(?: A)? +\|(.*)\|$").expect("a regex");
    let place =
        Regex::new("`(?:(?:e2e|edge|crates)/[^`]+|torture|failover|model|rulebook|client|edge)`").expect("a regex");
    let rows = row.captures_iter(text);
    rows.filter(|row| {
        let cells: Vec<_> = row[2].split('|').collect();
        cells.len() != 2 || !place.is_match(cells[1])
    })
    .map(|row| row[1].to_owned())
    .collect()
}

#[test]
fn every_guarantee_names_what_holds_it() {
    let text = &files(&["docs/guarantees.md"], &[".md"])[0].text;
    refuse(
        &held_by_nothing(text),
        "name in its last cell the tests that hold it, in docs/guarantees.md",
    );
}

#[test]
fn a_guarantee_without_tests_is_seen() {
    let text = "| M1 A | held | `e2e/kill`: `a_test_that_is_there` |\n\
                | M2 | held | by hand |\n\
                | M3 | its cell was cut off, though it says `torture` |\n\
                | where | what | `not a row of a guarantee` |\n";
    assert_eq!(held_by_nothing(text), ["M2", "M3"]);
}

#[test]
fn every_test_that_holds_a_guarantee_is_there() {
    let text = &files(&["docs/guarantees.md"], &[".md"])[0].text;
    let end_to_end = root().join("crates/tests/tests");
    let is_place = |place: &str| {
        let path = end_to_end.join(place);
        path.is_dir() || Path::new(&path).with_extension("rs").is_file()
    };
    refuse(
        &missing(text, is_place, &rust(&["crates"])),
        "name the test that holds it now, in docs/guarantees.md",
    );
}

#[test]
fn a_test_that_is_gone_is_seen() {
    let tests = [File {
        path: "crates/tests/tests/e2e/kill.rs".to_owned(),
        text: "fn a_test_that_is_there() {}".to_owned(),
    }];
    let text = "| M1 | `e2e/kill`: `a_test_that_is_there`, `a_test_that_is_not`; `e2e/gone`: `a_test_that_is_there` |";
    let expected = [
        "e2e/kill a_test_that_is_not",
        "e2e/gone",
        "e2e/gone a_test_that_is_there",
    ];
    assert_eq!(missing(text, |place| place == "e2e/kill", &tests), expected);
}
