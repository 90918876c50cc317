//! The operator's desk without a server: for `waybill orders`.

use std::sync::Arc;

use super::{Stores, settings};
use crate::config::Config;
use crate::egress::payments::{PaymentClient, SettingsError};
use crate::grpc;
use crate::orders::desk::Desk;
use crate::storage::StoreError;
use crate::storage::orders::OrderStore;

/// Why there is no desk.
#[derive(Debug, thiserror::Error)]
pub enum DeskUnusable {
    /// A URL of a store is malformed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider's settings cannot be used.
    #[error("[payments] {0}")]
    Payments(#[from] SettingsError),
}

/// A desk on the stores and the provider of the configuration; nothing is connected yet.
pub fn open_desk(config: &Config) -> Result<Desk, DeskUnusable> {
    let stores = Stores::new(config)?;
    let payments = Arc::new(PaymentClient::new(&settings::payments(config))?);
    let orders = OrderStore::new(
        stores.postgres,
        // A resolved order may come to rest, and then has its answer like any other.
        Arc::new(grpc::answer),
        settings::order_store(config, settings::instance_name()),
    );
    Ok(Desk::new(orders, payments))
}
