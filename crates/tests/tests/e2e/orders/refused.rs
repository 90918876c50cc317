//! Requests that are refused before anything is stored: bad fields, unknown orders, too many at once.

use testkit::Rig;
use testkit::wire::{a_ride, assert_refused_for_now, position, refusal_fields};
use tonic::{Code, Request};
use waybill_proto::location::v1::LatLng;
use waybill_proto::order::v1::{CreateOrderRequest, GetOrderRequest, ListOrdersRequest, Money};

type Change = fn(&mut CreateOrderRequest);

fn money(request: &mut CreateOrderRequest) -> &mut Money {
    request.amount.as_mut().unwrap()
}

fn pickup(request: &mut CreateOrderRequest) -> &mut LatLng {
    request.pickup.as_mut().unwrap()
}

/// The fields that a refusal must name, and what is done to a valid request: each case is refused.
const BAD: &[(&str, &[Change])] = &[
    (
        "amount.minor_units",
        &[
            |request| money(request).minor_units = 0,
            |request| money(request).minor_units = -1,
            |request| money(request).minor_units = i64::MIN,
            |request| money(request).minor_units = 100_000_000,
        ],
    ),
    (
        "amount.currency_code",
        &[
            |request| money(request).currency_code = "QQQ".into(),
            |request| money(request).currency_code = "usd".into(),
            |request| money(request).currency_code.clear(),
        ],
    ),
    ("amount", &[|request| request.amount = None]),
    (
        "pickup.latitude",
        &[
            |request| pickup(request).latitude = Some(f64::NAN),
            |request| pickup(request).latitude = Some(f64::INFINITY),
            |request| pickup(request).latitude = Some(90.000_001),
            // 0 is a place, and has to be said.
            |request| pickup(request).latitude = None,
            |request| *pickup(request) = LatLng::default(),
        ],
    ),
    (
        "pickup.longitude",
        &[
            |request| pickup(request).longitude = Some(f64::NEG_INFINITY),
            |request| pickup(request).longitude = Some(-180.000_001),
            |request| pickup(request).longitude = None,
        ],
    ),
    ("pickup", &[|request| request.pickup = None]),
    (
        "drop_off.longitude",
        &[|request| request.drop_off = Some(position((0.0, f64::NAN)))],
    ),
    (
        "idempotency_key",
        &[
            |request| request.idempotency_key.clear(),
            |request| request.idempotency_key = "k".repeat(15),
            |request| request.idempotency_key = "k".repeat(256),
            |request| request.idempotency_key = "a key\nof two lines".into(),
            |request| request.idempotency_key = "a key with a \0 in it".into(),
            |request| request.idempotency_key = "ein Schlüssel, nicht ASCII".into(),
        ],
    ),
    (
        "user_id",
        &[
            |request| request.user_id.clear(),
            |request| request.user_id = "u".repeat(65),
            |request| request.user_id = "user 1".into(),
            |request| request.user_id = "user\0".into(),
        ],
    ),
    (
        "payment_method",
        &[
            |request| request.payment_method.clear(),
            |request| request.payment_method = "p".repeat(65),
            |request| request.payment_method = "pm&amount=1".into(),
        ],
    ),
    (
        "amount.currency_code amount.minor_units idempotency_key pickup.latitude user_id",
        &[|request| {
            request.idempotency_key.clear();
            request.user_id.clear();
            *money(request) = Money::default();
            pickup(request).latitude = Some(91.0);
        }],
    ),
    (
        "amount idempotency_key payment_method pickup user_id",
        &[|request| *request = CreateOrderRequest::default()],
    ),
];

#[tokio::test]
async fn every_bad_field_of_an_order_is_named_and_nothing_is_stored() {
    let rig = Rig::start().await;
    for (fields, changes) in BAD {
        for change in *changes {
            let mut request = a_ride();
            change(&mut request);
            let shown = format!("{request:?}");
            let refused = rig.orders().create_order(request).await.expect_err(&shown);
            assert_eq!(refusal_fields(&refused).join(" "), *fields, "{shown}");
        }
    }
    assert_eq!(rig.count("select count(*) from order_sagas").await, 0);
    assert_eq!(rig.payments().requests(), 0);
}

#[tokio::test]
async fn the_limits_themselves_are_allowed() {
    let rig = Rig::builder().set("orders.assignment_window", "0s").start().await;
    let changes: [Change; 6] = [
        |request| money(request).minor_units = 50,
        |request| money(request).minor_units = 99_999_999,
        |request| request.idempotency_key = "k".repeat(16),
        |request| request.idempotency_key = "k".repeat(255),
        |request| request.user_id = "u".repeat(64),
        |request| *pickup(request) = position((-90.0, 180.0)),
    ];
    for change in changes {
        let mut request = a_ride();
        change(&mut request);
        rig.place(request).await;
    }
    rig.assert_clean().await;
}

#[tokio::test]
async fn an_order_id_must_be_one_and_must_be_known() {
    let rig = Rig::start().await;
    let mut orders = rig.orders();
    let unknown = uuid::Uuid::now_v7().to_string();
    for (order_id, code) in [
        (String::new(), Code::InvalidArgument),
        ("17".to_owned(), Code::InvalidArgument),
        (unknown.repeat(10), Code::InvalidArgument),
        (format!("{unknown}\0"), Code::InvalidArgument),
        (unknown, Code::NotFound),
    ] {
        let get = GetOrderRequest {
            order_id: order_id.clone(),
        };
        let refusals = [
            orders.get_order(get).await.unwrap_err(),
            rig.complete(&order_id).await.unwrap_err(),
            rig.cancel(&order_id).await.unwrap_err(),
        ];
        for refused in refusals {
            assert_eq!(refused.code(), code, "{order_id:?}: {refused:?}");
            if code == Code::InvalidArgument {
                assert_eq!(refusal_fields(&refused), ["order_id"]);
            }
        }
    }
}

#[tokio::test]
async fn every_bad_field_of_a_listing_is_named() {
    let rig = Rig::start().await;
    let request = ListOrdersRequest {
        user_id: "user 1".to_owned(),
        status: 99,
        page_size: -1,
        page_token: "of something else".to_owned(),
    };
    let refused = rig.orders().list_orders(request).await.unwrap_err();
    let fields = ["page_size", "page_token", "status", "user_id"];
    assert_eq!(refusal_fields(&refused), fields);
}

#[tokio::test]
async fn a_user_above_its_rate_is_refused_with_the_time_to_come_again_and_others_are_not() {
    let rig = Rig::with(
        "limits.orders_per_user.per_second=1 limits.orders_per_user.burst=2 limits.wait_max=0ms \
        orders.assignment_window=0s",
    )
    .await;
    let of_one_user = || {
        let mut request = a_ride();
        request.user_id = "eager".to_owned();
        Request::new(request)
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut orders, request) = (rig.orders(), of_one_user());
        calls.spawn(async move { orders.create_order(request).await });
    }
    let refused: Vec<_> = calls.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty());
    for status in &refused {
        assert_refused_for_now(status, Code::ResourceExhausted);
    }
    rig.place(a_ride()).await;

    let orders = i64::try_from(9 - refused.len()).unwrap();
    let stored = rig.count("select count(*) from order_sagas").await;
    assert_eq!(stored, orders, "a refusal stores nothing");
    let counted = rig.metrics().await["ingress"]["rate_limit_refusals"].clone();
    let counted = counted.as_object().unwrap().values();
    let counted: u64 = counted.filter_map(serde_json::Value::as_u64).sum();
    assert_eq!(counted, refused.len() as u64);
    rig.assert_clean().await;
}
