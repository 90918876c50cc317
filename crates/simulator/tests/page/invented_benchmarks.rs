//! A report of the benchmarks for tests and the example, in the JSON that they write.

use serde_json::{Value, json};

/// How far the rounds of a benchmark and of its baseline are from their medians.
const ROUNDS: [f64; 6] = [0.93, 1.0, 1.04, 0.98, 1.1, 1.01];
const BASELINE_ROUNDS: [f64; 6] = [1.02, 0.97, 1.0, 1.08, 0.99, 1.05];

/// A benchmark of each section.
pub fn benchmarks() -> Value {
    let of = |name: &str, unit: &str, better: &str, ours: f64, baseline: Option<f64>| {
        let rounds =
            |value: f64, factors: &[f64]| -> Vec<f64> { factors.iter().map(|factor| value * factor).collect() };
        let (ours_rounds, baseline_rounds) = (
            rounds(ours, &ROUNDS),
            baseline.map_or(vec![], |value| rounds(value, &BASELINE_ROUNDS)),
        );
        json!({
            "name": name, "unit": unit, "value": ours, "min": ours * 0.9, "max": ours * 1.1, "better": better,
            "baseline": baseline, "baseline_is": baseline.map(|_| "the same work without Waybill"),
            "ratio": baseline.map(|baseline| if better == "more" { ours / baseline } else { baseline / ours }),
            "detail": "64 streams, batches of up to 512", "limited_by_generator": null,
            "rounds": ours_rounds, "baseline_rounds": baseline_rounds,
        })
    };
    json!({
        "benchmarks": [
            of("fixes_per_second", "fixes/s", "more", 41_230.0, Some(47_269.0)),
            of("orders_per_second", "orders/s", "more", 532.0, Some(893.0)),
            of("fix_ack_p99", "ms", "less", 13.0, Some(0.299)),
            of("order_p50", "ms", "less", 5.82, Some(0.2)),
            of("unary_call_server_cpu", "µs/call", "less", 13.7, Some(11.9)),
            of("fixes_100k_drivers", "fixes/s", "more", 44_357.0, Some(50_621.0)),
            of("orders_stored_many", "orders/s", "more", 483.0, Some(529.0)),
            of("fix_server_cpu", "µs/fix", "less", 4.87, None),
        ],
        "machine": { "processor": "AMD EPYC 7B13", "cores": 2, "memory_bytes": 24_u64 << 30, "disk": "ext4 on /dev/vda" },
        "versions": { "waybill": "waybill 0.1.0", "commit": "30016bf7c813", "postgres": "postgres (PostgreSQL) 15.18" },
        "settings": { "postgres.synchronous_commit": "on", "redis.appendfsync": "always" },
        "notes": ["Server, stores, payment provider and callers share the processors of this machine."],
        "seconds": 833.2,
        "quick": false,
    })
}
