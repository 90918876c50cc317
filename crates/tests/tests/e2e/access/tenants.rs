//! Several businesses in one deployment: none sees, changes, blocks or starves another (X1, X3), though all use the same names.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::json;
use testkit::wire::{PICKUP, a_ride, assert_refused, by, fix, position};
use testkit::{Rig, until};
use tonic::transport::Channel;
use tonic::{Code, Response};
use uuid::Uuid;
use waybill_domain::access::Method;
use waybill_proto::admin::v1::admin_service_client::AdminServiceClient;
use waybill_proto::admin::v1::{ListStuckOrdersRequest, Outcome, ResolveOrderRequest, ShowOrderRequest};
use waybill_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use waybill_proto::fleet::v1::watch_drivers_request::Scope;
use waybill_proto::fleet::v1::{DriverIds, GetDriverRequest, SearchDriversRequest, WatchDriversRequest};
use waybill_proto::location::v1::ReportLocationsRequest;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::order::v1::{CreateOrderRequest, GetOrderRequest, ListOrdersRequest, Order, ShareOrderRequest};
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};
use waybill_sandbox::tokens::TokenSigner;

use super::matrix::{Found, Target, call};
use super::{Doors, api_keys};
use crate::cli::on_stores;

/// The business without a name is one of them.
const TENANTS: [&str; 3] = ["", "acme", "beta"];

impl Doors {
    async fn of_many() -> Doors {
        Doors::start(Rig::builder().impatient().set("tenants.names", "acme,beta")).await
    }

    /// A token of someone in a business; of the one without a name for `""`.
    pub fn token_in(&self, tenant: &str, role: &str, subject: &str) -> String {
        let mut claims = TokenSigner::claims(role, subject, Duration::from_mins(10));
        if !tenant.is_empty() {
            claims["waybill"]["tenant"] = tenant.into();
        }
        self.signer.sign(&claims).unwrap()
    }

    pub async fn report_in(&self, tenant: &str, driver: &str, place: (f64, f64)) {
        let locations = LocationServiceClient::new(self.rig.channel());
        self.report_to(locations, tenant, driver, place).await;
    }

    pub(super) async fn report_to(
        &self,
        mut locations: LocationServiceClient<Channel>,
        tenant: &str,
        driver: &str,
        (lat, lon): (f64, f64),
    ) {
        let fixes = vec![fix(driver, lat, lon, Timestamp::now())];
        let token = self.token_in(tenant, "driver", driver);
        let reported = locations.report_locations(by(Some(&token), ReportLocationsRequest { fixes }));
        assert_eq!(reported.await.unwrap().into_inner().rejections, []);
    }

    /// Anna's order in this business, by her own key, which is the same in all.
    pub(super) async fn place_in(&self, tenant: &str) -> Order {
        let ride = CreateOrderRequest {
            idempotency_key: "the-first-order-of-anna".to_owned(),
            user_id: "anna".to_owned(),
            ..a_ride()
        };
        let token = self.token_in(tenant, "customer", "anna");
        let placed = self.orders().create_order(by(Some(&token), ride)).await;
        placed.unwrap().into_inner().order.unwrap()
    }

    /// In each business a driver cab-1, and anna's order, which it serves.
    async fn one_order_each(&self) -> Vec<Order> {
        let mut orders = Vec::new();
        for tenant in TENANTS {
            self.report_in(tenant, "cab-1", PICKUP).await;
            orders.push(self.place_in(tenant).await);
        }
        orders
    }
}

#[tokio::test]
async fn the_same_names_are_others_in_each_business() {
    let doors = Doors::of_many().await;
    let orders = doors.one_order_each().await;
    for order in &orders {
        // Each has the driver of that name, which is free in each.
        assert_eq!(
            (&*order.user_id, &*order.assignment.as_ref().unwrap().driver_id),
            ("anna", "cab-1")
        );
    }
    assert_eq!(doors.rig.charges().len(), 3, "one key, three customers");
    let sql = doors.rig.sql().await;
    let rows = sql
        .query(
            "select user_id, driver_id from order_sagas join order_assignments using (order_id) order by 1",
            &[],
        )
        .await
        .unwrap();
    let rows: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let stored = [
        ("acme/anna", "acme/cab-1"),
        ("anna", "cab-1"),
        ("beta/anna", "beta/cab-1"),
    ];
    assert_eq!(rows, stored.map(|(user, driver)| (user.to_owned(), driver.to_owned())));
    let mut redis = doors.rig.redis().await;
    for key in [
        "driver:cab-1",
        "driver:acme/cab-1",
        "driver:beta/cab-1",
        "drivers:geo",
        "drivers:geo:{acme}",
    ] {
        let there: bool = redis::cmd("EXISTS").arg(key).query_async(&mut redis).await.unwrap();
        assert!(there, "{key}");
    }
    doors.rig.until_written().await;
    doors.rig.assert_clean().await;
}

