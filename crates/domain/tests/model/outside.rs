//! What the service does not control: the provider, the network, the customer, the driver, time, and the operator.

use waybill_domain::order::{Event, State};

use crate::flaws::Flaw;
use crate::moves::{Move, Next, Outcome};
use crate::steps::{fence_off, happen};
use crate::world::{Answer, Driver, KeyAge, Provider, Record, Request, Task, Wire, Worker, World};

/// Adds all that may happen in this world without a worker.
pub fn outside(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    for (who, worker) in world.workers.iter().enumerate() {
        match worker.task {
            Task::Waiting(request, Wire::Asked) => {
                arrive(world, who, request, flaw, next);
                next.fault(Move::RequestLost(who, request), received(world, who, Wire::Silent));
                if request == Request::Charge {
                    let refused = received(world, who, Wire::Answered(Answer::NotExecuted));
                    next.fault(Move::Refused(who), refused);
                }
            }
            Task::Waiting(request, Wire::Answered(_)) => {
                next.fault(Move::AnswerLost(who, request), received(world, who, Wire::Silent));
            }
            _ => {}
        }
    }
    arrive_late(world, flaw, next);
    double(world, next);
    customer_and_driver(world, flaw, next);
    time(world, next);
    person(world, flaw, next);
}

/// What the provider may do with a charge: itself after it, and what that came to.
fn charge(provider: Provider, flaw: Option<Flaw>) -> Vec<(Provider, Outcome)> {
    let charged = Provider {
        charge: Record::Charged,
        charges: (provider.charges + 1).min(2),
        ..provider
    };
    let declined = Provider {
        charge: Record::Declined,
        ..provider
    };
    match provider.charge {
        Record::Unseen => vec![(charged, Outcome::Moved), (declined, Outcome::Declined)],
        _ if flaw == Some(Flaw::RandomChargeKey) => vec![(charged, Outcome::Moved)],
        Record::Declined => vec![(provider, Outcome::Declined)],
        Record::Charged | Record::Broke | Record::Revoked => vec![(provider, Outcome::Nothing)],
    }
}

/// What the provider does with a request that takes the key of the charge and moves nothing.
fn revoke(provider: Provider) -> (Provider, Answer) {
    match provider.charge {
        Record::Unseen | Record::Revoked => {
            let charge = Record::Revoked;
            (Provider { charge, ..provider }, Answer::Done)
        }
        Record::Charged | Record::Declined | Record::Broke => (provider, Answer::KeyUsed),
    }
}

/// What the provider does with a refund. What is given back in full is not given back again, however old the key.
fn refund(provider: Provider, flaw: Option<Flaw>) -> (Provider, Outcome) {
    if provider.charges == 0 || (provider.refunds > 0 && flaw != Some(Flaw::RandomRefundKey)) {
        return (provider, Outcome::Nothing);
    }
    let refunded = Provider {
        refunds: (provider.refunds + 1).min(2),
        ..provider
    };
    (refunded, Outcome::Moved)
}

/// The provider gets the request of a worker that waits for the answer.
fn arrive(world: &World, who: usize, request: Request, flaw: Option<Flaw>, next: &mut Next) {
    let mut answered = |provider: Provider, answer: Option<Answer>| {
        let wire = answer.map_or(Wire::Silent, Wire::Answered);
        let world = World {
            provider,
            ..received(world, who, wire)
        };
        next.work(Move::Handled(who, request, answer), world);
    };
    let provider = world.provider;
    match request {
        Request::Charge => {
            for (after, _) in charge(provider, flaw) {
                match after.charge {
                    Record::Charged => answered(after, Some(Answer::Done)),
                    Record::Declined => answered(after, Some(Answer::Declined)),
                    Record::Revoked => answered(after, Some(Answer::KeyUsed)),
                    Record::Broke | Record::Unseen => answered(after, None),
                }
            }
            if provider.charge == Record::Unseen {
                break_down(world, who, flaw, next);
            }
        }
        Request::Refund => {
            let (after, _) = refund(provider, flaw);
            answered(after, (after.refunds > 0).then_some(Answer::Done));
        }
        Request::Revoke => {
            let (after, answer) = revoke(provider);
            answered(after, Some(answer));
        }
        Request::LookUp if provider.charges > 0 => answered(provider, Some(Answer::Done)),
        Request::LookUp => answered(provider, Some(Answer::NotFound)),
    }
}

/// The provider answers 500, and will say so to this key for ever. The money may have moved before.
fn break_down(world: &World, who: usize, flaw: Option<Flaw>, next: &mut Next) {
    for (after, outcome) in charge(world.provider, flaw) {
        let outcome = match outcome {
            Outcome::Moved => Outcome::Moved,
            Outcome::Declined | Outcome::Nothing => Outcome::Nothing,
        };
        let world = World {
            provider: Provider {
                charge: Record::Broke,
                ..after
            },
            ..received(world, who, Wire::Silent)
        };
        next.fault(Move::Breaks(who, outcome), world);
    }
}

