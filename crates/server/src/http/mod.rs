//! Two small HTTP servers, each on a listener of its own. [`ops`] is for operators and their machines: `/livez`, `/readyz`,
//! `/metrics`. [`webhooks`] is for the payment provider: `/webhooks/payments`, the only route that the public may reach.
//!
//! They know neither Redis nor Postgres; the caller gives them probes. What is not one of their routes is 404.

mod listener;
pub mod ops;
pub mod webhooks;

use std::future::Future;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::middleware;
use axum::response::Response;
use tokio::net::TcpListener;

pub use self::listener::{BindError, bind};

use crate::tls::ServerTls;

/// Serves `router` on `listener`, with `tls` to peers that speak it, until `stop` completes; answers that are being sent then are finished.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<ServerTls>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let limited = listener::LimitedListener::new(listener, tls);
    axum::serve(limited, router.layer(middleware::map_response(close_after_answer)))
        .with_graceful_shutdown(stop)
        .await
}

/// One request a connection: then the time limit of a connection is the time limit of a request, and no idle
/// connection holds a place.
async fn close_after_answer(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
