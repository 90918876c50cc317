//! What the way in and out costs: calls that are refused and messages that are rejected whole, before any store is
//! asked. The baseline is a tonic server that gives the very same answers without looking.
//!
//! It is given as the server's processor time and not as a rate: a caller spends as much on a call as such a server
//! does, and on the same processors, so the rate would be the caller's.

use std::time::Duration;

use tonic::transport::Endpoint;

use super::processor_each;
use crate::echo::Echo;
use crate::load::calls::CALLERS;
use crate::load::refusals::{self, FIXES, STREAMS, WINDOW};
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::rounds::{Pairs, Turn, take_turns};
use testkit::benchmark::{Benchmark, Better};

/// The benchmarks of calls and of messages.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Benchmark> {
    let server = Server::start(world, "edge", 6).await;
    let echo = echo_of(world, &server).await;
    let calls = beside(scale, &server, &echo, refusals::run_calls).await;
    let messages = beside(scale, &server, &echo, refusals::run_streams).await;
    echo.stop().await;
    server.stop().await;
    let is = "a tonic server that gives the same answers at once";
    vec![
        Benchmark::against("unary_call_server_cpu", "µs/call", Better::Less, is, calls)
            .with(format!("orders refused by validation, {CALLERS} callers")),
        Benchmark::against("stream_message_server_cpu", "µs/message", Better::Less, is, messages).with(format!(
            "messages of {FIXES} fixes, all rejected; {STREAMS} streams, {WINDOW} messages on their way each"
        )),
    ]
}

/// Processor time of each call, in µs: the server's beside the echo's.
async fn beside(scale: &Scale, server: &Server, echo: &Echo, run: impl AsyncFn(&Endpoint, Duration) -> Turn) -> Pairs {
    let (ours, baseline) = (server.endpoint(), echo.endpoint.clone());
    run(&ours, scale.refusal_turn).await;
    run(&baseline, scale.refusal_turn).await;
    take_turns(
        scale.read_rounds,
        async || processor_each(|| server.cost(), run(&ours, scale.refusal_turn)).await,
        async || processor_each(|| echo.cost(), run(&baseline, scale.refusal_turn)).await,
    )
    .await
}

/// An echo that answers as this server does.
pub async fn echo_of(world: &World, server: &Server) -> Echo {
    let status = refusals::refused_order(server.channel()).await;
    let answer = refusals::rejected_message(server.channel()).await;
    Echo::start(world, &status, &answer).await
}
