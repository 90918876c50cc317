//! What a worker may do next: the loop of `orders/saga/drive.rs`, its steps in `orders/saga/step.rs`, and the commits of
//! `storage/orders`, each as one move. What is pending and where an event leads is the rulebook's word, as it is there.

use waybill_domain::order::{Event, FailureReason, State, Step, Work};

use crate::flaws::Flaw;
use crate::moves::{Deed, Move, Next};
use crate::world::{Answer, Driver, KeyAge, Request, Task, Wire, Worker, World};

/// Adds all that worker `who` may do in this world.
pub fn steps(world: &World, who: usize, flaw: Option<Flaw>, next: &mut Next) {
    let worker = world.workers[who];
    let mut hand = Hand { world, who, flaw, next };
    match worker.task {
        Task::Idle => hand.claim(),
        Task::Working => {
            hand.crash();
            match worker.seen.pending_step(work(worker)) {
                Some(step) => hand.run(step),
                None => hand.rest(),
            }
        }
        // However late, but for half a day: a process that slept for so long renews its lease first.
        Task::Ready => {
            hand.crash();
            hand.rest();
            if world.provider.key == KeyAge::Fresh || flaw == Some(Flaw::OldKeySentAgain) {
                hand.send(Request::Charge);
            }
        }
        Task::Waiting(request, wire) => {
            hand.crash();
            hand.give_up(request, wire);
            if let Wire::Answered(answer) = wire {
                hand.receive(request, answer);
            } else {
                hand.send_again(request, wire);
            }
        }
    }
}

/// The refund is decided with the state, and open until it is confirmed.
fn work(worker: Worker) -> Work {
    Work {
        cancel_requested: worker.cancel_seen,
        capture_open: false,
        refund_open: worker.seen == State::Refunding,
        reconcile_requested: false,
    }
}

/// Takes the order away from whoever has it: the next fence.
pub fn fence_off(world: &mut World) {
    for worker in &mut world.workers {
        worker.holds = false;
    }
}

/// Makes what happened the row's state; `false` when the rulebook refuses.
pub fn happen(world: &mut World, seen: State, event: Event) -> bool {
    let Ok(state) = seen.next(event) else {
        world.refused = true;
        return false;
    };
    world.row.state = state;
    match event {
        Event::Charged => world.row.paid = true,
        Event::Refunded => world.row.refunded = true,
        Event::DriverAssigned => world.row.driver = Driver::Bound,
        // Each by its name: whoever adds an event decides here what it writes beside the status.
        Event::ChargeIntended
        | Event::ChargeUnknown
        | Event::Declined
        | Event::ChargeRevoked(_)
        | Event::ChargedTooLate
        | Event::NoDriver
        | Event::DriverUnassigned
        | Event::Cancelled
        | Event::RefundUnknown
        // Parts, refunds that fail and holds are other models'.
        | Event::CaptureUnknown
        | Event::Captured
        | Event::CaptureFailed
        | Event::RefundedInPart
        | Event::RefundFailed
        | Event::Reconciled => {}
    }
    true
}

/// One worker in one world.
struct Hand<'a> {
    world: &'a World,
    who: usize,
    flaw: Option<Flaw>,
    next: &'a mut Next,
}

