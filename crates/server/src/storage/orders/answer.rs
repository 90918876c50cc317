//! The stored answer to a key: the columns `response_*`. Written once, by the transaction that settles the order, and
//! replayed from then on byte for byte, by this version or another.

use tokio_postgres::Row;

use super::row::get;
use crate::storage::StoreError;

/// The first definite answer to a request, as it went out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The gRPC status code; 0 is OK.
    pub code: i16,
    /// The status's text; empty where the code is 0.
    pub message: String,
    /// The status's details, an encoded `google.rpc.Status` (`grpc-status-details-bin`); empty if there are none.
    pub details: Vec<u8>,
    /// The encoded message; empty where the code is not 0.
    pub body: Vec<u8>,
}

/// The answer in the columns `response_*`, if one was given and has not expired.
pub(super) fn answer(row: &Row) -> Result<Option<StoredAnswer>, StoreError> {
    let Some(body) = get(row, "response_body")? else {
        return Ok(None);
    };
    Ok(Some(StoredAnswer {
        code: get(row, "response_code")?,
        message: get(row, "response_message")?,
        details: get(row, "response_details")?,
        body,
    }))
}
