//! Calls whose messages are known from descriptors alone, as JSON. Every server is called like this, Waybill too: what it costs the caller
//! is the same for all.

use std::str::FromStr as _;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ServiceDescriptor};
use serde_json::Value;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Extensions, Request, Status};

use super::adapter::{Adapter, Call};

/// A unary method of a server.
#[derive(Clone)]
pub struct Method {
    client: Grpc<Channel>,
    path: PathAndQuery,
    metadata: MetadataMap,
    input: MessageDescriptor,
    output: MessageDescriptor,
}

/// The messages of the server.
pub fn descriptors(adapter: &Adapter) -> DescriptorPool {
    let bytes = match &adapter.descriptors {
        Some(path) => std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}")),
        None => waybill_proto::FILE_DESCRIPTOR_SET.to_vec(),
    };
    DescriptorPool::decode(bytes.as_slice()).expect("descriptors")
}

impl Method {
    /// What this call calls, on these connections.
    pub fn new(channel: Channel, pool: &DescriptorPool, adapter: &Adapter, call: &Call) -> Method {
        let headers = adapter.metadata.iter().map(|(name, value)| {
            let name = HeaderName::from_str(name).expect("a name of metadata");
            let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
            (name, value.expect("metadata is text"))
        });
        let metadata = MetadataMap::from_headers(headers.collect());
        let (service, name) = call.method.split_once('/').expect("package.Service/Method");
        let service = pool.get_service_by_name(service);
        let mut methods = service.iter().flat_map(ServiceDescriptor::methods);
        let method = methods.find(|method| method.name() == name);
        let method = method.unwrap_or_else(|| panic!("{} is not in the descriptors", call.method));
        Method {
            client: Grpc::new(channel),
            path: PathAndQuery::from_str(&format!("/{}", call.method)).expect("a path"),
            metadata,
            input: method.input(),
            output: method.output(),
        }
    }

    /// Makes the call; the answer.
    pub async fn call(&self, request: Value) -> Result<Value, Status> {
        let request = DynamicMessage::deserialize(self.input.clone(), request)
            .unwrap_or_else(|error| panic!("{}: {error}", self.path));
        let mut client = self.client.clone();
        client
            .ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = Messages(self.output.clone());
        let request = Request::from_parts(self.metadata.clone(), Extensions::default(), request);
        let answer = client.unary(request, self.path.clone(), codec).await?;
        Ok(serde_json::to_value(answer.into_inner()).expect("JSON"))
    }
}

/// Messages out as they are, and in as this one.
struct Messages(MessageDescriptor);

impl Codec for Messages {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Out;
    type Decoder = In;

    fn encoder(&mut self) -> Out {
        Out
    }

    fn decoder(&mut self) -> In {
        In(self.0.clone())
    }
}

struct Out;
struct In(MessageDescriptor);

impl Encoder for Out {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message
            .encode(buffer)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for In {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), buffer);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
