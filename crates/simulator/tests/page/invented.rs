//! Reports for tests: one that looks like a real run up to saturation, and the smallest that can be.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "small invented numbers, for tests and an example"
)]

use std::collections::BTreeMap;

use waybill_simulator::load::plan::Arrivals;
use waybill_simulator::load::report::{
    Bucket, Generator, Latency, LoadReport, Machine, Operation, Second, Stage, Totals,
};

/// Orders from 200 a second to more than the server can do, in eight stages; fixes beside them without trouble.
pub fn staircase() -> LoadReport {
    let settings = [
        ("grpc-addr", "127.0.0.1:7200"),
        ("rate", "200..1600"),
        ("step", "15s"),
        ("drivers", "4096"),
        ("seed", "7"),
        ("deadline", "2s"),
    ];
    LoadReport {
        workload: "mixed",
        pace: "open",
        arrivals: Some(Arrivals::Poisson),
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        started_at: "2026-11-22T16:04:05Z".parse().unwrap(),
        warm_up_seconds: 10.0,
        measured_seconds: 120.0,
        cut_short: false,
        machine: Machine {
            processor: "AMD EPYC 7B13".to_owned(),
            cores: 8,
            memory_bytes: 32 << 30,
            system: "linux 6.1.0".to_owned(),
            waybill: "0.1.0",
        },
        generator: Generator {
            cpu_cores_max: 1.84,
            cpu_cores_mean: 1.12,
            late_p99_ms: 0.41,
            limited_by_generator: None,
        },
        operations: vec![
            operation("CreateOrder", "orders", 200.0, 1_150.0, 3.2),
            operation("fix", "fixes", 20_000.0, 1e9, 0.8),
        ],
        broken_lines: 0,
        first_broken_lines: Vec::new(),
    }
}

/// A stage more each 15 s; what is more than `most` a second waits, is refused or fails.
fn operation(name: &str, unit: &'static str, rate: f64, most: f64, base_ms: f64) -> Operation {
    let mut noise = Noise(7);
    let (mut seconds, mut stages): (Vec<Second>, Vec<Stage>) = (Vec::new(), Vec::new());
    let mut errors = BTreeMap::new();
    for stage in 1..=8_u32 {
        let offered_per_second = rate * f64::from(stage);
        let mut sum = Totals::default();
        for _ in 0..15 {
            let offered = offered_per_second * noise.around(1.0, 0.04);
            let answered = offered.min(most * noise.around(1.0, 0.03));
            let over = offered - answered;
            let totals = Totals {
                offered: offered as u64,
                started: offered as u64,
                answered: offered as u64 - (over * 0.85) as u64 - (over * 0.15) as u64,
                refused: (over * 0.85) as u64,
                failed: (over * 0.15) as u64,
                repeated: 0,
            };
            let load = (offered / most).min(0.985);
            let latency = latency(base_ms, load, &mut noise);
            let second = seconds.len() as u64;
            seconds.push(Second {
                second,
                totals,
                completed: totals.answered,
                latency,
            });
            add(&mut sum, &totals);
        }
        *errors.entry("RESOURCE_EXHAUSTED".to_owned()).or_default() += sum.refused;
        *errors.entry("DEADLINE_EXCEEDED".to_owned()).or_default() += sum.failed * 3 / 4;
        *errors.entry("UNAVAILABLE".to_owned()).or_default() += sum.failed - sum.failed * 3 / 4;
        stages.push(Stage {
            offered_per_second,
            answered_per_second: sum.answered as f64 / 15.0,
            duration_seconds: 15.0,
            totals: sum,
            latency: latency(base_ms, (offered_per_second / most).min(0.985), &mut noise),
        });
    }
    errors.retain(|_, count| *count > 0);
    let mut totals = Totals::default();
    for second in &seconds {
        add(&mut totals, &second.totals);
    }
    Operation {
        name: name.to_owned(),
        unit,
        answered_per_second: totals.answered as f64 / 120.0,
        totals,
        latency: latency(base_ms, 0.8, &mut noise),
        histogram: histogram(base_ms, totals.answered),
        errors,
        seconds,
        stages,
    }
}

fn add(sum: &mut Totals, more: &Totals) {
    sum.offered += more.offered;
    sum.started += more.started;
    sum.answered += more.answered;
    sum.refused += more.refused;
    sum.failed += more.failed;
}

/// As in a queue: the wait grows with load / (1 - load).
fn latency(base_ms: f64, load: f64, noise: &mut Noise) -> Latency {
    let p50_ms = base_ms * (1.0 + 0.4 * load / (1.0 - load)) * noise.around(1.0, 0.05);
    let p99_ms = p50_ms * (3.0 + 6.0 * load) * noise.around(1.0, 0.2);
    let tail_ms = p99_ms * noise.around(2.4, 0.9);
    Latency {
        min_ms: p50_ms * 0.41,
        mean_ms: p50_ms * 1.22,
        p50_ms,
        p90_ms: p50_ms * 2.1,
        p99_ms,
        p999_ms: tail_ms,
        max_ms: tail_ms * 1.7,
    }
}

/// A body, a tail, and a second hump where something waited for a timer.
fn histogram(base_ms: f64, answered: u64) -> Vec<Bucket> {
    let bell = |place: f64, middle: f64, width: f64| (-((place - middle) / width).powi(2)).exp();
    let shares = (0..240).map(|index| {
        let place = f64::from(index) / 40.0 - 1.0;
        let share = bell(place, 0.3, 0.25) + 0.12 * bell(place, 1.1, 0.4) + 0.02 * bell(place, 2.3, 0.15);
        (base_ms * 10_f64.powf(place), share)
    });
    let shares: Vec<(f64, f64)> = shares.collect();
    let all: f64 = shares.iter().map(|(_, share)| share).sum();
    let bucket = |(up_to_ms, share): (f64, f64)| Bucket {
        up_to_ms,
        count: (share / all * answered as f64) as u64,
    };
    let buckets = shares.into_iter().map(bucket);
    buckets.filter(|bucket| bucket.count > 0).collect()
}

/// The same chances each time (Knuth's generator of MMIX).
struct Noise(u64);

impl Noise {
    fn around(&mut self, middle: f64, width: f64) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        middle + width * ((self.0 >> 40) as f64 / (1_u64 << 23) as f64 - 1.0)
    }
}

/// Nothing happened.
pub fn nothing() -> LoadReport {
    let mut report = staircase();
    report.operations.truncate(1);
    let operation = &mut report.operations[0];
    operation.totals = Totals {
        offered: 3,
        started: 3,
        failed: 3,
        ..Totals::default()
    };
    operation.answered_per_second = 0.0;
    operation.latency = Latency::default();
    operation.histogram.clear();
    operation.stages.truncate(1);
    operation.seconds.truncate(1);
    operation.seconds[0].totals = operation.totals;
    operation.seconds[0].completed = 0;
    operation.seconds[0].latency = Latency::default();
    operation.errors = [("UNAVAILABLE".to_owned(), 3)].into();
    report
}
