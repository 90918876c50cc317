//! The files of the repository, as text.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the repository.
pub struct File {
    /// From the root, with slashes.
    pub path: String,
    pub text: String,
}

impl File {
    /// `path:line` of each line that is an offence.
    pub fn lines_where(&self, is_offence: impl Fn(&str) -> bool) -> Vec<String> {
        let lines = self.text.lines().enumerate().filter(|(_, line)| is_offence(line));
        lines
            .map(|(number, line)| format!("{}:{}: {}", self.path, number + 1, line.trim()))
            .collect()
    }

    /// Of each line, comments too, that has one of the words.
    pub fn text_with(&self, words: &[&str]) -> Vec<String> {
        self.lines_where(|line| words.iter().any(|word| line.contains(word)))
    }

    /// Of each line, comments left out, that has one of the words.
    pub fn code_with(&self, words: &[&str]) -> Vec<String> {
        let is_code = |line: &str| {
            let line = line.trim_start();
            line.starts_with("#[") || !["//", "--", "#"].iter().any(|mark| line.starts_with(mark))
        };
        self.lines_where(|line| is_code(line) && words.iter().any(|word| line.contains(word)))
    }

    pub fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }
}

pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap().to_owned()
}

/// All files below these places of the root with one of these endings.
pub fn files(places: &[&str], endings: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = places.iter().map(|place| root().join(place)).collect();
    while let Some(path) = open.pop() {
        let is_wanted = endings.iter().any(|ending| path.to_string_lossy().ends_with(ending));
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
            open.extend(entries.filter(|entry| !entry.ends_with("target")));
        } else if is_wanted {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
            let text = fs::read_to_string(&path).unwrap();
            found.push(File { path: name, text });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    let wrong = "nothing found: the rule looks at the wrong place";
    assert!(!found.is_empty(), "{places:?}: {wrong}");
    found
}

pub fn rust(places: &[&str]) -> Vec<File> {
    files(places, &[".rs"])
}

#[track_caller]
pub fn refuse(offences: &[String], what_to_do: &str) {
    assert!(offences.is_empty(), "{what_to_do}:\n  {}", offences.join("\n  "));
}
