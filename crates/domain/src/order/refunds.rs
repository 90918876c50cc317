//! The refunds of one payment: what the provider's record says about those in the ledger, and what is still owed.
//!
//! Sums decide. A refund that a person made at the provider counts like one of our own, so that no customer is paid twice
//! and none too little.

use crate::id::{IdempotencyKey, OrderId};
use crate::money::Money;
use crate::text::Reason;

/// A request for a refund of a part of a served order's payment, every field checked.
#[derive(Debug, Clone, PartialEq)]
pub struct RefundRequest {
    /// The order.
    pub order: OrderId,
    /// The caller's key for it, within the order.
    pub key: IdempotencyKey,
    /// How much.
    pub amount: Money,
    /// Why, for people.
    pub reason: Reason,
}

/// What became of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefundState {
    /// Decided; the provider has not confirmed it.
    Open,
    /// Confirmed by the provider, or asserted by an operator.
    Succeeded,
    /// Failed for good: its money is back on our own account. It is not sent again, only paid again under another key.
    Failed,
    /// Never made: the refund that was made in its place has another key.
    Replaced,
}

/// A refund in the ledger. Amounts are minor units of the payment's currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRefund {
    /// Its number within the order, from 1. The provider's key comes from it.
    pub number: i32,
    /// How much.
    pub amount_minor: i64,
    /// What became of it.
    pub state: RefundState,
    /// Whether a call asked for exactly this amount; else it is whatever is left to compensate the order.
    pub is_requested: bool,
    /// The provider's id, once that is known.
    pub provider_id: Option<String>,
}

/// A refund that is decided and not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRefund {
    /// Its number within the order.
    pub number: i32,
    /// How much.
    pub amount: Money,
    /// Whether a call or an operator asked for exactly this amount; else it is what is left to compensate the order.
    pub is_requested: bool,
}

/// A refund that the provider has of the payment, or that an operator made past it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRefund {
    /// The provider's id.
    pub provider_id: String,
    /// Who made it.
    pub maker: Maker,
    /// How much.
    pub amount_minor: i64,
    /// What became of it.
    pub state: ListedState,
}

/// Who made a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Maker {
    /// The order itself: this is the number that the refund carries.
    Order(i32),
    /// A person, by hand.
    Person,
    /// The customer's bank: the customer disputed the payment, and has won.
    Bank,
    /// An operator, past the provider.
    Operator,
}

/// What became of a refund at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListedState {
    /// It will still succeed or fail.
    Pending,
    /// The customer has the money.
    Succeeded,
    /// It moved nothing, and will not.
    Failed,
}

/// What the ledger has to learn from the provider, and what is owed after that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settlement {
    /// Refunds of the ledger that were made, by number, with the provider's id.
    pub succeeded: Vec<(i32, String)>,
    /// Refunds of the ledger that failed for good, by number.
    pub failed: Vec<i32>,
    /// Refunds that the ledger does not have.
    pub found: Vec<ListedRefund>,
    /// Open refunds that are not made any more, since more was refunded than was known when they were decided; and failed
    /// ones that were made after all, which are among those found.
    pub replaced: Vec<i32>,
    /// Requested refunds for which too little is left.
    pub impossible: Vec<i32>,
    /// Whether the provider has a refund that is not decided yet.
    pub is_pending: bool,
    /// What has been refunded after all this.
    pub refunded_minor: i64,
    /// What the refunds that are still open will refund.
    pub open_minor: i64,
    /// What refunds failed to refund, now or before, and was not replaced: at most what is left.
    pub failed_minor: i64,
}

impl Settlement {
    /// Compares the ledger's refunds of a payment of `charged_minor` with those that the provider `listed`.
    pub fn of(charged_minor: i64, ledger: &[LedgerRefund], listed: &[ListedRefund]) -> Settlement {
        let mut found = Settlement::default();
        for refund in listed {
            found.add(ledger, refund);
        }
        found.sum_up(charged_minor, ledger);
        found
    }

    /// What is owed of a payment that is refunded in full, beyond what is open or pending.
    pub fn left_minor(&self, charged_minor: i64) -> i64 {
        charged_minor - self.refunded_minor - self.open_minor
    }

    /// Whether the ledger learns anything.
    pub fn is_news(&self) -> bool {
        let Settlement {
            succeeded,
            failed,
            found,
            replaced,
            impossible,
            ..
        } = self;
        !(succeeded.is_empty() && failed.is_empty() && found.is_empty() && replaced.is_empty() && impossible.is_empty())
    }

