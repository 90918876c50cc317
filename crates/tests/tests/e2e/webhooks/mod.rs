//! The payment provider's webhooks: what is accepted, and what is refused.

mod accepted;
mod afterwards;
mod disputes;
pub mod events;
mod failed_refunds;
mod refused;
