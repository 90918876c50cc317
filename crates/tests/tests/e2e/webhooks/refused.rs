//! Webhooks that are not accepted: forged, altered, not of now, too long, too many; and what that leaves behind.

use jiff::Timestamp;
use serde_json::json;
use testkit::wire::get;
use testkit::{Rig, until_eq};
use waybill_sandbox::payments::webhook_signature;

use super::events::{
    PATH, SECRET, event_about, listening, never_charged, order_in_doubt, send, send_bytes, send_genuine, signed,
    status_of_bytes, stored_rows, without_sweeper,
};

const NEXT_SECRET: &str = "whsec_end_to_end_next";

#[tokio::test]
async fn what_is_not_from_the_provider_or_not_of_now_changes_nothing() {
    let rig = without_sweeper().start().await;
    rig.payments().set_faults(never_charged());
    let order_id = order_in_doubt(&rig).await;
    let before = stored_rows(&rig).await;

    let body = event_about(&order_id).to_string();
    let now = Timestamp::now().as_second();
    let at = |secs| webhook_signature(SECRET, secs, body.as_bytes());
    let good = at(now);
    let altered = body.replace("\"amount\":1", "\"amount\":2");
    assert_ne!(altered, body);
    for (what, body, signature) in [
        ("no signature", &body, String::new()),
        ("not a signature", &body, "signed".to_owned()),
        (
            "another secret",
            &body,
            webhook_signature("whsec_other", now, body.as_bytes()),
        ),
        ("altered", &altered, good.clone()),
        (
            "made younger",
            &body,
            at(now - 3600).replace(&(now - 3600).to_string(), &now.to_string()),
        ),
        ("old", &body, at(now - 400)),
        ("of the future", &body, at(now + 400)),
        ("a test event's scheme", &body, good.replace("v1=", "v0=")),
        ("huge", &body, format!("{good}{}", ",v1=00".repeat(3000))),
    ] {
        assert_eq!(send(&rig, body, &signature).await, 401, "{what}");
    }
    assert_eq!(stored_rows(&rig).await, before);

    // Signed, but nothing that we could keep as an event.
    for body in [
        "",
        "not JSON",
        "[]",
        "null",
        "{}",
        r#"{"id":"evt_1"}"#,
        r#"{"id":"","type":"x"}"#,
        r#"{"id":7,"type":"x"}"#,
        r#"{"id":"evt\u0000","type":"x"}"#,
    ] {
        assert_eq!(send(&rig, body, &signed(body)).await, 400, "{body}");
    }
    let long = json!({ "id": "e".repeat(256), "type": "x" }).to_string();
    assert_eq!(send(&rig, &long, &signed(&long)).await, 400);
    let deep = "[".repeat(60_000);
    assert_eq!(send(&rig, &deep, &signed(&deep)).await, 400);
    assert_eq!(stored_rows(&rig).await, before);

    let (status, _) = get(&format!("{}{PATH}", rig.webhooks_url())).await;
    assert_eq!(status, 405);
    let (status, _) = get(&format!("{}{PATH}/more", rig.webhooks_url())).await;
    assert_eq!(status, 404);
    let counted = rig.metrics().await["webhooks"]["events"].clone();
    assert_eq!(counted, json!({ "refused_signature": 9, "refused_body": 11 }));
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_unread() {
    let rig = listening().start().await;
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: waybill\r\nstripe-signature: t=1,v1=00\r\n");
    // Nothing of the ten megabytes is ever sent: an answer that waited for them would not come.
    let announced = format!("{head}content-length: 10000000\r\n\r\n");
    assert_eq!(status_of_bytes(&rig, announced.as_bytes()).await, 413);
    // Nor is the end of this one, whose length is not given: the first byte too many is enough.
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n10001\r\n").into_bytes();
    chunked.extend(vec![b' '; 0x1_0001]);
    assert_eq!(status_of_bytes(&rig, &chunked).await, 413);
    assert_eq!(rig.metrics().await["webhooks"]["events"], json!({ "refused_body": 2 }));

    let filler = " ".repeat(65_536 - event_about("x").to_string().len());
    let fits = format!("{}{filler}", event_about("x"));
    let status = send(&rig, &fits, &signed(&fits)).await;
    assert_eq!(status, 200, "the limit itself is within it");
}

#[tokio::test]
async fn strangers_who_send_slowly_leave_room_for_the_probes() {
    let rig = listening().start().await;
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: waybill\r\ncontent-length: 9\r\n\r\n");
    let mut slow = Vec::new();
    for _ in 0..40 {
        slow.push(send_bytes(&rig, head.as_bytes()).await);
    }
    until_eq("there is no place for another", 503, async || {
        send_genuine(&rig, &event_about("x")).await
    })
    .await;
    let (status, body) = get(&format!("{}/readyz", rig.http())).await;
    assert_eq!(status, 200, "{body}");
    drop(slow);
    until_eq("places are free again", 200, async || {
        send_genuine(&rig, &event_about("x")).await
    })
    .await;
}

#[tokio::test]
async fn while_the_secret_is_replaced_both_are_accepted() {
    let both = format!("{SECRET}, {NEXT_SECRET}");
    let rig = listening().set("payments.webhook_secrets", &both).start().await;
    for secret in [SECRET, NEXT_SECRET] {
        let body = event_about("x").to_string();
        let signature = webhook_signature(secret, Timestamp::now().as_second(), body.as_bytes());
        assert_eq!(send(&rig, &body, &signature).await, 200, "{secret}");
    }
}

#[tokio::test]
async fn without_a_secret_there_is_no_such_listener_and_the_route_is_nowhere_else() {
    let without = Rig::start().await;
    assert_eq!(without.webhooks_addr(), None);
    for rig in [without, listening().start().await] {
        let url = format!("{}{PATH}", rig.http());
        let answer = reqwest::Client::new().post(url).body("{}").send().await.unwrap();
        assert_eq!(answer.status(), 404, "the listener for operators has no such route");
    }
}
