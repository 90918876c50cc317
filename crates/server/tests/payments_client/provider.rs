//! A provider on a port of its own, which reacts to each request as a script says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::rig::{ORDER, patient};

/// What the provider does with a request that it has read to the end.
#[derive(Debug, Clone)]
pub enum Reaction {
    Answer(u16, String),
    /// Never answers.
    Hang,
    /// Closes the connection.
    Close,
    /// A status and a header line, no body.
    Redirect(String),
    /// A good answer behind which so many bytes of white space follow, as fast as they go.
    Big(usize),
    /// A body of which a byte comes every now and then.
    Drip,
}

#[derive(Debug, Clone)]
pub struct Seen {
    pub line: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

type Script = dyn Fn(usize, &Seen) -> Reaction + Send + Sync;

/// A provider on a port of its own; the script gets the number of the request, from 0.
pub struct Provider {
    pub url: String,
    state: Arc<ProviderState>,
}

struct ProviderState {
    script: Box<Script>,
    connections: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    arrived: Notify,
    tasks: TaskTracker,
}

impl Provider {
    pub async fn start(script: impl Fn(usize, &Seen) -> Reaction + Send + Sync + 'static) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(ProviderState {
            script: Box::new(script),
            connections: AtomicUsize::new(0),
            seen: Mutex::default(),
            arrived: Notify::new(),
            tasks: TaskTracker::new(),
        });
        let accepting = Arc::clone(&state);
        state.tasks.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                accepting.tasks.spawn(Arc::clone(&accepting).serve(socket));
            }
        });
        Provider { url, state }
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Until so many requests have arrived.
    pub async fn until_seen(&self, count: usize) {
        patient()
            .bound(async {
                while self.seen().len() < count {
                    self.state.arrived.notified().await;
                }
            })
            .await
            .unwrap_or_else(|_| panic!("{} of {count} requests arrived", self.seen().len()));
    }
}

impl ProviderState {
    async fn serve(self: Arc<Self>, mut socket: TcpStream) {
        while let Some(seen) = read_request(&mut socket).await {
            let number = {
                let mut all = self.seen.lock().unwrap();
                all.push(seen.clone());
                all.len() - 1
            };
            self.arrived.notify_one();
            if respond(&mut socket, (self.script)(number, &seen)).await.is_none() {
                return;
            }
        }
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_len].to_vec()).ok()?;
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let body_len: usize = headers.get("content-length").map_or(0, |len| len.parse().unwrap());
    while bytes.len() < head_len + body_len {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(bytes[head_len..].to_vec()).ok()?;
    Some(Seen { line, headers, body })
}

/// `None` if the connection is not to be used again.
async fn respond(socket: &mut TcpStream, reaction: Reaction) -> Option<()> {
    match reaction {
        Reaction::Answer(status, body) => {
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
            socket.write_all((head + &body).as_bytes()).await.ok()
        }
        Reaction::Redirect(to) => {
            let head = format!("HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            socket.write_all(head.as_bytes()).await.ok()
        }
        Reaction::Big(len) => {
            let good = object("pi_1", "succeeded");
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{good}", good.len() + len);
            socket.write_all(head.as_bytes()).await.ok()?;
            let block = vec![b' '; 64 * 1024];
            for _ in 0..len / block.len() {
                socket.write_all(&block).await.ok()?;
            }
            None
        }
        Reaction::Drip => {
            socket
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
                .await
                .ok()?;
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            loop {
                tick.tick().await;
                socket.write_all(b" ").await.ok()?;
            }
        }
        // Holds the socket until the client has enough.
        Reaction::Hang => {
            let _ = socket.read(&mut [0; 1]).await;
            None
        }
        Reaction::Close => None,
    }
}

pub fn object(id: &str, status: &str) -> String {
    format!(r#"{{"id":"{id}","status":"{status}","amount":1250,"currency":"eur","metadata":{{"order_id":"{ORDER}"}}}}"#)
}

pub fn succeeded() -> Reaction {
    Reaction::Answer(200, object("pi_1", "succeeded"))
}

pub fn refusal(status: u16, kind: &str, code: &str) -> Reaction {
    let body = format!(r#"{{"error":{{"type":"{kind}","code":"{code}","message":"Text of the provider."}}}}"#);
    Reaction::Answer(status, body)
}
