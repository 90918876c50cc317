//! Brings the schema to this version, and checks whether it is.
//!
//! Each pending migration runs in a transaction of its own, all of them under one advisory lock: two instances that start at once do not race, a
//! migration that fails leaves nothing of it behind, and one has no table while the next one waits. One that waits for a table would make all that come after it wait, too:
//! it waits for a moment, lets them pass, and begins again. An applied file is never edited; its checksum is kept to see that.
//!
//! Lines that begin with `--!` say what else is so of a file. `--! outside a transaction`: its statements run one by one, each by itself, as
//! `create index concurrently if not exists` has to; what an interrupted one left is dropped before. `--! oldest program: 25`: programs that
//! know the migrations up to 25 run on a database that has this one. Without that line only those that know it do.

use std::cmp::Ordering;
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Transaction};
use sha2::{Digest as _, Sha256};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};
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
    "0026_schema_compatibility",
    "0027_order_lists",
    "0028_orders_by_user",
];

/// The first migration after which the database knows which programs run on it.
const KNOWS_PROGRAMS: i32 = 26;

impl Migration {
    /// Its number and its name.
    fn id(&self) -> (i32, &'static str) {
        let (number, name) = self.file.split_once('_').unwrap_or_default();
        (number.parse().unwrap_or_default(), name)
    }

    fn checksum(&self) -> Vec<u8> {
        Sha256::digest(self.sql.as_bytes()).to_vec()
    }

