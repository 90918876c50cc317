//! What each benchmark would be if nothing but its stores, its disk or its transport were in its way. A baseline does
//! the same work with the same statements or commands, and nothing else.

pub mod disk;
pub mod fix_batches;
pub mod least_fixes;
pub mod recording;
pub mod redis_fixes;
pub mod redis_searches;
pub mod round_trip;
pub mod script;
