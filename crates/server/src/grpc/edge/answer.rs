//! The answer to a call, on its way out. A streamed answer may panic, pass the deadline or go over a limit long after
//! its headers left, so the layers go on in its body.
//!
//! A call ends when its status leaves: in the headers if nothing else follows, else in the trailers. If the answer is
//! dropped before that, the client has gone away, and the call counts as CANCELLED.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Span;

use super::deadline::{Timer, check_deadline};
use super::{message_size, panics};
use crate::metrics::{Call, Metrics};

/// The body of an answer.
pub(super) struct AnswerBody {
    inner: Body,
    call: Call,
    timer: Option<Timer>,
    span: Span,
    metrics: Arc<Metrics>,
}

impl AnswerBody {
    /// The answer, which finishes `call` when its status leaves and answers for `timer`.
    pub fn observe(
        response: Response<Body>,
        mut call: Call,
        timer: Option<Timer>,
        span: Span,
        metrics: Arc<Metrics>,
    ) -> Response<Body> {
        if response.status() != StatusCode::OK {
            // What a client makes of an HTTP error without a gRPC status, such as 415.
            call.finish(Code::Unknown);
        } else if let Some(code) = code_in(response.headers()) {
            call.finish(code);
        }
        response.map(|inner| {
            Body::new(AnswerBody {
                inner,
                call,
                timer,
                span,
                metrics,
            })
        })
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let AnswerBody {
            inner,
            call,
            timer,
            span,
            metrics,
        } = self.get_mut();
        let _entered = span.enter();
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *inner).poll_frame(context)));
        let polled = match polled {
            Ok(polled) => ready!(check_deadline(polled, timer.as_mut(), context)),
            Err(panic) => Err(panics::report(&*panic, metrics)),
        };
        let mut frame = polled.unwrap_or_else(|status| {
            *inner = Body::empty();
            Some(Ok(trailers(&status)))
        });
        match &mut frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    message_size::correct(trailers);
                    call.finish(code_in(trailers).unwrap_or(Code::Unknown));
                }
            }
            Some(Err(status)) => call.finish(status.code()),
            // An answer that ends without trailers has no status.
            None => call.finish(Code::Unknown),
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

fn trailers(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    // It has no details, the only part of a status that may be no header value.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers
        .get(Status::GRPC_STATUS)
        .map(|status| Code::from_bytes(status.as_bytes()))
}
