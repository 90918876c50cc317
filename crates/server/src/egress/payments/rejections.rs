//! Whether the provider rejects our requests: for reasons that are no order's, but the account's or our settings'.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::answer::{Answer, Cause};

/// After rejected charges of so many orders in a row the fault is taken to be ours. One alone may be a customer's, such
/// as an id of a payment method that never existed.
const ORDERS_IN_A_ROW: usize = 3;
/// So long after the last rejection it counts no more: then the next order finds out.
const OVER_AFTER: Duration = Duration::from_secs(30);

/// The rejected charges since the last one that was answered.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    // Held for a few comparisons, never across an await.
    last: Mutex<Vec<Rejection>>,
}

#[derive(Debug)]
struct Rejection {
    order: Uuid,
    at: Instant,
    why: String,
}

impl Rejections {
    /// Notes the answer to a charge.
    pub fn note<T>(&self, order: Uuid, answer: &Answer<T>) {
        self.note_at(order, answer, Instant::now());
    }

    /// Why the provider rejects our requests, if it does.
    pub fn why(&self) -> Option<String> {
        self.why_at(Instant::now())
    }

    fn note_at<T>(&self, order: Uuid, answer: &Answer<T>, now: Instant) {
        let why = match answer {
            Answer::Rejected(reason) => format!("the payment provider rejects our requests: {}", reason.code),
            Answer::NotExecuted(cause @ Cause::Unauthorized) => cause.to_string(),
            Answer::Done(_) | Answer::Declined(_) => {
                self.lock().clear();
                return;
            }
            Answer::NotExecuted(_) | Answer::InProgress | Answer::Ambiguous(_) => return,
        };
        let mut last = self.lock();
        // Tries of one order count once.
        last.retain(|rejection| rejection.order != order && now - rejection.at < OVER_AFTER);
        if last.len() >= ORDERS_IN_A_ROW {
            last.remove(0);
        }
        last.push(Rejection { order, at: now, why });
    }

    fn why_at(&self, now: Instant) -> Option<String> {
        let last = self.lock();
        let newest = last.last().filter(|rejection| now - rejection.at < OVER_AFTER)?;
        (last.len() >= ORDERS_IN_A_ROW).then(|| newest.why.clone())
    }

    /// No code under the lock panics; and if it did, that would be no reason to fail a call.
    fn lock(&self) -> MutexGuard<'_, Vec<Rejection>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::DeclineReason;
    use super::*;

    fn rejected() -> Answer<()> {
        Answer::Rejected(DeclineReason {
            code: "parameter_unknown".to_owned(),
            message: "The payment was declined.",
        })
    }

    #[test]
    fn three_orders_in_a_row_show_that_the_fault_is_ours() {
        let rejections = Rejections::default();
        let order = Uuid::from_u128;
        for n in [1, 2, 2, 1, 2] {
            rejections.note(order(n), &rejected());
        }
        assert_eq!(rejections.why(), None, "two orders, tried often");
        rejections.note(order(3), &Answer::<()>::NotExecuted(Cause::NoConnection));
        assert_eq!(rejections.why(), None);
        rejections.note(order(3), &rejected());
        assert!(rejections.why().is_some_and(|why| why.contains("parameter_unknown")));

        let later = Instant::now() + OVER_AFTER;
        assert_eq!(rejections.why_at(later), None, "the next order finds out");
    }

    #[test]
    fn a_charge_that_is_answered_ends_the_row() {
        let rejections = Rejections::default();
        for n in 1..=5 {
            rejections.note(Uuid::from_u128(n), &rejected());
        }
        assert!(rejections.why().is_some());
        rejections.note(Uuid::from_u128(6), &Answer::Done(()));
        assert_eq!(rejections.why(), None);
    }
}
