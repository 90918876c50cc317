//! A TCP proxy that breaks the connections between two processes: late, silent, refused, reset, or cut at the worst
//! moment.
//!
//! The mode is switched at run time and applies at once to open connections too. The port stays taken in every mode, so
//! no other process can get it while the proxy refuses connections.

mod connection;
mod mode;
mod replies;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::mode::{ModeReceiver, TrafficCounter};
use crate::Error;
use crate::port;

pub use self::mode::{Mode, Traffic};

const BACKLOG: u32 = 1024;
const PORTS_TRIED: usize = 10;

/// A running proxy. Dropped, it closes all its connections.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    mode: watch::Sender<Mode>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    line: Mutex<Line>,
    traffic: TrafficCounter,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// Where connections go.
#[derive(Debug, Clone)]
struct Line {
    target: SocketAddr,
    /// Cancelled when its connections are left without a word.
    abandoned: CancellationToken,
}

impl Line {
    fn to(target: SocketAddr) -> Mutex<Line> {
        Mutex::new(Line {
            target,
            abandoned: CancellationToken::new(),
        })
    }
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target`, in [`Mode::Pass`].
    pub fn start(target: SocketAddr) -> Result<FaultProxy, Error> {
        let (addr, listener) = listen_anywhere()?;
        let shared = Arc::new(Shared {
            line: Line::to(target),
            traffic: TrafficCounter::default(),
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

    /// Switches the mode, also to the one that is set: [`Mode::CutAfter`] then counts anew. The proxy's tasks see it a
    /// moment later: a caller that needs a refusal tries until it gets one.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// A failover behind one address: new connections go to `target`. Those that are open stay so, and go where they went.
    pub fn set_target(&self, target: SocketAddr) {
        lock(&self.shared.line).target = target;
    }

    /// The same, and nothing comes through the open ones any more.
    pub fn fail_over(&self, target: SocketAddr) {
        let next = Line {
            target,
            abandoned: CancellationToken::new(),
        };
        std::mem::replace(&mut *lock(&self.shared.line), next)
            .abandoned
            .cancel();
    }

    /// Where new connections go.
    pub fn target(&self) -> SocketAddr {
        lock(&self.shared.line).target
    }

    /// What went through so far.
    pub fn traffic(&self) -> Traffic {
        *self.shared.traffic.lock()
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

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(shared: Arc<Shared>, addr: SocketAddr, listener: TcpListener, mut mode: ModeReceiver) {
    let mut listener = listener;
    loop {
        if *mode.borrow_and_update() == Mode::Refuse {
            listener = match refuse_for_a_while(addr, listener, &mut mode).await {
                Ok(listener) => listener,
                Err(error) => {
                    tracing::error!(%error, %addr, "fault proxy cannot listen any more");
                    return;
                }
            };
        }
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    shared.traffic.lock().connections += 1;
                    let (own, mode) = (shared.clone(), mode.clone());
                    let line = lock(&shared.line).clone();
                    shared.tasks.spawn(async move {
                        let connection = connection::serve(client, line, &own.traffic, mode);
                        own.stopping.run_until_cancelled(connection).await
                    });
                }
                // The client gave up while it waited, or we are out of file descriptors: the next may succeed.
                Err(error) => tracing::debug!(%error, "fault proxy could not accept a connection"),
            },
        }
    }
}

/// A socket that is bound and does not listen refuses, and keeps the port.
async fn refuse_for_a_while(
    addr: SocketAddr,
    listener: TcpListener,
    mode: &mut ModeReceiver,
) -> io::Result<TcpListener> {
    // Bound before the listener goes: a process that is just being started has a copy of that socket until it becomes
    // another program, and who comes in between would take the port.
    let bound = bind(addr)?;
    drop(listener);
    // Linux lets two sockets share a port while neither listens and both allow it: ours does only when it must.
    bound.set_reuseaddr(false)?;
    // An error means that the proxy is gone, and then it does not matter what is returned.
    let _ = mode.wait_for(|mode| *mode != Mode::Refuse).await;
    bound.set_reuseaddr(true)?;
    bound.listen(BACKLOG)
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections that were closed a moment ago must not keep the port, nor the proxy's own socket before this one.
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
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
            Err(source) => return Err(Error::listen(addr, source)),
        }
    }
}
