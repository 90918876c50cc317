//! A payment provider: an HTTP server that speaks the part of Stripe's API that Waybill uses.
//!
//! * `POST /v1/payment_intents` with `confirm=true`, `GET /v1/payment_intents[/{id}]`
//! * `POST /v1/refunds`, `GET /v1/refunds[/{id}]`
//! * any API key that begins with `sk_test_`, Stripe's test payment methods, its error objects, and its rules for
//!   idempotency keys: the first answer of a request that had an effect or was declined is saved and replayed, refusals
//!   before that save nothing
//! * webhooks, signed as Stripe's are, to one endpoint
//! * `GET|PUT|DELETE /_sandbox/faults`, `GET|PUT|DELETE /_sandbox/webhooks` and `GET /_sandbox/ledger`, for tests and
//!   demonstrations
//!
//! The ledger is the truth about money: one line of a file for each request that had an effect, written before the
//! answer. A provider that is started over the same file knows all that the one before it knew.

mod books;
mod faults;
mod http;
mod journal;
mod line;
mod objects;
mod refusal;
mod reply;
mod request;
mod webhooks;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::books::Books;
use self::faults::Faults;
use self::line::{Cut, Lines};
use self::webhooks::Webhooks;
use crate::Error;

pub use self::faults::{Fault, FaultKind, Operation};
pub use self::objects::{Movement, MovementKind};
pub use self::webhooks::{BadWebhooks, Delivery, WebhookBehaviour, WebhookEndpoint, webhook_signature};

/// A running provider. Dropped, it stops as at [`Provider::stop`], without the wait.
#[derive(Debug)]
pub struct Provider {
    bank: Arc<Bank>,
    addr: SocketAddr,
}

impl Provider {
    /// Starts it on `addr` (port 0: any free one) over the ledger file, which is made if it is not there.
    pub async fn start(addr: SocketAddr, ledger: &Path) -> Result<Provider, Error> {
        let books = Books::open(ledger)?;
        let listener = TcpListener::bind(addr).await.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => Error::PortInUse { address: addr },
            _ => Error::Listen { address: addr, source },
        })?;
        let addr = listener
            .local_addr()
            .map_err(|source| Error::Listen { address: addr, source })?;
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let bank = Arc::new(Bank {
            books: Mutex::new(books),
            faults: Mutex::default(),
            requests: AtomicU64::new(0),
            webhooks: Webhooks::new(tasks.clone(), stopping.clone()),
            stopping,
            tasks,
        });
        let service = http::router(bank.clone()).into_make_service_with_connect_info::<Cut>();
        let serve = axum::serve(Lines::new(listener, bank.stopping.clone()), service)
            .with_graceful_shutdown(bank.stopping.clone().cancelled_owned());
        bank.tasks.spawn(serve.into_future());
        Ok(Provider { bank, addr })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://` URL of its root, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Every movement of money so far, the oldest first.
    pub fn ledger(&self) -> Vec<Movement> {
        self.bank.books().movements()
    }

    /// How many requests under `/v1` it has seen, refused ones too.
    pub fn requests(&self) -> u64 {
        self.bank.requests.load(Ordering::Relaxed)
    }

    /// The faults that can still hit, with what is left of their counts.
    pub fn faults(&self) -> Vec<Fault> {
        self.bank.faults().left()
    }

    /// This fault and no other, from the next request on.
    pub fn set_fault(&self, fault: Fault) {
        self.set_faults([fault]);
    }

    /// These faults and no others. The first that fits a request decides; a latency goes together with another.
    pub fn set_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.bank.faults().set(faults);
    }

    /// No faults from the next request on. A request that hangs goes on hanging.
    pub fn clear_faults(&self) {
        self.set_faults([]);
    }

    /// Events from now on go to this endpoint, or to none.
    pub fn set_webhooks(&self, endpoint: Option<WebhookEndpoint>) {
        self.bank.webhooks.register(endpoint);
    }

    /// Events from now on are delivered so. One that waits to be overtaken leaves now.
    pub fn set_webhook_behaviour(&self, behaviour: WebhookBehaviour) {
        self.bank.webhooks.behave(behaviour);
    }

    /// The last thousand tries to deliver an event, the oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.bank.webhooks.deliveries()
    }

    /// Stops as a killed process would: all connections are cut, what was not done yet is not done. Then the port and
    /// the ledger file are free for another.
    pub async fn stop(self) {
        self.bank.stopping.cancel();
        self.bank.tasks.close();
        self.bank.tasks.wait().await;
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.bank.stopping.cancel();
        // The tasks of the connections hold the books a moment longer.
        self.bank.books().close();
    }
}

/// What the requests share.
#[derive(Debug)]
struct Bank {
    books: Mutex<Books>,
    faults: Mutex<Faults>,
    requests: AtomicU64,
    webhooks: Webhooks,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Bank {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
