//! Domain values as messages.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use waybill_domain::access::Scope;
use waybill_domain::fix::{Fix, LatestFix};
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::live::{CellCount, Seen};
use waybill_domain::money::Money;
use waybill_domain::order::PaymentMode;
use waybill_domain::order::{FailureReason, Order, RefundState, ReleaseReason, State};
use waybill_domain::position::Position;
use waybill_proto::fleet::v1 as fleet;
use waybill_proto::location::v1::{self as location, LatLng};
use waybill_proto::order::v1 as pb;

use crate::storage::orders::{LogLine, RequestedRefund, StoredAnswer};

/// The answer to CreateOrder for a settled order. It is stored with the order and returned to every call with its key.
pub fn answer(order: &Order) -> StoredAnswer {
    let message = pb::CreateOrderResponse {
        order: Some(self::order(order)),
    };
    StoredAnswer {
        code: 0,
        message: String::new(),
        details: Vec::new(),
        body: message.encode_to_vec(),
    }
}

/// An order, without its steps.
pub fn order(order: &Order) -> pb::Order {
    pb::Order {
        order_id: order.id.to_string(),
        user_id: order.user.name().to_owned(),
        amount: Some(money(order.amount)),
        pickup: Some(position(order.pickup)),
        drop_off: order.drop_off.map(position),
        status: status(order.state).into(),
        failure_reason: order
            .failure_reason
            .map_or(pb::FailureReason::Unspecified, failure_reason)
            .into(),
        created_at: Some(timestamp(order.created_at)),
        updated_at: Some(timestamp(order.updated_at)),
        payment: order.payment.as_ref().map(|payment| pb::Payment {
            charged_at: Some(timestamp(payment.charged_at)),
            refund_amount: payment.refund.as_ref().map(|refund| money(refund.amount)),
            refunded_at: payment.refund.as_ref().map(|refund| timestamp(refund.refunded_at)),
            refunds: Vec::new(),
            captured_amount: payment.captured_minor.and_then(|minor| some_money(order.amount, minor)),
            fee_amount: some_money(order.amount, payment.kept_minor),
            is_held: payment.captured_minor.is_none(),
        }),
        assignment: order.assignment.as_ref().map(|assignment| pb::Assignment {
            driver_id: assignment.driver.name().to_owned(),
            assigned_at: Some(timestamp(assignment.assigned_at)),
            released_at: assignment
                .release
                .as_ref()
                .map(|release| timestamp(release.released_at)),
            release_reason: assignment
                .release
                .as_ref()
                .map_or("", |release| ReleaseReason::as_str(release.reason))
                .to_owned(),
        }),
        steps: Vec::new(),
        payment_mode: payment_mode(order.payment_mode).into(),
        required_tags: order.required_tags.iter().map(str::to_owned).collect(),
    }
}

/// The mode of that name; unspecified stands for the first.
pub fn payment_mode_of(mode: pb::PaymentMode) -> PaymentMode {
    PaymentMode::ALL
        .into_iter()
        .find(|one| payment_mode(*one) == mode)
        .unwrap_or_default()
}

fn payment_mode(mode: PaymentMode) -> pb::PaymentMode {
    match mode {
        PaymentMode::ChargeFirst => pb::PaymentMode::ChargeFirst,
        PaymentMode::CaptureAtAssignment => pb::PaymentMode::CaptureAtAssignment,
        PaymentMode::CaptureAtCompletion => pb::PaymentMode::CaptureAtCompletion,
    }
}

/// So many minor units of the currency of `like`; `None` where they are none.
fn some_money(like: Money, minor_units: i64) -> Option<pb::Money> {
    Money::new(like.currency(), minor_units).ok().map(money)
}

/// An order with its refunds.
pub fn order_with_refunds(order: &Order, refunds: Vec<RequestedRefund>) -> pb::Order {
    let mut order = self::order(order);
    if let Some(payment) = &mut order.payment {
        payment.refunds = refunds.into_iter().map(refund).collect();
    }
    order
}

/// The steps that drivers see: those in which money does not move.
const FOR_DRIVERS: [&str; 5] = ["create", "assign", "release", "complete", "cancel"];

/// The order as who is limited to this scope may see it: its price is for the driver, what becomes of the payment is not.
pub fn for_scope(order: pb::Order, scope: &Scope) -> pb::Order {
    match scope {
        Scope::Everything | Scope::Tenant(_) | Scope::User(..) => order,
        Scope::Driver(_) => pb::Order {
            payment: None,
            steps: for_driver(order.steps),
            ..order
        },
    }
}

/// The steps as who is limited to this scope may see them.
pub fn steps_for_scope(steps: Vec<pb::Step>, scope: &Scope) -> Vec<pb::Step> {
    match scope {
        Scope::Everything | Scope::Tenant(_) | Scope::User(..) => steps,
        Scope::Driver(_) => for_driver(steps),
    }
}

fn for_driver(mut steps: Vec<pb::Step>) -> Vec<pb::Step> {
    steps.retain(|step| FOR_DRIVERS.contains(&step.step.as_str()));
    steps
}

/// A refund, for customers.
pub fn refund(refund: RequestedRefund) -> pb::Refund {
    pb::Refund {
        number: refund.number,
        amount: Some(money(refund.amount)),
        status: match refund.state {
            RefundState::Open => pb::RefundStatus::Pending,
            RefundState::Succeeded => pb::RefundStatus::Succeeded,
            RefundState::Failed => pb::RefundStatus::Failed,
            RefundState::Replaced => pb::RefundStatus::Replaced,
        }
        .into(),
        reason: refund.reason,
        created_at: Some(timestamp(refund.created_at)),
        settled_at: refund.settled_at.map(timestamp),
    }
}

