//! Three servers behind a balancer are restarted one after the other, again and again, while customers order: no call fails.

use tokio_util::sync::CancellationToken;

use super::{Findings, Times};
use crate::fleet::{Fleet, UNREADY};
use crate::load::operation;
use crate::server::Server;
use crate::world::World;

const SERVERS: usize = 3;
const ORDERS_PER_SECOND: f64 = 50.0;

pub(super) async fn measure(world: &World, times: Times, findings: &mut Findings) {
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(start(world).await);
    }
    let mut fleet = Fleet::of(servers).await;
    let load = fleet.load();
    let over = CancellationToken::new();
    let restarts = async {
        for restart in 0..times.restarts {
            fleet.replace(restart % SERVERS, start(world)).await;
        }
        over.cancel();
    };
    let (report, ()) = tokio::join!(load.orders_until(ORDERS_PER_SECOND, &over), restarts);
    let orders = operation(&report, Some("order"));
    let not_served = orders.totals.failed + orders.totals.refused;
    findings.number("restarts", times.restarts);
    findings.number(
        "failed_in_restarts",
        format_args!("{not_served} of {}", orders.totals.started),
    );
    findings.expect(not_served == 0, || {
        format!(
            "{not_served} calls failed while servers were restarted: {:?}",
            orders.errors
        )
    });
    fleet.stop().await;
}

async fn start(world: &World) -> Server {
    Server::start_with(world, "rolling", 6, &[UNREADY]).await
}
