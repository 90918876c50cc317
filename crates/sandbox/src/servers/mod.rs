//! Postgres and Redis as child processes: started on a free port, watched until they are ready, stopped by a signal,
//! and restarted at the same address.

mod log;
mod postgres;
mod redis;
mod server;

pub use postgres::Postgres;
pub use redis::Redis;
pub use server::ServerSettings;
