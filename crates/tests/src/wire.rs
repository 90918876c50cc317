//! What goes over the wire: requests that are valid, and what refusals and pages say.

use std::time::Duration;

use jiff::Timestamp;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;
use waybill_proto::location::v1::{Fix, LatLng};
use waybill_proto::order::v1::{CancelOrderRequest, CompleteOrderRequest, CreateOrderRequest, Money};

/// Where `a_ride()` begins: degrees north and east.
pub const PICKUP: (f64, f64) = (37.7749, -122.4194);

/// A channel to a server, connected at its first call.
pub fn channel(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .expect("an address")
        .connect_lazy()
}

/// Degrees north and east.
pub fn position((latitude, longitude): (f64, f64)) -> LatLng {
    LatLng {
        latitude: Some(latitude),
        longitude: Some(longitude),
    }
}

/// A valid order of a new user under a new key, from [`PICKUP`].
pub fn a_ride() -> CreateOrderRequest {
    CreateOrderRequest {
        idempotency_key: Uuid::now_v7().to_string(),
        user_id: format!("user-{}", Uuid::now_v7().simple()),
        amount: Some(Money {
            currency_code: "USD".to_owned(),
            minor_units: 1_999,
        }),
        payment_method: "pm_card_visa".to_owned(),
        provider_customer_id: String::new(),
        payment_mode: 0,
        required_tags: Vec::new(),
        pickup: Some(position(PICKUP)),
        drop_off: None,
    }
}

/// The same with a card that the provider declines.
pub fn a_declined_ride() -> CreateOrderRequest {
    CreateOrderRequest {
        payment_method: "pm_card_chargeDeclined".to_owned(),
        ..a_ride()
    }
}

/// That the order is completed, whoever serves it.
pub fn complete(order_id: &str) -> CompleteOrderRequest {
    CompleteOrderRequest {
        order_id: order_id.to_owned(),
        ..CompleteOrderRequest::default()
    }
}

/// That the order is cancelled.
pub fn cancel(order_id: &str) -> CancelOrderRequest {
    CancelOrderRequest {
        order_id: order_id.to_owned(),
        cancellation_fee: None,
    }
}

/// A position of a driver at a time.
pub fn fix(driver: &str, lat: f64, lon: f64, at: Timestamp) -> Fix {
    Fix {
        driver_id: driver.to_owned(),
        position: Some(position((lat, lon))),
        recorded_at: Some(time(at)),
    }
}

/// As messages have it.
pub fn time(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// Now, in whole microseconds as they are stored.
pub fn now() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap()
}

/// The reason in the ErrorInfo of a refusal; empty if there is none.
pub fn refusal_reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// It is refused with this code, and this reason in its ErrorInfo.
#[track_caller]
pub fn assert_refused(status: &Status, code: Code, reason: &str) {
    let found = (status.code(), refusal_reason(status));
    assert_eq!(found, (code, reason.to_owned()), "{status:?}");
}

/// The call of whoever has this token or API key.
pub fn by<T>(token: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("a token is ASCII");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// It is refused with this code, and says when to try again.
#[track_caller]
pub fn assert_refused_for_now(status: &Status, code: Code) {
    assert_eq!(status.code(), code, "{status:?}");
    assert!(retry_after(status).is_some(), "{status:?}");
}

/// The bad fields that a refusal names, sorted.
#[track_caller]
pub fn refusal_fields(status: &Status) -> Vec<String> {
    let names_fields = [Code::InvalidArgument, Code::PermissionDenied].contains(&status.code());
    assert!(names_fields, "{status:?}");
    let details = status.get_details_bad_request().expect("BadRequest");
    let violations = details.field_violations.into_iter();
    let mut fields: Vec<String> = violations.map(|violation| violation.field).collect();
    fields.sort();
    fields
}

/// When a refusal says to try again.
pub fn retry_after(status: &Status) -> Option<Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// A client of HTTP.
pub fn http() -> reqwest::Client {
    // Done once, by whoever is first: what is set already is the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::new()
}

/// Status and body of an HTTP answer.
pub async fn get(url: &str) -> (u16, String) {
    let answer = http().get(url).send().await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

/// Status and JSON of an HTTP answer.
pub async fn get_json(url: &str) -> (u16, serde_json::Value) {
    let (status, body) = get(url).await;
    (status, serde_json::from_str(&body).expect("JSON"))
}
