//! The events that the payment provider sends. An event makes its order due now, and one about a refund or a dispute
//! has the payment of a settled order compared with the provider's record. It changes nothing else: the saga asks the
//! provider what happened, as if no event had come. So an event that is untrue, comes twice, late or out of order does no
//! harm. One that is lost costs time; of a settled order, what it reported is seen only by `waybill reconcile`, and a dispute
//! not even there. Most say what the answer to the charge said, and are not stored. [`signature`] verifies that an event is the
//! provider's.

pub mod signature;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::Value;
use tracing::{debug, error, info, warn};
use waybill_domain::id::OrderId;
use waybill_domain::payment_account::PaymentAccount;

use self::signature::SignatureError;
use crate::orders::Context;
use crate::storage::StoreError;
use crate::storage::orders::{Object, ProviderEvent, Recorded};

/// How far the time of a signature may be from our clock, before or after: Stripe's own libraries take as much.
const TOLERANCE: Duration = Duration::from_mins(5);
/// Stripe's ids and types have some 30. Also the limit of the column.
const NAME_BYTES_MAX: usize = 255;

/// Accepts the provider's events.
#[derive(Clone)]
pub struct PaymentWebhooks {
    orders: Arc<Context>,
    secrets: Arc<BTreeMap<PaymentAccount, Vec<SecretString>>>,
}

/// What became of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Disposition {
    /// The event is stored, and its order, if it was deferred, is due now.
    Accepted,
    /// It was accepted before; nothing was done.
    Duplicate,
    /// It says that an order was charged, which is known, or which the order's saga learns of at the moment. Nothing is stored.
    NothingNew,
    /// Not from the provider, or signed too long ago.
    RefusedSignature,
    /// From the provider, but too long, or not an event.
    RefusedBody,
    /// Not stored: it should be sent again.
    Unavailable,
}

impl PaymentWebhooks {
    /// Accepts what is signed with one of the secrets of its account.
    pub fn new(orders: Arc<Context>, secrets: BTreeMap<PaymentAccount, Vec<SecretString>>) -> PaymentWebhooks {
        PaymentWebhooks {
            orders,
            secrets: Arc::new(secrets),
        }
    }

    /// The accounts whose webhooks are accepted.
    pub fn accounts(&self) -> impl Iterator<Item = &PaymentAccount> {
        self.secrets.keys()
    }

    /// Accepts one webhook of an account: its `Stripe-Signature`, empty if it has none, and its body as it came. When this
    /// returns [`Disposition::Accepted`], the event is committed.
    pub async fn accept(&self, account: &PaymentAccount, signature: &[u8], body: &[u8], now: Timestamp) -> Disposition {
        let secrets = self.secrets.get(account).map_or(&[][..], Vec::as_slice);
        if let Err(refusal) = signature::verify(signature, body, secrets, now, TOLERANCE) {
            log_refusal(refusal);
            return Disposition::RefusedSignature;
        }
        let Some(event) = parse(account, body) else {
            warn!("webhook of the payment provider is not an event");
            return Disposition::RefusedBody;
        };
        let recorded = self.orders.record_event(&event).await;
        let ProviderEvent { id, kind, order, .. } = event;
        let order_id = order.map(tracing::field::display);
        match recorded {
            Ok(Recorded::New { made_due }) => {
                info!(event = id, kind, order_id, made_due, "payment event accepted");
                Disposition::Accepted
            }
            Ok(Recorded::NothingNew) => {
                debug!(event = id, kind, order_id, "payment event with nothing new");
                Disposition::NothingNew
            }
            Ok(Recorded::Duplicate) => {
                debug!(event = id, kind, order_id, "duplicate payment event");
                Disposition::Duplicate
            }
            Err(error @ StoreError::Unexpected(_)) => {
                error!(event = id, kind, order_id, %error, "payment event not stored");
                Disposition::Unavailable
            }
            Err(error) => {
                warn!(event = id, kind, order_id, %error, "payment event not stored");
                Disposition::Unavailable
            }
        }
    }
}

impl Disposition {
    /// Its name among the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Disposition::Accepted => "accepted",
            Disposition::Duplicate => "duplicate",
            Disposition::NothingNew => "nothing_new",
            Disposition::RefusedSignature => "refused_signature",
            Disposition::RefusedBody => "refused_body",
            Disposition::Unavailable => "unavailable",
        }
    }
}

