//! The chance of a run, all of it from one seed; and the times that it draws. The one place of the rig with a pause in
//! it: these pauses wait for nothing, they are the lives and the faults themselves.

#[path = "../shared/chance.rs"]
mod shared;

use std::time::Duration;

pub use self::shared::Chance;

/// A time passes.
pub async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
