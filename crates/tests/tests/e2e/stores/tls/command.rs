//! A command on the stores of a rig, with one of them behind a line.

use std::time::Duration;

use testkit::Rig;
use testkit::process::{Ended, waybill};
use tokio::time::timeout;

/// Longer than any of them takes.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs `waybill COMMAND` to its end, with these settings over the rig's.
pub async fn run(rig: &Rig, command: &str, settings: &[(&str, &str)]) -> Ended {
    let mut variables: Vec<(String, String)> = Vec::new();
    for (key, value) in rig.flags() {
        variables.push(variable(key, value));
    }
    for (key, value) in settings {
        variables.push(variable(key, value));
    }
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
    let ended = timeout(DEADLINE, waybill(&[command], &variables)).await;
    ended.expect("the command ends, and does not serve")
}

/// What the doctor says of a part.
#[track_caller]
pub fn finding(ended: &Ended, part: &str) -> String {
    let mut lines = ended.stdout.lines().map(|line| line.trim_matches(['│', ' ']));
    let line = lines.find(|line| line.split_whitespace().next() == Some(part));
    line.unwrap_or_else(|| panic!("nothing about {part}: {ended:?}"))
        .to_owned()
}

/// The doctor wants this part changed, for a reason that names all of these.
#[track_caller]
pub fn assert_change(ended: &Ended, part: &str, named: &[&str]) {
    let finding = finding(ended, part);
    assert!(finding.contains("CHANGE"), "{finding}");
    for name in named {
        assert!(finding.contains(name), "{name:?} is not in {finding:?}");
    }
}

/// The doctor found this part well, by TLS.
#[track_caller]
pub fn assert_well(ended: &Ended, part: &str) {
    let finding = finding(ended, part);
    assert!(!finding.contains("CHANGE") && finding.contains("by TLS"), "{ended:?}");
}

/// A setting by its variable. One of the system's own stays as it is.
fn variable(key: &str, value: &str) -> (String, String) {
    let name = if key.contains('.') {
        format!("WAYBILL_{}", key.replace('.', "__").to_uppercase())
    } else {
        key.to_owned()
    };
    (name, value.to_owned())
}
