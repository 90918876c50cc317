//! `RefundOrder`: a part of a served order's payment is refunded, once for each idempotency key of the caller.

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use waybill_domain::access::Scope;
use waybill_domain::id::{IdempotencyKey, OrderId};
use waybill_domain::money::{Currency, Money};
use waybill_domain::order::{RefundRequest, RefundState, State};
use waybill_domain::payment::Operation;

use super::lease::lock;
use super::refunds::{self, RefundOrigin};
use super::row::{get, in_scope, money, refund_state, scope_values};
use super::{LeasedOrder, OrderStore, reconciled};
use crate::storage::StoreError;

/// A refund that a caller requested, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedRefund {
    /// Its number within the order.
    pub number: i32,
    /// How much.
    pub amount: Money,
    /// What became of it.
    pub state: RefundState,
    /// Why it was requested.
    pub reason: String,
    /// When.
    pub created_at: Timestamp,
    /// When it succeeded or failed.
    pub settled_at: Option<Timestamp>,
}

/// The outcome of a request.
#[derive(Debug, Clone)]
pub enum RefundRequested {
    /// It is decided; the saga is the caller's to resume.
    New(Box<LeasedOrder>),
    /// The key requested this refund before.
    Duplicate,
    /// No such order in this scope.
    NotFound,
    /// The order was not served, or its refund is decided already; its state.
    NotRefundable(State),
    /// More than what is left of the payment, in minor units.
    TooMuch(i64),
    /// In another currency than the order's.
    WrongCurrency(Currency),
    /// A dispute of the payment is open: the provider refuses to refund it.
    Disputed,
    /// The key requested another refund before.
    KeyReused,
}

statements! {
    FIND_BY_KEY = "select number, amount, currency, state, reason, created_at, settled_at
                     from refunds where order_id = $1 and idempotency_key = $2";
    /// As customers see them: the reasons of operators are not for them.
    READ_REQUESTED = concat!(
        "select r.number, r.amount, r.currency, r.state, r.created_at, r.settled_at,
                case when r.origin = 'request' then r.reason else '' end as reason
           from refunds r
           join order_sagas s on s.order_id = r.order_id
           left join order_assignments a on a.order_id = r.order_id
          where r.order_id = $1 and ", in_scope!("$2", "$3", "$4", "$5"), "
          order by r.number");
}

impl OrderStore {
    /// Decides a refund of a part of the payment of an order within `scope`, or finds the one that the key decided before.
    pub async fn request_refund(&self, scope: &Scope, request: &RefundRequest) -> Result<RefundRequested, StoreError> {
        self.postgres.call(self.commit_refund_request(scope, request)).await
    }

    async fn commit_refund_request(
        &self,
        scope: &Scope,
        request: &RefundRequest,
    ) -> Result<RefundRequested, StoreError> {
        let RefundRequest {
            order: id,
            key,
            amount,
            reason,
        } = request;
        let mut client = self.postgres.client().await?;
        let tx = client.transaction().await?;
        let Some(leased) = lock(&tx, *id, scope).await? else {
            return Ok(RefundRequested::NotFound);
        };
        if let Some(row) = FIND_BY_KEY.query_opt(&tx, &[&id.uuid(), &key.as_str()]).await? {
            let earlier = requested(&row)?;
            let is_same = earlier.amount == *amount && earlier.reason == reason.as_str();
            return Ok(if is_same {
                RefundRequested::Duplicate
            } else {
                RefundRequested::KeyReused
            });
        }
        if leased.order.state != State::Succeeded {
            return Ok(RefundRequested::NotRefundable(leased.order.state));
        }
        let currency = leased.order.amount.currency();
        if amount.currency() != currency {
            return Ok(RefundRequested::WrongCurrency(currency));
        }
        if refunds::is_disputed(&tx, *id).await? {
            // It may be decided, and the report of that lost: a later call knows.
            reconciled::request(&tx, *id).await?;
            tx.commit().await?;
            return Ok(RefundRequested::Disputed);
        }
        let is_captured = leased
            .order
            .payment
            .as_ref()
            .is_some_and(|payment| payment.captured_minor.is_some());
        let left = if is_captured {
            refunds::read_left(&tx, *id).await?
        } else {
            0
        };
        if amount.minor_units() > left {
            return Ok(RefundRequested::TooMuch(left));
        }
        let leased = self.reopen(&tx, leased).await?;
        let key = Some(key.as_str());
        let number = refunds::open(&tx, *id, *amount, RefundOrigin::Request, key, reason.as_str()).await?;
        self.intend(
            &tx,
            leased.lease,
            &leased.payment_key,
            Operation::Refund(number),
            *amount,
        )
        .await?;
        let open_refund = refunds::read_open(&tx, *id).await?;
        tx.commit().await?;
        Ok(RefundRequested::New(Box::new(LeasedOrder {
            // Another one that was open before may have been sent.
            unsent: leased.open_refund.is_none(),
            open_refund,
            ..leased
        })))
    }

    /// The refund that this key requested, as it stands.
    pub async fn find_refund(
        &self,
        order: OrderId,
        key: &IdempotencyKey,
    ) -> Result<Option<RequestedRefund>, StoreError> {
        let row = self
            .postgres
            .query_opt(FIND_BY_KEY, &[&order.uuid(), &key.as_str()])
            .await?;
        row.as_ref().map(requested).transpose()
    }

    /// The refunds of an order within `scope` as its customer sees them, by their numbers.
    pub async fn requested_refunds(&self, scope: &Scope, order: OrderId) -> Result<Vec<RequestedRefund>, StoreError> {
        let (tenant, user, only, driver) = scope_values(scope);
        let parameters: [&(dyn ToSql + Sync); 5] = [&order.uuid(), &tenant, &user, &only, &driver];
        let rows = self.postgres.query(READ_REQUESTED, &parameters).await?;
        rows.iter().map(requested).collect()
    }
}

fn requested(row: &Row) -> Result<RequestedRefund, StoreError> {
    let (state, currency): (&str, &str) = (get(row, "state")?, get(row, "currency")?);
    Ok(RequestedRefund {
        number: get(row, "number")?,
        amount: money(currency, get(row, "amount")?)?,
        state: refund_state(state)?,
        reason: get(row, "reason")?,
        created_at: get(row, "created_at")?,
        settled_at: get(row, "settled_at")?,
    })
}
