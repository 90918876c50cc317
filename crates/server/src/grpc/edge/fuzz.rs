//! Headers as callers could send them, behind proxies that write as RFC 7239 has it.

use http::header::FORWARDED;
use http::{HeaderMap, HeaderValue};

use super::proxies::{ForwardedHeader, Peer, Proxies, network};
use crate::fuzz::{corpus, fuzz};

/// What a proxy writes between quotes of what its caller chose.
fn quoted(text: &[u8]) -> Vec<u8> {
    let escaped = text.iter().flat_map(|byte| match byte {
        b'"' | b'\\' => vec![b'\\', *byte],
        _ => vec![*byte],
    });
    [b"\"".to_vec(), escaped.collect(), b"\"".to_vec()].concat()
}

/// The bytes of these that can be in a header at all.
fn printable(sent: &[u8]) -> Vec<u8> {
    let is_printable = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    sent.iter().copied().filter(is_printable).collect()
}

/// It sends a header of its own, and the same as the host that it calls.
#[test]
fn whatever_a_caller_sends_its_address_is_the_one_that_its_proxy_saw() {
    let peer = Peer {
        address: "10.0.0.1".parse().unwrap(),
        is_known: true,
    };
    let proxies = Proxies {
        trusted: vec![network("10.0.0.0/8").unwrap()],
        header: Some(ForwardedHeader::Forwarded),
    };
    fuzz(&corpus("forwarded"), |sent| {
        let sent = printable(sent);
        let host = [b"host=".to_vec(), quoted(&sent)].concat();
        let first = [b"for=192.0.2.60;", &host[..]].concat();
        let last = [&host[..], b";for=192.0.2.60"].concat();
        let second = [b"for=10.0.0.2;", &host[..]].concat();
        for own in [
            first.clone(),
            last.clone(),
            [&first[..], b", ", &second].concat(),
            [&last[..], b",", &second].concat(),
        ] {
            let in_one_line = vec![[&sent[..], b", ", &own].concat()];
            for lines in [in_one_line, vec![sent.clone(), own]] {
                let mut headers = HeaderMap::new();
                for line in &lines {
                    headers.append(FORWARDED, HeaderValue::from_bytes(line).unwrap());
                }
                let client = proxies.client(peer, &headers).to_string();
                assert_eq!(client, "192.0.2.60", "{headers:?}");
            }
        }
    });
}
