//! The saga of one order, from acceptance to a terminal state.
//!
//! [`drive`] asks the rulebook which step is pending, has [`step`] run it with no transaction open, and commits what it
//! returns: the one place that does. [`charge`], [`capture`], [`refund`], [`reconcile`] and [`assign`] are the steps;
//! [`progress`] is what a step returns, and [`recovery`] what those share that ask the provider: the recovery of a request
//! whose outcome is not known. In [`line`] a charge waits for its place at the payment provider.

mod assign;
mod capture;
mod charge;
mod drive;
mod line;
mod progress;
mod reconcile;
mod recovery;
mod refund;
mod step;

pub(super) use self::drive::drive;

#[cfg(test)]
pub(super) use recovery::tests::charging;
