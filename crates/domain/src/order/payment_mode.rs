//! When the customer pays: before a driver is looked for, or later out of a hold.

/// When the customer pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PaymentMode {
    /// Charged before a driver is looked for.
    #[default]
    ChargeFirst,
    /// The amount is held before a driver is looked for, and captured when one is assigned.
    CaptureAtAssignment,
    /// The amount is held before a driver is looked for, and the final amount is captured when the service was rendered.
    CaptureAtCompletion,
}

impl PaymentMode {
    /// Every mode.
    pub const ALL: [PaymentMode; 3] = [
        PaymentMode::ChargeFirst,
        PaymentMode::CaptureAtAssignment,
        PaymentMode::CaptureAtCompletion,
    ];

    /// Its name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            PaymentMode::ChargeFirst => "charge_first",
            PaymentMode::CaptureAtAssignment => "capture_at_assignment",
            PaymentMode::CaptureAtCompletion => "capture_at_completion",
        }
    }

    /// Whether the amount is held before it is captured.
    pub fn holds(self) -> bool {
        self != PaymentMode::ChargeFirst
    }
}
