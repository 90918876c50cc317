//! From the first task to the orderly end: the tokens that stop the parts of a server and the trackers that wait for them,
//! in one place; and the drain, which uses them in order.

use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::App;

/// How long connections have to close once nothing runs on them.
const CLOSING_MAX: Duration = Duration::from_secs(5);

/// What stops each part of a server, and what waits for it. Clones share all of it.
#[derive(Clone, Default)]
pub(super) struct Lifecycle {
    /// Cancelled at the first sign of the end: not ready, not serving.
    pub unready: CancellationToken,
    /// Cancelled when calls, streams and sagas are to end.
    pub draining: CancellationToken,
    /// Cancelled when the workers behind them are to end, too.
    pub stopping: CancellationToken,
    /// Streams and sagas.
    pub sagas: TaskTracker,
    /// Batchers, the history writer, the sweeper and its neighbours, the health monitor.
    pub workers: TaskTracker,
    /// The gRPC servers: on their own listener, and on that for browsers.
    pub grpc: TaskTracker,
    /// The HTTP servers.
    pub http: TaskTracker,
}

/// Whether every part ended in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Drained {
    /// Every accepted call, stream and saga ended or was left to its lease.
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
        let App {
            config,
            lifecycle,
            health_monitor,
            cut_grpc,
            postgres,
            ..
        } = self;
        // Unready but serving: load balancers need a moment to see it, and until then they send calls here.
        info!("draining");
        lifecycle.unready.cancel();
        health_monitor.not_serving().await;
        tokio::time::sleep(config.drain.unready.0).await;

        // Streams end with what they have acknowledged, sagas at the end of their step, connections with GOAWAY.
        lifecycle.draining.cancel();
        let work = config.drain.work.0;
        lifecycle.sagas.close();
        if timeout(work, lifecycle.sagas.wait()).await.is_err() {
            warn!(left = lifecycle.sagas.len(), "sagas left to their leases");
        }
        lifecycle.close_grpc(&cut_grpc).await;

        // No more fixes arrive: the history writer writes what is acknowledged, then ends.
        lifecycle.stopping.cancel();
        lifecycle.workers.close();
        if timeout(work, lifecycle.workers.wait()).await.is_err() {
            warn!(left = lifecycle.workers.len(), "workers cut");
        }
        lifecycle.http.close();
        if timeout(CLOSING_MAX, lifecycle.http.wait()).await.is_err() {
            info!("open HTTP connections cut");
        }
        postgres.close();
    }
}

impl Lifecycle {
    /// What is left are calls that are no sagas, which are short, and connections. A client that keeps its connection open
    /// must not hold up the end: hyper waits for it without limit.
    async fn close_grpc(&self, cut: &[AbortHandle]) {
        self.grpc.close();
        if timeout(CLOSING_MAX, self.grpc.wait()).await.is_err() {
            info!("open gRPC connections cut");
            cut.iter().for_each(AbortHandle::abort);
        }
    }
}
