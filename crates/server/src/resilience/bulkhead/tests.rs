//! The line before the slots.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;

fn bulkhead(slots: usize) -> (Bulkhead, BulkheadMetrics) {
    let metrics = BulkheadMetrics::default();
    (Bulkhead::new(slots, metrics.clone()), metrics)
}

fn since(second: i64) -> Turn {
    Turn::Since(Timestamp::from_second(second).unwrap())
}

/// A call that stands in the line.
struct InLine<'a>(Pin<Box<dyn Future<Output = Head> + 'a>>);

impl InLine<'_> {
    fn new(bulkhead: &Bulkhead, turn: Turn) -> InLine<'_> {
        let mut call = InLine(Box::pin(bulkhead.head(turn)));
        assert!(call.head().is_none(), "it waits");
        call
    }

    /// The head of the line, if it is this call's turn.
    fn head(&mut self) -> Option<Head> {
        match self.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(head) => Some(head),
            Poll::Pending => None,
        }
    }
}

#[tokio::test]
async fn the_one_too_many_waits_and_a_freed_slot_is_used_again() {
    let (bulkhead, metrics) = bulkhead(2);
    let first = bulkhead.head(since(0)).await.enter();
    let second = bulkhead.head(since(0)).await.enter();
    let mut third = InLine::new(&bulkhead, since(0));
    assert_eq!((metrics.in_flight.get(), metrics.waiting.get()), (2, 1));
    drop(first);
    let third = third.head().expect("a slot is free").enter();
    assert_eq!((metrics.in_flight.get(), metrics.waiting.get()), (2, 0));
    drop((second, third));
    assert_eq!(metrics.in_flight.get(), 0);
}

#[tokio::test]
async fn the_oldest_goes_first_and_before_it_what_ends_what_was_begun() {
    let (bulkhead, _) = bulkhead(1);
    let slot = bulkhead.head(since(0)).await.enter();
    let turns = [since(9), since(1), Turn::First, since(1)];
    let mut calls: Vec<_> = turns.map(|turn| InLine::new(&bulkhead, turn)).into();
    drop(slot);
    // By their number in the list of those that are left.
    for next in [2, 1, 1, 0] {
        let ready: Vec<_> = calls.iter_mut().map(InLine::head).collect();
        let is_ready: Vec<_> = ready.iter().map(Option::is_some).collect();
        assert_eq!(
            is_ready.iter().position(|is_ready| *is_ready),
            Some(next),
            "{is_ready:?}"
        );
        assert_eq!(is_ready.iter().filter(|is_ready| **is_ready).count(), 1, "{is_ready:?}");
        calls.remove(next);
    }
}

#[tokio::test]
async fn who_stands_at_the_head_keeps_the_others_back_until_it_enters_or_leaves() {
    let (bulkhead, _) = bulkhead(8);
    let head = bulkhead.head(since(5)).await;
    let mut next = InLine::new(&bulkhead, since(1));
    drop(head);
    let head = next.head().expect("the head is free");
    let mut last = InLine::new(&bulkhead, since(1));
    let _slot = head.enter();
    assert!(last.head().is_some());
}

#[tokio::test]
async fn who_leaves_the_line_leaves_no_gap_in_it() {
    let (bulkhead, metrics) = bulkhead(1);
    let slot = bulkhead.head(since(0)).await.enter();
    let (waits, is_next) = (InLine::new(&bulkhead, since(1)), InLine::new(&bulkhead, since(2)));
    let mut last = InLine::new(&bulkhead, since(3));
    drop(waits);
    assert_eq!(metrics.waiting.get(), 2);
    drop(slot);
    // It has the head, and leaves before it looks.
    drop(is_next);
    assert!(last.head().is_some());
    assert_eq!(metrics.waiting.get(), 0);
}

#[tokio::test]
async fn new_work_is_refused_when_its_call_would_wait_for_too_long() {
    let (bulkhead, _) = bulkhead(1);
    let (rate, none) = (NonZeroU32::new(10_000).unwrap(), Duration::ZERO);
    let expected = bulkhead.expect(rate, none).expect("no call waits");
    let refused = bulkhead.expect(NonZeroU32::MIN, none).unwrap_err();
    assert!(refused.0 >= Duration::from_secs(1), "one a second, and one is expected");
    drop(expected);

    let slot = bulkhead.head(since(0)).await.enter();
    slot.used();
    let mut waits = InLine::new(&bulkhead, since(0));
    assert!(bulkhead.expect(rate, none).is_err());
    drop(slot);
    drop(waits.head().expect("the slot is free"));
    drop(waits);
    bulkhead.expect(rate, none).expect("no call waits any more");
}
