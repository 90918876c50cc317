//! Which drivers could serve an order. [`candidates`] searches the index of fresh drivers; [`busy`] leaves out those who
//! serve an order already. A proposal: the assignment in `storage` decides.

mod busy;
mod candidates;

pub use self::candidates::Dispatch;
