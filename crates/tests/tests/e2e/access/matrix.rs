//! X1, X3: every method by every caller on what is its own, another's, and not there, against a table that is typed by hand.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use testkit::Rig;
use testkit::wire::{PICKUP, a_ride, fix};
use tonic::transport::Channel;
use tonic::{Code, Status};
use uuid::Uuid;
use waybill_domain::access::Method;
use waybill_proto::admin::v1 as admin;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::driver::v1 as driver;
use waybill_proto::driver::v1::driver_service_client::DriverServiceClient;
use waybill_proto::fleet::v1 as fleet;
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::location::v1 as location;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::order::v1 as order;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::tracking::v1 as tracking;
use waybill_proto::tracking::v1::tracking_service_client::TrackingServiceClient;
use waybill_sandbox::tokens::TokenSigner;

use super::{Doors, by};

/// The callers, in the order of the columns of [`TABLE`].
const CALLERS: [&str; 8] = [
    "no one",
    "expired",
    "anna",
    "anna for one order",
    "cab-1",
    "dispatcher",
    "service",
    "operator",
];

/// For each caller three letters: what it gets for what is anna's (or cab-1's), for what is ben's (or cab-2's), and for
/// what is not there. `o` it is done, or refused for the state that it is in; `e` done, and it found nothing; `r` done, and
/// each fix rejected; `x` `NOT_FOUND`; `d` `PERMISSION_DENIED`; `u` `UNAUTHENTICATED`.
const TABLE: &str = "
    GetOrder         uuu uuu oxx oxx oxx oox oox oox
    WatchOrder       uuu uuu oxx oxx oxx oox oox oox
    ListOrders       uuu uuu oee oee ddd ooe ooe ooe
    WatchShared      oox oox oox oox oox oox oox oox
    ShareOrder       uuu uuu oxx oxx ddd oox oox oox
    GetDriver        uuu uuu oxx oxx oxx oox oox oox
    SearchDrivers    uuu uuu ddd ddd ddd ooo ooo ooo
    WatchDrivers     uuu uuu ddd ddd ddd ooo ooo ooo
    ListLocations    uuu uuu ddd ddd oee ooe ooe ooe
    StreamLocations  uuu uuu ddd ddd orr ddd ooo ddd
    ReportLocations  uuu uuu ddd ddd orr ddd ooo ddd
    ReplayLocations  uuu uuu ddd ddd ddd ooo ooo ooo
    WatchAssignments uuu uuu ddd ddd odd ooo ooo ooo
    SetDuty          uuu uuu ddd ddd odd ooo ooo ddd
    ListStuckOrders  uuu uuu ddd ddd ddd ddd ddd ooo
    ShowOrder        uuu uuu ddd ddd ddd ddd ddd oox
    RetryOrder       uuu uuu ddd ddd ddd ddd ddd oox
    ResolveOrder     uuu uuu ddd ddd ddd ddd ddd oox
    RefundAgain      uuu uuu ddd ddd ddd ddd ddd oox
    ShowHealth       uuu uuu ddd ddd ddd ddd ddd ooo
    EraseDriver      uuu uuu ddd ddd ddd ddd ooo ooo
    EraseUser        uuu uuu ddd ddd ddd ddd ooo ooo
    RevokeShare      uuu uuu oxx oxx ddd oox oox oox
    CreateOrder      uuu uuu odd ddd ddd ooo ooo ddd
    RefundOrder      uuu uuu ddd ddd ddd ddd oox oox
    CompleteOrder    uuu uuu ddd ddd oxx oox oox ddd
    ReleaseDriver    uuu uuu ddd ddd oxx oox oox ddd
    CancelOrder      uuu uuu oxx oxx ddd oox oox ddd
";

/// What a call is about.
pub struct Target {
    pub user: &'static str,
    pub order: String,
    pub driver: &'static str,
    /// The secret of a link to the order.
    pub link: String,
}

