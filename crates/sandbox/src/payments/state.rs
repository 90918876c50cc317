//! What the requests to one provider share.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::faults::Faults;
use super::ledger::{Executed, Ledger};
use super::reply::Reply;
use super::webhooks::Webhooks;

#[derive(Debug)]
pub(super) struct ProviderState {
    ledger: Mutex<Ledger>,
    faults: Mutex<Faults>,
    pub requests: AtomicU64,
    pub webhooks: Webhooks,
    pub stopping: CancellationToken,
    pub tasks: TaskTracker,
}

impl ProviderState {
    pub(super) fn new(ledger: Ledger) -> ProviderState {
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        ProviderState {
            ledger: Mutex::new(ledger),
            faults: Mutex::default(),
            requests: AtomicU64::new(0),
            webhooks: Webhooks::new(tasks.clone(), stopping.clone()),
            stopping,
            tasks,
        }
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the events of what was executed; its answer.
    pub(super) async fn publish(&self, executed: Executed) -> Reply {
        for event in executed.events {
            self.webhooks.send(event).await;
        }
        executed.reply
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
