//! The plan of a run of load, from its flags.

use std::time::Duration;

use waybill_simulator::load::plan::{
    Arrivals, IngestLoad, MixedLoad, NearbyLoad, OrdersLoad, Pace, Plan, Rate, STAGES_MAX, TraceLoad, Workload,
};

use crate::Failure;
use crate::cli::load::{ArrivalsName, FixFlags, LoadCommand, PaceFlags, RateFlag, RunFlags};

/// How long is measured unless a flag determines it: by time, and at most by count.
const DURATION: Duration = Duration::from_secs(30);
const DURATION_OF_COUNT: Duration = Duration::from_hours(1);

/// How long a recorded city is, is known once it is read; until then this is above any.
const RECORDED_MAX: Duration = Duration::from_hours(24 * 365);

/// Unacknowledged fixes on a stream.
const WINDOW: usize = 2_000;
/// Fixes in one message at most: well within the size of a message.
const BATCH: usize = 500;

/// The flags of the run itself, and its plan.
pub fn plan(command: LoadCommand) -> Result<(RunFlags, Plan), Failure> {
    let (run, pace, workload) = match command {
        LoadCommand::Orders(flags) => {
            let pace = pace(&flags.pace, flags.callers.callers)?;
            let enough = OrdersLoad::for_pace(pace);
            let load = flags.drivers.map_or(enough, |drivers| OrdersLoad { drivers });
            let workload = Workload::Orders(load);
            (flags.run, Some((flags.pace, pace)), workload)
        }
        LoadCommand::Ingest(flags) => {
            let pace = pace(&flags.pace, 0)?;
            let workload = Workload::Ingest(ingest(&flags.fixes));
            (flags.run, Some((flags.pace, pace)), workload)
        }
        LoadCommand::Nearby(flags) => {
            let pace = pace(&flags.pace, flags.callers.callers)?;
            let workload = Workload::Nearby(NearbyLoad {
                drivers: flags.drivers,
                radius_m: flags.radius,
                ..NearbyLoad::default()
            });
            (flags.run, Some((flags.pace, pace)), workload)
        }
        LoadCommand::Mixed(flags) => {
            if flags.pace.rate.is_none() {
                return usage("mixed needs a --rate: that of its fixes, of which the others are shares");
            }
            let pace = pace(&flags.pace, 0)?;
            let workload = Workload::Mixed(MixedLoad {
                ingest: ingest(&flags.fixes),
                orders_share: flags.orders_share,
                nearby_share: flags.nearby_share,
            });
            (flags.run, Some((flags.pace, pace)), workload)
        }
        LoadCommand::Trace(flags) => {
            let workload = Workload::Trace(TraceLoad {
                locations: flags.city.locations,
                rides: flags.city.rides,
                speed: flags.city.speed,
                streams: number(flags.streams.streams),
            });
            (flags.run, None, workload)
        }
    };
    let (flags, pace) = pace.unzip();
    let plan = Plan {
        workload,
        pace: pace.unwrap_or(Pace::Recorded),
        warm_up: flags.as_ref().map_or(Duration::ZERO, |flags| flags.warm_up),
        duration: flags.as_ref().map_or(RECORDED_MAX, measured),
        count_max: flags.and_then(|flags| flags.count),
        deadline: run.deadline,
        retries: run.retries,
        seed: run.seed,
    };
    Ok((run, plan))
}

fn pace(flags: &PaceFlags, callers: u32) -> Result<Pace, Failure> {
    let Some(rate) = flags.rate else {
        return Ok(Pace::Closed {
            callers: number(callers),
        });
    };
    let arrivals = match flags.arrivals {
        ArrivalsName::Poisson => Arrivals::Poisson,
        ArrivalsName::Constant => Arrivals::Constant,
    };
    let rate = match (rate, flags.step) {
        (RateFlag::Constant(rate), None) => Rate::Constant(rate),
        (RateFlag::Constant(_), Some(_)) => {
            return usage("--step goes from one --rate to another: give two, such as 100..5000");
        }
        (RateFlag::Range { from, to }, None) => Rate::Ramp { from, to },
        (RateFlag::Range { .. }, Some(step)) if step > measured(flags) / 2 => {
            return usage("--step is too long: two stages at least must fit into --for");
        }
        (RateFlag::Range { .. }, Some(step)) if step < measured(flags) / STAGES_MAX => {
            return usage(&format!(
                "--step is too short: {STAGES_MAX} stages at most may fit into --for"
            ));
        }
        (RateFlag::Range { from, to }, Some(step)) => Rate::Stairs { from, to, step },
    };
    Ok(Pace::Open { arrivals, rate })
}

fn measured(flags: &PaceFlags) -> Duration {
    let default = if flags.count.is_some() {
        DURATION_OF_COUNT
    } else {
        DURATION
    };
    flags.duration.unwrap_or(default)
}

fn ingest(flags: &FixFlags) -> IngestLoad {
    IngestLoad {
        drivers: flags.drivers,
        streams: number(flags.streams.streams),
        gather: flags.gather,
        window: WINDOW,
        batch: BATCH,
    }
}

fn number(flag: u32) -> usize {
    usize::try_from(flag).unwrap_or(usize::MAX)
}

fn usage<T>(line: &str) -> Result<T, Failure> {
    Err(Failure::Usage(line.to_owned()))
}
