//! No circle of imports among the files of one crate: what a file uses can be understood before it.
//!
//! A file points at each file that its `use` statements name, by `crate::`, `self::` and `super::`, at the longest part
//! of the path that is a module. What a module only passes on (`pub use self::part::Name` in its `mod.rs`) is looked up
//! in the part. A `mod.rs`, and a crate's root, does not point at what is below it: it is the list of its parts. Paths
//! within the code are not looked at.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::source::{File, refuse, rust};

/// Folders with a `lib.rs` or a `main.rs`: crates whose files are checked.
const CHECKED: &[&str] = &[
    "crates/domain/src",
    "crates/sandbox/src",
    "crates/server/src",
    "crates/simulator/src",
    "crates/waybill/src",
    "crates/tests/src",
    "crates/tests/tests/e2e",
    "crates/tests/tests/tidy",
    "crates/tests/tests/torture",
    "crates/tests/benches/benchmarks",
];

/// A crate: the texts of its modules by their paths, as `orders::saga`; the root is the empty path.
struct Crate(BTreeMap<String, String>);

impl Crate {
    fn of(folder: &str, files: Vec<File>) -> Crate {
        let name = |path: &str| {
            let path = path.strip_prefix(folder)?.trim_start_matches('/').strip_suffix(".rs")?;
            let is_binary = path.starts_with("bin/") || (path == "main" && folder.ends_with("/src"));
            let path = path.strip_suffix("/mod").unwrap_or(path);
            let path = if ["lib", "main"].contains(&path) { "" } else { path };
            (!is_binary || path.is_empty()).then(|| path.replace('/', "::"))
        };
        let modules = files
            .into_iter()
            .filter_map(|file| Some((name(&file.path)?, file.text)));
        Crate(modules.collect())
    }

    /// The module that a path within `from` ends in, with names that a module passes on looked up in its parts.
    fn resolve(&self, from: &str, path: &str) -> Option<String> {
        let mut at: Vec<&str> = Vec::new();
        let mut rest = path.split("::").peekable();
        match rest.next()? {
            "crate" => {}
            "self" => at.extend(from.split("::").filter(|part| !part.is_empty())),
            "super" => {
                at.extend(from.split("::").filter(|part| !part.is_empty()));
                at.pop()?;
                while rest.next_if_eq(&"super").is_some() {
                    at.pop()?;
                }
            }
            _ => return None,
        }
        while let Some(part) = rest.peek() {
            let deeper = [&at[..], &[*part]].concat();
            if !self.0.contains_key(&deeper.join("::")) {
                break;
            }
            at = deeper;
            rest.next();
        }
        let module = at.join("::");
        let passed_on = rest.next().and_then(|name| self.passed_on(&module, name));
        Some(passed_on.unwrap_or(module))
    }

    /// Where a name comes from that a module only passes on.
    fn passed_on(&self, module: &str, name: &str) -> Option<String> {
        let paths = paths(&self.0[module]);
        let path = paths.iter().find(|path| path.rsplit("::").next() == Some(name))?;
        let of_part = path.strip_prefix("self::")?;
        self.resolve(module, &format!("self::{of_part}"))
            .filter(|found| found != module)
    }

    /// The files that a file points at.
    fn arrows(&self, from: &str) -> Vec<String> {
        let found = paths(&self.0[from]).into_iter();
        let found = found.filter_map(|path| self.resolve(from, &path));
        let below = |to: &str| from.is_empty() || to.starts_with(&format!("{from}::"));
        found.filter(|to| to != from && !below(to)).collect()
    }

    /// Every circle, once for each module in it that is first by name.
    fn circles(&self) -> Vec<String> {
        let arrows: BTreeMap<&str, Vec<String>> =
            self.0.keys().map(|from| (from.as_str(), self.arrows(from))).collect();
        let mut circles = Vec::new();
        for start in self.0.keys() {
            let mut way = vec![start.clone()];
            if Crate::returns(&arrows, start, &mut way, &mut Vec::new()) {
                circles.push(way.join(" -> "));
            }
        }
        circles
    }

