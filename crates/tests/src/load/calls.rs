//! The calls of the rig's clients. An answer to `CreateOrder` is taken as the bytes that came, before they are
//! decoded: that they stay the same is a promise.

use std::time::Duration;

use crate::raw;
use prost::Message as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use waybill_proto::order::v1::CreateOrderRequest;

use super::tokens::Tokens;

/// What a client knows after a call.
#[derive(Debug)]
pub enum Outcome<T> {
    /// It was answered.
    Ok(T),
    /// It was refused, and a repetition would be too.
    Refused(Status),
    /// It may have been done or not: no answer, or one that says so. Never a failure.
    Unknown(Status),
}

impl<T> Outcome<T> {
    /// By the code: only these mean that nothing was done and nothing will be.
    fn of(answer: Result<T, Status>) -> Outcome<T> {
        match answer {
            Ok(answer) => Outcome::Ok(answer),
            Err(status) => match status.code() {
                Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::Unimplemented
                | Code::OutOfRange => Outcome::Refused(status),
                _ => Outcome::Unknown(status),
            },
        }
    }

    /// `OK`, or the name of the code.
    pub fn code(&self) -> String {
        match self {
            Outcome::Ok(_) => "Ok".to_owned(),
            Outcome::Refused(status) | Outcome::Unknown(status) => format!("{:?}", status.code()),
        }
    }

    /// Whether the caller was not let in, or may not do what it asked for.
    pub fn is_shut_out(&self) -> bool {
        match self {
            Outcome::Ok(_) => false,
            Outcome::Refused(status) | Outcome::Unknown(status) => {
                matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied)
            }
        }
    }

    /// What the refusal says; empty if there is none.
    pub fn message(&self) -> &str {
        match self {
            Outcome::Ok(_) => "",
            Outcome::Refused(status) | Outcome::Unknown(status) => status.message(),
        }
    }

    /// `ok`, `refused` or `unknown`.
    pub fn kind(&self) -> &'static str {
        match self {
            Outcome::Ok(_) => "ok",
            Outcome::Refused(_) => "refused",
            Outcome::Unknown(_) => "unknown",
        }
    }
}

/// A connection that notices a peer who fell silent.
pub fn patient_channel(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned())
        .expect("an address")
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .connect_lazy()
}

/// `CreateOrder`; the bytes of its answer.
pub async fn create(
    channel: Channel,
    tokens: &Tokens,
    request: &CreateOrderRequest,
    deadline: Duration,
) -> Outcome<Vec<u8>> {
    let mut request = tokens.customer(&request.user_id, request.encode_to_vec());
    request.set_timeout(deadline);
    bounded(deadline, async {
        Ok(raw::create_order(channel, request).await?.into_inner())
    })
    .await
}

/// Any call, with a deadline that the client keeps too: a line may give no answer.
pub async fn bounded<T>(deadline: Duration, call: impl Future<Output = Result<T, Status>>) -> Outcome<T> {
    let in_time = tokio::time::timeout(deadline, call).await;
    Outcome::of(in_time.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))))
}
