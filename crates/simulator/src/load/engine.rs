//! A run from its beginning to its report: the server is reached, drivers are put onto the map, the calls are made when
//! they are due, and what was counted is reported.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::guard;
use super::ingest::{self, Ingest};
use super::live::Live;
use super::machine::machine;
use super::nearby::{self, Nearby};
use super::orders::{self, Orders};
use super::plan::{Arrivals, IngestLoad, MixedLoad, NearbyLoad, OrdersLoad, Pace, Plan, Rate, Workload};
use super::presence::Presence;
use super::rate::Schedule;
use super::report::{Latency, LoadReport};
use super::settings::settings;
use crate::client::{Caller, Dial, RetryPolicy, Target};
use crate::customers::CustomersOptions;
use crate::drive::{self, Calls, Clock, Limits};
use crate::error::{RunError, reach};
use crate::fleet::{FleetCounts, is_refused_for_good};
use crate::recorder::{Latencies, Recorder, Timeline};
use crate::run::{FleetEnd, Play, RecordedCity};
use crate::stats::Stats;
use crate::trace::BrokenLines;

/// Calls without an answer at one time.
const IN_FLIGHT_MAX: usize = 20_000;

/// Orders of a recorded city without an answer at one time: far more than a server should let wait. One more waits, and
/// its latency includes the wait.
const ORDERS_IN_FLIGHT_MAX: usize = 5_000;

/// Makes the load of `plan` on the server `target`. `stop` ends it early: then no more calls are made, those under
/// way are waited for until their deadlines, and what was measured is reported as cut short.
pub async fn run(plan: Plan, target: &Target, live: &Live, stop: &CancellationToken) -> Result<LoadReport, RunError> {
    reach(target).await?;
    run_on(plan, &Dial::from(target), Clock::Machine, live, stop).await
}

/// [`run`] on a server that is there, by a clock.
pub(super) async fn run_on(
    mut plan: Plan,
    server: &Dial,
    clock: Clock,
    live: &Live,
    stop: &CancellationToken,
) -> Result<LoadReport, RunError> {
    let callers = match plan.pace {
        Pace::Closed { callers } => callers,
        Pace::Open { .. } | Pace::Recorded => IN_FLIGHT_MAX,
    };
    let caller = Caller::new(server, callers, plan.retry());
    let stay = CancellationToken::new();
    let _gone_at_the_end = stay.clone().drop_guard();
    let Some(present) = stop.run_until_cancelled(put_drivers(&plan, &caller, &stay)).await else {
        let nothing = Run::begin(plan, clock, live, stop);
        let now = Instant::now();
        return nothing.report(now, &[]).await;
    };
    present?;
    let city = match &plan.workload {
        Workload::Trace(load) => {
            let (locations, rides) = (load.locations.clone(), load.rides.clone());
            Some(RecordedCity::read(locations, rides, load.speed).await?)
        }
        _ => None,
    };
    if let Some(city) = &city {
        plan.duration = city.lasts();
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
        Workload::Trace(load) => match &city {
            Some(city) => run.recorded_city(server, city, load.streams).await?,
            None => return Err(RunError::Pace("a trace is read before it is played")),
        },
        Workload::Mixed(load) => run.mixed(server, &caller, *load).await?,
    };
    if let Some(city) = city {
        run.broken_lines = city.broken_lines;
    }
    run.report(ended, &recorders).await
}

/// Puts the drivers of a workload onto the map, where they stay fresh until `stay` is cancelled.
async fn put_drivers(plan: &Plan, caller: &Caller, stay: &CancellationToken) -> Result<(), RunError> {
    let places = match &plan.workload {
        Workload::Orders(load) => orders::drivers(load.drivers),
        Workload::Nearby(load) => nearby::drivers(load.drivers, plan.seed),
        Workload::Mixed(load) => orders::drivers(OrdersLoad::for_pace(plan.pace.times(load.orders_share)).drivers),
        Workload::Ingest(_) | Workload::Trace(_) => Vec::new(),
    };
    let presence = Arc::new(Presence::new(places, caller));
    presence.put().await.map_err(RunError::Drivers)?;
    TaskTracker::new().spawn(presence.keep_fresh(stay.clone()));
    Ok(())
}

impl Plan {
    fn retry(&self) -> RetryPolicy {
        RetryPolicy::within(self.deadline, self.retries)
    }

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
            limits: Limits {
                timeline,
                ends_at,
                over: over.clone(),
                left: plan.count_max.map(|count| Arc::new(AtomicU64::new(count))),
                spent: CancellationToken::new(),
                in_flight_max: IN_FLIGHT_MAX,
                clock,
            },
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
    async fn drive<C: Calls>(&self, calls: C) -> Result<(Instant, Vec<Recorder>), RunError> {
        let calls = Arc::new(calls);
        let recorders = calls.recorders();
        self.live.begin(self.timeline(), self.expected(), &recorders);
        let ended = match (self.plan.pace, &self.schedule) {
            (Pace::Open { .. }, Some(schedule)) => {
                drive::open(&self.limits, schedule.dues(self.plan.seed), &calls).await?
            }
            (Pace::Closed { callers }, _) => drive::closed(&self.limits, callers, &calls).await?,
            _ => return Err(RunError::Pace("only a trace has a pace of its own")),
        };
        Ok((ended, recorders))
    }

