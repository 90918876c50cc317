//! A load that keeps account: customers and cabs who come at their own times, what they were answered, what the database says of it, and
//! what must never be. For tests in which something goes wrong while all of it goes on.

pub mod balancer;
pub mod calls;
pub mod customers;
pub mod findings;
pub mod history;
pub mod ledger_view;
pub mod promises;
pub mod rides;
pub mod server_slot;
pub mod tokens;
