//! What someone who waits for an order sees of it.

use crate::order::{Order, ReleaseReason, State};

/// Where an order stands, for whoever waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There is no driver yet, or not any more.
    Searching,
    /// A driver serves it.
    DriverAssigned,
    /// The service was rendered.
    Completed,
    /// It was cancelled, or could not be served.
    Ended,
}

impl Stage {
    /// The stage of this order.
    pub fn of(order: &Order) -> Stage {
        let release = order.assignment.as_ref().map(|assignment| assignment.release.as_ref());
        match (order.state, release) {
            (State::Started | State::Charging | State::Charged, _) => Stage::Searching,
            (State::Succeeded, Some(None)) => Stage::DriverAssigned,
            (State::Succeeded, Some(Some(release))) if release.reason == ReleaseReason::Completed => Stage::Completed,
            (State::Succeeded | State::Refunding | State::Failed | State::Refunded, _) => Stage::Ended,
        }
    }

    /// Whether there is nothing to follow any more.
    pub fn is_final(self) -> bool {
        matches!(self, Stage::Completed | Stage::Ended)
    }
}
