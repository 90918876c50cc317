//! Orders, from their placement to their settlement: what they come to, and what faults do to them.

mod answers;
mod cancelled;
mod charge_line;
mod commits;
mod crowded;
mod currencies;
mod failover;
pub mod grouped;
mod holds;
mod key_retention;
mod leases;
mod payment_methods;
mod placed;
mod provider_faults;
mod provider_rate;
mod queried;
mod read;
mod refunds_by_hand;
mod refunds_requested;
mod refused;
mod rejected;
mod released;
mod replayed;
mod settle_within;
mod survive;
mod watched;
