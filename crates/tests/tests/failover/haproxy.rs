//! HAProxy before a store: what it forwards to is whoever leads.

use std::fs::File;
use std::path::Path;

use waybill_sandbox::port;
use waybill_sandbox::process::{Launch, Process};

use crate::engine::{Watch, write};

/// A running HAProxy. Dropped, it is killed.
pub struct Haproxy {
    port: u16,
    _process: Process,
}

impl Haproxy {
    /// Before these `host:port`, of which each is asked by these lines of its configuration whether it leads, at this port.
    pub fn start(program: &Path, folder: &Path, check: &str, servers: &[(String, u16)], watch: Watch) -> Haproxy {
        let port = port::free();
        let answers_within = match watch {
            Watch::Eager => "500ms",
            Watch::Patient => "10s",
        };
        let servers = servers
            .iter()
            .enumerate()
            .fold(String::new(), |text, (number, (address, port))| {
                text + &format!("    server s{number} {address} check port {port}\n")
            });
        // As in docs/runbook.md.
        let config = format!(
            "global
    maxconn 4000
defaults
    mode tcp
    timeout connect 1s
    timeout client 1h
    timeout server 1h
    timeout check {answers_within}
listen store
    bind 127.0.0.1:{port}
{check}
    default-server inter 500ms fastinter 250ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}"
        );
        std::fs::create_dir_all(folder).expect("a folder");
        let path = folder.join("haproxy.cfg");
        write(&path, &config);
        let process = Process::start(Launch {
            program: program.to_owned(),
            args: vec!["-db".into(), "-f".into(), path.into_os_string()],
            output: File::create(folder.join("haproxy.log")).expect("a log"),
        });
        Haproxy {
            port,
            _process: process.expect("HAProxy starts"),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}
