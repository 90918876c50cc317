//! The saga's rulebook: which step an order needs, and which state an event leads to. The service runs it, the model
//! checker explores it, and the database repeats its transitions in a trigger.
//!
//! ```text
//! started -> charging -> charged -> succeeded          terminal: succeeded, failed, refunded
//!    |          | \         \-> refunding -> refunded  succeeded -> refunding only by a cancellation
//!    |          |  \-> unknown: stays charging, the same key is sent again
//!    \-> failed \-> failed (declined, revoked)         succeeded -> charged when its driver is unassigned
//!                                                      refunded -> refunding when its refund fails later
//! ```
//!
//! A terminal order is resumed, in its state, for a capture, for a refund that was requested, and to be compared with the
//! provider.

use std::fmt;

use thiserror::Error;

use super::failure_reason::FailureReason;

/// The state of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Accepted; the provider was not asked.
    Started,
    /// The charge may have been sent; its outcome is unknown.
    Charging,
    /// Paid, or the amount is held; no driver yet.
    Charged,
    /// To be refunded, or its hold voided; the provider has not confirmed it yet.
    Refunding,
    /// Paid or held, and assigned.
    Succeeded,
    /// Neither charged nor held.
    Failed,
    /// All that was taken is refunded, but for a cancellation fee; a hold is voided.
    Refunded,
}

/// What a worker does next for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Record that the charge will be sent, before it is.
    IntendCharge,
    /// Send the charge, or send it again under the same key.
    Charge,
    /// Bind the nearest free driver; give up when the window is over.
    Assign,
    /// Capture or void the hold, as is decided.
    Capture,
    /// Send the open refund, or send it again under the same key. It does not get to refuse.
    Refund,
    /// Compare the refunds and disputes of the payment with the provider's, and take over what it has.
    Reconcile,
    /// Act on a cancellation that was requested while the saga ran.
    HonourCancellation,
}

impl Step {
    /// Its name in logs and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::IntendCharge => "intend_charge",
            Step::Charge => "charge",
            Step::Assign => "assign",
            Step::Capture => "capture",
            Step::Refund => "refund",
            Step::Reconcile => "reconcile",
            Step::HonourCancellation => "honour_cancellation",
        }
    }
}

/// What is to be done for an order beside what its state says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Work {
    /// A cancellation was requested.
    pub cancel_requested: bool,
    /// A capture, or the end of a hold, is decided and not confirmed.
    pub capture_open: bool,
    /// A refund is decided and not confirmed.
    pub refund_open: bool,
    /// The provider's record of the payment changed, or may have.
    pub reconcile_requested: bool,
}

/// What happened to an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The intent to charge is recorded.
    ChargeIntended,
    /// The charge was sent and its outcome is unknown: never a failure.
    ChargeUnknown,
    /// The provider confirmed the charge.
    Charged,
    /// The provider declined the charge: an answer, and a final one.
    Declined,
    /// It is certain that the charge was not executed and never will be; the reason is why it is not wanted any more.
    ChargeRevoked(FailureReason),
    /// The charge was confirmed when it was too late to serve the order.
    ChargedTooLate,
    /// A driver is bound.
    DriverAssigned,
    /// No driver was found within the window.
    NoDriver,
    /// The driver declined, or was not seen any more: the order is paid, and searches for another.
    DriverUnassigned,
    /// The order is cancelled.
    Cancelled,
    /// A capture or a void was sent and its outcome is unknown.
    CaptureUnknown,
    /// The provider confirmed a capture: of an order that is served, or of more than is kept of one that is not.
    Captured,
    /// The hold was gone before it could be captured.
    CaptureFailed,
    /// A refund was sent and its outcome is unknown.
    RefundUnknown,
    /// The provider confirmed a refund, and not all of the payment is refunded.
    RefundedInPart,
    /// The provider confirmed a refund or a void, and all that is to be given back is.
    Refunded,
    /// A refund failed for good, now or after it was confirmed.
    RefundFailed,
    /// The payment was compared with the provider's record, which says nothing new of the sum that is refunded.
    Reconciled,
}

/// An event that cannot happen in a state: a bug or a corrupted row, never a caller's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{event:?} cannot happen to an order that is {state}")]
pub struct IllegalTransition {
    /// The order's state.
    pub state: State,
    /// The event that was applied.
    pub event: Event,
}

