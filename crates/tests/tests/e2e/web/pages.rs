//! The pages: what is served where, and how often it is sent.

use reqwest::header::{ACCEPT_ENCODING, IF_NONE_MATCH};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use testkit::Rig;
use testkit::wire::http;

const FILES: [(&str, &str); 9] = [
    ("/", "text/html"),
    ("/t/", "text/html"),
    ("/assets/app.js", "text/javascript"),
    ("/assets/app.css", "text/css"),
    ("/assets/track.js", "text/javascript"),
    ("/assets/track.css", "text/css"),
    ("/assets/shared.js", "text/javascript"),
    ("/assets/favicon.svg", "image/svg+xml"),
    ("/assets/licenses.txt", "text/plain"),
];

async fn get(rig: &Rig, path: &str) -> Response {
    http().get(format!("{}{path}", rig.web())).send().await.unwrap()
}

#[tokio::test]
async fn each_page_is_served_once_and_then_only_asked_about() {
    let rig = Rig::start().await;
    for (path, content_type) in FILES {
        let answer = get(&rig, path).await;
        assert_eq!(answer.status(), 200, "{path}");
        let headers = answer.headers().clone();
        assert!(
            headers["content-type"].to_str().unwrap().starts_with(content_type),
            "{path}"
        );
        assert!(headers.get("content-encoding").is_none());
        assert_eq!(headers["cache-control"], "no-cache");
        let plain = answer.bytes().await.unwrap();

        let again = http().get(format!("{}{path}", rig.web()));
        let again = again.header(IF_NONE_MATCH, &headers["etag"]).send().await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
        assert!(again.bytes().await.unwrap().is_empty());

        let zipped = http().get(format!("{}{path}", rig.web()));
        let zipped = zipped.header(ACCEPT_ENCODING, "br, gzip;q=0.8").send().await.unwrap();
        assert_eq!(zipped.headers()["content-encoding"], "gzip");
        let zipped = zipped.bytes().await.unwrap();
        assert!(zipped.starts_with(&[0x1f, 0x8b]), "{path}");
        if plain.len() > 10_000 {
            assert!(
                zipped.len() < plain.len() / 2,
                "{path}: {} of {}",
                zipped.len(),
                plain.len()
            );
        }
    }
}

#[tokio::test]
async fn a_page_knows_from_which_build_it_is_and_answers_say_so() {
    let rig = Rig::start().await;
    let answer = get(&rig, "/").await;
    let build = answer.headers()["x-waybill-build"].to_str().unwrap().to_owned();
    let page = answer.text().await.unwrap();
    assert!(
        page.contains(&format!("<meta name=\"waybill-build\" content=\"{build}\">")),
        "{page}"
    );
    let call = "/waybill.fleet.v1.FleetService/GetDriver";
    let call = http()
        .post(format!("{}{call}", rig.web()))
        .header("content-type", "application/grpc-web+proto")
        .body(vec![0; 5]);
    assert_eq!(call.send().await.unwrap().headers()["x-waybill-build"], build.as_str());
}

#[tokio::test]
async fn no_page_has_code_or_style_within_it() {
    let rig = Rig::start().await;
    for path in ["/", "/t/", "/nowhere"] {
        let page = get(&rig, path).await.text().await.unwrap();
        for inline in ["<style", "style=", "onclick", "onload", "javascript:"] {
            assert!(!page.contains(inline), "{path}: {inline}");
        }
        let mut scripts = page.split("<script").skip(1).filter_map(|rest| rest.split('>').next());
        assert!(scripts.all(|tag| tag.contains(" src=\"/assets/")), "{page}");
    }
}

#[tokio::test]
async fn pages_learn_of_the_tile_server_and_may_ask_it_alone() {
    let rig = Rig::builder()
        .set("web.tiles", "https://tiles.example.com/{z}/{x}/{y}.png")
        .set("web.tiles_attribution", "Example Maps")
        .start()
        .await;
    let answer = get(&rig, "/config.json").await;
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("img-src 'self' data: https://tiles.example.com;"),
        "{policy}"
    );
    let config: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(config["tiles"], "https://tiles.example.com/{z}/{x}/{y}.png");
    assert_eq!(config["tiles_attribution"], "Example Maps");
}

#[tokio::test]
async fn without_the_console_there_are_calls_and_no_pages() {
    let rig = Rig::builder().set("web.console", "false").start().await;
    for path in ["/", "/t/", "/assets/app.js", "/config.json"] {
        assert_eq!(get(&rig, path).await.status(), 404, "{path}");
    }
    let call = http()
        .post(format!("{}/waybill.fleet.v1.FleetService/GetDriver", rig.web()))
        .header("content-type", "application/grpc-web+proto")
        .body(vec![0; 5]);
    assert_eq!(call.send().await.unwrap().status(), 200);
}
