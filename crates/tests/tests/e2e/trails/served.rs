//! Tiles over HTTP, as a web map asks for them.

use std::net::SocketAddr;

use testkit::wire::http;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use waybill_server::trails::http::router;

use super::City;
use super::city::{noon, street};

/// The tile of the street, and one beside it that no one passed.
const STREET: &str = "15/5241/12665.png";
const NOWHERE: &str = "15/5241/12660.png";

/// A listener with nothing but the tiles on it.
struct Server {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(city: &City) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(city.trails(7));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let never = std::future::pending();
            waybill_server::http::serve(listener, router, None, never)
                .await
                .unwrap();
        });
        Server { address, _task: task }
    }

    async fn get(&self, path: &str, known: Option<&str>) -> reqwest::Response {
        let mut request = http().get(format!("http://{}/trails/{path}", self.address));
        if let Some(known) = known {
            request = request.header("if-none-match", known);
        }
        request.send().await.expect("an answer")
    }

    async fn bytes(&self, path: &str) -> Vec<u8> {
        let answer = self.get(path, None).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.bytes().await.expect("a picture").to_vec()
    }
}

fn header(response: &reqwest::Response, name: &str) -> String {
    let value = response.headers().get(name).map(|value| value.to_str().unwrap());
    value.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_street_is_seen_once_two_drivers_passed_it() {
    let city = City::start().await;
    city.store(&street("cab-1", noon(0))).await;
    city.store(&street("cab-1", noon(1))).await;
    city.draw().await;
    let server = Server::start(&city).await;
    let (one, none) = (server.bytes(STREET).await, server.bytes(NOWHERE).await);
    // One driver on two days is still one driver; what it drew is not even in the bytes.
    assert_eq!(one, none);

    city.store(&street("cab-2", noon(1))).await;
    city.draw().await;
    // Another server: this one keeps for some seconds what it made.
    let server = Server::start(&city).await;
    for path in [STREET, "14/2620/6332.png", "10/163/395.png"] {
        assert_ne!(server.bytes(path).await, none, "{path}");
    }
    assert_eq!(server.bytes(NOWHERE).await, none);
}

#[tokio::test]
async fn a_browser_that_has_the_tile_is_not_sent_it_again() {
    let city = City::start().await;
    let server = Server::start(&city).await;
    let first = server.get(STREET, None).await;
    assert_eq!(header(&first, "content-type"), "image/png");
    assert_eq!(header(&first, "cache-control"), "public, max-age=60");
    let etag = header(&first, "etag");
    for (known, status) in [
        (etag.clone(), 304),
        (format!("\"other\", W/{etag}"), 304),
        ("\"other\"".to_owned(), 200),
        ("*".to_owned(), 200),
    ] {
        let answer = server.get(STREET, Some(&known)).await;
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "etag")),
            (status, etag.clone()),
            "{known}"
        );
        assert_eq!(answer.bytes().await.unwrap().is_empty(), status == 304);
    }
}

#[tokio::test]
async fn what_is_no_tile_is_not_found() {
    let city = City::start().await;
    let server = Server::start(&city).await;
    for path in [
        "9/0/0.png",
        "16/0/0.png",
        "15/32768/0.png",
        "15/0/32768.png",
        "15/0/0",
        "15/0/0.jpg",
        "15/-1/0.png",
        "15/0/0.png/0",
        "15/0",
        "",
    ] {
        assert_eq!(server.get(path, None).await.status(), 404, "{path}");
    }
}

#[tokio::test]
async fn without_postgres_there_is_no_tile_for_now() {
    let city = City::start().await;
    let server = Server::start(&city).await;
    city.rig.execute("alter table trails rename to gone").await;
    assert_eq!(server.get(STREET, None).await.status(), 503);
    city.rig.execute("alter table gone rename to trails").await;
    assert_eq!(server.get(STREET, None).await.status(), 200);
}
