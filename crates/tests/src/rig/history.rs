//! The way of fixes from the stream into the history: how far it is, and how to hold it.

use redis::aio::ConnectionLike;
use redis::streams::StreamRangeReply;
use tokio_postgres::Client;

use super::Rig;
use crate::until;

/// Whether everything in a stream is in the history; else the last entry, and the cursor.
pub async fn is_written(
    redis: &mut impl ConnectionLike,
    sql: &Client,
    stream: &str,
) -> Result<(), (String, Option<String>)> {
    let mut last = redis::cmd("XREVRANGE");
    last.arg(stream).arg(&["+", "-", "COUNT", "1"]);
    let last: StreamRangeReply = last.query_async(redis).await.expect("Redis answers");
    let Some(last) = last.ids.into_iter().next().map(|entry| entry.id) else {
        return Ok(());
    };
    let query = "select last_id from history_cursors where stream = $1";
    let row = sql.query_opt(query, &[&stream]).await.expect("Postgres answers");
    let cursor: Option<String> = row.map(|row| row.get(0));
    if cursor.as_ref() == Some(&last) {
        Ok(())
    } else {
        Err((last, cursor))
    }
}

impl Rig {
    /// Waits until everything in the stream is in the history. What is not there then never will be.
    pub async fn until_written(&self) {
        let (mut redis, sql) = (self.redis().await, self.sql().await);
        until("the history is written to the end of the stream", async || {
            let mut keys = redis::cmd("KEYS");
            let keys: redis::RedisResult<Vec<String>> = keys.arg("location_events*").query_async(&mut redis).await;
            for stream in keys.expect("Redis answers") {
                is_written(&mut redis, &sql, &stream).await?;
            }
            Ok::<(), (String, Option<String>)>(())
        })
        .await;
    }

    /// Keeps every writer from the history of the plain stream until the transaction of the session is over.
    pub async fn hold_history(&self) -> Client {
        let session = self.sql().await;
        until("the history has a cursor", async || {
            session.batch_execute("rollback; begin").await.unwrap();
            let lock = "select 1 from history_cursors where stream = 'location_events' for update";
            session.query_opt(lock, &[]).await.unwrap()
        })
        .await;
        session
    }
}
