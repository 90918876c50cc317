//! One watcher of a fleet: looks every so often for what is newer than what it knows. There is room for a message before there is a
//! look, so that who reads late learns what is so then.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt as _;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use waybill_domain::access::Scope;
use waybill_domain::id::{DriverId, OrderId, UserId};
use waybill_domain::live::{Area, CellCount, LiveMap, News, Seen, Version};

use super::by_order::{FollowedOrder, Serves};
use super::cursor::{Cursor, Views};
use super::fleet::{State, Watching};
use super::{LiveFeed, WatchedDrivers};
use crate::metrics::Metrics;
use crate::resilience::{Place, task_stream};
use crate::storage::StoreError;

/// Drivers in one message, and the names of those who are gone: far below what a client takes at once.
const DRIVERS_MAX: usize = 500;
const GONE_MAX: usize = 5_000;
/// Cells in one message.
const CELLS_MAX: usize = 2_000;
/// How long nothing is sent where nothing changes. Proxies cut what is silent for a minute.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// No look follows another one sooner.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How long a watcher may not read: its place is for others then.
const UNREAD_TIME_MAX: Duration = Duration::from_mins(5);
/// How long the fleet may not be up to date before its watchers get the error.
const STALE_MAX: Duration = Duration::from_secs(30);
/// How long the first look may wait for the fleet to be known.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(5);
/// How often that is looked at.
const FIRST_LOOK_EVERY: Duration = Duration::from_millis(20);

/// A message: what there is, or what changed.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetNews {
    /// Nothing that was known before counts any more.
    pub reset: bool,
    /// Drivers that are there, or came, or changed.
    pub drivers: Vec<Arc<Seen>>,
    /// Drivers that are gone.
    pub gone: Vec<DriverId>,
    /// Instead of both: how many there are, where there are too many.
    pub cells: Vec<CellCount>,
    /// Where the watcher goes on after this; empty while more follows.
    pub cursor: String,
    /// More of the same moment follows.
    pub more: bool,
}

/// What a watcher is sent. It ends with the reason.
pub type Watched = ReceiverStream<Result<FleetNews, WatchError>>;

/// Why drivers are not, or no longer, watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// There is no such order in the scope.
    #[error("there is no such order")]
    NotFound,
    /// This process has as many watchers as it may, in all, of this tenant, or of this customer.
    #[error("too many watch drivers")]
    TooMany,
    /// The watcher does not read what there is.
    #[error("what there is was not read for {} s", UNREAD_TIME_MAX.as_secs())]
    Unread,
    /// The live store does not answer.
    #[error("the drivers' positions are not available")]
    Unavailable,
    /// The order cannot be read; for long, if the watch had begun.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This process ends.
    #[error("the server is draining")]
    Draining,
}

/// Counted while it lasts.
struct CountedWatch(Arc<Metrics>);

/// What a watcher looks at.
enum View {
    Area {
        area: Area,
        /// Whether there were too many drivers when it was last looked at.
        is_crowded: bool,
    },
    Drivers(Vec<DriverId>),
    Order {
        followed: Box<FollowedOrder>,
        /// The driver who is shown.
        shown: Option<DriverId>,
    },
}

struct Watcher {
    view: View,
    /// What its cursors are for.
    views: Option<Views>,
    /// Where it goes on, until the first look.
    resumed: Option<Cursor>,
    area_max: usize,
    interval: Duration,
    watching: Watching,
    /// What it knows: up to which version, of the map that was made as this.
    known: Option<(u64, Version)>,
    _place: Place,
}

