//! The limit of a call's metadata, whose excess is the call's and not its connection's.
//!
//! h2 has one limit for what it reads of headers: a call above it is answered with HTTP 431, and a connection on which they go on is closed,
//! with all its calls. So that limit is higher, and up to there it is judged here.

use http::Request;
use tonic::Status;

use super::METADATA_SIZE_MAX;

/// What a header takes beside its name and its value (RFC 9113, section 6.5.2).
const OVERHEAD: usize = 32;

/// Refuses a call with too much of it.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Status> {
    let headers = request.headers().iter();
    let size: usize = headers
        .map(|(name, value)| name.as_str().len() + value.len() + OVERHEAD)
        .sum();
    if size <= METADATA_SIZE_MAX {
        return Ok(());
    }
    Err(Status::resource_exhausted(format!(
        "the call has {size} bytes of metadata, and at most {METADATA_SIZE_MAX} bytes are taken"
    )))
}
