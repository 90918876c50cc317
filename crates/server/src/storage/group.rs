//! Group commit: what many callers want to change at once goes to the store in one transaction.
//!
//! While one group is on its way, the next one gathers. No one waits for a timer: whoever comes first while none is on its way leads at
//! once, and is alone if it was alone. A leader commits one group and hands on to the first of those who came meanwhile.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tracing::info;

use super::StoreError;

/// Members of a group at most: a transaction of some milliseconds.
const MEMBERS_MAX: usize = 64;

/// Callers who change the same kind of thing.
pub(super) struct Group<T, R> {
    waiting: Mutex<Waiting<T, R>>,
}

struct Waiting<T, R> {
    members: VecDeque<Member<T, R>>,
    /// Whether there is a leader.
    is_led: bool,
    joined: u64,
}

struct Member<T, R> {
    number: u64,
    item: T,
    /// `None`: it leads.
    turn: Option<oneshot::Sender<Turn<R>>>,
}

/// What a member waits for.
enum Turn<R> {
    /// To lead the next group.
    Lead,
    /// What became of its change; `None`: it was left out.
    Done(Option<Result<R, StoreError>>),
}

impl<T, R> Default for Group<T, R> {
    fn default() -> Group<T, R> {
        Group {
            waiting: Mutex::new(Waiting {
                members: VecDeque::new(),
                is_led: false,
                joined: 0,
            }),
        }
    }
}

impl<T, R> Group<T, R> {
    /// Makes the change with those who come at the same time. `commit` makes the changes of a group in one transaction, and says of
    /// each what became of it; `None`: of this one nothing was changed, for a reason of its own. `None` for all if the transaction
    /// failed for a reason that may be one's own: then each tries by itself. If the store is away, that is the answer to all.
    pub(super) async fn join<F>(&self, item: T, commit: impl FnOnce(Vec<T>) -> F) -> Option<Result<R, StoreError>>
    where
        F: Future<Output = Result<Vec<Option<R>>, StoreError>>,
    {
        let (number, mut waits) = self.enter(item);
        if let Some(turn) = &mut waits.turn {
            let turn = turn.await;
            waits.turn = None;
            match turn {
                Ok(Turn::Lead) => {}
                Ok(Turn::Done(done)) => return done,
                // Its leader is gone in the middle of it. What it changed is under a fence.
                Err(_) => return None,
            }
        }
        let (items, mut leads) = self.lead(number);
        let mut own = None;
        match commit(items).await {
            Ok(done) => {
                let mut done = done.into_iter().map(|one| one.map(Ok));
                own = done.next().flatten();
                for (member, done) in leads.followers.drain(..).zip(done) {
                    // Whoever does not wait any more need not know.
                    drop(member.send(Turn::Done(done)));
                }
            }
            Err(StoreError::Unavailable { store, why }) => {
                let away = || {
                    Some(Err(StoreError::Unavailable {
                        store,
                        why: why.clone(),
                    }))
                };
                own = away();
                for member in leads.followers.drain(..) {
                    drop(member.send(Turn::Done(away())));
                }
            }
            Err(error) => {
                // A row that the database refuses, or a lock that another holds. Of the first each learns more by itself.
                info!(%error, members = leads.followers.len() + 1, "not committed together, but one by one");
                for member in leads.followers.drain(..) {
                    drop(member.send(Turn::Done(None)));
                }
            }
        }
        own
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T, R>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, item: T) -> (u64, Waits<'_, T, R>) {
        let mut waiting = self.lock();
        waiting.joined += 1;
        let number = waiting.joined;
        let is_led = mem::replace(&mut waiting.is_led, true);
        let (turn, comes) = is_led.then(oneshot::channel).unzip();
        waiting.members.push_back(Member { number, item, turn });
        let waits = Waits {
            group: self,
            turn: comes,
        };
        (number, waits)
    }

    /// The changes of the next group, this leader's first.
    fn lead(&self, number: u64) -> (Vec<T>, Leads<'_, T, R>) {
        let mut waiting = self.lock();
        let own = waiting.members.iter().position(|member| member.number == number);
        let own = own.and_then(|at| waiting.members.remove(at));
        let others = waiting.members.len().min(MEMBERS_MAX - 1);
        let mut items: Vec<T> = own.into_iter().map(|member| member.item).collect();
        let mut followers = Vec::with_capacity(others);
        for member in waiting.members.drain(..others) {
            items.push(member.item);
            // Without one it was to lead, and is gone: its change is made, and no one waits for it.
            followers.push(member.turn.unwrap_or_else(|| oneshot::channel().0));
        }
        (items, Leads { group: self, followers })
    }

    /// The first of those who wait leads, if any does.
    fn hand_on(&self) {
        let mut waiting = self.lock();
        let leads = waiting.members.iter_mut().any(|member| {
            let turn = member.turn.take();
            turn.is_some_and(|turn| turn.send(Turn::Lead).is_ok())
        });
        waiting.is_led = leads;
    }
}

/// One who waits for its turn. Dropped while it was to lead, it hands on.
struct Waits<'a, T, R> {
    group: &'a Group<T, R>,
    turn: Option<oneshot::Receiver<Turn<R>>>,
}

