//! What a client and a server see through the proxy, in each mode.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use waybill_sandbox::Postgres;
use waybill_sandbox::proxy::{FaultProxy, Mode, Traffic};

use crate::rig::{DEADLINE, folder, server_settings, sql, until};

/// A server that sends back what it receives and counts the bytes.
struct Echo {
    addr: SocketAddr,
    received: Arc<AtomicUsize>,
}

impl Echo {
    async fn start() -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let received = Arc::<AtomicUsize>::default();
        let (tasks, counter) = (TaskTracker::new(), received.clone());
        tasks.clone().spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let counter = counter.clone();
                tasks.spawn(async move {
                    let mut buffer = [0; 1024];
                    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                        counter.fetch_add(count, Ordering::SeqCst);
                        if stream.write_all(&buffer[..count]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Echo { addr, received }
    }

    fn received(&self) -> usize {
        self.received.load(Ordering::SeqCst)
    }
}

/// An echo server and a proxy before it.
async fn start() -> (Echo, FaultProxy) {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.addr).unwrap();
    (echo, proxy)
}

async fn dial(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(proxy.addr()).await.unwrap()
}

/// A connection that has carried one byte each way.
async fn dial_and_use(proxy: &FaultProxy) -> TcpStream {
    let mut stream = dial(proxy).await;
    send(&mut stream, "a").await;
    receive(&mut stream, 1).await;
    stream
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn receive(stream: &mut TcpStream, count: usize) -> String {
    let mut bytes = vec![0; count];
    timeout(DEADLINE, stream.read_exact(&mut bytes))
        .await
        .expect("an answer")
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The rest of the stream, or how it broke.
async fn receive_end(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut text = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut text))
        .await
        .expect("an end")
        .map(|_| text)
}

#[tokio::test]
async fn passing_forwards_both_ways_and_counts() {
    let (_echo, proxy) = start().await;
    let mut client = dial(&proxy).await;
    send(&mut client, "hello").await;
    assert_eq!(receive(&mut client, 5).await, "hello");

    client.shutdown().await.unwrap();
    assert_eq!(
        receive_end(&mut client).await.unwrap(),
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
    let (_echo, proxy) = start().await;
    let (requests, replies) = (Duration::from_millis(30), Duration::from_millis(70));
    proxy.set_mode(Mode::Latency { requests, replies });
    let mut client = dial(&proxy).await;
    let before = Instant::now();
    send(&mut client, "hello").await;
    assert_eq!(receive(&mut client, 5).await, "hello");
    assert!(
        before.elapsed() >= requests + replies,
        "a lower bound, which no slow machine can break"
    );
}

#[tokio::test]
async fn a_blackhole_accepts_and_answers_nothing_until_it_ends() {
    let (echo, proxy) = start().await;
    let mut old = dial_and_use(&proxy).await;

    proxy.set_mode(Mode::Blackhole);
    let mut new = dial(&proxy).await;
    send(&mut old, "old").await;
    send(&mut new, "new").await;
    until("both are accepted", async || proxy.traffic().connections == 2).await;
    // Silence can only be observed for a while. A slow machine cannot fail this; a message would come sooner.
    assert!(timeout(Duration::from_millis(100), old.read_u8()).await.is_err());
    assert!(timeout(Duration::from_millis(100), new.read_u8()).await.is_err());
    assert_eq!(echo.received(), 1);

    proxy.set_mode(Mode::Pass);
    assert_eq!(
        (receive(&mut old, 3).await, receive(&mut new, 3).await),
        ("old".to_owned(), "new".to_owned())
    );
}

#[tokio::test]
async fn refusing_is_as_if_nothing_listened_and_ends_at_the_same_address() {
    let (_echo, proxy) = start().await;
    let mut open = dial_and_use(&proxy).await;

    proxy.set_mode(Mode::Refuse);
    assert_eq!(
        receive_end(&mut open).await.unwrap_or_default(),
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
    send(&mut client, "b").await;
    assert_eq!(receive(&mut client, 1).await, "b");
}

/// A process that is being started has this one's sockets until it becomes another program, and with them the port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusing_ends_also_while_processes_are_started() {
    let (_echo, proxy) = start().await;
    let is_over = Arc::new(AtomicBool::new(false));
    let starters: Vec<_> = (0..4)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                // With a user, as the servers of a test are started: by fork and exec.
                let user = nix::unistd::getuid().as_raw();
                while !is_over.load(Ordering::Relaxed) {
                    let ended = std::process::Command::new("true").uid(user).status().unwrap();
                    assert!(ended.success());
                }
            })
        })
        .collect();
    for round in 0..300 {
        proxy.set_mode(Mode::Refuse);
        until("it refuses", async || TcpStream::connect(proxy.addr()).await.is_err()).await;
        proxy.set_mode(Mode::Pass);
        until(&format!("it serves again, round {round}"), async || {
            TcpStream::connect(proxy.addr()).await.is_ok()
        })
        .await;
    }
    is_over.store(true, Ordering::Relaxed);
    for starter in starters {
        starter.join().unwrap();
    }
}

