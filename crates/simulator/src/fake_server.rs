//! A small server that keeps the contract over real gRPC and loses connections, refuses and rejects by script.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use waybill_proto::Encoded;
use waybill_proto::location::v1 as location;
use waybill_proto::location::v1::location_service_server::{LocationService, LocationServiceServer};
use waybill_proto::order::v1 as order;
use waybill_proto::order::v1::order_service_server::{OrderService, OrderServiceServer};

use crate::Point;
use crate::client::Target;

/// A driver farther away than this does not take an order.
const NEAR_M: f64 = 20_000.0;

/// The server, gone with its value.
pub(crate) struct FakeServer {
    pub(crate) target: Target,
    pub(crate) script: Arc<Script>,
    _stop: DropGuard,
}

/// What the server is to do, and what it saw.
#[derive(Default)]
pub(crate) struct Script {
    /// Answers to the next calls of `CreateOrder`, before it does its work.
    pub(crate) create_refusals: Mutex<VecDeque<Status>>,
    /// The same for `CompleteOrder`.
    pub(crate) complete_refusals: Mutex<VecDeque<Status>>,
    /// `CreateOrder` is not answered while this is true.
    pub(crate) hold_orders: watch::Sender<bool>,
    /// No fix is acknowledged while this is true.
    pub(crate) hold_acknowledgements: watch::Sender<bool>,
    /// Answers to the next streams, before they are read.
    pub(crate) stream_refusals: Mutex<VecDeque<Status>>,
    /// The stream of this number, from 1, is not read while it is here.
    pub(crate) unread_stream: watch::Sender<Option<usize>>,
    /// For each of the next streams: breaks after so many messages, the last of which it stored and did not acknowledge.
    pub(crate) streams_break_after: Mutex<VecDeque<usize>>,
    pub(crate) seen: watch::Sender<Seen>,
}

/// What the server saw.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) creates: Vec<order::CreateOrderRequest>,
    pub(crate) orders: BTreeMap<(String, String), (order::CreateOrderRequest, order::Order)>,
    /// Order id, and when it was settled and completed.
    pub(crate) settled: HashMap<String, Instant>,
    pub(crate) completed: HashMap<String, Instant>,
    /// Driver and microsecond to how often the fix came.
    pub(crate) stored: BTreeMap<(String, i64), usize>,
    pub(crate) last_fix: HashMap<String, Point>,
    pub(crate) fixes: usize,
    pub(crate) largest_message: usize,
    pub(crate) unacknowledged_max: u64,
    /// Fixes in acknowledgements, rejected ones too.
    pub(crate) acknowledged: u64,
    pub(crate) streams: usize,
    pub(crate) half_closed: usize,
}

impl FakeServer {
    pub(crate) async fn start() -> FakeServer {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        FakeServer::serve(free)
    }

    pub(crate) async fn start_at(address: SocketAddr) -> FakeServer {
        FakeServer::serve(TcpListener::bind(address).await.unwrap())
    }

    fn serve(listener: TcpListener) -> FakeServer {
        let target = Target::new(&listener.local_addr().unwrap().to_string(), None).unwrap();
        let script = Arc::new(Script::default());
        let stop = CancellationToken::new();
        let server = Server::builder()
            .max_concurrent_streams(100)
            .add_service(OrderServiceServer::from_arc(Arc::clone(&script)))
            .add_service(LocationServiceServer::new(Locations(Arc::clone(&script))))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.clone().cancelled_owned());
        TaskTracker::new().spawn(server);
        FakeServer {
            target,
            script,
            _stop: stop.drop_guard(),
        }
    }

    /// Waits for a condition on what the server saw, at most 10 s.
    pub(crate) async fn until(&self, what: &str, condition: impl FnMut(&Seen) -> bool) {
        let mut seen = self.script.seen.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(10), seen.wait_for(condition)).await;
        assert!(waited.is_ok(), "not in 10 s: {what}");
    }

    pub(crate) fn see<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.script.seen.borrow())
    }
}

