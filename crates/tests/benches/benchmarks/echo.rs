//! The baseline of the edge: a tonic server that gives a recorded answer at once. It is this program again, in a
//! process of its own, started with a hidden argument; the answers are on its command line.

use std::ffi::OsString;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use waybill_proto::Encoded;
use waybill_proto::location::v1::location_service_server::{LocationService, LocationServiceServer};
use waybill_proto::location::v1::{
    ReportLocationsRequest, ReportLocationsResponse, StreamLocationsRequest, StreamLocationsResponse,
};
use waybill_proto::order::v1 as order;
use waybill_proto::order::v1::order_service_server::{OrderService, OrderServiceServer};

use crate::again::{Again, ECHO};
use crate::world::World;
use testkit::benchmark::process_cost::ProcessCost;

/// As many as Waybill lets wait.
const RESPONSES_MAX: usize = 16;

/// The server as a process. Dropped, it is killed.
pub struct Echo {
    process: Again,
    /// Where it listens.
    pub endpoint: Endpoint,
}

impl Echo {
    /// One that gives these answers: a status to a call, and a message to each message.
    pub async fn start(world: &World, status: &Status, answer: &StreamLocationsResponse) -> Echo {
        let answers: [OsString; 4] = [
            i32::from(status.code()).to_string().into(),
            status.message().into(),
            hex(status.details()).into(),
            hex(&answer.encode_to_vec()).into(),
        ];
        let process = Again::start(ECHO, &world.path("echo.log"), &answers).await;
        let endpoint = Endpoint::from_shared(format!("http://{}", process.addr)).unwrap();
        Echo { process, endpoint }
    }

    /// What it used so far.
    pub fn cost(&self) -> ProcessCost {
        self.process.cost()
    }

    /// Ends it.
    pub async fn stop(self) {
        self.process.stop().await;
    }
}

/// Serves until it is ended, with what follows the hidden argument.
pub async fn serve(args: &[String]) {
    let [addr, code, message, details, answer] = args else {
        panic!("{ECHO} ADDR CODE MESSAGE DETAILS ANSWER");
    };
    let code = Code::from(code.parse::<i32>().unwrap());
    let service = Answers {
        status: Status::with_details(code, message, bytes(details).into()),
        answer: StreamLocationsResponse::decode(bytes(answer).as_slice()).unwrap(),
        tasks: TaskTracker::new(),
    };
    let incoming = TcpIncoming::bind(addr.parse().unwrap())
        .unwrap()
        .with_nodelay(Some(true));
    Server::builder()
        .add_service(OrderServiceServer::new(service.clone()))
        .add_service(LocationServiceServer::new(service))
        .serve_with_incoming(incoming)
        .await
        .unwrap();
}

#[derive(Clone)]
struct Answers {
    status: Status,
    answer: StreamLocationsResponse,
    tasks: TaskTracker,
}

#[tonic::async_trait]
impl LocationService for Answers {
    type StreamLocationsStream = ReceiverStream<Result<StreamLocationsResponse, Status>>;

    async fn stream_locations(
        &self,
        request: Request<Streaming<StreamLocationsRequest>>,
    ) -> Result<Response<Self::StreamLocationsStream>, Status> {
        let (sender, receiver) = mpsc::channel(RESPONSES_MAX);
        let (mut inbound, answer) = (request.into_inner(), self.answer.clone());
        self.tasks.spawn(async move {
            while let Ok(Some(message)) = inbound.message().await {
                let last = message.first_sequence + message.fixes.len() as u64;
                let answer = StreamLocationsResponse {
                    acknowledged_sequence: last,
                    ..answer.clone()
                };
                if sender.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn report_locations(
        &self,
        _: Request<ReportLocationsRequest>,
    ) -> Result<Response<ReportLocationsResponse>, Status> {
        Err(self.status.clone())
    }
}

#[tonic::async_trait]
impl OrderService for Answers {
    type WatchOrderStream = ReceiverStream<Result<order::WatchOrderResponse, Status>>;

    async fn create_order(&self, _: Request<order::CreateOrderRequest>) -> Result<Response<Encoded>, Status> {
        Err(self.status.clone())
    }

    async fn get_order(&self, _: Request<order::GetOrderRequest>) -> Result<Response<order::GetOrderResponse>, Status> {
        Err(self.status.clone())
    }

    async fn list_orders(
        &self,
        _: Request<order::ListOrdersRequest>,
    ) -> Result<Response<order::ListOrdersResponse>, Status> {
        Err(self.status.clone())
    }

    async fn watch_order(
        &self,
        _: Request<order::WatchOrderRequest>,
    ) -> Result<Response<Self::WatchOrderStream>, Status> {
        Err(self.status.clone())
    }

    async fn refund_order(
        &self,
        _: Request<order::RefundOrderRequest>,
    ) -> Result<Response<order::RefundOrderResponse>, Status> {
        Err(self.status.clone())
    }

    async fn complete_order(
        &self,
        _: Request<order::CompleteOrderRequest>,
    ) -> Result<Response<order::CompleteOrderResponse>, Status> {
        Err(self.status.clone())
    }

    async fn cancel_order(
        &self,
        _: Request<order::CancelOrderRequest>,
    ) -> Result<Response<order::CancelOrderResponse>, Status> {
        Err(self.status.clone())
    }

    async fn share_order(
        &self,
        _: Request<order::ShareOrderRequest>,
    ) -> Result<Response<order::ShareOrderResponse>, Status> {
        Err(self.status.clone())
    }

    async fn revoke_share(
        &self,
        _: Request<order::RevokeShareRequest>,
    ) -> Result<Response<order::RevokeShareResponse>, Status> {
        Err(self.status.clone())
    }

    async fn release_driver(
        &self,
        _: Request<order::ReleaseDriverRequest>,
    ) -> Result<Response<order::ReleaseDriverResponse>, Status> {
        Err(self.status.clone())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
