//! What a test speaks to: the services of the servers, and the stores past the proxies.

use jiff::Timestamp;
use prost::Message as _;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, ReportLocationsRequest};
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{CreateOrderRequest, GetOrderRequest, Order};

use super::Rig;
use crate::wire::{cancel, complete, fix, get_json};
use crate::{raw, sql};

impl Rig {
    /// A connection to the first server.
    pub fn channel(&self) -> Channel {
        self.servers[0].channel.clone()
    }

    /// A connection to one of several servers, counted from 0.
    pub fn channel_of(&self, server: usize) -> Channel {
        self.servers[server].channel.clone()
    }

    /// The order service of the first server.
    pub fn orders(&self) -> OrderServiceClient<Channel> {
        self.orders_of(0)
    }

    /// The order service of one of several servers, counted from 0.
    pub fn orders_of(&self, server: usize) -> OrderServiceClient<Channel> {
        OrderServiceClient::new(self.channel_of(server))
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

    /// `http://` URL of the first server's listener for browsers, without a slash at the end.
    pub fn web(&self) -> String {
        let addr = self.servers[0].app.web_addr().expect("web.addr is set");
        format!("http://{addr}")
    }

    /// The metrics of the first server, as JSON.
    pub async fn metrics(&self) -> serde_json::Value {
        let (status, metrics) = get_json(&format!("{}/metrics", self.http())).await;
        assert_eq!(status, 200, "{metrics}");
        metrics
    }

    /// A session of the test's own on the test's database, past the proxies.
    pub async fn sql(&self) -> tokio_postgres::Client {
        sql::connect(&self.stores.postgres_url())
            .await
            .expect("Postgres answers")
    }

    /// Statements on the test's database.
    pub async fn execute(&self, statements: &str) {
        self.sql().await.batch_execute(statements).await.expect(statements);
    }

    /// One number out of the test's database.
    pub async fn count(&self, query: &str) -> i64 {
        self.sql().await.query_one(query, &[]).await.expect(query).get(0)
    }

    /// How many orders have this status.
    pub async fn orders_in(&self, status: &str) -> i64 {
        self.count(&format!("select count(*) from order_sagas where status = '{status}'"))
            .await
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

    /// Places an order; its answer.
    pub async fn place(&self, request: CreateOrderRequest) -> Order {
        let answer = self.orders().create_order(request).await;
        answer
            .expect("the order is placed")
            .into_inner()
            .order
            .expect("an order")
    }

    /// Begins to place an order; the call runs for as long as the set is held.
    pub fn begin(&self, request: CreateOrderRequest) -> JoinSet<Result<Order, Status>> {
        let mut orders = self.orders();
        let mut call = JoinSet::new();
        call.spawn(async move {
            let answer = orders.create_order(request).await?;
            Ok(answer.into_inner().order.expect("an order"))
        });
        call
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

    /// Completes an order.
    pub async fn complete(&self, order_id: &str) -> Result<Order, Status> {
        let answer = self.orders().complete_order(complete(order_id)).await?;
        Ok(answer.into_inner().order.expect("an order"))
    }

    /// Cancels an order.
    pub async fn cancel(&self, order_id: &str) -> Result<Order, Status> {
        let answer = self.orders().cancel_order(cancel(order_id)).await?;
        Ok(answer.into_inner().order.expect("an order"))
    }

    /// Places an order at one of several servers, counted from 0; the very bytes of its answer's message.
    pub async fn place_raw(&self, server: usize, request: &CreateOrderRequest) -> Result<Response<Vec<u8>>, Status> {
        let channel = self.servers[server].channel.clone();
        raw::create_order(channel, Request::new(request.encode_to_vec())).await
    }
}
