//! The socket: a bind that fails in words, and connections that are few and short.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::tls::{Protocol, ServerStream, ServerTls};

/// A balancer, a scraper and some people need a handful. More wait in the accept queue of the system.
const CONNECTIONS_MAX: usize = 64;

/// From accept to the last byte of the answer. The slowest answer is `/readyz`, half a second.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// Why an address cannot be listened on. The text says what to change.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("address {address} is in use: choose another with {flag}")]
    InUse {
        /// The address asked for.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// The system does not allow it, or there is no such address on this machine.
    #[error("cannot listen on {address}: choose another with {flag}")]
    Refused {
        /// The address asked for.
        address: SocketAddr,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Listens on `address`; port 0 takes any free one. `flag` is the flag that sets the address, for the error.
pub async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address, flag },
        _ => BindError::Refused { address, flag, source },
    })
}

/// Accepts [`CONNECTIONS_MAX`] connections at a time, each for [`CONNECTION_TIME_MAX`].
pub(super) struct LimitedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
    tls: Option<ServerTls>,
}

/// A connection that fails once its time is over, whichever side is slow.
pub(super) struct LimitedStream {
    stream: ServerStream,
    time_limit: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl LimitedListener {
    pub fn new(listener: TcpListener, tls: Option<ServerTls>) -> LimitedListener {
        LimitedListener {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            tls,
        }
    }
}

impl Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedStream, SocketAddr) {
        // The semaphore is never closed, so there is always a permit in the end.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let stream = match &self.tls {
            Some(tls) => tls.accept(stream, Protocol::Http1),
            None => stream.into(),
        };
        let time_limit = Box::pin(tokio::time::sleep(CONNECTION_TIME_MAX));
        (
            LimitedStream {
                stream,
                time_limit,
                _place: place,
            },
            address,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl LimitedStream {
    fn poll_within_time<T>(
        &mut self,
        context: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut ServerStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.time_limit.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        poll(Pin::new(&mut self.stream), context)
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_within_time(context, |stream, context| stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_within_time(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_within_time(context, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_within_time(context, AsyncWrite::poll_shutdown)
    }
}
