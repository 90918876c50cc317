//! The outcome of a step of the saga, and what it means by the rulebook.

use jiff::Timestamp;
use waybill_domain::order::{Event, FailureReason, OpenRefund, Order, Payment, State};
use waybill_domain::payment::Operation;

use super::ledger::UnknownOutcome;
use super::reconciled::{REFUND_FAILED, Reconciliation};

/// The outcome of a step, with what is to be stored of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// The order is ready to be charged.
    ChargeIntended,
    /// The provider confirmed the charge.
    Charged {
        /// The provider's id of it.
        provider_id: String,
    },
    /// The provider declined.
    Declined {
        /// The provider's code.
        code: String,
    },
    /// It is certain that the charge was not executed and never will be.
    ChargeRevoked {
        /// Why it is not wanted any more.
        reason: FailureReason,
    },
    /// The charge was confirmed when it was too late to serve the order.
    ChargedTooLate,
    /// It is not known whether the charge happened.
    ChargeUnknown(UnknownOutcome),
    /// No driver within the window.
    NoDriver {
        /// For people.
        why: String,
    },
    /// A requested cancellation takes effect.
    Cancelled,
    /// The provider captured so much of the hold, in minor units; 0: it has voided it.
    Captured {
        /// Which of the two was asked for.
        operation: Operation,
        /// How much.
        captured_minor: i64,
        /// Whether the hold had ended before this request: by an earlier one, or by others.
        was_ended: bool,
    },
    /// It is not known whether the capture or the void happened.
    CaptureUnknown(Operation, UnknownOutcome),
    /// The hold was gone before it could be captured.
    CaptureFailed {
        /// The provider's code.
        code: String,
    },
    /// It is not known whether the refund happened.
    RefundUnknown(UnknownOutcome),
    /// The provider confirmed a refund.
    Refunded {
        /// The refund.
        refund: OpenRefund,
        /// The provider's id of it.
        provider_id: String,
    },
    /// A refund failed for good.
    RefundFailed {
        /// The refund.
        refund: OpenRefund,
        /// The provider's id of it, if it made one.
        provider_id: Option<String>,
        /// The provider's code.
        code: String,
    },
    /// The refund that compensates the order is not sent any more, and was not made: what is owed gets another key.
    RefundReplaced {
        /// The refund.
        refund: OpenRefund,
        /// For people.
        why: String,
    },
    /// The payment was compared with the provider's record.
    Reconciled(Box<Reconciliation>),
}

impl StepOutcome {
    /// The rulebook's event, for this order.
    pub fn event(&self, order: &Order) -> Event {
        match self {
            StepOutcome::ChargeIntended => Event::ChargeIntended,
            StepOutcome::Charged { .. } => Event::Charged,
            StepOutcome::Declined { .. } => Event::Declined,
            StepOutcome::ChargeRevoked { reason } => Event::ChargeRevoked(*reason),
            StepOutcome::ChargedTooLate => Event::ChargedTooLate,
            StepOutcome::ChargeUnknown(_) => Event::ChargeUnknown,
            StepOutcome::NoDriver { .. } => Event::NoDriver,
            StepOutcome::Cancelled => Event::Cancelled,
            StepOutcome::Captured { captured_minor, .. } => {
                let kept = order.payment.as_ref().map_or(0, |payment| payment.kept_minor);
                if order.state == State::Refunding && *captured_minor <= kept {
                    Event::Refunded
                } else {
                    Event::Captured
                }
            }
            StepOutcome::CaptureUnknown(..) => Event::CaptureUnknown,
            // Nothing is taken, so nothing is to be given back.
            StepOutcome::CaptureFailed { .. } if order.state == State::Refunding => Event::Refunded,
            StepOutcome::CaptureFailed { .. } => Event::CaptureFailed,
            // What replaces it is as unknown as it was.
            StepOutcome::RefundUnknown(_) | StepOutcome::RefundReplaced { .. } => Event::RefundUnknown,
            StepOutcome::Refunded { refund, .. } => {
                if refunded_minor(order) + refund.amount.minor_units() >= refundable_minor(order) {
                    Event::Refunded
                } else {
                    Event::RefundedInPart
                }
            }
            StepOutcome::RefundFailed { .. } => Event::RefundFailed,
            StepOutcome::Reconciled(found) => found.event(order.state, refundable_minor(order)),
        }
    }

    /// Why an operator should look at the order after it.
    pub(super) fn flag(&self) -> Option<String> {
        match self {
            StepOutcome::RefundFailed { code, .. } => Some(format!("{REFUND_FAILED} ({code})")),
            StepOutcome::Reconciled(found) => found.flag(),
            _ => None,
        }
    }

    /// When the comparison with the provider's record was requested that is to be made after it: the one of `requested_at`,
    /// unless it is that one; or one that it asks for itself, at `now`.
    pub(super) fn next_comparison(&self, requested_at: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        match self {
            StepOutcome::Reconciled(found) => requested_at.filter(|_| found.requested_at != requested_at),
            _ if self.asks_for_comparison() => requested_at.or(Some(now)),
            _ => requested_at,
        }
    }

    /// Whether the payment is to be compared before anything else of it is refunded: who captured its hold may have refunded
    /// of it, too.
    pub(super) fn asks_for_comparison(&self) -> bool {
        matches!(self, StepOutcome::Captured { captured_minor, was_ended: true, .. } if *captured_minor > 0)
    }

    /// Whether it records the intent to move money, of which nothing is sent yet.
    pub(super) fn records_intent(&self) -> bool {
        matches!(
            self,
            StepOutcome::ChargeIntended
                | StepOutcome::ChargedTooLate
                | StepOutcome::NoDriver { .. }
                | StepOutcome::Cancelled
        )
    }
}

/// What was refunded so far, in minor units.
pub(super) fn refunded_minor(order: &Order) -> i64 {
    order.payment.as_ref().map_or(0, Payment::refunded_minor)
}

/// What the order is to give back if it is not served, in minor units.
fn refundable_minor(order: &Order) -> i64 {
    order.payment.as_ref().map_or(0, Payment::refundable_minor)
}
