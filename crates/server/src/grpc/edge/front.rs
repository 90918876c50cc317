//! What is before a listener and what is spoken there, and a connection on its way in.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::places::Place;
use super::proxies::{Peer, Proxies};
use crate::tls::ServerTls;

/// What is before a listener, and what is spoken there.
#[derive(Debug, Clone)]
pub struct Front {
    /// `None`: in plaintext.
    pub tls: Option<ServerTls>,
    /// What peers speak, within TLS or without.
    pub speaks: Speaks,
    /// The balancers and proxies between callers and the listener.
    pub proxies: Arc<Proxies>,
    /// Whether connections from them begin with a header of the PROXY protocol, before TLS. One without it is closed. Connections from
    /// others have none.
    pub proxy_protocol: bool,
}

/// What peers speak at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/2: clients of gRPC.
    Http2,
    /// HTTP/2 or HTTP/1.1: browsers. Without TLS they speak HTTP/1.1.
    Either,
}

/// A connection before anything is served on it.
pub(super) struct Arrival {
    pub stream: TcpStream,
    /// Whose it is.
    pub peer: Peer,
    /// Until when its first frame must have come.
    pub deadline: Instant,
    pub room: Room,
}

/// The places of a connection, until it is dropped.
pub(super) struct Room {
    _of_all: OwnedSemaphorePermit,
    _of_address: Option<Place>,
}

impl Room {
    /// One of those of all, and one of its address where that is limited.
    pub fn new(of_all: OwnedSemaphorePermit, of_address: Option<Place>) -> Room {
        Room {
            _of_all: of_all,
            _of_address: of_address,
        }
    }
}
