//! The arithmetic and the readers of the benchmark, whose own target has no harness for tests.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use testkit::benchmark::arithmetic::{median, millis, number, quantile, range, ratios};
use testkit::benchmark::monitored::command;
use testkit::benchmark::mounts::file_system;
use testkit::benchmark::pgbench_output::transactions_per_second;
use testkit::benchmark::process_cost::{ProcessCost, resident_bytes};
use testkit::benchmark::rounds::{Pairs, Turn, take_turns};
use testkit::benchmark::statements::{of_order, parse};
use testkit::benchmark::{Benchmark, Better, Verdicts, add};

fn is(value: f64, expected: f64) {
    assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
}

#[test]
fn the_median_is_the_middle_whatever_the_order() {
    is(median(&[9.0, 1.0, 5.0]), 5.0);
    is(median(&[4.0, 1.0, 2.0, 9.0]), 3.0);
    assert!(median(&[]).is_nan());
}

#[test]
fn a_benchmark_that_is_measured_twice_has_the_rounds_of_both() {
    let of = |name, ours: &[f64], baseline: &[f64]| {
        let pairs = Pairs {
            ours: ours.to_vec(),
            baseline: baseline.to_vec(),
        };
        Benchmark::against(name, "ms", Better::Less, "a baseline", pairs)
    };
    let mut benchmarks = vec![
        of("slow", &[1.0, 2.0], &[1.0, 1.0]).with("with a load").at("9 /s"),
        of("other", &[7.0], &[7.0]),
    ];
    let late = of("slow", &[9.0], &[3.0]).with("with a load").at("8 /s");
    add(&mut benchmarks, vec![late, of("new", &[5.0], &[5.0])]);

    let names: Vec<_> = benchmarks.iter().map(|benchmark| benchmark.name).collect();
    assert_eq!(names, ["slow", "other", "new"]);
    let json = benchmarks[0].json();
    assert_eq!(
        (&json["rounds"], &json["baseline_rounds"]),
        (&json!([1.0, 2.0, 9.0]), &json!([1.0, 1.0, 3.0]))
    );
    assert_eq!(json["detail"], "9 /s and 8 /s: with a load");
    is(benchmarks[0].value(), 2.0);
    is(benchmarks[0].ratio().unwrap(), 0.5);
}

#[test]
fn one_wild_round_moves_the_range_and_not_the_median() {
    let values = [10.0, 11.0, 1_000.0, 9.0, 10.0];
    is(median(&values), 10.0);
    let (smallest, largest) = range(&values);
    is(smallest, 9.0);
    is(largest, 1_000.0);
}

#[test]
fn a_quantile_is_one_of_the_values() {
    let values: Vec<f64> = (1..=100).map(number).collect();
    is(quantile(&values, 0.5), 50.0);
    is(quantile(&values, 0.99), 99.0);
    is(quantile(&values, 1.0), 100.0);
    is(quantile(&[7.0], 0.01), 7.0);
    is(millis(Duration::from_micros(1_500)), 1.5);
}

#[test]
fn ratios_are_taken_round_by_round() {
    // Both sides slowed down by the machine in the second round: the ratio does not see it.
    let ratios = ratios(&[50.0, 25.0], &[100.0, 50.0]);
    is(ratios[0], 0.5);
    is(ratios[1], 0.5);
}

fn pairs(ours: &[f64], baseline: &[f64]) -> Pairs {
    Pairs {
        ours: ours.to_vec(),
        baseline: baseline.to_vec(),
    }
}

#[test]
fn the_ratio_is_the_median_of_the_pairs_and_one_is_the_baseline() {
    let rate = Benchmark::against(
        "rate",
        "a second",
        Better::More,
        "more",
        pairs(&[40.0, 10.0, 90.0], &[100.0, 20.0, 100.0]),
    );
    assert_eq!(rate.ratio(), Some(0.5));
    let cost = Benchmark::against("cost", "ms", Better::Less, "less", pairs(&[4.0], &[1.0]));
    assert_eq!(cost.ratio(), Some(0.25));
}

#[test]
fn a_ratio_is_shown_in_digits_that_can_be_compared() {
    let shown =
        |ours, baseline| Benchmark::against("", "ms", Better::Less, "", pairs(&[ours], &[baseline])).ratio_in_digits();
    assert_eq!(shown(2.0, 1.0).as_deref(), Some("0.50"));
    assert_eq!(shown(13.0, 0.35).as_deref(), Some("0.027"));
    let alone = Benchmark::alone("", "ms", Better::Less, vec![1.0]);
    assert_eq!((alone.ratio_in_digits(), alone.target_in_digits()), (None, None));
    let target = alone.to_reach(1.0 / 1.5);
    assert_eq!(target.target_in_digits().as_deref(), Some("0.67"));
}

#[test]
fn a_benchmark_is_the_generators_when_half_of_its_rounds_are_whenever_they_were() {
    let busy = || Some("it was busy".to_owned());
    let verdicts = |of: [Option<String>; 2]| {
        let mut verdicts = Verdicts::default();
        for verdict in of {
            verdicts.push(verdict);
        }
        verdicts
    };
    let judged = |by| {
        let benchmark = Benchmark::against("rate", "a second", Better::More, "", pairs(&[1.0], &[1.0]));
        benchmark
            .with("8 streams")
            .judged(verdicts([None, None]))
            .judged(verdicts(by))
    };
    let shown = |early, late| {
        let mut benchmarks = vec![judged(early)];
        add(&mut benchmarks, vec![judged(late)]);
        benchmarks[0].json()["limited_by_generator"].clone()
    };
    assert_eq!(shown([None, None], [None, None]), json!(null));
    assert_eq!(shown([None, busy()], [None, None]), json!(null), "a round of four");
    assert_eq!(
        shown([None, busy()], [busy(), None]),
        "in 2 of 4 rounds; in one it was busy"
    );
    assert_eq!(
        shown([None, None], [busy(), busy()]),
        "in 2 of 4 rounds; in one it was busy"
    );
    assert_eq!(judged([None, None]).json()["detail"], "8 streams");
}

