//! Certificates of stores, of CAs of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// Where a store listens, by both its names.
const HERE: [&str; 2] = ["127.0.0.1", "localhost"];

/// A CA, with which certificates are made.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Pair {
    cert: String,
    key: String,
}

impl Ca {
    pub fn new() -> Ca {
        Ca::named("CA of a test")
    }

    /// One of this name, and with a key of its own whatever others have it.
    pub fn named(name: &str) -> Ca {
        Ca::made(name, |_| {})
    }

    /// One that is valid itself from one day to another.
    pub fn between(from: Timestamp, until: Timestamp) -> Ca {
        Ca::made("CA of some days", |params| limit(params, from, until))
    }

    fn made(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, as a file of this folder.
    pub fn file(&self, folder: &Path) -> String {
        path(write(folder, "ca.pem", &self.0.pem()))
    }

    /// Of a store on this machine.
    pub fn store(&self) -> Pair {
        self.issue(&HERE, |_| {})
    }

    /// Of a store that has this name, and no other.
    pub fn store_named(&self, name: &str) -> Pair {
        self.issue(&[name], |_| {})
    }

    /// That was valid before this century's third decade.
    pub fn expired(&self) -> Pair {
        self.issue(&HERE, |params| {
            params.not_before = date_time_ymd(2010, 1, 1);
            params.not_after = date_time_ymd(2019, 12, 31);
        })
    }

    /// That is valid from one day to another.
    pub fn valid(&self, from: Timestamp, until: Timestamp) -> Pair {
        self.issue(&HERE, |params| limit(params, from, until))
    }

    /// Marked as a CA's, as what `openssl req -x509` makes.
    pub fn ca_as_store(&self) -> Pair {
        self.issue(&HERE, |params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))
    }

    /// Of a client.
    pub fn client(&self) -> Pair {
        self.issue(&["waybill"], |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// What a store with this certificate does, which asks its clients for one of this CA.
    pub fn asking(&self, store: &Pair) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_client_cert_verifier(verifier.build().unwrap());
        Arc::new(builder.with_single_cert(store.chain(), store.private_key()).unwrap())
    }

    fn issue(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Pair {
            cert: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Pair {
    /// What a store with this certificate does.
    pub fn config(&self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(self.chain(), self.private_key()).unwrap())
    }

    /// The certificate and the key, as files of this folder.
    pub fn files(&self, folder: &Path) -> (String, String) {
        let cert = write(folder, "client.pem", &self.cert);
        (path(cert), path(write(folder, "client.key", &self.key)))
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()]
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// From one day to another.
fn limit(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let day = |at: Timestamp| {
        let date = at.to_zoned(TimeZone::UTC).date();
        let part = |part: i8| u8::try_from(part).unwrap();
        date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    (params.not_before, params.not_after) = (day(from), day(until));
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn write(folder: &Path, name: &str, pem: &str) -> PathBuf {
    let file = folder.join(format!("{}-{name}", uuid::Uuid::now_v7().simple()));
    fs::write(&file, pem).unwrap();
    file
}

fn path(file: PathBuf) -> String {
    file.into_os_string().into_string().unwrap()
}
