//! What is counted: the work that every fix, every order and every call costs, whatever Redis, Postgres and the network
//! do.

use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use prost::Message as _;
use waybill_domain::fix::{Fix, Freshness, TimeWindow};
use waybill_domain::id::OrderId;
use waybill_domain::money::Money;
use waybill_domain::order::{Assignment, Event, Order, Payment, PaymentMode, State, Work};
use waybill_domain::position::Position;
use waybill_domain::tenant::Tenant;
use waybill_proto::Encoded;
use waybill_proto::location::v1 as pb;
use waybill_server::grpc;
use waybill_server::grpc::fixes::Batch;
use waybill_server::storage::keys::{Keys, ShardKeys};
use waybill_server::storage::live::{Commands, LiveSettings};

use super::callers;
use super::callgrind::counted_by_callgrind;

/// Something to count.
pub struct Case {
    /// Its name in `instructions.toml`.
    pub name: &'static str,
    run: Box<dyn Fn()>,
}

impl Case {
    /// `work` on what `prepare` makes. Neither making nor dropping that counts, nor dropping the result.
    fn new<I, O>(name: &'static str, prepare: impl Fn() -> I + 'static, work: impl Fn(&I) -> O + 'static) -> Case {
        let run = move || {
            // Once before, so that whatever is made at the first use is there.
            black_box(work(black_box(&prepare())));
            let input = prepare();
            let mut output = None;
            counted_by_callgrind(&mut || output = Some(work(black_box(&input))));
            black_box(output);
        };
        let run = Box::new(run);
        Case { name, run }
    }

    /// Runs it, once before it is counted and once while it is.
    pub fn run(&self) {
        (self.run)();
    }
}

/// Everything that is counted, in the order of the table.
pub fn all() -> Vec<Case> {
    vec![
        Case::new("take_1_fix", || message(1), take),
        Case::new("take_100_fixes", || message(100), take),
        Case::new("append_1_fix", || fixes(1), |fixes| append(fixes)),
        Case::new("append_100_fixes", || fixes(100), |fixes| append(fixes)),
        Case::new("latest_1_fix", || newest(1), |newest| latest(newest)),
        Case::new("latest_100_fixes", || newest(100), |newest| latest(newest)),
        Case::new("acknowledge", acknowledgement, wire),
        Case::new("live_an_order", || LIFE, live),
        Case::new("answer_an_order", order, answer),
        Case::new("admit_a_token", || callers::customer(now()), callers::admit),
        Case::new("admit_an_api_key", || callers::program(now()), callers::admit),
    ]
}

/// Half past six in the evening of the 23rd of May 2026 (UTC), always.
const NOW_SECS: i64 = 1_779_561_000;

/// As in `config/waybill.toml`.
const WINDOW: TimeWindow = TimeWindow {
    future_max: Duration::from_secs(30),
    age_max: Duration::from_hours(24),
};

static COMMANDS: LazyLock<Commands> = LazyLock::new(|| {
    Commands::new(LiveSettings {
        freshness: Freshness {
            ttl: Duration::from_secs(30),
            live_age_max: Duration::from_mins(2),
        },
        high_water: 1_000_000,
    })
});

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::new("", 1, &[]));
static SHARD: LazyLock<ShardKeys> = LazyLock::new(|| KEYS.shards()[0].clone());

fn now() -> Timestamp {
    Timestamp::constant(NOW_SECS, 123_456_000)
}

/// A message of the location stream as it arrives: of so many drivers, one fix each, as an uplink sends it.
fn message(fixes: u32) -> Bytes {
    let fixes = (0..fixes).map(|n| pb::Fix {
        driver_id: format!("driver-{n:06}"),
        position: Some(pb::LatLng {
            latitude: Some(37.774_929 + f64::from(n) * 0.000_173),
            longitude: Some(-122.419_416 - f64::from(n) * 0.000_291),
        }),
        recorded_at: Some(prost_types::Timestamp {
            seconds: NOW_SECS,
            nanos: 1_000_000,
        }),
    });
    let message = pb::StreamLocationsRequest {
        first_sequence: 1_000,
        fixes: fixes.collect(),
    };
    message.encode_to_vec().into()
}