impl LiveFeed {
    /// Watches these drivers within a scope, and looks for changes every `interval`. A scope that is narrower than a business has
    /// orders only. `cursor` is that of the last message of a stream that broke, and empty for a new one.
    pub async fn watch(
        &self,
        scope: &Scope,
        drivers: WatchedDrivers,
        interval: Duration,
        cursor: &str,
    ) -> Result<Watched, WatchError> {
        let shared = &self.shared;
        if shared.draining.is_cancelled() {
            return Err(WatchError::Draining);
        }
        let tenant = scope.business();
        let customer = scope.user().map(UserId::as_str);
        let place = shared.places.take(&tenant, customer).ok_or(WatchError::TooMany)?;
        let views = Views::new(&tenant, &drivers);
        let view = match drivers {
            WatchedDrivers::Area(area) => View::Area {
                area,
                is_crowded: false,
            },
            WatchedDrivers::Drivers(drivers) => View::Drivers(drivers),
            WatchedDrivers::Order(id) => {
                let (orders, reads) = (shared.orders.clone(), shared.order_reads.clone());
                let followed = FollowedOrder::begin(orders, reads, scope.clone(), id).await?;
                View::Order {
                    followed: Box::new(followed.ok_or(WatchError::NotFound)?),
                    shown: None,
                }
            }
        };
        let watching = Watching::begin(self.fleet(&tenant));
        // It was over just now: the next one is followed.
        let watching = watching.or_else(|| Watching::begin(self.fleet(&tenant)));
        let mut watcher = Watcher {
            view,
            views,
            resumed: Cursor::parse(cursor),
            area_max: shared.settings.area_max,
            interval,
            watching: watching.ok_or(WatchError::Unavailable)?,
            known: None,
            _place: place,
        };
        // Within the call, so that a store that is away is an error of the call.
        let begun_at = Instant::now();
        while watcher.watching.0.read().shown_since().is_none() {
            if begun_at.elapsed() >= FIRST_LOOK_MAX {
                return Err(WatchError::Unavailable);
            }
            sleep(FIRST_LOOK_EVERY).await;
        }
        let counted = CountedWatch::begin(Arc::clone(&shared.metrics));
        let draining = shared.draining.clone();
        Ok(task_stream(
            &shared.tasks,
            draining,
            WatchError::Draining,
            |messages| async move {
                let _counted = counted;
                watcher.follow(&messages).await
            },
        ))
    }
}

impl CountedWatch {
    fn begin(metrics: Arc<Metrics>) -> CountedWatch {
        metrics.locations.fleet_watch_begun();
        CountedWatch(metrics)
    }
}

impl Drop for CountedWatch {
    fn drop(&mut self) {
        self.0.locations.fleet_watch_ended();
    }
}

impl Watcher {
    async fn follow(&mut self, messages: &mpsc::Sender<Result<FleetNews, WatchError>>) -> Result<(), WatchError> {
        let mut sent_at: Option<Instant> = None;
        let mut could_go_on = false;
        loop {
            let Ok(room) = timeout(UNREAD_TIME_MAX, messages.reserve()).await else {
                return Err(WatchError::Unread);
            };
            let Ok(room) = room else { return Ok(()) };
            if let View::Order { followed, .. } = &mut self.view {
                followed.refresh().await?;
            }
            let news = self.look()?;
            let is_silent = sent_at.is_some_and(|at| at.elapsed() < SILENCE_MAX);
            let has_news = news.reset || !news.drivers.is_empty() || !news.gone.is_empty() || !news.cells.is_empty();
            // The first cursor is news, too: without one a broken stream begins anew.
            let can_go_on = !news.cursor.is_empty();
            if has_news || !is_silent || can_go_on && !could_go_on {
                could_go_on = can_go_on;
                let mut parts = parts(news);
                if let Some(first) = parts.next() {
                    room.send(Ok(first));
                }
                for part in parts {
                    match timeout(UNREAD_TIME_MAX, messages.send(Ok(part))).await {
                        Ok(Ok(())) => {}
                        Ok(Err(_)) => return Ok(()),
                        Err(_) => return Err(WatchError::Unread),
                    }
                }
                sent_at = Some(Instant::now());
            } else {
                drop(room);
            }
            if self.is_over() {
                return Ok(());
            }
            // Jittered, so that those who watch one city do not look in step.
            let pause = self.interval.mul_f64(rand::rng().random_range(0.9..1.1));
            let silent = sent_at.map_or(Duration::ZERO, |at| at.elapsed());
            sleep(pause.min(SILENCE_MAX.saturating_sub(silent).max(INTERVAL_MIN))).await;
        }
    }

