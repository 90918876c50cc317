//! A server that answers searches, or does not, through memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use waybill_proto::fleet::v1 as pb;
use waybill_proto::fleet::v1::fleet_service_server::{FleetService, FleetServiceServer};

use crate::client::Dial;

/// How long a search takes when nothing is wrong.
const SERVICE: Duration = Duration::from_millis(5);

/// A server that answers searches.
#[derive(Default)]
pub(super) struct Searched {
    /// Nothing is answered between these times, as in a garbage collection or a failover.
    pub(super) stall: Option<(Instant, Instant)>,
    /// Every so many searches one is refused with this.
    pub(super) refusals: Mutex<Vec<Status>>,
    /// Searches are never answered.
    pub(super) never_answers: bool,
    pub(super) under_way: AtomicUsize,
    pub(super) under_way_max: AtomicUsize,
}

#[tonic::async_trait]
impl FleetService for Searched {
    async fn search_drivers(
        &self,
        _: Request<pb::SearchDriversRequest>,
    ) -> Result<Response<pb::SearchDriversResponse>, Status> {
        let under_way = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
        self.under_way_max.fetch_max(under_way, Ordering::Relaxed);
        if self.never_answers {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(SERVICE).await;
        if let Some((_, until)) = self.stall.filter(|(from, _)| Instant::now() >= *from) {
            tokio::time::sleep_until(until).await;
        }
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        match self.refusals.lock().unwrap().pop() {
            Some(status) => Err(status),
            None => Ok(Response::new(pb::SearchDriversResponse::default())),
        }
    }

    type WatchDriversStream = tokio_stream::Empty<Result<pb::WatchDriversResponse, Status>>;

    async fn watch_drivers(
        &self,
        _: Request<pb::WatchDriversRequest>,
    ) -> Result<Response<Self::WatchDriversStream>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }

    async fn list_locations(
        &self,
        _: Request<pb::ListLocationsRequest>,
    ) -> Result<Response<pb::ListLocationsResponse>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }

    type ReplayLocationsStream = tokio_stream::Empty<Result<pb::ReplayLocationsResponse, Status>>;

    async fn replay_locations(
        &self,
        _: Request<pb::ReplayLocationsRequest>,
    ) -> Result<Response<Self::ReplayLocationsStream>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }

    async fn get_driver(&self, _: Request<pb::GetDriverRequest>) -> Result<Response<pb::GetDriverResponse>, Status> {
        Err(Status::unimplemented("not part of this server"))
    }
}

/// Serves through memory.
pub(super) fn serve(fleet: Arc<Searched>) -> Dial {
    let (connect, connections) = mpsc::unbounded_channel::<DuplexStream>();
    let incoming = UnboundedReceiverStream::new(connections).map(Ok::<_, std::io::Error>);
    let server = Server::builder()
        .max_concurrent_streams(100)
        .add_service(FleetServiceServer::from_arc(fleet))
        .serve_with_incoming(incoming);
    TaskTracker::new().spawn(server);
    Dial::by(move || {
        let connect = connect.clone();
        let connector = tower::service_fn(move |_| {
            let (client, server) = tokio::io::duplex(65_536);
            let connected = connect
                .send(server)
                .map_err(|_| std::io::Error::other("the server is gone"));
            async move { connected.map(|()| TokioIo::new(client)) }
        });
        Endpoint::from_static("http://in-memory").connect_with_connector_lazy(connector)
    })
}

/// No server: every connection is refused.
pub(super) fn no_server() -> Dial {
    Dial::by(|| {
        let connector =
            tower::service_fn(|_| async { Err::<TokioIo<DuplexStream>, _>(std::io::Error::other("refused")) });
        Endpoint::from_static("http://in-memory").connect_with_connector_lazy(connector)
    })
}
