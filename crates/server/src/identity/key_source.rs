//! Where the keys of tokens come from: a file, or the address at which an identity provider publishes them.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, redirect, retry};
use thiserror::Error;

use super::key_set::KeySetError;
use crate::tls::install_crypto;

/// How long an identity provider may take.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);
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
            "http" if is_loopback(&url) => true,
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
            KeySource::Address(address) => address.fetch().await,
        }
    }
}

impl KeyAddress {
    async fn fetch(&self) -> Result<String, KeysError> {
        let failed = |error| KeysError::Fetch(causes(error));
        let mut response = self.client.get(self.url.clone()).send().await.map_err(failed)?;
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
        String::from_utf8(body).map_err(|_| KeysError::Fetch("it does not answer with text".to_owned()))
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
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
    use axum::http::HeaderMap;
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
