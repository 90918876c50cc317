//! Clients with quick retries, and the requests that they send.

use secrecy::SecretString;
use std::num::NonZeroU32;
use std::time::Duration;
use uuid::Uuid;
use waybill_domain::money::Money;
use waybill_server::egress::payments::{Answer, ChargeRequest, PaymentClient, PaymentSettings, Receipt, RefundRequest};
use waybill_server::metrics::{DependencyMetrics, EgressMetrics};
use waybill_server::resilience::{BreakerPolicy, Deadline};

use crate::provider::Provider;

pub const SECRET: &str = "sk_test_never_to_be_seen";
pub const ORDER: Uuid = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);

pub fn patient() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// Quick retries, and guards that only the tests about them can hit.
pub fn settings(url: &str) -> PaymentSettings {
    let mut settings = PaymentSettings::new(url, SecretString::from(SECRET));
    settings.retry.base = Duration::from_millis(2);
    settings.rate_per_second = NonZeroU32::new(10_000).unwrap();
    settings.breaker = BreakerPolicy {
        consecutive_failures: 1000,
        min_calls: 1000,
        ..BreakerPolicy::default()
    };
    settings
}

/// For providers that never finish an answer.
pub fn impatient(url: &str) -> PaymentSettings {
    PaymentSettings {
        attempt_timeout: Duration::from_millis(100),
        ..settings(url)
    }
}

pub fn client(provider: &Provider) -> PaymentClient {
    PaymentClient::new(&settings(&provider.url)).unwrap()
}

/// A client, and what it counts.
pub fn counted(settings: &PaymentSettings) -> (PaymentClient, EgressMetrics) {
    let metrics = DependencyMetrics::default();
    let client = PaymentClient::with_metrics(settings, &metrics).unwrap();
    (client, metrics.egress("payments"))
}

pub fn amount() -> Money {
    Money::new("EUR".parse().unwrap(), 1250).unwrap()
}

pub fn a_charge() -> ChargeRequest<'static> {
    ChargeRequest {
        is_held: false,
        key: "order-1:charge",
        order_id: ORDER,
        transfer_group: None,
        amount: amount(),
        payment_method: "pm_card_visa",
        customer: None,
        place: None,
    }
}

pub fn a_refund() -> RefundRequest<'static> {
    RefundRequest {
        number: 1,
        key: "order-1:refund",
        payment_intent: "pi_1",
        order_id: ORDER,
        amount: amount(),
    }
}

pub fn receipt(id: &str) -> Answer<Receipt> {
    Answer::Done(Receipt {
        provider_id: id.into(),
        amount: amount(),
    })
}
