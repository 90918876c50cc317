//! What a watcher of an order receives, from where, until when, and what a watcher must not do to others.

use std::time::Duration;

use testkit::sql::column;
use testkit::wire::{PICKUP, a_ride, assert_refused_for_now, refusal_fields};
use testkit::{Rig, until, until_eq};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use uuid::Uuid;
use waybill_proto::order::v1::order_service_client::OrderServiceClient;
use waybill_proto::order::v1::{Order, OrderStatus, Step, WatchOrderRequest, WatchOrderResponse};
use waybill_sandbox::proxy::Mode;

/// Longer than anything here takes on a machine that has other work.
const DEADLINE: Duration = Duration::from_secs(30);

/// A watch of one order.
struct Watch {
    changes: Streaming<WatchOrderResponse>,
}

impl Watch {
    async fn try_open(
        mut orders: OrderServiceClient<Channel>,
        order_id: &str,
        after_step_id: Option<i64>,
    ) -> Result<Watch, Status> {
        let request = WatchOrderRequest {
            order_id: order_id.to_owned(),
            after_step_id,
        };
        let opened = timeout(DEADLINE, orders.watch_order(request)).await;
        Ok(Watch {
            changes: opened.expect("an answer in time")?.into_inner(),
        })
    }

    async fn open(orders: OrderServiceClient<Channel>, order_id: &str, after_step_id: Option<i64>) -> Watch {
        let opened = Watch::try_open(orders, order_id, after_step_id).await;
        opened.expect("the watch is taken")
    }

    /// The next message; `None` at an end with OK.
    async fn next(&mut self) -> Option<WatchOrderResponse> {
        let next = timeout(DEADLINE, self.changes.message()).await;
        next.expect("a message in time").expect("no other status than OK")
    }

    /// The next message, as status and steps.
    async fn change(&mut self) -> (OrderStatus, Vec<String>) {
        let change = self.next().await.expect("a change, not the end");
        (change.order.unwrap().status(), names(&change.steps))
    }

    /// All that is still to come, and the status that it ends with.
    async fn rest(&mut self) -> (Vec<WatchOrderResponse>, Status) {
        let mut changes = Vec::new();
        loop {
            match timeout(DEADLINE, self.changes.message()).await.expect("an end in time") {
                Ok(Some(change)) => changes.push(change),
                Ok(None) => return (changes, Status::ok("")),
                Err(status) => return (changes, status),
            }
        }
    }
}

fn names(steps: &[Step]) -> Vec<String> {
    steps
        .iter()
        .map(|step| format!("{} {}", step.step, step.status))
        .collect()
}

/// An order that waits until the test moves it on; its call runs in the set.
struct Held {
    order_id: String,
    _call: JoinSet<Result<Order, Status>>,
}

/// Places an order at the first server; returns once it is in this status.
async fn placed(rig: &Rig, status: &str) -> Held {
    let call = rig.begin(a_ride());
    let sql = rig.sql().await;
    let order_id = until("the order got so far", async || {
        let query = "select order_id::text from order_sagas where status = $1";
        column(&sql, query, &[&status]).await.unwrap().pop()
    })
    .await;
    Held { order_id, _call: call }
}

/// An order whose charge does not get through to the provider before the line passes again.
async fn charging(rig: &Rig) -> Held {
    rig.payments_line().set_mode(Mode::Blackhole);
    placed(rig, "charging").await
}

async fn until_watched_by(rig: &Rig, watchers: i64) {
    until_eq("so many watch", watchers.into(), async || {
        rig.metrics().await["orders"]["watches"].clone()
    })
    .await;
}

/// Watches an order at a server of the rig, from before its charge to its end.
async fn watch_to_the_end(rig: &Rig, server: usize) {
    let order = charging(rig).await;
    let mut watch = Watch::open(rig.orders_of(server), &order.order_id, None).await;
    assert_eq!(watch.change().await, (OrderStatus::Charging, vec![]));

    rig.payments_line().set_mode(Mode::Pass);
    let charged = vec!["charge succeeded".to_owned()];
    assert_eq!(watch.change().await, (OrderStatus::Charged, charged));

    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let last = watch.next().await.unwrap();
    assert_eq!(names(&last.steps), ["assign succeeded"]);
    let mut whole = rig.order(&order.order_id).await;
    assert_eq!(last.last_step_id, whole.steps.last().unwrap().step_id);
    whole.steps.clear();
    assert_eq!(last.order.unwrap(), whole);
    assert_eq!(whole.status(), OrderStatus::Succeeded);

    assert_eq!(watch.next().await, None, "it ends with the order");
}

