//! Writes pages with invented numbers, to look at: `cargo run -p waybill-simulator --example pages -- DIRECTORY`.

use std::fs;
use std::path::PathBuf;

use waybill_simulator::report::{bench_page, page};

#[path = "../tests/page/invented.rs"]
mod invented;
#[path = "../tests/page/invented_benchmarks.rs"]
mod invented_benchmarks;

fn main() -> std::io::Result<()> {
    let directory = std::env::args_os().nth(1).unwrap_or_else(|| "target/pages".into());
    let directory = PathBuf::from(directory);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("load.html"), page(&invented::staircase()))?;
    let mut limited = invented::nothing();
    limited.cut_short = true;
    limited.generator.limited_by_generator = Some("it used 7.9 of 8 cores in the busiest second".to_owned());
    fs::write(directory.join("nothing.html"), page(&limited))?;
    fs::write(
        directory.join("bench.html"),
        bench_page(&invented_benchmarks::benchmarks()),
    )
}