/// Requests that no worker waits for: their answers go nowhere, what they do counts.
fn arrive_late(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    if world.late.charges > 0 {
        let mut without = *world;
        without.late.charges -= 1;
        next.fault(Move::LateLost(Request::Charge), without);
        for (provider, outcome) in charge(world.provider, flaw) {
            let after = World { provider, ..without };
            next.work(Move::HandledLate(Request::Charge, outcome), after);
        }
    }
    if world.late.refunds > 0 {
        let mut without = *world;
        without.late.refunds -= 1;
        next.fault(Move::LateLost(Request::Refund), without);
        let (provider, outcome) = refund(world.provider, flaw);
        let after = World { provider, ..without };
        next.work(Move::HandledLate(Request::Refund, outcome), after);
    }
    if world.late.revokes > 0 {
        let mut without = *world;
        without.late.revokes -= 1;
        next.fault(Move::LateLost(Request::Revoke), without);
        let (provider, _) = revoke(world.provider);
        let after = World { provider, ..without };
        next.work(Move::HandledLate(Request::Revoke, Outcome::Nothing), after);
    }
}

/// The network delivers a request once more: one that no worker waits for, or one that has arrived or is lost. A request
/// that was refused before it was executed has no double: that is taken for granted.
fn double(world: &World, next: &mut Next) {
    for request in [Request::Charge, Request::Refund] {
        let has_gone_out = |worker: &Worker| match worker.task {
            Task::Waiting(sent, Wire::Silent) => sent == request,
            Task::Waiting(sent, Wire::Answered(answer)) => sent == request && answer != Answer::NotExecuted,
            _ => false,
        };
        let late = match request {
            Request::Charge => world.late.charges,
            Request::Refund => world.late.refunds,
            Request::Revoke | Request::LookUp => 0,
        };
        // Within half a day, as all that is on its way.
        let is_young = request != Request::Charge || world.provider.key == KeyAge::Fresh;
        let is_there = late > 0 || world.workers.iter().any(has_gone_out);
        if is_young && is_there && world.has_room(request) {
            let mut twice = *world;
            match request {
                Request::Charge => twice.late.charges += 1,
                Request::Refund => twice.late.refunds += 1,
                Request::Revoke | Request::LookUp => {}
            }
            next.fault(Move::Doubled(request), twice);
        }
    }
}

/// `storage/orders/release.rs`: each under the lock of the order.
fn customer_and_driver(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    let row = &world.row;
    let mut after = *world;
    match (row.state, row.driver) {
        (State::Charging, _) if flaw == Some(Flaw::CancelFailsChargingOrder) => {
            fence_off(&mut after);
            after.row.state = State::Failed;
            next.fault(Move::CustomerCancels, after);
        }
        (State::Started | State::Charging | State::Charged, _) if !row.cancel_requested => {
            after.row.cancel_requested = true;
            next.fault(Move::CustomerCancels, after);
        }
        (State::Succeeded, Driver::Bound) => {
            let mut completed = after;
            completed.row.driver = Driver::Done;
            next.fault(Move::DriverCompletes, completed);

            fence_off(&mut after);
            after.row.driver = Driver::None;
            let mut cancelled = after;
            cancelled.row.cancel_requested = true;
            happen(&mut cancelled, row.state, Event::Cancelled);
            next.fault(Move::CustomerCancels, cancelled);

            if flaw == Some(Flaw::LostDriverChargedAgain) {
                after.row.state = State::Charging;
            } else {
                happen(&mut after, row.state, Event::DriverUnassigned);
            }
            next.fault(Move::DriverIsLost, after);
        }
        (State::Succeeded, Driver::Done) if flaw == Some(Flaw::CancelAfterCompletion) => {
            fence_off(&mut after);
            after.row.cancel_requested = true;
            happen(&mut after, row.state, Event::Cancelled);
            next.fault(Move::CustomerCancels, after);
        }
        _ => {}
    }
}

/// Half days. What was on its way half a day ago has arrived or is lost, so no charge is on its way any more when the
/// provider's key expires.
fn time(world: &World, next: &mut Next) {
    let mut after = *world;
    match world.provider.key {
        KeyAge::Fresh if world.row.state != State::Started => {
            after.provider.key = KeyAge::Old;
            next.patience(Move::KeyGrowsOld, after);
        }
        KeyAge::Old if world.in_flight(Request::Charge) + world.in_flight(Request::Revoke) == 0 => {
            after.provider.key = KeyAge::Expired;
            after.provider.charge = Record::Unseen;
            next.patience(Move::KeyExpires, after);
        }
        _ => {}
    }
}

/// An operator asserts what became of a charge, as the provider's list has it. The key must be old, or a worker that slept
/// could still wake and send it; and what was sent before must have arrived.
fn person(world: &World, flaw: Option<Flaw>, next: &mut Next) {
    let is_over = world.provider.key != KeyAge::Fresh || flaw == Some(Flaw::PersonDecidesEarly);
    if world.row.state != State::Charging || world.in_flight(Request::Charge) > 0 || !is_over {
        return;
    }
    let event = match world.provider.charges {
        0 => Event::Declined,
        _ => Event::Charged,
    };
    let mut after = *world;
    fence_off(&mut after);
    happen(&mut after, State::Charging, event);
    next.patience(Move::PersonDecides(event), after);
}

/// The world in which this worker's request is that far.
fn received(world: &World, who: usize, wire: Wire) -> World {
    let mut after = *world;
    if let Task::Waiting(_, was) = &mut after.workers[who].task {
        *was = wire;
    }
    after
}
