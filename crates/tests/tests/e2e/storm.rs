//! The storm: 200 keys, each sent by fifty callers at once over three processes, a third of whom hang up. Then the
//! processes are other ones, and every key is asked for again. One key is one order, at most one charge, one answer to
//! the last bit.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use prost::Message as _;
use testkit::chance::{Chance, seed};
use testkit::raw::create_order;
use testkit::wire::{PICKUP, a_ride, channel, fix};
use testkit::{Rig, ServerProcess, until};
use tokio::task::{JoinSet, LocalSet};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use waybill_proto::location::v1::ReportLocationsRequest;
use waybill_sandbox::payments::{Fault, FaultKind, FaultTarget};

const KEYS: usize = 200;
/// Keys that are sent at the same time.
const WAVE: usize = 20;
/// Callers of one key.
const CALLERS: usize = 50;
/// Those who ask for it again, when the servers are other ones.
const REPLAYS: usize = 4;
const SERVERS: usize = 3;
/// A connection carries a hundred calls at once; the storm is to be in the servers, not before them.
const CONNECTIONS: usize = 4;
/// The last moment at which a caller hangs up: about when the last of a wave are answered.
const HANG_UP_MAX_MICROS: u64 = 1_500_000;

/// All that a caller is answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Answer {
    code: Code,
    message: String,
    details: Vec<u8>,
    body: Vec<u8>,
}

/// Those of each key, by its index.
type Answers = HashMap<usize, HashSet<Answer>>;

/// One call of CreateOrder; `Err` is an answer that is not definite.
async fn call(channel: Channel, request: Vec<u8>) -> Result<Answer, Status> {
    match create_order(channel, Request::new(request)).await {
        Ok(answer) => Ok(Answer {
            code: Code::Ok,
            message: String::new(),
            details: Vec::new(),
            body: answer.into_inner(),
        }),
        Err(status) => match status.code() {
            Code::Aborted | Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => Err(status),
            code => Ok(Answer {
                code,
                message: status.message().to_owned(),
                details: status.details().to_vec(),
                body: Vec::new(),
            }),
        },
    }
}

/// Calls until the answer is definite.
async fn answered(channel: Channel, request: Vec<u8>) -> Answer {
    until("the answer is definite", async || {
        call(channel.clone(), request.clone()).await
    })
    .await
}

/// The processes, and the lines to them.
struct Servers {
    processes: Vec<ServerProcess>,
    channels: Vec<Channel>,
}

impl Servers {
    async fn start(rig: &Rig) -> Servers {
        let mut processes = Vec::new();
        for _ in 0..SERVERS {
            processes.push(ServerProcess::start(rig, &[]).await);
        }
        let lines = (0..SERVERS * CONNECTIONS).map(|line| channel(processes[line % SERVERS].grpc_addr()));
        let channels = lines.collect();
        Servers { processes, channels }
    }

    fn any(&self, chance: &mut Chance) -> Channel {
        chance.pick(&self.channels).clone()
    }

    async fn stop(self) {
        for process in self.processes {
            assert_eq!(process.stop().await.code(), Some(0));
        }
    }
}

/// The request of each key. Most are served; some cards are declined, and some customers are where no driver is.
fn requests() -> Vec<Vec<u8>> {
    let request = |index: usize| {
        let mut request = a_ride();
        request.user_id = format!("user-{index}");
        if is_declined(index) {
            "pm_card_chargeDeclined".clone_into(&mut request.payment_method);
        }
        if index % 10 == 7 {
            *request.pickup.as_mut().unwrap().latitude.as_mut().unwrap() += 1.0;
        }
        request.encode_to_vec()
    };
    (0..KEYS).map(request).collect()
}

fn is_declined(index: usize) -> bool {
    index % 10 == 3
}

/// A driver for every order: each keeps its own.
async fn report_drivers(rig: &Rig, server: &ServerProcess) {
    let cab = |index: usize| fix(&format!("cab-{index}"), PICKUP.0, PICKUP.1, Timestamp::now());
    for first in (0..KEYS).step_by(100) {
        let fixes = (first..first + 100).map(cab).collect();
        let report = ReportLocationsRequest { fixes };
        let answer = server.locations().report_locations(report).await.unwrap().into_inner();
        assert_eq!(answer.accepted_count, 100, "{:?}", answer.rejections);
    }
    rig.until_written().await;
}

