//! `waybill demo`: a private world, a city in it, and the audit of what came of it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use waybill_domain::access::Role;
use waybill_sandbox::payments::MovementKind;
use waybill_server::app::{Report, Sources, run_audit};
use waybill_simulator::Target;
use waybill_simulator::city::CityOptions;
use waybill_simulator::customers::CustomersOptions;
use waybill_simulator::run::{RunReport, run_city, run_trace};
use waybill_simulator::stats::Stats;

use crate::cli::{DemoArgs, Flags, RecordedCityFlags, load};
use crate::dev::{Private, Remains, TOKEN_LIVES};
use crate::replay::{self, refused, warn_of};
use crate::screen::Screen;
use crate::{Failure, audit, logging, print, signals};

/// A folder that the demo made, and so may empty.
const MARKER: &str = ".waybill-demo";

pub async fn run(file: Option<&Path>, args: DemoArgs) -> Result<(), Failure> {
    let stop = signals::stop_token()?;
    let config = load(file, &Flags::new())?;
    empty(&args.data_dir)?;
    let log = args.data_dir.join("server.log");
    logging::to_file(&config.log, &log)?;

    let private = Private::start(file, &args.data_dir, flags()).await?;
    print::notes(&format!("look at it:{}\n", private.console()?));
    let played = play(&args, &private, &stop).await;
    if args.web && played.is_ok() && !stop.is_cancelled() {
        print::notes("\nthe city is over, and the server stays: Ctrl-C ends it, and audits what is left");
        stop.cancelled().await;
    }
    // The server ends before the audit: it writes the history of all that it acknowledged.
    let remains = Box::pin(private.end_server()).await?;
    let audited = match played {
        Ok(report) => judge(&remains, &report).await.map(|audit| (report, audit)),
        Err(failure) => Err(failure),
    };
    let movements = remains.world.payments.ledger();
    remains.stop().await?;
    let (report, found) = audited?;

    warn_of(&report);
    if args.json {
        let count = |kind| movements.iter().filter(|movement| movement.kind == kind).count();
        let payments = json!({ "charged": count(MovementKind::Charge), "refunded": count(MovementKind::Refund) });
        print::json(&summary(&report, &found, &payments));
    } else {
        print::lines(format!("\n{}", audit::table(&found)));
        print::line(&audit::verdict(&found));
        print::note(&format!("the server's log is in {}", log.display()));
    }
    let settled = report.counts.orders.gave_up == 0 && report.unsettled_fixes == 0;
    if found.violations() == 0 && settled {
        Ok(())
    } else {
        Err(Failure::Found)
    }
}

/// What differs from production: ports of its own, and limits that a city at many times its speed keeps.
fn flags() -> Flags {
    Flags::from([
        ("grpc.addr", "127.0.0.1:0".to_owned()),
        ("http.addr", "127.0.0.1:0".to_owned()),
        ("webhooks.addr", "127.0.0.1:0".to_owned()),
        ("web.addr", "127.0.0.1:0".to_owned()),
        ("limits.fixes_per_driver.per_second", "1000".to_owned()),
        ("limits.fixes_per_driver.burst", "5000".to_owned()),
    ])
}

async fn play(args: &DemoArgs, private: &Private, stop: &CancellationToken) -> Result<RunReport, Failure> {
    let token = private.token(Role::Service, "city", TOKEN_LIVES)?;
    let target = Target::new(&private.grpc_addr(), Some(&token)).map_err(|error| Failure::Usage(error.to_string()))?;
    let stats = Arc::new(Stats::default());
    let title = match &args.locations {
        None => "waybill demo: an invented city".to_owned(),
        Some(_) => format!("waybill demo: a recorded city, {} times faster", args.speed),
    };
    let expected = args.locations.is_none().then_some(args.duration);
    let screen = (!args.json).then(|| Screen::of_city(title, expected, &stats));
    let report = match &args.locations {
        None => {
            let options = CityOptions {
                duration: args.duration,
                seed: args.seed,
                drivers: args.drivers,
                orders_per_second: args.orders_per_second,
                ..CityOptions::default()
            };
            run_city(options, &target, stats, stop).await
        }
        Some(locations) => {
            let city = RecordedCityFlags {
                locations: locations.clone(),
                rides: args.rides.clone(),
                speed: args.speed,
            };
            run_trace(replay::options(city, patient()), &target, stats, stop).await
        }
    };
    if let Some(screen) = screen {
        screen.end().await;
    }
    report.map_err(refused)
}

/// Customers of a city at many times its speed: what it asks of one machine in a rush hour may take that machine
/// minutes, and every order is to have its answer.
fn patient() -> CustomersOptions {
    let mut options = CustomersOptions::default();
    options.retry.give_up_after = Duration::from_mins(10);
    options
}

/// Compares what the clients were answered with the ledger, the provider's list and the history.
async fn judge(remains: &Remains, report: &RunReport) -> Result<Report, Failure> {
    let answered = report
        .answers
        .iter()
        .map(|answer| Ok((answer.order_id.parse::<Uuid>()?, answer.status.to_owned())))
        .collect::<Result<_, uuid::Error>>()
        .map_err(Failure::unavailable)?;
    let acknowledged = report
        .acknowledged
        .iter()
        .map(|(driver, micros)| Ok((driver.to_owned(), Timestamp::from_microsecond(micros)?)))
        .collect::<Result<_, jiff::Error>>()
        .map_err(Failure::unavailable)?;
    let sources = Sources {
        provider: true,
        stream: true,
        answered_orders: Some(answered),
        acknowledged_fixes: Some(acknowledged),
    };
    run_audit(&remains.config, sources).await.map_err(Failure::unavailable)
}

/// What the clients counted, and what was found beside it.
fn summary(report: &RunReport, found: &Report, payments: &Value) -> Value {
    let mut locations = replay::locations(&report.counts);
    locations.insert("stored".to_owned(), json!(found.stored_fixes));
    json!({
        "seconds": report.elapsed.as_secs_f64(),
        "orders": replay::orders(&report.counts),
        "payments": payments,
        "locations": locations,
        "audit": { "checks": found.checks(), "violations": found.violations() },
    })
}

/// Makes the folder new. One that the demo did not make is left alone.
fn empty(folder: &Path) -> Result<(), Failure> {
    let unusable = |error| Failure::Unavailable(format!("cannot use the folder {}: {error}", folder.display()));
    if folder.exists() {
        let is_ours = folder.join(MARKER).exists();
        let is_empty = std::fs::read_dir(folder).map_err(unusable)?.next().is_none();
        if !is_ours && !is_empty {
            return Err(Failure::Usage(format!(
                "the demo empties its folder, and {} is not one that it made: choose another with --data-dir",
                folder.display()
            )));
        }
        std::fs::remove_dir_all(folder).map_err(unusable)?;
    }
    std::fs::create_dir_all(folder).map_err(unusable)?;
    std::fs::write(folder.join(MARKER), "").map_err(unusable)
}
