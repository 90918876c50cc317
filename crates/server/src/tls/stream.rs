//! One connection's bytes, without TLS or within it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::Accept;
use tokio_rustls::server::TlsStream;
use tracing::debug;

use crate::metrics::TlsMetrics;

/// A TCP stream, or TLS over one. The first read or write makes the handshake.
#[derive(Debug)]
pub struct ServerStream(State);

enum State {
    Plain(TcpStream),
    Handshaking(Box<Accept<TcpStream>>, TlsMetrics),
    Tls(Box<TlsStream<TcpStream>>),
    Failed,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::Plain(_) => "plain",
            State::Handshaking(..) => "handshaking",
            State::Tls(_) => "TLS",
            State::Failed => "failed",
        })
    }
}

/// Either stream, once there is one.
enum Open<'a> {
    Plain(Pin<&'a mut TcpStream>),
    Tls(Pin<&'a mut TlsStream<TcpStream>>),
}

impl From<TcpStream> for ServerStream {
    fn from(stream: TcpStream) -> ServerStream {
        ServerStream(State::Plain(stream))
    }
}

impl ServerStream {
    pub(super) fn handshaking(accept: Accept<TcpStream>, metrics: TlsMetrics) -> ServerStream {
        ServerStream(State::Handshaking(Box::new(accept), metrics))
    }

    /// The stream, after the handshake.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Open<'_>>> {
        if let State::Handshaking(accept, metrics) = &mut self.0 {
            let accepted = ready!(Pin::new(accept.as_mut()).poll(context));
            metrics.handshake(accepted.is_ok());
            match accepted {
                Ok(stream) => self.0 = State::Tls(Box::new(stream)),
                Err(error) => {
                    self.0 = State::Failed;
                    debug!(%error, "a TLS handshake failed");
                    return Poll::Ready(Err(error));
                }
            }
        }
        match &mut self.0 {
            State::Plain(stream) => Poll::Ready(Ok(Open::Plain(Pin::new(stream)))),
            State::Tls(stream) => Poll::Ready(Ok(Open::Tls(Pin::new(stream.as_mut())))),
            State::Handshaking(..) | State::Failed => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }
}

/// The same call of whichever stream there is.
macro_rules! delegate {
    ($self:ident, $context:ident, $method:ident($($argument:expr),*)) => {
        match ready!($self.poll_open($context))? {
            Open::Plain(stream) => stream.$method($context, $($argument),*),
            Open::Tls(stream) => stream.$method($context, $($argument),*),
        }
    };
}

impl AsyncRead for ServerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, context, poll_read(buffer))
    }
}

impl AsyncWrite for ServerStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, context, poll_write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, context, poll_write_vectored(slices))
    }

    /// TCP and rustls both take slices.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, context, poll_flush())
    }

    /// Without a handshake there is nothing to end but the connection.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            State::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            State::Handshaking(..) | State::Failed => Poll::Ready(Ok(())),
        }
    }
}
