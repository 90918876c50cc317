//! The payment provider of a run, with its ledger, its faults and its events.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use testkit::chance::pass;
use testkit::load::findings::lock;
use tokio::time::Instant;
use waybill_sandbox::payments::{
    Fault, FaultKind, Movement, MovementKind, Provider, WebhookBehaviour, WebhookEndpoint,
};
use waybill_sandbox::port;

use crate::plan::WEBHOOK_SECRET;

/// The payment provider, which can be killed: another takes its place over the same ledger.
pub struct PaymentProvider {
    addr: SocketAddr,
    ledger: PathBuf,
    provider: Mutex<Option<Provider>>,
    /// Where it sends its events.
    webhooks: Mutex<Option<WebhookEndpoint>>,
    /// How many want no answers from it, whatever its faults are to be.
    holds: AtomicU64,
}

impl PaymentProvider {
    /// Starts it over this ledger.
    pub async fn start(ledger: PathBuf) -> PaymentProvider {
        let provider = PaymentProvider {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port::free())),
            ledger,
            provider: Mutex::new(None),
            webhooks: Mutex::new(None),
            holds: AtomicU64::new(0),
        };
        provider.open().await;
        provider
    }

    /// `http://` URL of it.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Starts it where it was.
    pub async fn open(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match Provider::start(self.addr, &self.ledger).await {
                Ok(provider) => {
                    provider.set_webhooks(lock(&self.webhooks).clone());
                    *lock(&self.provider) = Some(provider);
                    return;
                }
                // Connections of the one before, closed a moment ago.
                Err(error) if Instant::now() > until => panic!("the provider does not start again: {error}"),
                Err(_) => pass(Duration::from_millis(20)).await,
            }
        }
    }

    /// Has it send its events there from now on.
    pub fn send_events_to(&self, url: &str) {
        let endpoint = WebhookEndpoint::new(url, WEBHOOK_SECRET).expect("a local URL");
        *lock(&self.webhooks) = Some(endpoint.clone());
        if let Some(provider) = &*lock(&self.provider) {
            provider.set_webhooks(Some(endpoint));
        }
    }

    /// How it sends its events from now on.
    pub fn set_webhook_behaviour(&self, behaviour: WebhookBehaviour) {
        if let Some(provider) = &*lock(&self.provider) {
            provider.set_webhook_behaviour(behaviour);
        }
    }

    /// Ends it as a kill would.
    pub async fn close(&self) {
        let provider = lock(&self.provider).take();
        if let Some(provider) = provider {
            provider.stop().await;
        }
    }

    /// These faults from now on, unless its answers are held.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        if self.holds.load(Ordering::Relaxed) == 0
            && let Some(provider) = &*lock(&self.provider)
        {
            provider.set_faults(faults);
        }
    }

    /// From now on it answers hardly any request.
    pub fn hold_answers(&self) {
        self.holds.fetch_add(1, Ordering::Relaxed);
        if let Some(provider) = &*lock(&self.provider) {
            provider.set_faults([Fault::always(FaultKind::Hang).with_probability(0.95)]);
        }
    }

    /// One who wanted that does not any more.
    pub fn release_answers(&self) {
        if self.holds.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.set_faults(Vec::new());
        }
    }

    /// It makes no mistakes, and takes so long for each answer.
    pub fn set_slow(&self, answer: Duration) {
        self.set_faults(vec![Fault::always(FaultKind::Latency).delayed(answer)]);
    }

    /// The banks give so many refunds back that were made, days later: how many.
    pub async fn fail_refunds(&self, count: usize) -> usize {
        let ledger = self.ledger().unwrap_or_default();
        let refunds: Vec<String> = ledger
            .into_iter()
            .filter(|movement| movement.kind == MovementKind::Refund)
            .map(|movement| movement.provider_id)
            .take(count)
            .collect();
        let provider = lock(&self.provider).take();
        if let Some(provider) = &provider {
            provider.set_webhook_behaviour(WebhookBehaviour::default());
            for refund in &refunds {
                provider
                    .fail_refund(refund, "lost_or_stolen_card")
                    .await
                    .expect("a refund");
            }
        }
        *lock(&self.provider) = provider;
        refunds.len()
    }

    /// Every movement of money; `None` while it is down.
    pub fn ledger(&self) -> Option<Vec<Movement>> {
        lock(&self.provider).as_ref().map(Provider::ledger)
    }
}
