//! Whether the provider rejects our requests: for reasons that are no order's, but the account's or our settings'.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::answer::{Answer, Cause};
use super::verdict::UNKNOWN_METHOD;

/// After the rejected charges of so many orders in a row the fault is taken to be ours.
const ORDERS_IN_A_ROW: usize = 3;
/// So long after the first rejection of the last of them it counts no more: then the next order finds out.
const OVER_AFTER: Duration = Duration::from_secs(30);
/// Of so many rejected orders it is known that they were counted. They are tried again, and count once.
const COUNTED_MAX: usize = 1024;

/// The rejected charges since the last one that was answered.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    // Held for a few comparisons, never across an await.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Whether a payment method was found and asked for money: then the secret is that of the right account.
    knows_methods: bool,
    in_a_row: usize,
    last: Option<(Instant, String)>,
    counted: VecDeque<Uuid>,
}

impl Rejections {
    /// What the answer to a charge means, and notes it. A payment method that the provider does not know is the customer's
    /// mistake, once it is certain that it knows those of others: then it is declined.
    pub fn judge<T>(&self, order: Uuid, answer: Answer<T>) -> Answer<T> {
        self.judge_at(order, answer, Instant::now())
    }

    /// Why the provider rejects our requests, if it does.
    pub fn why(&self) -> Option<String> {
        self.why_at(Instant::now())
    }

    fn judge_at<T>(&self, order: Uuid, answer: Answer<T>, now: Instant) -> Answer<T> {
        let mut inner = self.lock();
        let why = match answer {
            Answer::Rejected(reason) if reason.code == UNKNOWN_METHOD && inner.knows_methods => {
                return Answer::Declined(reason);
            }
            Answer::Done(_) | Answer::Declined(_) | Answer::Failed { .. } => {
                (inner.knows_methods, inner.in_a_row, inner.last) = (true, 0, None);
                return answer;
            }
            Answer::Rejected(ref reason) => format!("the payment provider rejects our requests: {}", reason.code),
            Answer::NotExecuted(cause @ Cause::Unauthorized) => cause.to_string(),
            Answer::NotExecuted(_) | Answer::InProgress | Answer::Ambiguous(_) => return answer,
        };
        if !inner.counted.contains(&order) {
            inner.counted.truncate(COUNTED_MAX - 1);
            inner.counted.push_front(order);
            inner.in_a_row += 1;
            inner.last = Some((now, why));
        }
        answer
    }

    fn why_at(&self, now: Instant) -> Option<String> {
        let inner = self.lock();
        let (at, why) = inner.last.as_ref()?;
        (inner.in_a_row >= ORDERS_IN_A_ROW && now.duration_since(*at) < OVER_AFTER).then(|| why.clone())
    }

    /// No code under the lock panics; and if it did, that would be no reason to fail a call.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::DeclineReason;
    use super::*;

    fn rejected(code: &str) -> Answer<()> {
        Answer::Rejected(DeclineReason {
            code: code.to_owned(),
            message: "The payment was declined.",
            is_replay: false,
        })
    }

    fn order(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn three_orders_in_a_row_show_that_the_fault_is_ours() {
        let rejections = Rejections::default();
        for n in [1, 2, 2, 1, 2] {
            drop(rejections.judge(order(n), rejected("parameter_unknown")));
        }
        assert_eq!(rejections.why(), None, "two orders, tried often");
        drop(rejections.judge(order(3), Answer::<()>::NotExecuted(Cause::NoConnection)));
        assert_eq!(rejections.why(), None);
        drop(rejections.judge(order(3), rejected("parameter_unknown")));
        assert!(rejections.why().is_some_and(|why| why.contains("parameter_unknown")));
    }

    #[test]
    fn orders_that_are_tried_again_do_not_keep_others_out() {
        let rejections = Rejections::default();
        for n in 1..=3 {
            drop(rejections.judge(order(n), rejected("parameter_unknown")));
        }
        let later = Instant::now() + OVER_AFTER;
        for n in 1..=3 {
            drop(rejections.judge_at(order(n), rejected("parameter_unknown"), later));
        }
        assert_eq!(rejections.why_at(later), None, "the next order finds out");
        drop(rejections.judge_at(order(4), rejected("parameter_unknown"), later));
        assert!(rejections.why_at(later).is_some());
    }

    #[test]
    fn a_charge_that_is_answered_ends_the_row() {
        let rejections = Rejections::default();
        for n in 1..=5 {
            drop(rejections.judge(order(n), rejected("parameter_unknown")));
        }
        assert!(rejections.why().is_some());
        drop(rejections.judge(order(6), Answer::Done(())));
        assert_eq!(rejections.why(), None);
    }

    #[test]
    fn an_unknown_payment_method_is_declined_once_others_are_known() {
        let rejections = Rejections::default();
        let unknown = || rejected(UNKNOWN_METHOD);
        assert_eq!(
            rejections.judge(order(1), unknown()),
            unknown(),
            "it may be the account"
        );
        drop(rejections.judge(order(2), Answer::Done(())));
        for n in [1, 3, 4, 5] {
            let answer = rejections.judge(order(n), unknown());
            assert!(matches!(answer, Answer::Declined(_)), "{answer:?}");
        }
        assert_eq!(rejections.why(), None);
    }
}
