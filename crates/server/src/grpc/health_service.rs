//! The gRPC health service, as its contract has it where the library's differs: who watches a service that is not there learns so, and waits
//! for it; and a status that has not changed is not sent again.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>

use futures_util::future::ready;
use futures_util::stream::{BoxStream, StreamExt as _, once, pending};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_health::server::HealthService;

type Answer = Result<HealthCheckResponse, Status>;

/// The library's service, with another `Watch`.
#[derive(Debug)]
pub struct WatchedHealth(pub HealthService);

#[tonic::async_trait]
impl Health for WatchedHealth {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        self.0.check(request).await
    }

    type WatchStream = BoxStream<'static, Answer>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        match self.0.watch(request).await {
            Ok(statuses) => Ok(Response::new(changes(statuses.into_inner()).boxed())),
            // Services are there from the start on, or never.
            Err(status) if status.code() == Code::NotFound => {
                let unknown = HealthCheckResponse {
                    status: ServingStatus::ServiceUnknown.into(),
                };
                Ok(Response::new(once(ready(Ok(unknown))).chain(pending()).boxed()))
            }
            Err(status) => Err(status),
        }
    }
}

/// Without what is as before.
fn changes(
    statuses: impl futures_util::Stream<Item = Answer> + Send + 'static,
) -> impl futures_util::Stream<Item = Answer> + Send + 'static {
    let mut last = None;
    statuses.filter(move |answer| {
        let status = answer.as_ref().ok().map(|answer| answer.status);
        let is_news = status.is_none() || status != last;
        last = status;
        ready(is_news)
    })
}
