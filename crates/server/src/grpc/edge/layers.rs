//! The layers that every call passes on its way to a service, as one tower service. Their order matters; from outside:
//!
//! 1. observe: counts whatever the others answer, and gives the call its span;
//! 2. content type, and the size of the metadata: refuses what is not gRPC, or too much, before any work is done for it;
//! 3. panics: around all code that works on the call, so that none of it can end the connection;
//! 4. deadline: around the service, whose future it drops; a call without any time left does not reach the service;
//! 5. access: before a message is decoded; what the caller may do is in the request from here on
//!    ([`crate::identity::Access`]);
//! 6. message size: next to the service, since it corrects one of tonic's own answers.
//!
//! All but the second go on while the answer leaves: [`AnswerBody`]. Whoever answers, what is on its way of the request is read: [`request_body`].

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use jiff::Timestamp;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::layer::layer_fn;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument as _, info_span};

use super::answer::AnswerBody;
use super::deadline::{DeadlineSettings, Deadlines, Timer, or_deadline};
use super::proxies::{ClientAddress, Proxies};
use super::{message_size, metadata_size, panics, request_body};
use crate::identity::{AccessError, Identity, RefusalLog};
use crate::metrics::Metrics;
use crate::telemetry;

/// Services with the layers around them.
#[derive(Clone)]
pub struct LayeredRoutes {
    routes: Routes,
    metrics: Arc<Metrics>,
    deadline: DeadlineSettings,
    doors: Arc<Doors>,
    proxies: Arc<Proxies>,
}

/// The same for browsers: it translates gRPC-Web to gRPC and back, outside of the layers.
pub type WebRoutes = GrpcWebService<LayeredRoutes>;

/// Lets callers in.
struct Doors {
    identity: Identity,
    refusals: RefusalLog,
}

/// The layers, which count in `metrics`, give each call its deadline, note who calls as far as `proxies` are believed, and let in whom
/// `identity` knows. Every path passes
/// them: services, health, reflection, and what does not exist.
pub fn layers(
    metrics: Arc<Metrics>,
    deadline: DeadlineSettings,
    identity: Identity,
    proxies: Arc<Proxies>,
) -> impl Layer<Routes, Service = LayeredRoutes> + Clone {
    let doors = Arc::new(Doors {
        identity,
        refusals: RefusalLog::default(),
    });
    layer_fn(move |routes| LayeredRoutes {
        routes,
        metrics: Arc::clone(&metrics),
        deadline: deadline.clone(),
        doors: Arc::clone(&doors),
        proxies: Arc::clone(&proxies),
    })
}

impl Service<Request<Body>> for LayeredRoutes {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.routes, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut request = request_body::read_to_the_end(request);
        let metrics = Arc::clone(&self.metrics);
        let call = metrics.grpc.begin(request.uri().path());
        let span = info_span!("call", method = call.method(), order_id = Empty);
        telemetry::continue_trace(&span, request.headers());
        self.proxies.note_client(&mut request);
        let admitted = self.admit(&mut request);
        // A clone of its own: the caller is known only once the call is worked on, and the routes are always ready.
        let (mut routes, doors) = (self.routes.clone(), Arc::clone(&self.doors));
        async move {
            let (response, timer) = match admitted {
                Ok(mut deadlines) => {
                    let handler = async {
                        match doors.admit(&mut request, &metrics).await {
                            Ok(()) => routes.call(request).await,
                            Err(refusal) => Ok(Status::from(refusal).into_http()),
                        }
                    };
                    let answer = answer(handler, &mut deadlines.beginning, &metrics);
                    (answer.instrument(span.clone()).await, deadlines.rest())
                }
                Err(refusal) => (*refusal, None),
            };
            Ok(AnswerBody::observe(response, call, timer, span, metrics))
        }
        .boxed()
    }
}

impl LayeredRoutes {
    /// Takes calls by gRPC-Web.
    pub fn by_grpc_web(self) -> WebRoutes {
        GrpcWebLayer::new().layer(self)
    }

    /// The deadlines of a call that may go to its service, or the answer to one that may not.
    fn admit(&self, request: &mut Request<Body>) -> Result<Deadlines, Box<Response<Body>>> {
        if !is_grpc(request.headers()) {
            let mut refusal = Response::new(Body::empty());
            *refusal.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Box::new(refusal));
        }
        metadata_size::check(request)
            .and_then(|()| self.deadline.start(request))
            .map_err(|status| Box::new(status.into_http()))
    }
}

impl Doors {
    /// Puts into the request what it may do, or refuses it.
    async fn admit(&self, request: &mut Request<Body>, metrics: &Metrics) -> Result<(), AccessError> {
        let (path, headers) = (request.uri().path(), request.headers());
        match self.identity.admit(path, headers, Timestamp::now()).await {
            Ok(None) => Ok(()),
            Ok(Some(access)) => {
                metrics.auth.admitted();
                request.extensions_mut().insert(access);
                Ok(())
            }
            Err(refusal) => {
                metrics.auth.refused(refusal.reason());
                let client = request.extensions().get::<ClientAddress>();
                self.refusals.refused(&refusal, path, client.map(|client| client.0));
                Err(refusal)
            }
        }
    }
}

/// The answer of the handler, or the one to its panic or its deadline.
async fn answer(
    handler: impl Future<Output = Result<Response<Body>, Infallible>>,
    timer: &mut Timer,
    metrics: &Metrics,
) -> Response<Body> {
    let corrected = handler.map(|Ok(mut response)| {
        message_size::correct(response.headers_mut());
        response
    });
    // Unwind safety: the future is not polled again, and what handlers share is behind locks that poison or stores that
    // roll back.
    AssertUnwindSafe(or_deadline(corrected, timer))
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| Err(panics::report(&*panic, metrics)))
        .unwrap_or_else(Status::into_http)
}

/// `application/grpc` or `application/grpc+proto`, with or without parameters. Another suffix, such as `+json`, names a
/// format that would be misread; `application/grpc-web` is another protocol.
///
/// tonic answers a call of any content type, so a browser's form could call a method without a preflight. The
/// specification asks for HTTP 415: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.
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
