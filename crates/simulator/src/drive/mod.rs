//! Makes calls when they are due (an open loop), or when the one before was answered (a closed one).

mod alarm;

use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

pub(crate) use self::alarm::{Alarm, Clock};
use crate::client::RetryPolicy;
use crate::recorder::{Recorder, Timeline};

/// How a server that is gone is called again: at first soon, then within a second of its return, which a measurement
/// wants to see; and for as long as the load goes, for what it missed is counted.
pub(crate) const RECONNECT: RetryPolicy = RetryPolicy {
    give_up_after: Duration::from_hours(365 * 24),
    wait_max: Duration::from_secs(1),
    ..RetryPolicy::DEFAULT
};

/// A call that reached no server: it ended on this side, with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreached;

impl Unreached {
    /// Whether a call that ended like this reached a server, whatever was answered.
    pub(crate) fn from_status(status: &Status) -> Result<(), Unreached> {
        // A status of the server has no source here.
        match status.source() {
            Some(_) => Err(Unreached),
            None => Ok(()),
        }
    }
}

/// What is called when the time has come. `A` is what an arrival brings with it.
pub(crate) trait Calls<A = ()>: Send + Sync + 'static {
    /// Everything that is counted, the most important first.
    fn recorders(&self) -> Vec<Recorder> {
        vec![self.recorder().clone()]
    }

    /// Counts the first call of each arrival.
    fn recorder(&self) -> &Recorder;

    /// An arrival was scheduled.
    fn offered(&self, due: Instant) {
        self.recorder().offered([due]);
    }

    /// Makes the call that was due at `due`, and counts what becomes of it.
    fn call(self: Arc<Self>, due: Instant, arrival: A) -> impl Future<Output = Result<(), Unreached>> + Send;
}

/// The limits of a run, shared by all that drive it.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) timeline: Timeline,
    /// No call is made that is due after it.
    pub(crate) ends_at: Instant,
    /// Ends all driving: the run was stopped, or it made as many calls as were asked for.
    pub(crate) over: CancellationToken,
    /// Measured calls that are still to be made, where they are counted.
    pub(crate) left: Option<Arc<AtomicU64>>,
    /// None of those is left.
    pub(crate) spent: CancellationToken,
    /// Calls without an answer at one time. Beyond it a call waits for room, and its latency includes the wait: a server
    /// that answers nothing must not fill this machine's memory.
    pub(crate) in_flight_max: usize,
    pub(crate) clock: Clock,
}

impl Limits {
    /// No more calls are made from now on: when the measured part ended.
    pub(crate) fn end(&self) -> Instant {
        let ended = Instant::now().min(self.ends_at);
        self.timeline.end(ended);
        ended
    }

    /// Takes one call from those that were asked for; false when none is left.
    fn take(&self, due: Instant) -> bool {
        let (true, Some(left)) = (due >= self.timeline.measured_from(), &self.left) else {
            return true;
        };
        let took = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if took == Ok(1) {
            self.spent.cancel();
        }
        took.is_ok()
    }
}

/// Makes each call at its time, whatever became of those before, and waits for the last answer. Returns when it
/// stopped to make calls. A panic in one ends the run.
pub(crate) async fn open<C: Calls>(
    limits: &Limits,
    dues: impl Iterator<Item = Duration>,
    calls: &Arc<C>,
) -> Result<Instant, JoinError> {
    let started = limits.timeline.started();
    let calls = make_when_due(limits, dues.map(|due| (started + due, ())), calls);
    // The time after the last call is measured too: nothing was due in it.
    let time = async {
        let ends_at = tokio::time::sleep_until(limits.ends_at);
        limits.over.run_until_cancelled(ends_at).await;
        Ok(limits.end())
    };
    let ended = tokio::try_join!(calls, time).map(|((), ended)| ended);
    ended.inspect_err(|_| limits.over.cancel())
}

