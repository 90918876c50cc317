//! What can go wrong between us and a store, by what the caller will do about it.

use deadpool_postgres::{HookError, TimeoutType};
use thiserror::Error;
use waybill_domain::id::OrderId;
use waybill_domain::order::IllegalTransition;

use super::sqlstate::Meaning;
use super::tls;
use crate::resilience::{CallOutcome, GuardError};

/// A store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The store cannot be reached, is too slow or refuses for now. What was asked may or may not have happened: a
    /// commit whose answer was lost is one of these. Try later.
    #[error("{store} is not available: {why}")]
    Unavailable {
        /// Which: `postgres` or `redis`.
        store: &'static str,
        /// For the log.
        why: String,
    },
    /// The call found no room or was too slow, which says nothing of the store: our own pool is full, a lock was held,
    /// a statement ran too long. Try later.
    #[error("{store} is not available: {why}")]
    Busy {
        /// Which: `postgres`.
        store: &'static str,
        /// For the log.
        why: String,
    },
    /// The lease on the order is lost: another worker has it. Stop, say nothing.
    #[error("the lease on order {order} with fence {fence} is lost")]
    Fenced {
        /// Which order.
        order: OrderId,
        /// The fence that no longer holds.
        fence: i64,
    },
    /// An earlier statement of the same transaction failed. Its error is the one to report.
    #[error("an earlier statement of the transaction failed: {0}")]
    Aborted(String),
    /// The store's answer makes no sense to this version: a bug, a corrupted row, a schema of another version.
    #[error("{0}")]
    Unexpected(String),
}

impl StoreError {
    pub(crate) fn unexpected(why: impl std::fmt::Display) -> StoreError {
        StoreError::Unexpected(why.to_string())
    }

    /// The same, for another caller of the transaction that failed.
    pub(super) fn for_another(&self) -> StoreError {
        match self {
            StoreError::Unavailable { store, why } => StoreError::Unavailable {
                store,
                why: why.clone(),
            },
            StoreError::Busy { store, why } => StoreError::Busy {
                store,
                why: why.clone(),
            },
            StoreError::Fenced { .. } | StoreError::Aborted(_) | StoreError::Unexpected(_) => {
                StoreError::unexpected(self)
            }
        }
    }

    /// Of a call behind the guard of this store: its own error, or that there was no answer.
    pub(super) fn of_guard(store: &'static str, error: GuardError<StoreError>) -> StoreError {
        match error {
            GuardError::Failed(error) => error,
            GuardError::Refused(_) | GuardError::TimedOut => StoreError::Unavailable {
                store,
                why: error.to_string(),
            },
        }
    }

    /// What it says about the store: only trouble of the store itself counts against it, an answer does not.
    pub(super) fn breaker_outcome(&self) -> CallOutcome {
        match self {
            StoreError::Unavailable { .. } => CallOutcome::Failure,
            StoreError::Busy { .. } => CallOutcome::Neutral,
            StoreError::Fenced { .. } | StoreError::Aborted(_) | StoreError::Unexpected(_) => CallOutcome::Success,
        }
    }

    /// Whether the connection that it came by is of no use any more.
    pub(super) fn ends_session(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. })
    }

    /// Whether the same may be done later.
    pub(crate) fn may_be_retried(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. } | StoreError::Busy { .. })
    }

    /// Of Postgres, which answered with a code of this meaning.
    pub(super) fn of_meaning(meaning: Meaning, why: String) -> StoreError {
        match meaning {
            Meaning::Away => StoreError::Unavailable { store: "postgres", why },
            Meaning::Busy => StoreError::Busy { store: "postgres", why },
            Meaning::Aborted => StoreError::Aborted(why),
            Meaning::Refused => StoreError::Unexpected(why),
        }
    }
}

impl From<IllegalTransition> for StoreError {
    fn from(error: IllegalTransition) -> StoreError {
        StoreError::unexpected(error)
    }
}

impl From<tokio_postgres::Error> for StoreError {
    fn from(error: tokio_postgres::Error) -> StoreError {
        let why = describe(&error);
        let meaning = match error.code() {
            Some(code) => Meaning::of(code),
            // The connection itself failed, or a value could not be converted (a bug).
            None if error.is_closed()
                || std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>) =>
            {
                Meaning::Away
            }
            None => Meaning::Refused,
        };
        StoreError::of_meaning(meaning, why)
    }
}

