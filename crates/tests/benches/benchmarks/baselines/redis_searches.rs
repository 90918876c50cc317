//! The baseline of searches: the very commands of Waybill's searches, as Redis's MONITOR shows them, given again by a
//! bare client. As many at a time on as many connections; within a search one after the other, for each needs the
//! answer of the one before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::task::JoinSet;

use crate::load::Load;
use crate::server::Server;
use crate::world::World;
use testkit::benchmark::monitored::command;
use testkit::benchmark::rounds::Turn;

/// How long searches are listened to, more than 100 of them.
const LISTEN: Duration = Duration::from_secs(1);

/// One search: round trips, one after the other, each of one or more commands.
type Search = Vec<Vec<Vec<String>>>;

/// Recorded searches.
pub struct RedisSearches {
    connection: MultiplexedConnection,
    searches: Arc<Vec<Search>>,
}

impl RedisSearches {
    /// Listens to a caller who searches.
    pub async fn recorded(world: &World, server: &Server, load: &Load) -> RedisSearches {
        let monitor = world.redis_client(server.redis).get_async_monitor().await.unwrap();
        let mut lines = Box::pin(monitor.into_on_message::<String>());
        let mut received = Vec::new();
        {
            let listening = async {
                while let Some(line) = lines.next().await {
                    received.extend(command(&line, server.redis));
                }
            };
            tokio::select! {
                () = listening => {}
                // One at a time, so that no two are mixed.
                _ = load.searches(1, LISTEN) => {}
            }
        }
        let searches = searches(received);
        assert!(searches.len() > 10, "{} searches were recorded", searches.len());
        RedisSearches {
            connection: world.redis(server.redis).await,
            searches: searches.into(),
        }
    }

    /// What one of them is.
    pub fn summary(&self) -> String {
        let trips = self.searches[0]
            .iter()
            .map(|trip| format!("{} {}", trip.len(), trip[0][0]));
        trips.collect::<Vec<_>>().join(", then ")
    }

    /// Lets so many callers search for so long.
    pub async fn run(&self, callers: usize, time: Duration) -> Turn {
        let began_at = Instant::now();
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let (mut connection, searches) = (self.connection.clone(), Arc::clone(&self.searches));
            tasks.spawn(async move {
                let (mut count, mut in_time) = (0, 0);
                while began_at.elapsed() < time {
                    for trip in &searches[(caller * 31 + count) % searches.len()] {
                        pipeline(trip).query_async::<Value>(&mut connection).await.unwrap();
                    }
                    count += 1;
                    in_time += u64::from(began_at.elapsed() < time);
                }
                (in_time, count as u64)
            });
        }
        let (mut in_time, mut all) = (0, 0);
        for (of_caller, all_of_caller) in tasks.join_all().await {
            in_time += of_caller;
            all += all_of_caller;
        }
        Turn {
            count: in_time,
            elapsed: time,
            all,
        }
    }
}

fn pipeline(commands: &[Vec<String>]) -> Pipeline {
    let mut pipeline = redis::pipe();
    for words in commands {
        let mut command = redis::cmd(&words[0]);
        command.arg(&words[1..]);
        pipeline.add_command(command);
    }
    pipeline
}

/// A search begins at the index, and looks further there as long as it found too few. What else is asked alike is asked at once.
fn searches(received: Vec<Vec<String>>) -> Vec<Search> {
    let mut searches: Vec<Search> = Vec::new();
    for words in received {
        match words[0].as_str() {
            "GEOSEARCH" => match searches.last_mut() {
                Some(search) if search.iter().all(|trip| trip[0][0] == "GEOSEARCH") => search.push(vec![words]),
                _ => searches.push(vec![vec![words]]),
            },
            "ZMSCORE" | "HGETALL" => {
                if let Some(search) = searches.last_mut() {
                    match search.last_mut() {
                        Some(trip) if trip[0][0] == words[0] => trip.push(words),
                        _ => search.push(vec![words]),
                    }
                }
            }
            // The workers behind: theirs is no part of a search.
            _ => {}
        }
    }
    // The last one may not be whole.
    searches.pop();
    searches
}
