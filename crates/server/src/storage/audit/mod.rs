//! The audit: every guarantee that SQL can check, over the ledger and the evidence beside it.
//!
//! The ledger is in the tables. Other evidence is loaded beside it where it is given: the provider's list of movements, the
//! answers that clients received, and the fixes that were acknowledged.

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::Client;
use uuid::Uuid;

pub(super) mod checks;

use checks::EvidenceSource;
pub use checks::{CHECKS, Check};

use super::StoreError;
use super::movements::{Movement, find_orders, load_movements};
use super::postgres::Postgres;

/// The evidence beside the ledger. `None`: the source was not given, and its checks are not made.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Whether the provider's movements were added to the session, all of them.
    pub has_movements: bool,
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

/// The tables of the evidence. They live as long as their session.
pub const CREATE_EVIDENCE_TABLES: &str = "
    create temporary table provider_movements (kind text, order_id uuid, provider_id text, amount bigint, currency text,
                                                     account text);
    create temporary table answered_orders (order_id uuid, status text);
    create temporary table acknowledged_fixes (driver_id text, recorded_at timestamptz);
    create temporary table passed_fixes (driver_id text, recorded_at timestamptz)";

statements! {
    LOAD_ANSWERED = "insert into answered_orders select * from unnest($1::uuid[], $2::text[])";
    LOAD_ACKNOWLEDGED = "insert into acknowledged_fixes select * from unnest($1::text[], $2::timestamptz[])";
    LOAD_PASSED = "insert into passed_fixes select * from unnest($1::text[], $2::timestamptz[])";

    COUNT_FIXES = "select count(*) from driver_locations";
}

/// A session in which evidence is gathered beside the ledger, a part after another, and then judged. No transaction is open
/// in between: the provider may be asked for the next part. Its tables end with it.
pub struct AuditSession {
    session: ClientWrapper,
}

impl AuditSession {
    /// Begins one, with no evidence yet.
    pub async fn begin(postgres: &Postgres) -> Result<AuditSession, StoreError> {
        let session = begin_session(postgres).await?;
        Ok(AuditSession { session })
    }

    /// Adds movements of the provider.
    pub async fn add_movements(&self, movements: &[Movement]) -> Result<(), StoreError> {
        load_movements(&*self.session, movements).await
    }

    /// Makes every check whose evidence is given.
    pub async fn audit(self, evidence: &Evidence) -> Result<Vec<Finding>, StoreError> {
        let session = &*self.session;
        if evidence.has_movements {
            find_orders(session).await?;
        }
        load(session, evidence).await?;
        let mut findings = Vec::with_capacity(CHECKS.len());
        for check in CHECKS {
            findings.push(make(session, check, evidence).await?);
        }
        Ok(findings)
    }
}

async fn make(session: &Client, check: &Check, evidence: &Evidence) -> Result<Finding, StoreError> {
    let given = match check.needs {
        EvidenceSource::Ledger => true,
        EvidenceSource::Movements => evidence.has_movements,
        EvidenceSource::AnsweredOrders => evidence.answered_orders.is_some(),
        EvidenceSource::AcknowledgedFixes => evidence.acknowledged_fixes.is_some(),
        EvidenceSource::PassedFixes => evidence.passed_fixes.is_some(),
    };
    if !given {
        return Ok(Finding {
            check: *check,
            violations: None,
            count: 0,
        });
    }
    // The count with each row: a table in which every row is a violation must not come as a whole.
    let counted = format!(
        "select violations.*, count(*) over () from ({}) violations limit {SHOWN_MAX}",
        check.statement.sql
    );
    let rows = session.query(&counted, &[]).await?;
    let violations = rows.iter().map(|row| Ok(row.try_get(0)?));
    Ok(Finding {
        check: *check,
        violations: Some(violations.collect::<Result<_, StoreError>>()?),
        count: rows.first().map_or(Ok(0), |row| row.try_get(1))?,
    })
}

/// How many fixes the history holds.
pub async fn count_fixes(postgres: &Postgres) -> Result<i64, StoreError> {
    let client = postgres.client().await?;
    Ok(client.query_one(COUNT_FIXES.sql, &[]).await?.try_get(0)?)
}

/// A session of its own, out of the pool, with the tables of the evidence in it, empty.
pub(super) async fn begin_session(postgres: &Postgres) -> Result<ClientWrapper, StoreError> {
    let session = postgres.client().await?.into_own();
    // Whole tables are read here: the limits of ordinary statements are not for it. To compile a statement takes longer than to
    // run it for a window.
    session
        .batch_execute(
            "set statement_timeout = 0; set plan_cache_mode = auto; set enable_seqscan = on; set enable_hashjoin = on; set enable_mergejoin = on",
        )
        .await?;
    session.batch_execute(CREATE_EVIDENCE_TABLES).await?;
    Ok(session)
}

async fn load(session: &Client, evidence: &Evidence) -> Result<(), StoreError> {
    if let Some(answered) = &evidence.answered_orders {
        let (orders, statuses): (Vec<Uuid>, Vec<&str>) =
            answered.iter().map(|(order, status)| (*order, status.as_str())).unzip();
        session.execute(LOAD_ANSWERED.sql, &[&orders, &statuses]).await?;
    }
    load_fixes(session, LOAD_ACKNOWLEDGED, evidence.acknowledged_fixes.as_deref()).await?;
    load_fixes(session, LOAD_PASSED, evidence.passed_fixes.as_deref()).await?;
    // The planner has no statistics of a table that was just filled, and would loop over it.
    session
        .batch_execute(
            "analyze provider_movements; analyze answered_orders; analyze acknowledged_fixes; analyze passed_fixes",
        )
        .await?;
    Ok(())
}

async fn load_fixes(
    session: &Client,
    statement: super::Statement,
    fixes: Option<&[(String, Timestamp)]>,
) -> Result<(), StoreError> {
    // In parts: a day of a city is half a million of them.
    for part in fixes.unwrap_or_default().chunks(50_000) {
        let (drivers, times): (Vec<&str>, Vec<Timestamp>) =
            part.iter().map(|(driver, at)| (driver.as_str(), *at)).unzip();
        session.execute(statement.sql, &[&drivers, &times]).await?;
    }
    Ok(())
}
