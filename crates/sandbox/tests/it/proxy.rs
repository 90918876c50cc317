//! What a client and a server meet through the proxy, in each mode.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_postgres::NoTls;
use tokio_util::task::TaskTracker;
use waybill_sandbox::proxy::{FaultProxy, Mode, Traffic};
use waybill_sandbox::{Postgres, ServerSettings};

use crate::rig::{DEADLINE, folder, until};

/// Sends back what it gets, and counts it, so that one sees what reached it.
struct Echo {
    addr: SocketAddr,
    heard: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Echo {
    async fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let heard = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        let (tasks, counter) = (TaskTracker::new(), heard.clone());
        tasks.clone().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counter = counter.clone();
                tasks.spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        counter.fetch_add(count, std::sync::atomic::Ordering::SeqCst);
                        if stream.write_all(&buffer[..count]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Echo { addr, heard }
    }

    fn heard(&self) -> usize {
        self.heard.load(std::sync::atomic::Ordering::SeqCst)
    }
}

async fn dial(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(proxy.addr()).await.unwrap()
}

async fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn hear(stream: &mut TcpStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    timeout(DEADLINE, stream.read_exact(&mut bytes))
        .await
        .expect("an answer")
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What is left until the end of the stream, or how it broke.
async fn hear_end(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut text = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut text))
        .await
        .expect("an end")
        .map(|_| text)
}

#[tokio::test]
async fn passing_forwards_both_ways_and_counts() {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let mut client = dial(&proxy).await;
    say(&mut client, "hello").await;
    assert_eq!(hear(&mut client, 5).await, "hello");

    client.shutdown().await.unwrap();
    assert_eq!(
        hear_end(&mut client).await.unwrap(),
        "",
        "the end of one side reaches the other, and comes back"
    );
    assert_eq!(
        proxy.traffic(),
        Traffic {
            connections: 1,
            request_bytes: 5,
            reply_bytes: 5,
            cuts: 0
        }
    );
    proxy.stop().await;
}

#[tokio::test]
async fn latency_delays_each_byte_once() {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let (requests, replies) = (Duration::from_millis(30), Duration::from_millis(70));
    proxy.set_mode(Mode::Latency { requests, replies });
    let mut client = dial(&proxy).await;
    let before = Instant::now();
    say(&mut client, "hello").await;
    assert_eq!(hear(&mut client, 5).await, "hello");
    assert!(
        before.elapsed() >= requests + replies,
        "a lower bound, which no slow machine can break"
    );
}

#[tokio::test]
async fn a_blackhole_accepts_and_says_nothing_until_it_ends() {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let mut old = dial(&proxy).await;
    say(&mut old, "a").await;
    hear(&mut old, 1).await;

    proxy.set_mode(Mode::Blackhole);
    let mut new = dial(&proxy).await;
    say(&mut old, "old").await;
    say(&mut new, "new").await;
    until("both are accepted", async || proxy.traffic().connections == 2).await;
    // Silence can only be looked at for a while; it is too short to hide a message, not too short to be flaky.
    assert!(timeout(Duration::from_millis(100), old.read_u8()).await.is_err());
    assert!(timeout(Duration::from_millis(100), new.read_u8()).await.is_err());
    assert_eq!(echo.heard(), 1);

    proxy.set_mode(Mode::Pass);
    assert_eq!(
        (hear(&mut old, 3).await, hear(&mut new, 3).await),
        ("old".to_owned(), "new".to_owned())
    );
}

#[tokio::test]
async fn refusing_is_as_if_nobody_listened_and_ends_at_the_same_address() {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let mut open = dial(&proxy).await;
    say(&mut open, "a").await;
    hear(&mut open, 1).await;

    proxy.set_mode(Mode::Refuse);
    assert_eq!(
        hear_end(&mut open).await.unwrap_or_default(),
        "",
        "open connections end"
    );
    until("new ones are refused", async || {
        TcpStream::connect(proxy.addr())
            .await
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    })
    .await;
    assert!(TcpListener::bind(proxy.addr()).await.is_err(), "the port stays ours");

    proxy.set_mode(Mode::Pass);
    until("it listens again", async || {
        TcpStream::connect(proxy.addr()).await.is_ok()
    })
    .await;
    let mut client = dial(&proxy).await;
    say(&mut client, "b").await;
    assert_eq!(hear(&mut client, 1).await, "b");
}

