//! What each figure would be if nothing but its stores, its disk or its transport were in its way. A floor does the same
//! work with the same statements or commands, and nothing else.

pub mod disk;
pub mod monitored;
pub mod pgbench;
pub mod pgbench_output;
pub mod recording;
pub mod redis_fixes;
pub mod redis_searches;
pub mod round_trip;
pub mod script;
pub mod statements;
