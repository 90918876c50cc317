//! Every request of the contract as strangers could write it: any bytes are decoded as each of them, and parsed. What is taken
//! keeps the ranges of the domain, and what is refused is refused briefly, with INVALID_ARGUMENT.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status};
use waybill_domain::fix::TimeWindow;
use waybill_domain::id::DriverId;
use waybill_domain::money::Money;
use waybill_domain::tenant::Tenant;
use waybill_proto::admin::v1 as admin;
use waybill_proto::fleet::v1 as fleet;
use waybill_proto::location::v1 as location;
use waybill_proto::order::v1 as order;
use waybill_proto::tracking::v1 as tracking;

mod checks;
mod drivers;

use self::checks::{check_name, check_operator, check_position, check_reason, check_refund, check_stored};
use super::fixes::Batch;
use super::{fields, inbound, tracking as tracking_api};
use super::{fleet as fleet_api, operator as operator_api, order as order_api};
use crate::fuzz::{corpus, fuzz};
use crate::live_feed::WatchedDrivers;

const NOW_SECS: i64 = 1_795_348_000;
const ORDER: &str = "01a20315-5e19-7147-aacf-821719f49b3a";
const WINDOW: TimeWindow = TimeWindow {
    future_max: Duration::from_secs(30),
    age_max: Duration::from_hours(24),
};
/// Clients read some 8 KiB of headers, in which a refusal has to fit.
const REFUSAL_BYTES_MAX: usize = 4 * 1024;

/// A request of the contract: its name, the bytes of a good one, and what the service makes of any.
struct Request {
    name: &'static str,
    good: Vec<u8>,
    take: Box<Take>,
}

type Take = dyn Fn(&[u8]);

#[expect(clippy::needless_pass_by_value, reason = "the calls read better without a reference")]
fn request<M: Message + Default + 'static>(good: M, take: impl Fn(&M) + 'static) -> Request {
    Request {
        name: std::any::type_name::<M>().rsplit("::").next().unwrap(),
        good: good.encode_to_vec(),
        take: Box::new(move |bytes| {
            if let Ok(message) = M::decode(bytes) {
                take(&message);
            }
        }),
    }
}

#[test]
fn whatever_a_request_is_it_is_taken_within_its_ranges_or_refused_briefly() {
    let requests = requests();
    let mut inputs = corpus("requests");
    inputs.extend(requests.iter().map(|request| request.good.clone()));
    inputs.extend(extremes());
    fuzz(&inputs, |input| {
        for request in &requests {
            (request.take)(input);
        }
    });
}

#[test]
fn every_request_of_the_contract_is_fuzzed() {
    let files = FileDescriptorSet::decode(waybill_proto::FILE_DESCRIPTOR_SET)
        .unwrap()
        .file;
    let methods = files
        .iter()
        .flat_map(|file| &file.service)
        .flat_map(|service| &service.method);
    let expected: BTreeSet<&str> = methods
        .filter_map(|method| method.input_type().rsplit('.').next())
        .collect();
    let requests = requests();
    assert_eq!(
        requests.iter().map(|request| request.name).collect::<BTreeSet<_>>(),
        expected
    );
}

/// What was taken, of a request that was not refused.
fn taken<T>(parsed: Result<T, Status>) -> Option<T> {
    parsed
        .map_err(|refusal| {
            assert_eq!(refusal.code(), Code::InvalidArgument);
            let length = refusal.message().len() + refusal.details().len();
            assert!(length <= REFUSAL_BYTES_MAX, "a refusal of {length} bytes");
        })
        .ok()
}

fn requests() -> Vec<Request> {
    let mut requests = orders();
    requests.extend(positions());
    requests.extend(drivers::drivers());
    requests.extend(operators());
    requests
}

