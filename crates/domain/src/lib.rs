//! Waybill's rules: what an order is, what may happen to it next, what a fix is, when to try again.
//!
//! Nothing here reads a clock, draws a random number, or does IO: times, randomness and ids are arguments. That is what
//! lets one rulebook serve the service, its tests and its model checker alike. Each type is parsed once, at the border,
//! by its one fallible constructor; what holds a value need not check it again.

pub mod access;
pub mod admission;
pub mod api_key;
pub mod breaker;
pub mod charge_wait;
pub mod duty;
pub mod erasure;
pub mod fix;
pub mod id;
pub mod live;
pub mod money;
pub mod operator;
pub mod order;
pub mod payment;
pub mod payment_account;
pub mod position;
pub mod retry;
pub mod search_weight;
pub mod search_window;
pub mod tenant;
pub mod text;
pub mod tracking;
pub mod trails;
