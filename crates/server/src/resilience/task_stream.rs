//! A stream that a task fills for one caller.

use std::future::Future;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Runs `fill` as a task, and returns what it sends. One message waits for the caller at most, so that who reserves its room before
/// it looks sends what is so when the caller reads.
///
/// The stream ends when the task does, with its error if it has one; when the caller is gone; or with `cut` when `draining` is
/// cancelled. Room for that last word is kept from the beginning: a stream that is cut must not look like one that has ended well.
pub fn task_stream<T, E, F>(
    tasks: &TaskTracker,
    draining: CancellationToken,
    cut: E,
    fill: impl FnOnce(mpsc::Sender<Result<T, E>>) -> F,
) -> ReceiverStream<Result<T, E>>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
{
    let (messages, receiver) = mpsc::channel(2);
    let filled = fill(messages.clone());
    tasks.spawn(async move {
        let Ok(last_word) = messages.clone().reserve_owned().await else {
            return;
        };
        let end = tokio::select! {
            biased;
            end = filled => end,
            () = draining.cancelled() => Err(cut),
            () = messages.closed() => Ok(()),
        };
        if let Err(error) = end {
            last_word.send(Err(error));
        }
    });
    ReceiverStream::new(receiver)
}