fn orders() -> Vec<Request> {
    let order_id = || ORDER.to_owned();
    vec![
        request(create_order(), |create| {
            if let Some(order) = taken(order_api::parse_create(create, &tenant())) {
                let amount = order.amount;
                assert_eq!(Money::payable(amount.currency(), amount.minor_units()), Ok(amount));
                assert!((16..=255).contains(&order.key.as_str().len()));
                check_stored(order.user.as_str());
                check_name(order.payment_method.as_str());
                check_position(order.pickup);
                order.drop_off.into_iter().for_each(check_position);
                drivers::check_tags(&order.required_tags);
                let _ = order.hash();
            }
        }),
        request(order::GetOrderRequest { order_id: order_id() }, |get| {
            taken(order_api::parse_id(&get.order_id));
        }),
        request(
            order::ListOrdersRequest {
                user_id: "anna".to_owned(),
                status: order::OrderStatus::Succeeded.into(),
                page_size: 10,
                page_token: format!("1.{}.anna.{ORDER}", i32::from(order::OrderStatus::Succeeded)),
            },
            |list| {
                if let Some((_, size)) = taken(order_api::parse_list(list, &tenant())) {
                    assert!((1..=500).contains(&size));
                }
            },
        ),
        request(
            order::WatchOrderRequest {
                order_id: order_id(),
                after_step_id: Some(7),
            },
            |watch| {
                if let Some((_, after)) = taken(order_api::parse_watch(watch)) {
                    assert!(after.is_none_or(|step| step >= 0));
                }
            },
        ),
        request(
            order::CompleteOrderRequest {
                order_id: order_id(),
                driver_id: "cab-1".to_owned(),
                final_amount: Some(eur(1_250)),
            },
            |complete| {
                if let Some((_, driver, amount)) = taken(order_api::parse_complete(complete, &tenant())) {
                    driver.iter().map(DriverId::as_str).for_each(check_stored);
                    amount.into_iter().for_each(check_refund);
                }
            },
        ),
        request(
            order::CancelOrderRequest {
                order_id: order_id(),
                cancellation_fee: Some(eur(300)),
            },
            |cancel| {
                if let Some((_, fee)) = taken(order_api::parse_cancel(cancel)) {
                    fee.into_iter().for_each(check_refund);
                }
            },
        ),
        request(
            order::RefundOrderRequest {
                order_id: order_id(),
                idempotency_key: "a refund of ours".to_owned(),
                amount: Some(eur(100)),
                reason: "late".to_owned(),
            },
            |refund| {
                if let Some(refund) = taken(order_api::parse_refund(refund)) {
                    check_refund(refund.amount);
                    check_reason(&refund.reason);
                }
            },
        ),
        request(
            order::ReleaseDriverRequest {
                order_id: order_id(),
                driver_id: "cab-1".to_owned(),
                reason: "a flat tyre".to_owned(),
            },
            |release| {
                if let Some((_, driver, reason)) = taken(order_api::parse_release(release, &tenant())) {
                    check_stored(driver.as_str());
                    check_reason(&reason);
                }
            },
        ),
        request(
            order::ShareOrderRequest {
                order_id: order_id(),
                lifetime: Some(prost_types::Duration {
                    seconds: 3_600,
                    nanos: 5,
                }),
            },
            |share| {
                if let Some((_, lifetime)) = taken(tracking_api::parse_share(share)) {
                    assert!((Duration::from_mins(1)..=Duration::from_hours(168)).contains(&lifetime));
                }
            },
        ),
        request(
            order::RevokeShareRequest {
                order_id: order_id(),
                share_id: ORDER.to_owned(),
            },
            |revoke| {
                taken(tracking_api::parse_revoke(revoke));
            },
        ),
        // Its token is hashed as it is.
        request(
            tracking::WatchSharedRequest {
                token: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            },
            |_| {},
        ),
    ]
}

