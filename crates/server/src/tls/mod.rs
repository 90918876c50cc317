//! TLS of the listeners: the certificate, its replacement while the server runs, and the stream that a connection reads.
//!
//! A [`ServerTls`] holds what the files of `[tls]` said when they were last good. While it is followed ([`crate::reload`]) it
//! takes what they say now; connections that are open go on with what they began with. The handshake is made where a connection is
//! read ([`ServerStream`]), so that a peer that does not finish it holds up no other.

mod certificate;
mod stream;

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

pub use self::certificate::{CertificateError, Validity};
pub use self::stream::ServerStream;
use crate::metrics::TlsMetrics;
use crate::reload::Reload;

/// Where the certificate and its key are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate of this server and those between it and its CA, as PEM.
    pub cert: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
    /// The CA of which peers must show a certificate, as PEM; `None`: they need none.
    pub client_ca: Option<PathBuf>,
}

/// Why the files cannot be used. Names the setting, and never what is in a key.
#[derive(Debug, thiserror::Error)]
#[error("{key} {why}")]
pub struct TlsError {
    /// The setting, as `section.key`.
    pub key: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// What is spoken within TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC.
    Http2,
    /// The payment provider's webhooks.
    Http1,
    /// Browsers: gRPC-Web and pages, by either.
    Web,
}

/// The TLS of a server's listeners.
#[derive(Debug, Clone)]
pub struct ServerTls {
    files: Arc<TlsFiles>,
    current: Arc<RwLock<Loaded>>,
    /// What the files were when they were last read.
    seen: Arc<RwLock<[u8; 32]>>,
    metrics: TlsMetrics,
}

/// What the files said when they were last good.
#[derive(Debug, Clone)]
struct Loaded {
    digest: [u8; 32],
    http2: Arc<ServerConfig>,
    http1: Arc<ServerConfig>,
    web: Arc<ServerConfig>,
    validity: Validity,
}

/// The contents of the files.
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl TlsError {
    pub(crate) fn new(key: &'static str, why: impl Into<String>) -> TlsError {
        TlsError { key, why: why.into() }
    }
}

impl ServerTls {
    /// Reads the files. A certificate that is not valid now is taken nevertheless, with a warning: there is no better one.
    pub async fn load(files: TlsFiles, metrics: TlsMetrics) -> Result<ServerTls, TlsError> {
        let loaded = Loaded::of(&Contents::read(&files).await?)?;
        if let Err(error) = loaded.validity.check(Timestamp::now()) {
            warn!(%error, "tls.cert is not valid now; clients will refuse it");
        }
        metrics.certificate_taken(loaded.validity.not_after);
        Ok(ServerTls {
            files: Arc::new(files),
            seen: Arc::new(RwLock::new(loaded.digest)),
            current: Arc::new(RwLock::new(loaded)),
            metrics,
        })
    }

    /// The server's side of this connection, which begins with the handshake.
    pub fn accept(&self, stream: TcpStream, protocol: Protocol) -> ServerStream {
        let loaded = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let config = match protocol {
            Protocol::Http2 => &loaded.http2,
            Protocol::Http1 => &loaded.http1,
            Protocol::Web => &loaded.web,
        };
        let acceptor = TlsAcceptor::from(Arc::clone(config));
        ServerStream::handshaking(acceptor.accept(stream), self.metrics.clone())
    }
}

impl Reload for ServerTls {
    type Error = TlsError;

    async fn reload(&self) -> Result<(), TlsError> {
        let contents = Contents::read(&self.files).await?;
        let digest = contents.digest();
        let seen = std::mem::replace(&mut *self.seen.write().unwrap_or_else(PoisonError::into_inner), digest);
        let is_in_use = self.current.read().unwrap_or_else(PoisonError::into_inner).digest == digest;
        // A file that is being written may end where a certificate does: only what is so twice is taken.
        if is_in_use || seen != digest {
            return Ok(());
        }
        let loaded = Loaded::of(&contents)?;
        loaded
            .validity
            .check(Timestamp::now())
            .map_err(|error| TlsError::new("tls.cert", error.to_string()))?;
        self.metrics.certificate_taken(loaded.validity.not_after);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        info!("a new certificate is in use");
        Ok(())
    }

