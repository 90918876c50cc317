//! All details of one order, as operators see them. Rows are read as they are, without the rulebook: an order that this
//! version cannot parse is one that an operator has to see.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::{IsolationLevel, Row};
use uuid::Uuid;
use waybill_domain::id::OrderId;

use super::OrderStore;
use super::lease::{LeaseHolder, holder};
use super::row::get;
use super::step_log::{self, LogLine};
use crate::storage::StoreError;

/// All details of one order.
#[derive(Debug, Clone)]
pub struct OrderDetails {
    /// The order.
    pub order: Uuid,
    /// The customer.
    pub user: String,
    /// The user's key, until it expires.
    pub idempotency_key: Option<String>,
    /// The account at the payment provider, by the tenant that has it for itself; `None`: that of the deployment.
    pub payment_account: Option<String>,
    /// What its driver must be able to do.
    pub required_tags: Vec<String>,
    /// What it costs, in minor units.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// Its state, by its name in the database.
    pub status: String,
    /// Why it is compensated.
    pub failure_reason: Option<String>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was settled.
    pub finished_at: Option<Timestamp>,
    /// When its cancellation was requested.
    pub cancel_requested_at: Option<Timestamp>,
    /// The number of the latest lease.
    pub fence: i64,
    /// How often a worker claimed it.
    pub attempts: i32,
    /// How many drivers were unassigned.
    pub reassignments: i32,
    /// Which instance holds it, and until when.
    pub lease: Option<LeaseHolder>,
    /// When a sweeper may claim it.
    pub next_run_at: Timestamp,
    /// Why a person should look.
    pub needs_attention: Option<String>,
    /// The database's clock.
    pub now: Timestamp,
    /// The log, the oldest line first.
    pub steps: Vec<LogLine>,
    /// What was asked of the provider.
    pub provider_attempts: Vec<ProviderAttempt>,
    /// What the provider confirmed.
    pub payment: Option<ConfirmedPayment>,
    /// Its drivers, the earliest first.
    pub assignments: Vec<DriverAssignment>,
    /// What the provider sent, the earliest first.
    pub events: Vec<PaymentEvent>,
    /// The refunds of the payment, by their numbers.
    pub refunds: Vec<PaymentRefund>,
    /// The disputes of the payment, the earliest first.
    pub disputes: Vec<PaymentDispute>,
}

/// A request to the provider, and its answer.
#[derive(Debug, Clone)]
pub struct ProviderAttempt {
    /// `charge` or `refund`.
    pub operation: String,
    /// The number of the refund that it is for; 1 for a charge.
    pub number: i32,
    /// By its name in the database, such as `unknown`.
    pub state: String,
    /// The key of the request.
    pub provider_key: String,
    /// How often it may have been sent.
    pub sends: i32,
    /// When first.
    pub first_sent_at: Option<Timestamp>,
    /// When last.
    pub last_sent_at: Option<Timestamp>,
    /// The provider's id of the movement.
    pub provider_id: Option<String>,
    /// The class of the last answer that was no success.
    pub last_error: Option<String>,
    /// How often the provider answered with a server error.
    pub server_errors: i32,
}

/// What the provider confirmed.
#[derive(Debug, Clone)]
pub struct ConfirmedPayment {
    /// In minor units.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// When the charge was confirmed.
    pub charged_at: Timestamp,
    /// The provider's id of the charge.
    pub provider_charge_id: String,
    /// What was taken, in minor units; `None` while it is held.
    pub captured_amount_minor: Option<i64>,
    /// What is decided to be captured of a hold, in minor units.
    pub to_capture_minor: Option<i64>,
    /// What is kept as a cancellation fee, in minor units.
    pub kept_amount_minor: i64,
    /// In minor units, all refunds together.
    pub refund_amount_minor: Option<i64>,
    /// When the last refund was confirmed.
    pub refunded_at: Option<Timestamp>,
}

/// A refund of the payment.
#[derive(Debug, Clone)]
pub struct PaymentRefund {
    /// Its number within the order.
    pub number: i32,
    /// In minor units.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// Who decided it, by its name in the database.
    pub origin: String,
    /// Its state, by its name in the database.
    pub state: String,
    /// The provider's id, or `unverified:` and a reference.
    pub provider_id: Option<String>,
    /// Why it was requested.
    pub reason: String,
    /// Why it failed.
    pub failure: Option<String>,
    /// When it was decided.
    pub created_at: Timestamp,
    /// When it succeeded, failed or was replaced.
    pub settled_at: Option<Timestamp>,
}