impl State {
    /// Every state.
    pub const ALL: [State; 7] = [
        State::Started,
        State::Charging,
        State::Charged,
        State::Refunding,
        State::Succeeded,
        State::Failed,
        State::Refunded,
    ];

    /// The state after `event`, or proof that the event cannot happen here.
    #[allow(clippy::match_same_arms, reason = "one line a rule")]
    pub fn next(self, event: Event) -> Result<State, IllegalTransition> {
        match (self, event) {
            (State::Started, Event::ChargeIntended) => Ok(State::Charging),
            // Nothing was sent, so nothing can have been charged. Once the charge may be on its way (charging), only
            // the provider's answer moves the order: a cancellation waits for it.
            (State::Started, Event::Cancelled) => Ok(State::Failed),
            (State::Charging, Event::Charged) => Ok(State::Charged),
            (State::Charging, Event::ChargeUnknown) => Ok(State::Charging),
            (State::Charging, Event::Declined) => Ok(State::Failed),
            (State::Charging, Event::ChargeRevoked(_)) => Ok(State::Failed),
            (State::Charged, Event::DriverAssigned) => Ok(State::Succeeded),
            (State::Charged | State::Succeeded, Event::Cancelled) => Ok(State::Refunding),
            (State::Charged, Event::NoDriver | Event::ChargedTooLate) => Ok(State::Refunding),
            // Never back to charging: what is paid is not charged again.
            (State::Succeeded, Event::DriverUnassigned) => Ok(State::Charged),
            (
                state @ (State::Succeeded | State::Refunding),
                Event::CaptureUnknown | Event::Captured | Event::CaptureFailed,
            ) => Ok(state),
            (State::Refunding, Event::RefundUnknown) => Ok(State::Refunding),
            (State::Refunding, Event::RefundedInPart | Event::RefundFailed) => Ok(State::Refunding),
            (State::Refunding, Event::Refunded) => Ok(State::Refunded),
            (State::Refunding, Event::Reconciled) => Ok(State::Refunding),
            // What was confirmed can fail later: it is owed again.
            (State::Refunded, Event::RefundFailed) => Ok(State::Refunding),
            (State::Refunded, Event::Reconciled) => Ok(State::Refunded),
            // A refund that was requested, or made by hand, does not end the service.
            (State::Succeeded, Event::RefundUnknown | Event::RefundFailed | Event::Reconciled) => Ok(State::Succeeded),
            (State::Succeeded, Event::RefundedInPart | Event::Refunded) => Ok(State::Succeeded),
            (state, event) => Err(IllegalTransition { state, event }),
        }
    }

    /// The step to run now; `None` when the order is settled and nothing is to be done for it.
    pub fn pending_step(self, work: Work) -> Option<Step> {
        match self {
            State::Started | State::Charged if work.cancel_requested => Some(Step::HonourCancellation),
            State::Started => Some(Step::IntendCharge),
            State::Charging => Some(Step::Charge),
            State::Charged => Some(Step::Assign),
            // What is captured decides what there is to refund.
            State::Refunding | State::Succeeded if work.capture_open => Some(Step::Capture),
            State::Refunding | State::Succeeded | State::Refunded if work.reconcile_requested => Some(Step::Reconcile),
            State::Refunding | State::Succeeded if work.refund_open => Some(Step::Refund),
            // Nothing is open, and not all is refunded: what failed waits for an operator, or for a refund by hand.
            State::Refunding => Some(Step::Reconcile),
            State::Succeeded | State::Failed | State::Refunded => None,
        }
    }

    /// Whether the order is settled in this state.
    pub fn is_terminal(self) -> bool {
        self.pending_step(Work::default()).is_none()
    }

