//! Who calls, where balancers and proxies stand before the server: the address that they say, and only they may say it.
//!
//! An address comes in one of two ways. With the PROXY protocol a connection begins with it ([`super::proxy_header`]); a proxy of HTTP
//! writes it into a header of each call. Both are believed of peers in [`Proxies::trusted`] alone: of anyone else they are a claim.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::{FORWARDED, HeaderName};
use http::{Extensions, HeaderMap, Request};
use ipnet::IpNet;

use super::forwarded;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How much of an IPv6 address counts: whoever has one has all of its network.
const IPV6_NETWORK: Ipv6Addr = Ipv6Addr::from_bits(!0 << 64);

/// The balancers and proxies before the server.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// Their networks.
    pub trusted: Vec<IpNet>,
    /// Where a proxy of HTTP writes for whom it calls; `None`: nowhere.
    pub header: Option<ForwardedHeader>,
}

/// A header in which proxies name the client. One is believed and not both: a proxy that writes one of them passes the other on as its
/// client sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `x-forwarded-for: 192.0.2.60, 198.51.100.7`
    XForwardedFor,
    /// `forwarded: for=192.0.2.60;proto=https, for="[2001:db8::7]:4711"` (RFC 7239).
    Forwarded,
}

/// Where a connection comes from. In the extensions of each of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address of whoever connected, or the one that the header of the PROXY protocol has instead.
    pub address: IpAddr,
    /// Whether what comes over the connection is from there. It is not if that header has no address: the connection is of the balancer
    /// itself then, or of someone whom it does not know.
    pub is_known: bool,
}

/// The address of who calls, as far as the proxies before the server are believed. In the extensions of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// That of this call, if it came over a connection that has one.
    pub fn of(call: &Extensions) -> Option<ClientAddress> {
        call.get().copied()
    }

    /// What the limits count it as: itself, or its network of 64 bits if it is of IPv6.
    pub fn counted_as(self) -> IpAddr {
        match self.0 {
            IpAddr::V6(address) => IpAddr::V6(address & IPV6_NETWORK),
            v4 @ IpAddr::V4(_) => v4,
        }
    }
}

/// A network, or an address, which is a network of one. `None` for what is neither, and for addresses of IPv4 in the form of IPv6:
/// callers never have those here.
pub fn network(text: &str) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let network: IpNet = address.or_else(|_| text.parse()).ok()?;
    let is_mapped = matches!(network, IpNet::V6(network) if network.network().to_ipv4_mapped().is_some());
    (!is_mapped).then_some(network)
}

impl Proxies {
    /// Whether what this peer says of others is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }

    /// Notes in the request who calls.
    pub(super) fn note_client<B>(&self, request: &mut Request<B>) {
        if let Some(peer) = request.extensions().get::<Peer>().copied() {
            let client = ClientAddress(self.client(peer, request.headers()));
            request.extensions_mut().insert(client);
        }
    }

    /// Who calls, of a call that came from `peer`: of the addresses in the header, the last one that no trusted proxy has, since what
    /// stands before it is that caller's own word. Where what stands there is no address, it is that of `peer`. So it is if who calls over
    /// the connection is not known: what is in the header then, anyone may have written.
    pub(super) fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let address = peer.address.to_canonical();
        let Some(header) = self.header.filter(|_| peer.is_known && self.trusts(address)) else {
            return address;
        };
        let mut client = address;
        for hop in header.hops_from_the_last(headers) {
            match hop {
                Some(hop) => client = hop,
                None => return address,
            }
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

impl ForwardedHeader {
    fn name(self) -> HeaderName {
        match self {
            ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
            ForwardedHeader::Forwarded => FORWARDED,
        }
    }

    /// The addresses in all lines of the header, the last one first; `None` stands for what is no address.
    fn hops_from_the_last(self, headers: &HeaderMap) -> impl Iterator<Item = Option<IpAddr>> {
        let lines = headers.get_all(self.name()).into_iter().rev();
        lines
            .flat_map(move |line| self.elements_from_the_last(line.as_bytes()))
            .map(<[u8]>::trim_ascii)
            .filter(|element| !element.is_empty())
            .map(move |element| self.address(element))
    }

    fn elements_from_the_last(self, line: &[u8]) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        match self {
            // Also between quotes, which it does not know: one of a client's must not swallow what the proxy wrote behind it.
            ForwardedHeader::XForwardedFor => Box::new(line.rsplit(|byte| *byte == b',')),
            ForwardedHeader::Forwarded => Box::new(forwarded::elements_from_the_last(line)),
        }
    }

    /// The address in an element.
    fn address(self, element: &[u8]) -> Option<IpAddr> {
        match self {
            ForwardedHeader::XForwardedFor => node(std::str::from_utf8(element).ok()?),
            ForwardedHeader::Forwarded => node(&forwarded::node(element)?),
        }
    }
}

/// `192.0.2.60`, `192.0.2.60:4711`, `2001:db8::7`, `[2001:db8::7]` or `[2001:db8::7]:4711`.
fn node(text: &str) -> Option<IpAddr> {
    let address = text.parse().ok();
    let bracketed = || {
        let address: Ipv6Addr = text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?;
        Some(IpAddr::V6(address))
    };
    let with_port = || text.parse().ok().map(|socket: SocketAddr| socket.ip());
    let address = address.or_else(bracketed).or_else(with_port)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn proxies(header: Option<ForwardedHeader>) -> Proxies {
        let networks = ["10.0.0.0/8", "192.168.1.7", "fd00::/8"];
        Proxies {
            trusted: networks.iter().map(|text| network(text).unwrap()).collect(),
            header,
        }
    }

    fn peer(address: &str, is_known: bool) -> Peer {
        Peer {
            address: address.parse().unwrap(),
            is_known,
        }
    }

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        headers
    }

