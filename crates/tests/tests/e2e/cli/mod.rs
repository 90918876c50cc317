//! The program as a person at a terminal meets it.

mod commands;
mod doctor;
mod load;
mod load_fixes;
mod load_refused;
mod on_stores;
mod private;

pub use self::on_stores::{on_stores, on_stores_with};
