//! `CreateOrder` as bytes: what a message reader hides (unknown fields, their order) is part of a replay.

use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Response, Status};
use waybill_proto::order::v1::CreateOrderRequest;

use super::Rig;

impl Rig {
    /// Places an order at one of several servers, counted from 0; the very bytes of its answer's message.
    pub async fn place_raw(&self, server: usize, request: &CreateOrderRequest) -> Result<Response<Vec<u8>>, Status> {
        let mut grpc = Grpc::new(self.servers[server].channel.clone());
        grpc.ready().await.expect("a connection");
        let path = PathAndQuery::from_static("/waybill.order.v1.OrderService/CreateOrder");
        grpc.unary(Request::new(request.encode_to_vec()), path, Bytes).await
    }
}

/// Messages are their bytes.
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
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
