//! This program again, as a process of its own: what stands beside the server must not share a process with the
//! callers, or its processor time would pass for theirs.

use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::Duration;

use testkit::process::read;
use testkit::until;
use waybill_sandbox::port;
use waybill_sandbox::process::{Launch, Process, Signal};

use testkit::benchmark::process_cost::ProcessCost;

/// The hidden arguments: an echo of recorded answers, and the payment provider.
pub const ECHO: &str = "--serve-echo";
/// See `ECHO`.
pub const PAYMENTS: &str = "--serve-payments";
const PATIENCE: Duration = Duration::from_secs(10);

/// A process of this program. Dropped, it is killed.
pub struct Again {
    process: Process,
    /// Where it listens.
    pub addr: String,
}

impl Again {
    /// Starts it with a hidden argument and what follows the address; when this returns it takes connections.
    pub async fn start(argument: &str, log: &Path, rest: &[OsString]) -> Again {
        let port = port::free();
        let addr = format!("127.0.0.1:{port}");
        let args = [argument, &addr].map(OsString::from);
        let process = Process::start(Launch {
            program: std::env::current_exe().unwrap(),
            args: args.into_iter().chain(rest.iter().cloned()).collect(),
            output: File::create(log).unwrap(),
        });
        until("it takes connections", async || {
            let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
            connected.map_err(|error| format!("{error}: {}", read(log)))
        })
        .await;
        Again {
            process: process.unwrap(),
            addr,
        }
    }

    /// What it used so far.
    pub fn cost(&self) -> ProcessCost {
        ProcessCost::of(self.process.pid().as_raw())
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.process.stop(Signal::SIGTERM, PATIENCE).await.unwrap();
    }
}