#[tokio::test]
async fn every_caller_gets_of_every_method_what_the_table_says() {
    let doors = Doors::start(Rig::builder().impatient().set("orders.assignment_window", "0s")).await;
    let place = async |user: &str, driver: &str| {
        let service = doors.token("service", "shop");
        let channel = doors.rig.channel();
        let fixes = vec![fix(driver, PICKUP.0, PICKUP.1, Timestamp::now())];
        let report = location::ReportLocationsRequest { fixes };
        let mut locations = LocationServiceClient::new(channel.clone());
        locations.report_locations(by(Some(&service), report)).await.unwrap();
        let request = order::CreateOrderRequest {
            user_id: user.to_owned(),
            ..a_ride()
        };
        let placed = OrderServiceClient::new(channel)
            .create_order(by(Some(&service), request))
            .await;
        let placed = placed.unwrap().into_inner().order.unwrap();
        assert_eq!(placed.assignment.unwrap().driver_id, driver);
        let request = order::ShareOrderRequest {
            order_id: placed.order_id.clone(),
            lifetime: None,
        };
        let shared = doors.orders().share_order(by(Some(&service), request)).await.unwrap();
        (placed.order_id, shared.into_inner().token)
    };
    let (annas, bens) = (place("anna", "cab-1").await, place("ben", "cab-2").await);
    let targets = [
        Target {
            user: "anna",
            order: annas.0,
            driver: "cab-1",
            link: annas.1,
        },
        Target {
            user: "ben",
            order: bens.0,
            driver: "cab-2",
            link: bens.1,
        },
        Target {
            user: "zoe",
            order: Uuid::now_v7().to_string(),
            driver: "cab-9",
            link: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        },
    ];
    doors.rig.until_written().await;
    let mut expired = TokenSigner::claims("service", "shop", Duration::from_mins(1));
    expired["exp"] = (Timestamp::now().as_second() - 60).into();
    let mut for_one = TokenSigner::claims("customer", "anna", Duration::from_mins(10));
    for_one["waybill"]["order_id"] = targets[0].order.as_str().into();
    let tokens = [
        None,
        Some(doors.signer.sign(&expired).unwrap()),
        Some(doors.token("customer", "anna")),
        Some(doors.signer.sign(&for_one).unwrap()),
        Some(doors.token("driver", "cab-1")),
        Some(doors.token("dispatcher", "dora")),
        Some(doors.token("service", "shop")),
        Some(doors.token("operator", "olga")),
    ];

    let mut wrong = Vec::new();
    let rows: Vec<&str> = TABLE.trim().lines().map(str::trim).collect();
    for row in &rows {
        let mut cells = row.split_whitespace();
        let name = cells.next().unwrap();
        let method = *Method::ALL.iter().find(|method| format!("{method:?}") == name).unwrap();
        let expected: Vec<&str> = cells.collect();
        assert_eq!(expected.len(), CALLERS.len(), "{row}");
        // Those who see less first: who may change something changes it for those after them.
        for ((caller, token), expected) in CALLERS.iter().zip(&tokens).zip(&expected) {
            let mut found = Vec::new();
            for target in &targets {
                found.push(call(method, token.as_deref(), target, doors.rig.channel()).await);
            }
            let letters: String = found.iter().map(|(letter, _)| *letter).collect();
            if letters != **expected {
                wrong.push(format!("{name} by {caller}: {letters} and not {expected}: {found:?}"));
            }
            // X3: what is foreign cannot be distinguished from what is not there.
            if letters.ends_with("xx") && found[1].1 != found[2].1 {
                wrong.push(format!("{name} by {caller} tells what is foreign: {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let named: HashSet<&str> = rows.iter().filter_map(|row| row.split_whitespace().next()).collect();
    assert_eq!(named.len(), Method::ALL.len(), "a method without a row");
    doors.rig.assert_clean().await;
}

/// The letter of the answer, and all that a caller sees of a refusal.
pub type Found = (char, Option<(Code, String, Vec<u8>)>);

pub async fn call(method: Method, token: Option<&str>, target: &Target, channel: Channel) -> Found {
    let mut orders = OrderServiceClient::new(channel.clone());
    let mut locations = LocationServiceClient::new(channel.clone());
    let mut drivers = FleetServiceClient::new(channel.clone());
    let mut apps = DriverServiceClient::new(channel.clone());
    let mut operators = AdminServiceClient::new(channel.clone());
    let mut followers = TrackingServiceClient::new(channel);
    let (order_id, driver_id) = (target.order.clone(), target.driver.to_owned());
    let (operator, reason) = ("olga".to_owned(), "a test".to_owned());
    let done = |answer: Result<(), Status>| answer.map(|()| 'o');
    let answer = match method {
        Method::CreateOrder => {
            let request = order::CreateOrderRequest {
                user_id: target.user.to_owned(),
                ..a_ride()
            };
            done(orders.create_order(by(token, request)).await.map(drop))
        }
        Method::GetOrder => done(
            orders
                .get_order(by(token, order::GetOrderRequest { order_id }))
                .await
                .map(drop),
        ),
        Method::ListOrders => {
            let request = order::ListOrdersRequest {
                user_id: target.user.to_owned(),
                ..order::ListOrdersRequest::default()
            };
            let listed = orders.list_orders(by(token, request)).await;
            listed.map(|listed| {
                if listed.into_inner().orders.is_empty() {
                    'e'
                } else {
                    'o'
                }
            })
        }
        Method::WatchOrder => {
            let request = order::WatchOrderRequest {
                order_id,
                after_step_id: None,
            };
            match orders.watch_order(by(token, request)).await {
                Ok(stream) => done(stream.into_inner().message().await.map(drop)),
                Err(status) => Err(status),
            }
        }
        Method::CompleteOrder => {
            let request = order::CompleteOrderRequest {
                order_id,
                ..order::CompleteOrderRequest::default()
            };
            done(orders.complete_order(by(token, request)).await.map(drop))
        }
        Method::CancelOrder => {
            let request = order::CancelOrderRequest {
                order_id,
                cancellation_fee: None,
            };
            done(orders.cancel_order(by(token, request)).await.map(drop))
        }
        Method::ShareOrder => {
            let request = order::ShareOrderRequest {
                order_id,
                lifetime: None,
            };
            done(orders.share_order(by(token, request)).await.map(drop))
        }
        Method::RevokeShare => {
            let request = order::RevokeShareRequest {
                order_id,
                share_id: String::new(),
            };
            done(orders.revoke_share(by(token, request)).await.map(drop))
        }
        Method::WatchShared => {
            let request = tracking::WatchSharedRequest {
                token: target.link.clone(),
            };
            match followers.watch_shared(by(token, request)).await {
                Ok(stream) => done(stream.into_inner().message().await.map(drop)),
                Err(status) => Err(status),
            }
        }
        Method::RefundOrder => {
            let request = order::RefundOrderRequest {
                order_id,
                idempotency_key: Uuid::now_v7().to_string(),
                amount: Some(order::Money {
                    currency_code: "USD".to_owned(),
                    minor_units: 100,
                }),
                reason,
            };
            done(orders.refund_order(by(token, request)).await.map(drop))
        }
        Method::ReleaseDriver => {
            // In the name of the one driver that the caller may be: whose order it is decides.
            let request = order::ReleaseDriverRequest {
                order_id,
                driver_id: "cab-1".to_owned(),
                reason,
            };
            done(orders.release_driver(by(token, request)).await.map(drop))
        }
        Method::StreamLocations => {
            let message = location::StreamLocationsRequest {
                first_sequence: 1,
                fixes: vec![fix(&driver_id, PICKUP.0, PICKUP.1, Timestamp::now())],
            };
            match locations.stream_locations(by(token, tokio_stream::once(message))).await {
                Ok(stream) => {
                    let answer = stream.into_inner().message().await;
                    answer.map(|answer| {
                        if answer.unwrap().rejections.is_empty() {
                            'o'
                        } else {
                            'r'
                        }
                    })
                }
                Err(status) => Err(status),
            }
        }
        Method::ReportLocations => {
            let fixes = vec![fix(&driver_id, PICKUP.0, PICKUP.1, Timestamp::now())];
            let answer = locations
                .report_locations(by(token, location::ReportLocationsRequest { fixes }))
                .await;
            answer.map(|answer| {
                if answer.into_inner().rejections.is_empty() {
                    'o'
                } else {
                    'r'
                }
            })
        }
        Method::GetDriver => done(
            drivers
                .get_driver(by(token, fleet::GetDriverRequest { driver_id }))
                .await
                .map(drop),
        ),
        Method::SearchDrivers => {
            let request = fleet::SearchDriversRequest {
                near: Some(testkit::wire::position(PICKUP)),
                ..fleet::SearchDriversRequest::default()
            };
            done(drivers.search_drivers(by(token, request)).await.map(drop))
        }
        Method::WatchDrivers => {
            let ids = fleet::DriverIds {
                driver_ids: vec![driver_id],
            };
            let request = fleet::WatchDriversRequest {
                scope: Some(fleet::watch_drivers_request::Scope::Drivers(ids)),
                interval: None,
                cursor: String::new(),
            };
            match drivers.watch_drivers(by(token, request)).await {
                Ok(stream) => done(stream.into_inner().message().await.map(drop)),
                Err(status) => Err(status),
            }
        }
        Method::ReplayLocations => {
            let request = fleet::ReplayLocationsRequest { from: None };
            match drivers.replay_locations(by(token, request)).await {
                Ok(stream) => done(stream.into_inner().message().await.map(drop)),
                Err(status) => Err(status),
            }
        }
        Method::WatchAssignments => {
            let request = driver::WatchAssignmentsRequest {
                driver_id,
                cursor: String::new(),
            };
            match apps.watch_assignments(by(token, request)).await {
                Ok(stream) => done(stream.into_inner().message().await.map(drop)),
                Err(status) => Err(status),
            }
        }
        Method::SetDuty => {
            let request = driver::SetDutyRequest {
                driver_id,
                on_duty: Some(true),
                tags: None,
            };
            done(apps.set_duty(by(token, request)).await.map(drop))
        }
        Method::ListLocations => {
            let request = fleet::ListLocationsRequest {
                driver_id,
                ..fleet::ListLocationsRequest::default()
            };
            let listed = drivers.list_locations(by(token, request)).await;
            listed.map(|listed| {
                if listed.into_inner().locations.is_empty() {
                    'e'
                } else {
                    'o'
                }
            })
        }
        Method::ListStuckOrders => {
            let request = admin::ListStuckOrdersRequest { page_size: 0 };
            done(operators.list_stuck_orders(by(token, request)).await.map(drop))
        }
        Method::ShowOrder => done(
            operators
                .show_order(by(token, admin::ShowOrderRequest { order_id }))
                .await
                .map(drop),
        ),
        Method::RetryOrder => {
            let request = admin::RetryOrderRequest {
                order_id,
                operator,
                reason,
            };
            done(operators.retry_order(by(token, request)).await.map(drop))
        }
        Method::ResolveOrder => {
            let request = admin::ResolveOrderRequest {
                order_id,
                outcome: admin::Outcome::NotCharged.into(),
                operator,
                reason,
                ..admin::ResolveOrderRequest::default()
            };
            done(operators.resolve_order(by(token, request)).await.map(drop))
        }
        Method::RefundAgain => {
            let request = admin::RefundAgainRequest {
                order_id,
                operator,
                reason,
            };
            done(operators.refund_again(by(token, request)).await.map(drop))
        }
        Method::ShowHealth => {
            let request = admin::ShowHealthRequest {};
            done(operators.show_health(by(token, request)).await.map(drop))
        }
        Method::EraseDriver => {
            let request = admin::EraseDriverRequest {
                driver_id,
                ..admin::EraseDriverRequest::default()
            };
            done(operators.erase_driver(by(token, request)).await.map(drop))
        }
        Method::EraseUser => {
            let request = admin::EraseUserRequest {
                user_id: target.user.to_owned(),
                ..admin::EraseUserRequest::default()
            };
            done(operators.erase_user(by(token, request)).await.map(drop))
        }
    };
    match answer {
        Ok(letter) => (letter, None),
        Err(status) => {
            let letter = match status.code() {
                Code::Unauthenticated => 'u',
                Code::PermissionDenied => 'd',
                Code::NotFound => 'x',
                // Of the state that it is in, which who is not to see it does not learn.
                Code::FailedPrecondition | Code::Aborted => 'o',
                _ => '?',
            };
            let seen = (status.code(), status.message().to_owned(), status.details().to_vec());
            (letter, Some(seen))
        }
    }
}
