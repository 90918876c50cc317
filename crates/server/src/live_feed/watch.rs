//! One watcher of a fleet: looks every so often for what is newer than what it knows. There is room for a message before there is a
//! look, so that who reads late learns what is so then.

use std::time::Duration;

use rand::RngExt as _;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use waybill_domain::id::DriverId;
use waybill_domain::live::{Area, News, Seen, Version};
use waybill_domain::tenant::Tenant;

use super::LiveFeed;
use super::follow::Watching;
use crate::resilience::Place;

/// Drivers in one message.
const DRIVERS_MAX: usize = 500;
/// How long nothing is sent where nothing changes. Proxies cut what is silent for a minute.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long a watcher may not read: its place is for others then.
const UNREAD_TIME_MAX: Duration = Duration::from_mins(5);
/// How long the fleet may not be up to date before its watchers get the error.
const STALE_MAX: Duration = Duration::from_secs(30);
/// How long the first look may wait for the fleet to be known.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(5);
/// How often that is looked at.
const FIRST_LOOK_EVERY: Duration = Duration::from_millis(20);

/// Which drivers are watched.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchedDrivers {
    /// All in an area.
    Area(Area),
    /// Some.
    Drivers(Vec<DriverId>),
}

/// A message: what there is, or what changed.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetNews {
    /// Nothing that was known before counts any more.
    pub reset: bool,
    /// Drivers that are there, or came, or changed.
    pub drivers: Vec<Seen>,
    /// Drivers that are gone.
    pub gone: Vec<DriverId>,
    /// More of the same moment follows.
    pub more: bool,
}

/// What a watcher is sent. It ends with the reason.
pub type Watched = ReceiverStream<Result<FleetNews, WatchError>>;

/// Why drivers are not, or no longer, watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// This process has as many watchers as it may, in all or of this tenant.
    #[error("too many watch drivers")]
    TooMany,
    /// The watcher does not read what there is.
    #[error("what there is was not read for {} s", UNREAD_TIME_MAX.as_secs())]
    Unread,
    /// The live store does not answer.
    #[error("the drivers' positions are not available")]
    Unavailable,
    /// This process ends.
    #[error("the server is draining")]
    Draining,
}

struct Watcher {
    drivers: WatchedDrivers,
    interval: Duration,
    watching: Watching,
    /// What it knows: up to which version, of the map that was made as this.
    known: Option<(u64, Version)>,
    _place: Place,
}

impl LiveFeed {
    /// Watches these drivers of a tenant, and looks for changes every `interval`.
    pub async fn watch(
        &self,
        tenant: &Tenant,
        drivers: WatchedDrivers,
        interval: Duration,
    ) -> Result<Watched, WatchError> {
        let shared = &self.shared;
        if shared.draining.is_cancelled() {
            return Err(WatchError::Draining);
        }
        let place = shared.places.take(tenant, None).ok_or(WatchError::TooMany)?;
        let watching = Watching::begin(self.fleet(tenant));
        // It was over just now: the next one is followed.
        let watching = watching.or_else(|| Watching::begin(self.fleet(tenant)));
        let mut watcher = Watcher {
            drivers,
            interval,
            watching: watching.ok_or(WatchError::Unavailable)?,
            known: None,
            _place: place,
        };
        // Within the call, so that a store that is away is an error of the call.
        let begun_at = Instant::now();
        while watcher.watching.0.read().current_at.is_none() {
            if begun_at.elapsed() >= FIRST_LOOK_MAX {
                return Err(WatchError::Unavailable);
            }
            sleep(FIRST_LOOK_EVERY).await;
        }
        // One message ahead, and room for the last word.
        let (messages, receiver) = mpsc::channel(2);
        let draining = shared.draining.clone();
        let metrics = std::sync::Arc::clone(&shared.metrics);
        shared.tasks.spawn(async move {
            metrics.locations.fleet_watch_begun();
            // Kept from the beginning: a stream that is cut must not look like one that has ended well.
            if let Ok(last_word) = messages.clone().reserve_owned().await {
                let end = tokio::select! {
                    biased;
                    end = watcher.follow(&messages) => end,
                    () = draining.cancelled() => Err(WatchError::Draining),
                    // The watcher is gone.
                    () = messages.closed() => Ok(()),
                };
                if let Err(error) = end {
                    last_word.send(Err(error));
                }
            }
            metrics.locations.fleet_watch_ended();
        });
        Ok(ReceiverStream::new(receiver))
    }
}