    fn add(&mut self, ledger: &[LedgerRefund], refund: &ListedRefund) {
        let by_id = ledger
            .iter()
            .find(|ours| ours.provider_id.as_ref() == Some(&refund.provider_id));
        let by_number = ledger.iter().find(|ours| {
            ours.provider_id.is_none()
                && refund.maker == Maker::Order(ours.number)
                && ours.amount_minor == refund.amount_minor
        });
        let ours = by_id.or(by_number).filter(|ours| ours.state != RefundState::Replaced);
        match (ours, refund.state) {
            (Some(ours), ListedState::Succeeded) if ours.state == RefundState::Open => {
                self.succeeded.push((ours.number, refund.provider_id.clone()));
            }
            // It was closed, and its request arrived later. What it was to refund is refunded: it is not paid again.
            (Some(ours), ListedState::Succeeded) if ours.is_failed_unmade() => {
                self.replaced.push(ours.number);
                self.found.push(refund.clone());
            }
            (Some(ours), ListedState::Failed) if ours.state != RefundState::Failed => self.failed.push(ours.number),
            (Some(ours), ListedState::Pending) if ours.state == RefundState::Open || ours.is_failed_unmade() => {
                self.is_pending = true;
            }
            (Some(_), _) | (None, ListedState::Failed) => {}
            (None, ListedState::Succeeded) => self.found.push(refund.clone()),
            (None, ListedState::Pending) => self.is_pending = true,
        }
    }

    fn sum_up(&mut self, charged_minor: i64, ledger: &[LedgerRefund]) {
        let has = |numbers: &[(i32, String)], number| numbers.iter().any(|(one, _)| *one == number);
        let is_done = |ours: &LedgerRefund| {
            (ours.state == RefundState::Succeeded || has(&self.succeeded, ours.number))
                && !self.failed.contains(&ours.number)
        };
        let by_us: i64 = ledger
            .iter()
            .filter(|ours| is_done(ours))
            .map(|ours| ours.amount_minor)
            .sum();
        let by_hand: i64 = self.found.iter().map(|refund| refund.amount_minor).sum();
        self.refunded_minor = by_us + by_hand;
        let is_failed = |ours: &LedgerRefund| {
            (ours.state == RefundState::Failed && !self.replaced.contains(&ours.number))
                || self.failed.contains(&ours.number)
        };
        let failed = ledger.iter().filter(|ours| is_failed(ours));
        self.failed_minor = failed.map(|ours| ours.amount_minor).sum();
        for ours in ledger {
            let has_ended = self.failed.contains(&ours.number) || has(&self.succeeded, ours.number);
            if ours.state != RefundState::Open || has_ended {
                continue;
            }
            if self.refunded_minor + self.open_minor + ours.amount_minor <= charged_minor {
                self.open_minor += ours.amount_minor;
            } else if ours.is_requested {
                self.impossible.push(ours.number);
                self.failed_minor += ours.amount_minor;
            } else {
                self.replaced.push(ours.number);
            }
        }
        // What is back in another way needs no second try.
        self.failed_minor = self.failed_minor.min(self.left_minor(charged_minor).max(0));
    }
}

impl LedgerRefund {
    /// Whether it was closed as failed, and the provider had not made it.
    fn is_failed_unmade(&self) -> bool {
        self.state == RefundState::Failed && self.provider_id.is_none()
    }
}

impl RefundState {
    /// Every state.
    pub const ALL: [RefundState; 4] = [
        RefundState::Open,
        RefundState::Succeeded,
        RefundState::Failed,
        RefundState::Replaced,
    ];

    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            RefundState::Open => "open",
            RefundState::Succeeded => "succeeded",
            RefundState::Failed => "failed",
            RefundState::Replaced => "replaced",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    const CHARGED: i64 = 1_999;

    fn ours(number: i32, amount_minor: i64, state: RefundState) -> LedgerRefund {
        LedgerRefund {
            number,
            amount_minor,
            state,
            is_requested: false,
            provider_id: (state == RefundState::Succeeded).then(|| format!("re_{number}")),
        }
    }

    fn listed(id: &str, maker: Maker, amount_minor: i64, state: ListedState) -> ListedRefund {
        ListedRefund {
            provider_id: id.to_owned(),
            maker,
            amount_minor,
            state,
        }
    }

    #[test]
    fn a_part_that_was_refunded_by_hand_replaces_the_refund_of_all() {
        let by_hand = listed("re_hand", Maker::Person, 500, ListedState::Succeeded);
        let settlement = Settlement::of(CHARGED, &[ours(1, 1_999, RefundState::Open)], from_ref(&by_hand));
        assert_eq!(settlement.found, [by_hand]);
        assert_eq!(
            (settlement.replaced.as_slice(), settlement.left_minor(CHARGED)),
            (&[1][..], 1_499)
        );
    }

