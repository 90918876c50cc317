//! Runs both examples, this package's client and `examples/python/client.py`, against `waybill dev` on private servers.
//!
//! The server is a process of its own: this program starts itself again, with the command line of `waybill`. So cargo builds
//! it from the same sources, and the test never meets a stale binary. Where Python or its packages cannot be had, the Python
//! client is SKIPPED, loudly.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use waybill_proto::order::v1::OrderStatus;

/// How long the private servers may take to start, and the server to end, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    // Called again, by `Server::start`.
    if std::env::args().nth(1).as_deref() == Some("dev") {
        return waybill::main();
    }
    println!("\nrunning 1 test");
    let server = Server::start();
    rust_client(&server);
    python_client(&server);
    server.end();
    println!("test both_examples_run_against_a_server ... ok\n");
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::SUCCESS
}

fn rust_client(server: &Server) {
    let tokens = waybill_example::Tokens {
        customer: server.setting("CUSTOMER_TOKEN").to_owned(),
        driver: server.setting("DRIVER_TOKEN").to_owned(),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let order = runtime
        .block_on(waybill_example::run(server.setting("GRPC_ADDR"), &tokens))
        .expect("the Rust client");
    assert_eq!(order.status(), OrderStatus::Succeeded);
    assert_eq!(order.assignment.expect("an assignment").release_reason, "completed");
}

fn python_client(server: &Server) {
    let folder = repository().join("examples/python");
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("example-python");
    let python = venv.join("bin/python");
    let stubs = venv.join("stubs");
    fs::create_dir_all(&stubs).expect("a folder");
    let installed = command_succeeds(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        && command_succeeds(
            Command::new(&python)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--requirement",
                ])
                .arg(folder.join("requirements.txt")),
        );
    if !installed {
        eprintln!(
            "\n*** SKIPPED: the Python client was not run: python3 with venv, or the packages of requirements.txt,"
        );
        eprintln!("*** cannot be had on this machine (the error is above)\n");
        return;
    }
    let proto = repository().join("proto");
    let mut protoc = Command::new(&python);
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(&proto);
    for option in ["--python_out", "--grpc_python_out"] {
        protoc.arg(option).arg(&stubs);
    }
    protoc.args([
        "waybill/location/v1/lat_lng.proto",
        "waybill/location/v1/location.proto",
        "waybill/order/v1/order.proto",
    ]);
    assert!(command_succeeds(&mut protoc), "the client's code is not made");

    let output = Command::new(&python)
        .arg(folder.join("client.py"))
        .envs(["GRPC_ADDR", "CUSTOMER_TOKEN", "DRIVER_TOKEN"].map(|name| (name, server.setting(name))))
        .env("WAYBILL_STUBS", &stubs)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python starts");
    let shown = String::from_utf8_lossy(&output.stdout);
    println!("{shown}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "reported    1 fix, 0 rejected",
        "ORDER_STATUS_SUCCEEDED",
        "marked as replayed",
        "assign succeeded",
        "completed   completed by",
    ] {
        assert!(shown.contains(line), "no line has {line:?}");
    }
}

/// Whether the command could be started and ended well. Its errors go to this test's own.
fn command_succeeds(command: &mut Command) -> bool {
    match command.stdout(Stdio::null()).status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("{}: {error}", command.get_program().display());
            false
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the repository")
}

/// `waybill dev` with servers of its own. Ends with the test, also with one that fails.
struct Server {
    process: Child,
    /// What it wrote for other programs.
    settings: String,
    _data: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        use std::os::unix::fs::PermissionsExt as _;

        let data = tempfile::Builder::new()
            .prefix("waybill-example-")
            .tempdir()
            .expect("a folder");
        // Where we are root, Postgres runs as another user, who has to enter this folder.
        fs::set_permissions(data.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "dev",
                "--grpc-addr",
                "127.0.0.1:0",
                "--http-addr",
                "127.0.0.1:0",
                "--web-addr",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(data.path())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let env_file = data.path().join("dev.env");
        let begun = Instant::now();
        let settings = loop {
            if let Ok(settings) = fs::read_to_string(&env_file) {
                break settings;
            }
            let ended = process.try_wait().expect("a child");
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "the server is not ready: {ended:?}"
            );
            pause();
        };
        Server {
            process,
            settings,
            _data: data,
        }
    }

    fn setting(&self, name: &str) -> &str {
        let mut lines = self.settings.lines().filter_map(|line| line.split_once('='));
        lines
            .find_map(|(key, value)| (key == name).then_some(value))
            .expect(name)
    }

    /// As Ctrl-C does; it has to end well.
    fn end(mut self) {
        self.signal(Signal::SIGINT);
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().expect("a child") {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not end");
            pause();
        };
        assert!(status.success(), "{status}");
    }

    fn signal(&self, signal: Signal) {
        // It may have ended by itself; then there is no one to signal.
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), signal);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
            let _ = self.process.wait();
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "between two checks of another process; nothing else runs here"
)]
fn pause() {
    std::thread::sleep(POLL);
}