    fn client(header: ForwardedHeader, address: &str, lines: &[&str]) -> String {
        proxies(Some(header))
            .client(peer(address, true), &headers(&header.name(), lines))
            .to_string()
    }

    #[test]
    fn who_is_not_trusted_can_claim_no_other_address() {
        let client = |peer, line| client(ForwardedHeader::XForwardedFor, peer, &[line]);
        assert_eq!(client("203.0.113.5", "192.0.2.60"), "203.0.113.5");
        assert_eq!(client("192.168.1.8", "192.0.2.60"), "192.168.1.8");
        assert_eq!(client("::ffff:203.0.113.5", "192.0.2.60"), "203.0.113.5");
        assert_eq!(client("10.1.2.3", "192.0.2.60"), "192.0.2.60");
        assert_eq!(client("::ffff:10.1.2.3", "192.0.2.60"), "192.0.2.60");
        assert_eq!(client("192.168.1.7", "192.0.2.60"), "192.0.2.60");
        assert_eq!(client("fd00::1", "2001:db8::7"), "2001:db8::7");
    }

    #[test]
    fn of_several_addresses_the_last_that_is_of_no_proxy_counts() {
        let client = |lines: &[&str]| client(ForwardedHeader::XForwardedFor, "10.0.0.1", lines);
        assert_eq!(client(&["192.0.2.1, 192.0.2.60"]), "192.0.2.60");
        assert_eq!(client(&["192.0.2.1, 192.0.2.60, 10.0.0.7,192.168.1.7"]), "192.0.2.60");
        assert_eq!(client(&["192.0.2.1", "192.0.2.60", "10.0.0.7"]), "192.0.2.60");
        assert_eq!(client(&["not an address, 192.0.2.60"]), "192.0.2.60");
        assert_eq!(client(&["\"192.0.2.1, 192.0.2.60"]), "192.0.2.60");
        // Between machines of our own.
        assert_eq!(client(&["10.0.0.9, 10.0.0.7"]), "10.0.0.9");
        assert_eq!(client(&[", 192.0.2.60 ,, "]), "192.0.2.60");
        assert_eq!(client(&[]), "10.0.0.1");
        assert_eq!(client(&[""]), "10.0.0.1");
    }