/// The lines whose details customers see: sentences of our own. Every other detail is for operators: keys and ids of the
/// provider, why a payment was declined or delayed, notes of operators and drivers, the names of other drivers.
const FOR_CUSTOMERS: [(&str, &str); 1] = [("assign", "failed")];

/// A line of an order's log, for customers.
pub fn step(step: LogLine) -> pb::Step {
    let is_for_customers = FOR_CUSTOMERS.contains(&(step.step.as_str(), step.status.as_str()));
    pb::Step {
        step: step.step,
        status: step.status,
        detail: if is_for_customers { step.detail } else { String::new() },
        created_at: Some(timestamp(step.created_at)),
        step_id: step.id,
    }
}

/// How long ago that was; nothing where it was a moment ahead.
pub fn age(at: Timestamp, now: Timestamp) -> prost_types::Duration {
    duration(now.duration_since(at).max(SignedDuration::ZERO).unsigned_abs())
}

/// A driver as last seen at `now`.
pub fn driver(latest: &LatestFix, active_order: Option<OrderId>, now: Timestamp) -> fleet::Driver {
    driver_at(&latest.fix, latest.arrived_at, active_order, now)
}

fn driver_at(fix: &Fix, arrived_at: Timestamp, active_order: Option<OrderId>, now: Timestamp) -> fleet::Driver {
    fleet::Driver {
        driver_id: fix.driver.name().to_owned(),
        position: Some(position(fix.position)),
        recorded_at: Some(timestamp(fix.recorded_at)),
        age: Some(age(arrived_at, now)),
        active_order_id: active_order.map(|order| order.to_string()).unwrap_or_default(),
        off_duty: false,
        tags: Vec::new(),
    }
}

/// A driver as its watchers see it at `now`.
pub fn seen(seen: &Seen, now: Timestamp) -> fleet::Driver {
    fleet::Driver {
        off_duty: seen.off_duty,
        ..driver_at(&seen.fix, seen.arrived_at, seen.order, now)
    }
}

/// How many drivers are in a cell.
pub fn cell(cell: &CellCount) -> fleet::Cell {
    let (latitude, longitude) = cell.centre;
    let count = |drivers: usize| i32::try_from(drivers).unwrap_or(i32::MAX);
    fleet::Cell {
        centre: Some(LatLng {
            latitude: Some(latitude),
            longitude: Some(longitude),
        }),
        drivers: count(cell.drivers),
        free: count(cell.free),
    }
}

/// The state of that status; `None` for one that is not set or not known.
pub fn state(status: pb::OrderStatus) -> Option<State> {
    State::ALL.into_iter().find(|state| self::status(*state) == status)
}

/// The status of that state.
pub fn status(state: State) -> pb::OrderStatus {
    match state {
        State::Started => pb::OrderStatus::Started,
        State::Charging => pb::OrderStatus::Charging,
        State::Charged => pb::OrderStatus::Charged,
        State::Refunding => pb::OrderStatus::Refunding,
        State::Succeeded => pb::OrderStatus::Succeeded,
        State::Failed => pb::OrderStatus::Failed,
        State::Refunded => pb::OrderStatus::Refunded,
    }
}

fn failure_reason(reason: FailureReason) -> pb::FailureReason {
    match reason {
        FailureReason::PaymentDeclined => pb::FailureReason::PaymentDeclined,
        FailureReason::NoDriver => pb::FailureReason::NoDriver,
        FailureReason::Cancelled => pb::FailureReason::Cancelled,
        FailureReason::PaymentTimedOut => pb::FailureReason::PaymentTimedOut,
    }
}

fn money(money: Money) -> pb::Money {
    pb::Money {
        currency_code: money.currency().code().to_owned(),
        minor_units: money.minor_units(),
    }
}

/// A point on the map.
pub fn position(position: Position) -> LatLng {
    LatLng {
        latitude: Some(position.lat_deg()),
        longitude: Some(position.lon_deg()),
    }
}

/// A length of time on the wire.
pub fn duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: length.subsec_nanos().cast_signed(),
    }
}

/// How far the clocks of drivers seem to be ahead.
pub fn clock_offsets(offsets: HashMap<DriverId, SignedDuration>) -> Vec<location::ClockOffset> {
    let offsets = offsets.into_iter().map(|(driver, ahead)| location::ClockOffset {
        driver_id: driver.name().to_owned(),
        offset: Some(prost_types::Duration {
            seconds: ahead.as_secs(),
            nanos: ahead.subsec_nanos(),
        }),
    });
    offsets.collect()
}

/// A time on the wire.
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    // The wire counts nanoseconds forward from the second, also before 1970; jiff counts both away from 1970.
    match at.subsec_nanosecond() {
        nanos @ 0.. => prost_types::Timestamp {
            seconds: at.as_second(),
            nanos,
        },
        nanos => prost_types::Timestamp {
            seconds: at.as_second() - 1,
            nanos: nanos + 1_000_000_000,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_count_forward_too() {
        let at = Timestamp::from_microsecond(-1_500_000).unwrap();
        assert_eq!(
            timestamp(at),
            prost_types::Timestamp {
                seconds: -2,
                nanos: 500_000_000
            }
        );
        let at = Timestamp::from_microsecond(1_500_000).unwrap();
        assert_eq!(
            timestamp(at),
            prost_types::Timestamp {
                seconds: 1,
                nanos: 500_000_000
            }
        );
    }

    #[test]
    fn every_state_has_its_status_and_back() {
        for state in State::ALL {
            assert_eq!(super::state(status(state)), Some(state));
        }
        assert_eq!(super::state(pb::OrderStatus::Unspecified), None);
    }
}
