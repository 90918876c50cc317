//! One call of a load: on a connection with room, under its deadline, and made again only where that was asked for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

use crate::connections::{Connections, Lease};
use crate::retry::RetryPolicy;

/// Makes calls.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) connections: Arc<Connections>,
    /// How long a call may take, all repetitions together.
    pub(super) deadline: Duration,
    pub(super) retries: bool,
}

impl Caller {
    /// The answer to the call that `once` makes within the time that it is given, or the code of its end. `repeated` hears
    /// of every further time that it is made.
    pub(super) async fn call<T, F>(&self, repeated: impl Fn(), once: impl Fn(Lease, Duration) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let begun = Instant::now();
        let answer = if self.retries {
            let policy = RetryPolicy {
                call_deadline: self.deadline,
                give_up_after: self.deadline,
                ..RetryPolicy::default()
            };
            let never = CancellationToken::new();
            policy
                .until_answered(&never, repeated, |deadline| once(self.connections.lease(), deadline))
                .await
        } else {
            let call = once(self.connections.lease(), self.deadline);
            let too_late = |_| Err(Status::deadline_exceeded("no answer within the deadline"));
            tokio::time::timeout(self.deadline, call).await.unwrap_or_else(too_late)
        };
        // tonic's own timer, which may be the first of the two, says that the call was cancelled.
        match answer {
            Err(status) if status.code() == Code::Cancelled && begun.elapsed() >= self.deadline => {
                Err(Status::deadline_exceeded("no answer within the deadline"))
            }
            answer => answer,
        }
    }
}

/// `message` with a deadline that the server is told.
pub(super) fn request<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}