impl Script {
    fn note<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let mut result = None;
        self.seen.send_modify(|seen| result = Some(change(seen)));
        result.unwrap()
    }

    async fn release(hold: &watch::Sender<bool>) {
        hold.subscribe().wait_for(|held| !held).await.unwrap();
    }

    async fn serve_stream(
        &self,
        mut requests: Streaming<location::StreamLocationsRequest>,
        answers: mpsc::Sender<Result<location::StreamLocationsResponse, Status>>,
        number: usize,
    ) {
        let mut unread = self.unread_stream.subscribe();
        let breaks_after = self.streams_break_after.lock().unwrap().pop_front();
        let mut held = self.hold_acknowledgements.subscribe();
        let (mut last, mut acknowledged, mut messages) = (0, None, 0);
        let mut rejections = Vec::new();
        let mut half_closed = false;
        while !(half_closed && acknowledged.unwrap_or(last) == last) {
            let may_read = *unread.borrow_and_update() != Some(number);
            tokio::select! {
                () = async { drop(unread.changed().await) } => {}
                request = requests.next(), if may_read && !half_closed => {
                    let Some(Ok(request)) = request else { half_closed = true; continue };
                    messages += 1;
                    if request.first_sequence <= last || request.fixes.is_empty() {
                        let _ = answers.send(Err(Status::invalid_argument("a sequence that does not grow"))).await;
                        return;
                    }
                    last = request.first_sequence + request.fixes.len() as u64 - 1;
                    let settled = *acknowledged.get_or_insert(request.first_sequence - 1);
                    rejections.extend(self.note(|seen| {
                        seen.unacknowledged_max = seen.unacknowledged_max.max(last - settled);
                        seen.store(&request)
                    }));
                    if breaks_after == Some(messages) {
                        let _ = answers.send(Err(Status::unavailable("broken on purpose"))).await;
                        return;
                    }
                }
                () = async { drop(held.wait_for(|held| !held).await) }, if acknowledged.is_some_and(|settled| settled < last) => {
                    let rejections = std::mem::take(&mut rejections);
                    let answer = location::StreamLocationsResponse { acknowledged_sequence: last, rejections, ..Default::default() };
                    self.note(|seen| seen.acknowledged += last - acknowledged.unwrap_or(last));
                    let _ = answers.send(Ok(answer)).await;
                    acknowledged = Some(last);
                }
            }
        }
        self.note(|seen| seen.half_closed += 1);
    }
}

impl Seen {
    /// Stores the fixes of a message; a driver whose name begins with `bad` is rejected.
    fn store(&mut self, request: &location::StreamLocationsRequest) -> Vec<location::Rejection> {
        self.largest_message = self.largest_message.max(request.fixes.len());
        let mut rejections = Vec::new();
        for (sequence, fix) in (request.first_sequence..).zip(&request.fixes) {
            self.fixes += 1;
            if fix.driver_id.starts_with("bad") {
                rejections.push(location::Rejection {
                    sequence,
                    reason: 1,
                    ..Default::default()
                });
                continue;
            }
            let at = fix.recorded_at.unwrap();
            let micros = at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000;
            *self.stored.entry((fix.driver_id.clone(), micros)).or_default() += 1;
            self.last_fix.insert(fix.driver_id.clone(), point(fix.position));
        }
        rejections
    }

    /// The order as the contract settles it: declined, with the nearest driver, or refunded for want of one.
    fn decide(&self, request: &order::CreateOrderRequest) -> order::Order {
        let mut settled = order::Order {
            order_id: format!("order-{}", self.orders.len()),
            ..Default::default()
        };
        let pickup = point(request.pickup);
        let near = self
            .last_fix
            .iter()
            .find(|(_, place)| place.distance_m(pickup) < NEAR_M);
        if request.payment_method == "pm_card_chargeDeclined" {
            settled.set_status(order::OrderStatus::Failed);
        } else if let Some((driver_id, _)) = near {
            settled.set_status(order::OrderStatus::Succeeded);
            settled.assignment = Some(order::Assignment {
                driver_id: driver_id.clone(),
                ..Default::default()
            });
        } else {
            settled.set_status(order::OrderStatus::Refunded);
        }
        settled
    }
}

/// The location service of the server: its streams outlive the call that opens them.
struct Locations(Arc<Script>);

