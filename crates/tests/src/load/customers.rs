//! The load: customers who come at their own times, whatever becomes of those before them, and cabs that report where
//! they are. Some customers hang up, some ask twice at once, some change their mind, some are where no cab is.

use std::sync::Arc;
use std::time::Duration;

use crate::chance::{Chance, pass};
use crate::wire::{a_ride, cancel, complete, fix, now, position};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::transport::Channel;
use uuid::Uuid;
use waybill_proto::location::v1::location_service_client::LocationServiceClient;
use waybill_proto::location::v1::{Fix, ReportLocationsRequest};
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{
    CreateOrderRequest, ListOrdersRequest, Money, PaymentMode, RefundOrderRequest, ReleaseDriverRequest,
};

use super::calls::{Outcome, bounded, create};
use super::findings::Tally;
use super::history::{Answered, History, OTHER_UNIT};
use super::tokens::Tokens;

const CITY: (f64, f64) = (37.7749, -122.4194);
/// No cab comes here.
const FAR_AWAY: (f64, f64) = (38.9, -121.0);
const CABS: usize = 40;
const FIX_EVERY: Duration = Duration::from_millis(900);
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// So many drivers of a hundred decline an order that they were given.
const DECLINES_PERCENT: u64 = 10;
/// So many of a hundred rides cost less than was agreed, so many cancellations cost a fee, and so many customers get a part of
/// what they paid back.
const CHEAPER_PERCENT: u64 = 30;
const FEE_PERCENT: u64 = 40;
const REFUNDS_PERCENT: u64 = 15;
/// So many of a hundred pay in a currency that the provider counts in another unit than ISO 4217.
const OTHER_UNIT_PERCENT: u64 = 10;
/// So often a customer without a driver asks whether the ride is over.
const COMPLETE_TRIES: u32 = 8;
/// A key in so many is one that another user has as well.
const SHARED_KEYS_PERCENT: u64 = 10;
const KEY_SHARED_BY_MANY: &str = "a-key-that-many-users-choose";

type Orders = OrderServiceClient<Channel>;

/// Who makes the load.
#[derive(Clone)]
pub struct Load {
    /// How they come in.
    pub gates: Vec<Channel>,
    /// What they show.
    pub tokens: Arc<Tokens>,
    /// What they are answered.
    pub history: Arc<History>,
    /// Counts them.
    pub tally: Arc<Tally>,
    /// No more orders, and no more calls about them.
    pub closing: CancellationToken,
}

