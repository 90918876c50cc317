//! What a caller reads of orders: one with its whole story, or pages of many.

use std::collections::BTreeSet;

use testkit::wire::{PICKUP, a_declined_ride, a_ride, refusal_fields};
use testkit::{Rig, until_eq};
use tonic::Status;
use waybill_proto::order::v1::{ListOrdersRequest, ListOrdersResponse, Order, OrderStatus, ReleaseDriverRequest};

async fn list(rig: &Rig, request: ListOrdersRequest) -> Result<ListOrdersResponse, Status> {
    Ok(rig.orders().list_orders(request).await?.into_inner())
}

/// The steps of an order, each as its name and status.
fn steps(order: &Order) -> Vec<(&str, &str)> {
    let steps = order.steps.iter();
    steps.map(|step| (step.step.as_str(), step.status.as_str())).collect()
}

/// The ids of all pages, in order.
async fn ids(rig: &Rig, mut request: ListOrdersRequest) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = list(rig, request.clone()).await.unwrap();
        let has_steps = page.orders.iter().any(|order| !order.steps.is_empty());
        assert!(!has_steps, "a listing has no steps");
        ids.extend(page.orders.into_iter().map(|order| order.order_id));
        if page.next_page_token.is_empty() {
            return ids;
        }
        assert!(ids.len() < 100, "the pages have no end: {ids:?}");
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn an_order_shows_its_steps_its_payment_and_its_driver() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let request = a_ride();
    let placed = rig.place(request.clone()).await;
    assert_eq!(placed.steps, [], "steps are for GetOrder");

    let order = rig.order(&placed.order_id).await;
    let expected = [
        ("create", "succeeded"),
        ("charge", "started"),
        ("charge", "succeeded"),
        ("assign", "succeeded"),
    ];
    assert_eq!(steps(&order), expected);
    assert_eq!((order.amount.clone(), order.pickup), (request.amount, request.pickup));
    assert_eq!(order.user_id, request.user_id);
    assert!(order.payment.as_ref().unwrap().charged_at.is_some());
    assert_eq!(order.assignment.as_ref().unwrap().driver_id, "cab-1");
    let without_steps = Order {
        steps: Vec::new(),
        ..order
    };
    assert_eq!(without_steps, placed);
}

#[tokio::test]
async fn a_refunded_order_shows_why_it_was_not_served() {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    let placed = rig.place(a_ride()).await;
    let order = rig.order(&placed.order_id).await;
    let expected = [("assign", "failed"), ("refund", "started"), ("refund", "succeeded")];
    assert_eq!(steps(&order)[3..], expected);
    assert!(!order.steps[3].detail.is_empty());
}

/// The names of other drivers and what they wrote, the provider's ids and keys, why the provider was not reached.
#[tokio::test]
async fn what_is_for_operators_is_not_shown_to_customers() {
    let rig = Rig::builder().set("grpc.deadline_default", "1s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    let reassigned = rig.place(a_ride()).await;
    let release = ReleaseDriverRequest {
        order_id: reassigned.order_id.clone(),
        driver_id: reassigned.assignment.unwrap().driver_id,
        reason: "the customer owes me money".to_owned(),
    };
    rig.orders().release_driver(release).await.unwrap();
    rig.until_settled(&reassigned.order_id).await;
    let cancelled = rig.cancel(&reassigned.order_id).await.unwrap();
    let declined = rig.place(a_declined_ride()).await;

    let details = async |id: &str| {
        rig.order(id)
            .await
            .steps
            .into_iter()
            .map(|step| step.detail)
            .collect::<String>()
    };
    assert_eq!(details(&cancelled.order_id).await, "");
    assert_eq!(details(&declined.order_id).await, "");
    let known: i64 = rig
        .count("select count(*) from order_saga_steps where detail <> ''")
        .await;
    assert!(known >= 8, "the log itself has them: {known}");

    let refused = Rig::with("payments.secret_key=rk_of_another_kind grpc.deadline_default=1s").await;
    refused.orders().create_order(a_ride()).await.unwrap_err();
    until_eq("the charge is postponed", 1, async || {
        let postponed = "select least(count(*), 1) from order_saga_steps where detail like '%secret_key%'";
        refused.count(postponed).await
    })
    .await;
    let list = refused
        .orders()
        .list_orders(ListOrdersRequest::default())
        .await
        .unwrap();
    let order = refused.order(&list.into_inner().orders[0].order_id).await;
    assert!(order.steps.iter().all(|step| step.detail.is_empty()), "{order:?}");
}

#[tokio::test]
async fn a_listing_pages_through_all_orders_the_newest_first_and_none_twice() {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    let mut placed = Vec::new();
    for _ in 0..7 {
        placed.push(rig.place(a_ride()).await.order_id);
    }
    placed.reverse();
    for page_size in [1, 2, 3, 7, 0, 1_000] {
        let request = ListOrdersRequest {
            page_size,
            ..ListOrdersRequest::default()
        };
        assert_eq!(ids(&rig, request).await, placed, "pages of {page_size}");
    }
}

#[tokio::test]
async fn a_listing_is_of_one_user_and_one_status_if_asked() {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let (mut first, mut second) = (a_ride(), a_ride());
    first.user_id = "ann".to_owned();
    second.user_id = "ann".to_owned();
    let (served, refunded) = (rig.place(first).await.order_id, rig.place(second).await.order_id);
    let other = rig.place(a_ride()).await.order_id;

    let of = |user_id: &str, status: OrderStatus| ListOrdersRequest {
        user_id: user_id.to_owned(),
        status: status.into(),
        page_size: 1,
        page_token: String::new(),
    };
    let set = |ids: Vec<String>| ids.into_iter().collect::<BTreeSet<_>>();
    let anns = ids(&rig, of("ann", OrderStatus::Unspecified)).await;
    assert_eq!(set(anns), set(vec![served.clone(), refunded.clone()]));
    assert_eq!(ids(&rig, of("ann", OrderStatus::Succeeded)).await, [served]);
    let found = ids(&rig, of("", OrderStatus::Refunded)).await;
    assert_eq!(set(found), set(vec![refunded, other]));
    assert!(ids(&rig, of("bob", OrderStatus::Unspecified)).await.is_empty());
}

#[tokio::test]
async fn a_token_is_only_good_for_the_listing_that_gave_it() {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    for _ in 0..2 {
        let mut request = a_ride();
        request.user_id = "ann".to_owned();
        rig.place(request).await;
    }
    let request = ListOrdersRequest {
        user_id: "ann".to_owned(),
        page_size: 1,
        ..ListOrdersRequest::default()
    };
    let page_token = list(&rig, request.clone()).await.unwrap().next_page_token;
    assert!(!page_token.is_empty());
    for (user_id, status) in [("bob", 0), ("", 0), ("ann", OrderStatus::Refunded.into())] {
        let other = ListOrdersRequest {
            user_id: user_id.to_owned(),
            status,
            page_token: page_token.clone(),
            page_size: 1,
        };
        let refused = list(&rig, other).await.unwrap_err();
        assert_eq!(refusal_fields(&refused), ["page_token"], "{user_id:?}, {status}");
    }
    let next = ListOrdersRequest { page_token, ..request };
    assert_eq!(list(&rig, next).await.unwrap().orders.len(), 1);
}
