//! What a caller sees and says of what it may reach.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use testkit::Rig;
use testkit::wire::{PICKUP, a_ride, assert_refused, fix, refusal_fields};
use tonic::{Code, Request};
use waybill_proto::admin::v1::RetryOrderRequest;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{RejectionReason, ReportLocationsRequest};
use waybill_proto::order::v1::{
    CancelOrderRequest, CompleteOrderRequest, CreateOrderRequest, GetOrderRequest, ListOrdersRequest, Money, Order,
    OrderStatus,
};
use waybill_sandbox::tokens::TokenSigner;

use super::{Doors, by};

impl Doors {
    /// Anna's order, served by cab-1.
    async fn served(&self) -> Order {
        let driver = self.token("driver", "cab-1");
        let fixes = vec![fix("cab-1", PICKUP.0, PICKUP.1, Timestamp::now())];
        let report = by(Some(&driver), ReportLocationsRequest { fixes });
        LocationServiceClient::new(self.rig.channel())
            .report_locations(report)
            .await
            .unwrap();
        let anna = self.token("customer", "anna");
        let placed = self.orders().create_order(by(Some(&anna), ride_of("anna"))).await;
        placed.unwrap().into_inner().order.unwrap()
    }

    async fn get(&self, token: &str, order: &Order) -> Order {
        let order_id = order.order_id.clone();
        let found = self
            .orders()
            .get_order(by(Some(token), GetOrderRequest { order_id }))
            .await;
        found.unwrap().into_inner().order.unwrap()
    }
}

fn ride_of(user: &str) -> CreateOrderRequest {
    CreateOrderRequest {
        user_id: user.to_owned(),
        ..a_ride()
    }
}

#[tokio::test]
async fn a_driver_sees_its_order_and_not_what_becomes_of_the_payment() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.served().await;
    let seen = doors.get(&doors.token("driver", "cab-1"), &order).await;
    assert_eq!((seen.user_id.as_str(), seen.payment), ("anna", None));
    let steps: Vec<&str> = seen.steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(steps, ["create", "assign"]);
    let seen = doors.get(&doors.token("customer", "anna"), &order).await;
    assert!(seen.payment.is_some());
    // Nor when it completes it; and in no other driver's name.
    let complete = |driver: &str| CompleteOrderRequest {
        order_id: order.order_id.clone(),
        driver_id: driver.to_owned(),
        final_amount: None,
    };
    let driver = doors.token("driver", "cab-1");
    let refused = doors
        .orders()
        .complete_order(by(Some(&driver), complete("cab-2")))
        .await
        .unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, "NOT_PERMITTED");
    assert_eq!(refusal_fields(&refused), ["driver_id"]);
    let completed = doors
        .orders()
        .complete_order(by(Some(&driver), complete("")))
        .await
        .unwrap();
    assert_eq!(completed.into_inner().order.unwrap().payment, None);
}

#[tokio::test]
async fn an_order_in_another_users_name_is_refused_by_its_field() {
    let doors = Doors::start(Rig::builder()).await;
    let anna = doors.token("customer", "anna");
    let refused = doors
        .orders()
        .create_order(by(Some(&anna), ride_of("ben")))
        .await
        .unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, "NOT_PERMITTED");
    assert_eq!(refusal_fields(&refused), ["user_id"]);
    assert_eq!(doors.rig.count("select count(*) from order_sagas").await, 0);
}

