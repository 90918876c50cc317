//! What one fix costs this side: a fleet, and a load of fixes in either loop, against a server that acknowledges every
//! message at once and stores nothing.
//!
//! Each has one thread to itself, and the time that the system charges to this thread is what is told. It holds
//! all of the client's work: taking the fix, the message, HTTP/2, and the calls of the system.
//!
//! `cargo bench -p waybill-simulator --bench stream`; `BENCH_FIXES`, `BENCH_STREAMS`, `BENCH_DRIVERS`, `BENCH_RATE`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement, not a product: whatever is not as it should be ends it"
)]
#![allow(missing_docs, reason = "nobody depends on it")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use waybill_proto::location::v1::location_service_server::{LocationService, LocationServiceServer};
use waybill_proto::location::v1::{
    ReportLocationsRequest, ReportLocationsResponse, StreamLocationsRequest, StreamLocationsResponse,
};
use waybill_simulator::fleet::{DueFix, Fleet, FleetOptions};
use waybill_simulator::load::plan::{Arrivals, IngestLoad, Pace, Plan, Rate, Workload};
use waybill_simulator::load::{Live, run};
use waybill_simulator::stats::Stats;
use waybill_simulator::{Drivers, Endpoint};

struct AtOnce;

#[tonic::async_trait]
impl LocationService for AtOnce {
    type StreamLocationsStream = Pin<Box<dyn Stream<Item = Result<StreamLocationsResponse, Status>> + Send + 'static>>;

    async fn stream_locations(
        &self,
        request: Request<Streaming<StreamLocationsRequest>>,
    ) -> Result<Response<Self::StreamLocationsStream>, Status> {
        let answers = request.into_inner().map(|message| {
            let message = message?;
            Ok(StreamLocationsResponse {
                acknowledged_sequence: message.first_sequence + message.fixes.len() as u64 - 1,
                rejections: Vec::new(),
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn report_locations(
        &self,
        _: Request<ReportLocationsRequest>,
    ) -> Result<Response<ReportLocationsResponse>, Status> {
        Err(Status::unimplemented("not part of this measurement"))
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |given| given.parse().expect("a number"))
}

/// Serves on a thread of its own until the process ends.
fn serve() -> SocketAddr {
    let (told, listening) = oneshot::channel();
    std::thread::spawn(move || {
        one_thread().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let server = Server::builder().add_service(LocationServiceServer::new(AtOnce));
            server
                // Without it each acknowledgement might wait for 40 ms for another one (Nagle, and a delayed ACK).
                .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
                .await
                .unwrap();
        });
    });
    listening.blocking_recv().unwrap()
}

fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// What the system charged to this thread so far.
fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("nanoseconds"))
}

/// Tells what `work` cost, which answers how many fixes it streamed.
fn measure(name: &str, work: impl Future<Output = u64>) {
    let (begun, before) = (Instant::now(), thread_time());
    let fixes = one_thread().block_on(work);
    let (cost, took) = (thread_time().saturating_sub(before), begun.elapsed());
    let each = cost.div_f64(u32::try_from(fixes).unwrap().into());
    println!(
        "{name}: {fixes} fixes in {took:.2?}, {cost:.2?} of one core: {each:?} a fix, {:.0} fixes/s a core",
        1.0 / each.as_secs_f64()
    );
}

/// A fleet whose fixes are all due at once.
async fn fleet(server: &Endpoint, fixes: u64, streams: u64, drivers: u64) -> u64 {
    let names = Arc::new(
        (0..drivers)
            .map(|number| format!("driver-{number:06}"))
            .collect::<Drivers>(),
    );
    let due = Instant::now();
    let source = move |stream: usize| {
        let stream = stream as u64;
        (0..fixes / streams).map(move |number| DueFix {
            due,
            driver: u32::try_from((number * streams + stream) % drivers).unwrap(),
            lat_deg: 37.7749,
            lon_deg: -122.4194,
            recorded_at_micros: 1_700_000_000_000_000 + i64::try_from(number).unwrap(),
        })
    };
    let options = FleetOptions {
        streams: usize::try_from(streams).unwrap(),
        window: 2_000,
        ..FleetOptions::default()
    };
    let stats = Arc::new(Stats::default());
    let fleet = Fleet::start(server, options, &names, &stats, &CancellationToken::new(), source);
    let report = fleet.finished().await.unwrap();
    assert_eq!(report.acknowledged.distinct(), fixes);
    fixes
}

/// A load of fixes.
async fn load(server: &Endpoint, pace: Pace, fixes: u64, streams: u64, drivers: u64) -> u64 {
    let load = IngestLoad {
        drivers: u32::try_from(drivers).unwrap(),
        streams: usize::try_from(streams).unwrap(),
        gather: Duration::from_millis(10),
        window: 2_000,
    };
    let plan = Plan {
        workload: Workload::Ingest(load),
        pace,
        warm_up: Duration::ZERO,
        duration: Duration::from_mins(10),
        count_max: Some(fixes),
        deadline: Duration::from_secs(10),
        retries: false,
        seed: 1,
    };
    let report = run(plan, server, &Live::default(), &CancellationToken::new())
        .await
        .unwrap();
    let [operation] = &report.operations[..] else {
        panic!("one operation")
    };
    println!(
        "  {:.2?}, late p99 {:.2} ms",
        operation.latency, report.generator.late_p99_ms
    );
    assert_eq!(operation.totals.answered, fixes);
    fixes
}

fn main() {
    let fixes = setting("BENCH_FIXES", 2_000_000);
    let streams = setting("BENCH_STREAMS", 4);
    let drivers = setting("BENCH_DRIVERS", 1_000);
    let rate = u32::try_from(setting("BENCH_RATE", 100_000)).unwrap();
    let server = waybill_simulator::endpoint(&serve().to_string()).unwrap();
    let open = Pace::Open {
        arrivals: Arrivals::Poisson,
        rate: Rate::Constant(rate.into()),
    };
    for _ in 0..3 {
        measure("fleet", fleet(&server, fixes, streams, drivers));
        measure(
            "closed",
            load(&server, Pace::Closed { callers: 0 }, fixes, streams, drivers),
        );
        measure("open", load(&server, open, fixes, streams, drivers));
    }
}
