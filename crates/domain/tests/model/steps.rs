//! What a worker may do next: the loop of `orders/saga/drive.rs`, its steps in `orders/saga/step.rs`, and the commits of
//! `storage/orders`, each as one move. What is pending and where an event leads is the rulebook's word, as it is there.

use waybill_domain::order::{Event, State, Step};

use crate::flaws::Flaw;
use crate::moves::{Deed, Move, Next};
use crate::world::{Answer, Driver, IN_FLIGHT_MAX, KeyAge, Request, Task, Wire, Worker, World};

/// Adds all that worker `who` may do in this world.
pub fn steps(world: &World, who: usize, flaw: Option<Flaw>, next: &mut Next) {
    let worker = world.workers[who];
    let mut hand = Hand { world, who, flaw, next };
    match worker.task {
        Task::Idle => hand.claim(),
        Task::Working => {
            hand.crash();
            match worker.seen.pending_step(worker.cancel_seen) {
                Some(step) => hand.run(step),
                None => hand.rest(),
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
        | Event::NoDriver
        | Event::DriverUnassigned
        | Event::Cancelled
        | Event::RefundUnknown => {}
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
                    self.send(Request::Charge);
                }
                self.send(Request::LookUp);
            }
            Step::Assign => {
                self.assign();
                self.keep_lease();
                self.commit(Event::NoDriver);
            }
            // `steps::refund` has nothing to refund where no payment is in the ledger.
            Step::Refund if !self.world.row.paid => {}
            Step::Refund => self.send(Request::Refund),
            Step::HonourCancellation => self.commit(Event::Cancelled),
        }
    }

    fn send(&mut self, request: Request) {
        if self.world.in_flight(request) < IN_FLIGHT_MAX {
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
            Request::LookUp => false,
        };
        if may && self.world.in_flight(request) < IN_FLIGHT_MAX {
            let mut world = self.with(Worker {
                task: Task::Waiting(request, Wire::Asked),
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
            Request::LookUp => (None, false),
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
            // The charge may be on its way still: nothing follows, and the order is deferred.
            _ => return,
        };
        self.commit(event);
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
        after.workers[who] = Worker {
            task: Task::Working,
            seen: after.row.state,
            cancel_seen: after.row.cancel_requested,
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
        // Moves no money: when it arrives does not matter.
        Request::LookUp => {}
    }
}
