//! The second model: every way in which the refunds of one payment can go, found by trying all of them.
//!
//! The rules that are explored are the service's own: `State::next`, `State::pending_step`, `Settlement::of` and
//! `Recovery::of`. Around them are a provider that refuses, breaks down, refunds later or takes a refund back, a person who
//! refunds by hand, an operator who refunds again or past the provider, and workers that crash or sleep at any moment. What is
//! in it, what is not, and what it takes for granted: `docs/adr/0010-a-model-of-our-own.md`. `-- --nocapture` shows the
//! numbers and the ways.

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

/// The refunds of one payment, with the service as the model has it, or with a flaw.
struct Refunds(Option<Flaw>);

impl Model for Refunds {
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
        broken(world)
    }

    fn is_at_rest(&self, world: &World) -> bool {
        world.is_at_rest()
    }

    fn needs_a_person(&self, world: &World) -> bool {
        needs_a_person(world)
    }

    fn state(&self, world: &World) -> State {
        world.state
    }
}

/// Explored once for all tests that ask about it.
static WITHOUT_FLAW: LazyLock<Found> = LazyLock::new(|| explore("refund model", Refunds(None)));

#[test]
fn no_promise_is_broken_whatever_happens_to_the_refunds() {
    // The search fails with the way to the first promise that is broken. A search of a small world proves little.
    assert!(WITHOUT_FLAW.states >= 100_000, "{:?}", *WITHOUT_FLAW);
}

#[test]
fn an_order_goes_every_way_that_refunds_can_take_it_and_no_other() {
    let ways = [
        (State::Succeeded, State::Refunding),
        (State::Refunding, State::Refunded),
        (State::Refunded, State::Refunding),
    ];
    assert_eq!(WITHOUT_FLAW.transitions, HashSet::from(ways));
}

#[test]
fn a_new_key_at_each_send_refunds_twice() {
    breaks(Flaw::NewKeyEachSend, Promise::RequestMadeOnce);
}

#[test]
fn a_key_that_is_sent_after_it_expired_refunds_twice() {
    breaks(Flaw::OldKeySentAgain, Promise::RequestMadeOnce);
}

#[test]
fn an_old_refund_that_is_closed_while_its_request_may_arrive_is_made_beside_the_one_in_its_place() {
    breaks(Flaw::OldKeyClosedEarly, Promise::RequestMadeOnce);
}

#[test]
fn a_refund_that_is_made_again_while_its_request_may_arrive_is_made_twice() {
    breaks(Flaw::AgainWhileSent, Promise::RequestMadeOnce);
}

#[test]
fn a_failed_refund_that_is_opened_again_is_sent_after_its_answer() {
    breaks(Flaw::FailedOpenedAgain, Promise::AnsweredIsNotSent);
}

#[test]
fn a_part_that_was_refunded_by_hand_and_is_not_counted_is_paid_twice() {
    breaks(Flaw::HandNotCounted, Promise::NotMoreThanCharged);
}

#[test]
fn an_operator_who_does_not_look_at_the_provider_pays_twice() {
    breaks(Flaw::PaidUnlooked, Promise::NotMoreThanCharged);
}

#[test]
fn an_operator_who_pays_what_is_pending_pays_twice() {
    breaks(Flaw::PaidWhilePending, Promise::NotMoreThanCharged);
}

#[test]
fn an_operator_who_pays_what_a_sleeping_worker_sends_pays_twice() {
    breaks(Flaw::PaidWhileSent, Promise::NotMoreThanCharged);
}

#[test]
fn a_write_without_the_fence_counts_a_refund_twice() {
    breaks(Flaw::WritesWithoutFence, Promise::RefundedIsPaidBack);
}

#[test]
fn a_requested_refund_that_does_not_fit_and_is_made_smaller_is_another_one() {
    breaks(Flaw::ImpossibleMadeSmaller, Promise::MadeAsRequested);
}

#[test]
fn news_that_comes_during_a_comparison_and_is_dropped_leaves_the_ledger_wrong() {
    breaks(Flaw::LaterNewsDropped, Promise::LedgerIsTrue);
}

fn breaks(flaw: Flaw, promise: Promise) {
    assert_breaks(&flaw, Refunds(Some(flaw)), promise);
}
