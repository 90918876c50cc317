//! The third model: every way in which the hold of one order can go, found by trying all of them.
//!
//! The rules that are explored are the service's own: `State::next`, `State::pending_step`, `Recovery::of`,
//! `Settlement::of`, and what `Payment` says of itself. Around them are a provider that ends a hold once, refuses, breaks
//! down and lets a hold expire, a person who captures, voids or refunds there by hand, customers and drivers, and workers
//! that crash or sleep at any moment. What is in it, what is not, and what it takes for granted:
//! `docs/adr/0010-a-model-of-our-own.md`. `-- --nocapture` shows the numbers and the ways.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "the exception for tests in clippy.toml covers the test functions, not the functions that they share"
)]

mod flaws;
mod ledger;
mod moves;
mod outside;
mod packed;
mod promises;
mod provider;
#[path = "../search/mod.rs"]
mod search;
mod steps;
mod world;

use std::collections::HashSet;
use std::sync::LazyLock;

use waybill_domain::order::State;

use flaws::Flaw;
use moves::{Move, Next, add_moves};
use promises::{Promise, broken, needs_a_person};
use search::{Found, Model, assert_breaks, explore};
use world::World;

/// The hold of one order, with the service as the model has it, or with a flaw.
struct Holds(Option<Flaw>);

impl Model for Holds {
    type World = World;
    type Key = (u64, u64, u64, u64);
    type Move = Move;
    type Promise = Promise;

    const BEGINNING: World = World::BEGINNING;
    const CAN_FINISH: Promise = Promise::CanFinish;

    fn key(&self, world: &World) -> Self::Key {
        world.packed()
    }

    fn add_moves(&self, world: &World, next: &mut Next) {
        add_moves(world, self.0, next);
    }

    fn broken(&self, world: &World) -> Option<Promise> {
        broken(world, self.0)
    }

    fn is_at_rest(&self, world: &World) -> bool {
        world.is_at_rest(self.0)
    }

    fn needs_a_person(&self, world: &World) -> bool {
        needs_a_person(world)
    }

    fn state(&self, world: &World) -> State {
        world.state
    }
}

/// Explored once for all tests that ask about it.
static WITHOUT_FLAW: LazyLock<Found> = LazyLock::new(|| explore("hold model", Holds(None)));

#[test]
fn no_promise_is_broken_whatever_happens_to_the_hold() {
    // The search fails with the way to the first promise that is broken. A search of a small world proves little.
    assert!(WITHOUT_FLAW.states >= 50_000, "{:?}", *WITHOUT_FLAW);
}

#[test]
fn an_order_goes_every_way_that_a_hold_can_take_it_and_no_other() {
    let ways = [
        (State::Charged, State::Succeeded),
        (State::Charged, State::Refunding),
        (State::Succeeded, State::Charged),
        (State::Succeeded, State::Refunding),
        (State::Refunding, State::Refunded),
    ];
    assert_eq!(WITHOUT_FLAW.transitions, HashSet::from(ways));
}

#[test]
fn a_decision_that_can_be_changed_until_it_is_confirmed_is_two_decisions() {
    breaks(Flaw::DecidedAgain, Promise::DecidedOnce);
}

#[test]
fn a_provider_that_ends_a_hold_once_for_each_key_captures_twice() {
    breaks(Flaw::EndedByEachKey, Promise::EndsOnce);
}

#[test]
fn a_capture_that_does_not_say_how_much_takes_more_than_was_decided() {
    breaks(Flaw::AmountLeftOut, Promise::NotMoreThanDecided);
}

#[test]
fn an_unknown_outcome_that_counts_as_a_hold_that_is_gone_leaves_the_ledger_wrong() {
    breaks(Flaw::UnknownIsGone, Promise::LedgerIsTrue);
}

#[test]
fn a_void_that_meets_a_captured_hold_and_counts_as_done_keeps_the_money() {
    breaks(Flaw::VoidDoneAnyway, Promise::KeepsItsFee);
}

#[test]
fn a_cancelled_order_that_asks_no_more_for_its_capture_keeps_the_money() {
    breaks(Flaw::CaptureDropped, Promise::KeepsItsFee);
}

#[test]
fn what_was_captured_beyond_the_final_amount_and_is_not_refunded_is_paid_too_much() {
    breaks(Flaw::ExcessKept, Promise::ServedHasPaid);
}

#[test]
fn what_a_person_captured_and_refunded_is_refunded_twice_without_a_look_at_the_provider() {
    breaks(Flaw::ExcessUnlooked, Promise::RefundsWhatIsOwed);
}

#[test]
fn what_a_person_captured_and_refunded_is_refunded_with_the_fee_without_a_look_at_the_provider() {
    breaks(Flaw::FeeUnlooked, Promise::RefundsWhatIsOwed);
}

#[test]
fn a_cancellation_that_refunds_its_fee_refunds_more_than_what_is_owed() {
    breaks(Flaw::FeeRefunded, Promise::RefundsWhatIsOwed);
}

#[test]
fn a_served_order_of_which_a_person_captured_too_little_and_that_is_not_flagged_is_not_paid() {
    breaks(Flaw::ShortUnflagged, Promise::ServedHasPaid);
}

#[test]
fn a_refund_that_is_found_before_the_capture_is_known_has_no_place_in_the_ledger() {
    breaks(Flaw::ComparedWhileHeld, Promise::RulesKnowIt);
}

#[test]
fn a_refund_that_is_made_while_a_comparison_closes_it_is_missing_in_the_ledger() {
    breaks(Flaw::OwnNewsDropped, Promise::LedgerIsTrue);
}

#[test]
fn an_operator_who_refunds_again_while_a_driver_is_looked_for_does_what_the_rulebook_does_not_know() {
    breaks(Flaw::AgainWhileSearching, Promise::RulesKnowIt);
}

#[test]
fn a_hold_that_is_gone_and_is_charged_anew_is_a_payment_that_no_one_agreed_to() {
    breaks(Flaw::GoneChargedAnew, Promise::GoneIsNotCharged);
}

#[test]
fn a_key_that_repeats_a_server_error_and_is_not_replaced_never_ends_the_hold() {
    breaks(Flaw::OneKey, Promise::CanFinish);
}

#[test]
fn a_write_without_the_fence_comes_in_a_state_that_does_not_know_it() {
    breaks(Flaw::WritesWithoutFence, Promise::RulesKnowIt);
}

fn breaks(flaw: Flaw, promise: Promise) {
    assert_breaks(&flaw, Holds(Some(flaw)), promise);
}
