//! The end-to-end tests: one binary, so that they share one Postgres and one Redis.