    fn refused(&self, error: &TlsError) {
        self.metrics.certificate_refused();
        warn!(%error, "the files of [tls] changed and cannot be used; the certificate in use is kept");
    }
}

impl Contents {
    async fn read(files: &TlsFiles) -> Result<Contents, TlsError> {
        let client_ca = match &files.client_ca {
            Some(path) => Some(read("tls.client_ca", path).await?),
            None => None,
        };
        Ok(Contents {
            cert: read("tls.cert", &files.cert).await?,
            key: read("tls.key", &files.key).await?,
            client_ca,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        for part in [&self.cert, &self.key, self.client_ca.as_ref().unwrap_or(&Vec::new())] {
            hasher.update(part.len().to_be_bytes());
            hasher.update(part);
        }
        hasher.finalize().into()
    }
}

async fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let contents = tokio::fs::read(path).await;
    contents.map_err(|error: io::Error| TlsError::new(key, format!("cannot be read: {}: {error}", path.display())))
}

impl Loaded {
    fn of(contents: &Contents) -> Result<Loaded, TlsError> {
        let chain = certificates("tls.cert", &contents.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|_| TlsError::new("tls.key", "has no private key as PEM that can be used"))?;
        let bad_cert = |error: CertificateError| TlsError::new("tls.cert", error.to_string());
        let leaf = chain.first().ok_or_else(|| bad_cert(CertificateError::Unreadable))?;
        let validity = Validity::of(leaf).map_err(bad_cert)?;
        let provider = provider();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new("tls.cert", error.to_string()))?;
        let builder = match &contents.client_ca {
            Some(pem) => {
                let roots = Arc::new(roots("tls.client_ca", pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .build()
                    .map_err(|error| TlsError::new("tls.client_ca", error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let http2 = builder
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::new("tls.key", format!("is not the key of tls.cert: {error}")))?;
        // The payment provider has no certificate of the peers' CA. Its events are signed.
        let mut http1 = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new("tls.cert", error.to_string()))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&http2.cert_resolver));
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut http2 = http2;
        http2.alpn_protocols = vec![b"h2".to_vec()];
        let mut web = http2.clone();
        web.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Loaded {
            digest: contents.digest(),
            http2: Arc::new(http2),
            http1: Arc::new(http1),
            web: Arc::new(web),
            validity,
        })
    }
}

impl Validity {
    /// That of the certificate in these files, all of which have to be good.
    pub async fn of_files(files: &TlsFiles) -> Result<Validity, TlsError> {
        Ok(Loaded::of(&Contents::read(files).await?)?.validity)
    }

    /// Those of the CAs in this file of `tls.client_ca`, in their order, all of which have to be good; each as
    /// [`Validity::of_ca`] has it.
    pub async fn of_cas(file: &Path) -> Result<Vec<Option<Validity>>, TlsError> {
        let pem = read("tls.client_ca", file).await?;
        roots("tls.client_ca", &pem)?;
        let cas = certificates("tls.client_ca", &pem)?;
        Ok(cas.iter().map(Validity::of_ca).collect())
    }
}

/// The one implementation of cryptography in this program.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The certificates of this file, which the setting `key` names.
pub(crate) fn certificates(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err(TlsError::new(key, "has no certificate as PEM, or one that is cut off")),
    }
}

/// The CAs of this file.
pub(crate) fn roots(key: &'static str, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(key, pem)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::new(key, format!("has what is no certificate of a CA: {error}")))?;
    }
    Ok(roots)
}

/// A process has one crypto library. The first client that needs it installs it; a second installation fails and changes
/// nothing.
pub(crate) fn install_crypto() {
    if CryptoProvider::get_default().is_none() {
        drop(aws_lc_rs::default_provider().install_default());
    }
}

/// Whether a host in a URL is this machine: what goes there in plaintext is read by no other.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
