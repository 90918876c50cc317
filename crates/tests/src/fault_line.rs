//! A line that can be spoiled: a fault proxy before the server of a URL.

use std::net::SocketAddr;

use waybill_sandbox::proxy::FaultProxy;

/// The URL through a proxy before the local server of `url`, and the proxy.
pub fn through(url: &str) -> (String, FaultProxy) {
    let host = url.split(['/', '@']).find(|part| part.starts_with("127.0.0.1:"));
    let target: SocketAddr = host.expect("a local URL").parse().expect("an address");
    let proxy = FaultProxy::start(target).expect("the proxy starts");
    (url.replace(&target.to_string(), &proxy.addr().to_string()), proxy)
}
