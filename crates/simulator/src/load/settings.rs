//! A plan in words, by the names of the flags of `waybill load`: what a reader needs to make the same run again.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::{Arrivals, Pace, Plan, Rate, Workload};

/// The settings of `plan`.
pub(super) fn settings(plan: &Plan) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
    if plan.pace != Pace::Recorded {
        set("for", seconds(plan.duration));
        set("warm-up", seconds(plan.warm_up));
    }
    set("deadline", seconds(plan.deadline));
    set("retries", plan.retries.to_string());
    set("seed", plan.seed.to_string());
    if let Some(count) = plan.count_max {
        set("count", count.to_string());
    }
    match plan.pace {
        Pace::Open { arrivals, rate } => {
            let arrivals = match arrivals {
                Arrivals::Poisson => "poisson",
                Arrivals::Constant => "constant",
            };
            set("arrivals", arrivals.to_owned());
            match rate {
                Rate::Constant(rate) => set("rate", rate.to_string()),
                Rate::Ramp { from, to } => set("rate", format!("{from}..{to}")),
                Rate::Stairs { from, to, step } => {
                    set("step", seconds(step));
                    set("rate", format!("{from}..{to}"))
                }
            };
        }
        Pace::Closed { callers } if !matches!(plan.workload, Workload::Ingest(_)) => {
            set("callers", callers.to_string());
        }
        Pace::Closed { .. } | Pace::Recorded => {}
    }
    match &plan.workload {
        Workload::Orders(load) => {
            set("drivers", load.drivers.to_string());
        }
        Workload::Ingest(load) => {
            set("drivers", load.drivers.to_string());
            set("streams", load.streams.to_string());
            set("gather", seconds(load.gather));
        }
        Workload::Nearby(load) => {
            set("drivers", load.drivers.to_string());
            set("radius", load.radius_m.to_string());
        }
        Workload::Mixed(load) => {
            set("drivers", load.ingest.drivers.to_string());
            set("streams", load.ingest.streams.to_string());
            set("gather", seconds(load.ingest.gather));
            set("orders-share", load.orders_share.to_string());
            set("nearby-share", load.nearby_share.to_string());
        }
        Workload::Trace(load) => {
            set("locations", load.locations.display().to_string());
            if let Some(rides) = &load.rides {
                set("rides", rides.display().to_string());
            }
            set("speed", load.speed.to_string());
            set("streams", load.streams.to_string());
        }
    }
    settings
}

/// A time as the flags take it.
fn seconds(time: Duration) -> String {
    match time.as_micros() {
        micros if micros % 1_000_000 == 0 => format!("{}s", time.as_secs()),
        micros if micros % 1_000 == 0 => format!("{}ms", time.as_millis()),
        micros => format!("{micros}us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::{IngestLoad, OrdersLoad};

    #[test]
    fn times_are_written_as_the_flags_take_them() {
        let written =
            [0, 1, 500, 1_500, 10_000, 1_500_000, 30_000_000].map(|micros| seconds(Duration::from_micros(micros)));
        assert_eq!(written, ["0s", "1us", "500us", "1500us", "10ms", "1500ms", "30s"]);
    }

    #[test]
    fn callers_are_a_setting_only_where_there_are_some() {
        let load = IngestLoad {
            drivers: 10,
            streams: 1,
            gather: Duration::ZERO,
            window: 100,
            batch: 500,
        };
        let plan = Plan::new(Workload::Ingest(load), Pace::Closed { callers: 0 });
        assert!(!settings(&plan).contains_key("callers"));
    }

    #[test]
    fn a_plan_is_written_with_the_names_of_its_flags() {
        let rate = Rate::Stairs {
            from: 100.0,
            to: 500.0,
            step: Duration::from_secs(5),
        };
        let arrivals = Arrivals::Poisson;
        let plan = Plan {
            warm_up: Duration::from_millis(1_500),
            ..Plan::new(
                Workload::Orders(OrdersLoad { drivers: 800 }),
                Pace::Open { arrivals, rate },
            )
        };
        let settings: Vec<(String, String)> = settings(&plan).into_iter().collect();
        let settings: Vec<(&str, &str)> = settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let expected = [
            ("arrivals", "poisson"),
            ("deadline", "10s"),
            ("drivers", "800"),
            ("for", "30s"),
            ("rate", "100..500"),
            ("retries", "false"),
            ("seed", "1"),
            ("step", "5s"),
            ("warm-up", "1500ms"),
        ];
        assert_eq!(settings, expected);
    }
}
