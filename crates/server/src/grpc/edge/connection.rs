//! Connections, and which are closed for what their peer does. How they are let in is in [`super::acceptor`].
//!
//! A [`Connection`] is a stream that tonic serves HTTP/2 on: of TCP, or of TLS over it. It reads along, and fails a read
//! when the peer floods it with control frames or does not begin to speak HTTP/2; tonic then closes it and drops its calls.
//! What it sends waits for one turn of the tasks that are ready, so that their small answers leave in one packet: beyond what the machine can do, a
//! packet for each refusal would take most of its time.
//! Browsers may speak HTTP/1.1 instead ([`Speaks::Either`]), which has no such frames: hyper limits the time for a head, and a write
//! that does not get on for [`STUCK_MAX`] fails.
//! What a peer does within calls is limited elsewhere: in h2 by [`super::Http2Limits`], in handlers by
//! [`super::IngressLimits`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep, sleep_until};
use tonic::transport::server::Connected;

use super::frames::{Frames, Traffic};
use super::front::{Arrival, Front, Room, Speaks};
use super::proxies::Peer;
use crate::metrics::Metrics;
use crate::tls::{Protocol, ServerStream};

/// What one peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    Http2,
    Http1,
    /// Not known yet: so many bytes came, all of them as [`HTTP2_BEGINS`] has them.
    Open(usize),
}

/// That of the other tasks before a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The next write lets them go first.
    Due,
    /// It does.
    Waiting,
    /// They went, and something was written.
    Had,
}

/// How HTTP/2 begins (RFC 9113, section 3.4). hyper compares the same bytes.
const HTTP2_BEGINS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a peer that speaks HTTP/1.1 may take no byte of an answer. One that speaks HTTP/2 is pinged.
const STUCK_MAX: Duration = Duration::from_secs(40);

/// The limits of peers at a listener.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Open connections; what comes beyond is closed at once. An idle one takes about 16 KiB.
    pub connections_max: usize,
    /// Of one address, as the proxies before the server say it ([`super::Proxies`]). Connections of a trusted proxy itself are not
    /// limited so.
    pub connections_per_address_max: usize,
    /// From accept to the first frame, with TLS through its handshake. Afterwards, HTTP/2 keepalive finds dead peers.
    pub handshake_time_max: Duration,
    /// Frames that are not of a call (PING, SETTINGS, `WINDOW_UPDATE`...), in one window, beyond four for each frame of
    /// a call.
    pub control_frames_max: u64,
    /// The window of time in which frames are counted.
    pub control_frames_window: Duration,
}

/// One connection, for tonic to serve.
pub struct Connection {
    stream: ServerStream,
    speech: Speech,
    peer: Peer,
    limits: ConnectionLimits,
    inbound: Frames,
    outbound: Frames,
    traffic: Traffic,
    /// Until the first frame.
    handshake: Option<Pin<Box<Sleep>>>,
    /// While a write of HTTP/1.1 does not get on.
    stuck: Option<Pin<Box<Sleep>>>,
    turn: Turn,
    metrics: Arc<Metrics>,
    _room: Room,
}

/// Why a connection was closed.
#[derive(Debug, thiserror::Error)]
enum Abuse {
    #[error("the peer floods the connection with control frames")]
    ControlFrames,
    #[error("the peer does not begin to speak HTTP/2")]
    Handshake,
}

impl Default for ConnectionLimits {
    fn default() -> ConnectionLimits {
        ConnectionLimits {
            // As Envoy: 160 MB when all are idle.
            connections_max: 10_000,
            // Many drivers share the address of their mobile network.
            connections_per_address_max: 1_000,
            handshake_time_max: Duration::from_secs(10),
            control_frames_max: 1_000,
            control_frames_window: Duration::from_secs(10),
        }
    }
}

impl Connection {
    /// Begins to serve it; it counts as open from here on.
    pub(super) fn new(arrival: Arrival, front: &Front, limits: ConnectionLimits, metrics: Arc<Metrics>) -> Connection {
        let stream = arrival.stream;
        // Answers are small, and Nagle's algorithm would hold them back. It fails only if the peer has gone.
        let _ = stream.set_nodelay(true);
        metrics.ingress.connection_opened();
        Connection {
            peer: arrival.peer,
            stream: match (&front.tls, front.speaks) {
                (Some(tls), Speaks::Http2) => tls.accept(stream, Protocol::Http2),
                (Some(tls), Speaks::Either) => tls.accept(stream, Protocol::Web),
                (None, _) => stream.into(),
            },
            speech: match front.speaks {
                Speaks::Http2 => Speech::Http2,
                Speaks::Either => Speech::Open(0),
            },
            limits,
            inbound: Frames::from_client(),
            outbound: Frames::from_server(),
            traffic: Traffic::new(),
            handshake: Some(Box::pin(sleep_until(arrival.deadline))),
            stuck: None,
            turn: Turn::Due,
            metrics,
            _room: arrival.room,
        }
    }

