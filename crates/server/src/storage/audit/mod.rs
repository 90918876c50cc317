//! The audit: every guarantee that SQL can check, over the ledger and the evidence beside it.
//!
//! The ledger is in the tables, of which one snapshot is read. Other evidence goes with the checks where it is given: the provider's list of
//! movements, the answers that clients received, and the fixes that were acknowledged. Nothing is written, so a standby will do,
//! once it has what was committed before ([`standby`]).

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, IsolationLevel, Row, Transaction};
use uuid::Uuid;

pub(super) mod checks;
pub(super) mod standby;

use checks::EvidenceSource;
pub use checks::{CHECKS, Check};

use super::StoreError;
pub use super::movements::MovementColumns;
use super::postgres::Postgres;

/// The evidence beside the ledger. `None`: the source was not given, and its checks are not made.
#[derive(Debug, Default)]
pub struct Evidence {
    /// The provider's movements, all of them.
    pub movements: Option<MovementColumns>,
    /// Orders whose settled answer a client received, with the status in it.
    pub answered_orders: Option<Vec<(Uuid, String)>>,
    /// Fixes whose acknowledgement a client received.
    pub acknowledged_fixes: Option<Vec<(String, Timestamp)>>,
    /// Fixes that were read from the stream up to the history's cursor.
    pub passed_fixes: Option<Vec<(String, Timestamp)>>,
}

/// The result of a check.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// The violations, at most [`SHOWN_MAX`] of them; `None`: not checked, since its evidence was not given.
    pub violations: Option<Vec<String>>,
    /// How many there are.
    pub count: i64,
}

impl Finding {
    /// Which evidence is missing, if the check was not made.
    pub fn missing_evidence(&self) -> Option<&'static str> {
        if self.violations.is_some() {
            return None;
        }
        Some(match self.check.needs {
            EvidenceSource::Ledger => "",
            EvidenceSource::Movements => "the provider's ledger was not given (--payments-url)",
            EvidenceSource::AnsweredOrders => "no client's log of answers was given",
            EvidenceSource::AcknowledgedFixes => "no client's log of acknowledgements was given",
            EvidenceSource::PassedFixes => "the stream was not given (--redis-url)",
        })
    }
}

/// How many violations of one check are shown; all are counted.
pub const SHOWN_MAX: i64 = 20;

statements! {
    COUNT_FIXES = "select count(*) from driver_locations";
}

/// What an audit found.
#[derive(Debug)]
pub struct Audited {
    /// Every check, made or not.
    pub findings: Vec<Finding>,
    /// How many fixes the history holds.
    pub stored_fixes: i64,
}

/// Why an audit was not made.
#[derive(Debug, thiserror::Error)]
pub enum AuditFailure {
    /// Postgres failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A standby took over from its primary what contradicts the audit's snapshot, and ended it.
    #[error(
        "the standby cancelled the audit, whose snapshot was in the way of what it follows ({0}): set max_standby_streaming_delay (and \
         max_standby_archive_delay) there to longer than an audit takes, or hot_standby_feedback = on, and audit again"
    )]
    Cancelled(String),
    /// A standby does not have what was committed before: what the evidence has and its snapshot lacks would be found missing.
    #[error(
        "the standby is behind its primary: within {waited} s it did not have all that was committed by {by} ({lag}); audit again once it follows, or \
         audit the primary"
    )]
    Behind {
        /// By when, by the standby's clock.
        by: Timestamp,
        /// How long it was waited for, in seconds.
        waited: u64,
        /// How far it is.
        lag: String,
    },
}

/// Makes every check whose evidence is given, in one snapshot. A standby first has to have what was committed by now, and `is_waiting` is called with whether that is
/// waited for. So it is without evidence, too: a standby that lags shows orders as unsettled that have settled since.
pub async fn audit(
    postgres: &Postgres,
    evidence: &Evidence,
    is_waiting: impl Fn(bool),
) -> Result<Audited, AuditFailure> {
    let mut session = begin_session(postgres).await?;
    standby::until_replayed(&session, is_waiting).await?;
    let tx = session
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(StoreError::from)?;
    let mut findings = Vec::with_capacity(CHECKS.len());
    for check in CHECKS {
        findings.push(make(&tx, check, evidence).await?);
    }
    let fixes = tx.query_one(COUNT_FIXES.sql, &[]).await.map_err(failure)?;
    Ok(Audited {
        findings,
        stored_fixes: fixes.try_get(0).map_err(StoreError::from)?,
    })
}

