//! TLS towards Postgres and Redis: a store that is not whom the CA says is never spoken to. The stores of the tests may have no
//! TLS, so a line before them ends it.

pub mod certificates;
mod command;
mod line;
mod postgres;
mod redis;
