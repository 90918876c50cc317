//! Why an order ends without its service.

/// Why an order is compensated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureReason {
    /// The payment was declined.
    PaymentDeclined,
    /// No free driver was near enough in time.
    NoDriver,
    /// It was cancelled.
    Cancelled,
    /// The payment was not confirmed in time.
    PaymentTimedOut,
}

impl FailureReason {
    /// Every reason.
    pub const ALL: [FailureReason; 4] = [
        FailureReason::PaymentDeclined,
        FailureReason::NoDriver,
        FailureReason::Cancelled,
        FailureReason::PaymentTimedOut,
    ];

    /// Its name in the database, in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureReason::PaymentDeclined => "payment_declined",
            FailureReason::NoDriver => "no_driver",
            FailureReason::Cancelled => "cancelled",
            FailureReason::PaymentTimedOut => "payment_timed_out",
        }
    }
}
