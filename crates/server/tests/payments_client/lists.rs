//! What the provider lists, and single objects that are read by their ids.

use jiff::Timestamp;
use waybill_server::egress::payments::{Cause, Period};

use crate::provider::{Provider, Reaction, object};
use crate::rig::{ORDER, client, patient};

/// March 2026.
fn march() -> Period {
    let time = |second| Timestamp::from_second(second).unwrap();
    Period {
        from: time(1_772_323_200),
        until: Some(time(1_775_001_600)),
    }
}

#[tokio::test]
async fn lists_are_paged_to_their_end_and_hold_only_what_succeeded() {
    let provider = Provider::start(|n, _| {
        let (data, has_more) = match n {
            0 => (
                format!("{},{}", object("pi_3", "succeeded"), object("pi_2", "canceled")),
                true,
            ),
            // Larger than the cap of a single object, as pages are.
            _ => (format!("{}{}", object("pi_1", "succeeded"), " ".repeat(200_000)), false),
        };
        Reaction::Answer(
            200,
            format!(r#"{{"object":"list","has_more":{has_more},"data":[{data}]}}"#),
        )
    })
    .await;
    let movements = client(&provider).list_charges(march(), 100).await.unwrap().unwrap();
    let ids: Vec<&str> = movements.iter().map(|movement| movement.provider_id.as_str()).collect();
    assert_eq!(ids, ["pi_3", "pi_1"]);
    assert_eq!(movements[0].order_id, Some(ORDER));
    assert_eq!(
        (movements[0].amount_minor, movements[0].currency.as_str()),
        (1250, "EUR")
    );
    let lines: Vec<String> = provider.seen().into_iter().map(|seen| seen.line).collect();
    let asked = "GET /v1/payment_intents?limit=100&created%5Bgte%5D=1772323200&created%5Blt%5D=1775001600";
    assert_eq!(lines[0], format!("{asked} HTTP/1.1"));
    assert_eq!(lines[1], format!("{asked}&starting_after=pi_2 HTTP/1.1"));
}

#[tokio::test]
async fn a_list_that_cannot_be_read_to_its_end_is_no_list() {
    let provider = Provider::start(|n, _| match n {
        0 => Reaction::Answer(
            200,
            format!(r#"{{"has_more":true,"data":[{}]}}"#, object("re_1", "succeeded")),
        ),
        _ => Reaction::Answer(500, "{}".into()),
    })
    .await;
    let refunds = client(&provider).list_refunds(march(), 100).await;
    assert_eq!(refunds, Err(Cause::Status(500)));
}

#[tokio::test]
async fn a_list_that_is_longer_than_wanted_is_not_read_to_its_end() {
    let provider = Provider::start(|n, _| {
        let page = format!(
            r#"{{"has_more":true,"data":[{}]}}"#,
            object(&format!("re_{n}"), "succeeded")
        );
        Reaction::Answer(200, page)
    })
    .await;
    assert_eq!(client(&provider).list_refunds(march(), 3).await, Ok(None));
    assert_eq!(provider.seen().len(), 4);
}

#[tokio::test]
async fn the_oldest_payment_of_an_account_is_found_to_the_day_without_its_list() {
    const OLDEST: i64 = 1_700_000_000;
    let provider = Provider::start(|_, seen| {
        let before: i64 = seen
            .line
            .split("%5D=")
            .nth(1)
            .unwrap()
            .trim_end_matches(" HTTP/1.1")
            .parse()
            .unwrap();
        let data = if before > OLDEST {
            object("pi_1", "succeeded")
        } else {
            String::new()
        };
        Reaction::Answer(200, format!(r#"{{"has_more":false,"data":[{data}]}}"#))
    })
    .await;
    let until = Timestamp::from_second(1_772_323_200).unwrap();
    let found = client(&provider).oldest_payment(until).await.unwrap().unwrap();
    let earlier = OLDEST - found.as_second();
    assert!((0..=24 * 3_600).contains(&earlier), "{earlier} s before it");
    assert!(provider.seen().len() < 20, "{} calls", provider.seen().len());
    let before_all = Timestamp::from_second(OLDEST).unwrap();
    assert_eq!(client(&provider).oldest_payment(before_all).await, Ok(None));
}

#[tokio::test]
async fn one_payment_is_read_by_its_id_and_an_id_is_not_a_path() {
    let provider = Provider::start(|_, _| Reaction::Answer(200, object("pi_1", "requires_action"))).await;
    let client = client(&provider);
    let payment = client.retrieve("pi_1", patient()).await.unwrap();
    assert_eq!(
        (payment.status.as_str(), payment.order_id),
        ("requires_action", Some(ORDER))
    );
    assert_eq!(client.retrieve("../refunds", patient()).await, Err(Cause::Unsendable));
    assert_eq!(provider.seen().len(), 1);
}
