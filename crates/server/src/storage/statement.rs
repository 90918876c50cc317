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
