//! What the payment provider tells us. It is a reason to look at an order now, and nothing more: what happened is asked
//! of the provider, by the saga, as if nobody had told. So an event that lies, comes twice, late or out of order does no
//! harm, and one that is lost costs only time.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;
use tracing::{debug, error, info, warn};
use waybill_domain::id::OrderId;

use crate::egress::payments::signature::{self, Refusal};
use crate::storage::StoreError;
use crate::storage::orders::{OrderStore, Recorded};

/// How far the time of a signature may be from our clock, before or after: Stripe's own libraries take as much.
const TOLERANCE: Duration = Duration::from_mins(5);
/// Stripe's ids and types have some 30. Also the limit of the column.
const NAME_BYTES_MAX: usize = 255;

/// Takes the provider's events.
#[derive(Clone)]
pub struct Webhooks {
    store: OrderStore,
    secrets: Vec<SecretString>,
}

/// What came of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The event is stored, and its order, if it waited, is due now.
    Taken,
    /// It was taken before; nothing was done.
    Duplicate,
    /// Not from the provider, or not of now.
    RefusedSignature,
    /// From the provider, but too long, or no event.
    RefusedBody,
    /// Not stored: it should be sent again.
    Unavailable,
}

/// What we want to know of an event.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    id: String,
    kind: String,
    /// `None`: about no order, or none that could be ours.
    order: Option<OrderId>,
}

impl Webhooks {
    /// Takes what is signed with one of `secrets`. `store` is for callers: the provider waits behind orders under way.
    pub fn new(store: OrderStore, secrets: Vec<SecretString>) -> Webhooks {
        Webhooks { store, secrets }
    }

    /// Takes one webhook: its `Stripe-Signature`, empty if it has none, and its body as it came. When this returns
    /// [`Outcome::Taken`], the event is committed.
    pub async fn take(&self, signature: &[u8], body: &[u8], now: Timestamp) -> Outcome {
        if let Err(refusal) = signature::verify(signature, body, &self.secrets, now, TOLERANCE) {
            log_refusal(refusal);
            return Outcome::RefusedSignature;
        }
        let Some(event) = Event::parse(body) else {
            warn!("a webhook of the payment provider is no event");
            return Outcome::RefusedBody;
        };
        let recorded = self.store.record_event(&event.id, &event.kind, event.order).await;
        let Event { id, kind, order } = event;
        let order = order.map(tracing::field::display);
        match recorded {
            Ok(Recorded::New { woken }) => {
                info!(event = id, kind, order, woken, "payment event taken");
                Outcome::Taken
            }
            Ok(Recorded::Duplicate) => {
                debug!(event = id, kind, order, "payment event known already");
                Outcome::Duplicate
            }
            Err(error @ StoreError::Unexpected(_)) => {
                error!(event = id, kind, order, %error, "payment event not stored");
                Outcome::Unavailable
            }
            Err(error) => {
                warn!(event = id, kind, order, %error, "payment event not stored");
                Outcome::Unavailable
            }
        }
    }
}

impl Outcome {
    /// Its name among the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Taken => "taken",
            Outcome::Duplicate => "duplicate",
            Outcome::RefusedSignature => "refused_signature",
            Outcome::RefusedBody => "refused_body",
            Outcome::Unavailable => "unavailable",
        }
    }
}

impl Event {
    fn parse(body: &[u8]) -> Option<Event> {
        let json: Value = serde_json::from_slice(body).ok()?;
        let name = |field: &str| {
            Some(json.get(field)?.as_str()?)
                .filter(|name| is_name(name))
                .map(str::to_owned)
        };
        let order = json.pointer("/data/object/metadata/order_id").and_then(Value::as_str);
        Some(Event {
            id: name("id")?,
            kind: name("type")?,
            order: order.and_then(|id| id.parse().ok()),
        })
    }
}

/// What goes into a column and a line of the log as it is.
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A stranger can cause as many of these as he likes, and may not fill the log. What only the provider can cause is
/// news: a clock is wrong.
fn log_refusal(refusal: Refusal) {
    match refusal {
        Refusal::NotNow(_) => warn!(why = %refusal, "a webhook of the payment provider is refused"),
        Refusal::Malformed | Refusal::Forged => debug!(why = %refusal, "a webhook is refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Option<Event> {
        Event::parse(body.as_bytes())
    }

    #[test]
    fn the_order_is_that_of_the_metadata() {
        let order = "01a20315-5e19-7147-aacf-821719f49b3a";
        let body = format!(
            r#"{{"id":"evt_1","type":"refund.created","data":{{"object":{{"metadata":{{"order_id":"{order}"}}}}}}}}"#
        );
        let event = parse(&body).unwrap();
        assert_eq!((event.id.as_str(), event.kind.as_str()), ("evt_1", "refund.created"));
        assert_eq!(event.order, order.parse().ok());
    }

    #[test]
    fn an_event_may_be_about_no_order() {
        for about in [
            "",
            r#","data":null"#,
            r#","data":{"object":{"metadata":[]}}"#,
            r#","data":{"object":{"metadata":{"order_id":7}}}"#,
            r#","data":{"object":{"metadata":{"order_id":"7"}}}"#,
        ] {
            let event = parse(&format!(r#"{{"id":"evt_1","type":"x"{about}}}"#)).unwrap();
            assert_eq!(event.order, None, "{about}");
        }
    }

    #[test]
    fn without_a_clean_id_and_type_it_is_no_event() {
        let long = format!(r#"{{"id":"{}","type":"x"}}"#, "e".repeat(256));
        for body in [
            "",
            "[]",
            r#""evt_1""#,
            r#"{"type":"x"}"#,
            r#"{"id":"evt_1"}"#,
            r#"{"id":"","type":"x"}"#,
            r#"{"id":"evt_1","type":null}"#,
            r#"{"id":"evt\u0000","type":"x"}"#,
            r#"{"id":"evt_1","type":"x\ny"}"#,
            r#"{"id":"evt_1","type":"x"} more"#,
            &long,
        ] {
            assert_eq!(parse(body), None, "{body}");
        }
    }
}
