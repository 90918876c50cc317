//! The orderly end: first nobody new, then everybody out, then the lights.

use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use super::App;

/// How long connections have to close once nothing runs on them.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// Whether everything came to its end in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// Every accepted call, stream and saga came to its end or was handed over.
    Clean,
    /// The hard stop came first. What was left over is safe: leases run out, unacknowledged fixes are sent again.
    Cut,
}

impl App {
    /// Ends the server in order, within `drain.hard_stop`.
    pub async fn shut_down(self) -> Drained {
        let hard_stop = self.config.drain.hard_stop.0;
        if timeout(hard_stop, self.drain()).await.is_ok() {
            info!("drained");
            Drained::Clean
        } else {
            warn!(after_secs = hard_stop.as_secs(), "drain cut short");
            Drained::Cut
        }
    }

    async fn drain(self) {
        // Unready but serving: load balancers need a moment to see it, and until then they send calls here.
        info!("draining");
        self.unready.cancel();
        self.watchman.not_serving().await;
        tokio::time::sleep(self.config.drain.unready.0).await;

        // Streams end with what they have acknowledged, sagas at the end of their step, connections with GOAWAY.
        self.draining.cancel();
        let work = self.config.drain.work.0;
        self.sagas.close();
        if timeout(work, self.sagas.wait()).await.is_err() {
            warn!(left = self.sagas.len(), "sagas left to their leases");
        }

        // What is left are calls that are no sagas, which are short, and connections. A client that holds its connection
        // open must not hold us up: hyper waits for it without end.
        self.grpc.close();
        if timeout(CLOSING_MAX, self.grpc.wait()).await.is_err() {
            info!("connections cut that did not close");
            self.cut_grpc.abort();
        }

        // Nobody brings fixes any more: the history writer writes what is acknowledged, then ends. Last the lights.
        self.stopping.cancel();
        self.workers.close();
        if timeout(work, self.workers.wait()).await.is_err() {
            warn!(left = self.workers.len(), "workers cut");
        }
        self.http.close();
        if timeout(CLOSING_MAX, self.http.wait()).await.is_err() {
            info!("HTTP connections cut that did not close");
        }
        self.postgres.close();
    }
}