/// What is read of an event.
fn parse(account: &PaymentAccount, body: &[u8]) -> Option<ProviderEvent> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let name = |pointer: &str| {
        Some(json.pointer(pointer)?.as_str()?)
            .filter(|name| is_name(name))
            .map(str::to_owned)
    };
    let order = json.pointer("/data/object/metadata/order_id").and_then(Value::as_str);
    let order: Option<OrderId> = order.and_then(|id| id.parse().ok());
    let about = name("/data/object/object").unwrap_or_default();
    let reconciles = match about.as_str() {
        "refund" | "dispute" => Option::zip(name("/data/object/id"), name("/data/object/status")),
        _ => None,
    };
    // What is still to be decided says nothing yet.
    let is_decided = |(_, status): &(String, String)| !matches!(status.as_str(), "pending" | "requires_action");
    let kind = name("/type")?;
    Some(ProviderEvent {
        id: Some(account.qualified(&name("/id")?)).filter(|id| id.len() <= NAME_BYTES_MAX)?,
        account: account.clone(),
        says_charged: matches!(
            (kind.as_str(), about.as_str()),
            ("payment_intent.succeeded", "payment_intent") | ("charge.succeeded", "charge")
        ),
        kind,
        order,
        payment: match about.as_str() {
            "payment_intent" => name("/data/object/id"),
            _ => name("/data/object/payment_intent"),
        },
        reconciles: reconciles.filter(is_decided).map(|(id, status)| Object { id, status }),
    })
}

/// Whether the text may go into a column and a line of the log as it is.
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Anyone can cause a forgery and may not fill the log. Only the provider can cause the other: then a clock is wrong.
fn log_refusal(error: SignatureError) {
    match error {
        SignatureError::NotNow(_) => warn!(%error, "webhook of the payment provider refused"),
        SignatureError::Malformed | SignatureError::Forged => debug!(%error, "webhook refused"),
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Option<ProviderEvent> {
        super::parse(&PaymentAccount::default(), body.as_bytes())
    }

    /// Of disputes Stripe sends no order, only the payment.
    #[test]
    fn a_dispute_is_about_its_payment_and_has_the_payment_compared() {
        let object =
            r#"{"object":"dispute","id":"du_1","status":"needs_response","payment_intent":"pi_1","metadata":{}}"#;
        let body = format!(r#"{{"id":"evt_1","type":"charge.dispute.created","data":{{"object":{object}}}}}"#);
        let event = parse(&body).unwrap();
        assert_eq!((event.order, event.payment.as_deref()), (None, Some("pi_1")));
        assert_eq!(event.reconciles.unwrap().id, "du_1");
    }

    #[test]
    fn a_refund_is_news_once_it_is_decided() {
        let order = "01a20315-5e19-7147-aacf-821719f49b3a";
        for (status, is_news) in [
            ("succeeded", true),
            ("pending", false),
            ("requires_action", false),
            ("failed", true),
            ("canceled", true),
        ] {
            let object =
                format!(r#"{{"object":"refund","id":"re_1","status":"{status}","metadata":{{"order_id":"{order}"}}}}"#);
            let event = parse(&format!(
                r#"{{"id":"evt_1","type":"refund.updated","data":{{"object":{object}}}}}"#
            ));
            assert_eq!(event.unwrap().reconciles.is_some(), is_news, "{status}");
        }
    }

    /// Every order has one: it is not compared with the provider for it.
    #[test]
    fn a_payment_is_not_compared_because_it_succeeded() {
        let object = r#"{"object":"payment_intent","id":"pi_1","status":"succeeded","metadata":{}}"#;
        let event = parse(&format!(
            r#"{{"id":"evt_1","type":"payment_intent.succeeded","data":{{"object":{object}}}}}"#
        ));
        let event = event.unwrap();
        assert_eq!((event.payment.as_deref(), event.reconciles), (Some("pi_1"), None));
    }

    #[test]
    fn only_an_event_of_a_payment_or_a_charge_that_succeeded_says_no_more_than_that() {
        for (kind, object, says_charged) in [
            ("payment_intent.succeeded", "payment_intent", true),
            ("charge.succeeded", "charge", true),
            ("charge.succeeded", "refund", false),
            ("charge.refunded", "charge", false),
            ("payment_intent.canceled", "payment_intent", false),
            ("payment_intent.amount_capturable_updated", "payment_intent", false),
        ] {
            let object = format!(r#"{{"object":"{object}","id":"x_1","status":"succeeded"}}"#);
            let event = parse(&format!(
                r#"{{"id":"evt_1","type":"{kind}","data":{{"object":{object}}}}}"#
            ));
            assert_eq!(event.unwrap().says_charged, says_charged, "{kind} {object}");
        }
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
    fn without_a_clean_id_and_type_it_is_not_an_event() {
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
