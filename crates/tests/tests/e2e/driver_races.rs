//! Drivers raced for: workers of two processes assign, complete, cancel and release the orders of too few drivers while
//! Postgres is killed. Judged by each driver's own sequence, for clocks do not give the order of commits.
//!
//! A thousand assignments in a run of all tests; `make race` makes twenty thousand (`RACE_ASSIGNMENTS`).

#![allow(
    clippy::large_futures,
    reason = "sixteen of them: the store's whole transactions, awaited one by one"
)]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use testkit::chance::{Chance, number, seed};
use testkit::{Rig, until};
use tokio::task::{JoinSet, LocalSet};
use waybill_domain::access::Scope;
use waybill_domain::id::{DriverId, OrderId};
use waybill_domain::order::{ReleaseReason, State};
use waybill_server::app::Sources;
use waybill_server::resilience::{BreakerPolicy, Guard};
use waybill_server::storage::StoreError;
use waybill_server::storage::orders::{
    Assigned, Cancelled, Candidate, Deferral, LeasedOrder, OrderStore, OrderStoreSettings, StepOutcome, Unassigned,
};
use waybill_server::storage::postgres;

const WORKERS: usize = 16;
const DRIVERS: u64 = 64;
/// How many drivers are proposed at a time: as many as a search proposes.
const CANDIDATES: u64 = 8;
/// Assignments between two deaths of Postgres, at least.
const ROUND: u64 = 1_000;
/// Orders of a round: some are cancelled before they have a driver.
const ORDERS: i64 = 1_200;
/// A worker that Postgres left alone comes back to its order after this.
const LEASE_SECS: f64 = 2.0;

/// One round, as the workers see it.
struct Race {
    assigned: AtomicU64,
    target: u64,
}

impl Race {
    fn is_over(&self) -> bool {
        self.assigned.load(Ordering::Relaxed) >= self.target
    }

    /// Waits for so many assignments; for each hundred of them as long as one waits for anything.
    async fn reaches(&self, count: u64) {
        for hundred in 1..=count / 100 {
            until("a hundred more drivers are assigned", async || {
                let assigned = self.assigned.load(Ordering::Relaxed);
                if assigned >= hundred * 100 {
                    Ok(())
                } else {
                    Err(format!("{assigned} in all"))
                }
            })
            .await;
        }
    }
}

/// The store of one process.
pub fn store(rig: &Rig, instance: &str) -> OrderStore {
    let timeout = Duration::from_secs(2);
    // It finds out soon that Postgres is back: what is tested is the race, not the wait.
    let policy = BreakerPolicy {
        open_min: Duration::from_millis(100),
        open_max: Duration::from_millis(400),
        ..BreakerPolicy::default()
    };
    let settings = postgres::PostgresSettings {
        url: rig.config().postgres.url,
        password_file: None,
        tls: None,
        pool_max: WORKERS / 2,
        acquire_timeout: timeout,
        statement_timeout: timeout,
        lock_timeout: timeout,
        may_be_standby: false,
    };
    let guard = Arc::new(Guard::new("postgres", 3 * timeout, policy));
    OrderStore::new(
        postgres::Postgres::new(&settings, guard).expect("a pool"),
        Arc::new(waybill_server::grpc::answer),
        OrderStoreSettings {
            instance: instance.to_owned(),
            lease_secs: LEASE_SECS,
        },
    )
}

/// Orders that are paid and wait for a driver, as the saga would have left them.
async fn insert_paid_orders(rig: &Rig) {
    let insert = "
        with paid as (
            insert into order_sagas (order_id, idempotency_key, user_id, amount, currency, payment_method, status,
                                     pickup_lat, pickup_long, request_hash, fence)
            select id, 'the-key-of-' || id, 'racer', 500, 'USD', 'pm_card_visa', 'charged', 0, 0, '\\x00', 1
              from (select gen_random_uuid() as id from generate_series(1, $1::bigint)) new
            returning order_id),
        steps as (
            insert into order_saga_steps (order_id, step, status, fence, actor)
            select order_id, step, 'succeeded', 1, 'no worker' from paid, unnest('{create,charge}'::text[]) step),
        attempts as (
            insert into payment_attempts (order_id, operation, provider_key, amount, currency, state, sends,
                                          first_sent_at, last_sent_at, provider_id)
            select order_id, 'charge', order_id || '-charge', 500, 'USD', 'succeeded', 1, now(), now(), 'pi_' || order_id
              from paid)
        insert into payments (order_id, amount, currency, provider_charge_id, captured_amount, captured_at)
        select order_id, 500, 'USD', 'pi_' || order_id, 500, now() from paid";
    let inserted = rig.sql().await.execute(insert, &[&ORDERS]).await.unwrap();
    assert_eq!(i64::try_from(inserted), Ok(ORDERS));
}

fn driver(number: u64) -> DriverId {
    format!("cab-{}", number % DRIVERS).parse().unwrap()
}