    fn report_abuse(&self, abuse: Abuse) -> io::Error {
        self.metrics.ingress.connection_abusive();
        tracing::info!(reason = %abuse, "a connection is closed");
        io::Error::other(abuse)
    }

    /// Fails once the first frame is late. Looked at wherever something waits for the peer: the server's settings are
    /// written before anything is read, and within TLS they wait for its handshake.
    fn poll_in_time(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(time) = &mut self.handshake
            && time.as_mut().poll(context).is_ready()
        {
            self.handshake = None;
            return Poll::Ready(Err(self.report_abuse(Abuse::Handshake)));
        }
        Poll::Ready(Ok(()))
    }

    /// Lets the tasks that are ready go before a write: theirs goes with it. Once for all that is written then.
    fn poll_gathered(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.speech == Speech::Http2 && self.turn == Turn::Due {
            self.turn = Turn::Waiting;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Fails a write that has not got on for long; `written` is what came of it now.
    fn poll_unstuck(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() || self.speech != Speech::Http1 {
            self.stuck = None;
            return written;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(STUCK_MAX)));
        ready!(stuck.as_mut().poll(context));
        // A phone that lost its network does this every day: it is no abuse, which operators are woken for.
        tracing::debug!("a peer does not take its answer; its connection is closed");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn follow_received(&mut self, received: &[u8]) {
        self.speech = self.speech.after(received);
        if self.speech == Speech::Http1 {
            self.handshake = None;
            return;
        }
        self.traffic.renew(self.limits.control_frames_window);
        self.inbound.follow(received, |kind| {
            self.traffic.count_received(kind);
            self.handshake = None;
        });
    }

    fn follow_sent(&mut self, bytes: &[u8]) {
        if self.speech == Speech::Http1 {
            return;
        }
        self.outbound.follow(bytes, |kind| self.traffic.count_sent(kind));
    }
}

impl Speech {
    /// What is known of it once these bytes came, too.
    fn after(self, received: &[u8]) -> Speech {
        received.iter().fold(self, |speech, byte| match speech {
            Speech::Open(seen) if HTTP2_BEGINS.get(seen) != Some(byte) => Speech::Http1,
            Speech::Open(seen) if seen + 1 == HTTP2_BEGINS.len() => Speech::Http2,
            Speech::Open(seen) => Speech::Open(seen + 1),
            known => known,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.ingress.connection_closed();
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_in_time(context))?;
        // HTTP/2 reads each time before it writes.
        if this.turn == Turn::Had {
            this.turn = Turn::Due;
        }
        let filled = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let received = buffer.filled().get(filled..).unwrap_or_default();
        this.follow_received(received);
        if this.traffic.is_flood(this.limits.control_frames_max) {
            return Poll::Ready(Err(this.report_abuse(Abuse::ControlFrames)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_in_time(context))?;
        ready!(self.poll_gathered(context));
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        let written = ready!(self.poll_unstuck(context, written))?;
        self.turn = Turn::Had;
        self.follow_sent(bytes.get(..written).unwrap_or(bytes));
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_in_time(context))?;
        ready!(self.poll_gathered(context));
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        let written = ready!(self.poll_unstuck(context, written))?;
        self.turn = Turn::Had;
        let mut left = written;
        for slice in slices {
            let bytes = slice.get(..left).unwrap_or(slice);
            self.follow_sent(bytes);
            left -= bytes.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use futures_util::poll;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Semaphore;
    use tokio::time::Instant;

    use super::*;
    use crate::grpc::METHODS;

    /// A connection, and its peer.
    async fn connected() -> (Connection, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let of_all = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let arrival = Arrival {
            stream: listener.accept().await.unwrap().0,
            peer: Peer {
                address: IpAddr::V4(Ipv4Addr::LOCALHOST),
                is_known: true,
            },
            deadline: Instant::now() + Duration::from_mins(1),
            room: Room::new(of_all, None),
        };
        let front = Front {
            tls: None,
            speaks: Speaks::Http2,
            proxies: Arc::default(),
            proxy_protocol: false,
        };
        let metrics = Arc::new(Metrics::new(METHODS));
        let connection = Connection::new(arrival, &front, ConnectionLimits::default(), metrics);
        (connection, peer)
    }

    #[tokio::test]
    async fn what_is_sent_waits_for_one_turn_of_the_others() {
        let (mut connection, mut peer) = connected().await;
        for sent in [b"one", b"two"] {
            let (first, more) = sent.split_at(1);
            let first = [IoSlice::new(first)];
            let mut write = Box::pin(connection.write_vectored(&first));
            assert!(poll!(&mut write).is_pending(), "the others go first");
            // It is woken by itself.
            assert_eq!(write.await.unwrap(), 1);
            let mut write = Box::pin(connection.write(more));
            assert!(poll!(&mut write).is_ready(), "they had their turn");
            drop(write);
            let mut received = [0; 3];
            peer.read_exact(&mut received).await.unwrap();
            assert_eq!(&received, sent);
            let mut nothing = [0];
            assert!(poll!(Box::pin(connection.read(&mut nothing))).is_pending());
        }
    }
}
