//! What an open stream costs on which no driver reports: memory, and processor time a second.
//!
//! Each of the streams has handed in one fix, so all that a stream ever needs is there. A new server each round: what a
//! process was given once it seldom gives back.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{StreamLocationsRequest, StreamLocationsResponse};

use crate::load::city;
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::arithmetic::number;
use testkit::benchmark::{Benchmark, Better};

const CONNECTIONS: usize = 100;
/// As many as a connection may have by default.
const STREAMS_PER_CONNECTION: usize = 100;
const STREAMS: u32 = 10_000;
/// Both ends of a stream, held open.
type Open = (mpsc::Sender<StreamLocationsRequest>, Streaming<StreamLocationsResponse>);

/// The benchmarks of an idle stream.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    raise_open_files();
    let (mut memory, mut processor) = (Vec::new(), Vec::new());
    for _ in 0..scale.stream_rounds {
        let server = Server::start(world, "idle_streams", 7).await;
        // The buffers of its stores are there before it is looked at.
        drop(open(server.channel(), 0, 1).await);
        idle_second(&server, scale.silence / 4).await;
        let before = server.cost().memory_bytes;
        let mut opening = JoinSet::new();
        for connection in 0..CONNECTIONS {
            opening.spawn(open(server.channel(), connection, STREAMS_PER_CONNECTION));
        }
        let streams: Vec<Open> = opening.join_all().await.into_iter().flatten().collect();
        assert_eq!(streams.len(), STREAMS as usize);
        let used = idle_second(&server, scale.silence).await;
        let after = server.cost().memory_bytes;
        memory.push((number(after) - number(before)) / f64::from(STREAMS));
        processor.push(used * 1e6 / f64::from(STREAMS));
        drop(streams);
        server.stop().await;
    }
    let how = format!("{STREAMS} streams, {STREAMS_PER_CONNECTION} on a connection, one fix each and then silence");
    vec![
        Benchmark::alone("idle_stream_memory", "bytes/stream", Better::Less, memory).with(how),
        Benchmark::alone("idle_stream_server_cpu", "µs/s/stream", Better::Less, processor)
            .with("all that the server uses meanwhile, what it does for no stream too"),
    ]
}

/// Opens streams on a connection, each with one fix that was acknowledged.
async fn open(channel: Channel, connection: usize, count: usize) -> Vec<Open> {
    let mut streams = Vec::new();
    for stream in 0..count {
        let (sender, receiver) = mpsc::channel(1);
        let mut locations = LocationServiceClient::new(channel.clone());
        let answers = locations.stream_locations(ReceiverStream::new(receiver)).await;
        let mut answers = answers.expect("the stream opens").into_inner();
        let number = connection * STREAMS_PER_CONNECTION + stream;
        let message = StreamLocationsRequest {
            first_sequence: 0,
            fixes: vec![city::fix(number, STREAMS as usize)],
        };
        sender.send(message).await.expect("the stream is open");
        answers.message().await.expect("an answer").expect("an answer");
        streams.push((sender, answers));
    }
    streams
}

/// Processor seconds that the server uses in a second of silence.
async fn idle_second(server: &Server, silence: Duration) -> f64 {
    // What was begun comes to its end.
    tokio::time::sleep(silence / 4).await;
    let (before, began_at) = (server.cost(), Instant::now());
    tokio::time::sleep(silence).await;
    let used = server.cost().processor.saturating_sub(before.processor);
    used.as_secs_f64() / began_at.elapsed().as_secs_f64()
}

/// As many files as this process may have open, and with it the servers that it starts.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}
