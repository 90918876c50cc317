//! The payment provider's webhooks: what is accepted, and what is refused.

mod accepted;
pub mod events;
mod refused;