#[test]
fn what_has_no_baseline_says_so_in_json() {
    let json = Benchmark::alone("cost", "bytes", Better::Less, vec![3.0, 1.0, 2.0]).json();
    assert_eq!(
        (&json["value"], &json["min"], &json["max"]),
        (&json!(2.0), &json!(1.0), &json!(3.0))
    );
    assert!(json["baseline"].is_null() && json["ratio"].is_null(), "{json}");
}

const LOG: &str = "11|LOG:  execute s0: START TRANSACTION\n\
    12|LOG:  statement: START TRANSACTION\n\
    11|LOG:  execute s1: insert into orders\n\tvalues ($1, $2, $3)\n\
    11|DETAIL:  parameters: $1 = 'it''s', $2 = NULL, $3 = 'order-1'\n\
    12|LOG:  execute s2: select 1\n\
    11|LOG:  statement: COMMIT\n\
    12|LOG:  statement: COMMIT\n\
    13|LOG:  execute s3: update orders where id = $1\n\
    13|DETAIL:  parameters: $1 = 'order-1'\n";

#[test]
fn statements_have_their_parameters_and_lines_that_go_on_are_put_together() {
    let log = parse(LOG);
    let (session, insert) = &log[2];
    assert_eq!(
        (session.as_str(), insert.sql.as_str()),
        ("11", "insert into orders\n values ($1, $2, $3)")
    );
    let expected = [Some("it's"), None, Some("order-1")];
    assert_eq!(insert.parameters, expected.map(|value| value.map(str::to_owned)));
}

#[test]
fn an_order_is_whole_transactions_and_single_statements_that_name_it() {
    let found = of_order(&parse(LOG), "order-1");
    let shown: Vec<&str> = found.iter().map(|one| one.sql.split(' ').next().unwrap()).collect();
    assert_eq!(
        shown,
        ["START", "insert", "COMMIT", "update"],
        "the other session's transaction is not of the order"
    );
}

#[test]
fn the_rate_is_found_and_its_absence_too() {
    let said = "number of failed transactions: 0 (0.000%)\nlatency average = 4.081 ms\n\
                tps = 3920.614025 (without initial connection time)\n";
    assert_eq!(transactions_per_second(said), Some(3_920.614_025));
    assert_eq!(transactions_per_second("pgbench: error: connection refused"), None);
}

#[test]
fn a_command_is_read_back_and_those_of_others_are_not() {
    let line = r#"1339518083.107412 [3 127.0.0.1:60866] "HGETALL" "driver:a \"b\" [c] d""#;
    let expected = ["HGETALL", r#"driver:a "b" [c] d"#].map(str::to_owned).to_vec();
    assert_eq!(command(line, 3), Some(expected));
    assert_eq!(command(line, 4), None, "another database");
    assert_eq!(command(r#"1.2 [3 lua] "XADD" "s""#, 3), None, "a script's own");
    assert_eq!(command("OK", 3), None);
}

#[test]
fn the_nearest_mount_counts_and_of_two_on_one_place_the_later() {
    let mounts =
        "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/x xfs rw 0 0\n/dev/c /tmp/x btrfs rw 0 0\n";
    let of = |folder: &str| file_system(mounts, Path::new(folder));
    assert_eq!(of("/home/me").as_deref(), Some("ext4 on /dev/a"));
    assert_eq!(of("/tmp/world").as_deref(), Some("tmpfs on tmpfs"));
    assert_eq!(of("/tmp/x/world").as_deref(), Some("btrfs on /dev/c"));
    assert_eq!(of("/tmpfile").as_deref(), Some("ext4 on /dev/a"));
}

#[test]
fn memory_is_what_is_resident() {
    let status = "Name:\twaybill\nVmPeak:\t  99999 kB\nVmRSS:\t   2048 kB\nRssAnon:\t 10 kB\n";
    assert_eq!(resident_bytes(status), Some(2_048 * 1_024));
    assert_eq!(resident_bytes("VmPeak: 1 kB"), None);
}

#[test]
fn our_own_cost_can_be_read() {
    let own = i32::try_from(std::process::id()).unwrap();
    let before = ProcessCost::of(own);
    assert!(before.memory_bytes > 100_000);
    // Finer than the hundredths of a second that /proc tells: some work is seen at once.
    let sum: u64 = (0..100_000_u64).map(std::hint::black_box).sum();
    assert!(sum > 0 && ProcessCost::of(own).processor > before.processor);
}

#[tokio::test]
async fn neither_side_is_always_the_first() {
    let order = std::cell::RefCell::new(String::new());
    let took = |who| {
        order.borrow_mut().push(who);
        let turn = Turn {
            count: 10,
            elapsed: Duration::from_secs(2),
            all: 12,
        };
        // A rate is that of the time: what came after it is in the cost alone.
        assert!(turn.all > turn.count);
        turn.per_second()
    };
    let pairs = take_turns(3, async || took('w'), async || took('f')).await;
    assert_eq!(*order.borrow(), "wffwwf");
    assert_eq!((pairs.ours, pairs.baseline), (vec![5.0; 3], vec![5.0; 3]));
}