/// Neighbours of a driver, so that all searches overlap.
fn candidates(chance: &mut Chance) -> Vec<Candidate> {
    let nearest = chance.below(DRIVERS);
    let near = (0..CANDIDATES).map(|offset| Candidate {
        driver: driver(nearest + offset),
        distance_m: 100.0,
    });
    near.collect()
}

/// Works until the round is over, whatever Postgres does.
async fn race(store: OrderStore, mut chance: Chance, race: Arc<Race>) {
    while !race.is_over() {
        match turn(&store, &mut chance, &race).await {
            // The order went to another worker.
            Ok(()) | Err(StoreError::Fenced { .. }) => {}
            Err(StoreError::Unavailable { .. } | StoreError::Busy { .. }) => {
                until("Postgres answers", async || {
                    store.active_order(&Scope::Everything, &driver(0)).await
                })
                .await;
            }
            Err(StoreError::Aborted(why) | StoreError::Unexpected(why)) => panic!("{why}"),
        }
    }
}

/// Claims an order, and then sets a driver free: another worker may be at both too.
async fn turn(store: &OrderStore, chance: &mut Chance, race: &Race) -> Result<(), StoreError> {
    for work in store.claim_due(1).await? {
        // At its first search alone, or too many of the round's orders would go without a driver.
        if work.attempts == 2 && chance.below(20) == 0 {
            store.cancel(&Scope::Everything, work.order.id, None).await?;
        }
        if find_driver(store, work, &candidates(chance)).await? {
            race.assigned.fetch_add(1, Ordering::Relaxed);
        }
    }
    let driver = driver(chance.below(DRIVERS));
    match store.active_order(&Scope::Everything, &driver).await? {
        Some(order) => set_free(store, order, &driver, chance).await,
        None => Ok(()),
    }
}

/// Whether one was assigned now.
async fn find_driver(store: &OrderStore, work: LeasedOrder, candidates: &[Candidate]) -> Result<bool, StoreError> {
    if work.order.state == State::Refunding {
        refund(store, work).await?;
        return Ok(false);
    }
    let lost = match work.reassignments {
        0 => HashSet::new(),
        _ => store.unassigned_drivers(work.order.id).await?,
    };
    let offered = candidates.iter().filter(|candidate| !lost.contains(&candidate.driver));
    let offered: Vec<Candidate> = offered.cloned().collect();
    match store.assign(&work, &offered).await? {
        Assigned::Driver(_) => Ok(true),
        Assigned::NoneFree { .. } => release(store, &work).await.map(|()| false),
        Assigned::CancelRequested => {
            let work = store.advance(&work, &StepOutcome::Cancelled).await?;
            refund(store, work).await?;
            Ok(false)
        }
    }
}

/// One of the ways in which a driver is free again. All of them may be tried on one order at the same time.
async fn set_free(
    store: &OrderStore,
    order: OrderId,
    driver: &DriverId,
    chance: &mut Chance,
) -> Result<(), StoreError> {
    match chance.below(3) {
        0 => store
            .complete(&Scope::Everything, order, Some(driver), None)
            .await
            .map(drop),
        1 => {
            let declined = ReleaseReason::Declined;
            match store
                .unassign_driver(&Scope::Everything, order, driver, declined, "a race")
                .await?
            {
                Unassigned::Searching(work) => release(store, &work).await,
                _ => Ok(()),
            }
        }
        _ => match store.cancel(&Scope::Everything, order, None).await? {
            Cancelled::Refunding(work) => refund(store, *work).await,
            _ => Ok(()),
        },
    }
}

/// Leaves the order to whoever claims it next.
async fn release(store: &OrderStore, work: &LeasedOrder) -> Result<(), StoreError> {
    store.defer(work.lease, Duration::ZERO, &Deferral::default()).await
}

async fn refund(store: &OrderStore, work: LeasedOrder) -> Result<(), StoreError> {
    let provider_id = format!("re_{}", work.order.id);
    let refund = work.open_refund.expect("a cancelled order has a refund to make");
    store
        .advance(&work, &StepOutcome::Refunded { refund, provider_id })
        .await
        .map(drop)
}

/// One round, with a death of Postgres in its middle.
async fn round(rig: &mut Rig, stores: &[OrderStore], target: u64, chance: &mut Chance) {
    insert_paid_orders(rig).await;
    let state = Arc::new(Race {
        assigned: AtomicU64::new(0),
        target,
    });
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let store = stores[worker % stores.len()].clone();
        workers.spawn_local(race(store, chance.fork(), Arc::clone(&state)));
    }
    state.reaches(target / 2).await;
    rig.stores().postgres().kill().await.unwrap();
    rig.stores().postgres().restart().await.unwrap();
    state.reaches(target).await;
    workers.join_all().await;
}

