//! Three servers behind a balancer are restarted one after the other, again and again, while customers order: no call fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::load::balancer::{Backend, Balancer};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use super::{Findings, Times};
use crate::load::{Load, operation};
use crate::server::Server;
use crate::world::World;

const SERVERS: usize = 3;
const ORDERS_PER_SECOND: f64 = 50.0;
/// A server stays so long after it is not ready any more, and a balancer that asks each 100 ms has seen it by then.
const UNREADY: (&str, &str) = ("drain.unready", "500ms");
const ASKED_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn measure(world: &World, times: Times, findings: &mut Findings) {
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(start(world).await);
    }
    let address = |server: &Server| Some(server.address().parse().unwrap());
    let backends = servers.iter().map(|server| Arc::new(Mutex::new(address(server))));
    let backends: Vec<Backend> = backends.collect();
    let balancer = Balancer::start(backends.clone()).await;
    let load = Load::on(Endpoint::from_shared(format!("http://{}", balancer.addr())).unwrap());

    let over = CancellationToken::new();
    let restarts = async {
        for restart in 0..times.restarts {
            let place = restart % SERVERS;
            let (server, backend) = (servers.remove(place), &backends[place]);
            let looks = server.looks();
            let leave = async {
                while looks.is_ready().await {
                    sleep(ASKED_EVERY).await;
                }
                *backend.lock().unwrap() = None;
            };
            tokio::join!(server.stop_after_trouble(), leave);
            let next = start(world).await;
            *backend.lock().unwrap() = address(&next);
            servers.insert(place, next);
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
    for server in servers {
        server.stop_after_trouble().await;
    }
}

async fn start(world: &World) -> Server {
    Server::start_with(world, "rolling", 6, &[UNREADY]).await
}
