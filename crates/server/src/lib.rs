//! Waybill's service. Modules in the order in which a call meets them:
//!
//! ```text
//! app -> { grpc, http, web } -> { orders, drivers, tracking, live_feed, locations, trails, operator, erasure, payment_webhooks } -> { storage, egress } -> resilience -> domain
//! ```
//!
//! [`app`] puts a process together from a [`config`]. [`grpc`], [`http`] and [`web`] are what it listens with, within [`tls`]. [`orders`],
//! [`drivers`], [`tracking`], [`live_feed`], [`locations`], [`trails`], [`operator`],
//! [`erasure`] and [`payment_webhooks`] do the work; they decide with the rules of `waybill-domain` and act
//! through [`storage`] (Postgres and Redis) and [`egress`] (the payment provider), each call behind the guards of
//! [`resilience`]. [`metrics`] counts, [`telemetry`]
//! traces. [`crash_points`] is for tests, and absent from what is released.

pub mod app;
pub mod config;
pub mod crash_points;

pub mod grpc;
pub mod http;
pub mod web;

pub mod drivers;
pub mod erasure;
pub mod live_feed;
pub mod locations;
pub mod operator;
pub mod orders;
pub mod payment_webhooks;
pub mod tracking;
pub mod trails;

pub mod identity;

pub mod egress;
pub mod storage;

mod json;
pub mod metrics;
pub mod readiness;
pub mod reload;
pub mod resilience;
pub mod telemetry;
pub mod tls;

#[cfg(test)]
mod fuzz;
