//! The operator service without a server: for `waybill orders`.

use std::sync::Arc;

use super::payment_accounts::PaymentSettingsError;
use super::{Stores, payment_accounts, settings};
use crate::config::Config;
use crate::grpc;
use crate::operator::OperatorService;
use crate::storage::StoreError;
use crate::storage::orders::OrderStore;

/// Why there is no operator service.
#[derive(Debug, thiserror::Error)]
pub enum OperatorUnavailable {
    /// A URL of a store is malformed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider's settings cannot be used.
    #[error(transparent)]
    Payments(#[from] PaymentSettingsError),
}

/// The operator service on the stores and the provider of the configuration; nothing is connected yet.
pub fn open_operator_service(config: &Config) -> Result<OperatorService, OperatorUnavailable> {
    let stores = Stores::new(config)?;
    let payments = payment_accounts::open(config)?;
    let orders = OrderStore::new(
        stores.postgres,
        // A resolved order may be settled by that, and then has its answer like any other.
        Arc::new(grpc::answer),
        settings::order_store(config, settings::instance_name()),
    );
    Ok(OperatorService::new(orders, payments))
}
