//! A private Redis (or Valkey) with the durability that an acknowledged position needs: an append-only file, written
//! through at each command, and nothing evicted.

use std::ffi::OsString;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::log::ServerLog;
use super::server::{Program, Server, create_absolute};
use crate::Error;
use crate::process::{Launch, Signal};
use crate::programs;

/// One database per test, and a run has more tests than the default of 16.
const DATABASES: u16 = 1024;
/// A server that is loading its data answers so at once; one that does not answer is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// A private Redis. Dropped, it is killed.
pub type Redis = Server<AppendOnly>;

impl Redis {
    /// `redis://` URL of database 0.
    pub fn url(&self) -> String {
        self.url_for(0)
    }

    /// `redis://` URL of one of the 1,024 databases, 0 to 1023.
    pub fn url_for(&self, database: u16) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port())
    }
}

/// A Redis on an append-only file.
#[derive(Debug)]
pub struct AppendOnly {
    program: PathBuf,
    data: PathBuf,
    durable: bool,
}

impl Program for AppendOnly {
    const NAME: &'static str = "Redis";
    const STOP: Signal = Signal::SIGTERM;

    async fn prepare(folder: &Path, durable: bool, _log: &ServerLog) -> Result<Self, Error> {
        Ok(Self {
            program: programs::redis()?,
            data: create_absolute(&folder.join("data"))?,
            durable,
        })
    }

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
        let settings = settings.iter().flat_map(|(name, value)| [name.into(), value.into()]);
        let mut args: Vec<OsString> = settings.collect();
        args.extend([OsString::from("--dir"), self.data.clone().into_os_string()]);
        Launch {
            program: self.program.clone(),
            args,
            output,
        }
    }

    /// Asks for the process id too: another server may have taken the port first.
    async fn is_ready(&self, pid: Pid, port: u16) -> bool {
        let id = format!("\r\nprocess_id:{pid}\r\n");
        let query = async {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
            // QUIT makes the end of the answer the end of the stream.
            stream.write_all(b"PING\r\nINFO server\r\nQUIT\r\n").await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            // While it loads its data, PING is answered by an error.
            Some(answer.starts_with("+PONG") && answer.contains(&id))
        };
        let answer = tokio::time::timeout(ANSWER_WITHIN, query).await;
        answer.ok().flatten().unwrap_or(false)
    }
}