    /// Whether there will be nothing more to see.
    fn is_over(&self) -> bool {
        matches!(&self.view, View::Order { followed, .. } if *followed.serves() == Serves::Over)
    }

    /// What is newer than what it knows.
    fn look(&mut self) -> Result<FleetNews, WatchError> {
        let fleet = Arc::clone(&self.watching.0);
        let state = fleet.read();
        if state.shown_since().is_none_or(|at| at.elapsed() > STALE_MAX) {
            return Err(WatchError::Unavailable);
        }
        let is_of_now = |(made, version)| (made, version) == (state.made, state.map.version());
        let is_current = self.known.is_some_and(is_of_now);
        let is_crowded = if is_current {
            self.is_crowded()
        } else {
            self.notice_crowd(&state.map)
        };
        if let Some(resumed) = self.resumed.take() {
            self.known = self.resume(resumed, &state, is_crowded);
        }
        let known = self.known.filter(|(made, _)| *made == state.made);
        let since = known.map_or(Version::default(), |(_, version)| version);
        let (news, cells) = match &mut self.view {
            View::Area { .. } | View::Drivers(_) if is_current => (News::none(since), Vec::new()),
            View::Area { area, is_crowded: true } => {
                let news = state.map.cells_in(area, since);
                let is_whole = news.is_whole;
                (
                    News {
                        is_whole,
                        ..News::none(news.version)
                    },
                    news.cells,
                )
            }
            View::Area { area, .. } => (state.map.in_area(area, since), Vec::new()),
            View::Drivers(drivers) => (state.map.of_drivers(drivers.iter(), since), Vec::new()),
            View::Order { followed, shown } => (
                look_at_order(followed, shown, &state.map, known.map(|_| since)),
                Vec::new(),
            ),
        };
        self.known = Some((state.made, news.version));
        let reset = known.is_none() || news.is_whole && !is_current;
        let cursor = self.views.map(|views| views.of(is_crowded)).zip(state.known_at());
        Ok(FleetNews {
            reset,
            drivers: news.drivers,
            // Nothing is known that could be gone.
            gone: if reset { Vec::new() } else { news.gone },
            cells,
            cursor: cursor.map_or_else(String::new, |(view, known)| Cursor::new(view, known).text()),
            more: false,
        })
    }

    /// Whether the area had too many drivers when it was last looked at.
    fn is_crowded(&self) -> bool {
        matches!(self.view, View::Area { is_crowded: true, .. })
    }

    /// Whether the area has too many drivers. Who is sent the one is sent the other only after some have come or gone, and begins anew.
    fn notice_crowd(&mut self, map: &LiveMap) -> bool {
        let View::Area { area, is_crowded } = &mut self.view else {
            return false;
        };
        let count = map.count_in(area);
        let was_crowded = *is_crowded;
        *is_crowded = count > self.area_max || was_crowded && count > self.area_max - self.area_max / 5;
        if *is_crowded != was_crowded {
            self.known = None;
        }
        *is_crowded
    }

    /// What one who goes on knows already; `None`: nothing that counts here.
    fn resume(&self, cursor: Cursor, state: &State, is_crowded: bool) -> Option<(u64, Version)> {
        let view = self.views?.of(is_crowded);
        let known = cursor.known(view, Timestamp::now())?;
        Some((state.made, state.moments.version_before(known)?))
    }
}

/// What is newer of the driver who serves this order; without `since`, all that there is.
fn look_at_order(
    followed: &FollowedOrder,
    shown: &mut Option<DriverId>,
    map: &LiveMap,
    since: Option<Version>,
) -> News {
    let current = match followed.serves() {
        Serves::Driver(driver) => Some(driver.clone()),
        Serves::NoOne | Serves::Over => None,
    };
    if *shown == current {
        return of_order(followed.id(), map.of_drivers(current.iter(), since.unwrap_or_default()));
    }
    let before = std::mem::replace(shown, current);
    let mut news = of_order(followed.id(), map.of_drivers(shown.iter(), Version::default()));
    news.gone.extend(before);
    news.is_whole = since.is_none();
    news
}

