//! TLS of the listeners: who is served, who is not, and how a certificate is replaced.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::ready;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::interval;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::IntervalStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity};
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_server::grpc::edge::{ConnectionLimits, Proxies, network};
use waybill_server::metrics::{Metrics, TlsMetrics};
use waybill_server::tls::{ServerTls, TlsError, TlsFiles};
use waybill_server::{http, reload};

use crate::certificates::{Ca, Pair};
use crate::raw::{PING, RawClient, SETTINGS, frame};
use crate::rig::{Rig, Settings, report, until};

/// So often that a test does not wait.
const FILES_READ_EVERY: Duration = Duration::from_millis(5);

/// A server whose certificate lies in a folder.
struct TlsRig {
    rig: Rig,
    folder: TempDir,
    counted: TlsMetrics,
    _stop: tokio_util::sync::DropGuard,
}

impl TlsRig {
    async fn start(pair: &Pair) -> TlsRig {
        TlsRig::with(pair, None, Settings::default()).await
    }

    async fn with(pair: &Pair, client_ca: Option<&Ca>, settings: Settings) -> TlsRig {
        let folder = TempDir::new().unwrap();
        let files = files(&folder, client_ca.is_some());
        if let (Some(path), Some(ca)) = (&files.client_ca, client_ca) {
            fs::write(path, ca.pem()).unwrap();
        }
        write(&folder, pair);
        let counted = Metrics::new(&[]).tls;
        let tls = ServerTls::load(files, counted.clone()).await.unwrap();
        let stop = CancellationToken::new();
        TaskTracker::new().spawn(reload::follow(tls.clone(), FILES_READ_EVERY, stop.clone()));
        let settings = Settings {
            tls: Some(tls),
            ..settings
        };
        TlsRig {
            rig: Rig::with(settings).await,
            folder,
            counted,
            _stop: stop.drop_guard(),
        }
    }

    fn endpoint(&self, tls: ClientTlsConfig) -> Endpoint {
        Endpoint::from_shared(format!("https://{}", self.rig.address))
            .unwrap()
            .tls_config(tls)
            .unwrap()
    }

    async fn connect(&self, cas: &[&Ca]) -> Result<Channel, Error> {
        self.endpoint(trusting(cas)).connect().await
    }

