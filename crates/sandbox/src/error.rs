//! What can go wrong while the sandbox is set up, each with what to do about it in one line.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a part of the sandbox could not be started or controlled. The text is one line and names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server program on this machine.
    #[error(
        "{program} was not found: run `make setup` or `apt-get install postgresql redis-server`, or set {variable} to its path"
    )]
    ProgramMissing {
        /// What was looked for, by its usual name.
        program: &'static str,
        /// The environment variable that can name it.
        variable: &'static str,
    },

    /// The environment names a program that cannot be used.
    #[error("{variable} names {path}, which {problem}: correct it or unset it")]
    ProgramUnusable {
        /// The environment variable.
        variable: &'static str,
        /// What it holds.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// A folder or file that cannot be created, read or written.
    #[error("cannot use {path}: check its permissions and the space on its disk, or choose another data folder")]
    Path {
        /// The folder or file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// Started by root, Postgres runs as an unprivileged user, who cannot reach its files.
    #[error(
        "Postgres runs as the user {user} when root starts it, and {user} cannot enter {folder}: `chmod o+x {folder}` or choose another data folder"
    )]
    FolderClosed {
        /// The first folder on the way that the user cannot enter.
        folder: PathBuf,
        /// The unprivileged user, by name or number.
        user: String,
    },

    /// Another process holds this folder or file.
    #[error("{path} is in use by another running process{holder}: stop that process or choose another data folder")]
    InUse {
        /// The folder or file.
        path: PathBuf,
        /// Which process, where that is known: empty, or ` (process 1234)`.
        holder: String,
    },

    /// The address to listen on is taken.
    #[error("{address} is in use by another program: stop that program or choose another port")]
    PortInUse {
        /// The address.
        address: SocketAddr,
    },

    /// The address cannot be listened on, for another reason than that it is taken.
    #[error("cannot listen on {address}: choose another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// `initdb` did not create a database cluster.
    #[error("initdb failed: {last_line} (full output in {log})")]
    Initdb {
        /// The most telling line of its output.
        last_line: String,
        /// The full output.
        log: PathBuf,
    },

    /// `pg_basebackup` did not copy a database cluster.
    #[error("pg_basebackup failed: {last_line} (full output in {log})")]
    BaseBackup {
        /// The most telling line of its output.
        last_line: String,
        /// The full output.
        log: PathBuf,
    },

    /// A server ended before it became ready.
    #[error("{server} did not start: {last_line} (full output in {log})")]
    ServerEnded {
        /// Which server.
        server: &'static str,
        /// The most telling line of its output.
        last_line: String,
        /// The full output.
        log: PathBuf,
    },

    /// A server runs but does not become ready.
    #[error("{server} was not ready after {} s: see {log}", waited.as_secs())]
    NotReady {
        /// Which server.
        server: &'static str,
        /// The time that it was given.
        waited: Duration,
        /// Its output.
        log: PathBuf,
    },

    /// A process could not be started at all.
    #[error("cannot run {program}: check that it is an executable file")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// The process has ended, or was never started.
    #[error("the process is not running: start it before sending it a signal")]
    NotRunning,

    /// The system refused to signal a child process or to wait for it.
    #[error("cannot signal a child process or wait for it: end it by hand")]
    ChildProcess(#[source] io::Error),

    /// A database name that is not a plain identifier.
    #[error("`{0}` is not a valid database name: use 1 to 63 of a to z, 0 to 9 and _, beginning with a letter")]
    DatabaseName(String),

    /// Postgres refused a statement.
    #[error("the private Postgres refused a statement: see its log")]
    Postgres(#[from] tokio_postgres::Error),

    /// A complete line of the payment ledger that is not a record: someone edited the file.
    #[error("cannot read line {line} of the payment ledger {path}: restore the file or delete it")]
    LedgerDamaged {
        /// The ledger file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },

    /// A token or its key that cannot be made.
    #[error("cannot make a token: {why}")]
    Token {
        /// Why not.
        why: String,
    },
}

impl Error {
    pub(crate) fn token(why: impl Display) -> Error {
        Error::Token { why: why.to_string() }
    }

    /// For `map_err` after an operation on `path`.
    pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Path {
            path: path.clone(),
            source,
        }
    }

    pub(crate) fn in_use(path: &Path) -> Error {
        Error::InUse {
            path: path.to_owned(),
            holder: String::new(),
        }
    }

    /// A bind on `address` that failed.
    pub(crate) fn listen(address: SocketAddr, source: io::Error) -> Error {
        match source.kind() {
            io::ErrorKind::AddrInUse => Error::PortInUse { address },
            _ => Error::Listen { address, source },
        }
    }
}
