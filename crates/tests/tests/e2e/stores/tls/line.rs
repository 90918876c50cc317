//! A line before a store that ends TLS, or has none, and keeps each byte that a client sent as it came.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The request for TLS that is the first message of a client of Postgres
/// (<https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-SSLREQUEST>).
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What begins a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A request for TLS, and one byte that says whether it is granted.
    Postgres,
    /// TLS, or what Redis speaks.
    Redis,
}

/// What the line does.
#[derive(Clone)]
pub enum Manner {
    /// It ends TLS.
    Tls(Arc<ServerConfig>),
    /// It grants no TLS, and whoever goes on without it reaches the store.
    Plaintext,
    /// It says this to the first bytes, and listens on.
    Says(&'static [u8]),
}

/// What clients did.
#[derive(Default)]
struct Record {
    received: Mutex<Vec<u8>>,
    /// Those that a client did not break off.
    handshakes: AtomicUsize,
}

/// A running line. Dropped, it ends with all its connections.
pub struct Line {
    addr: SocketAddr,
    url: String,
    record: Arc<Record>,
    _accepting: JoinSet<()>,
}

impl Line {
    /// A line before the local store of `url`.
    pub async fn start(url: &str, protocol: Protocol, manner: Manner) -> Line {
        let host = url.split(['/', '@']).find(|part| part.starts_with("127.0.0.1:"));
        let target: SocketAddr = host.unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let record = Arc::<Record>::default();
        let mut accepting = JoinSet::new();
        let of_all = Arc::clone(&record);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let record = Arc::clone(&of_all);
                let manner = manner.clone();
                // However it ends: what came in is kept.
                connections
                    .spawn(async move { drop(serve(Recorded { stream, record }, target, protocol, manner).await) });
            }
        });
        Line {
            addr,
            url: url.replace(&target.to_string(), &addr.to_string()),
            record,
            _accepting: accepting,
        }
    }

    /// The store's URL through the line.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same with a name of this machine in place of its address.
    pub fn url_by_name(&self) -> String {
        let named = format!("localhost:{}", self.addr.port());
        self.url.replace(&self.addr.to_string(), &named)
    }

    /// All that clients sent so far.
    pub fn received(&self) -> Vec<u8> {
        self.record.received.lock().unwrap().clone()
    }

    /// A client came and ended no handshake, and none of this is in what it sent.
    #[track_caller]
    pub fn assert_never_spoken_to(&self, secrets: &[&str]) {
        self.assert_not_sent(secrets);
        assert_eq!(
            self.record.handshakes.load(Ordering::Relaxed),
            0,
            "a client was content with it"
        );
    }

    /// A client came, and none of this is in what it sent.
    #[track_caller]
    pub fn assert_not_sent(&self, secrets: &[&str]) {
        let received = self.received();
        assert!(!received.is_empty(), "no one came");
        for secret in secrets {
            let sent = received.windows(secret.len()).any(|part| part == secret.as_bytes());
            assert!(!sent, "{secret} was sent: {}", received.escape_ascii());
        }
    }
}

async fn serve(mut client: Recorded, target: SocketAddr, protocol: Protocol, manner: Manner) -> io::Result<()> {
    if protocol == Protocol::Postgres {
        let mut first = [0; 8];
        client.read_exact(&mut first).await?;
        let answer: &[u8] = match &manner {
            Manner::Tls(_) => b"S",
            Manner::Plaintext => b"N",
            Manner::Says(answer) => answer,
        };
        client.write_all(answer).await?;
    }
    match manner {
        Manner::Tls(config) => {
            let record = Arc::clone(&client.record);
            match TlsAcceptor::from(config).accept(client).into_fallible().await {
                Ok(mut within) => {
                    record.handshakes.fetch_add(1, Ordering::Relaxed);
                    copy_bidirectional(&mut within, &mut TcpStream::connect(target).await?).await?;
                }
                // Closed at once, the connection would be reset, and the client might not read why.
                Err((_, mut client)) => while client.read(&mut [0; 1024]).await? > 0 {},
            }
        }
        Manner::Plaintext => {
            copy_bidirectional(&mut client, &mut TcpStream::connect(target).await?).await?;
        }
        Manner::Says(answer) => {
            let mut rest = [0; 1024];
            let mut answered = protocol == Protocol::Postgres;
            while client.read(&mut rest).await? > 0 {
                if !std::mem::replace(&mut answered, true) {
                    client.write_all(answer).await?;
                }
            }
        }
    }
    Ok(())
}

/// A client's connection, whose bytes are kept as they are read.
struct Recorded {
    stream: TcpStream,
    record: Arc<Record>,
}

impl AsyncRead for Recorded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.record.received.lock().unwrap().extend(&buf.filled()[before..]);
        read
    }
}

impl AsyncWrite for Recorded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
