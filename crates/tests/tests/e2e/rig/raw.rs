//! `CreateOrder` as bytes.

#[path = "../../shared/bytes.rs"]
mod bytes;

use prost::Message as _;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Response, Status};
use waybill_proto::order::v1::CreateOrderRequest;

pub use self::bytes::{Bytes, CREATE_ORDER};

use super::Rig;

impl Rig {
    /// Places an order at one of several servers, counted from 0; the very bytes of its answer's message.
    pub async fn place_raw(&self, server: usize, request: &CreateOrderRequest) -> Result<Response<Vec<u8>>, Status> {
        let mut grpc = Grpc::new(self.servers[server].channel.clone());
        grpc.ready().await.expect("a connection");
        let path = PathAndQuery::from_static(CREATE_ORDER);
        grpc.unary(Request::new(request.encode_to_vec()), path, Bytes).await
    }
}
