//! The model: every way in which one order can go, found by trying all of them.
//!
//! The rulebook that is explored is the service's own (`State::next`, `State::pending_step`); around it are a provider
//! that breaks down and whose keys expire, a network that loses, delays and doubles, and workers that crash or sleep past their
//! lease at any moment. A broken promise is shown with the shortest way to it. What is in it, what is not, and what it
//! takes for granted: `docs/adr/0010-a-model-of-our-own.md`. `-- --nocapture` shows the numbers and the ways.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "the exception for tests in clippy.toml covers the test functions, not the functions that they share"
)]

mod flaws;
mod moves;
mod outside;
mod promises;
#[path = "../search/mod.rs"]
mod search;
mod steps;
mod world;

use std::collections::HashSet;
use std::sync::LazyLock;

use waybill_domain::order::{Event, FailureReason, State};

use flaws::Flaw;
use moves::{Move, Next, add_moves};
use promises::{Promise, broken, needs_a_person};
use search::{Found, Model, assert_breaks, explore};
use world::World;

/// One order, with the service as it is built or with a flaw.
struct OneOrder(Option<Flaw>);

impl Model for OneOrder {
    type World = World;
    type Key = u64;
    type Move = Move;
    type Promise = Promise;

    const BEGINNING: World = World::BEGINNING;
    const CAN_FINISH: Promise = Promise::CanFinish;

    fn key(&self, world: &World) -> u64 {
        world.packed()
    }

    fn add_moves(&self, world: &World, next: &mut Next) {
        add_moves(world, self.0, next);
    }

    fn broken(&self, world: &World) -> Option<Promise> {
        broken(world)
    }

    fn is_at_rest(&self, world: &World) -> bool {
        world.is_at_rest()
    }

    fn needs_a_person(&self, world: &World) -> bool {
        needs_a_person(world)
    }

    fn state(&self, world: &World) -> State {
        world.row.state
    }
}

/// The service as it is built, explored once for all tests that ask about it.
static AS_BUILT: LazyLock<Found> = LazyLock::new(|| explore("model", OneOrder(None)));

#[test]
fn no_promise_is_broken_whatever_happens() {
    // The search fails with the way to the first promise that is broken. A search of a small world proves little.
    assert!(AS_BUILT.states >= 100_000, "{:?}", *AS_BUILT);
}

#[test]
fn the_model_takes_every_transition_of_the_rulebook_and_no_other() {
    let events = [
        Event::ChargeIntended,
        Event::ChargeUnknown,
        Event::Charged,
        Event::Declined,
        Event::ChargeRevoked(FailureReason::Cancelled),
        Event::ChargedTooLate,
        Event::DriverAssigned,
        Event::NoDriver,
        Event::DriverUnassigned,
        Event::Cancelled,
        Event::RefundUnknown,
        Event::Refunded,
    ];
    let mut rules = HashSet::new();
    for from in State::ALL {
        let after = events.iter().filter_map(|event| from.next(*event).ok());
        rules.extend(after.filter(|to| *to != from).map(|to| (from, to)));
    }
    assert_eq!(AS_BUILT.transitions, rules);
}

#[test]
fn a_write_without_the_fence_takes_a_paid_order_back_to_its_charge() {
    breaks(Flaw::WritesWithoutFence, Promise::PaidIsNotChargedAgain);
}

#[test]
fn a_random_key_of_the_charge_charges_twice() {
    breaks(Flaw::RandomChargeKey, Promise::ChargedOnce);
}

#[test]
fn a_random_key_of_the_refund_refunds_twice() {
    breaks(Flaw::RandomRefundKey, Promise::RefundedOnce);
}

#[test]
fn silence_taken_for_failure_charges_a_failed_order() {
    breaks(Flaw::SilenceMeansFailed, Promise::FailedIsFree);
}

#[test]
fn silence_taken_for_a_charge_serves_an_order_that_is_not_paid() {
    breaks(Flaw::SilenceMeansCharged, Promise::ChargedIsPaid);
}

#[test]
fn silence_taken_for_a_refund_keeps_the_money() {
    breaks(Flaw::SilenceMeansRefunded, Promise::RefundedIsPaidBack);
}

#[test]
fn a_refund_that_is_tried_once_keeps_the_money() {
    breaks(Flaw::RefundTriedOnce, Promise::CanFinish);
}

#[test]
fn a_charge_that_is_not_found_may_still_come() {
    breaks(Flaw::NotFoundMeansFailed, Promise::FailedIsFree);
}

#[test]
fn a_key_that_is_sent_however_old_charges_a_failed_order() {
    breaks(Flaw::OldKeySentAgain, Promise::FailedIsFree);
}

#[test]
fn a_key_that_is_revoked_however_old_fails_a_charged_order() {
    breaks(Flaw::OldKeyRevoked, Promise::FailedIsFree);
}

#[test]
fn a_refusal_of_the_second_send_says_nothing_of_the_first() {
    breaks(Flaw::RefusalEndsDoubt, Promise::FailedIsFree);
}

#[test]
fn a_send_that_is_not_recorded_fails_a_charged_order() {
    breaks(Flaw::SendNotRecorded, Promise::FailedIsFree);
}

#[test]
fn a_person_who_decides_while_the_key_may_be_sent_fails_an_order_that_a_sleeper_charges() {
    breaks(Flaw::PersonDecidesEarly, Promise::FailedIsFree);
}

#[test]
fn a_cancellation_that_does_not_wait_for_the_charge_fails_a_charged_order() {
    breaks(Flaw::CancelFailsChargingOrder, Promise::FailedIsFree);
}

#[test]
fn a_worker_that_honours_a_cancellation_in_doubt_is_refused_by_the_rulebook() {
    breaks(Flaw::CancelHonouredInDoubt, Promise::RulebookKnowsIt);
}

#[test]
fn an_assignment_that_does_not_look_for_a_cancellation_serves_a_cancelled_order() {
    breaks(Flaw::AssignmentIgnoresCancel, Promise::CancelWins);
}

#[test]
fn a_cancellation_after_the_completion_refunds_what_was_served() {
    breaks(Flaw::CancelAfterCompletion, Promise::ServedOrRefunded);
}

#[test]
fn an_order_that_begins_anew_without_its_driver_is_charged_again() {
    breaks(Flaw::LostDriverChargedAgain, Promise::PaidIsNotChargedAgain);
}

fn breaks(flaw: Flaw, promise: Promise) {
    assert_breaks(&flaw, OneOrder(Some(flaw)), promise);
}
