//! Group commit: what many callers want to change at once goes to the store in one transaction.
//!
//! While one group is on its way, the next one gathers. No one waits for a timer: whoever comes first while none is on its way leads at
//! once, and is alone if it was alone. A leader commits one group and hands on to the first of those who came meanwhile.

use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::info;

use super::StoreError;

/// Members of a group at most: a transaction of some milliseconds.
const MEMBERS_MAX: usize = 64;
/// How long one waits for its turn, before it goes by itself. The group before it is over in milliseconds, or the store is slow.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Callers who change the same kind of thing.
pub(super) struct Group<T, R> {
    shared: Arc<Shared<T, R>>,
    wait_max: Duration,
}

/// What became of a group that was not committed.
#[derive(Debug)]
pub(super) enum Failed {
    /// For a reason that may be one's own: each may try by itself.
    Apart(StoreError),
    /// The store is away, or has no room: that is the answer to all.
    Away(StoreError),
}

type Shared<T, R> = Mutex<Waiting<T, R>>;
/// How a member learns of its turn, and how it waits for that.
type Turns<T, R> = oneshot::Sender<Turn<T, R>>;
type Comes<T, R> = oneshot::Receiver<Turn<T, R>>;

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
    turn: Option<Turns<T, R>>,
}

/// What a member waits for.
enum Turn<T, R> {
    /// To lead the next group.
    Lead(Leadership<T, R>),
    /// What became of its change; `None`: it was left out.
    Done(Option<Result<R, StoreError>>),
}

/// How one joins.
enum Entered<T, R> {
    Leads(Leadership<T, R>),
    Waits(Comes<T, R>),
}

/// The right to commit the next group. Wherever it is dropped, it goes to the first of those who wait.
struct Leadership<T, R>(Option<Arc<Shared<T, R>>>);

impl<T, R> Default for Group<T, R> {
    fn default() -> Group<T, R> {
        Group {
            shared: Arc::new(Mutex::new(Waiting {
                members: VecDeque::new(),
                is_led: false,
                joined: 0,
            })),
            wait_max: WAIT_MAX,
        }
    }
}

impl<T, R> Group<T, R> {
    /// Makes the change with those who come at the same time. `commit` makes the changes of a group in one transaction, and says of
    /// each what became of it; `None`: of this one nothing was changed, for a reason of its own. `None` here: it is to go by itself.
    pub(super) async fn join<F>(&self, item: T, commit: impl FnOnce(Vec<T>) -> F) -> Option<Result<R, StoreError>>
    where
        F: Future<Output = Result<Vec<Option<R>>, Failed>>,
    {
        let (number, entered) = self.enter(item);
        let leadership = match entered {
            Entered::Leads(leadership) => leadership,
            Entered::Waits(turn) => match self.turn(number, turn).await? {
                Turn::Lead(leadership) => leadership,
                Turn::Done(done) => return done,
            },
        };
        let (items, followers) = self.take(number);
        let mut own = None;
        match commit(items).await {
            Ok(done) => {
                let mut done = done.into_iter().map(|one| one.map(Ok));
                own = done.next().flatten();
                tell(followers, done);
            }
            Err(Failed::Away(error)) => {
                tell(followers, std::iter::repeat_with(|| Some(Err(error.for_another()))));
                own = Some(Err(error));
            }
            Err(Failed::Apart(error)) => {
                info!(%error, members = followers.len() + 1, "not committed together, but one by one");
                tell(followers, std::iter::repeat_with(|| None));
            }
        }
        drop(leadership);
        own
    }

    /// Waits for the turn of this member. `None`: it does not come, and the change was not made and will not be; or its leader is gone in the
    /// middle of it, and what it changed is under a fence.
    async fn turn(&self, number: u64, mut turn: Comes<T, R>) -> Option<Turn<T, R>> {
        match timeout(self.wait_max, &mut turn).await {
            Ok(turn) => turn.ok(),
            Err(_) if self.leave(number) => None,
            // Its group is on its way.
            Err(_) => turn.await.ok(),
        }
    }

    /// Joins those who wait; or leads, if no one does.
    fn enter(&self, item: T) -> (u64, Entered<T, R>) {
        let mut waiting = lock(&self.shared);
        waiting.joined += 1;
        let number = waiting.joined;
        let is_led = mem::replace(&mut waiting.is_led, true);
        let (turn, comes) = is_led.then(oneshot::channel).unzip();
        waiting.members.push_back(Member { number, item, turn });
        let entered = match comes {
            Some(comes) => Entered::Waits(comes),
            None => Entered::Leads(Leadership(Some(Arc::clone(&self.shared)))),
        };
        (number, entered)
    }

    /// Whether it still waited. Then it does not any more.
    fn leave(&self, number: u64) -> bool {
        let mut waiting = lock(&self.shared);
        let at = waiting
            .members
            .iter()
            .position(|member| member.number == number && member.turn.is_some());
        at.and_then(|at| waiting.members.remove(at)).is_some()
    }

