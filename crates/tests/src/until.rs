//! Waiting for a condition. The one place of the tests that polls.

use std::any::type_name;
use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Far beyond what anything takes, so that a slow machine does not turn a test red.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(10);

/// The answer to a condition: the value, or the state instead of it.
pub trait Answer {
    /// What there is once the condition holds.
    type Value;

    /// The value, or the state as text.
    fn value(self) -> Result<Self::Value, String>;
}

impl Answer for bool {
    type Value = ();

    fn value(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "it is not so".to_owned())
    }
}

impl<T> Answer for Option<T> {
    type Value = T;

    fn value(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, S: Debug> Answer for Result<T, S> {
    type Value = T;

    fn value(self) -> Result<T, String> {
        assert_ne!(type_name::<T>(), type_name::<bool>(), "Ok(false) would end the wait");
        self.map_err(|state| format!("{state:?}"))
    }
}

/// Asks until the answer is `true`, `Some` or `Ok`; at the deadline it fails with `what` and the last state, which is
/// the text of an `Err`.
pub async fn until<A: Answer>(what: &str, condition: impl AsyncFnMut() -> A) -> A::Value {
    match until_within(PATIENCE, condition).await {
        Ok(value) => value,
        Err(state) => panic!("after {PATIENCE:?} still not so: {what}; last seen: {state}"),
    }
}

/// Asks until the answer is this one.
pub async fn until_eq<T: PartialEq + Debug>(what: &str, expected: T, mut ask: impl AsyncFnMut() -> T) {
    until(what, async || {
        let answer = ask().await;
        if answer == expected { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// The same for so long at most: the last state where the condition never held.
pub async fn until_within<A: Answer>(
    patience: Duration,
    mut condition: impl AsyncFnMut() -> A,
) -> Result<A::Value, String> {
    let deadline = Instant::now() + patience;
    loop {
        match condition().await.value() {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
            answer => return answer,
        }
    }
}
