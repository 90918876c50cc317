//! A real server behind the edge. The driver id of the first fix is an order to its service.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::location_service_server::{LocationService, LocationServiceServer};
use waybill_proto::location::v1::{
    Fix, ReportLocationsRequest, ReportLocationsResponse, StreamLocationsRequest, StreamLocationsResponse,
};
use waybill_server::grpc::edge::{
    self, CallDeadline, Class, ClientAddress, ConnectionLimits, DeadlineSettings, Front, Http2Limits, IngressLimits,
    IngressSettings, MESSAGE_SIZE_MAX, Proxies, Speaks,
};
use waybill_server::identity::Identity;
use waybill_server::metrics::{MethodSnapshot, Metrics};
use waybill_server::tls::ServerTls;

use crate::raw::{DATA, END_STREAM, HEADERS, RST_STREAM, RawClient};

pub const REPORT: &str = "/waybill.location.v1.LocationService/ReportLocations";
pub const STREAM: &str = "/waybill.location.v1.LocationService/StreamLocations";

/// Has the service log something, to this target.
pub const LOG: &str = "log";

/// Has the service answer NOT_FOUND with the address of who calls.
pub const ADDRESS: &str = "address";

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct Settings {
    pub connections: ConnectionLimits,
    pub http2: Http2Limits,
    pub deadline: DeadlineSettings,
    pub ingress: IngressSettings,
    pub tls: Option<ServerTls>,
    pub proxies: Proxies,
    pub proxy_protocol: bool,
}

pub struct Rig {
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    stop: CancellationToken,
}

impl Rig {
    pub async fn start() -> Rig {
        Rig::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Rig {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new(&[REPORT, STREAM]));
        let ingress = Arc::new(IngressLimits::new(&settings.ingress, Arc::clone(&metrics)));

        let service = LocationServiceServer::new(Obedient { ingress }).max_decoding_message_size(MESSAGE_SIZE_MAX);
        let deadline = DeadlineSettings {
            streams: &[STREAM],
            ..settings.deadline
        };
        let proxies = Arc::new(settings.proxies);
        let front = Front {
            tls: settings.tls,
            speaks: Speaks::Http2,
            proxies: Arc::clone(&proxies),
            proxy_protocol: settings.proxy_protocol,
        };
        let connections = edge::incoming(listener, settings.connections, Arc::clone(&metrics), front);
        let router = edge::server_builder(&settings.http2)
            .layer(edge::layers(
                Arc::clone(&metrics),
                deadline,
                Identity::Anonymous,
                proxies,
            ))
            .add_routes(Routes::new(service));
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(
            stop.clone()
                .run_until_cancelled_owned(router.serve_with_incoming(connections)),
        );
        Rig { address, metrics, stop }
    }

    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub async fn client(&self) -> LocationServiceClient<Channel> {
        LocationServiceClient::new(self.channel().await)
    }

    pub fn method(&self, path: &str) -> MethodSnapshot {
        self.metrics.snapshot().methods[path].clone()
    }

    /// How the calls of a method ended, by the name of the code.
    pub fn codes(&self, path: &str) -> BTreeMap<String, u64> {
        let text = self.metrics.openmetrics().unwrap();
        let prefix = format!("waybill_grpc_calls_total{{method=\"{path}\",code=\"");
        let samples = text
            .lines()
            .filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "));
        samples
            .map(|(code, count)| (code.to_owned(), count.parse().unwrap()))
            .collect()
    }

