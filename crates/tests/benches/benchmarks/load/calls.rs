//! Callers who make the same call over and over, each after the answer to its last one.

use std::time::{Duration, Instant};

use testkit::benchmark::rounds::Turn;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::CHANNELS;

/// Calls at a time.
pub const CALLERS: usize = 64;

/// Lets all callers call for so long.
pub async fn run<C, A>(endpoint: &Endpoint, time: Duration, call: C) -> Turn
where
    C: Fn(Channel) -> A + Clone + Send + 'static,
    A: Future<Output = ()> + Send,
{
    let channels: Vec<Channel> = (0..CHANNELS).map(|_| endpoint.connect_lazy()).collect();
    let began_at = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (channel, call) = (channels[caller % CHANNELS].clone(), call.clone());
        callers.spawn(async move {
            let mut count = 0;
            while began_at.elapsed() < time {
                call(channel.clone()).await;
                count += 1;
            }
            count
        });
    }
    to_the_last(callers, began_at).await
}

/// The turn ends with the last answer.
pub async fn to_the_last(tasks: JoinSet<u64>, began_at: Instant) -> Turn {
    let count = tasks.join_all().await.into_iter().sum();
    Turn {
        count,
        elapsed: began_at.elapsed(),
        all: count,
    }
}
