//! Counts every call: begun, ended, how, and after what time.
//!
//! A call ends when its status leaves: in the headers if there is nothing else to say, else in the trailers. If the
//! answer is dropped before that, the client has gone away, and the call counts as CANCELLED.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::metrics::{Call, Metrics};

/// Makes [`Observe`].
#[derive(Debug, Clone)]
pub struct ObserveLayer {
    metrics: Arc<Metrics>,
}

/// Counts the calls of the service inside.
#[derive(Debug, Clone)]
pub struct Observe<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

/// An answer whose status has not left yet.
struct ObservedBody {
    inner: Body,
    call: Call,
}

impl ObserveLayer {
    /// Counts in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> ObserveLayer {
        ObserveLayer { metrics }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            metrics: Arc::clone(&self.metrics),
        }
    }
}

impl<S> Service<Request<Body>> for Observe<S>
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
        let mut call = self.metrics.grpc.begin(request.uri().path());
        let answer = self.inner.call(request);
        async move {
            let response = answer.await?;
            if response.status() != StatusCode::OK {
                // What a client makes of an HTTP error without a gRPC status, such as 415.
                call.finish(Code::Unknown);
                return Ok(response);
            }
            if let Some(code) = code_in(response.headers()) {
                call.finish(code);
                return Ok(response);
            }
            Ok(response.map(|inner| Body::new(ObservedBody { inner, call })))
        }
        .boxed()
    }
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.call.finish(code_in(trailers).unwrap_or(Code::Unknown));
                }
            }
            Some(Err(status)) => self.call.finish(status.code()),
            // An answer that ends without trailers has no status.
            None => self.call.finish(Code::Unknown),
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

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers
        .get(Status::GRPC_STATUS)
        .map(|status| Code::from_bytes(status.as_bytes()))
}
