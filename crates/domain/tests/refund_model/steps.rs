//! What a worker may do next: `orders/saga/{drive,refund,reconcile}.rs`, each commit as one move. What is pending, how an
//! unknown outcome is recovered and what the provider's list means is the word of the service's own rules.
//!
//! A worker that holds the order knows it as it is, since no one else changes it under its fence. So a claim is no move of
//! its own: an idle worker is one that was just given the order. Nor is a crash, or the loss of the order to another worker:
//! what it leaves is the world in which the worker had not begun, or got no answer. A worker that sleeps before it sends is one
//! whose request is late.

use std::time::Duration;

use waybill_domain::order::{Event, RefundState, State, Step, Work};
use waybill_domain::payment::{KEY_AGE_MAX, Recovery, SERVER_ERRORS_MAX};

use crate::flaws::Flaw;
use crate::ledger;
use crate::moves::{Deed, Move, Next};
use crate::world::{Age, Answer, Listing, Origin, Purpose, Task, World};

/// Adds all that the workers may do in this world.
pub fn steps(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    let mut worker = Worker { world, flaw, next };
    match world.holder {
        Task::Idle => worker.go_on(),
        Task::Waiting(_) => worker.defer(Event::RefundUnknown),
        Task::Answered(number, answer) => {
            worker.fall_asleep();
            worker.receive(number, answer);
        }
        Task::Listed(purpose, listing) => worker.compare(purpose, listing),
    }
    worker.wake_up();
}

struct Worker<'a> {
    world: &'a World,
    flaw: Option<Flaw>,
    next: &'a mut Next,
}