fn point(position: Option<location::LatLng>) -> Point {
    let position = position.unwrap();
    Point {
        lat_deg: position.latitude(),
        lon_deg: position.longitude(),
    }
}

#[tonic::async_trait]
impl OrderService for Script {
    async fn create_order(&self, request: Request<order::CreateOrderRequest>) -> Result<Response<Encoded>, Status> {
        let request = request.into_inner();
        self.note(|seen| seen.creates.push(request.clone()));
        if let Some(refusal) = self.create_refusals.lock().unwrap().pop_front() {
            return Err(refusal);
        }
        Script::release(&self.hold_orders).await;
        self.note(|seen| {
            let key = (request.user_id.clone(), request.idempotency_key.clone());
            if let Some((first, settled)) = seen.orders.get(&key) {
                if *first != request {
                    return Err(Status::failed_precondition("the key was used with another request"));
                }
                return Ok(settled.clone());
            }
            let settled = seen.decide(&request);
            seen.settled.insert(settled.order_id.clone(), Instant::now());
            seen.orders.insert(key, (request.clone(), settled.clone()));
            Ok(settled)
        })
        .map(|order| order::CreateOrderResponse { order: Some(order) })
        .map(|answer| Response::new(Encoded::of(&answer)))
    }

    async fn complete_order(
        &self,
        request: Request<order::CompleteOrderRequest>,
    ) -> Result<Response<order::CompleteOrderResponse>, Status> {
        if let Some(refusal) = self.complete_refusals.lock().unwrap().pop_front() {
            return Err(refusal);
        }
        self.note(|seen| seen.completed.insert(request.into_inner().order_id, Instant::now()));
        Ok(Response::new(order::CompleteOrderResponse::default()))
    }

    async fn get_order(&self, _: Request<order::GetOrderRequest>) -> Result<Response<order::GetOrderResponse>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }

    async fn list_orders(
        &self,
        _: Request<order::ListOrdersRequest>,
    ) -> Result<Response<order::ListOrdersResponse>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }

    type WatchOrderStream = tokio_stream::Empty<Result<order::WatchOrderResponse, Status>>;

    async fn watch_order(
        &self,
        _: Request<order::WatchOrderRequest>,
    ) -> Result<Response<Self::WatchOrderStream>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }

    async fn refund_order(
        &self,
        _: Request<order::RefundOrderRequest>,
    ) -> Result<Response<order::RefundOrderResponse>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }

    async fn share_order(
        &self,
        _: Request<order::ShareOrderRequest>,
    ) -> Result<Response<order::ShareOrderResponse>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }

    async fn revoke_share(
        &self,
        _: Request<order::RevokeShareRequest>,
    ) -> Result<Response<order::RevokeShareResponse>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }

    async fn release_driver(
        &self,
        _: Request<order::ReleaseDriverRequest>,
    ) -> Result<Response<order::ReleaseDriverResponse>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }

    async fn cancel_order(
        &self,
        _: Request<order::CancelOrderRequest>,
    ) -> Result<Response<order::CancelOrderResponse>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }
}

#[tonic::async_trait]
impl LocationService for Locations {
    type StreamLocationsStream =
        Pin<Box<dyn Stream<Item = Result<location::StreamLocationsResponse, Status>> + Send + 'static>>;

    async fn stream_locations(
        &self,
        request: Request<Streaming<location::StreamLocationsRequest>>,
    ) -> Result<Response<Self::StreamLocationsStream>, Status> {
        if let Some(refusal) = self.0.stream_refusals.lock().unwrap().pop_front() {
            return Err(refusal);
        }
        let number = self.0.note(|seen| {
            seen.streams += 1;
            seen.streams
        });
        let (answers, body) = mpsc::channel(16);
        let script = Arc::clone(&self.0);
        TaskTracker::new().spawn(async move { script.serve_stream(request.into_inner(), answers, number).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(body))))
    }

    async fn report_locations(
        &self,
        _: Request<location::ReportLocationsRequest>,
    ) -> Result<Response<location::ReportLocationsResponse>, Status> {
        // Drivers who are kept on the map: no test looks for them here.
        Ok(Response::new(location::ReportLocationsResponse::default()))
    }
}
