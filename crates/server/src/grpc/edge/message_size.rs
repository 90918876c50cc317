//! A message over the limit is `RESOURCE_EXHAUSTED`, as the gRPC documentation of status codes and other servers have
//! it. tonic 0.14.9 says `OUT_OF_RANGE`, which makes a client ask for another range; see its `codec/decode.rs`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

/// How tonic's message begins. A service may say `OUT_OF_RANGE` for reasons of its own, which are left alone.
const TOO_LARGE: &str = "Error, decoded message length too large";

/// Makes [`MessageSize`].
#[derive(Debug, Clone, Default)]
pub struct MessageSizeLayer(());

/// Corrects the status of calls whose message is too large.
#[derive(Debug, Clone)]
pub struct MessageSize<S> {
    inner: S,
}

struct CorrectedBody {
    inner: Body,
}

impl MessageSizeLayer {
    /// There is nothing to set: the limit is the service's.
    pub fn new() -> MessageSizeLayer {
        MessageSizeLayer(())
    }
}

impl<S> Layer<S> for MessageSizeLayer {
    type Service = MessageSize<S>;

    fn layer(&self, inner: S) -> MessageSize<S> {
        MessageSize { inner }
    }
}

impl<S> Service<Request<Body>> for MessageSize<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.inner.call(request);
        async move {
            let mut response = answer.await?;
            correct(response.headers_mut());
            Ok(response.map(|inner| Body::new(CorrectedBody { inner })))
        }
        .boxed()
    }
}

impl http_body::Body for CorrectedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut()) {
            correct(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn correct(headers: &mut HeaderMap) {
    let code = headers
        .get(Status::GRPC_STATUS)
        .map(|code| Code::from_bytes(code.as_bytes()));
    if code != Some(Code::OutOfRange) {
        return;
    }
    let Some(status) = Status::from_header_map(headers).filter(|status| status.message().starts_with(TOO_LARGE)) else {
        return;
    };
    // Writing a status fails only for details that are no header value, and this one has none.
    let _ = Status::resource_exhausted(status.message()).add_header(headers);
}