/// What a caller sees. The metadata of a refused role come in any order.
fn seen((letter, refusal): Found) -> Found {
    let refusal = refusal.map(|(code, text, mut details)| {
        if letter == 'd' {
            details.sort_unstable();
        }
        (code, text, details)
    });
    (letter, refusal)
}

/// Every method that names an order, by every role of acme, on the order of another business and on none: the same to the byte.
#[tokio::test]
async fn what_is_of_another_business_is_not_there() {
    let doors = Doors::of_many().await;
    let mut foreign = Vec::new();
    let orders = doors.one_order_each().await;
    for (tenant, order) in TENANTS.iter().zip(&orders) {
        let share = ShareOrderRequest {
            order_id: order.order_id.clone(),
            lifetime: None,
        };
        let service = doors.token_in(tenant, "service", "shop");
        doors.orders().share_order(by(Some(&service), share)).await.unwrap();
        foreign.push(order.order_id.clone());
    }
    let about_an_order = [
        Method::GetOrder,
        Method::WatchOrder,
        Method::ShareOrder,
        Method::RevokeShare,
        Method::ShowOrder,
        Method::RetryOrder,
        Method::ResolveOrder,
        Method::RefundAgain,
        Method::RefundOrder,
        Method::CompleteOrder,
        Method::ReleaseDriver,
        Method::CancelOrder,
    ];
    let target = |order: &str| Target {
        user: "anna",
        order: order.to_owned(),
        driver: "cab-1",
        link: String::new(),
    };
    let mut compared = 0;
    for (own, tenant) in TENANTS.iter().enumerate() {
        for (role, subject) in [
            ("customer", "anna"),
            ("driver", "cab-1"),
            ("dispatcher", "dora"),
            ("service", "shop"),
            ("operator", "olga"),
        ] {
            let token = doors.token_in(tenant, role, subject);
            for method in about_an_order {
                let none = call(
                    method,
                    Some(&token),
                    &target(&Uuid::now_v7().to_string()),
                    doors.rig.channel(),
                )
                .await;
                assert!(['x', 'd'].contains(&none.0), "{method:?} by {role}: {none:?}");
                for (number, order) in foreign.iter().enumerate() {
                    if number != own {
                        let found = call(method, Some(&token), &target(order), doors.rig.channel()).await;
                        assert_eq!(
                            seen(found),
                            seen(none.clone()),
                            "{method:?} by {role} of {tenant:?} on the order of {:?}",
                            TENANTS[number]
                        );
                        compared += 1;
                    }
                }
            }
        }
    }
    assert_eq!(compared, 3 * 5 * 12 * 2);
    // None of it changed anything.
    for (tenant, order) in TENANTS.iter().zip(&orders) {
        let token = doors.token_in(tenant, "service", "shop");
        let request = GetOrderRequest {
            order_id: order.order_id.clone(),
        };
        let now = doors.orders().get_order(by(Some(&token), request)).await.unwrap();
        let now = now.into_inner().order.unwrap();
        assert_eq!((&now.status, &now.assignment), (&order.status, &order.assignment));
    }
}

fn bytes(answers: &mut Vec<Vec<u8>>, answer: Response<impl prost::Message>) {
    answers.push(answer.into_inner().encode_to_vec());
}

