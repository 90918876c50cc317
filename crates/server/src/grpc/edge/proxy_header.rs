//! The header of the PROXY protocol, with which a balancer of TCP begins a connection: whose it is.
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, versions 1 and 2.
//!
//! It is read to its last byte and not beyond: what follows, TLS or HTTP, is for others.

use std::io;
use std::net::IpAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest of version 1, as it is specified.
const TEXT_LEN_MAX: usize = 107;
/// The longest of version 2 that is read. Two addresses take 52 bytes; the rest is for what balancers add about TLS and themselves. The
/// format would have room for 64 KiB.
const BINARY_LEN_MAX: usize = 1_024;
/// So many bytes has every header, of either version.
const LEN_MIN: usize = 15;
const TEXT_BEGINS: &[u8] = b"PROXY ";
const BINARY_BEGINS: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Where version 2 has the number of bytes that follow.
const BINARY_HEAD_LEN: usize = 16;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyHeaderError {
    /// A look at whether anyone listens: it ends or resets the connection without a byte.
    #[error("the connection ended before it began")]
    Empty,
    /// Something else is spoken.
    #[error("it begins with no header of the PROXY protocol")]
    Missing,
    /// What follows is not as specified.
    #[error("its header of the PROXY protocol cannot be read")]
    Unreadable,
    /// It would go on.
    #[error("its header of the PROXY protocol is too long")]
    TooLong,
    /// The connection ended within it.
    #[error("it ended within its header of the PROXY protocol")]
    Cut(#[source] io::Error),
}

/// Reads the header; the address of the client, or `None` where the balancer speaks for itself or does not know.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let mut header = Vec::with_capacity(TEXT_LEN_MAX);
    read_until(stream, &mut header, LEN_MIN).await?;
    if header.starts_with(TEXT_BEGINS) {
        // A byte at a time, once a connection: how long the line is is not known before its end.
        while !header.ends_with(b"\r\n") {
            if header.len() == TEXT_LEN_MAX {
                return Err(ProxyHeaderError::TooLong);
            }
            let len = header.len() + 1;
            read_until(stream, &mut header, len).await?;
        }
    } else if header.starts_with(BINARY_BEGINS) {
        read_until(stream, &mut header, BINARY_HEAD_LEN).await?;
        let follow = match header.last_chunk() {
            Some(&len) => usize::from(u16::from_be_bytes(len)),
            None => 0,
        };
        if BINARY_HEAD_LEN + follow > BINARY_LEN_MAX {
            return Err(ProxyHeaderError::TooLong);
        }
        read_until(stream, &mut header, BINARY_HEAD_LEN + follow).await?;
    } else {
        return Err(ProxyHeaderError::Missing);
    }
    parse(&header)
}

