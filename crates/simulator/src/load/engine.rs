//! A run from its beginning to its report: the server is reached, drivers are put onto the map, the calls are made when
//! they are due, and what was counted is told.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::transport::Endpoint;

use super::alarm::Clock;
use super::call::Caller;
use super::drive::{self, Calls, IN_FLIGHT_MAX, Limits};
use super::error::{LoadError, streamed};
use super::guard;
use super::ingest::{self, Ingest};
use super::latencies::Latencies;
use super::live::Live;
use super::machine::machine;
use super::nearby::{self, Nearby};
use super::orders::{self, Orders};
use super::plan::{Arrivals, IngestLoad, MixedLoad, NearbyLoad, OrdersLoad, Pace, Plan, Rate, Workload};
use super::presence::Presence;
use super::rate::Schedule;
use super::recorder::Recorder;
use super::report::{Latency, LoadReport};
use super::settings::settings;
use super::timeline::Timeline;
use super::trace::{Playing, Recorders, Replay};
use crate::connections::{Connections, Dial, reach};
use crate::trace::BrokenLines;

/// Makes the load of `plan` on the server at `endpoint`. `stop` ends it early: then no more calls are made, those under
/// way are waited for until their deadlines, and what was measured is reported as cut short.
pub async fn run(
    plan: Plan,
    endpoint: &Endpoint,
    live: &Live,
    stop: &CancellationToken,
) -> Result<LoadReport, LoadError> {
    reach(endpoint).await.map_err(|source| LoadError::Unreachable {
        address: endpoint.uri().to_string(),
        source,
    })?;
    run_on(plan, &Dial::from(endpoint), Clock::Machine, live, stop).await
}

/// [`run`] on a server that is there, by a clock.
pub(super) async fn run_on(
    mut plan: Plan,
    server: &Dial,
    clock: Clock,
    live: &Live,
    stop: &CancellationToken,
) -> Result<LoadReport, LoadError> {
    let callers = match plan.pace {
        Pace::Closed { callers } => callers,
        Pace::Open { .. } | Pace::Recorded => IN_FLIGHT_MAX,
    };
    let caller = Caller {
        connections: Arc::new(Connections::to(server, callers)),
        deadline: plan.deadline,
        retries: plan.retries,
    };
    let stay = CancellationToken::new();
    let _gone_at_the_end = stay.clone().drop_guard();
    let Some(present) = stop.run_until_cancelled(put_drivers(&plan, &caller, &stay)).await else {
        let nothing = Run::begin(plan, clock, live, stop);
        let now = Instant::now();
        return nothing.report(now, &[]).await;
    };
    present?;
    let replay = match &plan.workload {
        Workload::Trace(load) => Some(Replay::read(load).await?),
        _ => None,
    };
    if let Some(replay) = &replay {
        plan.duration = replay.lasts();
    }
    let mut run = Run::begin(plan, clock, live, stop);
    let (ended, recorders) = match &run.plan.workload {
        Workload::Orders(load) => {
            let orders = Orders::new(&caller, run.timeline(), load.drivers);
            run.drive(orders).await?
        }
        Workload::Nearby(load) => {
            let nearby = Nearby::new(&caller, run.timeline(), *load, nearby::CITY, run.plan.seed);
            run.drive(nearby).await?
        }
        Workload::Ingest(load) => run.ingest(server, *load).await?,
        Workload::Trace(_) => match &replay {
            Some(replay) => run.replay(server, replay).await?,
            None => return Err(LoadError::Pace("a trace is read before it is played")),
        },
        Workload::Mixed(load) => run.mixed(server, &caller, *load).await?,
    };
    if let Some(replay) = replay {
        run.broken_lines = replay.broken_lines().clone();
    }
    run.report(ended, &recorders).await
}

/// Puts the drivers of a workload onto the map, where they stay fresh until `stay` is cancelled.
async fn put_drivers(plan: &Plan, caller: &Caller, stay: &CancellationToken) -> Result<(), LoadError> {
    let places = match &plan.workload {
        Workload::Orders(load) => orders::drivers(load.drivers),
        Workload::Nearby(load) => nearby::drivers(load.drivers, plan.seed),
        Workload::Mixed(load) => orders::drivers(OrdersLoad::for_pace(plan.pace.times(load.orders_share)).drivers),
        Workload::Ingest(_) | Workload::Trace(_) => Vec::new(),
    };
    let presence = Arc::new(Presence::new(places, caller));
    presence.put().await.map_err(LoadError::Drivers)?;
    TaskTracker::new().spawn(presence.keep_fresh(stay.clone()));
    Ok(())
}

