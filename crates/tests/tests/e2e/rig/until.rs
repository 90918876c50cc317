//! Waiting for a condition. The one place of the tests with a pause in it.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Far beyond what anything takes, so that a slow machine does not turn a test red.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(10);

/// What a look at a condition gives: the value, or what was seen instead.
pub trait Look {
    /// What there is once the condition holds.
    type Value;

    /// The value, or the state as text.
    fn seen(self) -> Result<Self::Value, String>;
}

impl Look for bool {
    type Value = ();

    fn seen(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "it is not so".to_owned())
    }
}

impl<T> Look for Option<T> {
    type Value = T;

    fn seen(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, S: Debug> Look for Result<T, S> {
    type Value = T;

    fn seen(self) -> Result<T, String> {
        self.map_err(|state| format!("{state:?}"))
    }
}

/// Asks until the answer is `true`, `Some` or `Ok`; at the deadline it fails with `what` and the last state, which is
/// the text of an `Err`.
pub async fn until<L: Look>(what: &str, mut look: impl AsyncFnMut() -> L) -> L::Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await.seen() {
            Ok(value) => return value,
            Err(state) if Instant::now() > deadline => {
                panic!("after {PATIENCE:?} still not so: {what}; last seen: {state}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