impl Load {
    /// Customers come until `closing`; returns when the last has hung up.
    pub async fn customers(self, per_second: u64, mut chance: Chance) {
        let tasks = TaskTracker::new();
        let mean = 1_000 / per_second.max(1);
        for number in 0.. {
            let wait = pass(chance.millis(0, 2 * mean));
            if self.closing.run_until_cancelled(wait).await.is_none() {
                break;
            }
            Tally::count(&self.tally.orders);
            let (load, chance) = (self.clone(), chance.of(number));
            // One who is cut off by the end has hung up.
            tasks.spawn(async move {
                let customer = Box::pin(load.customer(number, chance));
                load.closing.run_until_cancelled(customer).await;
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    /// One customer, from the order to the end of the ride.
    async fn customer(&self, number: u64, mut chance: Chance) {
        let request = an_order(number, &mut chance);
        let twin = chance.percent(15);
        let changes_mind = chance.percent(12);
        let first = self.ask(&request, chance.of(1));
        let again = async {
            if twin {
                self.ask(&request, chance.of(2)).await
            } else {
                None
            }
        };
        let cancel = async {
            if changes_mind {
                self.cancel(&request, chance.of(3)).await;
            }
        };
        let (answered, also_answered, ()) = tokio::join!(first, again, cancel);
        if let Some(order) = answered.or(also_answered)
            && order.status == "succeeded"
            && !changes_mind
        {
            pass(chance.millis(200, 3_000)).await;
            if chance.percent(DECLINES_PERCENT) {
                self.decline(&order, chance.of(5)).await;
            }
            let order = order.order.to_string();
            let price = request.amount.clone().unwrap_or_default();
            if self.complete(&order, &price, chance.of(4)).await && chance.percent(REFUNDS_PERCENT) {
                self.refund(&order, &price, chance.of(6)).await;
            }
        }
    }

    /// Asks until there is an answer; some hang up before it, and only some of these come back.
    async fn ask(&self, request: &CreateOrderRequest, mut chance: Chance) -> Option<Answered> {
        loop {
            let impatient = chance.percent(25);
            let (gate, channel) = self.gate(&mut chance);
            self.history.asks(request);
            let call = create(channel, &self.tokens, request, CALL_DEADLINE);
            let outcome = if impatient {
                match tokio::time::timeout(chance.millis(5, 1_500), call).await {
                    Ok(outcome) => outcome,
                    Err(_) => Outcome::Unknown(Status::cancelled("hung up")),
                }
            } else {
                call.await
            };
            if let Some(order) = self.history.record_create(request, &outcome, gate) {
                return Some(order);
            }
            if impatient && chance.percent(40) {
                return None;
            }
            pass(chance.millis(50, 900)).await;
        }
    }

    /// Finds out which order it is, and cancels it; at a random moment of its life.
    async fn cancel(&self, request: &CreateOrderRequest, mut chance: Chance) {
        let user = request.user_id.as_str();
        pass(chance.millis(0, 3_000)).await;
        let order = loop {
            let (_, channel) = self.gate(&mut chance);
            let request = ListOrdersRequest {
                user_id: user.to_owned(),
                ..ListOrdersRequest::default()
            };
            let list = bounded(CALL_DEADLINE, async {
                Ok(Orders::new(channel)
                    .list_orders(self.tokens.customer(user, request))
                    .await?
                    .into_inner())
            })
            .await;
            self.history.record("list", user, &list);
            if let Outcome::Ok(list) = list
                && let Some(order) = list.orders.into_iter().next()
            {
                break order.order_id;
            }
            pass(chance.millis(200, 1_000)).await;
        };
        // Refused with a fee: there is no driver. Refused without one: it has failed, or was completed, and stays so.
        let fee = chance.percent(FEE_PERCENT).then(|| part(request.amount.as_ref(), 5));
        for fee in [fee, None] {
            let call = |mut orders: Orders| {
                let mut request = cancel(&order);
                request.cancellation_fee.clone_from(&fee);
                let request = self.tokens.service(request);
                async move { orders.cancel_order(request).await.map(drop) }
            };
            if let Outcome::Ok(()) = self.until_definite("cancel", &order, &mut chance, call).await {
                return;
            }
        }
    }

    /// A part of what was paid is refunded, and asked for twice.
    async fn refund(&self, order: &str, price: &Money, mut chance: Chance) {
        let request = RefundOrderRequest {
            order_id: order.to_owned(),
            idempotency_key: Uuid::now_v7().to_string(),
            amount: Some(part(Some(price), 10)),
            reason: "late".to_owned(),
        };
        for _ in 0..2 {
            let call = |mut orders: Orders| {
                let request = self.tokens.service(request.clone());
                async move { orders.refund_order(request).await.map(drop) }
            };
            self.until_definite("refund", order, &mut chance, call).await;
        }
    }

    /// The driver does not serve the order after all.
    async fn decline(&self, answered: &Answered, mut chance: Chance) {
        let Some(driver) = &answered.driver else { return };
        let request = ReleaseDriverRequest {
            order_id: answered.order.to_string(),
            driver_id: driver.clone(),
            reason: "flat tyre".to_owned(),
        };
        let order = request.order_id.clone();
        let call = |mut orders: Orders| {
            let request = self.tokens.driver(driver, request.clone());
            async move { orders.release_driver(request).await.map(drop) }
        };
        self.until_definite("release", &order, &mut chance, call).await;
    }

    /// The ride is over; or, while the order looks for another driver, a little later. Whether it was completed.
    async fn complete(&self, order: &str, price: &Money, mut chance: Chance) -> bool {
        let cost = chance.percent(CHEAPER_PERCENT).then(|| part(Some(price), 2));
        for _ in 0..=COMPLETE_TRIES {
            let call = |mut orders: Orders| {
                let mut request = complete(order);
                request.final_amount.clone_from(&cost);
                let request = self.tokens.service(request);
                async move { orders.complete_order(request).await.map(drop) }
            };
            let answer = self.until_definite("complete", order, &mut chance, call).await;
            if let Outcome::Ok(()) = answer {
                return true;
            }
            pass(chance.millis(100, 1_000)).await;
        }
        false
    }

    /// Makes a call about an order, at any of the gates, until it is answered or refused.
    async fn until_definite<C: Future<Output = Result<(), Status>>>(
        &self,
        name: &'static str,
        order: &str,
        chance: &mut Chance,
        call: impl Fn(Orders) -> C,
    ) -> Outcome<()> {
        loop {
            let (_, channel) = self.gate(chance);
            let answer = bounded(CALL_DEADLINE, call(Orders::new(channel))).await;
            self.history.record(name, order, &answer);
            if !matches!(answer, Outcome::Unknown(_)) {
                return answer;
            }
            pass(chance.millis(100, 1_000)).await;
        }
    }

    /// The cabs stand where they are and report it, until `home`.
    pub async fn cabs(self, home: CancellationToken, mut chance: Chance) {
        while !home.is_cancelled() {
            let now = now();
            let fixes: Vec<Fix> = (0..CABS).map(|cab| cab_fix(cab, now)).collect();
            let (_, channel) = self.gate(&mut chance);
            let answer = bounded(Duration::from_secs(2), async {
                let request = self.tokens.service(ReportLocationsRequest { fixes });
                let answer = LocationServiceClient::new(channel).report_locations(request).await?;
                Ok(answer.into_inner())
            })
            .await;
            self.history.record("report", "", &answer);
            if let Outcome::Ok(answer) = &answer
                && answer.rejections.is_empty()
            {
                self.history.acknowledged((0..CABS).map(|cab| (cab_name(cab), now)));
            }
            home.run_until_cancelled(pass(FIX_EVERY)).await;
        }
    }

    fn gate(&self, chance: &mut Chance) -> (usize, Channel) {
        let gate = chance.index(self.gates.len());
        (gate, self.gates[gate].clone())
    }
}

fn an_order(number: u64, chance: &mut Chance) -> CreateOrderRequest {
    let (lat, lon) = if chance.percent(15) { FAR_AWAY } else { CITY };
    let payment_method = if chance.percent(5) {
        "pm_card_chargeDeclined"
    } else {
        "pm_card_visa"
    };
    let idempotency_key = if chance.percent(SHARED_KEYS_PERCENT) {
        KEY_SHARED_BY_MANY.to_owned()
    } else {
        Uuid::now_v7().to_string()
    };
    let mut request = CreateOrderRequest {
        idempotency_key,
        user_id: format!("rider-{number:06}"),
        payment_method: payment_method.to_owned(),
        ..a_ride()
    };
    if let Some(amount) = &mut request.amount {
        amount.minor_units = 500 + i64::try_from(chance.below(5_000)).unwrap_or(0);
        if chance.percent(OTHER_UNIT_PERCENT) {
            OTHER_UNIT.clone_into(&mut amount.currency_code);
        }
    }
    request.payment_mode = chance
        .pick(&[
            PaymentMode::ChargeFirst,
            PaymentMode::CaptureAtAssignment,
            PaymentMode::CaptureAtCompletion,
        ])
        .to_owned()
        .into();
    let (lat, lon) = (lat + 0.02 * (chance.unit() - 0.5), lon + 0.02 * (chance.unit() - 0.5));
    request.pickup = Some(position((lat, lon)));
    request
}

/// The price, divided; at least one unit.
fn part(price: Option<&Money>, by: i64) -> Money {
    let mut money = price.cloned().unwrap_or_default();
    money.minor_units = (money.minor_units / by).max(50);
    money
}

fn cab_name(cab: usize) -> String {
    format!("cab-{cab:02}")
}

fn cab_fix(cab: usize, at: Timestamp) -> Fix {
    // On a grid of some 3 km.
    let step = |number: usize| f64::from(u32::try_from(number).unwrap_or(0)) * 0.004 - 0.014;
    fix(&cab_name(cab), CITY.0 + step(cab / 6), CITY.1 + step(cab % 6), at)
}
