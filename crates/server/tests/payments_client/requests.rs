//! What is sent: the form, its headers and its trace; and what is never sent.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use secrecy::SecretString;
use std::collections::HashSet;
use tracing::Instrument as _;
use tracing_subscriber::layer::SubscriberExt as _;
use waybill_domain::id::OrderId;
use waybill_server::egress::payments::{Answer, Cause, ChargeRequest, PaymentClient, PaymentSettings, SettingsError};
use waybill_server::telemetry::saga_span;

use crate::provider::{Provider, Reaction, object, succeeded};
use crate::rig::{ORDER, SECRET, a_charge, a_refund, client, patient, receipt, settings};

/// In the saga's span, with an exporter; the subscriber is this thread's alone, and so is the test's runtime.
#[tokio::test]
async fn a_charge_carries_the_trace_of_its_order_and_none_without_an_exporter() {
    let provider = Provider::start(|_, _| succeeded()).await;
    let client = client(&provider);
    let done = client.charge(&a_charge(), patient()).await;
    assert_eq!(done, receipt("pi_1"));

    let tracer = SdkTracerProvider::builder().build().tracer("waybill");
    let spans = tracing_opentelemetry::layer().with_tracer(tracer);
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans));
    let saga = saga_span(OrderId::new(ORDER), 1);
    let done = client.charge(&a_charge(), patient()).instrument(saga).await;
    assert_eq!(done, receipt("pi_1"));

    let seen = provider.seen();
    assert_eq!(seen[0].headers.get("traceparent"), None);
    let traceparent = &seen[1].headers["traceparent"];
    let parts: Vec<&str> = traceparent.split('-').collect();
    assert_eq!(parts[1], ORDER.simple().to_string(), "{traceparent}");
    assert_eq!((parts[0], parts[2].len(), parts[3]), ("00", 16, "01"), "{traceparent}");
}

#[tokio::test]
async fn a_charge_is_one_form_under_its_key_with_the_secret_and_the_version() {
    let provider = Provider::start(|_, _| succeeded()).await;
    assert_eq!(client(&provider).charge(&a_charge(), patient()).await, receipt("pi_1"));

    let seen = provider.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].line, "POST /v1/payment_intents HTTP/1.1");
    assert_eq!(seen[0].headers["idempotency-key"], "order-1:charge");
    assert_eq!(seen[0].headers["authorization"], format!("Bearer {SECRET}"));
    assert_eq!(seen[0].headers["content-type"], "application/x-www-form-urlencoded");
    assert!(seen[0].headers.contains_key("stripe-version"));
    let fields: HashSet<&str> = seen[0].body.split('&').collect();
    let order = format!("metadata%5Border_id%5D={ORDER}");
    let expected = [
        "amount=1250",
        "currency=eur",
        "payment_method=pm_card_visa",
        "confirm=true",
        "automatic_payment_methods%5Benabled%5D=true",
        "automatic_payment_methods%5Ballow_redirects%5D=never",
        "error_on_requires_action=true",
        &order,
    ];
    assert_eq!(fields, HashSet::from(expected));
}

#[tokio::test]
async fn a_refund_names_the_payment_the_amount_and_the_order() {
    let provider = Provider::start(|_, _| Reaction::Answer(200, object("re_1", "succeeded"))).await;
    assert_eq!(client(&provider).refund(&a_refund(), patient()).await, receipt("re_1"));

    let seen = provider.seen();
    assert_eq!(seen[0].line, "POST /v1/refunds HTTP/1.1");
    assert_eq!(seen[0].headers["idempotency-key"], "order-1:refund");
    let fields: HashSet<&str> = seen[0].body.split('&').collect();
    let order = format!("metadata%5Border_id%5D={ORDER}");
    assert_eq!(fields, HashSet::from(["payment_intent=pi_1", "amount=1250", &order]));
}

#[tokio::test]
async fn a_redirect_is_not_followed_so_the_secret_stays_here() {
    let thief = Provider::start(|_, _| succeeded()).await;
    let to = format!("{}/v1/payment_intents", thief.url);
    let provider = Provider::start(move |_, _| Reaction::Redirect(to.clone())).await;
    assert_eq!(
        client(&provider).charge(&a_charge(), patient()).await,
        Answer::Ambiguous(Cause::Status(307))
    );
    assert_eq!(thief.connections(), 0);
}

#[tokio::test]
async fn no_text_about_the_client_holds_the_secret() {
    let provider = Provider::start(|_, _| succeeded()).await;
    let settings = settings(&provider.url);
    let client = PaymentClient::new(&settings).unwrap();
    let texts = format!("{settings:?} {client:?}");
    assert!(!texts.contains(SECRET) && !texts.contains("sk_test"), "{texts}");

    let bad = PaymentSettings::new(&provider.url, SecretString::from(format!("{SECRET}\n")));
    let error = PaymentClient::new(&bad).unwrap_err();
    assert!(matches!(error, SettingsError::Secret) && !format!("{error} {error:?}").contains(SECRET));
    for url in ["ftp://127.0.0.1", "127.0.0.1:80", "", "http://user:word@127.0.0.1"] {
        let error = PaymentClient::new(&PaymentSettings::new(url, SecretString::from(SECRET))).unwrap_err();
        assert!(matches!(error, SettingsError::BaseUrl), "{url}");
    }
}

#[tokio::test]
async fn a_key_that_no_header_can_carry_is_not_sent() {
    let provider = Provider::start(|_, _| succeeded()).await;
    for key in ["", "a\nb", &"k".repeat(256)] {
        let answer = client(&provider)
            .charge(&ChargeRequest { key, ..a_charge() }, patient())
            .await;
        assert_eq!(answer, Answer::NotExecuted(Cause::Unsendable));
    }
    assert_eq!(provider.connections(), 0);
}
