//! Calls: how many, how they ended, how long they took, per method.
//!
//! The methods are given when the server is built, so that the map of them is never written again and a call takes no
//! lock that calls of other methods take. What is asked for and does not exist is counted under one name, or a caller
//! could make series at will.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tonic::Code;
use waybill_proto::code_name;

use super::declare::Declare as _;
use super::health::MethodCounts;
use super::labelled::Labelled;
use super::latencies::Latencies;

/// The name under which calls of methods that do not exist are counted.
pub const UNKNOWN_METHOD: &str = "unknown";

/// By method, as `/package.Service/Method`.
pub type MethodSnapshots = BTreeMap<&'static str, MethodSnapshot>;

/// How many codes gRPC has: 0 to 16.
const CODES: usize = 17;

/// Counts calls.
#[derive(Debug)]
pub struct GrpcMetrics {
    methods: HashMap<&'static str, Arc<Method>>,
    unknown: Arc<Method>,
    panics: Counter,
}

/// A call that has begun. If it is dropped before [`Call::finish`], the client has gone away and it counts as CANCELLED.
#[derive(Debug)]
#[must_use]
pub struct Call {
    method: Arc<Method>,
    begun: Instant,
    finished: bool,
}

/// One method at one moment. Latencies are of calls that have ended, since the start, in milliseconds; that of a
/// stream is its whole life. Percentiles are exact to 1 %.
#[derive(Debug, Clone, Serialize)]
pub struct MethodSnapshot {
    /// Calls that have ended.
    pub count: u64,
    /// Those of them that ended with another status than OK.
    pub errors: u64,
    /// Calls that have begun and not ended.
    pub in_flight: i64,
    /// The mean.
    pub avg_latency_ms: f64,
    /// The longest.
    pub max_latency_ms: f64,
    /// That of the call that ended last.
    pub last_latency_ms: f64,
    /// Half of the calls were not slower.
    pub p50_ms: f64,
    /// 95 in 100 calls were not slower.
    pub p95_ms: f64,
    /// 99 in 100 calls were not slower.
    pub p99_ms: f64,
}

#[derive(Debug)]
struct Method {
    name: &'static str,
    in_flight: Gauge,
    calls: Labelled<Counter, 2>,
    /// The series of `calls` for this method, each made when its code is first seen.
    by_code: [OnceLock<Counter>; CODES],
    errors: AtomicU64,
    latencies: Latencies,
}

impl GrpcMetrics {
    pub(super) fn new(methods: &[&'static str], registry: &mut Registry) -> GrpcMetrics {
        let calls = registry.declare(
            "grpc_calls",
            "Calls that have ended, by method and gRPC status",
            Labelled::new(["method", "code"]),
        );
        let in_flight = registry.declare(
            "grpc_in_flight",
            "Calls that have begun and not ended, by method",
            Labelled::new(["method"]),
        );
        let latencies = registry.declare_seconds(
            "grpc_latency",
            "Time from the first byte of a call to its status, by method; of a stream, its whole life",
            Labelled::new(["method"]),
        );
        let panics = registry.declare(
            "grpc_panics",
            "Calls that ended in a panic, a defect of Waybill",
            Counter::default(),
        );

        let method = |name| Arc::new(Method::new(name, &calls, &in_flight, &latencies));
        GrpcMetrics {
            methods: methods.iter().map(|name| (*name, method(*name))).collect(),
            unknown: method(UNKNOWN_METHOD),
            panics,
        }
    }

    /// A call of `path`, as `/package.Service/Method`, has begun.
    pub fn begin(&self, path: &str) -> Call {
        let method = Arc::clone(self.methods.get(path).unwrap_or(&self.unknown));
        method.in_flight.inc();
        Call {
            method,
            begun: Instant::now(),
            finished: false,
        }
    }

    /// A handler panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    pub(super) fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// What each method that was called counted.
    pub(super) fn counts(&self) -> Vec<MethodCounts> {
        let all = self
            .methods
            .values()
            .chain([&self.unknown])
            .map(|method| method.counts());
        let mut called: Vec<MethodCounts> = all.filter(|counts| counts.calls > 0 || counts.in_flight > 0).collect();
        called.sort_unstable_by_key(|counts| counts.method);
        called
    }

    pub(super) fn snapshot(&self) -> MethodSnapshots {
        let unknown = Some(self.unknown.snapshot()).filter(|unknown| unknown.count > 0 || unknown.in_flight > 0);
        let known = self.methods.iter().map(|(name, method)| (*name, method.snapshot()));
        known.chain(unknown.map(|unknown| (UNKNOWN_METHOD, unknown))).collect()
    }
}

impl Call {
    /// The path of the method, or [`UNKNOWN_METHOD`]: bounded, so fit for a log field.
    pub fn method(&self) -> &'static str {
        self.method.name
    }

