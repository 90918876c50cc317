//! Rows as domain values. A row that this version cannot read is an error, never a guess.

use std::str::FromStr;

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;
use waybill_domain::access::Scope;
use waybill_domain::duty::Tags;
use waybill_domain::id::{DriverId, OrderId, UserId};
use waybill_domain::money::Money;
use waybill_domain::order::{
    Assignment, FailureReason, OpenRefund, Order, Payment, PaymentMode, Refund, RefundState, Release, ReleaseReason,
    State,
};
use waybill_domain::payment::PaymentKey;
use waybill_domain::payment_account::PaymentAccount;
use waybill_domain::position::Position;
use waybill_domain::tenant::Tenant;

use super::{Confirmed, Lease, LeasedOrder};
use crate::storage::StoreError;

/// The columns of an order with its payment and its assignment, in the form that [`order`] reads.
macro_rules! order_columns {
    () => {
        "s.order_id, s.user_id, s.amount, s.currency, s.status, s.failure_reason,
         s.pickup_lat, s.pickup_long, s.drop_off_lat, s.drop_off_long, s.required_tags, s.created_at, s.updated_at,
         s.payment_mode, p.charged_at, p.provider_charge_id, p.to_capture, p.captured_amount, p.kept_amount,
         p.refund_amount, p.refunded_at,
         a.driver_id, a.assigned_at, a.released_at, a.release_reason"
    };
}

/// The tables of [`order_columns`].
macro_rules! order_tables {
    () => {
        "order_sagas s
         left join payments p on p.order_id = s.order_id
         left join order_assignments a on a.order_id = s.order_id"
    };
}

