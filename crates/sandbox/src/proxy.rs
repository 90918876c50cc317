//! A TCP proxy that spoils the line between two processes: late, silent, refused, reset, or cut at the worst moment.
//!
//! The mode is switched at run time and holds at once for open connections too. The port stays taken in every mode, so
//! nobody else can be given it while it refuses.

mod replies;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::replies::Replies;
use crate::Error;
use crate::port;

/// What is read at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// How many chunks one direction holds while they wait out a latency: 1 MiB, then the sender waits.
const CHUNKS_IN_FLIGHT: usize = 64;
const BACKLOG: u32 = 1024;
const PORTS_TRIED: usize = 10;

/// What the proxy does with connections and bytes. Requests are what the client sends, replies what the target sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything goes through.
    Pass,
    /// Everything goes through, later.
    Latency {
        /// The delay of the bytes of the client.
        requests: Duration,
        /// The delay of the bytes of the target.
        replies: Duration,
    },
    /// Connections are accepted, and nothing is forwarded either way. What was sent waits, as in a network that is cut
    /// in two, and goes through once the mode changes.
    Blackhole,
    /// Nobody listens, and open connections are closed: the target is down.
    Refuse,
    /// Connections, new and open, are reset.
    Reset,
    /// Requests go through, replies are thrown away. A connection that lost some is closed once the mode changes.
    DropReplies,
    /// Each connection is closed after this many more bytes of reply.
    CutAfter(u64),
    /// Each connection to a Postgres is closed when the answer to a COMMIT comes by: it is done, and the client does not
    /// see it. Needs a connection without encryption.
    CutAtCommit,
}

/// What went through the proxy since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections accepted.
    pub connections: u64,
    /// Bytes forwarded to the target.
    pub request_bytes: u64,
    /// Bytes forwarded to the client.
    pub reply_bytes: u64,
    /// Connections closed by [`Mode::CutAfter`] and [`Mode::CutAtCommit`].
    pub cuts: u64,
}

