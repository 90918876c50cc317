//! A message over the limit is `RESOURCE_EXHAUSTED`, as the gRPC documentation of status codes and other servers have
//! it. tonic 0.14.9 answers `OUT_OF_RANGE`, which makes a client ask for another range; see its `codec/decode.rs`.

use http::HeaderMap;
use tonic::{Code, Status};

/// How tonic's message begins. A service may answer `OUT_OF_RANGE` for reasons of its own, which are left alone.
const TOO_LARGE: &str = "Error, decoded message length too large";

/// Corrects the status in the headers or trailers of a call whose message is too large.
pub(super) fn correct(headers: &mut HeaderMap) {
    let code = headers
        .get(Status::GRPC_STATUS)
        .map(|code| Code::from_bytes(code.as_bytes()));
    if code != Some(Code::OutOfRange) {
        return;
    }
    let Some(status) = Status::from_header_map(headers).filter(|status| status.message().starts_with(TOO_LARGE)) else {
        return;
    };
    // Writing a status fails only for details that are no header value, and this one has none.
    let _ = Status::resource_exhausted(status.message()).add_header(headers);
}
