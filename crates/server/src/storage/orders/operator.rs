//! What operators read: the unfinished orders, and all details of one; and the one thing that they set directly, that an
//! order is due. Rows are read as they are, without the rulebook: an order that this version cannot parse is one that an
//! operator has to see.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use tokio_postgres::{IsolationLevel, Row};
use uuid::Uuid;
use waybill_domain::id::OrderId;
use waybill_domain::operator::Operator;
use waybill_domain::text::Reason;

use super::OrderStore;
use super::reconciled;
use super::row::get;
use super::step_log::{self, LogLine, log_request};
use crate::storage::StoreError;

/// An unfinished order.
#[derive(Debug, Clone)]
pub struct UnfinishedOrder {
    /// The order.
    pub order: Uuid,
    /// Its state, by its name in the database.
    pub status: String,
    /// When it was accepted, its cancellation was requested, or its driver was unassigned: the latest of these.
    pub since: Timestamp,
    /// How often a worker claimed it.
    pub attempts: i32,
    /// How often the request to the provider that it waits for may have been sent.
    pub sends: i32,
    /// Why a person should look.
    pub needs_attention: Option<String>,
    /// Which instance holds it, and until when.
    pub lease: Option<LeaseHolder>,
    /// When a sweeper may claim it, once its lease is over.
    pub next_run_at: Timestamp,
}

/// The holder of an order's lease.
#[derive(Debug, Clone)]
pub struct LeaseHolder {
    /// The instance.
    pub owner: String,
    /// Until when, by the database's clock.
    pub until: Timestamp,
}

/// A list of unfinished orders.
#[derive(Debug, Clone)]
pub struct UnfinishedOrders {
    /// The oldest first.
    pub orders: Vec<UnfinishedOrder>,
    /// How many there are beyond these.
    pub more: i64,
    /// The database's clock.
    pub now: Timestamp,
}

/// All details of one order.
#[derive(Debug, Clone)]
pub struct OrderDetails {
    /// The order.
    pub order: Uuid,
    /// The customer.
    pub user: String,
    /// The user's key, until it expires.
    pub idempotency_key: Option<String>,
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

/// The outcome of a retry.
#[derive(Debug, Clone)]
pub enum Retried {
    /// The order is due; the holder of its lease, if there is one, finishes first.
    Due(Option<LeaseHolder>),
    /// No such order.
    NotFound,
    /// The order is settled, and has no payment to be compared: its status.
    Settled(String),
}

statements! {
    /// By the partial indexes of what is due and of what is flagged: other orders cost nothing here.
    LIST_UNFINISHED = "select s.order_id, s.status,
                              greatest(s.created_at, s.cancel_requested_at, s.search_from, s.reopened_at) as since,
                              s.attempts, coalesce(a.sends, 0) as sends, s.needs_attention,
                              s.lease_owner, s.lease_until, s.next_run_at, now() as now, count(*) over () as total
                         from order_sagas s
                         left join lateral (
                              select sum(sends)::integer as sends from payment_attempts
                               where order_id = s.order_id
                                 and operation = any (case s.status when 'charging' then array['charge']
                                                    else array['refund', 'capture', 'void'] end)) a on true
                        where (s.finished_at is null or s.needs_attention is not null)
                          and (not $1 or s.needs_attention is not null
                               or greatest(s.created_at, s.cancel_requested_at, s.search_from, s.reopened_at)
                                  < now() - interval '1 minute')
                        order by since, s.order_id
                        limit $2";
    READ_CLOCK = "select now()";
    READ_HEADER = "select order_id, user_id, idempotency_key, amount, currency, status, failure_reason, created_at,
                          updated_at, finished_at, cancel_requested_at, fence, attempts, reassignments,
                          lease_owner, lease_until, next_run_at, needs_attention, now() as now
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
    LOCK_UNFINISHED = "select status, finished_at is not null as settled, lease_owner, lease_until, lease_until > now() as leased
                         from order_sagas where order_id = $1 for update";
    /// Where a worker holds the order, it is due as soon as that worker defers it.
    SET_DUE = "update order_sagas set next_run_at = now(), due_requested = lease_owner is not null
                where order_id = $1 and finished_at is null";
    /// Why a settled order was flagged is dealt with, unless the comparison flags it again.
    CLEAR_FLAG = "update order_sagas set needs_attention = null where order_id = $1";
    /// It was flagged for that, unless for something else.
    SHORTFALL_SEEN = "update payments p set shortfall_seen_at = now()
                       where p.order_id = $1 and p.captured_amount < p.to_capture
                         and not exists (select from disputes d where d.order_id = $1 and d.is_open)
                         and not exists (select from refunds r where r.order_id = $1 and r.state = 'failed')";
}

impl OrderStore {
    /// Up to `limit` unfinished orders, the oldest first; or only those that are older than a minute or flagged.
    pub async fn list_unfinished(&self, only_stuck: bool, limit: i64) -> Result<UnfinishedOrders, StoreError> {
        let rows = self.postgres.query(LIST_UNFINISHED, &[&only_stuck, &limit]).await?;
        let Some(first) = rows.first() else {
            return Ok(UnfinishedOrders {
                orders: Vec::new(),
                more: 0,
                now: self.clock().await?,
            });
        };
        let total: i64 = get(first, "total")?;
        Ok(UnfinishedOrders {
            more: total - i64::try_from(rows.len()).unwrap_or(total),
            now: get(first, "now")?,
            orders: rows.iter().map(unfinished).collect::<Result<_, _>>()?,
        })
    }

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