/// Whether an order of [`order_tables`] lies within a scope, which is in these four parameters: see [`scope_values`].
macro_rules! in_scope {
    ($tenant:literal, $user:literal, $order:literal, $driver:literal) => {
        concat!(
            "(",
            $tenant,
            "::text is null or tenant_of(s.user_id) = ",
            $tenant,
            ")
             and (",
            $user,
            "::text is null or s.user_id = ",
            $user,
            ")
             and (",
            $order,
            "::uuid is null or s.order_id = ",
            $order,
            ")
             and (",
            $driver,
            "::text is null or a.driver_id = ",
            $driver,
            ")"
        )
    };
}

/// The columns of [`order_columns`], and those of the order's lease: the form that [`leased_order`] reads. With the tables of
/// `first_open!`.
macro_rules! leased_order_columns {
    () => {
        concat!(
            $crate::storage::orders::row::order_columns!(),
            ", s.fence, s.payment_account, s.payment_key, s.payment_method, s.provider_customer, s.cancel_requested_at, s.attempts, s.needs_attention,
             s.reassignments, s.search_from, s.reconcile_requested_at,
             o.open_number, o.open_amount, o.open_is_requested, now() as database_now"
        )
    };
}

/// The order's first open refund, in the form that [`open_refund`] reads.
macro_rules! first_open {
    () => {
        "left join lateral (
             select number as open_number, amount as open_amount, origin <> 'compensation' as open_is_requested
               from refunds where order_id = s.order_id and state = 'open' order by number limit 1) o on true"
    };
}

pub(super) use {first_open, in_scope, leased_order_columns, order_columns, order_tables};

/// The parameters of `in_scope!`: the user, the order and the driver to whom the scope is limited.
pub(super) fn scope_values(scope: &Scope) -> (Option<&str>, Option<&str>, Option<Uuid>, Option<&str>) {
    (
        scope.tenant().map(Tenant::as_str),
        scope.user().map(UserId::as_str),
        scope.order().map(OrderId::uuid),
        scope.driver().map(DriverId::as_str),
    )
}

/// The order in a row of `order_columns`.
pub(super) fn order(row: &Row) -> Result<Order, StoreError> {
    let currency = parse(row, "currency")?;
    let money = |minor_units| Money::new(currency, minor_units).map_err(|error| corrupt("amount", &error));
    Ok(Order {
        id: OrderId::new(get::<Uuid>(row, "order_id")?),
        user: UserId::stored(get(row, "user_id")?).map_err(|error| corrupt("user_id", &error))?,
        amount: money(get(row, "amount")?)?,
        payment_mode: payment_mode(get(row, "payment_mode")?)?,
        pickup: position(get(row, "pickup_lat")?, get(row, "pickup_long")?)?,
        drop_off: match (get(row, "drop_off_lat")?, get(row, "drop_off_long")?) {
            (Some(lat), Some(long)) => Some(position(lat, long)?),
            _ => None,
        },
        required_tags: tags(&get::<Vec<&str>>(row, "required_tags")?)?,
        state: state(get(row, "status")?)?,
        failure_reason: get::<Option<&str>>(row, "failure_reason")?
            .map(failure_reason)
            .transpose()?,
        created_at: get(row, "created_at")?,
        updated_at: get(row, "updated_at")?,
        payment: match (get(row, "charged_at")?, get(row, "provider_charge_id")?) {
            (Some(charged_at), Some(provider_charge_id)) => {
                let refund = match (get(row, "refund_amount")?, get(row, "refunded_at")?) {
                    (Some(amount), Some(refunded_at)) => Some(Refund {
                        amount: money(amount)?,
                        refunded_at,
                    }),
                    _ => None,
                };
                Some(Payment {
                    charged_at,
                    provider_charge_id,
                    to_capture_minor: get(row, "to_capture")?,
                    captured_minor: get(row, "captured_amount")?,
                    kept_minor: get(row, "kept_amount")?,
                    refund,
                })
            }
            _ => None,
        },
        assignment: match (get::<Option<&str>>(row, "driver_id")?, get(row, "assigned_at")?) {
            (Some(driver), Some(assigned_at)) => Some(Assignment {
                driver: DriverId::stored(driver).map_err(|error| corrupt("driver_id", &error))?,
                assigned_at,
                release: release(get(row, "released_at")?, get(row, "release_reason")?)?,
            }),
            _ => None,
        },
    })
}

/// The order with its lease in a row of `leased_order_columns`, which was asked for at `asked_at` by our clock.
pub(super) fn leased_order(row: &Row, asked_at: Timestamp) -> Result<LeasedOrder, StoreError> {
    let order = order(row)?;
    let payment_key: Option<&str> = get(row, "payment_key")?;
    Ok(LeasedOrder {
        payment_account: PaymentAccount::stored(get(row, "payment_account")?)
            .map_err(|error| corrupt("payment_account", &error))?,
        payment_key: payment_key.map_or_else(|| PaymentKey::of_order(order.id), PaymentKey::stored),
        transfer_group: payment_key.map(str::to_owned),
        lease: Lease {
            order: order.id,
            fence: get(row, "fence")?,
        },
        confirmed: Confirmed::new(get(row, "database_now")?, asked_at),
        unsent: false,
        payment_method: parse(row, "payment_method")?,
        provider_customer: get::<Option<&str>>(row, "provider_customer")?
            .map(str::parse)
            .transpose()
            .map_err(|error| corrupt("provider_customer", &error))?,
        cancel_requested: get::<Option<Timestamp>>(row, "cancel_requested_at")?.is_some(),
        attempts: get(row, "attempts")?,
        needs_attention: get(row, "needs_attention")?,
        reassignments: get(row, "reassignments")?,
        search_from: get(row, "search_from")?,
        reconcile_requested_at: get(row, "reconcile_requested_at")?,
        open_refund: open_refund(row)?,
        answer: None,
        order,
    })
}

/// The first open refund in the columns of [`first_open!`] and `currency`.
pub(super) fn open_refund(row: &Row) -> Result<Option<OpenRefund>, StoreError> {
    let Some(number) = get(row, "open_number")? else {
        return Ok(None);
    };
    Ok(Some(OpenRefund {
        number,
        amount: money(get(row, "currency")?, get(row, "open_amount")?)?,
        is_requested: get(row, "open_is_requested")?,
    }))
}

/// A stored amount.
pub(super) fn money(currency: &str, minor_units: i64) -> Result<Money, StoreError> {
    let corrupt =
        |why: &dyn std::fmt::Display| StoreError::unexpected(format!("a stored amount cannot be read: {why}"));
    let currency = currency.parse().map_err(|error| corrupt(&error))?;
    Money::new(currency, minor_units).map_err(|error| corrupt(&error))
}

/// The value of a column; a missing column or another type is an error, not a panic.
pub(super) fn get<'r, T: tokio_postgres::types::FromSql<'r>>(row: &'r Row, column: &str) -> Result<T, StoreError> {
    Ok(row.try_get(column)?)
}

/// The driver of that name.
pub(super) fn driver(name: &str) -> Result<DriverId, StoreError> {
    DriverId::stored(name).map_err(|error| StoreError::unexpected(format!("a stored driver id {error}")))
}

/// The state of that name.
pub(super) fn state(name: &str) -> Result<State, StoreError> {
    State::ALL
        .into_iter()
        .find(|state| state.as_str() == name)
        .ok_or_else(|| unknown("status", name))
}

/// The mode of that name.
fn payment_mode(name: &str) -> Result<PaymentMode, StoreError> {
    PaymentMode::ALL
        .into_iter()
        .find(|mode| mode.as_str() == name)
        .ok_or_else(|| unknown("payment_mode", name))
}

/// The reason of that name.
pub(super) fn failure_reason(name: &str) -> Result<FailureReason, StoreError> {
    FailureReason::ALL
        .into_iter()
        .find(|reason| reason.as_str() == name)
        .ok_or_else(|| unknown("failure_reason", name))
}

/// The release in these columns.
pub(super) fn release(at: Option<Timestamp>, reason: Option<&str>) -> Result<Option<Release>, StoreError> {
    let (Some(released_at), Some(name)) = (at, reason) else {
        return Ok(None);
    };
    let reason = ReleaseReason::ALL
        .into_iter()
        .find(|reason| reason.as_str() == name)
        .ok_or_else(|| unknown("release_reason", name))?;
    Ok(Some(Release { released_at, reason }))
}

/// The state of a refund of this name.
pub(super) fn refund_state(name: &str) -> Result<RefundState, StoreError> {
    RefundState::ALL
        .into_iter()
        .find(|state| state.as_str() == name)
        .ok_or_else(|| unknown("refund", name))
}

/// The tags of a driver or of an order.
pub(super) fn tags(stored: &[&str]) -> Result<Tags, StoreError> {
    Tags::new(stored).map_err(|error| corrupt("tags", &error))
}

pub(super) fn position(lat: f64, long: f64) -> Result<Position, StoreError> {
    Position::new(lat, long).map_err(|error| corrupt("a position", &error))
}

fn parse<T: FromStr<Err: std::fmt::Display>>(row: &Row, column: &str) -> Result<T, StoreError> {
    get::<&str>(row, column)?
        .parse()
        .map_err(|error| corrupt(column, &error))
}

fn corrupt(column: &str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::unexpected(format!("a stored order cannot be read: {column} {why}"))
}

/// A name in this column that this version does not have.
fn unknown(column: &str, name: &str) -> StoreError {
    StoreError::unexpected(format!(
        "a stored order cannot be read: {column} {name:?} is unknown to this version"
    ))
}