    /// Its name in the database, in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Started => "started",
            State::Charging => "charging",
            State::Charged => "charged",
            State::Refunding => "refunding",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Refunded => "refunded",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Event {
    /// Why this event compensates the order; `None` when it does not.
    pub fn failure_reason(self) -> Option<FailureReason> {
        match self {
            Event::Declined => Some(FailureReason::PaymentDeclined),
            Event::ChargeRevoked(reason) => Some(reason),
            Event::ChargedTooLate => Some(FailureReason::PaymentTimedOut),
            Event::NoDriver => Some(FailureReason::NoDriver),
            Event::Cancelled => Some(FailureReason::Cancelled),
            Event::ChargeIntended
            | Event::ChargeUnknown
            | Event::Charged
            | Event::DriverAssigned
            | Event::DriverUnassigned
            | Event::CaptureUnknown
            | Event::Captured
            | Event::CaptureFailed
            | Event::RefundUnknown
            | Event::RefundedInPart
            | Event::Refunded
            | Event::RefundFailed
            | Event::Reconciled => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 19] = [
        Event::ChargeIntended,
        Event::ChargeUnknown,
        Event::Charged,
        Event::Declined,
        Event::ChargeRevoked(FailureReason::Cancelled),
        Event::ChargeRevoked(FailureReason::PaymentTimedOut),
        Event::ChargedTooLate,
        Event::DriverAssigned,
        Event::NoDriver,
        Event::DriverUnassigned,
        Event::Cancelled,
        Event::CaptureUnknown,
        Event::Captured,
        Event::CaptureFailed,
        Event::RefundUnknown,
        Event::RefundedInPart,
        Event::Refunded,
        Event::RefundFailed,
        Event::Reconciled,
    ];

    const IDLE: Work = Work {
        cancel_requested: false,
        capture_open: false,
        refund_open: false,
        reconcile_requested: false,
    };
    const CANCELLED: Work = Work {
        cancel_requested: true,
        ..IDLE
    };

    fn after(events: &[Event]) -> State {
        events
            .iter()
            .fold(State::Started, |state, event| state.next(*event).unwrap())
    }

    #[test]
    fn an_order_is_charged_then_assigned() {
        let order = after(&[
            Event::ChargeIntended,
            Event::ChargeUnknown,
            Event::Charged,
            Event::DriverAssigned,
        ]);
        assert_eq!(order, State::Succeeded);
    }

    #[test]
    fn an_unknown_outcome_of_a_charge_keeps_the_order_charging() {
        assert_eq!(State::Charging.next(Event::ChargeUnknown), Ok(State::Charging));
        assert_eq!(State::Charging.pending_step(IDLE), Some(Step::Charge));
        // Not even a cancellation moves it on: the charge may be in flight.
        assert!(State::Charging.next(Event::Cancelled).is_err());
        assert_eq!(State::Charging.pending_step(CANCELLED), Some(Step::Charge));
    }

    #[test]
    fn an_order_that_is_charged_too_late_is_refunded_and_one_that_cannot_be_charged_any_more_fails() {
        assert_eq!(State::Charged.next(Event::ChargedTooLate), Ok(State::Refunding));
        let revoked = Event::ChargeRevoked(FailureReason::PaymentTimedOut);
        assert_eq!(State::Charging.next(revoked), Ok(State::Failed));
        assert_eq!(revoked.failure_reason(), Some(FailureReason::PaymentTimedOut));
        for state in [State::Charged, State::Succeeded, State::Refunding, State::Refunded] {
            assert!(state.next(revoked).is_err(), "{state} is paid");
        }
    }

    #[test]
    fn a_refund_is_never_given_up() {
        assert_eq!(State::Refunding.next(Event::RefundUnknown), Ok(State::Refunding));
        let ends: Vec<_> = EVENTS
            .iter()
            .filter_map(|event| State::Refunding.next(*event).ok())
            .collect();
        assert!(
            ends.iter()
                .all(|state| matches!(state, State::Refunding | State::Refunded)),
            "{ends:?}"
        );
    }

    #[test]
    fn a_paid_order_is_never_failed() {
        for state in [State::Charged, State::Succeeded, State::Refunding, State::Refunded] {
            assert!(
                EVENTS.iter().all(|event| state.next(*event) != Ok(State::Failed)),
                "{state}"
            );
        }
    }

    #[test]
    fn cancellation_has_a_way_out_of_every_state_but_the_compensated_ones() {
        assert_eq!(State::Started.next(Event::Cancelled), Ok(State::Failed));
        assert_eq!(State::Charged.next(Event::Cancelled), Ok(State::Refunding));
        assert_eq!(State::Succeeded.next(Event::Cancelled), Ok(State::Refunding));
        assert_eq!(State::Charged.pending_step(CANCELLED), Some(Step::HonourCancellation));
        for compensated in [State::Failed, State::Refunded, State::Refunding] {
            assert!(compensated.next(Event::Cancelled).is_err(), "{compensated}");
        }
    }

    #[test]
    fn an_order_whose_driver_is_unassigned_searches_for_another_and_is_not_charged_again() {
        let order = after(&[
            Event::ChargeIntended,
            Event::Charged,
            Event::DriverAssigned,
            Event::DriverUnassigned,
        ]);
        assert_eq!(order.pending_step(IDLE), Some(Step::Assign));
        for state in [State::Charged, State::Succeeded, State::Refunding, State::Refunded] {
            let back = EVENTS.iter().filter_map(|event| state.next(*event).ok());
            assert!(
                !back
                    .into_iter()
                    .any(|to| matches!(to, State::Started | State::Charging)),
                "{state}"
            );
        }
    }

    #[test]
    fn a_served_order_stays_served_whatever_is_refunded_of_it() {
        for event in [
            Event::RefundedInPart,
            Event::Refunded,
            Event::RefundFailed,
            Event::RefundUnknown,
        ] {
            assert_eq!(State::Succeeded.next(event), Ok(State::Succeeded));
        }
        let refund = Work {
            refund_open: true,
            ..IDLE
        };
        assert_eq!(State::Succeeded.pending_step(refund), Some(Step::Refund));
        assert_eq!(State::Succeeded.pending_step(IDLE), None);
    }

    #[test]
    fn a_hold_is_captured_or_voided_before_anything_is_refunded() {
        let work = Work {
            capture_open: true,
            refund_open: true,
            reconcile_requested: true,
            ..IDLE
        };
        for state in [State::Succeeded, State::Refunding] {
            assert_eq!(state.pending_step(work), Some(Step::Capture));
            assert_eq!(state.next(Event::CaptureFailed), Ok(state), "the service goes on");
        }
        assert_eq!(
            State::Charged.pending_step(work),
            Some(Step::Assign),
            "not before a driver is there"
        );
    }

    #[test]
    fn a_refund_that_fails_later_is_owed_again_and_not_sent_again_by_itself() {
        assert_eq!(State::Refunded.next(Event::RefundFailed), Ok(State::Refunding));
        assert_eq!(State::Refunding.pending_step(IDLE), Some(Step::Reconcile));
    }

    #[test]
    fn an_order_at_rest_is_compared_with_the_provider_when_that_is_requested() {
        let requested = Work {
            reconcile_requested: true,
            ..IDLE
        };
        for state in [State::Succeeded, State::Refunded] {
            assert_eq!(state.pending_step(requested), Some(Step::Reconcile));
            assert_eq!(state.next(Event::Reconciled), Ok(state));
        }
        assert_eq!(State::Failed.pending_step(requested), None, "there is no payment");
    }

    #[test]
    fn compensated_orders_are_final_but_for_a_refund_that_fails_and_have_a_reason() {
        for state in [State::Failed, State::Refunded] {
            assert!(state.is_terminal());
            let ways: Vec<_> = EVENTS
                .into_iter()
                .filter(|event| state.next(*event).is_ok_and(|to| to != state))
                .collect();
            let expected: &[Event] = if state == State::Failed {
                &[]
            } else {
                &[Event::RefundFailed]
            };
            assert_eq!(ways, expected, "{state}");
        }
        // Every event that begins a compensation carries the reason, and no other does.
        for state in State::ALL {
            for event in EVENTS {
                let Ok(next) = state.next(event) else { continue };
                let begins_compensation =
                    matches!(next, State::Failed | State::Refunding) && next != state && state != State::Refunded;
                assert_eq!(
                    event.failure_reason().is_some(),
                    begins_compensation,
                    "{state} {event:?}"
                );
            }
        }
    }

    #[test]
    fn every_state_can_still_be_settled() {
        for state in State::ALL {
            let mut reached = vec![state];
            let mut next = 0;
            while let Some(from) = reached.get(next).copied() {
                next += 1;
                let steps = EVENTS.iter().filter_map(|event| from.next(*event).ok());
                let new: Vec<_> = steps.filter(|to| !reached.contains(to)).collect();
                reached.extend(new);
            }
            assert!(reached.iter().any(|state| state.is_terminal()), "{state} is a trap");
        }
    }
}