/// Refunds all orders that the race left over.
async fn refund_the_rest(rig: &Rig, store: &OrderStore) {
    until("no order waits", async || {
        for mut work in store.claim_due(100).await.expect("Postgres runs") {
            if work.order.state == State::Charged {
                let why = "the race is over".to_owned();
                let outcome = if work.cancel_requested {
                    StepOutcome::Cancelled
                } else {
                    StepOutcome::NoDriver { why }
                };
                work = store.advance(&work, &outcome).await.expect("the lease is new");
            }
            refund(store, work).await.expect("the lease is new");
        }
        let unfinished = "select count(*) from order_sagas where finished_at is null";
        rig.count(unfinished).await == 0
    })
    .await;
}

/// An assignment of a driver, by the driver's sequence.
#[derive(Debug, Clone)]
struct Held {
    driver: String,
    assigned_seq: i64,
    released_seq: Option<i64>,
}

/// What contradicts "one order at a time". The sequence of a driver is assigned 1, released 2, assigned 3, and so on to
/// what the driver's row has counted: any overlap, any loss and any write without the lock leaves a hole or a double.
fn contradictions(held: &[Held], counted: &BTreeMap<String, i64>) -> Vec<String> {
    let mut by_driver: BTreeMap<&str, Vec<&Held>> = counted.keys().map(|driver| (driver.as_str(), vec![])).collect();
    for one in held {
        by_driver.entry(&one.driver).or_default().push(one);
    }
    let mut found = Vec::new();
    for (driver, mut held) in by_driver {
        held.sort_by_key(|one| one.assigned_seq);
        let mut seq = 0;
        for one in &held {
            if one.assigned_seq != seq + 1 {
                found.push(format!("{driver} was assigned at {}, after {seq}", one.assigned_seq));
            }
            if one
                .released_seq
                .is_some_and(|released| released != one.assigned_seq + 1)
            {
                found.push(format!("{driver} had more than one order: {one:?}"));
            }
            seq = one.released_seq.unwrap_or(one.assigned_seq);
            // Not released means serving it still: nothing may follow.
            if one.released_seq.is_none() && one.assigned_seq != held[held.len() - 1].assigned_seq {
                found.push(format!("{driver} got another order while serving one: {one:?}"));
            }
        }
        if counted.get(driver) != Some(&seq) {
            found.push(format!(
                "{driver} has counted {:?}, its orders {seq}",
                counted.get(driver)
            ));
        }
    }
    found
}

/// All assignments that ever were, and what the drivers' rows have counted.
async fn assignments(rig: &Rig) -> (Vec<Held>, BTreeMap<String, i64>) {
    let sql = rig.sql().await;
    let held = "select driver_id, assigned_seq, released_seq from order_assignments
                 union all
                select driver_id, assigned_seq, released_seq from past_assignments";
    let held = sql.query(held, &[]).await.unwrap();
    let held = held.iter().map(|row| Held {
        driver: row.get(0),
        assigned_seq: row.get(1),
        released_seq: row.get(2),
    });
    let counted = sql
        .query("select driver_id, assignment_seq from drivers", &[])
        .await
        .unwrap();
    (
        held.collect(),
        counted.iter().map(|row| (row.get(0), row.get(1))).collect(),
    )
}

#[tokio::test]
async fn no_driver_ever_has_two_orders_however_many_workers_race_for_them() {
    LocalSet::new().run_until(the_race()).await;
}

async fn the_race() {
    let assignments = number("RACE_ASSIGNMENTS").unwrap_or(ROUND);
    let mut chance = Chance::new(seed("RACE_SEED"));
    let mut rig = Rig::builder().private_stores().no_server().start().await;
    let stores = [store(&rig, "one"), store(&rig, "other")];
    for left in (0..assignments.div_ceil(ROUND)).rev() {
        round(&mut rig, &stores, ROUND, &mut chance).await;
        refund_the_rest(&rig, &stores[0]).await;
        println!("{left} rounds left");
    }

    let (held, counted) = self::assignments(&rig).await;
    println!("{} assignments of {} drivers", held.len(), counted.len());
    assert!(held.len() as u64 >= assignments, "{} assignments", held.len());
    let found = contradictions(&held, &counted);
    assert!(found.is_empty(), "{found:#?}");
    // No provider was asked: the ledger alone.
    rig.assert_clean_by(Sources::default()).await;
}

#[test]
fn the_judge_of_the_race_sees_an_overlap_a_hole_and_a_lost_count() {
    let held = |assigned_seq, released_seq| Held {
        driver: "cab-1".to_owned(),
        assigned_seq,
        released_seq,
    };
    let judge = |held: &[Held], count: i64| contradictions(held, &BTreeMap::from([("cab-1".to_owned(), count)]));
    assert!(judge(&[held(1, Some(2)), held(3, Some(4)), held(5, None)], 5).is_empty());
    assert!(judge(&[], 0).is_empty());
    for (bad, count) in [
        (vec![held(1, Some(4)), held(2, Some(3))], 4),
        (vec![held(1, None), held(2, None)], 2),
        (vec![held(1, Some(2)), held(4, None)], 4),
        (vec![held(1, Some(2)), held(1, Some(2))], 2),
        (vec![held(1, Some(2))], 3),
        (vec![], 1),
    ] {
        assert!(!judge(&bad, count).is_empty(), "{bad:?}");
    }
}
