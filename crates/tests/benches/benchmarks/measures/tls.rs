//! What TLS costs: fixes a second over it, beside the same without; and how much later acknowledgements come while other
//! clients make their handshakes, beside the same stream of fixes while no one does.
//!
//! Both ends of TLS are on this machine, so its processors pay for the clients' halves, too.

use std::fs;
use std::time::Duration;

use rcgen::generate_simple_self_signed;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::history::History;
use crate::load::handshakes::{self, Handshakes};
use crate::load::{Load, STREAMS, STREAMS_OF_SINGLES, WINDOW, operation};
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::rounds::{Turn, take_turns};
use testkit::benchmark::{Benchmark, Better};

const DRIVERS: u32 = 10_000;
/// Fixes a second of the steady stream: far below the peak, where an acknowledgement waits for little else.
const STEADY: f64 = 2_000.0;

/// The benchmarks of fixes and of their acknowledgements.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = generate_simple_self_signed(names).unwrap();
    let certificate = made.cert.pem();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| world.path(name));
    fs::write(&cert, &certificate).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let settings = [("tls.cert", cert.to_str().unwrap()), ("tls.key", key.to_str().unwrap())];
    let server = Server::start_with(world, "tls", 5, &settings).await;
    let trust = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&certificate));
    let endpoint = Endpoint::from_shared(format!("https://{}", server.address()));
    let endpoint = endpoint.unwrap().tls_config(trust).unwrap();
    let others = Handshakes::with(server.address(), &certificate);

    let tls = Side::of(world, server, endpoint).await;
    let plain = Server::start(world, "plain", 6).await;
    let endpoint = plain.endpoint();
    let plain = Side::of(world, plain, endpoint).await;
    let rate = rate(world, scale, &tls, &plain).await;
    plain.server.stop().await;
    let acknowledgement = acknowledgement(scale, &tls, &others).await;
    tls.server.stop().await;
    vec![rate, acknowledgement]
}

async fn rate(world: &World, scale: &Scale, tls: &Side, plain: &Side) -> Benchmark {
    for side in [tls, plain] {
        side.fixes_per_second(scale.stored_turn).await;
        side.load.verdicts();
    }
    world
        .settle([tls, plain].map(|side| side.server.database.as_str()))
        .await;
    let pairs = take_turns(
        scale.rounds,
        async || tls.fixes_per_second(scale.stored_turn).await,
        async || plain.fixes_per_second(scale.stored_turn).await,
    )
    .await;
    let is = "the same fixes without TLS";
    Benchmark::against("tls_fixes_per_second", "fixes/s", Better::More, is, pairs)
        .with(format!(
            "{DRIVERS} drivers, {STREAMS} streams, {WINDOW} fixes on their way on each"
        ))
        .judged(tls.load.verdicts())
        .to_reach(0.8)
}

async fn acknowledgement(scale: &Scale, tls: &Side, others: &Handshakes) -> Benchmark {
    let time = scale.paced_turn;
    tls.acknowledged_p99(time).await;
    tls.load.verdicts();
    let beside = async || tokio::join!(tls.acknowledged_p99(time), others.run(time)).0;
    let pairs = take_turns(2 * scale.latency_rounds, beside, async || {
        tls.acknowledged_p99(time).await
    })
    .await;
    let is = "the same fixes while no one makes a handshake";
    let per_second = handshakes::PER_SECOND;
    Benchmark::against("tls_handshakes_fix_ack_p99", "ms", Better::Less, is, pairs)
        .with(format!(
            "{STEADY} fixes a second over {STREAMS_OF_SINGLES} streams, beside {per_second} handshakes a second"
        ))
        .judged(tls.load.verdicts())
        // Half as long again.
        .to_reach(1.0 / 1.5)
}

/// A server, and its fixes.
struct Side {
    server: Server,
    load: Load,
    history: History,
}

impl Side {
    async fn of(world: &World, server: Server, endpoint: Endpoint) -> Side {
        Side {
            load: Load::on(endpoint),
            history: History::of(world, &server).await,
            server,
        }
    }

    async fn fixes_per_second(&self, time: Duration) -> f64 {
        let acknowledged = self.load.fixes(DRIVERS, WINDOW, time).await;
        self.history.finish(acknowledged).await.per_second()
    }

    /// Of steady fixes, in milliseconds.
    async fn acknowledged_p99(&self, time: Duration) -> f64 {
        let report = self.load.singles_at(DRIVERS, STEADY, time).await;
        let fixes = operation(&report, None);
        let all = fixes.totals.answered;
        let turn = Turn {
            count: all,
            elapsed: time,
            all,
        };
        self.history.finish(turn).await;
        fixes.latency.p99_ms
    }
}