#[tokio::test]
async fn a_customer_lists_its_own_orders_and_with_a_token_for_one_that_one() {
    let doors = Doors::start(Rig::builder().set("orders.assignment_window", "0s")).await;
    let anna = doors.token("customer", "anna");
    let mut placed = Vec::new();
    for user in ["anna", "anna", "ben"] {
        let token = doors.token("customer", user);
        let order = doors
            .orders()
            .create_order(by(Some(&token), ride_of(user)))
            .await
            .unwrap();
        placed.push(order.into_inner().order.unwrap().order_id);
    }
    let listed = async |token: &str| -> Vec<String> {
        let page = doors
            .orders()
            .list_orders(by(Some(token), ListOrdersRequest::default()))
            .await
            .unwrap();
        page.into_inner()
            .orders
            .into_iter()
            .map(|order| order.order_id)
            .collect()
    };
    assert_eq!(listed(&anna).await, [placed[1].clone(), placed[0].clone()]);
    let mut claims = TokenSigner::claims("customer", "anna", Duration::from_mins(10));
    claims["waybill"]["order_id"] = placed[0].as_str().into();
    assert_eq!(listed(&doors.signer.sign(&claims).unwrap()).await, [placed[0].clone()]);
    assert_eq!(listed(&doors.token("dispatcher", "dora")).await.len(), 3);
}

#[tokio::test]
async fn a_fix_of_another_driver_is_rejected_and_the_others_are_stored() {
    let doors = Doors::start(Rig::builder()).await;
    let driver = doors.token("driver", "cab-1");
    let of = |name: &str| fix(name, PICKUP.0, PICKUP.1, Timestamp::now());
    let fixes = vec![of("cab-1"), of("cab-2"), of("cab-1")];
    let report = by(Some(&driver), ReportLocationsRequest { fixes });
    let answer = LocationServiceClient::new(doors.rig.channel())
        .report_locations(report)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.accepted_count, 2);
    let rejected: Vec<_> = answer
        .rejections
        .iter()
        .map(|one| (one.sequence, one.reason(), one.field.as_str()))
        .collect();
    assert_eq!(rejected, [(1, RejectionReason::NotPermitted, "driver_id")]);
}

/// What is paid, and by whom, is for the business to say, which signs the tokens.
#[tokio::test]
async fn customers_and_drivers_decide_nothing_about_money() {
    let doors = Doors::start(Rig::builder()).await;
    let (anna, driver) = (doors.token("customer", "anna"), doors.token("driver", "cab-1"));
    let dollars = |minor_units| Money {
        currency_code: "USD".to_owned(),
        minor_units,
    };
    // What another customer has saved at the provider.
    let saved = |id: &str| CreateOrderRequest {
        provider_customer_id: id.to_owned(),
        ..ride_of("anna")
    };
    let refused = doors
        .orders()
        .create_order(by(Some(&anna), saved("cus_ben")))
        .await
        .unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, "NOT_PERMITTED");
    assert_eq!(refusal_fields(&refused), ["provider_customer_id"]);
    let mut claims = TokenSigner::claims("customer", "anna", Duration::from_mins(10));
    claims["waybill"]["provider_customer_id"] = "cus_anna".into();
    let token = doors.signer.sign(&claims).unwrap();
    let refused = doors
        .orders()
        .create_order(by(Some(&token), saved("cus_ben")))
        .await
        .unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, "NOT_PERMITTED");
    assert_eq!(doors.rig.count("select count(*) from order_sagas").await, 0);

    let order = doors.served().await;
    let complete = CompleteOrderRequest {
        order_id: order.order_id.clone(),
        driver_id: String::new(),
        final_amount: Some(dollars(1)),
    };
    let refused = doors
        .orders()
        .complete_order(by(Some(&driver), complete))
        .await
        .unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, "NOT_PERMITTED");
    assert_eq!(refusal_fields(&refused), ["final_amount"]);
    let cancel = |cancellation_fee| CancelOrderRequest {
        order_id: order.order_id.clone(),
        cancellation_fee,
    };
    let refused = doors
        .orders()
        .cancel_order(by(Some(&anna), cancel(Some(dollars(1)))))
        .await
        .unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, "NOT_PERMITTED");
    assert_eq!(refusal_fields(&refused), ["cancellation_fee"]);
    // The driver is on the way.
    let refused = doors
        .orders()
        .cancel_order(by(Some(&anna), cancel(None)))
        .await
        .unwrap_err();
    assert_refused(&refused, Code::FailedPrecondition, "DRIVER_ASSIGNED");
    assert_eq!(doors.get(&anna, &order).await.status(), OrderStatus::Succeeded);
    let service = doors.token("service", "shop");
    let cancelled = doors
        .orders()
        .cancel_order(by(Some(&service), cancel(Some(dollars(300)))))
        .await
        .unwrap();
    assert_eq!(cancelled.into_inner().order.unwrap().status(), OrderStatus::Refunded);
    doors.rig.assert_clean().await;
}

