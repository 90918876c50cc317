//! One proxied connection: the bytes of both directions, delayed, dropped or cut as the mode has it.

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Line;
use super::mode::{Mode, ModeReceiver, TrafficCounter};
use super::replies::Replies;

/// What is read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// How many chunks one direction holds while they wait out a latency: 1 MiB, then the sender waits.
const CHUNKS_IN_FLIGHT: usize = 64;

/// One connection, from its acceptance to its end.
pub(super) async fn serve(mut client: TcpStream, line: Line, traffic: &TrafficCounter, mut mode: ModeReceiver) {
    // A connection into a blackhole does not reach the target before the blackhole ends.
    let Ok(current) = mode.wait_for(|mode| *mode != Mode::Blackhole).await.map(|mode| *mode) else {
        return;
    };
    match current {
        Mode::Refuse => return,
        Mode::Reset => {
            // Closing then sends a reset instead of the end of the stream.
            let _ = client.set_zero_linger();
            return;
        }
        _ => {}
    }
    let Ok(mut target) = TcpStream::connect(line.target).await else {
        return;
    };
    // The proxy adds no delay of its own. If a stream is already closed, its next read reports it.
    let _ = (client.set_nodelay(true), target.set_nodelay(true));

    let forwarding = forward(traffic, &mut client, &mut target, mode);
    let Some(end) = line.abandoned.run_until_cancelled(forwarding).await else {
        // Open, until the proxy is dropped.
        return pending().await;
    };
    if end == End::Reset {
        let _ = (client.set_zero_linger(), target.set_zero_linger());
    }
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Reset,
}

async fn forward(traffic: &TrafficCounter, client: &mut TcpStream, target: &mut TcpStream, mode: ModeReceiver) -> End {
    let (client_in, client_out) = client.split();
    let (target_in, target_out) = target.split();
    let lost_replies = AtomicBool::new(false);
    let pump = |direction| Pump {
        direction,
        traffic,
        lost_replies: &lost_replies,
    };
    let (requests, replies) = (pump(Direction::Requests), pump(Direction::Replies));
    let both = async {
        // One side's end of stream is passed on, and the other side may still send.
        let to_target = requests.run(client_in, target_out, mode.clone());
        let to_client = replies.run(target_in, client_out, mode.clone());
        // An error ends both: a connection that is broken one way is of no use the other way.
        let _ = tokio::try_join!(to_target, to_client);
        End::Close
    };
    tokio::select! {
        end = both => end,
        end = ended_by_mode(mode.clone(), &lost_replies) => end,
    }
}