impl Hand<'_> {
    fn worker(&self) -> Worker {
        self.world.workers[self.who]
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    /// The world in which this worker is another.
    fn with(&self, worker: Worker) -> World {
        let mut world = *self.world;
        world.workers[self.who] = worker;
        world
    }

    fn push(&mut self, deed: Deed, world: World) {
        self.next.work(Move::Worker(self.who, deed), world);
    }

    /// `CLAIM_DUE`: a lease is over when the database's clock says so, whatever its holder believes.
    fn claim(&mut self) {
        let row = &self.world.row;
        if row.state.is_terminal() || row.given_up {
            return;
        }
        let mut world = *self.world;
        fence_off(&mut world);
        world.workers[self.who] = Worker {
            task: Task::Working,
            holds: true,
            seen: row.state,
            cancel_seen: row.cancel_requested,
            unexecuted: row.unexecuted,
        };
        self.push(Deed::Claims, world);
    }

    /// The process dies; what it sent is still on its way.
    fn crash(&mut self) {
        let mut world = self.with(Worker::IDLE);
        if let Task::Waiting(request, Wire::Asked) = self.worker().task {
            leave_behind(&mut world, request);
        }
        self.next.fault(Move::Worker(self.who, Deed::Crashes), world);
    }

    fn rest(&mut self) {
        let world = self.with(Worker::IDLE);
        self.push(Deed::Rests, world);
    }

    fn run(&mut self, step: Step) {
        if self.has(Flaw::CancelHonouredInDoubt) && self.worker().cancel_seen {
            return self.commit(Event::Cancelled);
        }
        match step {
            Step::IntendCharge => self.commit(Event::ChargeIntended),
            Step::Charge => {
                if self.world.provider.key == KeyAge::Fresh || self.has(Flaw::OldKeySentAgain) {
                    self.record_send();
                }
                // At any time: when it is too late for the order is for the clock to say.
                self.revoke();
                self.send(Request::LookUp);
            }
            Step::Assign => {
                self.assign();
                self.keep_lease();
                self.commit(Event::NoDriver);
                self.commit(Event::ChargedTooLate);
            }
            // `steps::refund` has nothing to refund where no payment is in the ledger.
            Step::Refund if !self.world.row.paid => {}
            Step::Refund => self.send(Request::Refund),
            Step::Capture | Step::Reconcile => {}
            Step::HonourCancellation => self.commit(Event::Cancelled),
        }
    }

    /// `Store::record_send`, under the fence: from here on the charge may be executed.
    fn record_send(&mut self) {
        let worker = self.worker();
        if !is_ours(self.world, worker) {
            return self.learn_of_the_fence();
        }
        let mut world = self.with(Worker {
            task: Task::Ready,
            ..worker
        });
        if !self.has(Flaw::SendNotRecorded) {
            world.row.unexecuted = false;
        }
        self.push(Deed::RecordsSend, world);
    }

    /// The charge is not wanted any more: if nothing was executed it is not sent, else its key is taken.
    fn revoke(&mut self) {
        if self.worker().unexecuted {
            self.commit(self.revoked());
        } else if self.world.provider.key == KeyAge::Fresh || self.has(Flaw::OldKeyRevoked) {
            self.send(Request::Revoke);
        }
    }

    fn revoked(&self) -> Event {
        Event::ChargeRevoked(if self.worker().cancel_seen {
            FailureReason::Cancelled
        } else {
            FailureReason::PaymentTimedOut
        })
    }

    fn send(&mut self, request: Request) {
        if self.world.has_room(request) {
            let world = self.with(Worker {
                task: Task::Waiting(request, Wire::Asked),
                ..self.worker()
            });
            self.push(Deed::Sends(request), world);
        }
    }

    /// The client's own second try, in the same call and under the same key. A call lasts seconds, so the key does not
    /// get old within it.
    fn send_again(&mut self, request: Request, wire: Wire) {
        let may = match request {
            Request::Charge => self.world.provider.key == KeyAge::Fresh,
            Request::Refund => true,
            Request::Revoke | Request::LookUp => false,
        };
        if may && self.world.has_room(request) {
            let mut world = self.with(Worker {
                task: Task::Waiting(request, Wire::Asked),
                // Of the first of two nothing is known.
                unexecuted: false,
                ..self.worker()
            });
            if wire == Wire::Asked {
                leave_behind(&mut world, request);
            }
            self.push(Deed::SendsAgain(request), world);
        }
    }

    /// The call's time is over, before an answer or in the moment before it is received. The unknown outcome is recorded, and the
    /// order deferred.
    fn give_up(&mut self, request: Request, wire: Wire) {
        let mut before = *self.world;
        before.workers[self.who].task = Task::Working;
        if wire == Wire::Asked {
            leave_behind(&mut before, request);
        }
        let (event, is_believed) = match request {
            Request::Charge if self.has(Flaw::SilenceMeansFailed) => (Some(Event::Declined), true),
            Request::Charge if self.has(Flaw::SilenceMeansCharged) => (Some(Event::Charged), true),
            Request::Refund if self.has(Flaw::SilenceMeansRefunded) => (Some(Event::Refunded), true),
            Request::Charge => (Some(Event::ChargeUnknown), false),
            Request::Refund => (Some(Event::RefundUnknown), false),
            Request::Revoke | Request::LookUp => (None, false),
        };
        let mut world = match event {
            Some(event) => committed(&before, self.who, event, self.flaw).unwrap_or(before),
            None => before,
        };
        if self.has(Flaw::RefundTriedOnce) && request == Request::Refund && self.worker().holds {
            world.row.given_up = true;
        }
        if !is_believed {
            world.workers[self.who] = Worker::IDLE;
        }
        self.push(Deed::GivesUpWaiting(request), world);
    }

    fn receive(&mut self, request: Request, answer: Answer) {
        let event = match (request, answer) {
            (Request::Charge | Request::LookUp, Answer::Done) => Event::Charged,
            (Request::Charge, Answer::Declined) => Event::Declined,
            (Request::Refund, Answer::Done) => Event::Refunded,
            (Request::LookUp, Answer::NotFound) if self.has(Flaw::NotFoundMeansFailed) => Event::Declined,
            (Request::Revoke, Answer::Done) => self.revoked(),
            (Request::Charge, Answer::NotExecuted) => return self.defer_unexecuted(),
            // The charge may be on its way still: nothing follows, and the order is deferred.
            _ => return,
        };
        self.commit(event);
    }

    /// `Store::defer`, under the fence: the charge was refused before it was executed.
    fn defer_unexecuted(&mut self) {
        let worker = self.worker();
        let mut world = self.with(Worker::IDLE);
        if is_ours(self.world, worker) {
            world.row.unexecuted |= worker.unexecuted || self.has(Flaw::RefusalEndsDoubt);
        }
        self.push(Deed::Defers, world);
    }

    /// `Store::advance`: one event in one commit, under the fence.
    fn commit(&mut self, event: Event) {
        match committed(self.world, self.who, event, self.flaw) {
            Some(world) => self.push(Deed::Commits(event), world),
            None => self.learn_of_the_fence(),
        }
    }

    /// `Store::assign`: as any commit, but refused when a cancellation was requested.
    fn assign(&mut self) {
        let is_refused = self.world.row.cancel_requested && is_ours(self.world, self.worker());
        if is_refused && !self.has(Flaw::AssignmentIgnoresCancel) {
            self.keep_lease();
        } else {
            self.commit(Event::DriverAssigned);
        }
    }

    /// `Store::renew`: reads a cancellation too.
    fn keep_lease(&mut self) {
        let worker = self.worker();
        if !worker.holds {
            return self.learn_of_the_fence();
        }
        let cancel_seen = self.world.row.cancel_requested;
        if cancel_seen != worker.cancel_seen {
            let world = self.with(Worker { cancel_seen, ..worker });
            self.push(Deed::LearnsOfCancel, world);
        }
    }

    fn learn_of_the_fence(&mut self) {
        let world = self.with(Worker::IDLE);
        self.push(Deed::IsFencedOff, world);
    }
}