impl Worker<'_> {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn push(&mut self, deed: Deed, world: World) {
        self.next.work(Move::Worker(deed), world.simplified());
    }

    /// The world in which the worker with the order is at this.
    fn at(&self, holder: Task) -> World {
        World { holder, ..*self.world }
    }

    /// Runs the step that is pending. What was requested since it last read the order a worker may know or not.
    fn go_on(&mut self) {
        if self.world.is_finished() {
            return;
        }
        let mut known = vec![self.world.reconcile_requested];
        if self.world.reconcile_requested {
            known.push(false);
        }
        for reconcile_requested in known {
            let work = Work {
                cancel_requested: self.world.state != State::Succeeded,
                refund_open: self.world.first_open().is_some(),
                reconcile_requested,
                ..Work::default()
            };
            match (self.world.state.pending_step(work), self.world.first_open()) {
                (Some(Step::Reconcile), _) => self.list(Purpose::Reconcile),
                (Some(Step::Refund), Some(number)) => self.refund(number),
                _ => {}
            }
        }
    }

    /// `saga::refund`: of the server errors so far any number is possible.
    fn refund(&mut self, number: u8) {
        let age = self.world.refund(number).age;
        let first_sent = match age {
            Age::Fresh => Duration::ZERO,
            Age::Old | Age::Over if self.has(Flaw::OldKeySentAgain) => Duration::ZERO,
            Age::Old | Age::Over => KEY_AGE_MAX * 2,
        };
        for server_errors in [0, SERVER_ERRORS_MAX] {
            match Recovery::of(first_sent, server_errors) {
                Recovery::Retry => self.send(number),
                Recovery::QueryThenRetry => self.list(Purpose::BeforeRetry),
                Recovery::Query if age == Age::Over => self.list(Purpose::Over),
                Recovery::Query => self.list(Purpose::TooOld),
            }
        }
    }

    fn list(&mut self, purpose: Purpose) {
        let world = World {
            requested_since: false,
            ..self.at(Task::Listed(purpose, self.world.listing()))
        };
        self.push(Deed::ReadsTheList, world);
    }

    /// `Store::record_send`, or the intent a moment ago, and the send: from here on the refund may be made.
    fn send(&mut self, number: u8) {
        let refund = self.world.refund(number);
        let is_answered = refund.state != RefundState::Open || refund.is_identified;
        let mut world = World {
            sent_after_answer: self.world.sent_after_answer || is_answered,
            ..self.at(Task::Waiting(number))
        };
        world.refund_mut(number).in_flight = true;
        self.push(Deed::Sends(number), world);
    }

    fn defer(&mut self, event: Event) {
        let mut world = self.at(Task::Idle);
        ledger::happen(&mut world, event);
        self.push(Deed::Defers, world);
    }

    /// Only in a world without the fence.
    fn fall_asleep(&mut self) {
        if self.has(Flaw::WritesWithoutFence) {
            let mut world = *self.world;
            ledger::fence_off(&mut world, self.flaw);
            self.next.fault(Move::FallsAsleep, world.simplified());
        }
    }

    /// `after_refund`, and before it the comparison that a refusal asks for.
    fn receive(&mut self, number: u8, answer: Answer) {
        let mut world = self.at(Task::Idle);
        match answer {
            Answer::Succeeded => ledger::refunded(&mut world, number),
            Answer::Failed => ledger::failed(&mut world, number, true),
            Answer::TooLarge | Answer::Refused | Answer::RefusedAgain => return self.list(Purpose::Refused(answer)),
        }
        self.push(Deed::Commits, world);
    }

    /// What follows from the provider's list.
    fn compare(&mut self, purpose: Purpose, listing: Listing) {
        let settlement = ledger::settlement(self.world, listing, None, self.flaw);
        let mut world = self.at(Task::Idle);
        let number = self.world.first_open();
        match (purpose, number) {
            _ if settlement.is_news() => ledger::reconcile(&mut world, &settlement, self.flaw),
            (Purpose::Reconcile, _) => {
                let is_waiting = self.world.state == State::Refunding && number.is_none();
                let waits_for_operator = settlement.failed_minor > 0;
                if is_waiting && waits_for_operator && self.has(Flaw::FailedOpenedAgain) {
                    open_failed(&mut world);
                } else if is_waiting && (waits_for_operator || settlement.is_pending) {
                    return self.push(Deed::Defers, world);
                } else {
                    ledger::reconcile(&mut world, &settlement, self.flaw);
                }
            }
            (Purpose::BeforeRetry | Purpose::TooOld | Purpose::Over, _) if settlement.is_pending => {
                return self.push(Deed::Defers, world);
            }
            (Purpose::BeforeRetry, Some(number)) => return self.send(number),
            (Purpose::Over, Some(number)) => self.close_old(&mut world, number),
            (Purpose::TooOld, Some(number)) if self.has(Flaw::OldKeyClosedEarly) => self.close_old(&mut world, number),
            (Purpose::Refused(Answer::RefusedAgain), Some(number)) => {
                // Unless a dispute stands against it.
                self.defer(Event::RefundUnknown);
                self.close_old(&mut world, number);
            }
            (Purpose::Refused(_), _) => return self.defer(Event::RefundUnknown),
            (Purpose::TooOld | Purpose::Over | Purpose::BeforeRetry, _) => return self.push(Deed::Defers, world),
        }
        self.push(Deed::Commits, world);
    }

    /// The refund is not sent any more: what is owed gets another key, what was requested is for an operator to decide.
    fn close_old(&self, world: &mut World, number: u8) {
        if self.world.refund(number).origin == Origin::Compensation {
            ledger::replaced(world, number);
        } else {
            ledger::failed(world, number, false);
        }
    }

    /// The worker that slept writes what it knew.
    fn wake_up(&mut self) {
        let number = self.world.sleeper;
        if number != 0 {
            let mut world = World {
                sleeper: 0,
                ..*self.world
            };
            world.refund_mut(number).state = RefundState::Succeeded;
            self.next.work(Move::SleeperCommits(number), world.simplified());
        }
    }
}

fn open_failed(world: &mut World) {
    for refund in &mut world.refunds {
        if refund.state == RefundState::Failed {
            refund.state = RefundState::Open;
            refund.age = Age::Fresh;
        }
    }
}
