//! TLS towards a store: of which CA its certificate must be, what we show of ourselves, and why a store was not spoken to.
//!
//! Both drivers compare the certificate with the host of the URL, and send nothing of ours before. Neither goes on in
//! plaintext: there is no setting for it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use jiff::Timestamp;
use redis::{ClientTlsConfig, TlsCertificates};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::tls::{TlsError, certificates, install_crypto, provider, roots};

/// The names of a store's settings, as `section.key`.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    ca: &'static str,
    client_cert: &'static str,
    client_key: &'static str,
}

/// Those of `[postgres]`.
pub const POSTGRES: Keys = Keys {
    ca: "postgres.ca",
    client_cert: "postgres.client_cert",
    client_key: "postgres.client_key",
};

/// Those of `[redis]`.
pub const REDIS: Keys = Keys {
    ca: "redis.ca",
    client_cert: "redis.client_cert",
    client_key: "redis.client_key",
};

/// Where the CAs of a store are, and what we show it. An empty path stands for none.
#[derive(Debug, Clone)]
pub struct StoreTlsFiles {
    /// The names of the settings, for who has to correct one.
    pub keys: Keys,
    /// The CAs, as PEM; none: the system's.
    pub ca: PathBuf,
    /// Our certificate and those between it and its CA, as PEM.
    pub client_cert: PathBuf,
    /// Its private key, as PEM.
    pub client_key: PathBuf,
}

/// What the files said: the same for the driver of Postgres and for that of Redis.
pub(super) struct StoreTls {
    pub config: ClientConfig,
    pub certificates: TlsCertificates,
}

impl StoreTlsFiles {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        ![&self.ca, &self.client_cert, &self.client_key].into_iter().any(is_set)
    }

    /// Whether the files can be used.
    pub fn check(&self) -> Result<(), TlsError> {
        self.load().map(drop)
    }

    pub(super) fn load(&self) -> Result<StoreTls, TlsError> {
        let keys = self.keys;
        // The driver of Redis takes the one of the process.
        install_crypto();
        let root_cert = is_set(&self.ca).then(|| read(keys.ca, &self.ca)).transpose()?;
        let roots = match &root_cert {
            Some(pem) => roots(keys.ca, pem)?,
            None => roots_of_system(keys.ca)?,
        };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::new(keys.ca, error.to_string()))?
            .with_root_certificates(roots);
        let (mut config, client_tls) = match self.client()? {
            Some(ours) => {
                let chain = certificates(keys.client_cert, &ours.client_cert)?;
                let key = PrivateKeyDer::from_pem_slice(&ours.client_key)
                    .map_err(|_| TlsError::new(keys.client_key, "has no private key as PEM that can be used"))?;
                let config = builder.with_client_auth_cert(chain, key).map_err(|error| {
                    TlsError::new(
                        keys.client_key,
                        format!("is not the key of {}: {error}", keys.client_cert),
                    )
                })?;
                (config, Some(ours))
            }
            None => (builder.with_no_client_auth(), None),
        };
        // What Postgres 17 asks for where TLS is not requested first. It is not sent to Redis.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(StoreTls {
            config,
            certificates: TlsCertificates { client_tls, root_cert },
        })
    }

    /// What we show of ourselves.
    fn client(&self) -> Result<Option<ClientTlsConfig>, TlsError> {
        let Keys {
            client_cert: cert,
            client_key: key,
            ..
        } = self.keys;
        match (is_set(&self.client_cert), is_set(&self.client_key)) {
            (false, false) => Ok(None),
            (true, false) => Err(TlsError::new(key, format!("must name the key of {cert}"))),
            (false, true) => Err(TlsError::new(cert, format!("must name the certificate of {key}"))),
            (true, true) => Ok(Some(ClientTlsConfig {
                client_cert: read(cert, &self.client_cert)?,
                client_key: read(key, &self.client_key)?,
            })),
        }
    }
}

/// Why TLS with this store (`postgres` or `redis`) came to nothing, in words for people. `None` where it is not for TLS.
pub(super) fn failure(store: &str, error: &(dyn Error + 'static)) -> Option<String> {
    use rustls::Error as Tls;
    let why = match cause(error)? {
        Tls::InvalidCertificate(error) => certificate_failure(store, error),
        Tls::AlertReceived(AlertDescription::CertificateRequired) => {
            format!("it asks for a certificate of ours: set {store}.client_cert and {store}.client_key")
        }
        Tls::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied),
        ) => format!("it refuses {store}.client_cert: {alert:?}"),
        Tls::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        other => other.to_string(),
    };
    Some(format!("TLS: {why}"))
}

fn certificate_failure(store: &str, error: &CertificateError) -> String {
    match error {
        // The second is of a CA with the name of one that is known, such as one that was made anew.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("its certificate is of no CA in {store}.ca, or of the system where that is empty")
        }
        CertificateError::ExpiredContext { not_after, .. } => {
            let seconds = i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX);
            let expired = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
            format!("its certificate expired at {expired}")
        }
        CertificateError::Other(other) if is_ca(&*other.0) => format!(
            "its certificate is marked as a CA's, as `openssl req -x509` and Debian's snakeoil make them: make a CA, with it \
             a certificate for the server, and name the CA in {store}.ca"
        ),
        other => other.to_string(),
    }
}

fn is_ca(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// The error of TLS within another one. What an [`io::Error`] or an [`Arc`] holds is not its `source`.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    if let Some(held) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return cause(held);
    }
    if let Some(held) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return cause(&**held);
    }
    cause(error.source()?)
}

fn roots_of_system(key: &'static str) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TlsError::new(key, "must name a file of CAs: this system has none"));
    }
    Ok(roots)
}

fn is_set(path: impl AsRef<Path>) -> bool {
    !path.as_ref().as_os_str().is_empty()
}

/// At the start, and once: nothing waits for it.
fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::new(key, format!("cannot be read: {}: {error}", path.display())))
}
