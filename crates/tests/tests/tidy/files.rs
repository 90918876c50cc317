//! What each file is: how it begins, how long it is, and where its parts are.

use super::source::{File, refuse, rust};

const LINES_MAX: usize = 500;
/// Where the style of modules is checked.
const CHECKED: &[&str] = &["crates"];

#[test]
fn every_file_says_what_it_is_for() {
    let mut offences = Vec::new();
    for file in rust(&["crates"]) {
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
    for file in rust(&["crates"]) {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            offences.push(format!("{}: {lines} lines", file.path));
        }
    }
    refuse(&offences, "split it by idea, at most 500 lines a file");
}

#[test]
fn no_module_is_a_drawer() {
    let drawers = "utils util helpers helper common misc manager types";
    let mut files = rust(&["crates"]);
    files.retain(|file| {
        let path = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let name = path.rsplit('/').next().unwrap_or_default();
        drawers.split(' ').any(|drawer| name == drawer)
    });
    let offences: Vec<String> = files.into_iter().map(|file| file.path).collect();
    refuse(&offences, "name the module after what is in it");
}

/// Files that have their parts in a folder of the same name beside them.
fn beside_a_folder(files: &[File]) -> Vec<String> {
    let has_parts = |file: &&File| {
        let folder = format!("{}/", file.path.trim_end_matches(".rs"));
        files.iter().any(|other| other.path.starts_with(&folder))
    };
    files.iter().filter(has_parts).map(|file| file.path.clone()).collect()
}

#[test]
fn a_module_with_parts_is_a_folder_with_a_mod_file() {
    let offences = beside_a_folder(&rust(CHECKED));
    refuse(&offences, "move it to `mod.rs` in the folder of its parts");
}

#[test]
fn a_file_beside_the_folder_of_its_parts_is_seen() {
    let of = |path: &str| File {
        path: path.to_owned(),
        text: String::new(),
    };
    let files = ["a/one.rs", "a/one/part.rs", "a/oneself.rs", "a/two/mod.rs"].map(of);
    assert_eq!(beside_a_folder(&files), ["a/one.rs"]);
}