impl Plan {
    fn schedule(&self, arrivals: Arrivals, rate: Rate) -> Schedule {
        Schedule::new(rate, arrivals, self.warm_up, self.duration)
    }
}

/// A run whose clock has started.
struct Run<'a> {
    plan: Plan,
    limits: Limits,
    live: &'a Live,
    stop: &'a CancellationToken,
    /// Of the arrivals, where they are scheduled.
    schedule: Option<Schedule>,
    /// Of a recorded city.
    broken_lines: BrokenLines,
    /// What watches the generator, until the end of the run.
    cpu: tokio::task::JoinHandle<guard::Cpu>,
    _ends: DropGuard,
}

impl<'a> Run<'a> {
    fn begin(plan: Plan, clock: Clock, live: &'a Live, stop: &'a CancellationToken) -> Run<'a> {
        let schedule = match plan.pace {
            Pace::Open { arrivals, rate } => Some(plan.schedule(arrivals, rate)),
            Pace::Closed { .. } | Pace::Recorded => None,
        };
        let started = Instant::now();
        let stages = schedule.as_ref().map_or(&[][..], Schedule::stages);
        let timeline = Timeline::new(started, plan.warm_up, stages);
        let over = stop.child_token();
        let ends_at = started + plan.warm_up + plan.duration;
        timeline.end(ends_at);
        let cpu = TaskTracker::new().spawn(guard::watch(timeline.clone(), ends_at, over.clone()));
        Run {
            limits: Limits::new(timeline, ends_at, over.clone(), plan.count_max, clock),
            plan,
            live,
            stop,
            schedule,
            broken_lines: BrokenLines::default(),
            cpu,
            _ends: over.drop_guard(),
        }
    }

    fn timeline(&self) -> &Timeline {
        &self.limits.timeline
    }

    /// Makes the calls of one workload: when the last was due, and what was counted.
    async fn drive<C: Calls>(&self, calls: C) -> Result<(Instant, Vec<Recorder>), LoadError> {
        let calls = Arc::new(calls);
        let recorders = calls.recorders();
        self.live.begin(self.timeline(), self.expected(), &recorders);
        let ended = match (self.plan.pace, &self.schedule) {
            (Pace::Open { .. }, Some(schedule)) => drive::open(&self.limits, schedule, self.plan.seed, calls).await?,
            (Pace::Closed { callers }, _) => drive::closed(&self.limits, callers, calls).await?,
            _ => return Err(LoadError::Pace("only a trace has a pace of its own")),
        };
        Ok((ended, recorders))
    }

    /// Streams fixes: when the last was due, and what was counted.
    async fn ingest(&self, server: &Dial, load: IngestLoad) -> Result<(Instant, Vec<Recorder>), LoadError> {
        if self.plan.pace == Pace::Recorded {
            return Err(LoadError::Pace("only a trace has a pace of its own"));
        }
        let recorder = Recorder::new("fix", "fixes", self.timeline());
        self.live
            .begin(self.timeline(), self.expected(), std::slice::from_ref(&recorder));
        let (ended, failures) = self.stream(server, load, &recorder, true).await;
        streamed(failures?, std::slice::from_ref(&recorder))?;
        Ok((ended, vec![recorder]))
    }

    /// Streams fixes, searches and orders at once, each at its share of the rate.
    async fn mixed(
        &self,
        server: &Dial,
        caller: &Caller,
        load: MixedLoad,
    ) -> Result<(Instant, Vec<Recorder>), LoadError> {
        let (timeline, seed) = (self.timeline(), self.plan.seed);
        let schedule = |share| match self.plan.pace.times(share) {
            Pace::Open { arrivals, rate } => Ok(self.plan.schedule(arrivals, rate)),
            _ => Err(LoadError::Pace("the shares of a mixed load are those of a rate")),
        };
        let (orders_due, searches_due) = (schedule(load.orders_share)?, schedule(load.nearby_share)?);
        let fixes = Recorder::new("fix", "fixes", timeline);
        let drivers = OrdersLoad::for_pace(self.plan.pace.times(load.orders_share)).drivers;
        let orders = Arc::new(Orders::new(caller, timeline, drivers));
        let search = NearbyLoad {
            drivers: 0,
            ..NearbyLoad::default()
        };
        let nearby = Arc::new(Nearby::new(caller, timeline, search, ingest::CITY, seed));
        let all = [vec![fixes.clone()], orders.recorders(), nearby.recorders()].concat();
        self.live.begin(timeline, self.expected(), &all);
        // A count is one of fixes. Neighbouring seeds, or the three would arrive together.
        let limits = self.limits.uncounted();
        let ((ended, failures), orders, searches) = tokio::join!(
            self.stream(server, load.ingest, &fixes, false),
            drive::open(&limits, &orders_due, seed.wrapping_add(1), orders),
            drive::open(&limits, &searches_due, seed.wrapping_add(2), nearby),
        );
        orders?;
        searches?;
        streamed(failures?, &all)?;
        Ok((ended, all))
    }

    /// Streams fixes for the time of the run. `alone`: nothing else is done in it.
    async fn stream(
        &self,
        server: &Dial,
        load: IngestLoad,
        recorder: &Recorder,
        alone: bool,
    ) -> (Instant, Result<Vec<Status>, JoinError>) {
        let ingest = Ingest {
            server,
            load,
            schedule: self.schedule.as_ref(),
            clock: self.limits.clock,
            seed: self.plan.seed,
            count_max: self.plan.count_max,
            deadline: self.plan.deadline,
            resend: self.plan.retries,
            hopeless: alone.then(|| self.limits.over.clone()),
            timeline: self.timeline(),
            recorder,
        };
        let stop = self.limits.over.child_token();
        // A closed loop has no schedule to sit out when its streams are refused.
        let ends_early = self.plan.count_max.is_some() || self.schedule.is_none();
        self.for_its_time(&stop, ends_early, ingest.run(&stop)).await
    }

    /// Plays a recorded city: when it ended, and what was counted.
    async fn replay(&self, server: &Dial, replay: &Replay) -> Result<(Instant, Vec<Recorder>), LoadError> {
        if self.plan.pace != Pace::Recorded {
            return Err(LoadError::Pace("a trace has a pace of its own"));
        }
        let stop = self.limits.over.child_token();
        let recorders = Recorders::new(self.timeline());
        let all = recorders.all(replay.orders());
        self.live.begin(self.timeline(), self.expected(), &all);
        let playing = Playing {
            server,
            timeline: self.timeline(),
            recorders,
            deadline: self.plan.deadline,
            retries: self.plan.retries,
        };
        let (ended, failures) = self.for_its_time(&stop, true, replay.run(playing, &stop)).await;
        streamed(failures?, &all)?;
        Ok((ended, all))
    }

    /// Lets `work` go on until the time is over, at which it hears of `stop`, or for as long as it has something to do if
    /// the run then `ends_early`; an error ends the run. Returns when it was to make no more calls, and its outcome.
    async fn for_its_time<T, E>(
        &self,
        stop: &CancellationToken,
        ends_early: bool,
        work: impl Future<Output = Result<T, E>>,
    ) -> (Instant, Result<T, E>) {
        let over = &self.limits.over;
        let time = async {
            if self.plan.pace == Pace::Recorded {
                // It ends by itself: what is due last is made, too.
                over.cancelled().await;
            } else {
                over.run_until_cancelled(tokio::time::sleep_until(self.limits.ends_at))
                    .await;
            }
            stop.cancel();
            self.limits.end()
        };
        let work = async {
            let outcome = work.await;
            if ends_early || outcome.is_err() {
                over.cancel();
            }
            outcome
        };
        tokio::join!(time, work)
    }

    /// How long warm-up and load take. A run that ends by a count ends when it ends.
    fn expected(&self) -> Option<Duration> {
        let whole = self.plan.warm_up + self.plan.duration;
        self.plan.count_max.is_none().then_some(whole)
    }

    /// What the run came to, when no call was made after `ended`.
    async fn report(self, ended: Instant, recorders: &[Recorder]) -> Result<LoadReport, LoadError> {
        self.limits.over.cancel();
        let cpu = self.cpu.await?;
        let measured = ended.saturating_duration_since(self.limits.timeline.measured_from());
        let operations: Vec<_> = recorders.iter().map(|recorder| recorder.operation(measured)).collect();
        let mut late = Latencies::new(3);
        for recorder in recorders {
            late.add(&recorder.lateness());
        }
        let first = operations
            .first()
            .map_or(Latency::default(), |operation| operation.latency);
        let (pace, arrivals) = match self.plan.pace {
            Pace::Open { arrivals, .. } => ("open", Some(arrivals)),
            Pace::Closed { .. } => ("closed", None),
            Pace::Recorded => ("recorded", None),
        };
        Ok(LoadReport {
            workload: self.plan.workload.name(),
            pace,
            arrivals,
            settings: settings(&self.plan),
            started_at: self.limits.timeline.started_at(),
            warm_up_seconds: self.plan.warm_up.as_secs_f64(),
            measured_seconds: measured.as_secs_f64(),
            cut_short: self.stop.is_cancelled() && ended < self.limits.ends_at,
            machine: machine(),
            generator: guard::generator(cpu, &late.latency(), &first),
            operations,
            broken_lines: self.broken_lines.count,
            first_broken_lines: self.broken_lines.first,
        })
    }
}
