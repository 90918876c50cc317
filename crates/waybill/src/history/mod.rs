//! `waybill history`: where a driver was, for other programs.

mod format;

use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use waybill_server::app::HistoryReader;

use self::format::Export;
use crate::Failure;
use crate::cli::history::{ExportArgs, HistoryArgs, HistoryCommand};
use crate::cli::load;

pub async fn run(file: Option<&Path>, args: HistoryArgs) -> Result<(), Failure> {
    match args.command {
        HistoryCommand::Export(args) => export(file, args).await,
    }
}

async fn export(file: Option<&Path>, args: ExportArgs) -> Result<(), Failure> {
    if let (Some(from), Some(until)) = (args.from, args.until)
        && until <= from
    {
        return Err(Failure::Usage(format!("--to {until} is not after --from {from}")));
    }
    let config = load(file, &args.stores.flags())?;
    let tenant = args.tenant.unwrap_or_default();
    if !tenant.is_default() && !config.tenants.names.contains(&tenant) {
        return Err(Failure::Usage(format!("--tenant {tenant} is not one of tenants.names")));
    }
    let driver = args.driver.of(&tenant);
    let name = driver.name().to_owned();
    let mut reader = HistoryReader::open(&config, driver, args.from, args.until).map_err(Failure::unavailable)?;
    let mut export = Export::new(args.format, BufWriter::new(io::stdout().lock()));
    // Before a word is written: what cannot be read leaves no beginning of a file.
    let mut next = Some(reader.read_next().await.map_err(Failure::unavailable)?);
    let mut count = 0_u64;
    let mut written = export.begin(&name);
    while written.is_ok() {
        let fixes = match next.take() {
            Some(first) => first,
            None => reader.read_next().await.map_err(Failure::unavailable)?,
        };
        if fixes.is_empty() {
            written = export.end();
            break;
        }
        count += fixes.len() as u64;
        written = fixes.iter().try_for_each(|fix| export.fix(&name, fix));
    }
    match written {
        Ok(()) => {
            say(&name, count);
            Ok(())
        }
        // Who reads it has enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Unavailable(format!("the export cannot be written: {error}"))),
    }
}

/// Beside the export, so that an empty one is not taken for a failure.
fn say(driver: &str, count: u64) {
    let text = match count {
        0 => format!("no fixes of {driver} are kept of this time"),
        1 => format!("1 fix of {driver}"),
        count => format!("{count} fixes of {driver}"),
    };
    let _ = writeln!(io::stderr(), "{text}");
}
