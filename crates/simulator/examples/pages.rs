//! Writes pages with invented numbers, to look at: `cargo run -p waybill-simulator --example pages -- DIRECTORY`.

use std::fs;
use std::path::PathBuf;

use waybill_simulator::report::{Axis, Chart, Page, Section, Span, Unit, page};

#[path = "../tests/page/invented.rs"]
mod invented;

fn main() -> std::io::Result<()> {
    let directory: PathBuf = std::env::args_os()
        .nth(1)
        .unwrap_or_else(|| "target/pages".into())
        .into();
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("load.html"), page(&invented::staircase()))?;
    let mut limited = invented::nothing();
    limited.cut_short = true;
    limited.generator.limited_by_generator = Some("it used 7.9 of 8 cores in the busiest second".to_owned());
    fs::write(directory.join("nothing.html"), page(&limited))?;
    fs::write(directory.join("ranges.html"), ranges().html())
}

fn ranges() -> Page {
    let span = |label: &str, value: f64, floor| Span {
        label: label.to_owned(),
        value,
        min: value * 0.93,
        max: value * 1.11,
        floor,
    };
    let rows = [
        span("CreateOrder, until it is settled", 4.31, Some(3.2)),
        span("GetOrder", 0.41, Some(0.22)),
        span("StreamLocations, a batch of 64 fixes until acknowledged", 1.9, None),
    ];
    let axis = Axis::log("median of 5 rounds", Unit::Milliseconds);
    let logarithmic = Chart::ranges("Against the floor", axis, rows.clone());
    let axis = Axis::linear("median of 5 rounds", Unit::Milliseconds);
    let linear = Chart::ranges("The same, from zero", axis, rows);
    let section = Section::new("Latencies").chart(logarithmic).chart(linear);
    Page::new("Bench")
        .subtitle("rows with what they are compared with")
        .section(section)
}
