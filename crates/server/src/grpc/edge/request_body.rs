//! A request on its way in. A call may be answered before its request has come in whole: it is refused, there is no room, its message is
//! too large, its time is over.
//!
//! Then hyper resets the stream, which the client does not know while it sends the rest. The library takes most of that for an error of the
//! client's, and closes the connection after 1,024 of them, with all other calls on it; and the connection of a proxy carries the calls
//! of many. So the rest is read and thrown away, as much as is on its way.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic::body::Body;

/// How long what is on its way is waited for, and how much of it there may be. What comes later is from a client that does not listen.
const REST_TIME_MAX: Duration = Duration::from_secs(1);
const REST_BYTES_MAX: usize = 1024 * 1024;

/// The body of a request, of which what is not read is thrown away once it is on this side.
struct RequestBody(Body);

/// The request, which may be answered before it is read.
pub(super) fn read_to_the_end(request: Request<Body>) -> Request<Body> {
    request.map(|body| Body::new(RequestBody(body)))
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.0).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.0.is_end_stream() {
            return;
        }
        let mut rest = Box::pin(read_rest(mem::take(&mut self.0)));
        // Most of the time it is here already.
        if rest.as_mut().now_or_never().is_none()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(REST_TIME_MAX, rest));
        }
    }
}

/// Until it ends, fails, as when the client is gone, or is too much.
async fn read_rest(mut body: Body) {
    let mut left = REST_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        let len = frame.data_ref().map_or(0, Bytes::len);
        let Some(less) = left.checked_sub(len) else { return };
        left = less;
    }
}
