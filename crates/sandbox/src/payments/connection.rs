//! Connections that can be cut without an answer: one, to lose a reply; all, when the provider stops.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Accepts connections, all of which are cut when the provider stops.
pub(super) struct Connections {
    listener: TcpListener,
    stopping: CancellationToken,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, stopping: CancellationToken) -> Self {
        Self { listener, stopping }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // axum's own accept, which retries what can be retried.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        // Answers are small: without this each would wait for the acknowledgement of the one before. It fails only if
        // the connection is already closed, which its next read reports.
        let _ = stream.set_nodelay(true);
        let cut = self.stopping.child_token();
        let connection = Connection {
            stream,
            until_cut: Box::pin(cut.clone().cancelled_owned()),
            cutter: Cutter(cut),
        };
        (connection, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Lets a handler cut the connection that its request came on.
#[derive(Clone)]
pub(super) struct Cutter(CancellationToken);

impl Cutter {
    /// Nothing more is read or written; what was not written yet never is.
    pub(super) fn cut(&self) {
        self.0.cancel();
    }

    /// Returns once it is cut.
    pub(super) async fn until_cut(&self) {
        self.0.cancelled().await;
    }
}

impl Connected<IncomingStream<'_, Connections>> for Cutter {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        stream.io().cutter.clone()
    }
}

/// A connection that fails from the moment it is cut.
pub(super) struct Connection {
    stream: TcpStream,
    cutter: Cutter,
    /// Wakes a connection that waits for its next request.
    until_cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let cut = self.cutter.0.is_cancelled() || self.until_cut.as_mut().poll(context).is_ready();
        if cut {
            Err(io::ErrorKind::ConnectionAborted.into())
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
