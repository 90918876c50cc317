//! The faults of captures and cancellations: what the client sees, what was done, and what the same key gets afterwards.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use waybill_sandbox::payments::MovementKind;

use super::{Answer, INTENTS, TestProvider};
use crate::rig::until;

const OPERATIONS: [(&str, &str); 2] = [("capture", "succeeded"), ("cancel", "canceled")];

impl TestProvider {
    /// The next request of this operation gets this fault.
    async fn fail_next(&self, kind: &str, operation: &str, delay: Duration) {
        let mut fault = json!({ "kind": kind, "operation": operation, "times": 1 });
        if !delay.is_zero() {
            fault["delay_ms"] = json!(delay.as_millis());
        }
        let set = self.sandbox(Method::PUT, "faults", &fault.to_string()).await;
        assert_eq!(set.status, 200, "{:?}", set.body);
    }

    async fn status_of(&self, intent: &str) -> Value {
        self.get(&format!("{INTENTS}/{intent}")).await.body["status"].clone()
    }
}

#[tokio::test]
async fn a_fault_before_the_effect_leaves_the_hold_as_it_was() {
    let test = TestProvider::start().await;
    for (operation, done) in OPERATIONS {
        for (kind, status) in [
            ("rate_limited", 429),
            ("rejected", 400),
            ("in_progress", 409),
            ("error_before_effect", 500),
        ] {
            let held = test.hold("", "500").await;
            let path = format!("{INTENTS}/{}/{operation}", held.id());
            let key = format!("{operation} {kind}");
            test.fail_next(kind, operation, Duration::ZERO).await;
            assert_eq!(test.post(&path, &key, &[]).await.status, status, "{key}");
            assert_eq!(test.status_of(held.id()).await, "requires_capture");
            let next = test.post(&path, &key, &[]).await;
            assert_eq!((next.replayed, &next.body["status"]), (false, &json!(done)));
        }
    }
}

#[tokio::test]
async fn a_fault_after_the_effect_hides_it_and_the_same_key_gets_the_truth() {
    let test = TestProvider::start().await;
    for (operation, done) in OPERATIONS {
        for kind in [
            "error_after_effect",
            "reply_lost",
            "garbage",
            "wrong_amount",
            "wrong_currency",
            "empty_body",
            "slow_body",
        ] {
            let held = test.hold("", "500").await;
            let path = format!("{INTENTS}/{}/{operation}", held.id());
            let key = format!("{operation} {kind}");
            test.fail_next(kind, operation, Duration::ZERO).await;
            let response = test.request(&path, &key, &[]).send().await;
            match kind {
                "reply_lost" => assert!(response.is_err()),
                "error_after_effect" => assert_eq!(response.unwrap().status(), 500),
                "wrong_amount" => assert_eq!(Answer::of(response.unwrap()).await.body["amount"], 501),
                "wrong_currency" => assert_eq!(Answer::of(response.unwrap()).await.body["currency"], "eur"),
                _ => assert_eq!(response.unwrap().status(), 200),
            }
            assert_eq!(test.status_of(held.id()).await, done, "{key}");
            let truth = test.post(&path, &key, &[]).await;
            assert_eq!(
                (truth.status, truth.replayed, &truth.body["amount"]),
                (200, true, &json!(500))
            );
        }
    }
    assert_eq!(
        test.movements(),
        vec![(MovementKind::Charge, 500); 7],
        "one for each capture"
    );
}

#[tokio::test]
async fn a_saved_error_of_a_capture_is_replayed_though_it_was_captured() {
    let test = TestProvider::start().await;
    for (operation, done) in OPERATIONS {
        let held = test.hold("", "500").await;
        let path = format!("{INTENTS}/{}/{operation}", held.id());
        test.fail_next("error_after_effect_saved", operation, Duration::ZERO)
            .await;
        let failed = test.post(&path, operation, &[]).await;
        assert_eq!(failed.status, 500);
        assert_eq!(test.post(&path, operation, &[]).await, failed.replay());
        assert_eq!(test.status_of(held.id()).await, done);
    }
}

#[tokio::test]
async fn a_capture_can_hang_or_come_late() {
    let test = TestProvider::start().await;
    for (operation, done) in OPERATIONS {
        for (kind, delay, after) in [
            ("hang", Duration::ZERO, "requires_capture"),
            ("late_success", Duration::from_millis(500), done),
            ("latency", Duration::from_millis(1), done),
        ] {
            let held = test.hold("", "500").await;
            let path = format!("{INTENTS}/{}/{operation}", held.id());
            test.fail_next(kind, operation, delay).await;
            let call = TaskTracker::new().spawn(test.request(&path, "", &[]).send());
            until("the fault has hit", async || test.provider.faults().is_empty()).await;
            if kind != "latency" {
                call.abort();
            }
            until(&format!("{operation} {kind}"), async || {
                test.status_of(held.id()).await == after
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_fault_of_a_capture_hits_no_other_request() {
    let test = TestProvider::start().await;
    test.fail_next("error_before_effect", "capture", Duration::ZERO).await;
    let held = test.hold("", "500").await;
    assert_eq!(test.cancel(held.id(), "", &[]).await.status, 200);
    let charged = test.charge("", "500").await;
    assert_eq!(test.refund("", &[("payment_intent", charged.id())]).await.status, 200);
    assert_eq!(test.capture(held.id(), "", &[]).await.status, 500);
    let decline = json!({ "kind": "decline", "operation": "cancel" });
    let refused = test.sandbox(Method::PUT, "faults", &decline.to_string()).await;
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("operation")));
}

#[tokio::test]
async fn a_capture_that_is_declined_is_declined_again_under_its_key_and_made_under_another() {
    let test = TestProvider::start().await;
    let held = test.hold("", "500").await;
    test.fail_next("decline", "capture", Duration::ZERO).await;
    for (key, status) in [("key-1", 402), ("key-1", 402), ("key-2", 200)] {
        let answer = test.capture(held.id(), key, &[]).await;
        assert_eq!(answer.status, status, "{key}");
    }
    assert_eq!(test.status_of(held.id()).await, "succeeded");
}
