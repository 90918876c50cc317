//! The end of a fix's way: it is not only acknowledged but a row in the history.

use std::cell::Cell;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use testkit::chance::pass;
use testkit::rig::history::is_written;

use tokio_postgres::Client;

use crate::server::Server;
use crate::world::World;
use testkit::benchmark::rounds::Turn;

const EVENTS: &str = "location_events";
/// The history that takes longer than this to catch up does not keep up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Often, for it is a part of what is measured.
const POLL: Duration = Duration::from_millis(5);

/// Looks at the history of a server.
pub struct History {
    redis: MultiplexedConnection,
    sql: Client,
    rows: Cell<i64>,
}

impl History {
    /// Of this server, which has been given nothing that is not in the history yet.
    pub async fn of(world: &World, server: &Server) -> History {
        let history = History {
            redis: world.redis(server.redis).await,
            sql: world.session(&server.database).await,
            rows: Cell::default(),
        };
        history.caught_up().await;
        history.rows.set(history.count().await);
        history
    }

    /// The turn with the time that the history needed to have all of it. Every fix must be there, and once.
    pub async fn finish(&self, turn: Turn) -> Turn {
        let began_at = Instant::now();
        self.caught_up().await;
        let elapsed = turn.elapsed + began_at.elapsed();
        let rows = self.count().await;
        assert_eq!(
            rows - self.rows.replace(rows),
            i64::try_from(turn.count).unwrap(),
            "rows of the turn's fixes"
        );
        Turn { elapsed, ..turn }
    }

    /// Waits until the history's cursor is at the end of the stream.
    async fn caught_up(&self) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(state) = is_written(&mut self.redis.clone(), &self.sql, EVENTS).await {
            assert!(Instant::now() < deadline, "the history does not keep up: {state:?}");
            pass(POLL).await;
        }
    }

    async fn count(&self) -> i64 {
        self.sql
            .query_one("select count(*) from driver_locations", &[])
            .await
            .unwrap()
            .get(0)
    }
}
