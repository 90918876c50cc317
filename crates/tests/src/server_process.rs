//! `waybill serve` as a process that can be killed and paused.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tonic::transport::Channel;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_sandbox::process::{Process, Signal};

use crate::process::{addresses, assert_runs, launch, program, read, until_ready};
use crate::rig::Rig;
use crate::until;
use crate::wire::channel;

/// Longer than the program's own hard stop.
const STOP_GRACE: Duration = Duration::from_secs(35);

/// `waybill serve` in a process of its own, on the stores of a rig. Dropped, it is killed.
pub struct ServerProcess {
    process: Process,
    log: PathBuf,
    grpc: String,
    http: String,
    channel: Channel,
}

impl ServerProcess {
    /// Starts it with the rig's settings and `settings` over them; when this returns, `/readyz` answers 200.
    pub async fn start(rig: &Rig, settings: &[(&'static str, &str)]) -> ServerProcess {
        let mut server = ServerProcess::start_unready(rig, settings).await;
        until_ready(&mut server.process, &server.http, &server.log).await;
        server
    }

    /// The same, but when this returns, it listens.
    pub async fn start_unready(rig: &Rig, settings: &[(&'static str, &str)]) -> ServerProcess {
        let mut flags = rig.flags().clone();
        flags.extend(settings.iter().map(|(key, value)| (*key, (*value).to_owned())));
        flags.insert("log.format", "json".to_owned());
        let log = rig.folder().join(format!("server-{}.log", uuid::Uuid::now_v7()));
        let mut process = launch(&program(), &["serve"], &flags, &log);
        let addresses = until("the server logs where it listens", async || {
            assert_runs(&mut process, &log);
            addresses(&read(&log)).ok_or_else(|| read(&log))
        })
        .await;
        let (grpc, http) = (addresses.grpc.to_string(), addresses.http.to_string());
        let channel = channel(&grpc);
        ServerProcess {
            process,
            log,
            grpc,
            http,
            channel,
        }
    }

    /// Its order service.
    pub fn orders(&self) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.channel.clone())
    }

    /// Its location service.
    pub fn locations(&self) -> LocationServiceClient<Channel> {
        LocationServiceClient::new(self.channel.clone())
    }

    /// Where its gRPC services listen, such as `127.0.0.1:4711`.
    pub fn grpc_addr(&self) -> &str {
        &self.grpc
    }

    /// `http://` URL of its `/readyz` and `/metrics`, without a slash at the end.
    pub fn http(&self) -> String {
        format!("http://{}", self.http)
    }

    /// What it logged so far, one JSON object a line.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Waits until this is in its log.
    pub async fn until_logged(&self, text: &str) {
        until(text, async || {
            let log = self.log();
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// Sends a signal, such as SIGSTOP and SIGCONT.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).expect("the server runs");
    }

    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> ExitStatus {
        self.process.wait().await.expect("a child")
    }

    /// SIGKILL; it is gone when this returns.
    pub async fn kill(self) {
        self.signal(Signal::SIGKILL);
        self.ended().await;
    }

    /// SIGTERM; how it ended, by itself.
    pub async fn stop(mut self) -> ExitStatus {
        self.process.stop(Signal::SIGTERM, STOP_GRACE).await.expect("a child")
    }
}