/// Makes the call of each arrival when it is due, until there are no more or `limits` end it, and waits for the last
/// answer. The error is a panic in one of them.
pub(crate) async fn make_when_due<A: Send + 'static, C: Calls<A>>(
    limits: &Limits,
    arrivals: impl Iterator<Item = (Instant, A)>,
    calls: &Arc<C>,
) -> Result<(), JoinError> {
    let alarm = Alarm::new(limits.clock);
    let (room, mut tasks) = (Arc::new(Semaphore::new(limits.in_flight_max)), JoinSet::new());
    // Calls that were due before it waited for the server, not for this process.
    let mut held_until = limits.timeline.started();
    let mut arrivals = arrivals.peekable();
    while let Some(due) = arrivals.peek().map(|(due, _)| *due) {
        if limits.over.run_until_cancelled(alarm.until(due)).await.is_none() {
            break;
        }
        let Some((due, arrival)) = arrivals.next() else { break };
        if !limits.take(due) {
            limits.over.cancel();
            break;
        }
        calls.offered(due);
        let permit = match Arc::clone(&room).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => match wait_for_room(limits, &room).await {
                Some(permit) => {
                    held_until = Instant::now();
                    permit
                }
                // Never made: the time was over before there was room.
                None => continue,
            },
        };
        let calls = Arc::clone(calls);
        let held = due < held_until;
        tasks.spawn(async move {
            if !held {
                calls.recorder().late([due], Instant::now());
            }
            // An open loop goes on as if nothing had happened.
            let _ = calls.call(due, arrival).await;
            drop(permit);
        });
        while let Some(ended) = tasks.try_join_next() {
            ended?;
        }
    }
    // A stop may find the loop behind: what was due until then was scheduled, and is never made.
    let stopped_at = Instant::now();
    while let Some((due, _)) = arrivals.next_if(|(due, _)| *due <= stopped_at)
        && limits.take(due)
    {
        calls.offered(due);
    }
    all(tasks).await
}

/// Waits for the end of all of them, or for a panic in one.
async fn all(mut tasks: JoinSet<()>) -> Result<(), JoinError> {
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}

/// Room for one more call, unless the run is over before there is.
async fn wait_for_room(limits: &Limits, room: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    tokio::select! {
        permit = Arc::clone(room).acquire_owned() => permit.ok(),
        () = tokio::time::sleep_until(limits.ends_at) => None,
        () = limits.over.cancelled() => None,
    }
}

/// Lets callers make one call after the other; the latency of each counts from its start. Returns when they
/// stopped to make calls, or when the last was answered where there were only so many: they were under way until then.
pub(crate) async fn closed<C: Calls>(limits: &Limits, callers: usize, calls: &Arc<C>) -> Result<Instant, JoinError> {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        tasks.spawn(one_after_the_other(limits.clone(), Arc::clone(calls)));
    }
    let mut tasks = pin!(all(tasks));
    let answered = tokio::select! {
        outcome = &mut tasks => Some(outcome),
        () = limits.over.cancelled() => None,
        () = tokio::time::sleep_until(limits.ends_at) => None,
    };
    let ended = limits.end();
    let answered = match answered {
        Some(outcome) => outcome,
        None => tasks.await,
    };
    answered.inspect_err(|_| limits.over.cancel())?;
    Ok(ended)
}

/// A caller of a closed loop. Where it reaches no server it waits before its next call, as a client would: it would fill
/// the report with failures that cost nothing, and the machine with its own work.
async fn one_after_the_other<C: Calls>(limits: Limits, calls: Arc<C>) {
    let mut missed = 0;
    loop {
        let due = Instant::now();
        if due >= limits.ends_at || limits.over.is_cancelled() || !limits.take(due) {
            return;
        }
        calls.offered(due);
        if Arc::clone(&calls).call(due, ()).await.is_ok() {
            missed = 0;
            continue;
        }
        missed += 1;
        let next_at = limits.ends_at.min(Instant::now() + RECONNECT.wait(missed, None));
        tokio::select! {
            () = tokio::time::sleep_until(next_at) => {}
            () = limits.over.cancelled() => {}
            () = limits.spent.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests;
