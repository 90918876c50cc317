//! A panic is a defect of ours, and its caller gets an answer: INTERNAL. The connection and the other calls on it live.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::metrics::Metrics;

/// Makes [`Panics`].
#[derive(Debug, Clone)]
pub struct PanicsLayer {
    metrics: Arc<Metrics>,
}

/// Turns panics of the service inside into answers.
#[derive(Debug, Clone)]
pub struct Panics<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

/// A streamed answer may panic too, long after its headers left.
struct CaughtBody {
    inner: Body,
    metrics: Arc<Metrics>,
}

impl PanicsLayer {
    /// Counts in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> PanicsLayer {
        PanicsLayer { metrics }
    }
}

impl<S> Layer<S> for PanicsLayer {
    type Service = Panics<S>;

    fn layer(&self, inner: S) -> Panics<S> {
        Panics {
            inner,
            metrics: Arc::clone(&self.metrics),
        }
    }
}

impl<S> Service<Request<Body>> for Panics<S>
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
        let metrics = Arc::clone(&self.metrics);
        // Unwind safety: the future is not polled again, and what handlers share is behind locks that poison or
        // stores that roll back.
        let answer = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        async move {
            match answer.await {
                Ok(response) => response.map(|response| response.map(|inner| Body::new(CaughtBody { inner, metrics }))),
                Err(panic) => Ok(status_of(&*panic, &metrics).into_http()),
            }
        }
        .boxed()
    }
}

impl http_body::Body for CaughtBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut self.inner).poll_frame(context))) {
            Ok(polled) => polled,
            Err(panic) => {
                self.inner = Body::empty();
                let mut trailers = HeaderMap::new();
                // It has no details, the only part of a status that may be no header value.
                let _ = status_of(&*panic, &self.metrics).add_header(&mut trailers);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Logs and counts; the caller learns no more than that it happened.
fn status_of(panic: &(dyn Any + Send), metrics: &Metrics) -> Status {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        panic = text.unwrap_or("not a text"),
        "a handler panicked; the call is answered with INTERNAL"
    );
    metrics.grpc.panicked();
    Status::internal("internal error")
}
