//! The places in an order's saga at which a process can be made to die, for tests that kill it there.
//!
//! A kill from outside comes at a random moment, and the moments that matter are short: between the provider's answer
//! and the commit of it lie microseconds. So the saga names these moments, and `WAYBILL_CRASH_AT=name:n` in the
//! environment makes a process kill itself with SIGKILL when it comes to one for the n-th time: nothing is unwound,
//! nothing is flushed, as if the machine's owner had done it.
//!
//! This exists only with the feature `crash-points` *and* in builds with debug assertions. In every other build
//! [`crash_point!`] expands to nothing, and the variable is refused as an unknown setting (docs/adr/0011).

/// Every crash point, in the order of the saga.
pub const NAMES: [&str; 16] = [
    // The order and the intent to charge are one statement.
    "accept_committed",
    "charge_unsent",
    // The request is on its way and there is no answer yet.
    "charge_written",
    "charge_answered",
    "charge_committed",
    "candidates_read",
    "assign_committed",
    // What becomes of a hold is decided with the assignment, the completion or the cancellation.
    "capture_intended",
    "capture_answered",
    "capture_committed",
    "refund_intended",
    "refund_written",
    "refund_answered",
    "refund_committed",
    "order_claimed",
    // The provider's event is stored, and the provider does not know that yet.
    "webhook_stored",
];

/// The environment variable that names a point and a count: `charge_answered:2`.
pub const VARIABLE: &str = "WAYBILL_CRASH_AT";

/// Dies here if the environment says so.
///
/// * `crash_point!("name")`
/// * `crash_point!("name", if condition)`: a place that several steps pass
/// * `crash_point!("name", if condition, while future)`: the future; dies while that waits
#[cfg(all(feature = "crash-points", debug_assertions))]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::crash_points::armed::hit($name)
    };
    ($name:literal, if $condition:expr) => {
        if $condition {
            $crate::crash_points::armed::hit($name);
        }
    };
    ($name:literal, if $condition:expr, while $future:expr) => {
        $crate::crash_points::armed::hit_while($condition.then_some($name), $future)
    };
}

#[cfg(not(all(feature = "crash-points", debug_assertions)))]
macro_rules! crash_point {
    ($name:literal) => {};
    ($name:literal, if $condition:expr) => {};
    ($name:literal, if $condition:expr, while $future:expr) => {
        $future
    };
}

pub(crate) use crash_point;

#[cfg(all(feature = "crash-points", debug_assertions))]
pub(crate) mod armed {
    //! What the macro calls.

    use std::io::Write as _;
    use std::pin::pin;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::getpid;

    /// After so long a request to a provider on the same machine was written, if it can be, and waits for its answer.
    const UNDER_WAY: Duration = Duration::from_millis(5);

    /// Where to die, and at which hit, counted from 1.
    struct Order {
        name: String,
        hit: u64,
    }

    /// The environment's order; `None` if there is none, or none that can be read.
    fn order() -> Option<&'static Order> {
        static ORDER: OnceLock<Option<Order>> = OnceLock::new();
        let read = || {
            let text = std::env::var(super::VARIABLE).ok()?;
            let (name, hit) = text.split_once(':')?;
            Some(Order {
                name: name.to_owned(),
                hit: hit.parse().ok()?,
            })
        };
        ORDER.get_or_init(read).as_ref()
    }

    /// Dies if this is the place, and it was come to often enough.
    pub(crate) fn hit(name: &'static str) {
        static HITS: AtomicU64 = AtomicU64::new(0);
        if let Some(order) = order()
            && order.name == name
            && HITS.fetch_add(1, Ordering::Relaxed) + 1 == order.hit
        {
            // For whoever counts the deaths. It needs no flush: standard error has no buffer.
            let _ = writeln!(std::io::stderr(), "crash point {name}");
            let _ = kill(getpid(), Signal::SIGKILL);
        }
    }

    /// Dies while the future waits for something.
    pub(crate) async fn hit_while<F: Future>(name: Option<&'static str>, future: F) -> F::Output {
        let Some(name) = name else {
            return future.await;
        };
        let mut future = pin!(future);
        if let Ok(output) = tokio::time::timeout(UNDER_WAY, &mut future).await {
            return output;
        }
        hit(name);
        future.await
    }
}
