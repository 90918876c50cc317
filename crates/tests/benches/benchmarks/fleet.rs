//! Servers behind a balancer, of which one after the other is replaced while customers order.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::load::balancer::{Backend, Balancer};
use tokio::time::sleep;
use tonic::transport::Endpoint;

use crate::load::Load;
use crate::server::Server;

/// A server stays so long after it is not ready any more, and a balancer that asks each 100 ms has seen it by then.
pub const UNREADY: (&str, &str) = ("drain.unready", "500ms");
const ASKED_EVERY: Duration = Duration::from_millis(100);

/// They, and the balancer.
pub struct Fleet {
    servers: Vec<Server>,
    backends: Vec<Backend>,
    balancer: Balancer,
}

impl Fleet {
    /// Of these servers.
    pub async fn of(servers: Vec<Server>) -> Fleet {
        let backends = servers.iter().map(|server| Arc::new(Mutex::new(Some(address(server)))));
        let backends: Vec<Backend> = backends.collect();
        Fleet {
            balancer: Balancer::start(backends.clone()).await,
            servers,
            backends,
        }
    }

    /// The load on all of them.
    pub fn load(&self) -> Load {
        Load::on(Endpoint::from_shared(format!("http://{}", self.balancer.addr())).unwrap())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.servers.len()
    }

    /// Ends one, once the balancer sends it no one, and puts another in its place.
    pub async fn replace(&mut self, place: usize, start: impl Future<Output = Server>) {
        let (server, backend) = (self.servers.remove(place), &self.backends[place]);
        let looks = server.looks();
        let leave = async {
            while looks.is_ready().await {
                sleep(ASKED_EVERY).await;
            }
            *backend.lock().unwrap() = None;
        };
        tokio::join!(server.stop_after_trouble(), leave);
        let next = start.await;
        *backend.lock().unwrap() = Some(address(&next));
        self.servers.insert(place, next);
    }

    /// Ends all.
    pub async fn stop(self) {
        for server in self.servers {
            server.stop_after_trouble().await;
        }
    }
}

fn address(server: &Server) -> SocketAddr {
    server.address().parse().unwrap()
}
