//! Brings the schema to this version, and checks whether it is.
//!
//! Each pending migration runs in a transaction of its own, all of them under one advisory lock: two instances that start at once do not race, a
//! migration that fails leaves nothing of it behind, and one has no table while the next one waits. One that waits for a table would make all that come after it wait, too:
//! it waits for a moment, lets them pass, and begins again. An applied file is never edited; its checksum is kept to see that.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tracing::info;

use super::StoreError;
use super::postgres::Postgres;

/// One file of `migrations/`: `NNNN_name`, and its text.
struct Migration {
    file: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($file:literal),+ $(,)?) => {
        &[$(Migration {
            file: $file,
            sql: include_str!(concat!("../../../../migrations/", $file, ".sql")),
        }),+]
    };
}

const MIGRATIONS: &[Migration] = migrations![
    "0001_orders",
    "0002_locations",
    "0003_reassignments",
    "0004_answers",
    "0005_payment_events",
    "0006_attempts",
    "0007_drivers_active_order",
    "0008_amounts",
    "0009_due_requests",
    "0010_settlement_time",
    "0011_provider_customer",
    "0012_payment_keys",
    "0013_refunds",
    "0014_holds",
    "0015_movements_by_time",
    "0016_api_keys",
    "0017_order_shares",
    "0018_requested_by",
    "0019_tenants",
    "0020_payment_account",
    "0021_link_expiry",
    "0022_driver_duty",
    "0023_trails",
    "0024_erasure",
    "0025_stream_epoch",
];

impl Migration {
    /// Its number and its name.
    fn id(&self) -> (i32, &'static str) {
        let (number, name) = self.file.split_once('_').unwrap_or_default();
        (number.parse().unwrap_or_default(), name)
    }

    fn checksum(&self) -> Vec<u8> {
        Sha256::digest(self.sql.as_bytes()).to_vec()
    }
}

/// The advisory lock that migrating instances take: "waybill" in ASCII.
const LOCK: i64 = 0x0077_6179_6269_6c6c;

/// How long a migration waits for a table.
const LOCK_TIMEOUT: &str = "500ms";
/// How long it lets others pass before it tries again, and how often it does: for about two minutes.
const PAUSE: Duration = Duration::from_secs(1);
const WAITS_MAX: u32 = 80;

const CREATE_TABLE: &str = "create table if not exists schema_migrations (
    version integer primary key,
    name text not null,
    checksum bytea not null,
    applied_at timestamptz not null default now())";

statements! {
    TABLE_EXISTS = "select to_regclass('schema_migrations') is not null";
    APPLIED = "select version, name, checksum from schema_migrations order by version";
    RECORD = "insert into schema_migrations (version, name, checksum) values ($1, $2, $3)";
}

/// How the database's schema stands to this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaState {
    /// It is this program's.
    Current,
    /// Some migrations are still to run.
    Behind {
        /// How many.
        pending: usize,
    },
    /// It has a migration that this program does not know, or knows otherwise.
    Foreign {
        /// What, for people.
        why: String,
    },
}

/// Runs what is pending; the names of the migrations that ran.
pub async fn migrate(postgres: &Postgres) -> Result<Vec<&'static str>, StoreError> {
    // A session of its own, out of the pool: its lock goes with it.
    let mut session = postgres.client().await?.into_own();
    // A migration may rewrite a large table, and another instance may be at it: the limits of ordinary statements are not for it.
    session
        .batch_execute("set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0")
        .await?;
    session.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
    session.batch_execute(CREATE_TABLE).await?;
    session
        .batch_execute(&format!("set lock_timeout = '{LOCK_TIMEOUT}'"))
        .await?;
    let (mut ran, mut waits) = (Vec::new(), 0);
    loop {
        match run_next(&mut session).await? {
            Next::Ran(name) => ran.push(name),
            Next::None => return Ok(ran),
            Next::Waits(error) if waits == WAITS_MAX => return Err(error),
            Next::Waits(error) => {
                if waits == 0 {
                    info!(%error, "a migration waits for a table that a long transaction has");
                }
                waits += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// What became of the first migration that is pending.
enum Next {
    Ran(&'static str),
    /// None is.
    None,
    /// Another session has a table that it needs.
    Waits(StoreError),
}

async fn run_next(session: &mut ClientWrapper) -> Result<Next, StoreError> {
    let tx = session.transaction().await?;
    let applied = tx.query(APPLIED.sql, &[]).await?;
    if let Some(why) = foreign(&applied)? {
        return Err(StoreError::unexpected(why));
    }
    let Some(migration) = MIGRATIONS.get(applied.len()) else {
        return Ok(Next::None);
    };
    match tx.batch_execute(migration.sql).await {
        Ok(()) => {}
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(Next::Waits(error.into())),
        Err(error) => return Err(error.into()),
    }
    let (version, name) = migration.id();
    tx.execute(RECORD.sql, &[&version, &name, &migration.checksum()])
        .await?;
    tx.commit().await?;
    Ok(Next::Ran(name))
}

/// Compares the database's schema with this program's.
pub async fn schema_state(postgres: &Postgres) -> Result<SchemaState, StoreError> {
    let exists: bool = match postgres.query_opt(TABLE_EXISTS, &[]).await? {
        Some(row) => row.try_get(0)?,
        None => false,
    };
    if !exists {
        return Ok(SchemaState::Behind {
            pending: MIGRATIONS.len(),
        });
    }
    let applied = postgres.query(APPLIED, &[]).await?;
    if let Some(why) = foreign(&applied)? {
        return Ok(SchemaState::Foreign { why });
    }
    match MIGRATIONS.len().saturating_sub(applied.len()) {
        0 => Ok(SchemaState::Current),
        pending => Ok(SchemaState::Behind { pending }),
    }
}

/// Why the applied migrations are not a beginning of ours.
fn foreign(applied: &[Row]) -> Result<Option<String>, StoreError> {
    for (index, row) in applied.iter().enumerate() {
        let version: i32 = row.try_get("version")?;
        let name: &str = row.try_get("name")?;
        let sum: &[u8] = row.try_get("checksum")?;
        match MIGRATIONS.get(index) {
            None => {
                return Ok(Some(format!(
                    "the database has migration {version} ({name}), which a newer Waybill made"
                )));
            }
            Some(ours) if ours.id() != (version, name) || ours.checksum() != sum => {
                return Ok(Some(format!(
                    "migration {version} ({name}) of the database is not the one of this Waybill"
                )));
            }
            Some(_) => {}
        }
    }
    Ok(None)
}
