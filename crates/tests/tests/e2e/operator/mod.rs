//! What an operator sees and does: stuck orders, what became of their money, and the provider's list against the
//! ledger.

mod cli;
mod health;
pub mod in_doubt;
mod large_account;
mod past_provider;
mod reconcile;
mod reconcile_windows;
mod resolve;
mod stuck;