    /// Streams fixes: when the last was due, and what was counted.
    async fn ingest(&self, server: &Dial, load: IngestLoad) -> Result<(Instant, Vec<Recorder>), RunError> {
        if self.plan.pace == Pace::Recorded {
            return Err(RunError::Pace("only a trace has a pace of its own"));
        }
        let counts = FleetCounts::new(self.timeline());
        let recorders = vec![counts.recorder.clone()];
        self.live.begin(self.timeline(), self.expected(), &recorders);
        let (ended, failures) = self.stream(server, load, &counts, true).await;
        streamed(failures?, &recorders)?;
        Ok((ended, recorders))
    }

    /// Streams fixes, searches and orders at once, each at its share of the rate.
    async fn mixed(
        &self,
        server: &Dial,
        caller: &Caller,
        load: MixedLoad,
    ) -> Result<(Instant, Vec<Recorder>), RunError> {
        let (timeline, seed) = (self.timeline(), self.plan.seed);
        let schedule = |share| match self.plan.pace.times(share) {
            Pace::Open { arrivals, rate } => Ok(self.plan.schedule(arrivals, rate)),
            _ => Err(RunError::Pace("the shares of a mixed load are those of a rate")),
        };
        let (orders_due, searches_due) = (schedule(load.orders_share)?, schedule(load.nearby_share)?);
        let fixes = FleetCounts::new(timeline);
        let drivers = OrdersLoad::for_pace(self.plan.pace.times(load.orders_share)).drivers;
        let orders = Arc::new(Orders::new(caller, timeline, drivers));
        let search = NearbyLoad {
            drivers: 0,
            ..NearbyLoad::default()
        };
        let nearby = Arc::new(Nearby::new(caller, timeline, search, ingest::CITY, seed));
        let all = [vec![fixes.recorder.clone()], orders.recorders(), nearby.recorders()].concat();
        self.live.begin(timeline, self.expected(), &all);
        // A count is one of fixes. Neighbouring seeds, or the three would arrive together.
        let limits = Limits {
            left: None,
            ..self.limits.clone()
        };
        let ((ended, failures), orders, searches) = tokio::join!(
            self.stream(server, load.ingest, &fixes, false),
            drive::open(&limits, orders_due.dues(seed.wrapping_add(1)), &orders),
            drive::open(&limits, searches_due.dues(seed.wrapping_add(2)), &nearby),
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
        counts: &FleetCounts,
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
            counts,
        };
        let stop = self.limits.over.child_token();
        // A closed loop has no schedule to sit out when its streams are refused.
        let ends_early = self.plan.count_max.is_some() || self.schedule.is_none();
        self.for_its_time(&stop, ends_early, ingest.run(&stop)).await
    }

    /// Plays a recorded city: when it ended, and what was counted.
    async fn recorded_city(
        &self,
        server: &Dial,
        city: &RecordedCity,
        streams: usize,
    ) -> Result<(Instant, Vec<Recorder>), RunError> {
        if self.plan.pace != Pace::Recorded {
            return Err(RunError::Pace("a trace has a pace of its own"));
        }
        let (stop, timeline) = (self.limits.over.child_token(), self.timeline());
        let stats = Stats::new(timeline.clone());
        let recorders = stats.recorders(city.has_rides());
        self.live.begin(timeline, self.expected(), &recorders);
        let play = Play {
            server,
            stats: &stats,
            fleet: ingest::options(streams, self.plan.retries, self.plan.deadline),
            fleet_end: FleetEnd::AtStop,
            keeps_log: false,
            customers: CustomersOptions {
                in_flight_max: ORDERS_IN_FLIGHT_MAX,
                retry: self.plan.retry(),
            },
            wind_down: self.plan.deadline,
            last_completions: self.plan.deadline,
        };
        let playing = city.play(play, timeline.started(), timeline.started_at(), &stop);
        let (ended, played) = self.for_its_time(&stop, true, playing).await;
        streamed(played?.stream_failures, &recorders)?;
        Ok((ended, recorders))
    }

    /// Lets `work` go on until the time is over, at which it is stopped, or for as long as it has something to do if
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
    async fn report(self, ended: Instant, recorders: &[Recorder]) -> Result<LoadReport, RunError> {
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

/// Why streams gave up: an error where nothing else was answered, else for the log of whoever keeps one.
fn streamed(failures: Vec<Status>, recorders: &[Recorder]) -> Result<(), RunError> {
    let answered: u64 = recorders.iter().map(|recorder| recorder.totals().answered).sum();
    for status in failures {
        if answered == 0 && is_refused_for_good(&status) {
            return Err(RunError::Streams(status));
        }
        tracing::warn!(code = ?status.code(), message = status.message(), "a location stream gave up");
    }
    Ok(())
}
