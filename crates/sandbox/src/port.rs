//! A free port for a server that will be killed and restarted on it.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

/// Below the range from which Linux (32768) and macOS (49152) take the ports of outgoing connections. A client that
/// dials a dead server's port again and again would otherwise now and then get that very port as its own, connect to
/// itself, and keep the server from coming back.
const FIRST: u16 = 15_000;
const COUNT: u16 = 17_000;

/// Where this process has come to among them. Others begin elsewhere.
static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(Uuid::now_v7().as_u64_pair().1));

/// A port on 127.0.0.1 that is free now, and that this process was not given before. Another process may take it before the server does: the caller tries
/// again.
pub fn free() -> u16 {
    let next = || FIRST + u16::try_from(NEXT.fetch_add(1, Ordering::Relaxed) % u64::from(COUNT)).unwrap_or_default();
    (0..COUNT)
        .map(|_| next())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        // All are taken: the server that fails to bind reports it.
        .unwrap_or_else(next)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::free;

    #[test]
    fn no_port_is_given_twice_by_one_process() {
        let ports: HashSet<u16> = (0..1_000).map(|_| free()).collect();
        assert_eq!(ports.len(), 1_000);
    }
}