/// A dispute of the payment.
#[derive(Debug, Clone)]
pub struct PaymentDispute {
    /// The provider's id.
    pub provider_id: String,
    /// In minor units.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: String,
    /// The provider's word for why.
    pub reason: String,
    /// The provider's word for how it stands.
    pub status: String,
    /// Whether it is still to be decided.
    pub is_open: bool,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When its status was last seen to change.
    pub changed_at: Timestamp,
}

/// A driver bound to the order, now or before.
#[derive(Debug, Clone)]
pub struct DriverAssignment {
    /// The driver.
    pub driver: String,
    /// Since when.
    pub assigned_at: Timestamp,
    /// Until when.
    pub released_at: Option<Timestamp>,
    /// Why not any more.
    pub release_reason: Option<String>,
}

/// An event that the provider sent.
#[derive(Debug, Clone)]
pub struct PaymentEvent {
    /// The provider's id of it.
    pub event: String,
    /// The provider's type of it.
    pub kind: String,
    /// When it was received.
    pub received_at: Timestamp,
}

statements! {
    READ_HEADER = "select order_id, user_id, idempotency_key, amount, currency, status, failure_reason, created_at,
                          updated_at, finished_at, cancel_requested_at, fence, attempts, reassignments,
                          lease_owner, lease_until, next_run_at, needs_attention, payment_account, required_tags,
                          now() as now
                     from order_sagas where order_id = $1";
    READ_ATTEMPTS = "select operation, number, state, provider_key, sends, first_sent_at, last_sent_at, provider_id, last_error,
                            server_errors
                       from payment_attempts where order_id = $1 order by operation, number";
    READ_PAYMENT = "select amount, currency, charged_at, provider_charge_id, captured_amount, to_capture, kept_amount,
                           refund_amount, refunded_at
                      from payments where order_id = $1";
    READ_REFUNDS = "select number, amount, currency, origin, state, provider_refund_id, reason, failure, created_at,
                           settled_at
                      from refunds where order_id = $1 order by number";
    READ_DISPUTES = "select provider_dispute_id, amount, currency, reason, status, is_open, opened_at, changed_at
                       from disputes where order_id = $1 order by opened_at";
    /// The present driver is the last one, whatever the clocks say.
    READ_ASSIGNMENTS = "select driver_id, assigned_at, released_at, release_reason, false as present
                          from past_assignments where order_id = $1
                        union all
                        select driver_id, assigned_at, released_at, release_reason, true
                          from order_assignments where order_id = $1
                         order by present, assigned_at";
    READ_EVENTS = "select event_id, type, received_at from payment_events where order_id = $1 order by received_at";
}

impl OrderStore {
    /// All details of the order, at one moment.
    pub async fn read_details(&self, id: OrderId) -> Result<Option<OrderDetails>, StoreError> {
        self.postgres
            .call(async {
                let mut client = self.postgres.client().await?;
                // One snapshot: a log newer than its header would contradict it.
                let tx = client
                    .build_transaction()
                    .isolation_level(IsolationLevel::RepeatableRead)
                    .read_only(true)
                    .start()
                    .await?;
                read_details(&tx, id).await
            })
            .await
    }
}

