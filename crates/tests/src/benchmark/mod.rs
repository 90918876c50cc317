//! What the benchmarks reckon with and read, apart from what they measure: this has tests, a benchmark has none.

pub mod arithmetic;
pub mod least_sql;
pub mod monitored;
pub mod mounts;
pub mod pgbench;
pub mod pgbench_output;
pub mod process_cost;
mod result;
pub mod rounds;
pub mod settings;
pub mod statements;
mod verdicts;

pub use self::result::{Benchmark, Better, add};
pub use self::verdicts::Verdicts;