/// Reads on until there are so many bytes.
async fn read_until(
    stream: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
    len: usize,
) -> Result<(), ProxyHeaderError> {
    while header.len() < len {
        let left = (len - header.len()) as u64;
        match stream.take(left).read_buf(header).await {
            Ok(0) | Err(_) if header.is_empty() => return Err(ProxyHeaderError::Empty),
            Ok(0) => return Err(ProxyHeaderError::Cut(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(ProxyHeaderError::Cut(error)),
        }
    }
    Ok(())
}

fn parse(header: &[u8]) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    let (parsed, len) = ProxyHeader::parse(header, config).map_err(|_| ProxyHeaderError::Unreadable)?;
    if len != header.len() {
        return Err(ProxyHeaderError::Unreadable);
    }
    match parsed.proxied_address() {
        Some(addresses) if addresses.protocol == Protocol::Stream => Ok(Some(addresses.source.ip().to_canonical())),
        Some(_) => Err(ProxyHeaderError::Unreadable),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;
    use crate::fuzz::{corpus, fuzz};

    const BEHIND: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    /// What is read of these bytes, and what is left of them.
    fn read_of(bytes: &[u8]) -> (Result<Option<IpAddr>, ProxyHeaderError>, &[u8]) {
        let mut rest = bytes;
        let runtime = Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(read(&mut rest));
        (read, rest)
    }

    fn binary(version_and_command: u8, family: u8, follows: &[u8]) -> Vec<u8> {
        let len = u16::try_from(follows.len()).unwrap().to_be_bytes();
        [BINARY_BEGINS, &[version_and_command, family], &len, follows].concat()
    }

    const IPV4: &[u8] = &[192, 0, 2, 60, 10, 0, 0, 1, 0x12, 0x67, 0x1c, 0x20];

    #[test]
    fn a_header_is_read_to_its_end_and_not_beyond() {
        let ipv6: Vec<u8> = [[0xfd; 16], [1; 16]].concat().into_iter().chain([0, 1, 0, 2]).collect();
        let mapped: Vec<u8> = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 60], &[1; 20]].concat();
        let with_more = [IPV4, &[4, 0, 3, 0, 0, 0]].concat();
        let headers: [(Vec<u8>, Option<&str>); 13] = [
            (
                b"PROXY TCP4 192.0.2.60 10.0.0.1 4711 7200\r\n".into(),
                Some("192.0.2.60"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 fd00::1 4711 7200\r\n".into(),
                Some("2001:db8::7"),
            ),
            (b"PROXY TCP6 ::ffff:192.0.2.60 ::1 1 2\r\n".into(), Some("192.0.2.60")),
            (b"PROXY UNKNOWN\r\n".into(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".into(), None),
            (binary(0x21, 0x11, IPV4), Some("192.0.2.60")),
            (binary(0x21, 0x11, &with_more), Some("192.0.2.60")),
            (
                binary(0x21, 0x21, &ipv6),
                Some("fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd"),
            ),
            (binary(0x21, 0x21, &mapped), Some("192.0.2.60")),
            // A balancer that looks at our health.
            (binary(0x20, 0, &[]), None),
            (binary(0x20, 0x11, IPV4), None),
            // Callers whom it does not know, and those on its own machine.
            (binary(0x21, 0, &[]), None),
            (binary(0x21, 0x31, &[b'/'; 216]), None),
        ];
        for (header, address) in headers {
            let bytes = [&header, BEHIND].concat();
            let (read, rest) = read_of(&bytes);
            assert_eq!(
                read.unwrap().map(|address| address.to_string()).as_deref(),
                address,
                "{}",
                header.escape_ascii()
            );
            assert_eq!(rest, BEHIND, "{}", header.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_header_is_refused_with_its_reason() {
        let long = [b"PROXY TCP4 ", [b'1'; 100].as_slice(), b"\r\n"].concat();
        for (bytes, why) in [
            (&b""[..], "ended before it began"),
            (BEHIND, "no header"),
            (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", "no header"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaa", "no header"),
            (b"PRO", "ended within"),
            (b"PROXY TCP4 192.0.2.60 10.0.0.1 47", "ended within"),
            (&binary(0x21, 0x11, IPV4)[..20], "ended within"),
            (&long, "too long"),
            (&binary(0x21, 0x11, &[0; 2_000]), "too long"),
            (b"PROXY TCP4 192.0.2.300 10.0.0.1 4711 7200\r\n", "cannot be read"),
            (b"PROXY TCP4 2001:db8::7 fd00::1 4711 7200\r\n", "cannot be read"),
            (b"PROXY UDP4 192.0.2.60 10.0.0.1 4711 7200\r\n", "cannot be read"),
            (&binary(0x11, 0x11, IPV4), "cannot be read"),
            (&binary(0x22, 0x11, IPV4), "cannot be read"),
            (&binary(0x21, 0x12, IPV4), "cannot be read"),
            (&binary(0x21, 0x21, IPV4), "cannot be read"),
            (&binary(0x21, 0x11, &IPV4[..11]), "cannot be read"),
        ] {
            let refusal = read_of(bytes).0.unwrap_err().to_string();
            assert!(refusal.contains(why), "{}: {refusal}", bytes.escape_ascii());
        }
    }

    /// Whatever comes, no more is read than a header may have, and what is taken for one is one.
    #[test]
    fn whatever_a_connection_begins_with_an_address_is_taken_of_a_whole_header_alone() {
        fuzz(&corpus("proxy_headers"), |bytes| {
            let (read, rest) = read_of(bytes);
            let taken = &bytes[..bytes.len() - rest.len()];
            assert!(taken.len() <= BINARY_LEN_MAX);
            if read.is_ok() {
                assert!(taken.starts_with(TEXT_BEGINS) && taken.ends_with(b"\r\n") || taken.starts_with(BINARY_BEGINS));
            }
        });
    }
}
