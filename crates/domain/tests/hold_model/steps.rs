//! What a worker may do next: `orders/saga/{drive,assign,capture,refund,reconcile}.rs`, each commit as one move. What is
//! pending, and how an unknown outcome is recovered, is the word of the service's own rules.
//!
//! A worker that holds the order knows it as it is, but for what is requested of it. So a claim is no move of its own, nor
//! is a crash, or the loss of the order to another worker: what it leaves is the world in which the worker had not begun, or
//! got no answer. A worker that sleeps before it sends is one whose request is late: all requests of a decision ask for the
//! same.

use std::time::Duration;

use waybill_domain::order::{Event, PaymentMode, State, Step, Work};
use waybill_domain::payment::{KEY_AGE_MAX, Recovery, SERVER_ERRORS_MAX};

use crate::flaws::Flaw;
use crate::ledger;
use crate::moves::{Deed, Move, Next};
use crate::world::{Ended, HOLD, Hold, Key, Listing, Purpose, Task, World};

/// Adds all that the workers may do in this world.
pub fn steps(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    let mut worker = Worker { world, flaw, next };
    match world.holder {
        Task::Idle => worker.go_on(),
        Task::Waiting(_) => worker.time_out(),
        Task::Answered(ended) => {
            worker.fall_asleep();
            worker.commit(ended);
        }
        Task::Refunding(_) => worker.defer_refund(),
        Task::Refunded(number) => worker.commit_refund(number),
        Task::TooLarge => worker.list(Purpose::TooLarge),
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

    fn push(&mut self, deed: Deed, world: &World) {
        self.next.work(Move::Worker(deed), world.simplified());
    }

    /// The world in which the worker with the order is at this. With each commit it reads what was requested.
    fn at(&self, holder: Task) -> World {
        World {
            holder,
            is_unaware: false,
            ..*self.world
        }
    }

    /// Runs the step that is pending. What was requested since it last read the order a worker may know or not.
    fn go_on(&mut self) {
        let work = self.world.work(self.flaw);
        let before = Work {
            cancel_requested: false,
            reconcile_requested: false,
            ..work
        };
        let step = |work| self.world.state.pending_step(work);
        let mut pending = vec![step(work)];
        if self.world.is_unaware && step(before) != step(work) {
            pending.push(step(before));
        }
        for step in pending.into_iter().flatten() {
            match step {
                Step::Assign => self.assign(),
                Step::HonourCancellation => self.compensate(Deed::HonoursCancellation, Event::Cancelled),
                Step::Capture => self.capture(),
                Step::Reconcile => self.list(Purpose::Reconcile),
                Step::Refund => self.refund(),
                Step::IntendCharge | Step::Charge => {}
            }
        }
    }

    /// The assignment asks in its transaction whether a cancellation was requested; the end of the search does not.
    fn assign(&mut self) {
        self.compensate(Deed::FindsNoDriver, Event::NoDriver);
        if self.world.cancel_requested {
            return;
        }
        let modes = match self.world.mode {
            None => vec![PaymentMode::CaptureAtAssignment, PaymentMode::CaptureAtCompletion],
            Some(mode) => vec![mode],
        };
        for mode in modes {
            let mut world = World {
                mode: Some(mode),
                ..self.at(Task::Idle)
            };
            ledger::happen(&mut world, Event::DriverAssigned);
            if mode == PaymentMode::CaptureAtAssignment && ledger::is_undecided(&world, self.flaw) {
                ledger::decide(&mut world, HOLD, 0);
                world.price = HOLD;
            }
            self.push(Deed::Assigns(mode), &world);
        }
    }

    fn compensate(&mut self, deed: Deed, event: Event) {
        let mut world = self.at(Task::Idle);
        ledger::happen(&mut world, event);
        ledger::compensate(&mut world, 0, self.flaw);
        self.push(deed, &world);
    }

    /// `saga::capture`: once a key was answered with a server error, any number of them is possible.
    fn capture(&mut self) {
        let age = if self.world.is_old {
            KEY_AGE_MAX * 2
        } else {
            Duration::ZERO
        };
        let errors: &[u32] = if self.world.saw_errors {
            &[0, SERVER_ERRORS_MAX]
        } else {
            &[0]
        };
        for server_errors in errors {
            match Recovery::of(age, *server_errors) {
                Recovery::Retry => self.send(Key::First, true),
                Recovery::QueryThenRetry | Recovery::Query => self.query(),
            }
        }
    }

    /// Another key is as safe as the first, since a hold ends once.
    fn query(&mut self) {
        let key = if self.has(Flaw::OneKey) { Key::First } else { Key::Other };
        match self.world.hold {
            Hold::Held => self.send(key, true),
            Hold::Ended(ended) => {
                self.push(Deed::ReadsThePayment, &self.at(Task::Answered(ended)));
                // It could not be read, or ended a moment later.
                self.send(key, false);
            }
        }
    }

    /// From here on the hold may end.
    fn send(&mut self, key: Key, is_work: bool) {
        let mut world = self.at(Task::Waiting(key));
        let asked = match self.world.to_capture {
            Some(decided) if decided > 0 && self.has(Flaw::AmountLeftOut) => Some(HOLD),
            decided => decided,
        };
        match key {
            Key::First => world.first = asked,
            Key::Other => world.other = asked,
        }
        let what = Move::Worker(Deed::Sends(key));
        if is_work {
            self.next.work(what, world.simplified());
        } else {
            self.next.fault(what, world.simplified());
        }
    }

    /// No answer comes, or none that says how the hold ended.
    fn time_out(&mut self) {
        let mut world = self.at(Task::Idle);
        if self.has(Flaw::UnknownIsGone) {
            ledger::ended(&mut world, Ended::Gone, self.flaw);
        } else {
            ledger::happen(&mut world, Event::CaptureUnknown);
        }
        self.push(Deed::Defers, &world);
    }

    fn commit(&mut self, ended: Ended) {
        let mut world = self.at(Task::Idle);
        ledger::ended(&mut world, ended, self.flaw);
        self.push(Deed::Commits(ended), &world);
    }

    fn list(&mut self, purpose: Purpose) {
        let world = World {
            requested_since: false,
            ..self.at(Task::Listed(purpose, self.world.listing()))
        };
        self.push(Deed::ReadsTheList, &world);
    }

    /// `saga::reconcile`, and what follows a refund for which too little is left. What failed is not sent again by itself.
    fn compare(&mut self, purpose: Purpose, listing: Listing) {
        let settlement = ledger::settlement(self.world, listing);
        let is_waiting = self.world.state == State::Refunding && self.world.first_open().is_none();
        let is_old_news = match purpose {
            Purpose::Reconcile => is_waiting && settlement.failed_minor > 0,
            Purpose::TooLarge => true,
        };
        let mut world = self.at(Task::Idle);
        if !settlement.is_news() && is_old_news {
            return self.push(Deed::Defers, &world);
        }
        ledger::reconcile(&mut world, &settlement);
        self.push(Deed::Compares, &world);
    }

    /// `saga::refund`. What becomes of keys that get old, or break, is in `refund_model`.
    fn refund(&mut self) {
        let Some(number) = self.world.first_open() else {
            return;
        };
        let mut world = self.at(Task::Refunding(number));
        world.refunds[number - 1].in_flight = true;
        self.push(Deed::Refunds(number), &world);
    }

    fn defer_refund(&mut self) {
        let mut world = self.at(Task::Idle);
        ledger::happen(&mut world, Event::RefundUnknown);
        self.push(Deed::Defers, &world);
    }

    fn commit_refund(&mut self, number: usize) {
        let mut world = self.at(Task::Idle);
        ledger::refunded(&mut world, number);
        self.push(Deed::CommitsRefund(number), &world);
    }

    /// Only in a world without the fence.
    fn fall_asleep(&mut self) {
        if self.has(Flaw::WritesWithoutFence) {
            let mut world = *self.world;
            ledger::fence_off(&mut world, self.flaw);
            self.next.fault(Move::FallsAsleep, world.simplified());
        }
    }

    /// The worker that slept writes what it knew.
    fn wake_up(&mut self) {
        if let Some(ended) = self.world.sleeper {
            let mut world = World {
                sleeper: None,
                ..*self.world
            };
            ledger::ended(&mut world, ended, self.flaw);
            self.next.work(Move::SleeperCommits, world.simplified());
        }
    }
}
