//! What no file may have in it.

use super::source::{files, refuse};

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
    let places = ["crates", "migrations", "proto", "config"];
    let files = files(&places, &[".rs", ".sql", ".proto", ".toml"]);
    let mut offences: Vec<String> = files.iter().flat_map(|file| file.text_with(&words)).collect();
    // Not a test at all: what a test starts this binary as, to be killed.
    offences.retain(|line| !line.contains(concat!("#[", "ignore = \"runs only as the ")));
    refuse(&offences, "do it now, or write down in an ADR why not");
}

#[test]
fn the_product_speaks_of_the_product_alone() {
    // Folders of one machine, and the tools that a person wrote it with.
    let words = [
        concat!("/wo", "rk/"),
        concat!(".lib", "rary/"),
        concat!("/ro", "ot/"),
        concat!("Cla", "ude"),
        concat!("Chat", "GPT"),
        concat!("Cop", "ilot"),
    ];
    let code = ["crates", "migrations", "proto", "config"];
    let prose = ["docs", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "Makefile"];
    let places = [&code[..], &prose].concat();
    let files = files(&places, &[".rs", ".sql", ".proto", ".toml", ".md", "Makefile"]);
    let offences: Vec<String> = files.iter().flat_map(|file| file.text_with(&words)).collect();
    refuse(
        &offences,
        "say it without the machine and the tools of whoever wrote it",
    );
}
