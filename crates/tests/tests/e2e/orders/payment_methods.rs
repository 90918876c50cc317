//! Means of payment that are good for one payment, and those that are attached to a customer of the provider.

use testkit::Rig;
use testkit::wire::{PICKUP, a_ride, refusal_fields};
use waybill_proto::order::v1::{CreateOrderRequest, FailureReason, OrderStatus};

async fn a_payment_method(rig: &Rig) -> String {
    let form = [("type", "card".to_owned()), ("card[token]", "tok_visa".to_owned())];
    id(&rig.at_provider("payment_methods", &form).await)
}

/// A customer, and a means of payment that is attached to it.
async fn a_customer(rig: &Rig) -> (String, String) {
    let customer = id(&rig.at_provider("customers", &[]).await);
    let method = a_payment_method(rig).await;
    let form = [("customer", customer.clone())];
    let attached = rig
        .at_provider(&format!("payment_methods/{method}/attach"), &form)
        .await;
    assert_eq!(attached["customer"], customer.as_str(), "{attached}");
    (customer, method)
}

fn id(object: &serde_json::Value) -> String {
    object["id"].as_str().unwrap_or_else(|| panic!("{object}")).to_owned()
}

fn a_ride_by(method: &str, customer: &str) -> CreateOrderRequest {
    CreateOrderRequest {
        payment_method: method.to_owned(),
        provider_customer_id: customer.to_owned(),
        ..a_ride()
    }
}

#[tokio::test]
async fn a_customer_pays_every_ride_with_the_same_saved_card() {
    let rig = Rig::builder()
        .set("payments.statement_descriptor_suffix", "RIDE")
        .start()
        .await;
    let (customer, method) = a_customer(&rig).await;
    for n in 0..3 {
        rig.driver_at(&format!("cab-{n}"), PICKUP.0, PICKUP.1).await;
        let order = rig.place(a_ride_by(&method, &customer)).await;
        assert_eq!(order.status(), OrderStatus::Succeeded, "ride {n}");
    }
    assert_eq!(rig.charges().len(), 3);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_means_of_payment_without_a_customer_is_good_for_one_ride_and_then_declined() {
    let rig = Rig::start().await;
    let method = a_payment_method(&rig).await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    assert_eq!(rig.place(a_ride_by(&method, "")).await.status(), OrderStatus::Succeeded);
    for _ in 0..4 {
        let again = rig.place(a_ride_by(&method, "")).await;
        assert_eq!(again.failure_reason(), FailureReason::PaymentDeclined);
    }
    // What one customer does wrong is no fault of ours: others are still served.
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    assert_eq!(rig.place(a_ride()).await.status(), OrderStatus::Succeeded);
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_saved_card_pays_for_no_one_but_its_customer() {
    let rig = Rig::start().await;
    let (_, method) = a_customer(&rig).await;
    let (other, _) = a_customer(&rig).await;
    for customer in ["", other.as_str()] {
        let order = rig.place(a_ride_by(&method, customer)).await;
        assert_eq!(order.failure_reason(), FailureReason::PaymentDeclined, "{customer:?}");
    }
    assert_eq!(rig.charges(), []);
    rig.assert_clean().await;
}

#[tokio::test]
async fn the_customer_is_a_part_of_the_request_that_a_key_stands_for() {
    let rig = Rig::start().await;
    let (customer, method) = a_customer(&rig).await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let request = a_ride_by(&method, &customer);
    let placed = rig.place(request.clone()).await;
    assert_eq!(rig.place(request.clone()).await, placed);
    let another = CreateOrderRequest {
        provider_customer_id: String::new(),
        payment_mode: 0,
        required_tags: Vec::new(),
        ..request.clone()
    };
    assert!(rig.orders().create_order(another).await.is_err());
    let malformed = CreateOrderRequest {
        provider_customer_id: "cus 1".to_owned(),
        ..a_ride()
    };
    let refused = rig.orders().create_order(malformed).await.unwrap_err();
    assert_eq!(refusal_fields(&refused), ["provider_customer_id"]);
    rig.assert_clean().await;
}