fn positions() -> Vec<Request> {
    let fixes = || vec![fix(0), fix(-60), fix(31)];
    vec![
        request(
            location::StreamLocationsRequest {
                first_sequence: u64::MAX - 3,
                fixes: fixes(),
            },
            |message| {
                if let Some((last, after)) = taken(inbound::parse_sequences(message, 0)) {
                    let first = message.first_sequence;
                    assert_eq!(after - first, message.fixes.len() as u64);
                    assert_eq!(last + 1, after);
                    check_fixes(&message.fixes, first);
                }
            },
        ),
        request(location::ReportLocationsRequest { fixes: fixes() }, |report| {
            check_fixes(&report.fixes, 0);
        }),
        request(
            fleet::GetDriverRequest {
                driver_id: "cab-1".to_owned(),
            },
            |get| {
                let driver = fields::Violations::default().parse::<DriverId>("driver_id", &get.driver_id);
                driver.iter().map(DriverId::as_str).for_each(check_name);
            },
        ),
        request(
            fleet::ListLocationsRequest {
                driver_id: "cab-1".to_owned(),
                from: Some(prost_types::Timestamp {
                    seconds: NOW_SECS,
                    nanos: 0,
                }),
                until: None,
                oldest_first: true,
                page_size: 10,
                page_token: format!("1.1.{NOW_SECS}:0..cab-1.{NOW_SECS}000000"),
            },
            |list| {
                if let Some((driver, listed, size)) = taken(fleet_api::parse_locations(list)) {
                    check_name(driver.as_str());
                    assert!((1..=1_000).contains(&size));
                    assert!(listed.from.zip(listed.until).is_none_or(|(from, until)| from <= until));
                }
            },
        ),
        request(
            fleet::WatchDriversRequest {
                scope: Some(fleet::watch_drivers_request::Scope::Area(fleet::Area {
                    south_west: Some(san_francisco()),
                    north_east: Some(san_francisco()),
                })),
                interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
                cursor: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
            },
            |watch| {
                if let Some((drivers, interval)) = taken(fleet_api::parse_watch(watch)) {
                    assert!((250..=30_000).contains(&interval.as_millis()));
                    if let WatchedDrivers::Drivers(drivers) = drivers {
                        assert!((1..=100).contains(&drivers.len()));
                        drivers.iter().map(DriverId::as_str).for_each(check_name);
                    }
                }
            },
        ),
        request(
            fleet::SearchDriversRequest {
                near: Some(san_francisco()),
                radius_meters: 800.0,
                max_count: 5,
            },
            |search| {
                if let Some((area, count)) = taken(fleet_api::parse_search(search)) {
                    check_position(area.centre);
                    assert!((1.0..=50_000.0).contains(&area.radius_m) && (1..=50).contains(&count));
                }
            },
        ),
    ]
}

fn operators() -> Vec<Request> {
    let order_id = || ORDER.to_owned();
    let (olga, reason) = (|| "Olga Ortiz".to_owned(), || "asked the bank".to_owned());
    vec![
        // There is nothing in it to parse.
        request(admin::ShowHealthRequest {}, |_| {}),
        request(admin::ListStuckOrdersRequest { page_size: 10 }, |list| {
            if let Some(size) = taken(operator_api::parse_page(list.page_size)) {
                assert!((1..=500).contains(&size));
            }
        }),
        request(admin::ShowOrderRequest { order_id: order_id() }, |show| {
            taken(order_api::parse_id(&show.order_id));
        }),
        request(
            admin::RetryOrderRequest {
                order_id: order_id(),
                operator: olga(),
                reason: reason(),
            },
            |retry| {
                if let Some((_, by, reason)) = taken(operator_api::parse_retry(retry, None)) {
                    check_operator(&by);
                    reason.iter().for_each(check_reason);
                }
            },
        ),
        request(
            admin::ResolveOrderRequest {
                order_id: order_id(),
                outcome: admin::Outcome::Refunded.into(),
                provider_id: "bank transfer 7".to_owned(),
                unverified: true,
                operator: olga(),
                reason: reason(),
                amount_minor_units: 100,
            },
            |resolve| {
                if let Some((_, _, by, reason)) = taken(operator_api::parse_resolve(resolve, None)) {
                    check_operator(&by);
                    check_reason(&reason);
                }
            },
        ),
        request(
            admin::RefundAgainRequest {
                order_id: order_id(),
                operator: olga(),
                reason: reason(),
            },
            |again| {
                if let Some((_, by, reason)) = taken(operator_api::parse_refund_again(again, None)) {
                    check_operator(&by);
                    check_reason(&reason);
                }
            },
        ),
    ]
}

