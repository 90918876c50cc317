//! Where the keys of tokens come from: a file, or the address at which an identity provider publishes them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{AGE, DATE, HeaderMap};
use reqwest::{Client, StatusCode, Url, redirect, retry};
use thiserror::Error;

use super::key_set::{KeySet, KeySetError};
use crate::tls::{install_crypto, is_this_machine};

/// How long an identity provider may take.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);
/// What a time in a header is exact to.
const SECOND: SignedDuration = SignedDuration::from_secs(1);
/// The longest answer. Key sets have some thousand bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Where keys come from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// An address.
    Address(KeyAddress),
}

/// An address at which keys are published.
#[derive(Debug, Clone)]
pub struct KeyAddress {
    client: Client,
    url: Url,
}

/// What a source says now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyReport {
    /// How many keys verify tokens.
    pub keys: usize,
    /// How many more there are that cannot be used.
    pub left_out: usize,
    /// How far the clock of the address is ahead of ours; `None`: its answer does not say, or it is a file.
    pub ahead: Option<SignedDuration>,
}

/// What an address answered.
struct Answer {
    text: String,
    /// How far its clock is ahead of ours; `None`: it does not say.
    ahead: Option<SignedDuration>,
}

/// Why the keys cannot be used.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("auth.keys cannot be read: {}: {error}", path.display())]
    Read {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The address is not one from which keys are taken.
    #[error("auth.keys must be a file or an address that begins with https:// and has no password in it")]
    Address,
    /// The address gives no keys.
    #[error("auth.keys cannot be fetched: {0}")]
    Fetch(String),
    /// It is no set of keys that verify tokens.
    #[error("auth.keys {0}")]
    Keys(#[from] KeySetError),
}

impl KeySource {
    /// The source that the setting names.
    pub fn parse(setting: &str) -> Result<KeySource, KeysError> {
        if !setting.contains("://") {
            return Ok(KeySource::File(PathBuf::from(setting)));
        }
        let url = Url::parse(setting).map_err(|_| KeysError::Address)?;
        let is_plain = match url.scheme() {
            "https" => false,
            // Nothing leaves the machine.
            "http" if url.host_str().is_some_and(is_this_machine) => true,
            _ => return Err(KeysError::Address),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(KeysError::Address);
        }
        install_crypto();
        let mut builder = Client::builder()
            .user_agent(concat!("waybill/", env!("CARGO_PKG_VERSION")))
            .timeout(FETCH_TIME_MAX)
            .redirect(redirect::Policy::none())
            .retry(retry::never());
        if is_plain {
            // A bare machine has no root certificates, and needs none for this.
            builder = builder.tls_certs_only([]).no_proxy();
        }
        let client = builder.build().map_err(|error| KeysError::Fetch(causes(error)))?;
        Ok(KeySource::Address(KeyAddress { client, url }))
    }

    /// What it says now.
    pub(super) async fn read(&self) -> Result<String, KeysError> {
        match self {
            KeySource::File(path) => {
                let contents = tokio::fs::read_to_string(path).await;
                contents.map_err(|error| KeysError::Read {
                    path: path.clone(),
                    error,
                })
            }
            KeySource::Address(address) => Ok(address.fetch().await?.text),
        }
    }

    /// What it says now, for people. Fails where a server with it would trust no token.
    pub async fn report(&self) -> Result<KeyReport, KeysError> {
        let (text, ahead) = match self {
            KeySource::File(_) => (self.read().await?, None),
            KeySource::Address(address) => {
                let answer = address.fetch().await?;
                (answer.text, answer.ahead)
            }
        };
        let set = KeySet::parse(&text)?;
        set.check()?;
        let (keys, left_out) = set.counts();
        Ok(KeyReport { keys, left_out, ahead })
    }
}

impl KeyAddress {
    async fn fetch(&self) -> Result<Answer, KeysError> {
        let failed = |error| KeysError::Fetch(causes(error));
        let asked_at = Timestamp::now();
        let mut response = self.client.get(self.url.clone()).send().await.map_err(failed)?;
        let ahead = clock_ahead(response.headers(), asked_at, Timestamp::now());
        if response.status() != StatusCode::OK {
            return Err(KeysError::Fetch(format!("it answers {}", response.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(KeysError::Fetch(format!(
                    "it answers with more than {BODY_BYTES_MAX} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(body).map_err(|_| KeysError::Fetch("it does not answer with text".to_owned()))?;
        Ok(Answer { text, ahead })
    }
}

/// How far the clock of who answered is ahead of ours, by the whole second that it says (RFC 9110, section 6.6.1): as little as it
/// can be. `None`: it does not say, or the answer is out of a cache, and its time that of an earlier one.
fn clock_ahead(headers: &HeaderMap, asked_at: Timestamp, answered_at: Timestamp) -> Option<SignedDuration> {
    if headers.contains_key(AGE) {
        return None;
    }
    let date = rfc2822::DateTimeParser::new()
        .parse_timestamp(headers.get(DATE)?)
        .ok()?;
    let (least, most) = (date.duration_since(answered_at), date.duration_since(asked_at) + SECOND);
    Some(least.max(SignedDuration::ZERO) + most.min(SignedDuration::ZERO))
}

/// The causes on one line, without the address: it may have a key of its own in its query.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use rcgen::generate_simple_self_signed;
    use tokio::net::TcpListener;
    use tokio_util::task::TaskTracker;

    use super::*;

    #[test]
    fn an_address_is_https_or_does_not_leave_the_machine() {
        for good in [
            "https://id.example.com/keys",
            "http://127.0.0.1:1/keys",
            "http://[::1]:1/",
            "http://localhost/",
        ] {
            assert!(matches!(KeySource::parse(good), Ok(KeySource::Address(_))), "{good}");
        }
        for bad in [
            "http://id.example.com/keys",
            "http://127.0.0.1.example.com/",
            "ftp://127.0.0.1/",
            "https://me:secret@id.example.com/",
            "https://",
            "file:///etc/keys.json",
        ] {
            let error = KeySource::parse(bad).unwrap_err().to_string();
            assert!(
                error.contains("auth.keys") && !error.contains("secret"),
                "{bad}: {error}"
            );
        }
        assert!(matches!(KeySource::parse("keys.json"), Ok(KeySource::File(_))));
    }

    async fn serve(router: Router) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    async fn fetch(address: &str) -> Result<String, String> {
        let source = KeySource::parse(address).unwrap();
        source.read().await.map_err(|error| error.to_string())
    }

    #[test]
    fn a_clock_is_only_called_wrong_where_it_is_whatever_the_answer_took() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (asked_at, answered_at) = (at("2026-11-27T12:00:00.9Z"), at("2026-11-27T12:00:03.1Z"));
        let ahead = |date: &str| {
            let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
            clock_ahead(&headers, asked_at, answered_at).map(|ahead| ahead.as_millis())
        };
        assert_eq!(ahead("Fri, 27 Nov 2026 12:00:00 GMT"), Some(0));
        assert_eq!(ahead("Fri, 27 Nov 2026 12:00:03 GMT"), Some(0));
        assert_eq!(ahead("Fri, 27 Nov 2026 12:00:04 GMT"), Some(900));
        assert_eq!(ahead("Fri, 27 Nov 2026 11:59:59 GMT"), Some(-900));
        assert_eq!(ahead("Fri, 27 Nov 2026 13:00:00 GMT"), Some(3_596_900));
        assert_eq!(ahead("yesterday"), None);
        assert_eq!(clock_ahead(&HeaderMap::new(), asked_at, answered_at), None);
    }

    #[tokio::test]
    async fn what_is_no_answer_with_keys_is_refused_and_a_redirect_is_not_followed() {
        let moved = || async {
            let headers = HeaderMap::from_iter([(http::header::LOCATION, "/keys".parse().unwrap())]);
            (StatusCode::FOUND, headers)
        };
        let router = Router::new()
            .route("/keys", get(|| async { "{}" }))
            .route("/moved", get(moved))
            .route("/large", get(|| async { "x".repeat(BODY_BYTES_MAX + 1) }))
            .route("/broken", get(|| async { vec![0xff, 0xfe] }));
        let at = serve(router).await;
        assert_eq!(fetch(&format!("{at}/keys")).await.unwrap(), "{}");
        for (path, why) in [
            ("moved?key=canary", "302"),
            ("nothing", "404"),
            ("large", "bytes"),
            ("broken", "text"),
        ] {
            let error = fetch(&format!("{at}/{path}")).await.unwrap_err();
            assert!(error.contains(why) && !error.contains("canary"), "{path}: {error}");
        }
        let gone = fetch("http://127.0.0.1:1/keys?key=canary").await.unwrap_err();
        assert!(gone.contains("refused") && !gone.contains("canary"), "{gone}");
    }

    /// A provider whose certificate is no one's is not believed.
    #[tokio::test]
    async fn an_address_is_only_believed_with_a_certificate_that_is_trusted() {
        let made = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        install_crypto();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        TaskTracker::new().spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                // It ends with an alert of the client.
                let _ = acceptor.accept(peer).await;
            }
        });
        let source = KeySource::parse(&format!("https://localhost:{port}/keys"));
        let error = match source {
            Ok(source) => source.read().await.unwrap_err(),
            // A bare machine has no root certificates: nothing can be trusted.
            Err(error) => error,
        };
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}
