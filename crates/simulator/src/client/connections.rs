//! Connections to the server. All are lazy: they are made at the first call and made anew when they break.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

/// Calls at one time on one connection. The server takes 100 streams a connection; a call above that would wait in
/// this process, unseen, while its deadline runs.
const CALLS_PER_CONNECTION: usize = 90;

/// The address is not one of a gRPC server that this client can call.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// It is not an address.
    #[error("`{address}` is not the address of a server; it looks like 127.0.0.1:7500 or http://host:port")]
    Malformed {
        /// As the caller wrote it.
        address: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// It asks for another protocol. TLS is left to a proxy beside the client.
    #[error("`{address}` cannot be called: only http:// is spoken here, without TLS, and not {scheme}://")]
    Scheme {
        /// As the caller wrote it.
        address: String,
        /// What stands before `://`.
        scheme: String,
    },
    /// The token cannot be sent. It is not repeated here.
    #[error("the token has a character that no header can have")]
    Token,
}

/// A server, and what it is shown: an API key, or the token of a program. Without one it has to let everyone in.
#[derive(Debug, Clone)]
pub struct Target {
    endpoint: Endpoint,
    authorization: Option<Authorization>,
}

/// The value of the header.
type Authorization = MetadataValue<Ascii>;

impl Target {
    /// The server at `address`: `host:port` or `http://host:port`. Nothing is connected yet.
    pub fn new(address: &str, token: Option<&str>) -> Result<Target, AddressError> {
        let mut target = Target::from(endpoint(address)?);
        if let Some(token) = token {
            let mut value: Authorization = format!("Bearer {token}").parse().map_err(|_| AddressError::Token)?;
            value.set_sensitive(true);
            target.authorization = Some(value);
        }
        Ok(target)
    }

    /// Where it is.
    pub fn address(&self) -> String {
        self.endpoint.uri().to_string()
    }
}

impl From<Endpoint> for Target {
    fn from(endpoint: Endpoint) -> Target {
        Target {
            endpoint,
            authorization: None,
        }
    }
}

fn endpoint(address: &str) -> Result<Endpoint, AddressError> {
    let url = if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    let endpoint = Endpoint::from_shared(url);
    let endpoint = endpoint.map_err(|source| AddressError::Malformed {
        address: address.to_owned(),
        source,
    })?;
    if let Some(scheme) = endpoint.uri().scheme_str().filter(|scheme| *scheme != "http") {
        return Err(AddressError::Scheme {
            address: address.to_owned(),
            scheme: scheme.to_owned(),
        });
    }
    // Only unanswered pings show that a server was stopped or cut off.
    Ok(endpoint
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5)))
}

/// One clear error now instead of one a call.
pub(crate) async fn reach(target: &Target) -> Result<(), tonic::transport::Error> {
    target.endpoint.connect().await.map(drop)
}

/// Makes connections to one server, and requests that it lets in.
#[derive(Clone)]
pub(crate) struct Dial {
    connect: Arc<dyn Fn() -> Channel + Send + Sync>,
    authorization: Option<Authorization>,
}

impl Dial {
    /// A server that is reached in another way than by its address.
    #[cfg(test)]
    pub(crate) fn by(connect: impl Fn() -> Channel + Send + Sync + 'static) -> Dial {
        Dial {
            connect: Arc::new(connect),
            authorization: None,
        }
    }

    /// A connection, made at its first call.
    pub(crate) fn channel(&self) -> Channel {
        (self.connect)()
    }

    /// A call with this message.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        request
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial").finish_non_exhaustive()
    }
}

impl From<&Target> for Dial {
    fn from(target: &Target) -> Dial {
        let endpoint = target.endpoint.clone();
        Dial {
            connect: Arc::new(move || endpoint.connect_lazy()),
            authorization: target.authorization.clone(),
        }
    }
}

/// Enough connections for so many calls at one time.
#[derive(Debug)]
pub(super) struct Connections {
    first: Connection,
    more: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    channel: Channel,
    room: Arc<Semaphore>,
}

impl Connections {
    /// Enough for `calls_max`.
    pub(super) fn to(server: &Dial, calls_max: usize) -> Connections {
        let more = calls_max.div_ceil(CALLS_PER_CONNECTION).saturating_sub(1);
        let connection = || Connection {
            channel: server.channel(),
            room: Arc::new(Semaphore::new(CALLS_PER_CONNECTION)),
        };
        Connections {
            first: connection(),
            more: std::iter::repeat_with(connection).take(more).collect(),
        }
    }

    /// The first connection with room, so that few are open when little is under way; the first when all are full. The
    /// permit is the room for one call, given back when dropped.
    pub(super) fn lease(&self) -> (Channel, Option<OwnedSemaphorePermit>) {
        let with_room = self.each().find_map(|connection| {
            let permit = Arc::clone(&connection.room).try_acquire_owned().ok()?;
            Some((connection.channel.clone(), Some(permit)))
        });
        with_room.unwrap_or_else(|| (self.first.channel.clone(), None))
    }

    fn each(&self) -> impl Iterator<Item = &Connection> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_means_plain_http() {
        for address in ["127.0.0.1:7500", "http://127.0.0.1:7500"] {
            assert_eq!(endpoint(address).unwrap().uri().to_string(), "http://127.0.0.1:7500/");
        }
        assert!(
            endpoint("not an address")
                .unwrap_err()
                .to_string()
                .contains("`not an address`")
        );
    }

    #[test]
    fn a_protocol_that_is_not_spoken_is_named() {
        for address in ["https://example.com:443", "ftp://example.com", "grpc://example.com:443"] {
            let scheme = address.split_once("//").unwrap().0;
            let error = endpoint(address).unwrap_err().to_string();
            assert!(error.contains(scheme) && error.contains("without TLS"), "{error}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_not_repeated() {
        let error = Target::new("127.0.0.1:7500", Some("two\nlines")).unwrap_err();
        assert!(!error.to_string().contains("lines"), "{error}");
        let target = Target::new("127.0.0.1:7500", Some("secret")).unwrap();
        assert!(!format!("{target:?}").contains("secret"));
        let request = Dial::from(&target).request(());
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer secret");
    }

    #[tokio::test]
    async fn a_full_connection_is_not_given_more_calls() {
        let connections = Connections::to(&Dial::from(&Target::new("127.0.0.1:1", None).unwrap()), 200);
        let calls = |connection: &Connection| CALLS_PER_CONNECTION - connection.room.available_permits();
        let load = || connections.each().map(calls).collect::<Vec<_>>();

        let mut leases: Vec<_> = (0..100).map(|_| connections.lease()).collect();
        assert_eq!(load(), [90, 10, 0]);
        leases.truncate(10);
        assert_eq!(load(), [10, 0, 0]);
    }
}
