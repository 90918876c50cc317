//! What the way in and out costs: calls that are refused and messages that are rejected whole, before any store is
//! asked. The floor is a tonic server that gives the very same answers without looking.

use crate::echo::Echo;
use crate::figure::{Better, Figure};
use crate::load::refusals::{self, CALLERS, FIXES, Generator, STREAMS, WINDOW};
use crate::rounds::take_turns;
use crate::scale::Scale;
use crate::server::Server;
use crate::world::World;

/// The figures of calls and of messages.
pub async fn measure(world: &World, scale: &Scale) -> Vec<Figure> {
    let server = Server::start(world, "edge", 6).await;
    let echo = echo_of(world, &server).await;
    let (ours, floor) = (server.endpoint(), echo.endpoint.clone());
    let turn = scale.read_turn;

    refusals::run_calls(&ours, turn).await;
    refusals::run_calls(&floor, turn).await;
    let generator = Generator::watched();
    let calls = take_turns(
        scale.rounds,
        async || refusals::run_calls(&ours, turn).await.per_second(),
        async || refusals::run_calls(&floor, turn).await.per_second(),
    )
    .await;
    let calls_limited = generator.limited();
    refusals::run_streams(&ours, turn).await;
    refusals::run_streams(&floor, turn).await;
    let generator = Generator::watched();
    let messages = take_turns(
        scale.rounds,
        async || refusals::run_streams(&ours, turn).await.per_second(),
        async || refusals::run_streams(&floor, turn).await.per_second(),
    )
    .await;
    let messages_limited = generator.limited();
    echo.stop().await;
    server.stop().await;
    let is = "a tonic server that gives the same answers at once";
    vec![
        Figure::beside("unary_calls_per_second", "calls/s", Better::More, is, calls)
            .with(format!("orders refused by validation, {CALLERS} callers"))
            .limited(calls_limited),
        Figure::beside("stream_messages_per_second", "messages/s", Better::More, is, messages)
            .with(format!(
                "messages of {FIXES} fixes, all rejected; {STREAMS} streams, {WINDOW} messages on their way each"
            ))
            .limited(messages_limited),
    ]
}

/// An echo that answers as this server does.
pub async fn echo_of(world: &World, server: &Server) -> Echo {
    let status = refusals::refused_order(server.channel()).await;
    let answer = refusals::rejected_message(server.channel()).await;
    Echo::start(world, &status, &answer).await
}
