//! Whoever draws may end at any moment, and there may be two of them: nothing is lost, and nothing is there twice.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use testkit::chance::{Chance, pass, seed};
use testkit::{ServerProcess, until};
use waybill_domain::trails::parts::PARTS_MAX;
use waybill_server::storage::trails::Added;
use waybill_server::trails::draw::Round;

use super::City;
use super::city::{by_time, drawn, map, noon, street, walks};

/// Far more than a round takes.
const MOMENTS_MAX: usize = 1_000;

/// Polls it so many times at most; its output if it had one by then. Else it is dropped where it was, as at the end of its
/// process.
async fn at_most<T>(polls: usize, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut left) = (pin!(work), polls);
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(context).map(Some)
    })
    .await
}

#[tokio::test]
async fn a_drawer_that_ends_at_any_moment_draws_nothing_twice_and_loses_nothing() {
    let city = City::start().await;
    let tracks = walks(&mut Chance::new(seed("TRAILS_SEED")), 10, 60);
    city.store(&by_time(&tracks)).await;
    let mut drawer = city.drawer("drawer", 7);
    let mut ended = 0;
    while city.stored().await.0.is_empty() && ended < MOMENTS_MAX {
        let _ended = at_most(ended, drawer.round()).await;
        ended += 1;
    }
    assert!(ended > 2, "it was ended at {ended} moments");
    city.draw().await;
    city.assert_drawn(&tracks).await;
    // All is of one batch: a part would be there twice if it had been added twice.
    assert_eq!(city.stored().await.1, 1);
}

#[tokio::test]
async fn parts_that_are_being_merged_are_all_there_whatever_ends_it() {
    let city = City::start().await;
    let track = street("cab-1", noon(0));
    let store = city.trail_store("drawer");
    let cursor = store.claim_cursor().await.unwrap().expect("the lease");
    for pair in track.windows(2) {
        let added = store.add(&cursor, &cursor, &drawn(&[pair.to_vec()])).await.unwrap();
        assert_eq!(added, Added::Yes);
    }
    let tracks = [track];
    let mergeable = store.mergeable(&drawn(&tracks)).await.unwrap();
    let mut ended = 0;
    while at_most(ended, store.merge(&mergeable)).await.is_none() {
        city.assert_drawn(&tracks).await;
        ended += 1;
    }
    assert!(ended > 2, "it was ended at {ended} moments");
    city.assert_drawn(&tracks).await;
    let most = city.stored().await.1;
    assert!(most <= PARTS_MAX, "{most} parts");
    // By whoever found the same parts, and was slower.
    store.merge(&mergeable).await.unwrap();
    city.assert_drawn(&tracks).await;
}

#[tokio::test]
async fn parts_are_merged_whatever_ends_in_between_and_stay_few() {
    let city = City::start().await;
    let tracks = walks(&mut Chance::new(seed("TRAILS_SEED")), 6, 60);
    let mut drawer = city.drawer("drawer", 7);
    for (number, batch) in by_time(&tracks).chunks(6).enumerate() {
        city.store(batch).await;
        let _ended = at_most(number % 40, drawer.round()).await;
    }
    // All of it once more, which changes nothing: so each tile is looked at for parts to merge.
    city.rig.execute("update trail_cursor set tx = '0'").await;
    city.draw().await;
    city.assert_drawn(&tracks).await;
    let most = city.stored().await.1;
    assert!((2..=PARTS_MAX).contains(&most), "{most} parts");
}

#[tokio::test]
async fn of_two_that_draw_at_once_one_does() {
    let city = City::start().await;
    let tracks = walks(&mut Chance::new(seed("TRAILS_SEED")), 10, 100);
    for batch in by_time(&tracks).chunks(100) {
        city.store(batch).await;
        let (mut one, mut other) = (city.drawer("one", 7), city.drawer("other", 7));
        let rounds = tokio::join!(one.round(), other.round());
        let rounds = [rounds.0.unwrap(), rounds.1.unwrap()];
        assert!(rounds.contains(&Round::NotOurs), "{rounds:?}");
        // Whoever has the lease may be gone: then it ends by itself, and the cursor still keeps the two apart.
        city.rig
            .execute("update trail_cursor set lease_until = now() - interval '1 second'")
            .await;
    }
    city.draw().await;
    city.assert_drawn(&tracks).await;
}

/// The program itself, killed by the system.
#[tokio::test]
async fn a_server_that_is_killed_again_and_again_draws_all_of_the_history() {
    let city = City::start().await;
    let tracks = walks(&mut Chance::new(seed("TRAILS_SEED")), 40, 200);
    for batch in by_time(&tracks).chunks(1_000) {
        city.store(batch).await;
    }
    let mut chance = Chance::new(seed("TRAILS_SEED"));
    for _ in 0..4 {
        let server = ServerProcess::start(&city.rig, &[]).await;
        pass(chance.millis(0, 150)).await;
        server.kill().await;
        // The lease of who was killed.
        city.rig
            .execute("update trail_cursor set lease_until = now() - interval '1 second'")
            .await;
    }
    let server = ServerProcess::start(&city.rig, &[]).await;
    let expected = map(&tracks);
    until("all is drawn", async || city.stored().await.0 == expected).await;
    server.kill().await;
}