/// Waits until the mode ends open connections.
async fn ended_by_mode(mut mode: ModeReceiver, lost_replies: &AtomicBool) -> End {
    loop {
        match *mode.borrow_and_update() {
            Mode::Refuse => return End::Close,
            Mode::Reset => return End::Reset,
            Mode::DropReplies => {}
            // The bytes after a gap in a stream make no sense.
            _ if lost_replies.load(Ordering::Relaxed) => return End::Close,
            _ => {}
        }
        if mode.changed().await.is_err() {
            return End::Close;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Requests,
    Replies,
}

/// One direction of one connection.
struct Pump<'a> {
    direction: Direction,
    traffic: &'a TrafficCounter,
    /// Whether this connection has lost replies.
    lost_replies: &'a AtomicBool,
}

/// Bytes that are due at a time.
type Chunk = (Instant, Vec<u8>);

impl Pump<'_> {
    /// Runs until the stream ends, or the connection is cut (an error). Reading and writing are apart, so that a latency
    /// delays each byte once, however many follow each other.
    async fn run(&self, from: ReadHalf<'_>, to: WriteHalf<'_>, mode: ModeReceiver) -> io::Result<()> {
        let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
        tokio::try_join!(self.read(from, sender, mode.clone()), self.write(receiver, to, mode))?;
        Ok(())
    }

    async fn read(
        &self,
        mut from: ReadHalf<'_>,
        chunks: mpsc::Sender<Chunk>,
        mut mode: ModeReceiver,
    ) -> io::Result<()> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            out_of_blackhole(&mut mode).await?;
            let count = from.read(&mut buffer).await?;
            let bytes = buffer.get(..count).unwrap_or_default().to_vec();
            let due = Instant::now() + self.latency(*mode.borrow());
            // Fails if the writer has ended. The end of the stream waits out the latency too.
            if chunks.send((due, bytes)).await.is_err() || count == 0 {
                return Ok(());
            }
        }
    }

    async fn write(
        &self,
        mut chunks: mpsc::Receiver<Chunk>,
        mut to: WriteHalf<'_>,
        mut mode: ModeReceiver,
    ) -> io::Result<()> {
        // How many bytes are left before the cut, where one is set.
        let mut left = None;
        // Read from the first byte, whatever the mode: later there is no way to see where a message begins.
        let mut replies = Replies::default();
        mode.mark_changed();
        while let Some((due, bytes)) = chunks.recv().await {
            tokio::time::sleep_until(due).await;
            out_of_blackhole(&mut mode).await?;
            if mode.has_changed().unwrap_or(false) {
                left = match *mode.borrow_and_update() {
                    Mode::CutAfter(count) => Some(count),
                    _ => None,
                };
            }
            if bytes.is_empty() {
                return to.shutdown().await;
            }
            let current = *mode.borrow();
            let commit = match self.direction {
                Direction::Replies => replies.commit_in(&bytes),
                Direction::Requests => None,
            };
            if let Some(commit) = commit
                && current == Mode::CutAtCommit
            {
                return self.cut(bytes.get(..commit).unwrap_or_default(), &mut to).await;
            }
            self.deliver(&bytes, &mut to, current, left.as_mut()).await?;
        }
        Ok(())
    }

    async fn deliver(
        &self,
        bytes: &[u8],
        to: &mut WriteHalf<'_>,
        mode: Mode,
        left: Option<&mut u64>,
    ) -> io::Result<()> {
        let mut bytes = bytes;
        if self.direction == Direction::Replies {
            if mode == Mode::DropReplies {
                self.lost_replies.store(true, Ordering::Relaxed);
                return Ok(());
            }
            if let Some(left) = left {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = bytes.get(..count).unwrap_or_default();
                *left -= count as u64;
                if *left == 0 {
                    return self.cut(bytes, to).await;
                }
            }
        }
        to.write_all(bytes).await?;
        self.count(bytes);
        Ok(())
    }

    /// Forwards the last bytes and ends with an error, which ends the other direction too.
    async fn cut(&self, last: &[u8], to: &mut WriteHalf<'_>) -> io::Result<()> {
        to.write_all(last).await?;
        self.count(last);
        self.traffic.lock().cuts += 1;
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn count(&self, bytes: &[u8]) {
        let mut traffic = self.traffic.lock();
        let forwarded = match self.direction {
            Direction::Requests => &mut traffic.request_bytes,
            Direction::Replies => &mut traffic.reply_bytes,
        };
        *forwarded += bytes.len() as u64;
    }

    fn latency(&self, mode: Mode) -> Duration {
        match (mode, self.direction) {
            (Mode::Latency { requests, .. }, Direction::Requests) => requests,
            (Mode::Latency { replies, .. }, Direction::Replies) => replies,
            _ => Duration::ZERO,
        }
    }
}

/// Waits while the mode is [`Mode::Blackhole`]; does not mark a change as seen.
async fn out_of_blackhole(mode: &mut ModeReceiver) -> io::Result<()> {
    while *mode.borrow() == Mode::Blackhole {
        let mut waiting = mode.clone();
        waiting
            .wait_for(|mode| *mode != Mode::Blackhole)
            .await
            .map_err(io::Error::other)?;
    }
    Ok(())
}
