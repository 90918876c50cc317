//! A balancer of TCP connections before the servers: one after the other in turn, passing over those that refuse.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::findings::lock;

/// A server that takes no connection in this time is passed over.
const CONNECT_WITHIN: Duration = Duration::from_millis(300);

/// Where a server listens now; `None` while it does not.
pub type Backend = Arc<Mutex<Option<SocketAddr>>>;

/// A running balancer. Dropped, it closes all its connections.
pub struct Balancer {
    addr: SocketAddr,
    _ends: DropGuard,
}

impl Balancer {
    /// Before these servers.
    pub async fn start(backends: Vec<Backend>) -> Balancer {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let end = CancellationToken::new();
        let tasks = TaskTracker::new();
        let accepting = accept(listener, backends, tasks.clone(), end.clone());
        let ended = end.clone();
        tasks.spawn(async move { ended.run_until_cancelled(accepting).await });
        Balancer {
            addr,
            _ends: end.drop_guard(),
        }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

async fn accept(listener: TcpListener, backends: Vec<Backend>, tasks: TaskTracker, end: CancellationToken) {
    let mut turn = 0;
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        turn += 1;
        let (backends, end) = (backends.clone(), end.clone());
        tasks.spawn(async move { end.run_until_cancelled(serve(client, backends, turn)).await });
    }
}

/// One connection; closed at once where no server takes it.
async fn serve(mut client: TcpStream, backends: Vec<Backend>, turn: usize) {
    for step in 0..backends.len() {
        let Some(addr) = *lock(&backends[(turn + step) % backends.len()]) else {
            continue;
        };
        if let Ok(Ok(mut server)) = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(addr)).await {
            // If a stream is gone already, its next read fails.
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
