//! The words: those of the glossary are in the code, and those that were retired are nowhere.

use regex::Regex;

use super::source::{File, files, refuse};

/// Lines `regex => what to use instead`, and `! phrase` for a phrase in which the words may stand. A regex without
/// capitals is of any case.
const RETIRED: &str = include_str!("retired_words.txt");

/// Where retired words are refused.
const CHECKED: &[&str] = &[
    "crates",
    "proto",
    "config",
    "docs",
    "examples",
    "mutants",
    "scripts",
    "Makefile",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
];
/// What was written in the old words, and stays as it is; what others wrote.
const HISTORY: &[&str] = &["docs/adr/", "crates/simulator/src/report/vendor/"];
const ENDINGS: &[&str] = &[
    ".rs", ".toml", ".proto", ".md", ".sh", ".py", ".lua", ".patch", "Makefile",
];

/// Exceptions: the file, what its line has, and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("crates/tests/tests/tidy/vocabulary.rs", "", "this table and its test"),
    ("crates/sandbox/src/account.rs", "nobody", "the name of a system user"),
    ("crates/sandbox/src/account.rs", "NOBODY", "the name of a system user"),
    (
        "crates/sandbox/src/servers/postgres.rs",
        "`nobody`",
        "the name of a system user",
    ),
    (
        "crates/tests/tests/failover/patroni.rs",
        "\"nobody\"",
        "the name of a system user",
    ),
    (
        "crates/tests/tests/e2e/stores/pooler.rs",
        "\"nobody\"",
        "the name of a system user",
    ),
    (
        "crates/simulator/src/report/template.rs",
        "<figure",
        "an element of HTML",
    ),
    (
        "crates/simulator/tests/page/script.rs",
        "figure[data-chart]",
        "an element of HTML",
    ),
    (
        "crates/simulator/tests/page/script.rs",
        "<figure ",
        "an element of HTML",
    ),
];

struct Retired {
    /// Any of the words: nearly all lines have none.
    any: Regex,
    phrases: Vec<Regex>,
    words: Vec<(Regex, &'static str)>,
}

impl Retired {
    fn read(list: &'static str) -> Retired {
        let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (phrases, words): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with('!'));
        // ASCII alone, which is far faster.
        let flags = |text: &str| {
            let case = if text.chars().any(char::is_uppercase) { "" } else { "i" };
            format!("(?{case}-u:{text})")
        };
        let regex = |text: &str| Regex::new(&flags(text)).expect(text);
        let words = words.into_iter().map(|line| line.split_once(" => ").expect(line));
        let any: Vec<String> = words.clone().map(|(word, _)| flags(word)).collect();
        Retired {
            any: Regex::new(&any.join("|")).expect("the words together"),
            phrases: phrases.iter().map(|line| regex(line[1..].trim())).collect(),
            words: words.map(|(word, instead)| (regex(word), instead)).collect(),
        }
    }

    /// What to use instead of the first retired word of a line.
    fn instead(&self, line: &str) -> Option<&'static str> {
        if !self.any.is_match(line) {
            return None;
        }
        let line = self.phrases.iter().fold(line.to_owned(), |line, phrase| {
            phrase.replace_all(&line, "").into_owned()
        });
        let found = self.words.iter().find(|(word, _)| word.is_match(&line));
        found.map(|(_, instead)| *instead)
    }

    /// `path:line` of each line with a retired word, and what to use instead.
    fn offences(&self, file: &File) -> Vec<String> {
        let is_allowed = |line: &str| {
            let mut here = ALLOWED.iter().filter(|(path, ..)| file.path == *path);
            here.any(|(_, text, _)| line.contains(text))
        };
        // Of a patch its head: what follows is checked where it is from.
        let lines = file.text.lines().take_while(|line| !line.starts_with("diff --git "));
        let found = lines.enumerate().filter(|(_, line)| !is_allowed(line));
        let found = found.filter_map(|(number, line)| Some((number, line, self.instead(line)?)));
        found
            .map(|(number, line, instead)| format!("{}:{}: {}  [{instead}]", file.path, number + 1, line.trim()))
            .collect()
    }
}

fn checked() -> impl Iterator<Item = File> {
    files(CHECKED, ENDINGS)
        .into_iter()
        .filter(|file| !file.is_under(HISTORY))
}