impl Watcher {
    async fn follow(&mut self, messages: &mpsc::Sender<Result<FleetNews, WatchError>>) -> Result<(), WatchError> {
        let mut sent_at: Option<Instant> = None;
        loop {
            let Ok(room) = timeout(UNREAD_TIME_MAX, messages.reserve()).await else {
                return Err(WatchError::Unread);
            };
            let Ok(room) = room else { return Ok(()) };
            let news = self.look()?;
            let is_silent = sent_at.is_some_and(|at| at.elapsed() < SILENCE_MAX);
            let has_news = news.reset || !news.drivers.is_empty() || !news.gone.is_empty();
            if has_news || !is_silent {
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
            // Jittered, so that those who watch one city do not look in step.
            let pause = self.interval.mul_f64(rand::rng().random_range(0.9..1.1));
            sleep(pause).await;
        }
    }

    /// What is newer than what it knows.
    fn look(&mut self) -> Result<FleetNews, WatchError> {
        let state = self.watching.0.read();
        if state.current_at.is_none_or(|at| at.elapsed() > STALE_MAX) {
            return Err(WatchError::Unavailable);
        }
        let known = self.known.filter(|(made, _)| *made == state.made);
        let since = known.map_or(Version::default(), |(_, version)| version);
        let News { drivers, gone, version } = match &self.drivers {
            WatchedDrivers::Area(area) => state.map.in_area(area, since),
            WatchedDrivers::Drivers(drivers) => state.map.of_drivers(drivers, since),
        };
        self.known = Some((state.made, version));
        let reset = known.is_none();
        Ok(FleetNews {
            reset,
            drivers,
            // Nothing is known that could be gone.
            gone: if reset { Vec::new() } else { gone },
            more: false,
        })
    }
}

/// The news in messages of so many drivers; at least one.
fn parts(news: FleetNews) -> impl Iterator<Item = FleetNews> {
    let FleetNews {
        reset,
        mut drivers,
        gone,
        ..
    } = news;
    let mut head = Some((reset, gone));
    std::iter::from_fn(move || {
        let head = head.take();
        if head.is_none() && drivers.is_empty() {
            return None;
        }
        let later = drivers.split_off(drivers.len().min(DRIVERS_MAX));
        let part = std::mem::replace(&mut drivers, later);
        let (reset, gone) = head.unwrap_or_default();
        Some(FleetNews {
            reset,
            drivers: part,
            gone,
            more: !drivers.is_empty(),
        })
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use waybill_domain::fix::Fix;
    use waybill_domain::position::Position;

    use super::*;

    fn news(drivers: usize) -> FleetNews {
        let seen = |number| Seen {
            fix: Fix {
                driver: format!("cab-{number}").parse().unwrap(),
                position: Position::new(1.0, 2.0).unwrap(),
                recorded_at: Timestamp::UNIX_EPOCH,
            },
            order: None,
        };
        FleetNews {
            reset: true,
            drivers: (0..drivers).map(seen).collect(),
            gone: vec!["cab-x".parse().unwrap()],
            more: false,
        }
    }

    #[test]
    fn a_large_fleet_comes_in_parts_of_which_the_last_says_so() {
        for (drivers, expected) in [
            (0, vec![0]),
            (500, vec![500]),
            (501, vec![500, 1]),
            (1_200, vec![500, 500, 200]),
        ] {
            let parts: Vec<FleetNews> = parts(news(drivers)).collect();
            let sizes: Vec<usize> = parts.iter().map(|part| part.drivers.len()).collect();
            assert_eq!(sizes, expected);
            let last = parts.len() - 1;
            for (number, part) in parts.iter().enumerate() {
                let is_first = number == 0;
                assert_eq!(
                    (part.reset, part.gone.len() == 1, part.more),
                    (is_first, is_first, number < last)
                );
            }
        }
    }
}