    /// What its lines `--!` say.
    fn remarks(&self) -> impl Iterator<Item = &'static str> {
        self.sql
            .lines()
            .filter_map(|line| line.strip_prefix("--!"))
            .map(str::trim)
    }

    fn is_outside_a_transaction(&self) -> bool {
        self.remarks().any(|remark| remark == "outside a transaction")
    }

    /// The newest migration that a program must know at least to run on a database that has this one.
    fn oldest_program(&self) -> i32 {
        let oldest = self
            .remarks()
            .find_map(|remark| remark.strip_prefix("oldest program: "));
        oldest
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| self.id().0)
    }

    /// Its statements, of which none has a `;` within it. For those that run one by one.
    fn statements(&self) -> Vec<String> {
        let lines = self.sql.lines().filter(|line| !line.starts_with("--"));
        let code: Vec<&str> = lines.collect();
        let statements = code.join("\n");
        let statements = statements.split(';').map(str::trim);
        statements
            .filter(|statement| !statement.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

/// The advisory lock that migrating instances take: "waybill" in ASCII.
const LOCK: i64 = 0x0077_6179_6269_6c6c;

/// How long a migration waits for a table.
const LOCK_TIMEOUT: &str = "500ms";
/// How long it lets others pass before it tries again, and how often it does: for about two minutes.
const PAUSE: Duration = Duration::from_secs(1);
const WAITS_MAX: u32 = 80;
/// How long an index that is made beside the work waits for what began before it. It keeps no one waiting meanwhile, and is made anew from its
/// beginning if it gives up.
const OLDER_TRANSACTIONS_MAX: &str = "10min";
/// How often it is looked whether another instance is done.
const LOOK_EVERY: Duration = Duration::from_millis(200);

const CREATE_TABLE: &str = "create table if not exists schema_migrations (
    version integer primary key,
    name text not null,
    checksum bytea not null,
    applied_at timestamptz not null default now())";

statements! {
    TABLE_EXISTS = "select to_regclass('schema_migrations') is not null";
    /// The last column is younger than the table.
    APPLIED = "select version, name, checksum, (to_jsonb(m) ->> 'oldest_program')::integer as oldest_program
                 from schema_migrations m order by version";
    RECORD = "insert into schema_migrations (version, name, checksum) values ($1, $2, $3)";
    RECORD_OLDEST = "update schema_migrations set oldest_program = $2 where version = $1";
    TAKE_LOCK = "select pg_try_advisory_lock($1)";
    /// Indexes of this text that are not whole: of an attempt that was interrupted.
    INTERRUPTED = "select format('drop index concurrently if exists %I', c.relname)
                     from pg_index i
                     join pg_class c on c.oid = i.indexrelid
                    where not i.indisvalid and c.relnamespace = current_schema()::regnamespace
                       and position(c.relname::text in $1) > 0";
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
    /// A newer program brought it further, and this one runs on it, too.
    Newer {
        /// How many migrations it does not know.
        unknown: usize,
    },
    /// It has a migration that this program knows otherwise, or one that it would have to know.
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
    take_lock(&session).await?;
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

/// Asks again and again: who waits for a lock has a snapshot, and an index that is made beside the work waits for all who have an older one.
async fn take_lock(session: &Client) -> Result<(), StoreError> {
    let mut waits = false;
    while !session
        .query_one(TAKE_LOCK.sql, &[&LOCK])
        .await?
        .try_get::<_, bool>(0)?
    {
        if !waits {
            info!("another instance migrates");
            waits = true;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
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
    let applied = session.query(APPLIED.sql, &[]).await?;
    if let Some(why) = foreign(&applied)? {
        return Err(StoreError::unexpected(why));
    }
    let Some(migration) = MIGRATIONS.get(applied.len()) else {
        return Ok(Next::None);
    };
    if migration.is_outside_a_transaction() {
        run_outside(session, migration).await?;
    }
    let tx = session.transaction().await?;
    if migration.is_outside_a_transaction() {
        record(&tx, migration).await?;
        tx.commit().await?;
        return Ok(Next::Ran(migration.id().1));
    }
    match tx.batch_execute(migration.sql).await {
        Ok(()) => {}
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => return Ok(Next::Waits(error.into())),
        Err(error) => return Err(error.into()),
    }
    record(&tx, migration).await?;
    tx.commit().await?;
    Ok(Next::Ran(migration.id().1))
}

async fn record(tx: &Transaction<'_>, migration: &Migration) -> Result<(), StoreError> {
    let (version, name) = migration.id();
    tx.execute(RECORD.sql, &[&version, &name, &migration.checksum()])
        .await?;
    if version >= KNOWS_PROGRAMS {
        tx.execute(RECORD_OLDEST.sql, &[&version, &migration.oldest_program()])
            .await?;
    }
    Ok(())
}

/// Runs the statements of a migration one by one. What is done stays, should a later one fail: a second run finds it there.
async fn run_outside(session: &Client, migration: &Migration) -> Result<(), StoreError> {
    let left = session.query(INTERRUPTED.sql, &[&migration.sql]).await?;
    let mut statements = left
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<Vec<String>, _>>()?;
    statements.extend(migration.statements());
    // To drop what is left waits for the same transactions.
    session
        .batch_execute(&format!("set lock_timeout = '{OLDER_TRANSACTIONS_MAX}'"))
        .await?;
    for statement in statements {
        match session.batch_execute(&statement).await {
            Ok(()) => {}
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                let (version, name) = migration.id();
                return Err(StoreError::unexpected(format!(
                    "migration {version} ({name}) waited {OLDER_TRANSACTIONS_MAX} for transactions that began before it: end them \
                     (pg_stat_activity, the oldest xact_start) or wait for their end, and migrate again"
                )));
            }
            Err(error) => return Err(error.into()),
        }
    }
    session
        .batch_execute(&format!("set lock_timeout = '{LOCK_TIMEOUT}'"))
        .await?;
    Ok(())
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
    let (ours, theirs) = (MIGRATIONS.len(), applied.len());
    Ok(match ours.cmp(&theirs) {
        Ordering::Equal => SchemaState::Current,
        Ordering::Greater => SchemaState::Behind { pending: ours - theirs },
        Ordering::Less => SchemaState::Newer { unknown: theirs - ours },
    })
}

/// Why this program does not run on a database with these migrations, nor brings it further.
fn foreign(applied: &[Row]) -> Result<Option<String>, StoreError> {
    let newest = MIGRATIONS.last().map_or(0, |migration| migration.id().0);
    for (index, row) in applied.iter().enumerate() {
        let version: i32 = row.try_get("version")?;
        let name: &str = row.try_get("name")?;
        let sum: &[u8] = row.try_get("checksum")?;
        match MIGRATIONS.get(index) {
            None => {
                let oldest: Option<i32> = row.try_get("oldest_program")?;
                if oldest.unwrap_or(version) > newest {
                    return Ok(Some(format!(
                        "the database has migration {version} ({name}), which a newer Waybill made and programs that know no migration \
                         after {newest}, as this one, cannot work with"
                    )));
                }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::migration_rules;

    /// The last file before programs of two versions could run on one database.
    const LAST_ALONE: i32 = 25;

    #[test]
    fn migrations_expand_what_servers_of_the_version_before_work_on() {
        for migration in MIGRATIONS.iter().filter(|migration| migration.id().0 > LAST_ALONE) {
            let (file, number) = (migration.file, migration.id().0);
            let oldest = migration.oldest_program();
            assert!((LAST_ALONE..number).contains(&oldest), "{file}: {oldest}");
            let refused = if migration.is_outside_a_transaction() {
                let statements = migration_rules::statements(migration.sql);
                assert_eq!(
                    migration.statements().len(),
                    statements.len(),
                    "{file} has a `;` within a statement"
                );
                migration_rules::refused_outside(migration.sql)
            } else {
                migration_rules::refused_in_a_transaction(migration.sql)
            };
            assert_eq!(refused, Vec::<String>::new(), "{file} keeps servers waiting");
        }
    }
}