/// From the bytes of a message to the fixes that are stored and whose limit each counts against.
fn take(message: &Bytes) -> Batch {
    let message = pb::StreamLocationsRequest::decode(message.clone()).expect("it was encoded here");
    let batch = Batch::parse(
        message.fixes,
        message.first_sequence,
        now(),
        WINDOW,
        &Tenant::default(),
        None,
    );
    black_box(batch.by_driver());
    batch
}

fn fixes(count: u32) -> Vec<Fix> {
    take(&message(count)).fixes
}

/// What stores a batch: the first command to Redis.
fn append(fixes: &[Fix]) -> impl Sized + use<> {
    COMMANDS.append(&SHARD, fixes, &COMMANDS.newest(fixes, now()), now())
}

/// What moves the drivers of a batch: the second one.
fn latest(newest: &[(usize, &'static Fix)]) -> impl Sized + use<> {
    COMMANDS.latest(&KEYS, newest, now())
}

/// Of a batch that is never freed.
fn newest(count: u32) -> Vec<(usize, &'static Fix)> {
    COMMANDS.newest(fixes(count).leak(), now())
}

fn acknowledgement() -> pb::StreamLocationsResponse {
    pb::StreamLocationsResponse {
        acknowledged_sequence: 1_099,
        rejections: Vec::new(),
        clock_offsets: Vec::new(),
    }
}

/// A message as tonic writes it: into a buffer that has room.
fn wire(message: &impl prost::Message) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(8 * 1024);
    message.encode(&mut buffer).expect("there is room");
    buffer
}

/// The longest way in which an order goes: an unknown charge, an unassigned driver, a cancellation, an unknown refund.
const LIFE: [Event; 9] = [
    Event::ChargeIntended,
    Event::ChargeUnknown,
    Event::Charged,
    Event::DriverAssigned,
    Event::DriverUnassigned,
    Event::DriverAssigned,
    Event::Cancelled,
    Event::RefundUnknown,
    Event::Refunded,
];

/// Every step of that way decided, and every event followed.
fn live(events: &[Event; 9]) -> State {
    events.iter().fold(State::Started, |state, &event| {
        black_box(black_box(state).pending_step(black_box(Work::default())));
        state.next(black_box(event)).expect("the way is a legal one")
    })
}

/// An order that succeeded: the one whose answer most callers get.
fn order() -> Order {
    let place = |lat, lon| Position::new(lat, lon).expect("it is on the globe");
    Order {
        id: OrderId::new(uuid::Uuid::from_u128(0x0197_0000_0000_7000_8000_0000_0000_0001)),
        user: "user-000042".parse().expect("it is a name"),
        amount: Money::new("USD".parse().expect("it is a currency"), 2_350).expect("it is a price"),
        payment_mode: PaymentMode::ChargeFirst,
        pickup: place(37.774_929, -122.419_416),
        drop_off: Some(place(37.804_363, -122.271_111)),
        required_tags: waybill_domain::duty::Tags::default(),
        state: State::Succeeded,
        failure_reason: None,
        created_at: now(),
        updated_at: now(),
        payment: Some(Payment {
            charged_at: now(),
            provider_charge_id: "pi_3PqWbJ2eZvKYlo2C1gQ8hXyZ".to_owned(),
            to_capture_minor: None,
            captured_minor: Some(2_350),
            kept_minor: 0,
            refund: None,
        }),
        assignment: Some(Assignment {
            driver: "driver-000042".parse().expect("it is a name"),
            assigned_at: now(),
            release: None,
        }),
    }
}

/// From a settled order to the bytes of its answer: what is stored, and what goes out.
fn answer(order: &Order) -> BytesMut {
    wire(&Encoded(grpc::answer(order).body))
}