    /// The changes of the next group, this leader's first, and those who wait for the others.
    fn take(&self, number: u64) -> (Vec<T>, Vec<Turns<T, R>>) {
        let mut waiting = lock(&self.shared);
        let own = waiting.members.iter().position(|member| member.number == number);
        let own = own.and_then(|at| waiting.members.remove(at));
        let mut items: Vec<T> = own.into_iter().map(|member| member.item).collect();
        let mut followers = Vec::new();
        while followers.len() < MEMBERS_MAX - 1
            && let Some(member) = waiting.members.pop_front()
        {
            // Whoever is gone wants nothing any more.
            if let Some(turn) = member.turn.filter(|turn| !turn.is_closed()) {
                items.push(member.item);
                followers.push(turn);
            }
        }
        (items, followers)
    }
}

fn lock<T, R>(shared: &Shared<T, R>) -> MutexGuard<'_, Waiting<T, R>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says to each what became of its change.
fn tell<T, R>(followers: Vec<Turns<T, R>>, done: impl Iterator<Item = Option<Result<R, StoreError>>>) {
    for (member, done) in followers.into_iter().zip(done) {
        // Whoever does not wait any more need not know.
        drop(member.send(Turn::Done(done)));
    }
}

impl<T, R> Drop for Leadership<T, R> {
    fn drop(&mut self) {
        let Some(shared) = self.0.take() else { return };
        loop {
            let mut waiting = lock(&shared);
            let Some(first) = waiting.members.front_mut() else {
                waiting.is_led = false;
                return;
            };
            // It was to lead, and is gone: whoever leads takes its own change out of the line first.
            let Some(turn) = first.turn.take() else {
                waiting.members.pop_front();
                continue;
            };
            drop(waiting);
            match turn.send(Turn::Lead(Leadership(Some(Arc::clone(&shared))))) {
                Ok(()) => return,
                Err(Turn::Lead(mut unused)) => unused.0 = None,
                Err(Turn::Done(_)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;

    use super::*;

    /// Doubles the numbers of a group, once it may; leaves out 13, fails for good at 99, and is away at 100.
    async fn double(
        groups: Arc<Mutex<Vec<usize>>>,
        gate: Arc<Semaphore>,
        items: Vec<u32>,
    ) -> Result<Vec<Option<u32>>, Failed> {
        groups.lock().unwrap().push(items.len());
        gate.acquire().await.unwrap().forget();
        if items.contains(&99) {
            return Err(Failed::Apart(StoreError::unexpected("no")));
        }
        if items.contains(&100) {
            let why = "gone".to_owned();
            return Err(Failed::Away(StoreError::Unavailable { store: "postgres", why }));
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

    #[tokio::test]
    async fn whoever_waits_for_long_goes_by_itself_and_is_not_committed_as_well() {
        let mut rig = Rig::new();
        rig.group = Arc::new(Group {
            wait_max: Duration::from_millis(1),
            ..Group::default()
        });
        rig.join(1).await;
        rig.join(2).await;
        // Its leader is on its way for longer than one waits.
        let (item, done) = rig.members.join_next().await.unwrap().unwrap();
        assert!(item == 2 && done.is_none());
        let groups = Arc::clone(&rig.groups);
        assert_eq!(rig.done().await, [(1, Some(Ok(2)))]);
        assert_eq!(*groups.lock().unwrap(), [1]);
    }

    #[test]
    fn a_lead_that_is_given_to_one_who_is_gone_goes_on() {
        let group: Group<u32, u32> = Group::default();
        let (first, Entered::Leads(leadership)) = group.enter(1) else {
            panic!("the first leads");
        };
        assert_eq!(group.take(first).0, [1]);
        let [second, mut third] = [2, 3].map(|item| match group.enter(item).1 {
            Entered::Waits(comes) => comes,
            Entered::Leads(_) => panic!("there is a leader"),
        });
        drop(leadership);
        // It was to lead, and did not learn of it.
        drop(second);
        let Ok(Turn::Lead(leadership)) = third.try_recv() else {
            panic!("the third leads");
        };
        drop(leadership);
        assert!(!lock(&group.shared).is_led);
    }

    /// Members come, and go in the middle, on several threads: those who stay get their turn, always.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn leadership_is_never_lost() {
        let group: Arc<Group<u32, u32>> = Arc::default();
        let double = |items: Vec<u32>| async move {
            tokio::task::yield_now().await;
            Ok(items.into_iter().map(|item| Some(2 * item)).collect())
        };
        for round in 0..2_000_u32 {
            let mut members = JoinSet::new();
            for item in 0..8 {
                let group = Arc::clone(&group);
                let handle = members.spawn(async move { (item, group.join(item, double).await) });
                if (item + round) % 3 == 0 {
                    handle.abort();
                }
            }
            while let Some(one) = members.join_next().await {
                if let Ok((item, done)) = one {
                    // A leader that was aborted in the middle leaves its followers to themselves.
                    assert!(done.is_none_or(|done| done.unwrap() == 2 * item));
                }
            }
        }
        assert_eq!(group.join(7, double).await.unwrap().unwrap(), 14);
    }
}