async fn make(tx: &Transaction<'_>, check: &Check, evidence: &Evidence) -> Result<Finding, AuditFailure> {
    let rows = match check.needs {
        EvidenceSource::Ledger => Some(violations(tx, check, &[]).await?),
        EvidenceSource::Movements => match &evidence.movements {
            Some(movements) => Some(violations(tx, check, &movements.parameters()).await?),
            None => None,
        },
        EvidenceSource::AnsweredOrders => match &evidence.answered_orders {
            Some(answered) => {
                let (orders, statuses): (Vec<Uuid>, Vec<&str>) =
                    answered.iter().map(|(order, status)| (*order, status.as_str())).unzip();
                Some(violations(tx, check, &[&orders, &statuses]).await?)
            }
            None => None,
        },
        EvidenceSource::AcknowledgedFixes => of_fixes(tx, check, evidence.acknowledged_fixes.as_deref()).await?,
        EvidenceSource::PassedFixes => of_fixes(tx, check, evidence.passed_fixes.as_deref()).await?,
    };
    let (shown, count) = match &rows {
        Some(rows) => read(rows)?,
        None => (Vec::new(), 0),
    };
    Ok(Finding {
        check: *check,
        violations: rows.is_some().then_some(shown),
        count,
    })
}

async fn of_fixes(
    tx: &Transaction<'_>,
    check: &Check,
    fixes: Option<&[(String, Timestamp)]>,
) -> Result<Option<Vec<Row>>, AuditFailure> {
    let Some(fixes) = fixes else { return Ok(None) };
    let (drivers, times): (Vec<&str>, Vec<Timestamp>) = fixes.iter().map(|(driver, at)| (driver.as_str(), *at)).unzip();
    Ok(Some(violations(tx, check, &[&drivers, &times]).await?))
}

async fn violations(
    tx: &Transaction<'_>,
    check: &Check,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, AuditFailure> {
    // The count with each row: a table in which every row is a violation must not come as a whole.
    let counted = format!(
        "select violations.*, count(*) over () from ({}) violations limit {SHOWN_MAX}",
        check.statement.sql
    );
    tx.query(&counted, parameters).await.map_err(failure)
}

/// The violations that are shown, and how many there are.
fn read(rows: &[Row]) -> Result<(Vec<String>, i64), StoreError> {
    let shown = rows.iter().map(|row| Ok(row.try_get(0)?));
    let count = rows.first().map_or(Ok(0), |row| row.try_get(1))?;
    Ok((shown.collect::<Result<_, StoreError>>()?, count))
}

/// A snapshot that is only read contradicts no other transaction: only a standby says that it does.
fn failure(error: Error) -> AuditFailure {
    match error.as_db_error() {
        Some(said) if *said.code() == SqlState::T_R_SERIALIZATION_FAILURE => {
            AuditFailure::Cancelled(said.detail().unwrap_or_else(|| said.message()).to_owned())
        }
        _ => AuditFailure::Store(error.into()),
    }
}

/// A session of its own, out of the pool, that reads whole tables.
pub(super) async fn begin_session(postgres: &Postgres) -> Result<ClientWrapper, StoreError> {
    let session = postgres.client().await?.into_own();
    // The limits of ordinary statements are not for it; but it does not wait for a table for ever. To compile a statement takes longer than to
    // run it for a window.
    session
        .batch_execute(
            "set statement_timeout = 0; set lock_timeout = '1min'; set idle_in_transaction_session_timeout = 0;
             set plan_cache_mode = auto; set enable_seqscan = on; set enable_hashjoin = on; set enable_mergejoin = on",
        )
        .await?;
    Ok(session)
}