async fn read_details(tx: &Transaction<'_>, id: OrderId) -> Result<Option<OrderDetails>, StoreError> {
    let Some(row) = READ_HEADER.query_opt(tx, &[&id.uuid()]).await? else {
        return Ok(None);
    };
    let payment = READ_PAYMENT.query_opt(tx, &[&id.uuid()]).await?;
    Ok(Some(OrderDetails {
        order: get(&row, "order_id")?,
        user: get(&row, "user_id")?,
        idempotency_key: get(&row, "idempotency_key")?,
        payment_account: get(&row, "payment_account")?,
        required_tags: get(&row, "required_tags")?,
        amount_minor: get(&row, "amount")?,
        currency: get(&row, "currency")?,
        status: get(&row, "status")?,
        failure_reason: get(&row, "failure_reason")?,
        created_at: get(&row, "created_at")?,
        updated_at: get(&row, "updated_at")?,
        finished_at: get(&row, "finished_at")?,
        cancel_requested_at: get(&row, "cancel_requested_at")?,
        fence: get(&row, "fence")?,
        attempts: get(&row, "attempts")?,
        reassignments: get(&row, "reassignments")?,
        lease: holder(&row)?,
        next_run_at: get(&row, "next_run_at")?,
        needs_attention: get(&row, "needs_attention")?,
        now: get(&row, "now")?,
        steps: step_log::read_log(tx, id).await?,
        provider_attempts: rows(&READ_ATTEMPTS.query(tx, &[&id.uuid()]).await?, attempt)?,
        payment: payment.as_ref().map(confirmed).transpose()?,
        assignments: rows(&READ_ASSIGNMENTS.query(tx, &[&id.uuid()]).await?, assignment)?,
        events: rows(&READ_EVENTS.query(tx, &[&id.uuid()]).await?, event)?,
        refunds: rows(&READ_REFUNDS.query(tx, &[&id.uuid()]).await?, refund)?,
        disputes: rows(&READ_DISPUTES.query(tx, &[&id.uuid()]).await?, dispute)?,
    }))
}

fn rows<T>(rows: &[Row], read: fn(&Row) -> Result<T, StoreError>) -> Result<Vec<T>, StoreError> {
    rows.iter().map(read).collect()
}

fn attempt(row: &Row) -> Result<ProviderAttempt, StoreError> {
    Ok(ProviderAttempt {
        operation: get(row, "operation")?,
        number: get(row, "number")?,
        state: get(row, "state")?,
        provider_key: get(row, "provider_key")?,
        sends: get(row, "sends")?,
        first_sent_at: get(row, "first_sent_at")?,
        last_sent_at: get(row, "last_sent_at")?,
        provider_id: get(row, "provider_id")?,
        last_error: get(row, "last_error")?,
        server_errors: get(row, "server_errors")?,
    })
}

fn confirmed(row: &Row) -> Result<ConfirmedPayment, StoreError> {
    Ok(ConfirmedPayment {
        amount_minor: get(row, "amount")?,
        currency: get(row, "currency")?,
        charged_at: get(row, "charged_at")?,
        provider_charge_id: get(row, "provider_charge_id")?,
        captured_amount_minor: get(row, "captured_amount")?,
        to_capture_minor: get(row, "to_capture")?,
        kept_amount_minor: get(row, "kept_amount")?,
        refund_amount_minor: get(row, "refund_amount")?,
        refunded_at: get(row, "refunded_at")?,
    })
}

fn refund(row: &Row) -> Result<PaymentRefund, StoreError> {
    Ok(PaymentRefund {
        number: get(row, "number")?,
        amount_minor: get(row, "amount")?,
        currency: get(row, "currency")?,
        origin: get(row, "origin")?,
        state: get(row, "state")?,
        provider_id: get(row, "provider_refund_id")?,
        reason: get(row, "reason")?,
        failure: get(row, "failure")?,
        created_at: get(row, "created_at")?,
        settled_at: get(row, "settled_at")?,
    })
}

fn dispute(row: &Row) -> Result<PaymentDispute, StoreError> {
    Ok(PaymentDispute {
        provider_id: get(row, "provider_dispute_id")?,
        amount_minor: get(row, "amount")?,
        currency: get(row, "currency")?,
        reason: get(row, "reason")?,
        status: get(row, "status")?,
        is_open: get(row, "is_open")?,
        opened_at: get(row, "opened_at")?,
        changed_at: get(row, "changed_at")?,
    })
}

fn assignment(row: &Row) -> Result<DriverAssignment, StoreError> {
    Ok(DriverAssignment {
        driver: get(row, "driver_id")?,
        assigned_at: get(row, "assigned_at")?,
        released_at: get(row, "released_at")?,
        release_reason: get(row, "release_reason")?,
    })
}

fn event(row: &Row) -> Result<PaymentEvent, StoreError> {
    Ok(PaymentEvent {
        event: get(row, "event_id")?,
        kind: get(row, "type")?,
        received_at: get(row, "received_at")?,
    })
}
