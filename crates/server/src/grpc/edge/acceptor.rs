//! Lets connections in: never more than there is room for, in all and of one address, each under the address that it is of.
//!
//! A connection from a trusted balancer may begin with a header of the PROXY protocol, which says whose it is. It is waited for beside
//! the others: one that does not come holds up no one, and takes its room for [`ConnectionLimits::handshake_time_max`] at most.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt as _, unfold};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use super::connection::{Connection, ConnectionLimits};
use super::front::{Arrival, Front, Room};
use super::places::Places;
use super::proxies::{ClientAddress, Peer};
use super::proxy_header::{self, ProxyHeaderError};
use crate::metrics::Metrics;

/// The pause after the system had no file descriptor or memory for a connection. A tight loop would use up the
/// processor, too.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A connection whose address is known, before it was looked at whether there is room for it.
struct Accepted {
    stream: TcpStream,
    peer: Peer,
    deadline: Instant,
    permit: OwnedSemaphorePermit,
}

struct Acceptor {
    listener: TcpListener,
    limits: ConnectionLimits,
    permits: Arc<Semaphore>,
    places: Arc<Places>,
    front: Front,
    arriving: FuturesUnordered<BoxFuture<'static, Option<Accepted>>>,
    metrics: Arc<Metrics>,
}

/// Accepts connections for ever, never more at a time than `limits` says.
pub fn incoming(
    listener: TcpListener,
    limits: ConnectionLimits,
    metrics: Arc<Metrics>,
    front: Front,
) -> impl Stream<Item = io::Result<Connection>> + Send {
    let acceptor = Acceptor {
        listener,
        permits: Arc::new(Semaphore::new(limits.connections_max)),
        places: Places::new(limits.connections_per_address_max),
        limits,
        front,
        arriving: FuturesUnordered::new(),
        metrics,
    };
    unfold(acceptor, |mut acceptor| async {
        Some((Ok(acceptor.accept().await), acceptor))
    })
}

impl Acceptor {
    async fn accept(&mut self) -> Connection {
        loop {
            let arrived = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer.ip()),
                    Err(error) if is_peer_gone(&error) => None,
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept connections; trying again");
                        sleep(ACCEPT_RETRY).await;
                        None
                    }
                },
                Some(arrived) = self.arriving.next() => arrived.and_then(|accepted| self.place(accepted)),
            };
            if let Some(arrival) = arrived {
                return Connection::new(arrival, &self.front, self.limits.clone(), Arc::clone(&self.metrics));
            }
        }
    }

    /// A connection that is served from now on; none if there is no room, or if its header has to be read first.
    fn admit(&self, stream: TcpStream, address: IpAddr) -> Option<Arrival> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            // Dropping the stream closes it.
            self.metrics.ingress.connection_over_limit();
            return None;
        };
        let accepted = Accepted {
            stream,
            peer: Peer {
                address: address.to_canonical(),
                is_known: true,
            },
            deadline: Instant::now() + self.limits.handshake_time_max,
            permit,
        };
        if self.front.proxy_protocol && self.front.proxies.trusts(address) {
            let metrics = Arc::clone(&self.metrics);
            self.arriving.push(accepted.read_header(metrics).boxed());
            return None;
        }
        self.place(accepted)
    }

    /// The connection, if its address may have one more. A proxy of HTTP carries the calls of many over a few connections: it is not
    /// limited so. Nor is a balancer that says of a connection that it is its own, or that it does not know whose: it looks at our health
    /// so, and those whom it does not know would share the connections of one.
    fn place(&self, accepted: Accepted) -> Option<Arrival> {
        let peer = accepted.peer;
        let place = if self.front.proxies.trusts(peer.address) {
            None
        } else {
            let place = self.places.take(ClientAddress(peer.address));
            if place.is_none() {
                self.metrics.ingress.connection_over_address_limit();
            }
            Some(place?)
        };
        Some(Arrival {
            stream: accepted.stream,
            peer,
            deadline: accepted.deadline,
            room: Room::new(accepted.permit, place),
        })
    }
}

impl Accepted {
    /// The same under the address that its header says. `None`: it has none, and is closed.
    async fn read_header(mut self, metrics: Arc<Metrics>) -> Option<Accepted> {
        let reason = match timeout_at(self.deadline, proxy_header::read(&mut self.stream)).await {
            Ok(Ok(address)) => {
                self.peer = Peer {
                    address: address.unwrap_or(self.peer.address),
                    is_known: address.is_some(),
                };
                return Some(self);
            }
            // Balancers look so whether we are there.
            Ok(Err(ProxyHeaderError::Empty)) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "its header of the PROXY protocol did not come in time".to_owned(),
        };
        metrics.ingress.connection_without_header();
        tracing::info!(peer = %self.peer.address, reason, "a connection from a trusted network is closed");
        None
    }
}

/// Whether a peer went away while it was being accepted: the listener itself is well.
fn is_peer_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}
