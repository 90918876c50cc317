//! A private Redis (or Valkey) with the durability that an acknowledged position needs: append-only file, written
//! through at each command, nothing evicted.
//!
//! In its folder: `data`, the append-only file, and `log`, the output of the current server.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Error;
use crate::binaries;
use crate::process::{Launch, Signal};
use crate::server::{Program, Server};
use crate::server_log::ServerLog;

/// One database a test, and more tests in one run than the default of 16.
const DATABASES: u16 = 512;
/// A server that is loading its data answers at once that it is; one that does not answer is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How to run it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server's own folder; made if it is not there. A second start on it finds the data of the first.
    pub data_dir: PathBuf,
    /// Whether each command is on the disk before it is answered (`appendfsync always`), or up to a second later
    /// (`everysec`), which can lose acknowledged commands at `kill -9`.
    pub durable: bool,
}

/// A running Redis. Dropped, it is killed.
#[derive(Debug)]
pub struct Redis {
    server: Server<AppendOnly>,
}

impl Redis {
    /// Starts a server on the data in the folder and waits until it has loaded it and answers.
    pub async fn start(settings: Settings) -> Result<Redis, Error> {
        let program = binaries::redis()?;
        let data = settings.data_dir.join("data");
        let usable = || {
            fs::create_dir_all(&data)?;
            data.canonicalize()
        };
        let data = usable().map_err(|source| Error::Folder {
            path: data.clone(),
            source,
        })?;
        let log = ServerLog::new(data.with_file_name("log"));
        let append_only = AppendOnly {
            program,
            data,
            durable: settings.durable,
        };
        Ok(Redis {
            server: Server::start(append_only, log).await?,
        })
    }

    /// `redis://` URL of database 0.
    pub fn url(&self) -> String {
        self.url_for(0)
    }

    /// `redis://` URL of one of the 512 databases, 0 to 511.
    pub fn url_for(&self, database: u16) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.server.port())
    }

    /// The server; `None` while it is down.
    pub fn pid(&self) -> Option<Pid> {
        self.server.pid()
    }

    /// Sends a signal to the server, such as SIGSTOP and SIGCONT.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        self.server.signal(signal)
    }

    /// Kills it with SIGKILL and reaps it.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.server.kill().await
    }

    /// Stops it if it runs, and starts it on the same port and data.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.server.restart().await
    }

    /// A clean shutdown: everything is written.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.server.stop().await
    }
}

/// A Redis on an append-only file.
#[derive(Debug)]
struct AppendOnly {
    program: PathBuf,
    data: PathBuf,
    durable: bool,
}

impl Program for AppendOnly {
    const NAME: &'static str = "Redis";
    const STOP: Signal = Signal::SIGTERM;

    fn launch(&self, port: u16, output: File) -> Launch {
        let (port, databases) = (port.to_string(), DATABASES.to_string());
        let settings = [
            ("--bind", "127.0.0.1"),
            ("--port", port.as_str()),
            ("--appendonly", "yes"),
            ("--appendfsync", if self.durable { "always" } else { "everysec" }),
            ("--save", ""),
            ("--maxmemory-policy", "noeviction"),
            ("--databases", databases.as_str()),
        ];
        let mut args: Vec<OsString> = settings
            .iter()
            .flat_map(|(name, value)| [name.into(), value.into()])
            .collect();
        args.extend([OsString::from("--dir"), self.data.clone().into_os_string()]);
        Launch {
            program: self.program.clone(),
            args,
            output,
            run_as: None,
        }
    }

    /// Asks it for its process id too: another server may have taken the port first.
    async fn is_ready(&self, pid: Pid, port: u16) -> bool {
        let id = format!("\r\nprocess_id:{pid}\r\n");
        let ask = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
            // QUIT makes the end of the answer the end of the stream.
            stream.write_all(b"PING\r\nINFO server\r\nQUIT\r\n").await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            // While it loads its data, PING is answered by an error.
            Some(answer.starts_with("+PONG") && answer.contains(&id))
        };
        tokio::time::timeout(ANSWER_WITHIN, ask)
            .await
            .ok()
            .flatten()
            .unwrap_or(false)
    }
}