impl<T, R> Drop for Waits<'_, T, R> {
    fn drop(&mut self) {
        let turn = self.turn.take();
        if turn.is_some_and(|mut turn| matches!(turn.try_recv(), Ok(Turn::Lead))) {
            self.group.hand_on();
        }
    }
}

/// One who leads. Whatever becomes of it, another leads the next group.
struct Leads<'a, T, R> {
    group: &'a Group<T, R>,
    followers: Vec<oneshot::Sender<Turn<R>>>,
}

impl<T, R> Drop for Leads<'_, T, R> {
    fn drop(&mut self) {
        self.group.hand_on();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    use super::*;

    /// Doubles the numbers of a group, once it may; leaves out 13, fails for good at 99, and is away at 100.
    async fn double(
        groups: Arc<Mutex<Vec<usize>>>,
        gate: Arc<Semaphore>,
        items: Vec<u32>,
    ) -> Result<Vec<Option<u32>>, StoreError> {
        groups.lock().unwrap().push(items.len());
        gate.acquire().await.unwrap().forget();
        if items.contains(&99) {
            return Err(StoreError::unexpected("no"));
        }
        if items.contains(&100) {
            let why = "gone".to_owned();
            return Err(StoreError::Unavailable { store: "postgres", why });
        }
        Ok(items.into_iter().map(|item| (item != 13).then_some(2 * item)).collect())
    }

    struct Rig {
        group: Arc<Group<u32, u32>>,
        groups: Arc<Mutex<Vec<usize>>>,
        gate: Arc<Semaphore>,
        members: JoinSet<(u32, Option<Result<u32, StoreError>>)>,
    }

    impl Rig {
        fn new() -> Rig {
            Rig {
                group: Arc::default(),
                groups: Arc::default(),
                gate: Arc::new(Semaphore::new(0)),
                members: JoinSet::new(),
            }
        }

        async fn join(&mut self, item: u32) -> tokio::task::AbortHandle {
            let (group, groups, gate) = (
                Arc::clone(&self.group),
                Arc::clone(&self.groups),
                Arc::clone(&self.gate),
            );
            let handle = self.members.spawn(async move {
                let done = group.join(item, |items| double(groups, gate, items)).await;
                (item, done)
            });
            tokio::task::yield_now().await;
            handle
        }

        async fn done(mut self) -> Vec<(u32, Option<Result<u32, String>>)> {
            self.gate.add_permits(100);
            let mut done = Vec::new();
            while let Some(one) = self.members.join_next().await {
                if let Ok((item, result)) = one {
                    done.push((item, result.map(|result| result.map_err(|error| error.to_string()))));
                }
            }
            done.sort_by_key(|(item, _)| *item);
            done
        }
    }

    #[tokio::test]
    async fn whoever_comes_while_a_group_is_on_its_way_is_of_the_next_one() {
        let mut rig = Rig::new();
        for item in [1, 2, 13, 4] {
            rig.join(item).await;
        }
        let groups = Arc::clone(&rig.groups);
        let done = rig.done().await;
        assert_eq!(done, [(1, Some(Ok(2))), (2, Some(Ok(4))), (4, Some(Ok(8))), (13, None)]);
        assert_eq!(*groups.lock().unwrap(), [1, 3]);
    }

    #[tokio::test]
    async fn a_group_has_a_limit_and_a_leader_leads_once() {
        let mut rig = Rig::new();
        for item in 200..400 {
            rig.join(item).await;
        }
        let groups = Arc::clone(&rig.groups);
        assert!(rig.done().await.iter().all(|(item, done)| *done == Some(Ok(2 * item))));
        assert_eq!(*groups.lock().unwrap(), [1, 64, 64, 64, 7]);
    }

    #[tokio::test]
    async fn of_a_failure_each_tries_by_itself_and_of_a_store_that_is_away_each_learns() {
        for (bad, expected) in [
            (99, None),
            (100, Some(Err("postgres is not available: gone".to_owned()))),
        ] {
            let mut rig = Rig::new();
            for item in [1, 2, bad, 4] {
                rig.join(item).await;
            }
            let done = rig.done().await;
            assert_eq!(done[0], (1, Some(Ok(2))));
            assert!(done[1..].iter().all(|(_, done)| *done == expected), "{done:?}");
        }
    }

    #[tokio::test]
    async fn whoever_is_dropped_leaves_the_others_their_turn() {
        // The leader in the middle of its group; the one who would lead next; one who follows.
        for gone in [0, 1, 2] {
            let mut rig = Rig::new();
            let mut handles = Vec::new();
            for item in [1, 2, 3, 4] {
                handles.push(rig.join(item).await);
            }
            handles[gone].abort();
            tokio::task::yield_now().await;
            rig.join(5).await;
            let done = rig.done().await;
            assert_eq!(done.len(), 4, "{gone}");
            assert!(
                done.iter().all(|(item, done)| *done == Some(Ok(2 * item))),
                "{gone} {done:?}"
            );
        }
    }
}
