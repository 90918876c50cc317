//! What a browser may do with an answer, and whose pages may call.

use reqwest::Method;
use reqwest::header::{HeaderMap, ORIGIN};
use testkit::Rig;
use testkit::wire::http;

use crate::access::Doors;

const CALL: &str = "/waybill.fleet.v1.FleetService/GetDriver";

/// The answer to the question whether a page of this origin may call.
async fn preflight(rig: &Rig, origin: &str) -> HeaderMap {
    let asked = http()
        .request(Method::OPTIONS, format!("{}{CALL}", rig.web()))
        .header(ORIGIN, origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type,x-grpc-web",
        );
    asked.send().await.unwrap().headers().clone()
}

#[tokio::test]
async fn pages_of_no_other_origin_may_call_unless_they_are_named() {
    let rig = Rig::builder().start().await;
    let answer = preflight(&rig, "https://app.example.com").await;
    assert_eq!(answer.get("access-control-allow-origin"), None);

    let rig = Rig::builder()
        .set("web.origins", "https://app.example.com,https://ops.example.com")
        .start()
        .await;
    for allowed in ["https://app.example.com", "https://ops.example.com"] {
        let answer = preflight(&rig, allowed).await;
        assert_eq!(answer["access-control-allow-origin"], allowed);
        assert_eq!(answer["access-control-allow-methods"], "POST");
        let headers = answer["access-control-allow-headers"].to_str().unwrap();
        for name in ["authorization", "content-type", "x-grpc-web", "grpc-timeout"] {
            assert!(headers.contains(name), "{headers}");
        }
        // There are no cookies, and so none that another site could make a browser send.
        assert_eq!(answer.get("access-control-allow-credentials"), None);
    }
    for other in ["https://evil.example", "https://app.example.com.evil.example", "null"] {
        let answer = preflight(&rig, other).await;
        assert_eq!(answer.get("access-control-allow-origin"), None, "{other}");
    }
}

#[tokio::test]
async fn a_page_of_a_named_origin_reads_why_a_call_is_refused() {
    let rig = Rig::builder()
        .set("web.origins", "https://app.example.com")
        .start()
        .await;
    let call = http()
        .post(format!("{}{CALL}", rig.web()))
        .header(ORIGIN, "https://app.example.com")
        .header("content-type", "application/grpc-web+proto")
        .body(vec![0; 5]);
    let answer = call.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["access-control-allow-origin"],
        "https://app.example.com"
    );
    let readable = answer.headers()["access-control-expose-headers"].to_str().unwrap();
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        assert!(readable.contains(name), "{readable}");
    }
}

/// A site whose name is made to lead to this machine would be of our own origin, and could call whatever needs no token.
#[tokio::test]
async fn where_callers_are_not_known_no_other_name_leads_here() {
    let rig = Rig::start().await;
    let get = async |path: &str, host: &str| {
        let answer = http()
            .get(format!("{}{path}", rig.web()))
            .header("host", host)
            .send()
            .await;
        answer.unwrap().status().as_u16()
    };
    let port = rig.web().rsplit(':').next().unwrap().to_owned();
    for path in ["/", "/config.json", CALL, "/trails/15/1/1.png"] {
        assert_eq!(get(path, &format!("evil.example:{port}")).await, 421, "{path}");
    }
    assert_eq!(get("/", &format!("localhost:{port}")).await, 200);
    let doors = Doors::start(Rig::builder()).await;
    let known = http()
        .get(format!("{}/", doors.rig.web()))
        .header("host", "waybill.example.com");
    assert_eq!(known.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn every_answer_says_what_a_browser_may_do_with_it() {
    let rig = Rig::builder().start().await;
    for path in ["/no/such/page", "/", CALL] {
        let answer = http().get(format!("{}{path}", rig.web())).send().await.unwrap();
        let headers = answer.headers();
        let policy = headers["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
        assert!(headers.contains_key("x-waybill-build"), "{path}");
        assert_eq!(headers.get("set-cookie"), None);
    }
}

#[tokio::test]
async fn a_path_that_is_not_there_is_a_page_that_says_so() {
    let rig = Rig::builder().start().await;
    for path in ["/nowhere", "/a/b", "/a/b/c", CALL] {
        let answer = http().get(format!("{}{path}", rig.web())).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
        assert!(
            answer.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with("text/html")
        );
        assert!(answer.text().await.unwrap().contains("There is no such page"), "{path}");
    }
}
