//! How our sessions at Postgres are really set: what we ask for is the last word of a client, and a pooler in between may drop it or have
//! another. For `waybill doctor` and `/readyz`.

use std::time::Duration;

use tokio_postgres::SimpleQueryRow;

/// What a session says of itself; milliseconds, for Postgres has units of its own in text.
pub(super) const OF_SESSION: &str =
    "select current_setting('transaction_read_only'), current_setting('synchronous_commit'),
        extract(epoch from current_setting('statement_timeout')::interval) * 1000,
        extract(epoch from current_setting('lock_timeout')::interval) * 1000";

/// How a session is set, beside what it was asked to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSettings {
    pub(super) is_read_only: bool,
    synchronous_commit: String,
    /// By name: as it is, and as it was asked for. Zero is for ever.
    timeouts: [(&'static str, Duration, Duration); 2],
}

impl SessionSettings {
    /// Of the answer to [`OF_SESSION`], where these times were asked for.
    pub(super) fn of(row: &SimpleQueryRow, statement_timeout: Duration, lock_timeout: Duration) -> SessionSettings {
        let text = |at| row.get(at).unwrap_or_default();
        let time = |at| {
            let millis: f64 = text(at).parse().unwrap_or_default();
            Duration::try_from_secs_f64(millis / 1000.0).unwrap_or_default()
        };
        SessionSettings {
            is_read_only: text(0) == "on",
            synchronous_commit: text(1).to_owned(),
            timeouts: [
                ("statement_timeout", time(2), statement_timeout),
                ("lock_timeout", time(3), lock_timeout),
            ],
        }
    }

    /// What is to be warned of, a sentence each.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let commits = (self.synchronous_commit == "off").then(|| {
            "synchronous_commit is off: a crash of Postgres loses the last commits, accepted orders and the record of charges among them; \
             set it to on"
                .to_owned()
        });
        commits.into_iter().chain(self.timeouts_not_as_asked())
    }

    /// A sentence about each time that is not as it was asked for.
    pub fn timeouts_not_as_asked(&self) -> impl Iterator<Item = String> {
        let others = self.timeouts.iter().filter(|(_, is, asked)| is != asked);
        others.map(|(name, is, asked)| {
            let is = if is.is_zero() {
                "none".to_owned()
            } else {
                format!("{is:?}")
            };
            format!(
                "{name} of the sessions is {is}, not the {asked:?} of postgres.{name}: a pooler in between drops or replaces what sessions \
                 are set to; give postgres.url the address of Postgres itself, or set it there for the role"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(synchronous_commit: &str, statement_ms: u64, lock_ms: u64) -> Vec<String> {
        let settings = SessionSettings {
            is_read_only: false,
            synchronous_commit: synchronous_commit.to_owned(),
            timeouts: [
                (
                    "statement_timeout",
                    Duration::from_millis(statement_ms),
                    Duration::from_secs(2),
                ),
                (
                    "lock_timeout",
                    Duration::from_millis(lock_ms),
                    Duration::from_millis(500),
                ),
            ],
        };
        settings.warnings().collect()
    }

    #[test]
    fn a_session_is_as_it_was_asked_for_or_there_is_a_warning() {
        assert_eq!(settings("on", 2_000, 500), [""; 0]);
        assert_eq!(settings("local", 2_000, 500), [""; 0]);
        for (found, said) in [
            (settings("off", 2_000, 500), "synchronous_commit is off"),
            (
                settings("on", 0, 500),
                "statement_timeout of the sessions is none, not the 2s",
            ),
            (settings("on", 60_000, 500), "statement_timeout of the sessions is 60s"),
            (
                settings("on", 2_000, 0),
                "lock_timeout of the sessions is none, not the 500ms",
            ),
        ] {
            assert!(found.len() == 1 && found[0].contains(said), "{found:?}");
        }
    }
}