#[tokio::test]
async fn lists_and_searches_are_of_one_business_and_show_no_prefix() {
    let doors = Doors::of_many().await;
    let orders = doors.one_order_each().await;
    let apart = [(48.1, 11.5), (50.1, 8.6), (53.5, 10.0)];
    for (tenant, place) in TENANTS.iter().zip(apart) {
        doors.report_in(tenant, "cab-1", place).await;
        doors.report_in(tenant, "cab-2", PICKUP).await;
    }
    for ((tenant, order), place) in TENANTS.iter().zip(&orders).zip(apart) {
        let mut answers = Vec::new();
        for (role, subject) in [
            ("customer", "anna"),
            ("dispatcher", "dora"),
            ("service", "shop"),
            ("operator", "olga"),
        ] {
            let token = doors.token_in(tenant, role, subject);
            for user_id in ["", "anna"] {
                let request = ListOrdersRequest {
                    user_id: user_id.to_owned(),
                    ..ListOrdersRequest::default()
                };
                let listed = doors.orders().list_orders(by(Some(&token), request)).await.unwrap();
                let ids: Vec<&str> = listed
                    .get_ref()
                    .orders
                    .iter()
                    .map(|order| order.order_id.as_str())
                    .collect();
                assert_eq!(ids, [order.order_id.as_str()], "{role} of {tenant:?}");
                bytes(&mut answers, listed);
            }
        }
        let (dora, olga) = (
            doors.token_in(tenant, "dispatcher", "dora"),
            doors.token_in(tenant, "operator", "olga"),
        );
        let mut fleet = FleetServiceClient::new(doors.rig.channel());
        let search = SearchDriversRequest {
            near: Some(position(PICKUP)),
            ..SearchDriversRequest::default()
        };
        let near = fleet.search_drivers(by(Some(&dora), search)).await.unwrap();
        assert_eq!(
            near.get_ref().drivers.len(),
            1,
            "cab-2 of {tenant:?} alone is free here"
        );
        bytes(&mut answers, near);
        let get = GetDriverRequest {
            driver_id: "cab-1".to_owned(),
        };
        let driver = fleet.get_driver(by(Some(&dora), get)).await.unwrap();
        let found = driver.get_ref().driver.as_ref().unwrap().position.unwrap();
        assert!((found.latitude() - place.0).abs() < 1e-6, "{tenant:?}: {found:?}");
        bytes(&mut answers, driver);
        let ids = DriverIds {
            driver_ids: vec!["cab-1".to_owned()],
        };
        let watch = WatchDriversRequest {
            scope: Some(Scope::Drivers(ids)),
            interval: None,
            cursor: String::new(),
        };
        let watched = fleet.watch_drivers(by(Some(&dora), watch)).await.unwrap();
        let first = watched.into_inner().message().await.unwrap().unwrap();
        assert_eq!(first.drivers[0].position, Some(found), "{tenant:?}");
        bytes(&mut answers, Response::new(first));
        let mut operators = AdminServiceClient::new(doors.rig.channel());
        let show = ShowOrderRequest {
            order_id: order.order_id.clone(),
        };
        bytes(&mut answers, operators.show_order(by(Some(&olga), show)).await.unwrap());
        for answer in answers {
            let text = String::from_utf8_lossy(&answer);
            for name in ["acme/", "beta/"] {
                assert!(!text.contains(name), "{name} in an answer to {tenant:?}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn operators_see_what_is_stuck_in_their_business() {
    let doors = Doors::of_many().await;
    doors.one_order_each().await;
    doors
        .rig
        .execute("update order_sagas set needs_attention = 'a test' where user_id <> 'acme/anna'")
        .await;
    for (tenant, count) in TENANTS.iter().zip([1, 0, 1]) {
        let token = doors.token_in(tenant, "operator", "olga");
        let request = by(Some(&token), ListStuckOrdersRequest { page_size: 0 });
        let stuck = AdminServiceClient::new(doors.rig.channel())
            .list_stuck_orders(request)
            .await;
        assert_eq!(stuck.unwrap().into_inner().orders.len(), count, "{tenant:?}");
    }
}

#[tokio::test]
async fn a_key_is_of_one_business_and_one_that_is_not_ours_opens_nothing() {
    let doors = Doors::of_many().await;
    let orders = doors.one_order_each().await;
    let variables = "WAYBILL_TENANTS__NAMES";
    let refused = on_stores(&doors.rig, &["keys", "create", "--name", "shop", "--tenant", "gamma"]).await;
    assert_eq!(refused.status, Some(64), "{refused:?}");
    assert!(refused.stderr.contains("tenants.names"), "{variables}: {refused:?}");
    // As if it was made before its name was taken out of the settings.
    let key = api_keys::create(&doors.rig, &["--name", "shop"]).await;
    let list = async || {
        let request = by(Some(&key), ListOrdersRequest::default());
        doors
            .orders()
            .list_orders(request)
            .await
            .map(|listed| listed.into_inner().orders)
    };
    until("the key is known", async || list().await).await;
    for (tenant, expected) in [("beta", Some(&orders[2])), ("acme", Some(&orders[1])), ("gone", None)] {
        doors
            .rig
            .execute(&format!("update api_keys set tenant = '{tenant}'"))
            .await;
        until("the key is of that business", async || match (list().await, expected) {
            (Ok(found), Some(order)) if found.len() == 1 && found[0].order_id == order.order_id => Ok(()),
            (Err(status), None) if status.code() == Code::Unauthenticated => Ok(()),
            (other, _) => Err(other.map(|found| found.len())),
        })
        .await;
    }
    let mut claims = TokenSigner::claims("dispatcher", "dora", Duration::from_mins(10));
    claims["waybill"] = json!({ "role": "dispatcher", "tenant": "gone" });
    let token = doors.signer.sign(&claims).unwrap();
    let request = by(Some(&token), ListOrdersRequest::default());
    let refused = doors.orders().list_orders(request).await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "TOKEN_CLAIMS");
}

/// The rate limits of one are not those of the other: also not of the user of the same name.
#[tokio::test]
async fn who_calls_too_often_in_one_business_slows_no_one_in_another() {
    let limits = "limits.orders_per_user.per_second=1 limits.orders_per_user.burst=1 limits.wait_max=0s";
    let builder = Rig::builder()
        .impatient()
        .set("tenants.names", "acme,beta")
        .with(limits);
    let doors = Doors::start(builder).await;
    for tenant in TENANTS {
        doors.report_in(tenant, "cab-1", PICKUP).await;
        doors.place_in(tenant).await;
        let ride = CreateOrderRequest {
            user_id: "anna".to_owned(),
            ..a_ride()
        };
        let token = doors.token_in(tenant, "customer", "anna");
        // At once, for a second brings another.
        let more = join_all((0..5).map(|_| {
            let (mut orders, order) = (doors.orders(), by(Some(&token), ride.clone()));
            async move {
                orders
                    .create_order(order)
                    .await
                    .map_or_else(|status| status.code(), |_| Code::Ok)
            }
        }));
        assert!(more.await.contains(&Code::ResourceExhausted), "{tenant:?}");
    }
}

/// One business may take half of what all have, and no more: the others are let in.
#[tokio::test]
async fn who_floods_one_business_leaves_room_for_the_others() {
    let limits = "limits.reads_in_all.per_second=1 limits.reads_in_all.burst=20 limits.wait_max=0s";
    let builder = Rig::builder()
        .impatient()
        .set("tenants.names", "acme,beta")
        .with(limits);
    let doors = Doors::start(builder).await;
    let list = async |tenant: &str, user: &str| {
        let token = doors.token_in(tenant, "customer", user);
        let request = by(Some(&token), ListOrdersRequest::default());
        doors.orders().list_orders(request).await.map(drop)
    };
    let mut refused = None;
    for number in 0..20 {
        refused = list("acme", &format!("user-{number}")).await.err();
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused.unwrap().code(), Code::ResourceExhausted);
    list("beta", "anna").await.unwrap();
    list("", "anna").await.unwrap();
}

/// Who names the payment of another business, by chance or to see whether there is one, learns nothing of it.
#[tokio::test]
async fn a_payment_of_another_business_is_none_to_its_operators() {
    let doors = Doors::start(
        Rig::builder()
            .impatient()
            .set("tenants.names", "acme")
            .with("grpc.deadline_default=1s"),
    )
    .await;
    doors.report_in("", "cab-1", PICKUP).await;
    doors.place_in("").await;
    let foreign = doors.rig.charges()[0].provider_id.clone();
    let fault = Fault::always(FaultKind::ErrorBeforeEffect).on(FaultTarget::Charge);
    doors.rig.payments().set_fault(fault);
    let ride = CreateOrderRequest {
        user_id: "anna".to_owned(),
        ..a_ride()
    };
    let anna = doors.token_in("acme", "customer", "anna");
    doors.orders().create_order(by(Some(&anna), ride)).await.unwrap_err();
    let sql = doors.rig.sql().await;
    let query = "select order_id::text from order_sagas where user_id = 'acme/anna'";
    let order_id: String = sql.query_one(query, &[]).await.unwrap().get(0);
    let olga = doors.token_in("acme", "operator", "olga");
    let resolve = async |provider_id: &str| {
        let request = ResolveOrderRequest {
            order_id: order_id.clone(),
            outcome: Outcome::Charged.into(),
            provider_id: provider_id.to_owned(),
            operator: "olga".to_owned(),
            reason: "it is in the dashboard".to_owned(),
            ..ResolveOrderRequest::default()
        };
        let mut operators = AdminServiceClient::new(doors.rig.channel());
        let refused = operators.resolve_order(by(Some(&olga), request)).await.unwrap_err();
        let text = refused.message().replace(provider_id, "ID");
        (refused.code(), text)
    };
    // The same number of characters, so that the details are as long.
    let none = "x".repeat(foreign.len());
    assert_eq!(resolve(&foreign).await, resolve(&none).await);
}