#[tokio::test]
async fn a_reset_is_not_an_end_of_stream() {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let mut open = dial(&proxy).await;
    say(&mut open, "a").await;
    hear(&mut open, 1).await;

    proxy.set_mode(Mode::Reset);
    assert_eq!(
        hear_end(&mut open).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    let mut new = dial(&proxy).await;
    assert_eq!(hear_end(&mut new).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn dropped_replies_leave_requests_delivered() {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let mut client = dial(&proxy).await;
    say(&mut client, "a").await;
    hear(&mut client, 1).await;
    proxy.set_mode(Mode::DropReplies);

    say(&mut client, "pay").await;
    until("the request is delivered", async || echo.heard() == 4).await;
    assert!(
        timeout(Duration::from_millis(100), client.read_u8()).await.is_err(),
        "no reply"
    );
    assert_eq!(proxy.traffic().reply_bytes, 1);

    proxy.set_mode(Mode::Pass);
    assert_eq!(
        hear_end(&mut client).await.unwrap_or_default(),
        "",
        "a stream with a hole is closed"
    );
    let mut next = dial(&proxy).await;
    say(&mut next, "b").await;
    assert_eq!(hear(&mut next, 1).await, "b");
}

#[tokio::test]
async fn a_cut_comes_after_exactly_so_many_bytes_of_reply() {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let mut client = dial(&proxy).await;
    say(&mut client, "before").await;
    assert_eq!(hear(&mut client, 6).await, "before");
    proxy.set_mode(Mode::CutAfter(3));

    say(&mut client, "hello").await;
    assert_eq!(
        hear_end(&mut client).await.unwrap(),
        "hel",
        "counted from when the mode was set"
    );

    let mut next = dial(&proxy).await;
    say(&mut next, "ab").await;
    assert_eq!(hear(&mut next, 2).await, "ab");
    say(&mut next, "cd").await;
    assert_eq!(
        hear_end(&mut next).await.unwrap(),
        "c",
        "each connection counts for itself"
    );
    assert_eq!(echo.heard(), 15, "the requests went through whole");
}

/// A client of this Postgres past a proxy, or through one.
async fn client(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    TaskTracker::new().spawn(connection);
    client
}

#[tokio::test]
async fn a_cut_at_a_commit_lets_it_happen_and_the_client_does_not_know() {
    let folder = folder();
    let settings = ServerSettings {
        data_dir: folder.path().to_owned(),
        durable: false,
    };
    let postgres = Postgres::start(settings).await.unwrap();
    let url = postgres.url("postgres");
    let target: SocketAddr = url.split(['@', '/']).nth(3).unwrap().parse().unwrap();
    let proxy = FaultProxy::start(target).unwrap();
    let through = url.replace(&target.to_string(), &proxy.addr().to_string());
    let witness = client(&url).await;
    witness.batch_execute("create table kept (id int)").await.unwrap();

    let mut writer = client(&through).await;
    proxy.set_mode(Mode::CutAtCommit);
    let undone = writer.transaction().await.unwrap();
    undone.batch_execute("insert into kept values (1)").await.unwrap();
    undone.rollback().await.expect("a rollback goes through");
    let done = writer.transaction().await.unwrap();
    done.execute("insert into kept values (2)", &[]).await.unwrap();
    let error = done.commit().await.unwrap_err();

    assert!(error.is_closed(), "{error:?}");
    let rows = witness.query("select id from kept", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [2]);
    assert_eq!(proxy.traffic().cuts, 1);

    proxy.set_mode(Mode::Pass);
    let mut writer = client(&through).await;
    writer.transaction().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn stopping_closes_what_is_open() {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.addr).unwrap();
    let addr = proxy.addr();
    let mut client = dial(&proxy).await;
    say(&mut client, "a").await;
    hear(&mut client, 1).await;

    proxy.stop().await;

    assert_eq!(hear_end(&mut client).await.unwrap_or_default(), "");
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn much_data_goes_through_whole() {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.addr).unwrap();
    proxy.set_mode(Mode::Latency {
        requests: Duration::from_millis(1),
        replies: Duration::from_millis(1),
    });
    let sent: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).step_by(4).collect();
    let (mut reader, mut writer) = dial(&proxy).await.into_split();
    let expected = sent.clone();
    let writing = TaskTracker::new().spawn(async move { writer.write_all(&sent).await.map(|()| writer) });
    let mut received = vec![0; expected.len()];
    timeout(DEADLINE, reader.read_exact(&mut received))
        .await
        .expect("all of it")
        .unwrap();
    assert!(received == expected);
    drop(writing.await.unwrap());
}