fn create_order() -> order::CreateOrderRequest {
    order::CreateOrderRequest {
        idempotency_key: "a key of sixteen".to_owned(),
        user_id: "anna".to_owned(),
        amount: Some(eur(1_250)),
        payment_method: "pm_card_visa".to_owned(),
        pickup: Some(san_francisco()),
        drop_off: Some(san_francisco()),
        provider_customer_id: "cus_1".to_owned(),
        payment_mode: order::PaymentMode::CaptureAtCompletion.into(),
        required_tags: vec!["xl".to_owned(), "wheelchair".to_owned()],
    }
}

fn tenant() -> Tenant {
    "acme".parse().unwrap()
}

fn eur(minor_units: i64) -> order::Money {
    order::Money {
        currency_code: "EUR".to_owned(),
        minor_units,
    }
}

fn san_francisco() -> location::LatLng {
    location::LatLng {
        latitude: Some(37.7749),
        longitude: Some(-122.4194),
    }
}

fn fix(offset_secs: i64) -> location::Fix {
    location::Fix {
        driver_id: "cab-1".to_owned(),
        position: Some(san_francisco()),
        recorded_at: Some(prost_types::Timestamp {
            seconds: NOW_SECS + offset_secs,
            nanos: 999_999_999,
        }),
    }
}

/// What an altered byte seldom makes: numbers at the ends of their ranges, deep in a message whose lengths are right.
fn extremes() -> Vec<Vec<u8>> {
    let times = [
        (i64::MIN, 0),
        (i64::MAX, 999_999_999),
        (NOW_SECS, -1),
        (NOW_SECS, 1_000_000_000),
    ];
    let points = [
        (f64::NAN, 0.0),
        (f64::INFINITY, 0.0),
        (-90.0, -180.0),
        (90.0, 180.000_001),
    ];
    let fixes = times
        .into_iter()
        .zip(points)
        .flat_map(|((seconds, nanos), (latitude, longitude))| {
            let at = Some(prost_types::Timestamp { seconds, nanos });
            let (latitude, longitude) = (Some(latitude), Some(longitude));
            let there = Some(location::LatLng { latitude, longitude });
            [
                location::Fix {
                    recorded_at: at,
                    ..fix(0)
                },
                location::Fix {
                    position: there,
                    ..fix(0)
                },
            ]
        });
    let fixes: Vec<location::Fix> = fixes.collect();
    let amounts = [i64::MIN, -1, 0, i64::MAX].map(|amount| {
        let amount = Some(eur(amount));
        order::CreateOrderRequest {
            amount,
            ..create_order()
        }
        .encode_to_vec()
    });
    let lifetimes = times.map(|(seconds, nanos)| {
        let lifetime = Some(prost_types::Duration { seconds, nanos });
        let order_id = ORDER.to_owned();
        order::ShareOrderRequest { order_id, lifetime }.encode_to_vec()
    });
    let streams = [u64::MAX, u64::MAX - fixes.len() as u64].map(|first_sequence| {
        let fixes = fixes.clone();
        location::StreamLocationsRequest { first_sequence, fixes }.encode_to_vec()
    });
    [
        &amounts[..],
        &lifetimes,
        &streams,
        &[location::ReportLocationsRequest { fixes }.encode_to_vec()],
    ]
    .concat()
}

fn check_fixes(fixes: &[location::Fix], first: u64) {
    let now = Timestamp::from_second(NOW_SECS).unwrap();
    let batch = Batch::parse(fixes.to_vec(), first, now, WINDOW, &tenant(), None);
    assert_eq!(batch.fixes.len() + batch.rejections.len(), fixes.len());
    for fix in &batch.fixes {
        check_stored(fix.driver.as_str());
        check_position(fix.position);
        let ahead = fix.recorded_at.duration_since(now);
        assert!((SignedDuration::from_hours(-24)..=SignedDuration::from_secs(30)).contains(&ahead));
    }
    for rejection in &batch.rejections {
        assert!(rejection.sequence - first < fixes.len() as u64);
        assert!(rejection.message.len() < 300, "{}", rejection.message);
    }
}