    /// Whether a way over modules that are not before `start` by name leads back to it; the way.
    fn returns(
        arrows: &BTreeMap<&str, Vec<String>>,
        start: &str,
        way: &mut Vec<String>,
        seen: &mut Vec<String>,
    ) -> bool {
        let last = way.last().expect("the start").clone();
        for next in arrows.get(last.as_str()).into_iter().flatten() {
            if next == start {
                way.push(next.clone());
                return true;
            }
            if next.as_str() > start && !seen.contains(next) {
                seen.push(next.clone());
                way.push(next.clone());
                if Crate::returns(arrows, start, way, seen) {
                    return true;
                }
                way.pop();
            }
        }
        false
    }
}

/// The paths of all `use` statements, braces resolved, of a text without its comments.
fn paths(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "{line}");
        all
    });
    let statements = code.split(';').filter_map(|statement| {
        let statement = statement.trim_start();
        let (before, path) = statement.rsplit_once("use ")?;
        let is_use = before.is_empty()
            || before.ends_with(['\n', '}'])
            || before.trim_end().ends_with(')')
            || before.trim_end().ends_with("pub");
        is_use.then(|| path.split_whitespace().collect::<Vec<_>>().join(" "))
    });
    statements.flat_map(|path| expanded("", &path)).collect()
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn expanded(before: &str, path: &str) -> Vec<String> {
    let Some((head, rest)) = path.split_once('{') else {
        let name = path.split(" as ").next().unwrap_or_default().trim();
        return vec![format!("{before}{}", name.trim_end_matches("::self"))];
    };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in inner.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match letter {
            ',' if depth == 0 => parts.push(String::new()),
            _ => parts.last_mut().expect("a part").push(letter),
        }
    }
    let before = format!("{before}{}", head.trim());
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts
        .flat_map(|part| match part {
            "self" => vec![before.trim_end_matches("::").to_owned()],
            part => expanded(&before, part),
        })
        .collect()
}

#[test]
fn no_files_of_a_crate_import_each_other() {
    let mut offences = Vec::new();
    for folder in CHECKED {
        let circles = Crate::of(folder, rust(&[folder])).circles();
        offences.extend(circles.into_iter().map(|circle| format!("{folder}: {circle}")));
    }
    refuse(
        &offences,
        "move what both need into a file of its own, or pass it as an argument",
    );
}

#[test]
fn a_circle_is_seen_and_the_list_of_the_parts_is_none() {
    let of = |files: &[(&str, &str)]| {
        let file = |(path, text): &(&str, &str)| File {
            path: format!("src/{path}"),
            text: (*text).to_owned(),
        };
        Crate::of("src", files.iter().map(file).collect()).circles()
    };
    let parts = ("a/mod.rs", "mod one;\npub use self::one::One;\npub struct Settings;");
    let below = ("a/one.rs", "use super::Settings;\npub struct One;");
    assert_eq!(
        of(&[("lib.rs", "pub use self::a::One;"), parts, below]),
        [] as [&str; 0]
    );

    let circle = of(&[
        ("lib.rs", "mod b;\nmod c;\nmod d;"),
        ("b.rs", "use std::fmt;\nuse crate::c::{self, C};"),
        ("c.rs", "// use crate::b;\npub use super::d::D;\n\nfn f() {}\n"),
        ("d.rs", "pub(crate) use crate::{\n    b::{B, Bs},\n    c::C,\n};"),
    ]);
    assert_eq!(circle, ["b -> c -> d -> b", "c -> d -> c"]);

    // Through the name that a module passes on.
    let part = ("a/one.rs", "use crate::b::B;\npub struct One;");
    let other = ("b.rs", "use crate::a::One;\npub struct B;");
    assert_eq!(of(&[("lib.rs", ""), parts, part, other]), ["a::one -> b -> a::one"]);
}
