//! What an audit on a hot standby waits for. The evidence beside the ledger was read before the snapshot is begun: where the standby lags, the snapshot lacks the
//! newest orders of that evidence, and each of them would be found missing.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::AuditFailure;
use crate::storage::StoreError;

/// How long an audit waits for its standby.
const REPLAY_MAX: Duration = Duration::from_secs(10);
/// How long after one look at the standby it looks again.
const PAUSE: Duration = Duration::from_millis(100);

statements! {
    /// The standby's clock; no row on a primary.
    READ_CLOCK = "select clock_timestamp() where pg_is_in_recovery()";
    /// Whether the standby has what was committed by this time, in one of two ways.
    ///
    /// It replayed a later commit: commits are replayed in their order. Their times are the primary's, so this assumes that its clock is less than a second ahead
    /// of the standby's.
    ///
    /// Or, where the primary commits nothing more, it is connected and replayed all that it received. Each message also says how far the primary had come;
    /// a role without `pg_read_all_stats` sees null there. This assumes that the standby follows the primary itself, not another standby that lags, and that what
    /// the primary wrote arrives within moments: a line that fell silent is noticed after `wal_receiver_timeout`. A standby that is fed from an archive
    /// receives nothing (null), and needs the later commit.
    READ_REPLAY = "select not pg_is_in_recovery()
                          or coalesce(l.committed_at > $1::timestamptz + interval '1 second', false)
                          or coalesce(l.received = l.replayed, false)
                             and exists (select from pg_stat_wal_receiver r
                                          where r.status is null
                                             or r.status = 'streaming' and r.latest_end_lsn <= l.replayed),
                          l.committed_at,
                          pg_wal_lsn_diff(l.received, l.replayed)::bigint,
                          exists (select from pg_stat_wal_receiver)
                     from (select pg_last_xact_replay_timestamp() as committed_at,
                                  pg_last_wal_receive_lsn() as received,
                                  pg_last_wal_replay_lsn() as replayed) l";
}

/// Waits until the standby has replayed what was committed when this was called, and reports while it does; on a primary there is nothing to wait for.
pub(super) async fn until_replayed(session: &ClientWrapper, is_waiting: impl Fn(bool)) -> Result<(), AuditFailure> {
    let clock = session.query_opt(READ_CLOCK.sql, &[]).await.map_err(StoreError::from)?;
    let Some(clock) = clock else {
        return Ok(());
    };
    let by: Timestamp = clock.try_get(0).map_err(StoreError::from)?;
    let deadline = Instant::now() + REPLAY_MAX;
    loop {
        let replay = Replay::read(session, by).await?;
        if replay.has_all {
            is_waiting(false);
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(AuditFailure::Behind {
                by,
                waited: REPLAY_MAX.as_secs(),
                lag: replay.lag(by),
            });
        }
        is_waiting(true);
        sleep(PAUSE).await;
    }
}

/// How far a standby is.
struct Replay {
    has_all: bool,
    /// When the last commit that it replayed was made.
    committed_at: Option<Timestamp>,
    /// How much it received and did not replay; `None` if it received nothing.
    bytes: Option<i64>,
    is_connected: bool,
}

impl Replay {
    async fn read(session: &ClientWrapper, by: Timestamp) -> Result<Replay, StoreError> {
        let row = session.query_one(READ_REPLAY.sql, &[&by]).await?;
        Ok(Replay {
            has_all: row.try_get(0)?,
            committed_at: row.try_get(1)?,
            bytes: row.try_get(2)?,
            is_connected: row.try_get(3)?,
        })
    }

    /// The same for people.
    fn lag(&self, by: Timestamp) -> String {
        let commit = match self.committed_at {
            Some(at) => format!("its last commit is {} s older", by.duration_since(at).as_secs().max(0)),
            None => "it replayed no commit since it was started".to_owned(),
        };
        let connection = if self.is_connected {
            ""
        } else {
            ", and it is not connected to its primary"
        };
        match self.bytes {
            Some(bytes) => format!("{commit}, {bytes} bytes are received and not replayed{connection}"),
            None => format!("{commit}, it received nothing but from an archive{connection}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_standby_is_behind_is_said_whatever_is_known_of_it() {
        let by: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let replay = Replay {
            has_all: false,
            committed_at: Some("2026-03-01T11:58:30Z".parse().unwrap()),
            bytes: Some(4_096),
            is_connected: true,
        };
        assert_eq!(
            replay.lag(by),
            "its last commit is 90 s older, 4096 bytes are received and not replayed"
        );
        let of_an_archive = Replay {
            has_all: false,
            committed_at: None,
            bytes: None,
            is_connected: false,
        };
        assert_eq!(
            of_an_archive.lag(by),
            "it replayed no commit since it was started, it received nothing but from an archive, and it is not connected to its primary"
        );
    }
}