    /// Waits until the calls of a method have ended so.
    pub async fn until_codes(&self, path: &str, expected: &[(&str, u64)]) {
        let expected: BTreeMap<String, u64> = expected.iter().map(|(code, n)| ((*code).to_owned(), *n)).collect();
        until(
            || self.codes(path) == expected,
            || format!("{:?} is not {expected:?}", self.codes(path)),
        )
        .await;
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A client on whose connection a stream of fixes is open, as stream 1.
pub async fn client_with_stream(rig: &Rig) -> RawClient {
    let mut client = RawClient::connect(rig.address).await;
    client.open(1, STREAM, &[]).await;
    until(
        || rig.method(STREAM).in_flight == 1,
        || format!("{:?}", rig.method(STREAM)),
    )
    .await;
    client
}

/// Ends that stream: its answer comes, whatever befell the other calls of the connection.
pub async fn until_stream_ends(client: &mut RawClient) {
    client.send(DATA, END_STREAM, 1, &[0; 5]).await;
    client
        .until(|frame| {
            assert!(frame.stream != 1 || frame.kind != RST_STREAM, "{frame:?}");
            frame.stream == 1 && frame.kind == HEADERS && frame.flags & END_STREAM != 0
        })
        .await;
}

/// Waits until `condition`, looking each millisecond; fails with `state` when patience ends.
pub async fn until(condition: impl Fn() -> bool, state: impl Fn() -> String) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "{}", state());
        sleep_until(Instant::now() + Duration::from_millis(1)).await;
    }
}

/// One fix of a driver whose name is an order to the service.
pub fn fix(order: &str) -> Fix {
    Fix {
        driver_id: order.to_owned(),
        ..Fix::default()
    }
}

pub fn report(order: &str) -> ReportLocationsRequest {
    ReportLocationsRequest {
        fixes: vec![fix(order)],
    }
}

pub fn message(sequence: u64, order: &str) -> StreamLocationsRequest {
    StreamLocationsRequest {
        first_sequence: sequence,
        fixes: vec![fix(order)],
    }
}

struct Obedient {
    ingress: Arc<IngressLimits>,
}

type Acknowledgements = Pin<Box<dyn Stream<Item = Result<StreamLocationsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl LocationService for Obedient {
    type StreamLocationsStream = Acknowledgements;

    async fn report_locations(
        &self,
        request: Request<ReportLocationsRequest>,
    ) -> Result<Response<ReportLocationsResponse>, Status> {
        let deadline = CallDeadline::of(&request);
        let client = ClientAddress::of(request.extensions());
        let order = request
            .into_inner()
            .fixes
            .into_iter()
            .next()
            .unwrap_or_default()
            .driver_id;
        match order.as_str() {
            "hang" => std::future::pending().await,
            "panic" => panic!("as ordered"),
            "not found" => return Err(Status::not_found("as ordered")),
            "out of range" => return Err(Status::out_of_range("as ordered")),
            "return the deadline" => {
                let left = deadline
                    .expect("a deadline")
                    .0
                    .saturating_duration_since(Instant::now());
                let accepted_count = u32::try_from(left.as_secs()).unwrap();
                return Ok(Response::new(ReportLocationsResponse {
                    accepted_count,
                    ..Default::default()
                }));
            }
            ADDRESS => {
                let client = client.expect("an address").0.to_string();
                return Err(Status::not_found(client));
            }
            LOG => tracing::info!(target: LOG, "as ordered"),
            "" => {}
            user => self.ingress.admit(Class::Orders, user, deadline).await?,
        }
        Ok(Response::new(ReportLocationsResponse::default()))
    }

    async fn stream_locations(
        &self,
        request: Request<Streaming<StreamLocationsRequest>>,
    ) -> Result<Response<Acknowledgements>, Status> {
        let acknowledge = |message: Result<StreamLocationsRequest, Status>| async {
            let message = message?;
            match message.fixes.first().map(|fix| fix.driver_id.as_str()) {
                Some("panic") => panic!("as ordered"),
                Some("hang") => std::future::pending().await,
                Some(LOG) => tracing::info!(target: LOG, "as ordered"),
                _ => {}
            }
            Ok(StreamLocationsResponse {
                acknowledged_sequence: message.first_sequence,
                ..Default::default()
            })
        };
        // Headers leave at once, as those of a stream do.
        let answers = request.into_inner().then(acknowledge).chain(stream::empty());
        Ok(Response::new(Box::pin(answers)))
    }
}
