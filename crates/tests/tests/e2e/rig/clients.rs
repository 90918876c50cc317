//! What a test speaks to: the services, the stores, and the words of their requests and refusals.

use jiff::Timestamp;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;
use uuid::Uuid;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, LatLng, ReportLocationsRequest};
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{CreateOrderRequest, GetOrderRequest, Money, Order};

use super::{Rig, SECRET_KEY};

/// Where `a_ride()` begins: degrees north and east.
pub const PICKUP: (f64, f64) = (37.7749, -122.4194);

impl Rig {
    /// The order service of the first server.
    pub fn orders(&self) -> OrderServiceClient<Channel> {
        self.orders_of(0)
    }

    /// The order service of one of several servers, counted from 0.
    pub fn orders_of(&self, server: usize) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.servers[server].channel.clone())
    }

    /// The location service of the first server.
    pub fn locations(&self) -> LocationServiceClient<Channel> {
        LocationServiceClient::new(self.servers[0].channel.clone())
    }

    /// The fleet service of the first server.
    pub fn fleet(&self) -> FleetServiceClient<Channel> {
        FleetServiceClient::new(self.servers[0].channel.clone())
    }

    /// The health service of the first server.
    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.servers[0].channel.clone())
    }

    /// Where the first server's gRPC services listen, such as `127.0.0.1:4711`.
    pub fn grpc_addr(&self) -> String {
        self.servers[0].app.grpc_addr().to_string()
    }

    /// `http://` URL of the first server's `/readyz` and `/metrics`, without a slash at the end.
    pub fn http(&self) -> String {
        format!("http://{}", self.servers[0].app.http_addr())
    }

    /// `http://` URL of the first server's webhook listener, without a slash at the end.
    pub fn webhooks_url(&self) -> String {
        format!(
            "http://{}",
            self.webhooks_addr().expect("payments.webhook_secrets is set")
        )
    }

    /// Where the first server receives webhooks, if it does.
    pub fn webhooks_addr(&self) -> Option<std::net::SocketAddr> {
        self.servers[0].app.webhooks_addr()
    }

    /// The metrics of the first server, as JSON.
    pub async fn metrics(&self) -> serde_json::Value {
        let (status, body) = get(&format!("{}/metrics", self.http())).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// A session of the test's own on the test's database, past the proxies.
    pub async fn sql(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.stores.postgres_url(), tokio_postgres::NoTls)
            .await
            .expect("Postgres answers");
        // It ends with its client.
        tokio_util::task::TaskTracker::new().spawn(connection);
        client
    }

    /// One number out of the test's database.
    pub async fn count(&self, query: &str) -> i64 {
        self.sql().await.query_one(query, &[]).await.expect(query).get(0)
    }

    /// A connection of the test's own to the test's Redis, past the proxies.
    pub async fn redis(&self) -> redis::aio::MultiplexedConnection {
        redis::Client::open(self.stores.redis_url())
            .expect("a URL")
            .get_multiplexed_async_connection()
            .await
            .expect("Redis answers")
    }

    /// A free driver is here now; known to the dispatch when this returns.
    pub async fn driver_at(&self, driver: &str, lat: f64, lon: f64) {
        self.report(vec![fix(driver, lat, lon, Timestamp::now())]).await;
    }

    /// Reports fixes, all of which must be taken.
    pub async fn report(&self, fixes: Vec<Fix>) {
        let count = fixes.len();
        let answer = self
            .locations()
            .report_locations(ReportLocationsRequest { fixes })
            .await;
        let answer = answer.expect("fixes are taken").into_inner();
        assert_eq!(answer.accepted_count as usize, count, "{:?}", answer.rejections);
    }

    /// Has the provider do something behind the servers' back, as a person in its dashboard does; the id of what it
    /// made.
    pub async fn at_provider(&self, path: &str, form: &[(&str, String)]) -> String {
        let answer = self.try_at_provider(path, form).await;
        answer["id"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// The same, where it may refuse; its answer.
    pub async fn try_at_provider(&self, path: &str, form: &[(&str, String)]) -> serde_json::Value {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let answer = reqwest::Client::new()
            .post(format!("{}/v1/{path}", self.payments().url()))
            .bearer_auth(SECRET_KEY)
            .form(form)
            .send()
            .await
            .expect("the provider answers");
        answer.json().await.expect("JSON")
    }

    /// Places an order; its answer.
    pub async fn place(&self, request: CreateOrderRequest) -> Order {
        let answer = self.orders().create_order(request).await;
        answer
            .expect("the order is placed")
            .into_inner()
            .order
            .expect("an order")
    }

    /// The order as it is now, with its steps.
    pub async fn order(&self, order_id: &str) -> Order {
        let request = GetOrderRequest {
            order_id: order_id.to_owned(),
        };
        let answer = self.orders().get_order(request).await;
        answer
            .expect("the order is there")
            .into_inner()
            .order
            .expect("an order")
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
        pickup: Some(LatLng {
            latitude: PICKUP.0,
            longitude: PICKUP.1,
        }),
        drop_off: None,
    }
}

/// A position of a driver at a time.
pub fn fix(driver: &str, lat: f64, lon: f64, at: Timestamp) -> Fix {
    Fix {
        driver_id: driver.to_owned(),
        position: Some(LatLng {
            latitude: lat,
            longitude: lon,
        }),
        recorded_at: Some(prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond(),
        }),
    }
}

/// The reason in the ErrorInfo of a refusal; empty if there is none.
pub fn refusal_reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// The bad fields that a refusal names, sorted.
pub fn refusal_fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_details_bad_request().expect("BadRequest");
    let mut fields: Vec<String> = details
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    fields.sort();
    fields
}

/// When a refusal says to try again.
pub fn retry_after(status: &Status) -> Option<std::time::Duration> {
    status.get_details_retry_info().and_then(|info| info.retry_delay)
}

/// Status and body of an HTTP answer.
pub async fn get(url: &str) -> (u16, String) {
    // Done once, by whoever is first: what is set already is the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let answer = reqwest::get(url).await.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}
