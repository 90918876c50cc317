//! The calls of the rig's clients. An answer to `CreateOrder` is taken as the bytes that came, before anybody decodes
//! them: that they stay the same is a promise.

use std::time::Duration;

use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use waybill_proto::order::v1::CreateOrderRequest;

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
    /// By the code: only these say that nothing was done and nothing will be.
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

/// `CreateOrder`; the bytes of its answer.
pub async fn create(channel: Channel, request: &CreateOrderRequest, deadline: Duration) -> Outcome<Vec<u8>> {
    let mut request = Request::new(request.encode_to_vec());
    request.set_timeout(deadline);
    let path = PathAndQuery::from_static("/waybill.order.v1.OrderService/CreateOrder");
    bounded(deadline, async {
        let mut client = Grpc::new(channel);
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(client.unary(request, path, Bytes).await?.into_inner())
    })
    .await
}

/// Any call, with a deadline that the client keeps too: a line may be silent.
pub async fn bounded<T>(deadline: Duration, call: impl Future<Output = Result<T, Status>>) -> Outcome<T> {
    let in_time = tokio::time::timeout(deadline, call).await;
    Outcome::of(in_time.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))))
}

/// Messages as they are.
#[derive(Debug, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Bytes;
    type Decoder = Bytes;

    fn encoder(&mut self) -> Bytes {
        Bytes
    }

    fn decoder(&mut self) -> Bytes {
        Bytes
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let count = from.remaining();
        Ok(Some(from.copy_to_bytes(count).to_vec()))
    }
}
