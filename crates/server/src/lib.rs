//! Waybill's service. Modules in the order in which a call meets them:
//!
//! ```text
//! app -> { grpc, admin } -> { orders, locations } -> { storage, egress } -> resilience -> domain
//! ```
//!
//! [`app`] puts a process together from a [`config`]. [`grpc`] and [`admin`] are its two faces. [`orders`] and
//! [`locations`] do the work; they decide with the rules of `waybill-domain` and act through [`storage`] (Postgres and
//! Redis) and [`egress`] (the payment provider), each call behind the guards of [`resilience`]. [`metrics`] counts.
//! [`crash_points`] is for tests, and absent from what is released.

pub mod app;
pub mod config;
pub mod crash_points;

pub mod admin;
pub mod grpc;

pub mod locations;
pub mod orders;

pub mod egress;
pub mod storage;

pub mod metrics;
pub mod resilience;
