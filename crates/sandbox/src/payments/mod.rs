//! A payment provider: an HTTP server that speaks the part of Stripe's API that Waybill uses.
//!
//! * `POST /v1/payment_intents` with `confirm=true`, `GET /v1/payment_intents[/{id}]`
//! * with `capture_method=manual`, `POST /v1/payment_intents/{id}/capture` and `POST /v1/payment_intents/{id}/cancel`
//! * `GET /v1/charges`, all or those of a `transfer_group` or of a payment
//! * `POST /v1/customers`, `POST /v1/payment_methods` with `card[token]`, `POST /v1/payment_methods/{id}/attach`
//! * `POST /v1/refunds`, `GET /v1/refunds[/{id}]`
//! * `GET /v1/disputes[/{id}]`, all or those of a payment or of a charge
//! * any API key that begins with `sk_test_`, Stripe's test payment methods, its error objects, and its rules for
//!   idempotency keys: the first answer to a request that was executed is saved and replayed, whether it had an effect, was
//!   declined, or was refused for the state of a payment; a request that was refused before that saves nothing
//! * webhooks, signed as Stripe's are, to one endpoint
//! * `GET|PUT|DELETE /_sandbox/faults`, `GET|PUT|DELETE /_sandbox/webhooks` and `GET /_sandbox/ledger`, for tests and
//!   demonstrations
//! * what card networks and banks do without a request, for tests: `POST /_sandbox/payment_intents/{id}/expire` ends a hold,
//!   as after some days; `POST /_sandbox/refunds/{id}/settle` ends a refund that is pending, and
//!   `POST /_sandbox/refunds/{id}/fail` with `{"reason": "lost_or_stolen_card"}` any refund; `POST /_sandbox/disputes` with
//!   `{"payment_intent": "pi_...", "amount": 500, "reason": "fraudulent"}` disputes a payment, all of it without an amount,
//!   and `POST /_sandbox/disputes/{id}/close` with `{"won": true}` ends that. `DELETE /_sandbox/keys` lets all idempotency
//!   keys expire. Each is a method of [`Provider`] too
//!
//! The ledger is the truth about money: one line of a file for each request that had an effect, written before the
//! answer. A provider that is started on the same file knows everything that its predecessor knew.

mod api_error;
mod change;
mod charges;
mod connection;
mod currencies;
mod disputes;
mod faults;
mod holds;
mod journal;
mod ledger;
mod listing;
mod movements;
mod network;
mod network_api;
mod objects;
mod past;
mod payment_methods;
mod refunds;
mod reply;
mod request;
mod sandbox_api;
mod state;
mod stripe_api;
mod webhooks;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::DefaultBodyLimit;
use tokio::net::TcpListener;

use self::connection::{Connections, Cutter};
use self::ledger::Ledger;
use self::state::ProviderState;
use crate::Error;

pub use self::faults::{Fault, FaultKind, FaultTarget};
pub use self::movements::{Movement, MovementKind};
pub use self::network::Refused;
pub use self::past::{PastCharge, PastRefund};
pub use self::webhooks::{Delivery, InvalidWebhooks, WebhookBehaviour, WebhookEndpoint, webhook_signature};

const BODY_BYTES_MAX: usize = 64 * 1024;

/// A running provider. Dropped, it stops as at [`Provider::stop`], without the wait.
#[derive(Debug)]
pub struct Provider {
    state: Arc<ProviderState>,
    addr: SocketAddr,
}

impl Provider {
    /// Starts it on `addr` (port 0: any free one) with the ledger file, which is created if it is missing.
    pub async fn start(addr: SocketAddr, ledger: &Path) -> Result<Provider, Error> {
        let state = Arc::new(ProviderState::new(Ledger::open(ledger)?));
        let cannot_listen = |source| Error::listen(addr, source);
        let listener = TcpListener::bind(addr).await.map_err(cannot_listen)?;
        let addr = listener.local_addr().map_err(cannot_listen)?;
        let router = stripe_api::routes(&state)
            .merge(sandbox_api::routes())
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(state.clone());
        let connections = Connections::new(listener, state.stopping.clone());
        let serve = axum::serve(connections, router.into_make_service_with_connect_info::<Cutter>())
            .with_graceful_shutdown(state.stopping.clone().cancelled_owned());
        state.tasks.spawn(serve.into_future());
        Ok(Provider { state, addr })
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
        self.state.ledger().movements()
    }

    /// Enters charges that were made before, the oldest first. One that is older than the newest charge of the account gets
    /// its time: lists are in the order of time.
    pub fn add_past_charges(&self, charges: impl IntoIterator<Item = PastCharge>) -> Result<(), Refused> {
        let mut ledger = self.state.ledger();
        charges
            .into_iter()
            .try_for_each(|charge| ledger.add_past_charge(charge).map_err(Refused::from))
    }

    /// The same for refunds of charges that are there.
    pub fn add_past_refunds(&self, refunds: impl IntoIterator<Item = PastRefund>) -> Result<(), Refused> {
        let mut ledger = self.state.ledger();
        refunds
            .into_iter()
            .try_for_each(|refund| ledger.add_past_refund(refund).map_err(Refused::from))
    }

    /// How many requests under `/v1` it has received, refused ones too.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// The faults that can still hit, with what is left of their counts.
    pub fn faults(&self) -> Vec<Fault> {
        self.state.faults().remaining()
    }

    /// Replaces all faults by this one, from the next request on.
    pub fn set_fault(&self, fault: Fault) {
        self.set_faults([fault]);
    }

    /// Replaces all faults. The first that fits a request decides; a latency is combined with another fault.
    pub fn set_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults().set(faults);
    }

    /// No faults from the next request on. A request that hangs goes on hanging.
    pub fn clear_faults(&self) {
        self.set_faults([]);
    }

    /// Sends events from now on to this endpoint, or to none.
    pub fn set_webhooks(&self, endpoint: Option<WebhookEndpoint>) {
        self.state.webhooks.set_endpoint(endpoint);
    }

    /// Delivers events from now on like this. An event that waits to be overtaken is sent now.
    pub fn set_webhook_behaviour(&self, behaviour: WebhookBehaviour) {
        self.state.webhooks.set_behaviour(behaviour);
    }

    /// The last thousand tries to deliver an event, the oldest first.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state.webhooks.deliveries()
    }

    /// Stops as a killed process would: all connections are cut, and what has not been done never is. Then the port and
    /// the ledger file are free for another.
    pub async fn stop(self) {
        self.state.stopping.cancel();
        self.state.tasks.close();
        self.state.tasks.wait().await;
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.state.stopping.cancel();
        // The tasks of the connections hold the ledger a moment longer.
        self.state.ledger().close();
    }
}