impl From<deadpool_postgres::PoolError> for StoreError {
    fn from(error: deadpool_postgres::PoolError) -> StoreError {
        match error {
            deadpool_postgres::PoolError::Backend(error) => StoreError::Unavailable {
                store: "postgres",
                why: describe(&error),
            },
            deadpool_postgres::PoolError::Timeout(TimeoutType::Wait) => StoreError::Busy {
                store: "postgres",
                why: "all connections are busy".to_owned(),
            },
            deadpool_postgres::PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
            // The message says it, without the hook's name.
            deadpool_postgres::PoolError::PostCreateHook(HookError::Message(why)) => StoreError::Unavailable {
                store: "postgres",
                why: why.into_owned(),
            },
            other => StoreError::Unavailable {
                store: "postgres",
                why: other.to_string(),
            },
        }
    }
}

impl From<redis::RedisError> for StoreError {
    fn from(error: redis::RedisError) -> StoreError {
        use redis::{ErrorKind, ServerErrorKind};
        if let Some(why) = tls::failure("redis", &error) {
            return StoreError::Unavailable { store: "redis", why };
        }
        match error.kind() {
            ErrorKind::UnexpectedReturnType | ErrorKind::InvalidClientConfig | ErrorKind::Client => {
                StoreError::Unexpected(error.to_string())
            }
            ErrorKind::Server(ServerErrorKind::ResponseError) => StoreError::Unexpected(error.to_string()),
            _ => StoreError::Unavailable {
                store: "redis",
                why: describe_redis(&error),
            },
        }
    }
}

/// Why a session is not used: without the limits of statements and locks one caller could hold up all others.
pub(super) const NOT_AS_ASKED: &str = "sessions are not set as they were asked for: a pooler such as PgBouncer is in between; give postgres.url the address of Postgres itself";

/// The error as Redis itself writes it, by which it is searched for: the driver has names of its own for some.
fn describe_redis(error: &redis::RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}

/// The error with its causes: the driver's own text says only "db error".
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(why) = tls::failure("postgres", error) {
        return why;
    }
    match (error.as_db_error(), std::error::Error::source(error)) {
        // What passes parameters on, or refuses those that it cannot, is no Postgres.
        (Some(db), _) if db.message().contains("unsupported startup parameter") => NOT_AS_ASKED.to_owned(),
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio_postgres::error::SqlState;

    use super::*;
    use crate::storage::sqlstate::TABLE;

    fn meaning(code: &str) -> Meaning {
        Meaning::of(&SqlState::from_code(code))
    }

    #[test]
    fn each_row_is_reached_and_says_what_becomes_of_call_breaker_and_connection() {
        for (prefix, expected, what) in TABLE {
            assert_eq!(meaning(prefix), expected, "{prefix}: {what}");
            let error = StoreError::of_meaning(expected, what.to_owned());
            let (retried, outcome, thrown_away) = match expected {
                Meaning::Away => (true, CallOutcome::Failure, true),
                Meaning::Busy => (true, CallOutcome::Neutral, false),
                Meaning::Aborted | Meaning::Refused => (false, CallOutcome::Success, false),
            };
            assert_eq!(error.may_be_retried(), retried, "{prefix}");
            assert_eq!(error.breaker_outcome(), outcome, "{prefix}");
            assert_eq!(error.ends_session(), thrown_away, "{prefix}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_told_from_a_bug() {
        let ended = [
            "57P01", "57P02", "57P03", "57P04", "57P05", "25P03", "25P04", "08000", "08003", "08006", "08P01",
        ];
        let demoted = ["25006", "53300", "53100", "58030", "28P01", "3D000", "0A000", "26000"];
        for code in ended.into_iter().chain(demoted) {
            assert_eq!(meaning(code), Meaning::Away, "{code}");
        }
        for code in ["40001", "40P01", "55P03", "57014"] {
            assert_eq!(meaning(code), Meaning::Busy, "{code}");
        }
        for code in ["25001", "23505", "42P01", "22001", "XX000"] {
            assert_eq!(meaning(code), Meaning::Refused, "{code}");
        }
        assert_eq!(meaning("25P02"), Meaning::Aborted);
    }
}
