//! What `waybill doctor` finds, part by part.

mod callers;
mod certificates;
mod commits;
mod history;
mod safety;

use testkit::Rig;

use super::on_stores_with;

/// The program's status, and the mark and the text of its line about this part.
async fn finding(rig: &Rig, part: &str, settings: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let ended = on_stores_with(rig, &["doctor"], settings).await;
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim_matches('│').split("  ").map(str::trim);
        cells.filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    };
    let mut lines = ended.stdout.lines().map(cells);
    let line = lines.find(|line| line.first().is_some_and(|name| name == part));
    match line.as_deref() {
        Some([_, mark, text]) => (ended.status, mark.clone(), text.clone()),
        _ => panic!("nothing about {part}: {}", ended.stdout),
    }
}

/// The doctor marks this part so, for a reason that names all of these, and ends with 1 if it is to be changed.
async fn assert_finds(rig: &Rig, settings: &[(&str, &str)], part: &str, mark: &str, named: &[&str]) {
    let (status, found, text) = finding(rig, part, settings).await;
    assert_eq!(found, mark, "{text}");
    for name in named {
        assert!(text.contains(name), "{name:?} is not in {text:?}");
    }
    assert!(mark != "CHANGE" || status == Some(1), "{status:?}");
}
