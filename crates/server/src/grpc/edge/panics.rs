//! A panic is a defect of ours, and its caller gets an answer: INTERNAL. The connection and the other calls on it live.

use std::any::Any;

use tonic::Status;

use crate::metrics::Metrics;

/// Logs and counts a panic that was caught. Its status reveals no more than that it happened.
pub(super) fn report(panic: &(dyn Any + Send), metrics: &Metrics) -> Status {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(
        panic = text.unwrap_or("not a text"),
        "a handler panicked; the call is answered with INTERNAL"
    );
    metrics.grpc.panicked();
    Status::internal("internal error")
}