/// The news of the driver who serves this order. One who serves another by now is gone: where it is, is that one's to see.
fn of_order(id: OrderId, mut news: News) -> News {
    for seen in std::mem::take(&mut news.drivers) {
        if seen.order.is_some_and(|order| order != id) {
            news.gone.push(seen.fix.driver.clone());
        } else {
            news.drivers.push(Arc::new(Seen {
                order: Some(id),
                // Whoever waits for the driver need not know how its day goes.
                off_duty: false,
                ..Seen::clone(&seen)
            }));
        }
    }
    news
}

/// The news in messages of so many drivers, and of so many that are gone; at least one.
fn parts(news: FleetNews) -> impl Iterator<Item = FleetNews> {
    let (mut drivers, mut gone) = (news.drivers.into_iter(), news.gone.into_iter());
    let mut cells = news.cells.into_iter();
    let mut first = Some(news.reset);
    std::iter::from_fn(move || {
        if first.is_none() && drivers.len() == 0 && gone.len() == 0 && cells.len() == 0 {
            return None;
        }
        let mut part = FleetNews {
            reset: first.take().unwrap_or(false),
            drivers: drivers.by_ref().take(DRIVERS_MAX).collect(),
            gone: gone.by_ref().take(GONE_MAX).collect(),
            cells: cells.by_ref().take(CELLS_MAX).collect(),
            cursor: String::new(),
            more: drivers.len() > 0 || gone.len() > 0 || cells.len() > 0,
        };
        if !part.more {
            part.cursor.clone_from(&news.cursor);
        }
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use waybill_domain::fix::Fix;
    use waybill_domain::position::Position;

    use super::*;

    fn news(drivers: usize) -> FleetNews {
        let seen = |number| {
            Arc::new(Seen {
                fix: Fix {
                    driver: format!("cab-{number}").parse().unwrap(),
                    position: Position::new(1.0, 2.0).unwrap(),
                    recorded_at: Timestamp::UNIX_EPOCH,
                },
                arrived_at: Timestamp::UNIX_EPOCH,
                order: None,
                off_duty: false,
            })
        };
        FleetNews {
            reset: true,
            drivers: (0..drivers).map(seen).collect(),
            gone: vec!["cab-x".parse().unwrap()],
            cells: Vec::new(),
            cursor: "a cursor".to_owned(),
            more: false,
        }
    }

    #[test]
    fn a_large_fleet_comes_in_parts_of_which_the_last_says_so() {
        for (drivers, gone, expected) in [
            (0, 1, vec![(0, 1)]),
            (500, 1, vec![(500, 1)]),
            (501, 1, vec![(500, 1), (1, 0)]),
            (1_200, 0, vec![(500, 0), (500, 0), (200, 0)]),
            (1, 12_000, vec![(1, 5_000), (0, 5_000), (0, 2_000)]),
        ] {
            let mut all = news(drivers);
            all.gone = (0..gone)
                .map(|number| format!("cab-{number}").parse().unwrap())
                .collect();
            let parts: Vec<FleetNews> = parts(all).collect();
            let sizes: Vec<_> = parts.iter().map(|part| (part.drivers.len(), part.gone.len())).collect();
            assert_eq!(sizes, expected);
            for (number, part) in parts.iter().enumerate() {
                assert_eq!((part.reset, part.more), (number == 0, number + 1 < parts.len()));
                assert_eq!(part.cursor.is_empty(), part.more);
            }
        }
    }

    /// Its next order is not for who follows this one, nor its way there.
    #[test]
    fn who_serves_another_order_by_now_is_gone() {
        let order = |number| OrderId::new(uuid::Uuid::from_u128(number));
        let seen = |order| News {
            drivers: vec![Arc::new(Seen {
                order,
                ..Seen::clone(&news(1).drivers[0])
            })],
            ..News::none(Version::default())
        };
        for serves in [None, Some(order(1))] {
            let news = of_order(order(1), seen(serves));
            assert_eq!((news.drivers[0].order, news.gone.len()), (Some(order(1)), 0));
        }
        let news = of_order(order(1), seen(Some(order(2))));
        assert_eq!((news.drivers.len(), news.gone.len()), (0, 1));
    }
}
