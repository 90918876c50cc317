//! Clients who come and go: each connects, makes a TLS handshake in full, and leaves without a call.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_rustls::TlsConnector;

/// How many in a second.
pub const PER_SECOND: u32 = 200;

/// Those of one server.
pub struct Handshakes {
    address: String,
    connector: TlsConnector,
}

impl Handshakes {
    /// With the server at `address`, which shows this certificate.
    pub fn with(address: &str, certificate: &str) -> Handshakes {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
        roots.add(certificate.unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = config.with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A client that was here before would make half of a handshake.
        config.resumption = Resumption::disabled();
        Handshakes {
            address: address.to_owned(),
            connector: Arc::new(config).into(),
        }
    }

    /// Makes them for so long, each when it is due, however long those before it take.
    pub async fn run(&self, time: Duration) {
        let began_at = Instant::now();
        let mut due = interval(Duration::from_secs(1) / PER_SECOND);
        let mut clients = JoinSet::new();
        while began_at.elapsed() < time {
            due.tick().await;
            let (address, connector) = (self.address.clone(), self.connector.clone());
            clients.spawn(async move {
                let stream = TcpStream::connect(&address).await.unwrap();
                let name = ServerName::try_from("localhost").unwrap();
                connector.connect(name, stream).await.unwrap();
            });
        }
        clients.join_all().await;
    }
}
