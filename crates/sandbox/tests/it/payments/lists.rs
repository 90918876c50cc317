//! The provider's lists: page by page, the newest first, whole or of a span of time.

use serde_json::Value;
use waybill_sandbox::payments::{PastCharge, PastRefund};

use super::{INTENTS, TestProvider};

/// A charge and its refund in each second from 1001 to 1010.
async fn ten_seconds() -> TestProvider {
    let test = TestProvider::start().await;
    let charge = |second: i64| PastCharge {
        id: format!("pi_{second}"),
        order_id: Some(format!("order-{second}")),
        transfer_group: Some(format!("group-{}", second % 2)),
        amount_minor: 500,
        currency: "usd".to_owned(),
        created: second,
    };
    let refund = |second: i64| PastRefund {
        id: format!("re_{second}"),
        payment: format!("pi_{second}"),
        order_id: None,
        amount_minor: 200,
        currency: "usd".to_owned(),
        created: second,
    };
    test.provider.add_past_charges((1_001..=1_010).map(charge)).unwrap();
    test.provider.add_past_refunds((1_001..=1_010).map(refund)).unwrap();
    test
}

/// The times of all objects, read in pages of two.
async fn created(test: &TestProvider, list: &str) -> Vec<i64> {
    let (mut times, mut after) = (Vec::new(), String::new());
    loop {
        let page = test.get(&format!("{list}&limit=2{after}")).await;
        assert_eq!(page.status, 200, "{list}: {page:?}");
        let data = page.body["data"].as_array().unwrap().clone();
        times.extend(data.iter().map(|object| object["created"].as_i64().unwrap()));
        if page.body["has_more"] == false {
            return times;
        }
        after = format!("&starting_after={}", data.last().unwrap()["id"].as_str().unwrap());
    }
}

/// <https://docs.stripe.com/api/refunds/list>: `created[gte]` is inclusive, `created[lt]` is exclusive.
#[tokio::test]
async fn a_list_shows_what_was_created_in_the_span_of_time_that_is_asked_for() {
    let test = ten_seconds().await;
    for list in [INTENTS, "/v1/charges", "/v1/refunds"] {
        let of = async |filter: &str| created(&test, &format!("{list}?{filter}")).await;
        assert_eq!(
            of("created[gte]=1004&created[lt]=1007").await,
            [1006, 1005, 1004],
            "{list}"
        );
        assert_eq!(of("created[lt]=1003").await, [1002, 1001], "{list}");
        assert_eq!(of("created[gte]=1009").await, [1010, 1009], "{list}");
        assert_eq!(of("created[gte]=1007&created[lt]=1007").await, [0; 0], "{list}");
        assert_eq!(of("created[gte]=1009&created[lt]=1002").await, [0; 0], "{list}");
        assert_eq!(of("created[lt]=1001").await, [0; 0], "{list}");
        let refused = test.get(&format!("{list}?created[lt]=tomorrow")).await;
        assert_eq!(refused.error()["param"], Value::from("created[lt]"), "{list}");
    }
    let group = created(&test, "/v1/charges?transfer_group=group-1&created[lt]=1008").await;
    assert_eq!(group, [1007, 1005, 1003, 1001]);
    let refunds = created(&test, "/v1/refunds?payment_intent=pi_1004&created[gte]=1004").await;
    assert_eq!(refunds, [1004]);
    assert_eq!(
        created(&test, "/v1/refunds?payment_intent=pi_1004&created[gte]=1005").await,
        [0; 0]
    );
}

/// Else the binary search in a list would miss some of it.
#[tokio::test]
async fn what_comes_later_is_never_older_than_what_is_there() {
    let test = ten_seconds().await;
    let mut late = PastCharge {
        id: "pi_late".to_owned(),
        order_id: None,
        transfer_group: None,
        amount_minor: 500,
        currency: "usd".to_owned(),
        created: 7,
    };
    test.provider.add_past_charges([late.clone()]).unwrap();
    assert_eq!(test.get(&format!("{INTENTS}/pi_late")).await.body["created"], 1_010);
    // A clock that was set back.
    late.id = "pi_of_the_future".to_owned();
    late.created = 99_999_999_999;
    test.provider.add_past_charges([late]).unwrap();
    let charged = test.charge("", "500").await;
    assert_eq!(charged.body["created"], 99_999_999_999_i64);
}