    /// Whether a peer that trusts this CA and shows this certificate is served.
    async fn serves(&self, ca: &Ca, identity: Option<Pair>) -> bool {
        let mut tls = trusting(&[ca]);
        if let Some(pair) = identity {
            tls = tls.identity(Identity::from_pem(pair.cert, pair.key));
        }
        // Within TLS 1.3 a client learns of the refusal with its first call.
        match self.endpoint(tls).connect().await {
            Ok(channel) => call(channel).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Writes the files, and waits until they were read and refused.
    async fn until_refused(&self, pair: &Pair) {
        let refused = || {
            let counted = serde_json::to_value(&self.counted).unwrap();
            counted["certificates"]["refused"].as_u64().unwrap_or_default()
        };
        let before = refused();
        write(&self.folder, pair);
        until(|| refused() > before, || "it is not refused".to_owned()).await;
    }

    /// Waits until a client that trusts this CA alone is served.
    async fn until_taken(&self, ca: &Ca) {
        while self.connect(&[ca]).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

fn files(folder: &TempDir, has_client_ca: bool) -> TlsFiles {
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    TlsFiles {
        cert: path("cert.pem"),
        key: path("key.pem"),
        client_ca: has_client_ca.then(|| path("ca.pem")),
    }
}

fn write(folder: &TempDir, pair: &Pair) {
    fs::write(folder.path().join("key.pem"), &pair.key).unwrap();
    fs::write(folder.path().join("cert.pem"), &pair.cert).unwrap();
}

fn trusting(cas: &[&Ca]) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificates(cas.iter().map(|ca| Certificate::from_pem(ca.pem())))
}

/// A stream to this server, of a client that trusts this CA and speaks this protocol.
async fn tls_stream(server: SocketAddr, ca: &Ca, protocol: &str) -> TlsStream<TcpStream> {
    tls_over(TcpStream::connect(server).await.unwrap(), ca, protocol).await
}

/// The same over a connection that is there.
async fn tls_over(stream: TcpStream, ca: &Ca, protocol: &str) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.unwrap()
}

async fn call(channel: Channel) -> Result<(), tonic::Status> {
    let mut client = LocationServiceClient::new(channel);
    client.report_locations(report("")).await.map(drop)
}

#[tokio::test]
async fn a_client_that_trusts_the_ca_is_served_and_others_are_not() {
    let (ca, other) = (Ca::new(), Ca::new());
    let rig = TlsRig::start(&ca.server()).await;
    call(rig.connect(&[&ca]).await.unwrap()).await.unwrap();
    // Whom it does not trust, it does not speak to.
    rig.connect(&[&other]).await.unwrap_err();
    let wrong_name = trusting(&[&ca]).domain_name("waybill.example");
    rig.endpoint(wrong_name).connect().await.unwrap_err();
    // Without TLS there is no answer, and no harm.
    let plain = Endpoint::from_shared(format!("http://{}", rig.rig.address)).unwrap();
    let answer = match plain.connect().await {
        Ok(channel) => call(channel).await.map_err(drop),
        Err(_) => Err(()),
    };
    answer.unwrap_err();
    call(rig.connect(&[&ca]).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn peers_that_do_not_finish_the_handshake_hold_up_no_other_and_are_closed() {
    let ca = Ca::new();
    let limits = ConnectionLimits {
        handshake_time_max: Duration::from_millis(500),
        ..ConnectionLimits::default()
    };
    let settings = Settings {
        connections: limits,
        ..Settings::default()
    };
    let rig = TlsRig::with(&ca.server(), None, settings).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(RawClient::silent(rig.rig.address).await);
    }
    call(rig.connect(&[&ca]).await.unwrap()).await.unwrap();
    for mut peer in silent {
        peer.until_closed().await;
    }
    call(rig.connect(&[&ca]).await.unwrap()).await.unwrap();
}

/// A balancer of TCP knows nothing of what is within TLS: it says whose the connection is before it.
#[tokio::test]
async fn the_proxy_protocol_comes_before_tls() {
    let ca = Ca::new();
    let settings = Settings {
        proxies: Proxies {
            trusted: vec![network("127.0.0.1").unwrap()],
            header: None,
        },
        proxy_protocol: true,
        connections: ConnectionLimits {
            connections_per_address_max: 1,
            ..ConnectionLimits::default()
        },
        ..Settings::default()
    };
    let rig = TlsRig::with(&ca.server(), None, settings).await;
    let connect = async |header: &[u8]| {
        let mut stream = TcpStream::connect(rig.rig.address).await.unwrap();
        stream.write_all(header).await.unwrap();
        RawClient::begin(tls_over(stream, &ca, "h2").await).await
    };
    let mut of_one = connect(b"PROXY TCP6 2001:db8::7 fd00::1 4711 7200\r\n").await;
    let mut of_another = connect(b"PROXY TCP4 192.0.2.60 10.0.0.1 4711 7200\r\n").await;
    for client in [&mut of_one, &mut of_another] {
        client.until(|frame| frame.kind == SETTINGS).await;
    }
    // Without it, though within TLS.
    rig.connect(&[&ca]).await.unwrap_err();
    let counted = rig.rig.metrics.snapshot().ingress;
    assert_eq!((counted.connections_open, counted.connections_without_header), (2, 1));
}

/// The frames are counted within TLS.
#[tokio::test]
async fn a_ping_flood_within_tls_closes_its_connection() {
    let ca = Ca::new();
    let rig = TlsRig::start(&ca.server()).await;
    let stream = tls_stream(rig.rig.address, &ca, "h2").await;
    let mut flood = RawClient::begin(stream).await;
    flood.send_bytes(&frame(PING, 0, 0, b"waybill!").repeat(1_500)).await;
    flood.until_closed().await;
    let abusive = || rig.rig.metrics.snapshot().ingress.connections_abusive;
    until(|| abusive() == 1, || format!("{} are", abusive())).await;
}

#[tokio::test]
async fn with_a_client_ca_a_peer_without_a_certificate_of_it_is_not_served() {
    let (ca, clients, other) = (Ca::new(), Ca::new(), Ca::new());
    let rig = TlsRig::with(&ca.server(), Some(&clients), Settings::default()).await;
    let serves = async |identity: Option<Pair>| rig.serves(&ca, identity).await;
    assert!(serves(Some(clients.client())).await);
    assert!(!serves(None).await, "without a certificate");
    assert!(!serves(Some(other.client())).await, "with one of another CA");
    assert!(!serves(Some(clients.server())).await, "with one of a server");
    assert!(serves(Some(clients.client())).await);
}

/// A CA is trusted by its name and key alone, as `waybill doctor` says: an operator takes an old one out of the file.
#[tokio::test]
async fn a_peer_of_a_client_ca_that_has_expired_itself_is_served() {
    let (ca, old) = (Ca::new(), Ca::expired_itself());
    let rig = TlsRig::with(&ca.server(), Some(&old), Settings::default()).await;
    assert!(rig.serves(&ca, Some(old.client())).await);
    assert!(!rig.serves(&ca, Some(old.expired())).await);
}

/// The payment provider has no certificate of the peers' CA.
#[tokio::test]
async fn webhooks_are_received_from_peers_without_a_certificate() {
    let (ca, clients) = (Ca::new(), Ca::new());
    let rig = TlsRig::with(&ca.server(), Some(&clients), Settings::default()).await;
    let tls = ServerTls::load(files(&rig.folder, true), Metrics::new(&[]).tls)
        .await
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = http::serve(listener, axum::Router::new(), Some(tls), std::future::pending());
    TaskTracker::new().spawn(served);
    let mut stream = tls_stream(address, &ca, "http/1.1").await;
    stream
        .write_all(b"GET /nothing HTTP/1.1\r\nhost: waybill\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
}

#[tokio::test]
async fn a_certificate_without_an_end_is_taken() {
    let ca = Ca::new();
    let rig = TlsRig::start(&ca.endless()).await;
    call(rig.connect(&[&ca]).await.unwrap()).await.unwrap();
}

/// X5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_twenty_times_under_calls_of_which_none_fails() {
    let cas: Vec<Ca> = (0..21).map(|_| Ca::new()).collect();
    let all: Vec<&Ca> = cas.iter().collect();
    let rig = TlsRig::start(&cas[0].server()).await;
    let (made, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let kept = rig.connect(&all).await.unwrap();
    // Two hundred a second, whether or not those before are answered; every tenth on a connection of its own.
    let due = IntervalStream::new(interval(Duration::from_millis(5)));
    let due = due.take_while(|_| ready(!is_over.load(Ordering::Relaxed))).enumerate();
    let calls = due.for_each_concurrent(None, async |(number, _)| {
        let channel = if number % 10 == 0 {
            rig.connect(&all).await.unwrap()
        } else {
            kept.clone()
        };
        call(channel).await.unwrap();
        made.fetch_add(1, Ordering::Relaxed);
    });
    let replace = async {
        for ca in &cas[1..] {
            let before = made.load(Ordering::Relaxed);
            write(&rig.folder, &ca.server());
            rig.until_taken(ca).await;
            until(|| made.load(Ordering::Relaxed) >= before + 20, || "no calls".to_owned()).await;
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(calls, replace);
    rig.connect(&[&cas[0]]).await.unwrap_err();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_not_taken() {
    let ca = Ca::new();
    let good = ca.server();
    let rig = TlsRig::start(&good).await;
    let cut_off = &good.cert[..good.cert.len() / 2];
    let bad = [
        ("of another key", ca.server().cert, good.key.clone()),
        ("cut off", cut_off.to_owned(), good.key.clone()),
        ("empty", String::new(), good.key.clone()),
        ("key empty", good.cert.clone(), String::new()),
        ("no PEM", "certificate".to_owned(), good.key.clone()),
    ];
    let (expired, client, ca_as_server) = (ca.expired(), ca.client(), ca.ca_as_server());
    let whole = [("expired", expired), ("for clients", client), ("a CA's", ca_as_server)];
    let bad = bad.map(|(what, cert, key)| (what, Pair { cert, key }));
    for (what, pair) in bad.into_iter().chain(whole) {
        rig.until_refused(&pair).await;
        let channel = rig.connect(&[&ca]).await;
        call(channel.unwrap_or_else(|error| panic!("{what}: {error}")))
            .await
            .unwrap();
        // What is refused is reported once; a good one comes in between.
        write(&rig.folder, &good);
        rig.until_taken(&ca).await;
    }
    // A good one of another CA is.
    let next = Ca::new();
    write(&rig.folder, &next.server());
    rig.until_taken(&next).await;
}

#[tokio::test]
async fn what_is_wrong_with_the_files_is_said_with_the_setting() {
    let ca = Ca::new();
    let good = ca.server();
    let loaded = async |pair: Pair, client_ca: Option<&str>| -> TlsError {
        let folder = TempDir::new().unwrap();
        write(&folder, &pair);
        let files = files(&folder, client_ca.is_some());
        if let (Some(path), Some(text)) = (&files.client_ca, client_ca) {
            fs::write(path, text).unwrap();
        }
        ServerTls::load(files, Metrics::new(&[]).tls).await.unwrap_err()
    };
    let pair = |cert: &str, key: &str| Pair {
        cert: cert.to_owned(),
        key: key.to_owned(),
    };
    let error = loaded(pair(&ca.server().cert, &good.key), None).await;
    assert_eq!(error.key, "tls.key", "{error}");
    assert!(error.why.contains("is not the key of tls.cert"), "{error}");
    let error = loaded(pair(&good.cert, "-----BEGIN"), None).await;
    assert_eq!(error.key, "tls.key", "{error}");
    let error = loaded(pair("", &good.key), None).await;
    assert_eq!(error.key, "tls.cert", "{error}");
    let error = loaded(ca.ca_as_server(), None).await;
    assert_eq!(error.key, "tls.cert", "{error}");
    assert!(error.why.contains("of a CA and not of a server"), "{error}");
    let error = loaded(pair(&good.cert, &good.key), Some("no CA")).await;
    assert_eq!(error.key, "tls.client_ca", "{error}");
    let missing = files(&TempDir::new().unwrap(), false);
    let error = ServerTls::load(missing, Metrics::new(&[]).tls).await.unwrap_err();
    assert_eq!(error.key, "tls.cert", "{error}");
    assert!(error.why.contains("cannot be read"), "{error}");
}