/// One backend calls for all users: one of them does not use up the others' calls.
#[tokio::test]
async fn a_service_has_the_limits_of_each_user_for_whom_it_calls() {
    let limits = "limits.orders_per_user.per_second=1 limits.orders_per_user.burst=2 limits.wait_max=0s";
    let doors = Doors::start(Rig::builder().with(limits).set("orders.assignment_window", "0s")).await;
    let service = doors.token("service", "shop");
    let place = async |user: &str| doors.orders().create_order(by(Some(&service), ride_of(user))).await;
    for user in ["anna", "ben", "cleo"] {
        place(user).await.unwrap();
        place(user).await.unwrap();
    }
    // At once, so that she gets no more of them back meanwhile than she may.
    let refused = join_all((0..4).map(|_| place("anna"))).await;
    let mut refused = refused.into_iter().filter_map(Result::err);
    assert_eq!(refused.next().unwrap().code(), Code::ResourceExhausted);
}

/// The log of an order says who did what: no one writes there in another's name.
#[tokio::test]
async fn an_operator_acts_in_its_own_name() {
    let doors = Doors::start(Rig::builder()).await;
    let order = doors.served().await;
    let olga = doors.token("operator", "olga");
    let retry = |operator: &str| RetryOrderRequest {
        order_id: order.order_id.clone(),
        operator: operator.to_owned(),
        reason: String::new(),
    };
    let mut operators = AdminServiceClient::new(doors.rig.channel());
    let refused = operators.retry_order(by(Some(&olga), retry("otto"))).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, "NOT_PERMITTED");
    assert_eq!(refusal_fields(&refused), ["operator"]);
    operators.retry_order(by(Some(&olga), retry("olga"))).await.unwrap();
}

#[tokio::test]
async fn who_has_no_token_or_a_bad_one_is_told_why() {
    let doors = Doors::start(Rig::builder()).await;
    let mut orders = doors.orders();
    let list = ListOrdersRequest::default;
    let refused = orders.list_orders(by(None, list())).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_MISSING");
    let refused = orders.list_orders(by(Some("a.b.c"), list())).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_UNTRUSTED");
    for length in [5_000, 9 * 1024, 15 * 1024] {
        let long = by(Some(&"a".repeat(length)), list());
        let refused = orders.list_orders(long).await.unwrap_err();
        assert_refused(&refused, Code::Unauthenticated, "TOKEN_TOO_LONG");
    }
    let mut of_another = TokenSigner::claims("customer", "anna", Duration::from_mins(10));
    of_another["aud"] = "another service".into();
    let of_another = doors.signer.sign(&of_another).unwrap();
    let refused = orders.list_orders(by(Some(&of_another), list())).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_UNTRUSTED");
    let mut twice: Request<ListOrdersRequest> = by(Some(&doors.token("customer", "anna")), list());
    twice
        .metadata_mut()
        .append("authorization", "Bearer a.b.c".parse().unwrap());
    let refused = orders.list_orders(twice).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_MISSING");
    let driver = doors.token("driver", "cab-1");
    let refused = orders.list_orders(by(Some(&driver), list())).await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, "ROLE_NOT_ALLOWED");
    // A health check asks for no token.
    let health = tonic_health::pb::HealthCheckRequest::default();
    doors.rig.health().check(health).await.unwrap();

    orders
        .list_orders(by(Some(&doors.token("dispatcher", "dora")), list()))
        .await
        .unwrap();
    let expected = json!({
        "OK": 1, "TOKEN_MISSING": 2, "TOKEN_UNTRUSTED": 2, "TOKEN_TOO_LONG": 3, "ROLE_NOT_ALLOWED": 1
    });
    assert_eq!(doors.rig.metrics().await["auth"]["calls"], expected);
}
