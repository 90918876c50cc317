//! Calls of the server: each on a connection with room, under its deadline, and repeated by its policy.

mod connections;
mod retry;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Status};
use waybill_proto::location::v1::LatLng;

use self::connections::Connections;
pub use self::connections::{AddressError, Target};
pub(crate) use self::connections::{Dial, reach};
pub use self::retry::RetryPolicy;
use crate::Point;

/// Makes calls. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    server: Dial,
    connections: Arc<Connections>,
    retry: RetryPolicy,
    abandon: CancellationToken,
}

impl Caller {
    /// Calls to `server`, so many at one time. Nothing is connected yet.
    pub(crate) fn new(server: &Dial, calls_max: usize, retry: RetryPolicy) -> Caller {
        Caller {
            server: server.clone(),
            connections: Arc::new(Connections::to(server, calls_max)),
            retry,
            abandon: CancellationToken::new(),
        }
    }

    /// The same connections under another policy.
    pub(crate) fn with(&self, retry: RetryPolicy) -> Caller {
        Caller { retry, ..self.clone() }
    }

    /// Ends every call at once.
    pub(crate) fn abandon(&self) {
        self.abandon.cancel();
    }

    /// The answer to the call that `once` makes with `message`, or the status of its last repetition. `repeated` is
    /// called before each further one.
    pub(crate) async fn call<M: Clone, T, F>(
        &self,
        message: M,
        repeated: impl Fn(),
        once: impl Fn(Channel, Request<M>) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let call = |deadline| {
            let (channel, room) = self.connections.lease();
            let mut request = self.server.request(message.clone());
            request.set_timeout(deadline);
            // Boxed: it would be as large again in each future around it.
            let call = Box::pin(once(channel, request));
            async move {
                let answer = call.await;
                drop(room);
                answer
            }
        };
        self.retry.until_answered(&self.abandon, repeated, call).await
    }
}

/// A point as the contract has it.
pub(crate) fn position(point: Point) -> LatLng {
    LatLng {
        latitude: Some(point.lat_deg),
        longitude: Some(point.lon_deg),
    }
}