/// The world after a worker's commit; `None` when the fence refuses it.
fn committed(world: &World, who: usize, event: Event, flaw: Option<Flaw>) -> Option<World> {
    let worker = world.workers[who];
    if !is_ours(world, worker) && flaw != Some(Flaw::WritesWithoutFence) {
        return None;
    }
    let mut after = *world;
    if happen(&mut after, worker.seen, event) {
        let intends = event == Event::ChargeIntended;
        after.workers[who] = Worker {
            // Who records the intent sends the charge for the first time.
            task: if intends { Task::Ready } else { Task::Working },
            seen: after.row.state,
            cancel_seen: after.row.cancel_requested,
            unexecuted: intends,
            ..worker
        };
    } else {
        after.workers[who] = Worker::IDLE;
    }
    Some(after)
}

/// `where fence = mine and status = seen`.
fn is_ours(world: &World, worker: Worker) -> bool {
    worker.holds && world.row.state == worker.seen
}

/// A request whose sender waits no more.
fn leave_behind(world: &mut World, request: Request) {
    match request {
        Request::Charge => world.late.charges += 1,
        Request::Refund => world.late.refunds += 1,
        Request::Revoke => world.late.revokes += 1,
        // Moves no money: when it arrives does not matter.
        Request::LookUp => {}
    }
}
