//! SQL texts as named constants, so that one test can prepare every one of them on a real Postgres.

use deadpool_postgres::{Client, Transaction};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::StoreError;

/// One SQL text of the program.
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    /// Its name in the source.
    pub name: &'static str,
    /// Its text.
    pub sql: &'static str,
}

/// Declares the statements of a module, and the list of them that the prepare-all test reads.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* const $name: $crate::storage::Statement =
            $crate::storage::Statement { name: stringify!($name), sql: $sql };)+

        /// Every statement of this module.
        pub(in $crate::storage) const STATEMENTS: &[$crate::storage::Statement] = &[$($name),+];
    };
}

/// A condition on a row that is found by its key, in words that no partial index has: else Postgres, as long as it knows nothing of a table,
/// may read all of that index for the one row.
macro_rules! of_found {
    ($condition:expr) => {
        concat!("(", $condition, ") is true")
    };
}

/// Runs statements of one transaction without waiting for an answer in between. The first that fails is the error: those after it only say that one
/// before them did.
macro_rules! pipelined {
    ($($statement:expr),+ $(,)?) => {{
        use $crate::storage::statement::Pipelined as _;
        tokio::join!(biased; $($statement),+).all()
    }};
}

/// The results of statements that were sent together.
pub(super) trait Pipelined {
    /// What they gave.
    type All;

    fn all(self) -> Result<Self::All, StoreError>;
}

macro_rules! impl_pipelined {
    ($($result:ident: $type:ident),+) => {
        impl<$($type),+> Pipelined for ($(Result<$type, StoreError>,)+) {
            type All = ($($type,)+);

            fn all(self) -> Result<Self::All, StoreError> {
                let ($($result,)+) = self;
                match ($($result,)+) {
                    ($(Ok($result),)+) => Ok(($($result,)+)),
                    ($($result,)+) => Err(first([$($result.err()),+])),
                }
            }
        }
    };
}

impl_pipelined!(a: A, b: B);
impl_pipelined!(a: A, b: B, c: C);

/// The error that the others follow from.
fn first<const N: usize>(errors: [Option<StoreError>; N]) -> StoreError {
    let mut errors: Vec<StoreError> = errors.into_iter().flatten().collect();
    let at = errors.iter().position(|error| !matches!(error, StoreError::Aborted(_)));
    errors.swap_remove(at.unwrap_or_default())
}

impl Statement {
    /// Has it ready on this connection: it is sent as soon as it is asked for, before whatever is asked for after it.
    pub(super) async fn prepare(self, tx: &Transaction<'_>) -> Result<(), StoreError> {
        tx.prepare_cached(self.sql).await?;
        Ok(())
    }

    /// Runs it as a transaction of its own, in one round trip; its rows, once that is committed.
    pub(super) async fn run_alone(
        self,
        client: &Client,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let prepared = client.prepare_cached(self.sql).await?;
        Ok(client.query(&prepared, params).await?)
    }

    /// Runs it in a transaction; the number of rows that it changed.
    pub(super) async fn execute(self, tx: &Transaction<'_>, params: &[&(dyn ToSql + Sync)]) -> Result<u64, StoreError> {
        let prepared = tx.prepare_cached(self.sql).await?;
        Ok(tx.execute(&prepared, params).await?)
    }

    /// Runs it in a transaction; its row, if it gives one.
    pub(super) async fn query_opt(
        self,
        tx: &Transaction<'_>,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, StoreError> {
        let prepared = tx.prepare_cached(self.sql).await?;
        Ok(tx.query_opt(&prepared, params).await?)
    }

    /// Runs it in a transaction; its rows.
    pub(super) async fn query(
        self,
        tx: &Transaction<'_>,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let prepared = tx.prepare_cached(self.sql).await?;
        Ok(tx.query(&prepared, params).await?)
    }

    /// Runs it in a transaction; its one row.
    pub(super) async fn query_one(
        self,
        tx: &Transaction<'_>,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, StoreError> {
        let prepared = tx.prepare_cached(self.sql).await?;
        Ok(tx.query_one(&prepared, params).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_statements_that_were_sent_together_the_cause_is_the_error() {
        let aborted = || StoreError::Aborted("25P02".to_owned());
        let busy = || StoreError::Busy {
            store: "postgres",
            why: "55P03".to_owned(),
        };
        for failed in [
            (Err(busy()), Err(aborted()), Err(aborted())),
            (Err(aborted()), Err(busy()), Err(aborted())),
            (Err(aborted()), Err(aborted()), Err(busy())),
            (Ok(1), Err(aborted()), Err(busy())),
        ] as [(Result<i32, _>, Result<i32, _>, Result<i32, _>); 4]
        {
            assert!(matches!(failed.all(), Err(StoreError::Busy { .. })));
        }
        assert_eq!((Ok::<_, StoreError>(1), Ok("two")).all().unwrap(), (1, "two"));
        assert!(matches!(
            (Ok::<_, StoreError>(1), Err::<(), _>(aborted())).all(),
            Err(StoreError::Aborted(_))
        ));
    }
}