#[test]
fn retired_words_are_used_nowhere() {
    let retired = Retired::read(RETIRED);
    let offences: Vec<String> = checked().flat_map(|file| retired.offences(&file)).collect();
    refuse(
        &offences,
        "use the word of docs/glossary.md; or name the line in ALLOWED with the reason",
    );
}

#[test]
fn every_exception_is_needed() {
    let retired = Retired::read(RETIRED);
    let files: Vec<File> = checked().collect();
    let is_needed = |(path, text, _): &&(&str, &str, &str)| {
        let mut here = files.iter().filter(|file| file.path == *path);
        here.any(|file| {
            file.text
                .lines()
                .any(|line| line.contains(text) && retired.instead(line).is_some())
        })
    };
    let idle = ALLOWED.iter().filter(|exception| !is_needed(exception));
    let idle: Vec<String> = idle.map(|(path, text, _)| format!("{path}: {text}")).collect();
    refuse(&idle, "remove the exception");
}

#[test]
fn a_retired_word_is_seen_and_a_phrase_that_is_allowed_is_not() {
    let retired = Retired::read(RETIRED);
    for bad in [
        "the order is undone",
        "fn doubtful()",
        "A Doubt of ours",
        "it came to rest",
        "nobody waits",
        "struct Lane;",
        "the books agree",
    ] {
        let file = File {
            path: "planted.rs".to_owned(),
            text: format!("fine\n{bad}\n"),
        };
        let found = retired.offences(&file);
        assert!(
            found.len() == 1 && found[0].starts_with("planted.rs:2: "),
            "{bad}: {found:?}"
        );
    }
    for good in [
        "a charge in doubt",
        "ORDER_AT_REST",
        "the rest of it",
        "recommended",
        "bookstore",
    ] {
        assert_eq!(retired.instead(good), None, "{good}");
    }
}

/// The names in the second column of a glossary's tables, without a path before them or a call behind.
fn names(glossary: &str) -> Vec<&str> {
    let rows = glossary
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'));
    let columns = rows.filter_map(|row| row.split('|').nth(2));
    columns
        .flat_map(|column| column.split('`').skip(1).step_by(2))
        .collect()
}

/// The names that no file has, as whole words of its text or in its path.
fn missing<'a>(names: &[&'a str], files: &[File]) -> Vec<&'a str> {
    let is_word = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let is_in = |text: &str, name: &str| {
        let mut found = text.match_indices(name);
        found
            .any(|(at, _)| !is_word(text[..at].chars().next_back()) && !is_word(text[at + name.len()..].chars().next()))
    };
    let is_there = |name: &str| {
        let (path, mut files) = (name.replace("::", "/"), files.iter());
        files.any(|file| file.path.contains(&path) || is_in(&file.text, name))
    };
    names.iter().copied().filter(|name| !is_there(name)).collect()
}

#[test]
fn every_name_of_the_glossary_is_in_the_code() {
    let glossary = &files(&["docs/glossary.md"], &[".md"])[0].text;
    let mut places = files(&["crates", "docs", "mutants"], ENDINGS);
    places.retain(|file| !["docs/glossary.md", "crates/tests/tests/tidy/vocabulary.rs"].contains(&file.path.as_str()));
    let missing = missing(&names(glossary), &places);
    let offences: Vec<String> = missing.into_iter().map(str::to_owned).collect();
    refuse(
        &offences,
        "use the name in the code, or correct the second column of docs/glossary.md",
    );
}

#[test]
fn a_name_that_the_code_does_not_have_is_seen() {
    let glossary = "| term | in the code | meaning |\n|---|---|---|\n| order | `Order`, `make bench` | `Other` things |\n\
                    | lease | `Lease` | a right |\n| rig | `a/rig` | a world |\n";
    assert_eq!(names(glossary), ["Order", "make bench", "Lease", "a/rig"]);
    let file = |path: &str, text: &str| File {
        path: path.to_owned(),
        text: text.to_owned(),
    };
    let files = [
        file("a/rig.rs", "struct Order;"),
        file("b.rs", "// make bench; Leased, Other"),
    ];
    assert_eq!(missing(&names(glossary), &files), ["Lease"]);
}