#[tokio::test]
async fn a_reset_is_not_an_end_of_stream() {
    let (_echo, proxy) = start().await;
    let mut open = dial_and_use(&proxy).await;

    proxy.set_mode(Mode::Reset);
    assert_eq!(
        receive_end(&mut open).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    let mut new = dial(&proxy).await;
    assert_eq!(
        receive_end(&mut new).await.unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn dropped_replies_leave_requests_delivered() {
    let (echo, proxy) = start().await;
    let mut client = dial_and_use(&proxy).await;
    proxy.set_mode(Mode::DropReplies);

    send(&mut client, "pay").await;
    until("the request is delivered", async || echo.received() == 4).await;
    assert!(
        timeout(Duration::from_millis(100), client.read_u8()).await.is_err(),
        "no reply"
    );
    assert_eq!(proxy.traffic().reply_bytes, 1);

    proxy.set_mode(Mode::Pass);
    assert_eq!(
        receive_end(&mut client).await.unwrap_or_default(),
        "",
        "a stream with a gap is closed"
    );
    let mut next = dial(&proxy).await;
    send(&mut next, "b").await;
    assert_eq!(receive(&mut next, 1).await, "b");
}

#[tokio::test]
async fn a_cut_comes_after_the_exact_number_of_reply_bytes() {
    let (echo, proxy) = start().await;
    let mut client = dial(&proxy).await;
    send(&mut client, "before").await;
    assert_eq!(receive(&mut client, 6).await, "before");
    proxy.set_mode(Mode::CutAfter(3));

    send(&mut client, "hello").await;
    assert_eq!(
        receive_end(&mut client).await.unwrap(),
        "hel",
        "counted from when the mode was set"
    );

    let mut next = dial(&proxy).await;
    send(&mut next, "ab").await;
    assert_eq!(receive(&mut next, 2).await, "ab");
    send(&mut next, "cd").await;
    assert_eq!(
        receive_end(&mut next).await.unwrap(),
        "c",
        "each connection counts for itself"
    );
    assert_eq!(echo.received(), 15, "the requests went through whole");
}

#[tokio::test]
async fn a_cut_at_a_commit_lets_it_happen_and_the_client_does_not_know() {
    let folder = folder();
    let postgres = Postgres::start(server_settings(folder.path(), false)).await.unwrap();
    let url = postgres.url("postgres");
    let target: SocketAddr = url.split(['@', '/']).nth(3).unwrap().parse().unwrap();
    let proxy = FaultProxy::start(target).unwrap();
    let through = url.replace(&target.to_string(), &proxy.addr().to_string());
    let observer = sql(&url).await;
    observer.batch_execute("create table kept (id int)").await.unwrap();

    let mut writer = sql(&through).await;
    proxy.set_mode(Mode::CutAtCommit);
    let rolled_back = writer.transaction().await.unwrap();
    rolled_back.batch_execute("insert into kept values (1)").await.unwrap();
    rolled_back.rollback().await.expect("a rollback goes through");
    let committed = writer.transaction().await.unwrap();
    committed.execute("insert into kept values (2)", &[]).await.unwrap();
    let error = committed.commit().await.unwrap_err();

    assert!(error.is_closed(), "{error:?}");
    let rows = observer.query("select id from kept", &[]).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), [2]);
    assert_eq!(proxy.traffic().cuts, 1);

    proxy.set_mode(Mode::Pass);
    let mut writer = sql(&through).await;
    writer.transaction().await.unwrap().commit().await.unwrap();
}

#[tokio::test]
async fn stopping_closes_open_connections() {
    let (_echo, proxy) = start().await;
    let addr = proxy.addr();
    let mut client = dial_and_use(&proxy).await;

    proxy.stop().await;

    assert_eq!(receive_end(&mut client).await.unwrap_or_default(), "");
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn much_data_goes_through_whole() {
    let (_echo, proxy) = start().await;
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
