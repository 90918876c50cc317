//! A client that speaks raw HTTP/2 frames, for what no decent client sends.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The longest payload of a frame, where nothing else was agreed.
const FRAME_LEN_MAX: usize = 16_384;

/// How long a test waits for the server before it fails.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct RawClient<S = TcpStream> {
    stream: S,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl RawClient {
    /// A connection without a byte on it.
    pub async fn silent(server: SocketAddr) -> RawClient {
        let stream = TcpStream::connect(server).await.unwrap();
        // Or each small frame waits 40 ms for the acknowledgement of the one before.
        stream.set_nodelay(true).unwrap();
        RawClient { stream }
    }

    /// A connection after the preface and empty settings.
    pub async fn connect(server: SocketAddr) -> RawClient {
        RawClient::begin(RawClient::silent(server).await.stream).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    /// A stream on which nothing of HTTP/2 was sent.
    pub fn over(stream: S) -> RawClient<S> {
        RawClient { stream }
    }

    /// The preface and empty settings on a stream.
    pub async fn begin(stream: S) -> RawClient<S> {
        let mut client = RawClient { stream };
        client
            .stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        client.send(SETTINGS, 0, 0, &[]).await;
        client
    }

    /// Writes one frame. That the server has closed shows when reading.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let _ = self.stream.write_all(&frame(kind, flags, stream, payload)).await;
    }

    /// Writes bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Opens a call, and leaves the side of the client open.
    pub async fn open(&mut self, stream: u32, path: &str, headers: &[(&str, &str)]) {
        let mandatory = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "waybill"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let block: Vec<u8> = mandatory
            .iter()
            .chain(headers)
            .flat_map(|(name, value)| literal(name, value))
            .collect();
        let mut frames = block.chunks(FRAME_LEN_MAX).peekable();
        let mut kind = HEADERS;
        while let Some(part) = frames.next() {
            let flags = if frames.peek().is_none() { END_HEADERS } else { 0 };
            self.send(kind, flags, stream, part).await;
            kind = CONTINUATION;
        }
    }

    /// The next frame, or `None` once the server has closed. Acknowledges settings and pings.
    pub async fn next(&mut self) -> Option<Frame> {
        let frame = timeout(PATIENCE, self.read())
            .await
            .expect("the server sends nothing")?;
        if [SETTINGS, PING].contains(&frame.kind) && frame.flags & ACK == 0 {
            let payload = if frame.kind == PING {
                frame.payload.as_slice()
            } else {
                &[]
            };
            self.send(frame.kind, ACK, 0, payload).await;
        }
        Some(frame)
    }

    /// The next frame that is like this; the others are passed over.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().await.expect("the server closed the connection");
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// Reads until the server has closed.
    pub async fn until_closed(&mut self) {
        while self.next().await.is_some() {}
    }

    /// Reads until the server has closed, and sends nothing, not even what HTTP/2 demands.
    pub async fn until_closed_in_silence(&mut self) {
        while timeout(PATIENCE, self.read())
            .await
            .expect("the server does not close")
            .is_some()
        {}
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header that is neither indexed nor compressed (RFC 7541, section 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    [vec![0], text(name), text(value)].concat()
}

/// A text with its length before it (RFC 7541, section 5.1 and 5.2).
fn text(text: &str) -> Vec<u8> {
    let mut encoded = Vec::new();
    match text.len().checked_sub(127) {
        None => encoded.push(u8::try_from(text.len()).unwrap()),
        Some(mut rest) => {
            encoded.push(127);
            while rest >= 128 {
                encoded.push(u8::try_from(rest % 128 + 128).unwrap());
                rest /= 128;
            }
            encoded.push(u8::try_from(rest).unwrap());
        }
    }
    encoded.extend_from_slice(text.as_bytes());
    encoded
}