/// Sends the keys, wave by wave, and takes down every definite answer. How many hung up before theirs.
async fn storm(servers: &Servers, requests: &[Vec<u8>], chance: &mut Chance, answers: &mut Answers) -> usize {
    let mut hung_up = 0;
    let indices: Vec<usize> = (0..requests.len()).collect();
    for wave in indices.chunks(WAVE) {
        let mut calls = JoinSet::new();
        // Caller by caller, so that the keys of the wave are mixed and each is in all processes at once.
        for _ in 0..CALLERS {
            for &index in wave {
                let call = answered(servers.any(chance), requests[index].clone());
                let hangs_up = (chance.below(3) == 0).then(|| chance.below(HANG_UP_MAX_MICROS));
                calls.spawn_local(async move {
                    let answer = match hangs_up {
                        Some(micros) => tokio::time::timeout(Duration::from_micros(micros), call).await.ok(),
                        None => Some(call.await),
                    };
                    (index, answer)
                });
            }
        }
        for (index, answer) in calls.join_all().await {
            hung_up += usize::from(answer.is_none());
            answers.entry(index).or_default().extend(answer);
        }
    }
    hung_up
}

/// Asks for every key again, over all servers.
async fn replay(servers: &Servers, requests: &[Vec<u8>], chance: &mut Chance, answers: &mut Answers) {
    let mut calls = JoinSet::new();
    for (index, request) in requests.iter().enumerate() {
        for _ in 0..REPLAYS {
            let call = answered(servers.any(chance), request.clone());
            calls.spawn_local(async move { (index, call.await) });
        }
    }
    for (index, answer) in calls.join_all().await {
        answers.entry(index).or_default().insert(answer);
    }
}

/// One order a key, by the ledger; and one charge of it, or none where the card is declined, by the provider.
async fn assert_one_order_and_one_charge(rig: &Rig) {
    let query = "select user_id, order_id::text from order_sagas";
    let rows = rig.sql().await.query(query, &[]).await.unwrap();
    let orders: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!((rows.len(), orders.len()), (KEYS, KEYS), "one order a key");

    let mut charges: HashMap<String, usize> = HashMap::new();
    for charge in rig.charges() {
        *charges.entry(charge.order_id.expect("an order's")).or_default() += 1;
    }
    for index in 0..KEYS {
        let taken = charges.remove(&orders[&format!("user-{index}")]).unwrap_or_default();
        assert_eq!(taken, usize::from(!is_declined(index)), "charges of key {index}");
    }
    assert!(charges.is_empty(), "charges without an order: {charges:?}");
}

#[tokio::test]
async fn two_hundred_keys_of_fifty_callers_each_are_one_order_one_charge_and_one_answer_each() {
    LocalSet::new().run_until(Box::pin(the_storm())).await;
}

async fn the_storm() {
    let mut chance = Chance::new(seed("STORM_SEED"));
    let rig = Rig::builder()
        .no_server()
        .with(
            "orders.assignment_window=500ms locations.ttl=10m limits.orders_in_all.per_second=100000 \
            limits.orders_in_all.burst=100000",
        )
        .start()
        .await;
    // Some charges are made and their answers lost: another process finishes such an order, under the same key.
    let unanswered = Fault::times(FaultKind::ErrorAfterEffect, 20).on(FaultTarget::Charge);
    rig.payments().set_fault(unanswered.with_probability(0.2));
    let servers = Servers::start(&rig).await;
    report_drivers(&rig, &servers.processes[0]).await;
    let requests = requests();

    let mut answers = Answers::new();
    let hung_up = storm(&servers, &requests, &mut chance, &mut answers).await;
    println!("{hung_up} of {} hung up before their answer", KEYS * CALLERS);
    assert!(hung_up > 0 && answers.len() == KEYS);
    servers.stop().await;
    let servers = Servers::start(&rig).await;
    replay(&servers, &requests, &mut chance, &mut answers).await;

    for (index, answers) in &answers {
        assert_eq!(answers.len(), 1, "key {index} has one answer: {answers:#?}");
    }
    assert_one_order_and_one_charge(&rig).await;
    for status in ["succeeded", "failed", "refunded"] {
        assert!(rig.orders_in(status).await > 0, "no order is {status}");
    }
    rig.assert_clean().await;
    servers.stop().await;
}
