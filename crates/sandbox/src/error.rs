//! What can go wrong while the world is set up, each with what to do about it in one line.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Why a part of the sandbox could not be started or steered. The text is one line and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No server program on this machine.
    #[error(
        "{program} was not found: run `make setup` or `apt-get install postgresql redis-server`, or name it in {variable}"
    )]
    ProgramMissing {
        /// What was looked for, as a person would call it.
        program: &'static str,
        /// The environment variable that can name it.
        variable: &'static str,
    },

    /// The environment names a program that cannot be used.
    #[error("{variable} names {path}, {why}: correct it or unset it")]
    ProgramUnusable {
        /// The environment variable.
        variable: &'static str,
        /// What it holds.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },

    /// A folder or file that cannot be made, read or written.
    #[error("{path} is not usable: check its permissions and the space on its disk, or choose another data folder")]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// Started as root, Postgres runs as an unprivileged user, who cannot get to its files.
    #[error(
        "{folder} cannot be entered by the user {user}, as whom Postgres runs when we are root: `chmod o+x {folder}` or choose another data folder"
    )]
    FolderClosed {
        /// The folder that stands in the way.
        folder: PathBuf,
        /// The unprivileged user, by name or number.
        user: String,
    },

    /// A live process holds this folder or file.
    #[error("{path} is in use by another running process{holder}: stop that one or choose another data folder")]
    InUse {
        /// The folder or file.
        path: PathBuf,
        /// Which process, where that is known: empty, or ` (process 1234)`.
        holder: String,
    },

    /// The address that we must listen on is taken.
    #[error("{address} is in use by another program: stop that program or choose another port")]
    PortInUse {
        /// Where we wanted to listen.
        address: SocketAddr,
    },

    /// We cannot listen on the address, for another reason than that it is taken.
    #[error("cannot listen on {address}: choose another address")]
    Listen {
        /// Where we wanted to listen.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// `initdb` did not make a database cluster.
    #[error("initdb failed: {last_line} (all of it is in {log})")]
    Initdb {
        /// The line of its output that tells most.
        last_line: String,
        /// Where the rest is.
        log: PathBuf,
    },

    /// A server ended instead of becoming ready.
    #[error("{server} did not start: {last_line} (all of it is in {log})")]
    ServerEnded {
        /// Which server.
        server: &'static str,
        /// The line of its log that tells most.
        last_line: String,
        /// Where the rest is.
        log: PathBuf,
    },

    /// A server runs but does not become ready.
    #[error("{server} was not ready after {} s: see {log}", waited.as_secs())]
    NotReady {
        /// Which server.
        server: &'static str,
        /// How long we waited.
        waited: Duration,
        /// Where it may have said why.
        log: PathBuf,
    },

    /// The process could not be started at all.
    #[error("cannot run {program}: check that it is an executable file")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// The process has ended, or never was.
    #[error("the process is not running: start it before it is signalled")]
    NotRunning,

    /// The system refused to deliver a signal or to tell about a child.
    #[error("a child process can be neither signalled nor waited for: end it by hand")]
    Steer(#[source] io::Error),

    /// A database name that is not a plain identifier.
    #[error("`{0}` is no database name for the sandbox: use a to z, 0 to 9 and _, at most 63 of them, a letter first")]
    DatabaseName(String),

    /// Postgres refused a statement of ours.
    #[error("the sandbox's Postgres refused a statement: see its log")]
    Postgres(#[from] tokio_postgres::Error),

    /// A line of the payment ledger that is complete but makes no sense: somebody edited the file.
    #[error("line {line} of the payment ledger {path} cannot be read: restore the file or delete it")]
    LedgerDamaged {
        /// The ledger file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}
