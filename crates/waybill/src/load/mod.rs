//! `waybill load`: load on any running server, and what it did with it.

mod plan;
mod screen;
mod table;

use std::fs::File;
use std::io::{IsTerminal, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use waybill_simulator::load::report::LoadReport;
use waybill_simulator::load::{Live, run as run_load};
use waybill_simulator::report::page;

use self::plan::plan;
use self::screen::view;
use self::table::{limited, table};
use crate::cli::load::LoadArgs;
use crate::screen::Screen;
use crate::{Failure, print, replay, signals};

/// Standard output, as a file's name.
const STANDARD_OUTPUT: &str = "-";

pub async fn run(args: LoadArgs) -> Result<(), Failure> {
    let stop = signals::stop_token()?;
    let (flags, plan) = plan(args.workload)?;
    let target = replay::target(&flags.server)?;
    // Before the run: a file that cannot be written should not cost its reader an hour.
    let to_standard_output = flags.json.as_deref() == Some(Path::new(STANDARD_OUTPUT));
    let json_file = open("--json", flags.json.filter(|_| !to_standard_output))?;
    let page_file = open("--report", flags.report)?;
    if let (Some(json), Some(page)) = (&json_file, &page_file)
        && json.is_of(page)
    {
        return Err(Failure::Usage("--json and --report name the same file".to_owned()));
    }

    let live = Arc::new(Live::default());
    let title = format!("waybill load {}", plan.workload.name());
    let looked_at = Arc::clone(&live);
    let screen = Screen::showing(title, move || view(&looked_at));
    let report = run_load(plan, &target, &live, &stop).await;
    screen.end().await;
    let mut report = report.map_err(replay::refused)?;
    report.settings.insert("grpc-addr".to_owned(), flags.server.grpc_addr);

    // What a full disk does not take is at least seen, and one of the two files may be on another disk.
    answer(&report, to_standard_output);
    if to_standard_output || !std::io::stdout().is_terminal() {
        // Else the lines below the table have just shown it.
        warn_of(&report);
    }
    let json = json_file.map(|file| file.write(&format!("{}\n", serde_json::json!(report))));
    let page = page_file.map(|file| file.write(&page(&report)));
    json.transpose()?;
    page.transpose()?;
    if report.operations.iter().all(|operation| operation.totals.answered == 0) {
        return Err(Failure::Refused("nothing was answered".to_owned()));
    }
    if report.broken_lines > 0 {
        // Named above, and the rest was played; but not all was that the caller asked for.
        let broken = report.broken_lines;
        return Err(Failure::Refused(format!(
            "lines of the trace that could not be used: {broken}"
        )));
    }
    Ok(())
}

/// The command's answer, which may have colours. Whoever reads it may have read enough, as `head` has.
fn answer(report: &LoadReport, as_json: bool) {
    let text = if as_json {
        print::json_text(&serde_json::json!(report))
    } else {
        table(report, is_coloured(&std::io::stdout()))
    };
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints what the numbers alone do not show.
fn warn_of(report: &LoadReport) {
    if report.cut_short {
        let measured = report.measured_seconds;
        print::note(&format!("ended before its time: measured were {measured:.1} s"));
    }
    replay::warn_of_broken_lines(report.broken_lines, &report.first_broken_lines);
    if let Some(why) = &report.generator.limited_by_generator {
        let text = limited(why, is_coloured(&std::io::stderr()));
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Whether this is a terminal whose user wants colours (<https://no-color.org>).
fn is_coloured(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

fn open(flag: &'static str, path: Option<PathBuf>) -> Result<Option<Output>, Failure> {
    path.map(|path| Output::open(flag, path)).transpose()
}

/// A file that is written at the end, found to be writable at the beginning.
struct Output {
    flag: &'static str,
    path: PathBuf,
    file: File,
}

impl Output {
    /// What stands in the file stays there until the run is over.
    fn open(flag: &'static str, path: PathBuf) -> Result<Output, Failure> {
        match File::options().write(true).create(true).truncate(false).open(&path) {
            Ok(file) => Ok(Output { flag, path, file }),
            Err(error) => Err(Failure::Usage(format!("{flag}: {}: {error}", path.display()))),
        }
    }

    /// Whether both would be written over each other. A device is not: it takes what comes.
    fn is_of(&self, other: &Output) -> bool {
        let (Ok(this), Ok(other)) = (self.file.metadata(), other.file.metadata()) else {
            return false;
        };
        this.is_file() && (this.dev(), this.ino()) == (other.dev(), other.ino())
    }

    fn write(mut self, text: &str) -> Result<(), Failure> {
        // A pipe or a device cannot be cut, and needs not be.
        let _ = self.file.set_len(0);
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|error| Failure::Refused(format!("{}: {}: {error}", self.flag, self.path.display())))
    }
}
