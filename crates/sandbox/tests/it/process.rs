//! Child processes end with their owner, which also stops them and waits for them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use waybill_sandbox::process::{Launch, Process};

use crate::rig::{DEADLINE, folder, is_released, spawn_owner, until};

const OWNER_FILE: &str = "SANDBOX_TEST_OWNER_FILE";

/// A shell script as a child that has printed `up`, and its output, locked as long as it lives.
async fn running(folder: &TempDir, text: &str) -> (Process, PathBuf) {
    let path = folder.path().join("output");
    let child = script(&path, text);
    until("the child runs", async || fs::read_to_string(&path).unwrap() == "up\n").await;
    (child, path)
}

/// A shell script as a child; `path` is its output, locked as long as it lives.
fn script(path: &Path, text: &str) -> Process {
    let output = File::options().create(true).append(true).open(path).unwrap();
    output.try_lock().unwrap();
    let args = ["-c", text].map(OsString::from).to_vec();
    Process::start(Launch {
        program: PathBuf::from("/bin/sh"),
        args,
        output,
    })
    .unwrap()
}

/// Not a test: the other process of the test below, which runs this test binary once more.
#[tokio::test]
#[ignore = "runs only as the owner that another test kills"]
async fn owner_of_a_child() {
    let Some(path) = std::env::var_os(OWNER_FILE) else {
        return;
    };
    let mut child = script(Path::new(&path), "echo up; while :; do sleep 1; done");
    eprintln!("ready");
    child.wait().await.unwrap();
}

#[tokio::test]
async fn a_child_is_gone_after_its_owner_was_killed() {
    let folder = folder();
    let path = folder.path().join("output");
    let mut owner = spawn_owner("process::owner_of_a_child", OWNER_FILE, &path).await;
    until("the child runs", async || {
        fs::read_to_string(&path).is_ok_and(|text| text == "up\n")
    })
    .await;
    assert!(!is_released(&path), "the child holds its output");

    owner.kill().await.unwrap(); // SIGKILL: no code of the owner runs

    until("the child is gone", async || is_released(&path)).await;
}

#[tokio::test]
async fn a_child_that_ignores_the_request_is_killed_and_waited_for() {
    let folder = folder();
    let (mut child, _) = running(&folder, "trap '' INT; echo up; while :; do sleep 0.1; done").await;

    let ended = child.stop(Signal::SIGINT, Duration::from_millis(200)).await.unwrap();

    assert!(!ended.success());
    assert_eq!(
        kill(child.pid(), None),
        Err(nix::errno::Errno::ESRCH),
        "a zombie would still take signal 0"
    );
    assert!(child.signal(Signal::SIGINT).is_err(), "its pid may be another's now");
}

#[tokio::test]
async fn a_paused_child_receives_the_request_to_stop() {
    let folder = folder();
    // Not SIGINT: where the tests run in the background of a shell it is ignored, and a shell cannot trap a signal that
    // was ignored when it began.
    let (mut child, _) = running(&folder, "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done").await;
    child.signal(Signal::SIGSTOP).unwrap();

    let ended = child.stop(Signal::SIGTERM, DEADLINE).await.unwrap();

    assert_eq!(ended.code(), Some(7));
}

#[tokio::test]
async fn a_dropped_child_is_killed() {
    let folder = folder();
    let (child, path) = running(&folder, "echo up; exec sleep 1000").await;

    drop(child);

    until("the child is gone", async || is_released(&path)).await;
}

#[tokio::test]
async fn a_child_is_out_of_reach_of_the_terminal() {
    let folder = folder();
    let (child, _) = running(&folder, "echo up; exec sleep 1000").await;

    assert_eq!(
        nix::unistd::getpgid(Some(child.pid())).unwrap(),
        child.pid(),
        "it leads a group of its own"
    );
    assert_ne!(nix::unistd::getpgid(None::<Pid>).unwrap(), child.pid());
}
