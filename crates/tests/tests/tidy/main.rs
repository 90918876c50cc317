//! The rules of this repository that its text can show. Each message says what to do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the exception for tests in clippy.toml covers the test functions, not the functions that they share"
)]

mod files;
mod guarantees;
mod imports;
mod layers;
mod make_targets;
mod pauses;
mod source;
mod text;
mod vocabulary;
