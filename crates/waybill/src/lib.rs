//! The command line, one file a command, and nothing else: what the commands do is in the other crates. A library, so
//! that the tests can build the same program.

mod audit;
mod cli;
mod demo;
mod dev;
mod doctor;
mod history;
mod keys;
mod load;
mod logging;
mod migrate;
mod orders;
mod print;
mod reconcile;
mod replay;
mod screen;
mod serve;
mod signals;
mod table;
mod telemetry;
mod token;

use std::process::ExitCode;

use clap::Parser as _;
use waybill_domain::text::escaped;
use waybill_server::app::AuditError;

use self::cli::{Cli, Command};

/// Replies of Redis are thousands of small pieces, which glibc's allocator is slow to sort out: docs/adr/0036.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit statuses, after BSD's sysexits(3).
mod status {
    /// Something was found, or refused.
    pub const REFUSED: u8 = 1;
    /// Wrong usage, an unknown setting or a bad value.
    pub const USAGE: u8 = 64;
    /// A store, a server or a program that is needed is not there.
    pub const UNAVAILABLE: u8 = 69;
    /// Ended by Ctrl-C: 128 + SIGINT, as a shell would report it.
    pub const INTERRUPTED: u8 = 130;
}

/// Why a command ended.
enum Failure {
    /// A setting or a flag that cannot be used.
    Usage(String),
    /// What is needed is not there.
    Unavailable(String),
    /// The command ran, found something wrong, and has printed it.
    Found,
    /// What was asked for was refused, for this reason.
    Refused(String),
    /// The user ended it before its end.
    Interrupted(String),
}

impl Failure {
    fn unavailable(error: impl Into<anyhow::Error>) -> Failure {
        Failure::Unavailable(causes(error))
    }
}

/// The causes on one line: what a person reads first. One that the error above it includes already is left out.
fn causes(error: impl Into<anyhow::Error>) -> String {
    let causes = error.into();
    let mut line = String::new();
    for cause in causes.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

impl From<waybill_server::config::ConfigError> for Failure {
    fn from(error: waybill_server::config::ConfigError) -> Failure {
        Failure::Usage(error.to_string())
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Failure {
        match error {
            AuditError::Settings(_) | AuditError::NoAccount(_) => Failure::Usage(error.to_string()),
            AuditError::Store(_) | AuditError::Audit(_) | AuditError::Provider(_) => Failure::unavailable(error),
        }
    }
}

/// Runs the program; its exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wrong = error.use_stderr();
            // Nothing better can be done with an error of writing the error.
            let _ = error.print();
            return if wrong {
                ExitCode::from(status::USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the runtime cannot start: {error}"), status::UNAVAILABLE),
    };
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Found) => ExitCode::FAILURE,
        // What is wrong with a file of settings is shown with its lines.
        Err(Failure::Usage(lines)) => fail(&lines, status::USAGE),
        Err(Failure::Refused(line)) => fail(&escaped(&line), status::REFUSED),
        Err(Failure::Unavailable(line)) => fail(&escaped(&line), status::UNAVAILABLE),
        Err(Failure::Interrupted(line)) => fail(&escaped(&line), status::INTERRUPTED),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let config = cli.config.as_deref();
    match cli.command {
        Command::Serve(args) => serve::run(config, args).await,
        Command::Dev(args) => Box::pin(dev::run(config, args)).await,
        // Boxed: the largest of them, and each of the others would be as large with it.
        Command::Demo(args) => Box::pin(demo::run(config, args)).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Load(args) => Box::pin(load::run(*args)).await,
        Command::Migrate(args) => migrate::run(config, args).await,
        Command::Token(args) => token::run(&args),
        Command::Keys(args) => keys::run(config, args).await,
        Command::Audit(args) => audit::run(config, args).await,
        Command::Orders(args) => orders::run(config, args).await,
        Command::History(args) => history::run(config, args).await,
        Command::Reconcile(args) => Box::pin(reconcile::run(config, args)).await,
        Command::Doctor(args) => doctor::run(config, args).await,
    }
}

/// The command line's one way to report an error.
fn fail(lines: &str, status: u8) -> ExitCode {
    print::notes(&format!("waybill: {lines}"));
    ExitCode::from(status)
}
