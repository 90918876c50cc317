//! Why a call on orders was refused. The texts are for callers; `grpc/status.rs` gives each its status code.

use std::time::Duration;

use thiserror::Error;
use waybill_domain::id::OrderId;
use waybill_domain::money::{Currency, MoneyError};
use waybill_domain::order::State;

use crate::storage::StoreError;

/// The least time in which an order can be accepted and answered. With less left, nothing is begun.
pub(super) const ACCEPT_TIME_MIN: Duration = Duration::from_millis(500);

/// Why an order was not placed, or not answered.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// The key made another order before.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// It runs on; the time to wait for it is up.
    #[error("order {0} is still in progress")]
    InProgress(OrderId),
    /// So little time was left that nothing was begun.
    #[error("less than {} ms are left, which is too little to begin an order", ACCEPT_TIME_MIN.as_millis())]
    TooLate,
    /// This process runs as many sagas as it may.
    #[error("too many orders are in progress")]
    Overloaded,
    /// As many charges wait for the payment provider as can be made soon.
    #[error("too many charges wait for the payment provider")]
    ChargesWait {
        /// When there are fewer of them.
        retry_after: Duration,
    },
    /// Nothing was begun: something that an order needs is not available.
    #[error("{0}")]
    NotReady(&'static str),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a call on an order was refused.
#[derive(Debug, Error)]
pub enum OrderError {
    /// There is no such order.
    #[error("there is no such order")]
    NotFound,
    /// It has no driver to release.
    #[error("the order has no driver to release")]
    NotCompletable,
    /// It was not served, or its refund as a whole is decided; its state.
    #[error("the order is {0}: only a served order is refunded in part")]
    NotRefundable(State),
    /// The amount.
    #[error("amount must be at most {left_minor}, in minor units: no more is left of the payment")]
    RefundTooLarge {
        /// What is left, in minor units.
        left_minor: i64,
    },
    /// A final amount, or a fee.
    #[error("{field} must be at most {left_minor}, in minor units: the payment covers no more")]
    AmountTooLarge {
        /// The field of the request.
        field: &'static str,
        /// What was paid or is held; of a fee what is left of that, in minor units.
        left_minor: i64,
    },
    /// An amount in another currency than the order's.
    #[error("{field} must be {}, as of the order", expected.code())]
    WrongCurrency {
        /// The field of the request.
        field: &'static str,
        /// The order's currency.
        expected: Currency,
    },
    /// An amount that is to be captured, and that the provider does not charge.
    #[error("{field} {error}")]
    NotPayable {
        /// The field of the request.
        field: &'static str,
        /// Why not.
        error: MoneyError,
    },
    /// A dispute of the payment is open.
    #[error("the customer's bank disputes the payment: it cannot be refunded before that is decided")]
    Disputed,
    /// A customer cancels, and a driver is assigned.
    #[error("a driver is assigned: the business cancels the order, and decides on a fee")]
    DriverAssigned,
    /// A fee, and no driver is assigned.
    #[error("a cancellation costs nothing before a driver is assigned")]
    NoFee,
    /// A final amount, and the capture of the hold is not confirmed yet.
    #[error("the payment is being captured: try again in a moment")]
    Capturing,
    /// The key requested another refund of this order before.
    #[error("the idempotency key was used for another refund of this order")]
    KeyReused,
    /// It is completed or failed.
    #[error("the order can no longer be cancelled")]
    NotCancellable,
    /// The driver does not serve it.
    #[error("the driver does not serve this order now")]
    DriverNotAssigned,
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