    /// The call has ended with this status. Only the first call of this counts.
    pub fn finish(&mut self, code: Code) {
        if !self.finished {
            self.finished = true;
            self.method.in_flight.dec();
            self.method.record(code, self.begun.elapsed());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}

impl Method {
    fn new(
        name: &'static str,
        calls: &Labelled<Counter, 2>,
        in_flight: &Labelled<Gauge, 1>,
        latencies: &Labelled<Latencies, 1>,
    ) -> Method {
        Method {
            name,
            in_flight: in_flight.get([name]),
            calls: calls.clone(),
            by_code: [const { OnceLock::new() }; CODES],
            errors: AtomicU64::new(0),
            latencies: latencies.get([name]),
        }
    }

    fn record(&self, code: Code, latency: Duration) {
        if let Some(counter) = usize::try_from(i32::from(code))
            .ok()
            .and_then(|code| self.by_code.get(code))
        {
            counter
                .get_or_init(|| self.calls.get([self.name, code_name(code)]))
                .inc();
        }
        if code != Code::Ok {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        self.latencies.record(latency);
    }

    fn counts(&self) -> MethodCounts {
        let latency_counts = self.latencies.buckets();
        MethodCounts {
            method: self.name.trim_start_matches('/'),
            calls: latency_counts.iter().sum(),
            errors: self.errors.load(Ordering::Relaxed),
            in_flight: self.in_flight.get(),
            latency_counts,
        }
    }

    fn snapshot(&self) -> MethodSnapshot {
        let latencies = self.latencies.summary();
        MethodSnapshot {
            count: latencies.count,
            errors: self.errors.load(Ordering::Relaxed),
            in_flight: self.in_flight.get(),
            avg_latency_ms: as_ms(latencies.mean_us),
            max_latency_ms: as_ms(latencies.max_us),
            last_latency_ms: as_ms(latencies.last_us),
            p50_ms: as_ms(latencies.p50_us),
            p95_ms: as_ms(latencies.p95_us),
            p99_ms: as_ms(latencies.p99_us),
        }
    }
}

/// Rounded to whole microseconds, or the snapshot would show the noise of the division.
fn as_ms(micros: u64) -> f64 {
    (Duration::from_micros(micros).as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_1_to_100_ms_have_their_percentiles_within_one_percent() {
        let method = Method::new(
            "m",
            &Labelled::new(["m", "c"]),
            &Labelled::new(["m"]),
            &Labelled::new(["m"]),
        );
        for ms in 1..=100 {
            method.record(Code::Ok, Duration::from_millis(ms));
        }
        method.record(Code::Internal, Duration::from_millis(50));

        let shown = method.snapshot();
        assert_eq!((shown.count, shown.errors), (101, 1));
        let exact = [
            (shown.max_latency_ms, 100.0),
            (shown.last_latency_ms, 50.0),
            (shown.avg_latency_ms, 50.495),
        ];
        for (found, expected) in exact {
            assert!((found - expected).abs() < 0.001, "{found} is not {expected}");
        }
        for (found, expected) in [(shown.p50_ms, 50.0), (shown.p95_ms, 95.0), (shown.p99_ms, 99.0)] {
            assert!(
                (found - expected).abs() <= expected * 0.011,
                "{found} is not {expected}"
            );
        }
    }
}
