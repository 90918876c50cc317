//! What browsers are served: calls by gRPC-Web, pages, and what a browser may do with either.

mod calls;
mod cross_origin;
mod pages;

use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use testkit::Rig;
use tonic::body::Body;
use tonic_web::{GrpcWebCall, GrpcWebClientLayer, GrpcWebClientService};
use tower::Layer as _;

/// What a browser calls with: gRPC-Web over HTTP/1.1.
pub type Browser = GrpcWebClientService<Client<HttpConnector, GrpcWebCall<Body>>>;

pub fn browser() -> Browser {
    let http = Client::builder(TokioExecutor::new()).build_http();
    GrpcWebClientLayer::new().layer(http)
}

/// Where it calls.
pub fn origin(rig: &Rig) -> http::Uri {
    rig.web().parse().unwrap()
}
