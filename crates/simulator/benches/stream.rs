//! What one fix costs this side: a load of fixes in either loop, against a server that acknowledges every
//! message at once and stores nothing.
//!
//! Each has one thread to itself, and the time that the system charges to this thread is what is reported. It holds
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
#![allow(missing_docs, reason = "nothing depends on it")]

use std::net::SocketAddr;
use std::pin::Pin;
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
use waybill_simulator::Target;
use waybill_simulator::load::plan::{Arrivals, IngestLoad, Pace, Plan, Rate, Workload};
use waybill_simulator::load::{Live, run};

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
                clock_offsets: Vec::new(),
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
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Serves on a thread of its own until the process ends.
fn serve() -> SocketAddr {
    let (address, listening) = oneshot::channel();
    std::thread::spawn(move || {
        one_thread().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
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

/// Prints what `work` cost, which returns how many fixes it streamed.
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

/// A load of fixes.
async fn load(server: &Target, pace: Pace, fixes: u64, streams: u64, drivers: u64) -> u64 {
    let load = IngestLoad {
        drivers: u32::try_from(drivers).unwrap(),
        streams: usize::try_from(streams).unwrap(),
        gather: Duration::from_millis(10),
        window: 2_000,
        batch: 500,
    };
    let plan = Plan {
        duration: Duration::from_mins(10),
        count_max: Some(fixes),
        ..Plan::new(Workload::Ingest(load), pace)
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
    let server = Target::new(&serve().to_string(), None).unwrap();
    let open = Pace::Open {
        arrivals: Arrivals::Poisson,
        rate: Rate::Constant(rate.into()),
    };
    for _ in 0..3 {
        measure(
            "closed",
            load(&server, Pace::Closed { callers: 0 }, fixes, streams, drivers),
        );
        measure("open", load(&server, open, fixes, streams, drivers));
    }
}
