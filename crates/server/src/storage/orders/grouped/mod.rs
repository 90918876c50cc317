//! The transitions of an order that is served, made for many orders at once: [`accept`] with the intent to charge, [`charge`] that was
//! confirmed, [`assign`], [`complete`], and the provider's [`event`] about it. Each is one transaction for all orders that are ready at the same time, and waits for no more.
//!
//! Every order is fenced by itself. One that its transition does not fit, for whatever reason, is left out, and goes by itself
//! through the transaction of the file of the same name beside this folder, which knows all cases.

pub(in crate::storage) mod accept;
pub(in crate::storage) mod assign;
pub(in crate::storage) mod charge;
pub(in crate::storage) mod complete;
pub(in crate::storage) mod event;

use waybill_domain::order::Order;

use self::accept::NewOrder;
use self::assign::Proposal;
use self::charge::ConfirmedCharge;
use self::complete::Rendered;
use super::{Assigned, Confirmed, LeasedOrder, ProviderEvent, Recorded};
use crate::storage::group::Group;

/// Those who come at the same time, of each kind.
#[derive(Default)]
pub(super) struct Groups {
    accept: Group<NewOrder, Confirmed>,
    charge: Group<ConfirmedCharge, LeasedOrder>,
    assign: Group<Proposal, Assigned>,
    complete: Group<Rendered, Order>,
    event: Group<ProviderEvent, Recorded>,
}