/// A running proxy. Dropped, it closes all its connections.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    mode: watch::Sender<Mode>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    connections: AtomicU64,
    request_bytes: AtomicU64,
    reply_bytes: AtomicU64,
    cuts: AtomicU64,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`, in [`Mode::Pass`].
    pub fn start(target: SocketAddr) -> Result<FaultProxy, Error> {
        let (addr, listener) = listen_anywhere()?;
        let shared = Arc::new(Shared {
            target,
            connections: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
            reply_bytes: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let mode = watch::Sender::new(Mode::Pass);
        let accepting = accept(shared.clone(), addr, listener, mode.subscribe());
        let stopping = shared.stopping.clone();
        shared
            .tasks
            .spawn(async move { stopping.run_until_cancelled(accepting).await });
        Ok(FaultProxy { addr, mode, shared })
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The mode that is set.
    pub fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    /// Switches the mode, also to the one that is set: [`Mode::CutAfter`] then counts anew. The proxy's tasks see it a
    /// moment later: who needs a refusal to be there tries until it is.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// What went through so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.shared.connections.load(Ordering::Relaxed),
            request_bytes: self.shared.request_bytes.load(Ordering::Relaxed),
            reply_bytes: self.shared.reply_bytes.load(Ordering::Relaxed),
            cuts: self.shared.cuts.load(Ordering::Relaxed),
        }
    }

    /// Closes all connections and the port.
    pub async fn stop(self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
    }
}

/// The mode as one connection or the listener sees it: a change wakes who waits.
type ModeReceiver = watch::Receiver<Mode>;

async fn accept(shared: Arc<Shared>, addr: SocketAddr, listener: TcpListener, mut mode: ModeReceiver) {
    let mut door = Some(listener);
    loop {
        let refuse = *mode.borrow_and_update() == Mode::Refuse;
        let Some(listener) = door.take() else { return };
        let listener = if refuse {
            refuse_for_a_while(addr, listener, &mut mode).await
        } else {
            Ok(listener)
        };
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, %addr, "fault proxy cannot listen any more");
                return;
            }
        };
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    shared.connections.fetch_add(1, Ordering::Relaxed);
                    let connection = connect(shared.clone(), client, mode.clone());
                    let stopping = shared.stopping.clone();
                    shared.tasks.spawn(async move { stopping.run_until_cancelled(connection).await });
                }
                // The client gave up while it waited, or we are out of files: the next may do better.
                Err(error) => tracing::debug!(%error, "fault proxy accepted nothing"),
            },
        }
        door = Some(listener);
    }
}

/// A socket that is bound and does not listen refuses, and keeps the port.
async fn refuse_for_a_while(
    addr: SocketAddr,
    listener: TcpListener,
    mode: &mut ModeReceiver,
) -> io::Result<TcpListener> {
    drop(listener);
    let bound = bind(addr)?;
    // Linux lets two sockets share a port while neither listens and both allow it: ours does only when it must.
    bound.set_reuseaddr(false)?;
    // It ends with an error only if the proxy is gone, and then it does not matter what is returned.
    let _ = mode.wait_for(|mode| *mode != Mode::Refuse).await;
    bound.set_reuseaddr(true)?;
    bound.listen(BACKLOG)
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of before, closed a moment ago, must not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

fn listen_anywhere() -> Result<(SocketAddr, TcpListener), Error> {
    let mut tries = 0;
    loop {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
        match bind(addr).and_then(|socket| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok((addr, listener)),
            Err(_) if tries < PORTS_TRIED => tries += 1,
            Err(source) => return Err(Error::Listen { address: addr, source }),
        }
    }
}

/// One connection, from its acceptance to its end.
async fn connect(shared: Arc<Shared>, mut client: TcpStream, mut mode: ModeReceiver) {
    // Who connects into a blackhole does not reach the target before it ends.
    let Ok(reached) = mode.wait_for(|mode| *mode != Mode::Blackhole).await.map(|mode| *mode) else {
        return;
    };
    match reached {
        Mode::Refuse => return,
        Mode::Reset => {
            // Closing then sends a reset instead of the end of the stream.
            let _ = client.set_zero_linger();
            return;
        }
        _ => {}
    }
    let Ok(mut target) = TcpStream::connect(shared.target).await else {
        return;
    };
    // A proxy adds no delay of its own. If a stream is gone already, its next read tells.
    let _ = (client.set_nodelay(true), target.set_nodelay(true));

    let end = forward(&shared, &mut client, &mut target, mode).await;
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

async fn forward(shared: &Shared, client: &mut TcpStream, target: &mut TcpStream, mode: ModeReceiver) -> End {
    let (client_in, client_out) = client.split();
    let (target_in, target_out) = target.split();
    let lost_replies = AtomicBool::new(false);
    let requests = Pump {
        direction: Direction::Requests,
        forwarded: &shared.request_bytes,
        lost: &lost_replies,
        cuts: &shared.cuts,
    };
    let replies = Pump {
        direction: Direction::Replies,
        forwarded: &shared.reply_bytes,
        lost: &lost_replies,
        cuts: &shared.cuts,
    };
    let both = async {
        // One side's end of stream is passed on, and the other side may still speak.
        let to_target = requests.run(client_in, target_out, mode.clone());
        let to_client = replies.run(target_in, client_out, mode.clone());
        // An error ends both: what is broken one way is of no use the other way.
        let _ = tokio::try_join!(to_target, to_client);
        End::Close
    };
    tokio::select! {
        end = both => end,
        end = ended_by_mode(mode.clone(), &lost_replies) => end,
    }
}

/// Until the mode says that open connections end.
async fn ended_by_mode(mut mode: ModeReceiver, lost_replies: &AtomicBool) -> End {
    loop {
        match *mode.borrow_and_update() {
            Mode::Refuse => return End::Close,
            Mode::Reset => return End::Reset,
            Mode::DropReplies => {}
            // What follows a hole in a stream makes no sense to anybody.
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
    forwarded: &'a AtomicU64,
    /// Whether this connection has lost replies.
    lost: &'a AtomicBool,
    /// Raised when it is cut.
    cuts: &'a AtomicU64,
}

/// Bytes that are due at a time.
type Chunk = (Instant, Vec<u8>);

impl Pump<'_> {
    /// Until the stream ends, or the connection is cut (an error). Reading and writing are apart, so that a latency
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
            // Fails if the writer is done: then so are we. The end of the stream waits out the latency too.
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
        // Followed from the first byte, whatever the mode: later it could not be told where a message begins.
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
                return self.cut(bytes.get(..commit.before).unwrap_or_default(), &mut to).await;
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
                self.lost.store(true, Ordering::Relaxed);
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

    /// The last bytes, and the end: an error, which ends the other direction too.
    async fn cut(&self, last: &[u8], to: &mut WriteHalf<'_>) -> io::Result<()> {
        to.write_all(last).await?;
        self.count(last);
        self.cuts.fetch_add(1, Ordering::Relaxed);
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn count(&self, bytes: &[u8]) {
        self.forwarded.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    fn latency(&self, mode: Mode) -> Duration {
        match (mode, self.direction) {
            (Mode::Latency { requests, .. }, Direction::Requests) => requests,
            (Mode::Latency { replies, .. }, Direction::Replies) => replies,
            _ => Duration::ZERO,
        }
    }
}

/// Waits while the mode is [`Mode::Blackhole`]; does not count as a look at a change.
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
