//! What the network does about connections to the stores that carry nothing: Linux says when it looks at each.

use std::fs;
use std::net::SocketAddr;

use testkit::wire::{PICKUP, a_ride};
use testkit::{Rig, until};

/// The columns of `/proc/net/tcp` (<https://docs.kernel.org/networking/proc_net_tcp.html>): the other side, the state, and which timer runs until
/// when.
const COLUMNS: (usize, usize, usize) = (2, 3, 5);
const ESTABLISHED: &str = "01";
/// Of the timer by which a connection that carries nothing is looked at.
const KEEPALIVE: &str = "02";
/// Five seconds, in hundredths, and what the kernel rounds up.
const DUE_MAX: u64 = 510;

/// In how many hundredths of a second the network looks at each connection to this address; `None`: it does not.
fn due(address: SocketAddr) -> Vec<Option<u64>> {
    let SocketAddr::V4(address) = address else {
        panic!("{address} is not of the table that is read")
    };
    // As the kernel has it in memory.
    let host = u32::from_ne_bytes(address.ip().octets());
    let remote = format!("{host:08X}:{:04X}", address.port());
    let (to, state, timer) = COLUMNS;
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1);
    let rows = rows.map(|row| row.split_whitespace().collect::<Vec<&str>>());
    let open = rows.filter(|row| row[to] == remote && row[state] == ESTABLISHED);
    open.map(|row| {
        let (kind, due) = row[timer].split_once(':').unwrap();
        (kind == KEEPALIVE).then(|| u64::from_str_radix(due, 16).unwrap())
    })
    .collect()
}

#[tokio::test]
async fn the_network_looks_at_each_connection_to_a_store_after_five_seconds_without_a_word() {
    let rig = Rig::builder()
        .postgres_through_proxy()
        .redis_through_proxy()
        .start()
        .await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.place(a_ride()).await;
    for line in [rig.postgres_line(), rig.redis_line()] {
        until("each connection is looked at soon", async || {
            let due = due(line.addr());
            let are_soon = !due.is_empty() && due.iter().all(|due| due.is_some_and(|due| due <= DUE_MAX));
            if are_soon { Ok(()) } else { Err(due) }
        })
        .await;
    }
}
