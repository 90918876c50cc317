//! Whether what Postgres has committed survives its crash, and the loss of its machine: for `waybill doctor`.

use super::StoreError;
use super::postgres::Postgres;

statements! {
    /// Whoever may not see the standbys' states sees null there. A base backup is no standby.
    READ_DURABILITY = "select current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
                              count(*), count(*) filter (where sync_state in ('sync', 'quorum')),
                              count(*) filter (where sync_state is null)
                         from pg_stat_replication
                        where state is distinct from 'backup'";
}

/// How the database that we commit to is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitDurability {
    /// `synchronous_commit`, as our sessions have it.
    pub synchronous_commit: String,
    /// `synchronous_standby_names`; empty if commits wait for no standby.
    pub synchronous_standby_names: String,
    /// Standbys that replicate.
    pub standbys: i64,
    /// Those of them for which commits wait.
    pub synchronous: i64,
    /// Those of which we may not see whether they are.
    pub hidden: i64,
}

impl Postgres {
    /// Reads it.
    pub async fn commit_durability(&self) -> Result<CommitDurability, StoreError> {
        let row = self.query_opt(READ_DURABILITY, &[]).await?;
        let row = row.ok_or_else(|| StoreError::unexpected("a count has no row"))?;
        Ok(CommitDurability {
            synchronous_commit: row.try_get(0)?,
            synchronous_standby_names: row.try_get(1)?,
            standbys: row.try_get(2)?,
            synchronous: row.try_get(3)?,
            hidden: row.try_get(4)?,
        })
    }
}
