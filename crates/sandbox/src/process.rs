//! A child process that ends with this process, however this process ends.
//!
//! `kill_on_drop` covers the ordinary ends, but not `kill -9` of this process, and `PR_SET_PDEATHSIG` is Linux only. So
//! each child has a watchdog: a shell that reads from a pipe whose other end only this process holds. If the pipe ends
//! without a line, this process is gone and the shell kills the child. A line means that the child has been waited for.
//!
//! The child is started behind a gate: a shell that waits for a line and then becomes the program (`exec`, so the pid
//! stays). The line is written once the watchdog runs, so the child never runs without one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeWriter, Write};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::Error;
use crate::account::Account;

pub use nix::sys::signal::Signal;

/// Waits for a line, then becomes the program. At the end of the pipe `read` fails, and nothing is started.
const GATE: &str = r#"read -r _ && exec "$0" "$@" </dev/null"#;

/// `$0` is the pid of the child. The signals that a service manager sends to a whole group are ignored: the watchdog
/// must outlive its owner.
const WATCHDOG: &str = r#"trap '' HUP INT TERM; read -r _ && exit 0; kill -s KILL "$0""#;

/// Held while pipes are created and handed to a child. Where a pipe cannot be created close-on-exec in one step (macOS),
/// a child that is started between the two steps would inherit our end of another child's pipe, whose watchdog would
/// then never see us die.
static SPAWNING: Mutex<()> = Mutex::new(());

/// What to run, and how.
#[derive(Debug)]
pub struct Launch {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Where both of its output streams go.
    pub output: File,
}

/// A child and its watchdog, running or ended. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    // In this order: first the child is killed, then the watchdog is dismissed.
    child: Child,
    watchdog: Watchdog,
    pid: Pid,
}

impl Drop for Process {
    /// Children that are stopped would not see that it is gone.
    fn drop(&mut self) {
        let _ = self.signal_all(Signal::SIGCONT);
    }
}

impl Process {
    /// Starts the program in its own process group (Ctrl-C in a terminal does not reach it), in `/`, with the C locale
    /// and an empty input.
    pub fn start(launch: Launch) -> Result<Process, Error> {
        Process::start_as(None, launch)
    }

    /// The same, as another user.
    pub(crate) fn start_as(account: Option<Account>, launch: Launch) -> Result<Process, Error> {
        let program = launch.program.clone();
        Process::spawn(account, launch).map_err(|source| Error::Spawn { program, source })
    }

    fn spawn(account: Option<Account>, launch: Launch) -> io::Result<Process> {
        let _guard = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
        let (gate, mut opener) = io::pipe()?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", GATE])
            .arg(launch.program)
            .args(launch.args)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(gate)
            .stdout(launch.output.try_clone()?)
            .stderr(launch.output)
            .process_group(0)
            .kill_on_drop(true);
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
        let child = command.spawn()?;
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw)
            .ok_or(io::ErrorKind::NotFound)?;
        let watchdog = Watchdog::start(pid)?;
        opener.write_all(b"go\n")?;
        Ok(Process { child, watchdog, pid })
    }

    /// The id of the process, also once it has ended.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal. [`Error::NotRunning`] after the process was waited for: its pid may be another's by now.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        // tokio drops the id once it has waited for the child.
        if self.child.id().is_none() {
            return Err(Error::NotRunning);
        }
        match kill(self.pid, signal) {
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => Err(Error::NotRunning),
            Err(errno) => Err(Error::ChildProcess(errno.into())),
        }
    }

    /// The same to it, first, and then to its children, as far as they are there by then. Linux only: from `/proc`.
    pub fn signal_all(&self, signal: Signal) -> Result<(), Error> {
        self.signal(signal)?;
        let pid = self.pid;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.map_err(Error::ChildProcess)?.split_whitespace() {
            let child = child.parse().map(Pid::from_raw);
            match child.map(|child| kill(child, signal)) {
                Ok(Ok(()) | Err(Errno::ESRCH)) | Err(_) => {}
                Ok(Err(errno)) => return Err(Error::ChildProcess(errno.into())),
            }
        }
        Ok(())
    }

    /// How it ended, or `None` while it runs.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        let ended = self.child.try_wait().map_err(Error::ChildProcess)?;
        if ended.is_some() {
            self.watchdog.dismiss();
        }
        Ok(ended)
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        let ended = self.child.wait().await.map_err(Error::ChildProcess)?;
        self.watchdog.dismiss();
        self.watchdog.shell.wait().await.map_err(Error::ChildProcess)?;
        Ok(ended)
    }

    /// Asks it to end with `signal`, waits up to `grace`, then kills it and waits. A stopped process (SIGSTOP) is
    /// continued, or it could not act on the request. Does nothing to a process that has ended.
    pub async fn stop(&mut self, signal: Signal, grace: Duration) -> Result<ExitStatus, Error> {
        for request in [signal, Signal::SIGCONT] {
            match self.signal(request) {
                Ok(()) | Err(Error::NotRunning) => {}
                Err(error) => return Err(error),
            }
        }
        if let Ok(ended) = tokio::time::timeout(grace, self.wait()).await {
            return ended;
        }
        tracing::warn!(pid = self.pid.as_raw(), %signal, "process did not end when asked; killing it");
        self.child.start_kill().map_err(Error::ChildProcess)?;
        self.wait().await
    }
}

/// The shell that kills the child if this process dies.
#[derive(Debug)]
struct Watchdog {
    shell: Child,
    /// Our end of its pipe, which no one else holds. `None` once it was dismissed.
    pipe: Option<PipeWriter>,
}

impl Watchdog {
    fn start(child: Pid) -> io::Result<Watchdog> {
        let (reader, writer) = io::pipe()?;
        let shell = Command::new("/bin/sh")
            .args(["-c", WATCHDOG])
            .arg(child.to_string())
            .current_dir("/")
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Watchdog {
            shell,
            pipe: Some(writer),
        })
    }

    /// Lets the shell end without a signal.
    fn dismiss(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // It fails only if the shell has ended, and then there is nothing to dismiss.
            let _ = pipe.write_all(b"done\n");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.dismiss();
    }
}