    #[test]
    fn addresses_are_understood_in_each_form_that_proxies_write() {
        let client = |line| client(ForwardedHeader::XForwardedFor, "10.0.0.1", &[line]);
        for (line, address) in [
            ("192.0.2.60:4711", "192.0.2.60"),
            ("2001:db8::7", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:4711", "2001:db8::7"),
            ("::ffff:192.0.2.60", "192.0.2.60"),
            ("[::ffff:192.0.2.60]:4711", "192.0.2.60"),
        ] {
            assert_eq!(client(line), address, "{line}");
        }
        for garbage in [
            "unknown",
            "_hidden",
            "192.0.2",
            "192.0.2.060",
            "192.0.2.60:99999",
            "192.0.2.60:",
            "[192.0.2.60]",
            "[2001:db8::7",
            "2001:db8::7]:1",
            "192.0.2.60 192.0.2.61",
            "\u{661}92.0.2.60",
            "192.0.2.1, unknown",
            // A trusted proxy does not know from whom it has the call.
            "192.0.2.1, unknown, 10.0.0.7",
        ] {
            assert_eq!(client(garbage), "10.0.0.1", "{garbage}");
        }
    }

    #[test]
    fn the_header_forwarded_is_read_as_rfc_7239_has_it() {
        let client = |line| client(ForwardedHeader::Forwarded, "10.0.0.1", &[line]);
        for (line, address) in [
            ("for=192.0.2.60", "192.0.2.60"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            (
                "for=192.0.2.1, proto=https; by=203.0.113.43; FOR = \"192.0.2.60:80\"",
                "192.0.2.60",
            ),
            ("for=192.0.2.1, for=192.0.2.60;host=\"a\", for=10.9.9.9", "192.0.2.60"),
            // A quote that the client left open.
            ("for=\"192.0.2.1, for=192.0.2.60", "192.0.2.60"),
            ("for=unknown", "10.0.0.1"),
            ("for=_gazonk", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
            ("192.0.2.60", "10.0.0.1"),
            ("for=", "10.0.0.1"),
        ] {
            assert_eq!(client(line), address, "{line}");
        }
    }

    /// A proxy quotes the host that a client calls, and the client may call any.
    #[test]
    fn what_a_proxy_quotes_and_what_a_client_leaves_open_names_no_other_address() {
        let client = |lines: &[&str]| client(ForwardedHeader::Forwarded, "10.0.0.1", lines);
        for line in [
            r#"host="a,for=1.2.3.4";for=192.0.2.60"#,
            r#"for=192.0.2.60;host="a,for=1.2.3.4""#,
            r#"host="a;for=1.2.3.4";for=192.0.2.60"#,
            r#"for=192.0.2.60;host="a;for=1.2.3.4""#,
            r#"host="for=1.2.3.4";for=192.0.2.60"#,
            r#"host="a\",for=1.2.3.4;x=\"";for=192.0.2.60"#,
            r#"for=192.0.2.60;host="\\\",for=1.2.3.4""#,
            r#"for=192.0.2.60;host="a\\""#,
            r#"for="1.2.3.4, for=192.0.2.60;host="b""#,
            r#"for=1.2.3.4;x=", for=192.0.2.60;host="a,for=1.2.3.4""#,
            r#"for=1.2.3.4;x="\", for=192.0.2.60"#,
            r"for=1.2.3.4\, for=192.0.2.60",
            r#""for=1.2.3.4", for=192.0.2.60, ,"#,
            // Two proxies, one behind the other.
            r#"for="1.2.3.4, for=192.0.2.60;host="a,for=1.2.3.4", for=10.9.9.9;host="a,for=1.2.3.4""#,
        ] {
            assert_eq!(client(&[line]), "192.0.2.60", "{line}");
        }
        assert_eq!(client(&["for=\"1.2.3.4", "for=192.0.2.60"]), "192.0.2.60");
        assert_eq!(
            client(&["x=\"", "for=192.0.2.60;host=\"a,for=1.2.3.4\"", "for=10.9.9.9", ""]),
            "192.0.2.60"
        );
        // What a proxy writes badly counts as nothing, whatever the client makes of it.
        for bad in [
            "for=192.0.2.60;for=1.2.3.4",
            "for=192.0.2.60;host=a;for=1.2.3.4",
            r#"for=192.0.2.60;host="a\""#,
            r#"for=1.2.3.4;x=",for=192.0.2.60;host="a\""#,
            r#"for="1.2.3.4, for=192.0.2.60""#,
            r#"for="_hidden""#,
            "for=unknown, for=10.9.9.9",
        ] {
            assert_eq!(client(&[bad]), "10.0.0.1", "{bad}");
        }
    }

    #[test]
    fn one_header_is_believed_and_not_the_other() {
        let headers = headers(&FORWARDED, &["for=192.0.2.60"]);
        let peer = peer("10.0.0.1", true);
        let other = proxies(Some(ForwardedHeader::XForwardedFor));
        assert_eq!(other.client(peer, &headers), peer.address);
        assert_eq!(proxies(None).client(peer, &headers), peer.address);
    }

    #[test]
    fn of_who_comes_by_a_balancer_that_does_not_know_it_no_header_is_believed() {
        for (header, line) in [
            (ForwardedHeader::XForwardedFor, "192.0.2.60"),
            (ForwardedHeader::Forwarded, "for=192.0.2.60"),
        ] {
            let headers = headers(&header.name(), &[line]);
            let client = |is_known| {
                proxies(Some(header))
                    .client(peer("10.0.0.1", is_known), &headers)
                    .to_string()
            };
            assert_eq!(client(true), "192.0.2.60", "{line}");
            assert_eq!(client(false), "10.0.0.1", "{line}");
        }
    }

    #[test]
    fn a_network_is_one_or_an_address() {
        for good in ["10.0.0.0/8", "10.1.2.3", "fd00::/8", "::1", "0.0.0.0/0"] {
            assert!(network(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0",
            "localhost",
            "::ffff:10.0.0.0/104",
            "10.0.0.0/8 ",
        ] {
            assert_eq!(network(bad), None, "{bad}");
        }
    }

    #[test]
    fn all_addresses_of_a_network_of_ipv6_count_as_one() {
        let counted = |text: &str| ClientAddress(text.parse().unwrap()).counted_as().to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("192.0.2.60"), "192.0.2.60");
    }
}
