//! What can go wrong between us and a store, by what the caller will do about it.

use deadpool_postgres::TimeoutType;
use thiserror::Error;
use tokio_postgres::error::SqlState;
use waybill_domain::id::OrderId;
use waybill_domain::order::IllegalTransition;

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
            StoreError::Fenced { .. } | StoreError::Unexpected(_) => StoreError::unexpected(self),
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
            StoreError::Fenced { .. } | StoreError::Unexpected(_) => CallOutcome::Success,
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
        let (unavailable, busy) = match error.code() {
            // No code: the connection itself failed, or a value could not be converted (a bug).
            None => {
                let is_io =
                    std::error::Error::source(&error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>);
                (error.is_closed() || is_io, false)
            }
            Some(code) => (is_transient(code), is_limit(code)),
        };
        if unavailable {
            StoreError::Unavailable { store: "postgres", why }
        } else if busy {
            StoreError::Busy { store: "postgres", why }
        } else {
            StoreError::Unexpected(why)
        }
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
                why: error.to_string(),
            },
        }
    }
}

/// Our own limits, which a slow statement or a held lock runs into: 57014 statement timeout, 55P03 lock timeout.
fn is_limit(code: &SqlState) -> bool {
    [
        SqlState::QUERY_CANCELED,
        SqlState::LOCK_NOT_AVAILABLE,
        // Of a trigger of ours: this server is not set to do it, and another one may be.
        SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
    ]
    .contains(code)
}

/// Classes of <https://www.postgresql.org/docs/15/errcodes-appendix.html> that pass by themselves: 08 connection, 53
/// resources, 57P operator intervention (restart), 40 rollback (deadlock); and of 25 that a transaction was ended which
/// was idle, or lasted, for too long.
fn is_transient(code: &SqlState) -> bool {
    let code = code.code();
    ["08", "53", "57P", "40", "25P03", "25P04"]
        .iter()
        .any(|class| code.starts_with(class))
}

/// The error with its causes: the driver's own text says only "db error".
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(why) = tls::failure("postgres", error) {
        return why;
    }
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_a_bug() {
        // A process that is suspended within a transaction finds it ended (25P03, 25P04), as it finds its connection.
        for code in ["08006", "53300", "57P01", "57P05", "40001", "40P01", "25P03", "25P04"] {
            assert!(is_transient(&SqlState::from_code(code)), "{code}");
        }
        for code in ["25P02", "25001", "23505", "42P01", "57014"] {
            assert!(!is_transient(&SqlState::from_code(code)), "{code}");
        }
    }
}
