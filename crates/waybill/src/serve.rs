//! `waybill serve`: production.

use std::path::Path;

use waybill_server::app::{App, Drained, StartError};

use crate::cli::{ServeArgs, load};
use crate::{Failure, logging, signals, telemetry};

pub async fn run(file: Option<&Path>, args: ServeArgs) -> Result<(), Failure> {
    let mut flags = args.stores.flags();
    flags.extend(args.listen.flags());
    if !args.services.is_empty() {
        flags.insert("grpc.services", args.services.join(","));
    }
    let config = load(file, &flags)?;
    let traces = telemetry::start(&config.telemetry)?;
    logging::to_stderr(&config.log, traces.as_ref())?;
    let stop = signals::stop_token()?;

    let app = App::start(config).await.map_err(|error| match error {
        StartError::Config(_) | StartError::Keys(_) | StartError::Tls(_) | StartError::Payments(_) => {
            Failure::Usage(error.to_string())
        }
        error => Failure::unavailable(error),
    })?;
    stop.cancelled().await;
    let drained = app.shut_down().await;
    if let Some(traces) = traces {
        traces.finish().await;
    }
    match drained {
        Drained::Clean => Ok(()),
        Drained::Cut => Err(Failure::Unavailable(
            "the drain was cut short by drain.hard_stop".to_owned(),
        )),
    }
}