    #[test]
    fn our_own_refund_is_recognized_and_counted_once() {
        let own = listed("re_1", Maker::Order(1), 1_999, ListedState::Succeeded);
        let open = Settlement::of(CHARGED, &[ours(1, 1_999, RefundState::Open)], from_ref(&own));
        assert_eq!(open.succeeded, [(1, "re_1".to_owned())]);
        assert_eq!((open.found.len(), open.left_minor(CHARGED)), (0, 0));
        let known = Settlement::of(CHARGED, &[ours(1, 1_999, RefundState::Succeeded)], &[own]);
        assert!(!known.is_news(), "{known:?}");
        assert_eq!(known.left_minor(CHARGED), 0);
    }

    #[test]
    fn a_refund_that_failed_later_is_owed_again_and_open_to_none() {
        let failed = listed("re_1", Maker::Order(1), 1_999, ListedState::Failed);
        let settlement = Settlement::of(CHARGED, &[ours(1, 1_999, RefundState::Succeeded)], &[failed]);
        assert_eq!(settlement.failed, [1]);
        assert_eq!(settlement.failed_minor, 1_999);
        assert_eq!((settlement.refunded_minor, settlement.left_minor(CHARGED)), (0, 1_999));
    }

    #[test]
    fn a_refund_that_failed_and_was_paid_again_is_settled() {
        let failed = ours(1, 1_999, RefundState::Failed);
        let again = ours(2, 1_999, RefundState::Succeeded);
        let settlement = Settlement::of(
            CHARGED,
            &[failed, again],
            &[
                listed("re_1", Maker::Order(1), 1_999, ListedState::Failed),
                listed("re_2", Maker::Order(2), 1_999, ListedState::Succeeded),
            ],
        );
        assert!(!settlement.is_news(), "{settlement:?}");
        assert_eq!(settlement.left_minor(CHARGED), 0);
    }

    #[test]
    fn a_refund_that_failed_is_not_owed_once_all_is_back_in_another_way() {
        let failed = ours(1, 500, RefundState::Failed);
        let by_hand = |amount| listed("re_hand", Maker::Person, amount, ListedState::Succeeded);
        let owed = |amount| Settlement::of(CHARGED, from_ref(&failed), &[by_hand(amount)]).failed_minor;
        assert_eq!([owed(1_000), owed(1_600), owed(CHARGED)], [500, 399, 0]);
    }

    #[test]
    fn a_requested_refund_for_which_too_little_is_left_is_impossible_and_not_made_smaller() {
        let requested = LedgerRefund {
            is_requested: true,
            ..ours(1, 1_500, RefundState::Open)
        };
        let by_hand = listed("re_hand", Maker::Person, 500, ListedState::Succeeded);
        let settlement = Settlement::of(CHARGED, &[requested], &[by_hand]);
        assert_eq!(
            (settlement.impossible.as_slice(), settlement.replaced.len()),
            (&[1][..], 0)
        );
    }

    #[test]
    fn a_replaced_refund_that_was_made_after_all_counts_like_one_by_hand() {
        let replaced = ours(1, 1_999, RefundState::Replaced);
        let made = listed("re_late", Maker::Order(1), 1_999, ListedState::Succeeded);
        let settlement = Settlement::of(CHARGED, &[replaced, ours(2, 1_499, RefundState::Open)], from_ref(&made));
        assert_eq!(settlement.found, [made]);
        assert_eq!(
            (settlement.replaced.as_slice(), settlement.left_minor(CHARGED)),
            (&[2][..], 0)
        );
    }

    /// It was impossible, and its request was on its way: then what stood against it failed, and it was made.
    #[test]
    fn a_refund_that_was_closed_as_failed_and_made_after_all_counts_and_is_owed_no_more() {
        let failed = ours(1, 1_000, RefundState::Failed);
        let made = listed("re_late", Maker::Order(1), 1_000, ListedState::Succeeded);
        let settlement = Settlement::of(CHARGED, from_ref(&failed), from_ref(&made));
        assert_eq!(settlement.found, from_ref(&made));
        assert_eq!((settlement.refunded_minor, settlement.failed_minor), (1_000, 0));
        assert_eq!(settlement.replaced, [1], "it is not paid again");
        let pending = listed("re_late", Maker::Order(1), 1_000, ListedState::Pending);
        assert!(Settlement::of(CHARGED, &[failed], &[pending]).is_pending);
    }

    #[test]
    fn what_is_pending_at_the_provider_decides_nothing() {
        for maker in [Maker::Person, Maker::Order(1)] {
            let pending = listed("re_1", maker, 1_999, ListedState::Pending);
            let settlement = Settlement::of(CHARGED, &[ours(1, 1_999, RefundState::Open)], &[pending]);
            assert!(settlement.is_pending && !settlement.is_news(), "{settlement:?}");
        }
    }
}