#[tokio::test]
async fn a_watch_gives_each_state_of_an_order_and_ends_with_it() {
    let rig = Rig::builder().payments_through_proxy().start().await;
    watch_to_the_end(&rig, 0).await;
    until_watched_by(&rig, 0).await;
    rig.assert_clean().await;
}

#[tokio::test]
async fn a_watch_at_one_server_follows_an_order_that_another_one_drives() {
    let rig = Rig::builder().payments_through_proxy().servers(2).start().await;
    watch_to_the_end(&rig, 1).await;
}

#[tokio::test]
async fn a_watch_from_a_step_goes_on_there_without_gap_or_repetition() {
    let rig = Rig::builder().payments_through_proxy().start().await;
    let order = charging(&rig).await;
    let mut first = Watch::open(rig.orders(), &order.order_id, Some(0)).await;
    let begun = first.next().await.unwrap();
    assert_eq!(names(&begun.steps), ["create succeeded", "charge started"]);
    drop(first);

    rig.payments_line().set_mode(Mode::Pass);
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.until_settled(&order.order_id).await;
    let mut second = Watch::open(rig.orders(), &order.order_id, Some(begun.last_step_id)).await;
    let (changes, end) = second.rest().await;
    assert_eq!(end.code(), Code::Ok, "{end:?}");
    let all = [begun].into_iter().chain(changes);
    let seen: Vec<Step> = all.flat_map(|change| change.steps).collect();
    assert_eq!(seen, rig.order(&order.order_id).await.steps);
}

/// A log of more steps than fit into one message comes in several.
#[tokio::test]
async fn a_long_log_is_given_to_its_end() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order_id = rig.place(a_ride()).await.order_id;
    plant_steps(&rig, &order_id, 196, 1).await;

    let (changes, end) = Watch::open(rig.orders(), &order_id, Some(0)).await.rest().await;
    assert_eq!(end.code(), Code::Ok, "{end:?}");
    let counts: Vec<_> = changes.iter().map(|change| change.steps.len()).collect();
    assert_eq!(counts[..2], [100, 100]);
    let seen: Vec<Step> = changes.into_iter().flat_map(|change| change.steps).collect();
    assert_eq!(seen, rig.order(&order_id).await.steps);
}

/// Steps like those of a provider that fails for long, with a detail of so many bytes.
async fn plant_steps(rig: &Rig, order_id: &str, count: i64, detail_bytes: usize) {
    let plant = format!(
        "insert into order_saga_steps (order_id, step, status, detail, fence, actor)
         select '{order_id}', 'charge', 'postponed', repeat('x', {detail_bytes}), 1, 'test'
           from generate_series(1, {count})"
    );
    rig.execute(&plant).await;
}

#[tokio::test]
async fn a_watch_of_a_settled_order_gives_its_state_and_ends() {
    let rig = Rig::start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order_id = rig.place(a_ride()).await.order_id;
    let mut whole = rig.order(&order_id).await;
    let steps = std::mem::take(&mut whole.steps);
    let last_step_id = steps.last().unwrap().step_id;
    assert!(steps.is_sorted_by_key(|step| step.step_id), "{steps:?}");

    for (after, expected) in [
        (None, vec![]),
        (Some(0), steps.clone()),
        (Some(steps[2].step_id), vec![steps[3].clone()]),
        (Some(last_step_id), vec![]),
    ] {
        let (changes, end) = Watch::open(rig.orders(), &order_id, after).await.rest().await;
        assert_eq!(end.code(), Code::Ok, "{end:?}");
        let expected = WatchOrderResponse {
            order: Some(whole.clone()),
            steps: expected,
            last_step_id,
        };
        assert_eq!(changes, [expected], "after {after:?}");
    }
}

