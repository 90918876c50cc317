//! The edge: everything between the socket and the services.
//!
//! Services rely on it: a call has a deadline, a panic is an answer, every call is counted, and a peer that breaks the
//! rules harms only itself. A server is built like this:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use waybill_server::grpc::edge::{self, ConnectionLimits, DeadlineSettings, Front, Http2Limits, Proxies, Speaks};
//! # use waybill_server::identity::Identity;
//! # use waybill_server::metrics::Metrics;
//! # async fn serve(listener: tokio::net::TcpListener, metrics: Arc<Metrics>, routes: tonic::service::Routes) {
//! let proxies = Arc::new(Proxies::default());
//! let front = Front { tls: None, speaks: Speaks::Http2, proxies: Arc::clone(&proxies), proxy_protocol: false };
//! let connections = edge::incoming(listener, ConnectionLimits::default(), Arc::clone(&metrics), front);
//! edge::server_builder(&Http2Limits::default())
//!     .layer(edge::layers(metrics, DeadlineSettings::default(), Identity::Anonymous, proxies))
//!     .add_routes(routes)
//!     .serve_with_incoming(connections)
//!     .await;
//! # }
//! ```
//!
//! The principal of a call is in its message, so the rate limits are not a layer: handlers call [`IngressLimits`].

mod acceptor;
mod answer;
mod connection;
mod deadline;
mod forwarded;
mod frames;
mod front;
#[cfg(test)]
mod fuzz;
mod ingress;
mod layers;
mod message_size;
mod metadata_size;
mod panics;
mod places;
mod proxies;
mod proxy_header;
mod request_body;

use std::time::Duration;

use tonic::transport::Server;

pub use self::acceptor::incoming;
pub use self::connection::{Connection, ConnectionLimits};
pub use self::deadline::{CallDeadline, DeadlineSettings};
pub use self::front::{Front, Speaks};
pub use self::ingress::{Class, ClassLimit, IngressLimits, IngressSettings, Rate, RateLimited, Wait};
pub use self::layers::{LayeredRoutes, WebRoutes, layers};
pub use self::proxies::{ClientAddress, ForwardedHeader, Peer, Proxies, network};

/// The largest message that a service takes, in bytes: some 700 fixes. Each service sets it with
/// `max_decoding_message_size`, since tonic has it there.
pub const MESSAGE_SIZE_MAX: usize = 64 * 1024;

/// The most metadata of a call, in bytes, as HTTP/2 counts them: names and values, and 32 for each. Above the longest token, so that a longer one
/// is refused as what it is.
pub const METADATA_SIZE_MAX: usize = 16 * 1024;

/// The limits of one HTTP/2 connection. tonic leaves most of these unlimited.
#[derive(Debug, Clone)]
pub struct Http2Limits {
    /// Calls at a time on one connection; more are refused with `REFUSED_STREAM`, which a client may send again.
    pub concurrent_streams_max: u32,
    /// Streams that the peer reset before we took them (rapid reset, CVE-2023-44487), until the connection is closed.
    pub pending_accept_reset_streams_max: usize,
    /// Streams that we reset for the peer's errors (RUSTSEC-2024-0003), until the connection is closed.
    pub local_error_reset_streams_max: usize,
    /// Headers of one call, uncompressed, in bytes, until the connection refuses them: with HTTP 431, and where they go on for long it is
    /// closed. Above [`METADATA_SIZE_MAX`], so that there is a call to refuse, and those beside it go on.
    pub header_list_size_max: u32,
    /// What a peer may send on one stream before the handler has read it, in bytes.
    pub stream_window: u32,
    /// The same for all streams of the connection.
    pub connection_window: u32,
    /// How often a silent peer is pinged.
    pub keepalive_interval: Duration,
    /// How long it may take to answer before the connection is closed.
    pub keepalive_timeout: Duration,
    /// The age at which a connection is asked to end (GOAWAY), so that clients find new instances. Calls and streams
    /// on it are finished. `None` lets connections live for ever.
    pub connection_age: Option<Duration>,
}

impl Default for Http2Limits {
    fn default() -> Http2Limits {
        Http2Limits {
            // These and the keepalive, but for the headers, as Envoy and h2 advise for servers at the edge of a network.
            concurrent_streams_max: 100,
            pending_accept_reset_streams_max: 20,
            local_error_reset_streams_max: 1_024,
            // h2 gives up a connection on which many headers go on beyond this for another frame, of 16 KiB.
            header_list_size_max: 64 * 1024,
            stream_window: 64 * 1024,
            connection_window: 1024 * 1024,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            // As Temporal. There is no grace on purpose: with tonic's, the peer gets no GOAWAY and the socket is cut.
            connection_age: Some(Duration::from_mins(5)),
        }
    }
}

/// A server with these limits and without layers. It has no `Server::timeout`, which answers CANCELLED and cuts
/// streams; [`layers`] keep the deadlines instead.
pub fn server_builder(limits: &Http2Limits) -> Server {
    let server = Server::builder()
        .max_concurrent_streams(limits.concurrent_streams_max)
        .http2_max_pending_accept_reset_streams(Some(limits.pending_accept_reset_streams_max))
        .http2_max_local_error_reset_streams(Some(limits.local_error_reset_streams_max))
        .http2_max_header_list_size(limits.header_list_size_max)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout));
    match limits.connection_age {
        Some(age) => server.max_connection_age(age),
        None => server,
    }
}
