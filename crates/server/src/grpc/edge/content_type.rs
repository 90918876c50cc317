//! Only gRPC is served. tonic answers a call of any content type, so a browser's form could call a method without a
//! preflight; the specification asks for HTTP 415,
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use tonic::body::Body;
use tower::{Layer, Service};

/// Makes [`ContentType`].
#[derive(Debug, Clone, Default)]
pub struct ContentTypeLayer(());

/// Answers HTTP 415 to what is not gRPC with protobuf messages.
#[derive(Debug, Clone)]
pub struct ContentType<S> {
    inner: S,
}

impl ContentTypeLayer {
    /// There is nothing to set.
    pub fn new() -> ContentTypeLayer {
        ContentTypeLayer(())
    }
}

impl<S> Layer<S> for ContentTypeLayer {
    type Service = ContentType<S>;

    fn layer(&self, inner: S) -> ContentType<S> {
        ContentType { inner }
    }
}

impl<S> Service<Request<Body>> for ContentType<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_grpc(request.headers()) {
            return self.inner.call(request).boxed();
        }
        let mut refusal = Response::new(Body::empty());
        *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        ready(Ok(refusal)).boxed()
    }
}

/// `application/grpc` or `application/grpc+proto`, with or without parameters. Another suffix, such as `+json`, means
/// messages that would be misread; `application/grpc-web` is another protocol.
fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    ["application/grpc", "application/grpc+proto"]
        .iter()
        .any(|grpc| essence.eq_ignore_ascii_case(grpc))
}