    /// Makes the order due now; a sweeper claims it as soon as its lease is over. The payment of a settled order is compared
    /// with the provider's record.
    pub async fn retry(&self, id: OrderId, by: &Operator, reason: Option<&Reason>) -> Result<Retried, StoreError> {
        self.postgres
            .call(async {
                let mut client = self.postgres.client().await?;
                let tx = client.transaction().await?;
                let Some(row) = LOCK_UNFINISHED.query_opt(&tx, &[&id.uuid()]).await? else {
                    return Ok(Retried::NotFound);
                };
                if !get::<bool>(&row, "settled")? {
                    SET_DUE.execute(&tx, &[&id.uuid()]).await?;
                } else if reconciled::request(&tx, id).await? {
                    CLEAR_FLAG.execute(&tx, &[&id.uuid()]).await?;
                    SHORTFALL_SEEN.execute(&tx, &[&id.uuid()]).await?;
                } else {
                    return Ok(Retried::Settled(get(&row, "status")?));
                }
                log_request(&tx, id, "retry", by, reason.map_or("", Reason::as_str)).await?;
                let leased: Option<bool> = get(&row, "leased")?;
                let lease = holder(&row)?.filter(|_| leased == Some(true));
                tx.commit().await?;
                Ok(Retried::Due(lease))
            })
            .await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        let row = self.postgres.query_opt(READ_CLOCK, &[]).await?;
        let row = row.ok_or_else(|| StoreError::unexpected("the database has no clock"))?;
        Ok(row.try_get(0)?)
    }
}

fn unfinished(row: &Row) -> Result<UnfinishedOrder, StoreError> {
    Ok(UnfinishedOrder {
        order: get(row, "order_id")?,
        status: get(row, "status")?,
        since: get(row, "since")?,
        attempts: get(row, "attempts")?,
        sends: get(row, "sends")?,
        needs_attention: get(row, "needs_attention")?,
        lease: holder(row)?,
        next_run_at: get(row, "next_run_at")?,
    })
}

fn holder(row: &Row) -> Result<Option<LeaseHolder>, StoreError> {
    let (owner, until) = (get(row, "lease_owner")?, get(row, "lease_until")?);
    Ok(Option::zip(owner, until).map(|(owner, until)| LeaseHolder { owner, until }))
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