#[tokio::test]
async fn a_watch_of_nothing_is_refused_by_name() {
    let rig = Rig::start().await;
    for after in [None, Some(0)] {
        let unknown = Watch::try_open(rig.orders(), &Uuid::now_v7().to_string(), after).await;
        assert_eq!(unknown.err().unwrap().code(), Code::NotFound);
    }
    let malformed = Watch::try_open(rig.orders(), "my order", Some(-1)).await;
    assert_eq!(refusal_fields(&malformed.err().unwrap()), ["after_step_id", "order_id"]);
    until_watched_by(&rig, 0).await;
}

#[tokio::test]
async fn a_server_that_ends_sends_its_watchers_elsewhere() {
    let mut rig = Rig::start().await;
    let order = placed(&rig, "charged").await;
    let mut watch = Watch::open(rig.orders(), &order.order_id, None).await;
    assert_eq!(watch.change().await, (OrderStatus::Charged, vec![]));

    // It asserts that the drain was not cut.
    let ((), (rest, end)) = tokio::join!(rig.stop_servers(), watch.rest());

    assert_eq!(rest, [], "no change");
    assert_refused_for_now(&end, Code::Unavailable);
}

/// The windows of HTTP/2 hold some messages, then the server's buffer does; then the watch is over.
#[tokio::test]
async fn a_watcher_that_does_not_read_is_let_go_and_the_order_goes_on() {
    let rig = Rig::builder().set("orders.assignment_window", "60s").start().await;
    let order = placed(&rig, "charged").await;
    let narrow = Endpoint::from_shared(format!("http://{}", rig.grpc_addr()))
        .unwrap()
        .initial_stream_window_size(1_000)
        .connect_lazy();
    let mut stuck = Watch::open(OrderServiceClient::new(narrow), &order.order_id, None).await;
    let mut other = Watch::open(rig.orders(), &order.order_id, None).await;
    until_watched_by(&rig, 2).await;
    let planted = 3_000;
    plant_steps(&rig, &order.order_id, planted, 100).await;

    let mut received = 0;
    while received < planted {
        received += i64::try_from(other.next().await.unwrap().steps.len()).unwrap();
    }
    until_watched_by(&rig, 1).await;

    let (changes, end) = stuck.rest().await;
    assert_refused_for_now(&end, Code::ResourceExhausted);
    let held: usize = changes.iter().map(|change| change.steps.len()).sum();
    assert!(held > 0 && held < 1_500, "{held} steps were held for it");
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let settled = rig.until_settled(&order.order_id).await;
    assert_eq!(settled.status(), OrderStatus::Succeeded);
    let (last, end) = other.rest().await;
    assert_eq!(end.code(), Code::Ok, "{end:?}");
    assert_eq!(names(&last.last().unwrap().steps), ["assign succeeded"]);
}

#[tokio::test]
async fn watchers_beyond_the_limit_are_refused_until_one_is_gone() {
    let rig = Rig::with("orders.watchers_max=1 orders.assignment_window=60s").await;
    let order = placed(&rig, "charged").await;
    let first = Watch::open(rig.orders(), &order.order_id, None).await;

    let refused = Watch::try_open(rig.orders(), &order.order_id, None).await;
    assert_refused_for_now(&refused.err().unwrap(), Code::ResourceExhausted);

    drop(first);
    until("there is room again", async || {
        let second = Watch::try_open(rig.orders(), &order.order_id, None).await;
        second.map_err(|status| status.code())
    })
    .await;
}

#[tokio::test]
async fn a_watch_outlasts_a_short_absence_of_postgres_and_not_a_long_one() {
    let rig = Rig::builder()
        .postgres_through_proxy()
        .set("orders.assignment_window", "60s")
        .start()
        .await;
    let order = placed(&rig, "charged").await;
    let mut watch = Watch::open(rig.orders(), &order.order_id, None).await;
    assert_eq!(watch.change().await, (OrderStatus::Charged, vec![]));
    rig.postgres_line().set_mode(Mode::Refuse);
    rig.until_unready().await;
    // Past the proxy, so that it is there to be given.
    plant_steps(&rig, &order.order_id, 1, 1).await;

    rig.postgres_line().set_mode(Mode::Pass);
    let step = vec!["charge postponed".to_owned()];
    assert_eq!(watch.change().await, (OrderStatus::Charged, step));

    rig.postgres_line().set_mode(Mode::Refuse);
    let (_, end) = watch.rest().await;
    assert_refused_for_now(&end, Code::Unavailable);
}
