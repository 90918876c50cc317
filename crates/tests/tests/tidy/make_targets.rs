//! What the documents say of `make`: each target that they name is there, with its work.

use regex::Regex;

use super::source::{files, refuse};

const READ: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "docs",
    ".ci/run",
    ".github",
];

/// The targets after `make` in code, as a block's line or between backticks.
fn named(text: &str) -> Vec<&str> {
    let command = Regex::new(r"(?m)(?:^|`|run: )(?:[A-Z_]+=\S+ )*make((?: [a-z-]+)+)").expect("a regex");
    let targets = command.captures_iter(text).filter_map(|found| found.get(1));
    targets
        .flat_map(|targets| targets.as_str().split_whitespace())
        .collect()
}

/// The targets of a makefile that do something.
fn with_work(makefile: &str) -> Vec<&str> {
    let rule = Regex::new(r"(?m)^([a-z-]+):[^\n]*\n\t").expect("a regex");
    let targets = rule.captures_iter(makefile).filter_map(|found| found.get(1));
    targets.map(|target| target.as_str()).collect()
}

#[test]
fn every_target_that_is_named_is_in_the_makefile() {
    let makefile = &files(&["Makefile"], &["Makefile"])[0].text;
    let known = with_work(makefile);
    let mut offences = Vec::new();
    for file in files(READ, &[".md", "run", ".yml"]) {
        let unknown = named(&file.text).into_iter().filter(|target| !known.contains(target));
        offences.extend(unknown.map(|target| format!("{}: make {target}", file.path)));
    }
    refuse(&offences, "add the target to the Makefile, or correct the document");
}

#[test]
fn a_target_that_is_gone_is_seen() {
    let text = "Run `make demo`; to make sure:\n\nmake lint deny\nBENCH_ONLY=orders make bench   # it\n";
    assert_eq!(named(text), ["demo", "lint", "deny", "bench"]);
    assert_eq!(with_work(".PHONY: a\na: b ## it\n\tdo\nb:\n\nc:\n\tdo\n"), ["a", "c"]);
}
