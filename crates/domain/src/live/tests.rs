//! The map against a plain list: whoever applies all news, at whatever moments it asks, knows just what is there.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::position::Position;

const TTL: SignedDuration = SignedDuration::from_secs(30);

/// What happens.
#[derive(Debug, Clone)]
enum Act {
    /// A driver is at a place; its fix is so many seconds old by its clock, and arrived after a quarter of that.
    Fix(u8, f64, f64, i64),
    /// Some drivers serve orders.
    Serve(u8),
    /// A driver goes off duty, or on duty.
    Duty(u8, bool),
    /// So many seconds pass.
    Pass(i64),
    /// The watcher of this number asks.
    Ask(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        8 => (0_u8..12, 36.97..37.07, -122.07..-121.97, 0_i64..40).prop_map(|(driver, lat, lon, age)| {
            Act::Fix(driver, lat, lon, age)
        }),
        1 => any::<u8>().prop_map(Act::Serve),
        2 => (0_u8..12, any::<bool>()).prop_map(|(driver, off)| Act::Duty(driver, off)),
        2 => (0_i64..20).prop_map(Act::Pass),
        4 => (0_usize..4).prop_map(Act::Ask),
    ];
    proptest::collection::vec(act, 0..200)
}

fn driver(number: u8) -> DriverId {
    format!("cab-{number}").parse().unwrap()
}

/// It arrives now.
fn of_now(fix: Fix, now: Timestamp) -> LatestFix {
    LatestFix { fix, arrived_at: now }
}

fn order(number: u8) -> OrderId {
    OrderId::new(uuid::Uuid::from_u128(u128::from(number)))
}

/// A client: what it knows, and up to where.
#[derive(Default)]
struct Client {
    version: Version,
    known: BTreeMap<DriverId, Seen>,
}

impl Client {
    fn learn(&mut self, news: News) {
        if news.is_whole {
            self.known.clear();
        }
        for seen in news.drivers {
            self.known.insert(seen.fix.driver.clone(), Seen::clone(&seen));
        }
        for driver in news.gone {
            self.known.remove(&driver);
        }
        self.version = news.version;
    }
}

fn areas() -> [Area; 2] {
    let at = |lat, lon| Position::new(lat, lon).unwrap();
    [
        Area::new(at(37.0, -122.04), at(37.04, -122.0)).unwrap(),
        Area::new(at(36.9, -122.1), at(37.1, -121.9)).unwrap(),
    ]
}

/// A client that is sent how many there are: the count of all and of the free, by the middle of the cell.
#[derive(Default)]
struct Counter {
    version: Version,
    known: BTreeMap<String, (usize, usize)>,
}

impl Counter {
    fn learn(&mut self, news: CellNews) {
        if news.is_whole {
            self.known.clear();
        }
        for cell in news.cells {
            self.known.insert(middle(cell.centre), (cell.drivers, cell.free));
        }
        self.known.retain(|_, (drivers, _)| *drivers > 0);
        self.version = news.version;
    }
}

fn middle((lat, lon): (f64, f64)) -> String {
    format!("{lat:.3} {lon:.3}")
}

/// How many of these there are in each cell of the area.
fn counted<'a>(all: impl Iterator<Item = &'a Seen>, area: &Area) -> BTreeMap<String, (usize, usize)> {
    let mut counts = BTreeMap::<String, (usize, usize)>::new();
    for seen in all.filter(|seen| area.touches_cell_of(seen.fix.position)) {
        let down = |degrees: f64| (degrees * 100.0).floor() / 100.0 + 0.005;
        let place = seen.fix.position;
        let count = counts
            .entry(middle((down(place.lat_deg()), down(place.lon_deg()))))
            .or_default();
        count.0 += 1;
        count.1 += usize::from(seen.order.is_none() && !seen.off_duty);
    }
    counts
}

proptest! {
    #[test]
    fn whoever_applies_all_news_knows_what_is_there(acts in acts()) {
        let (mut map, mut plain) = (LiveMap::default(), BTreeMap::<DriverId, Seen>::new());
        let mut now: Timestamp = "2026-11-27T18:00:00Z".parse().unwrap();
        let mut serving = HashMap::new();
        let mut newcomers = BTreeSet::new();
        let mut clients = [Client::default(), Client::default(), Client::default()];
        let ids: Vec<DriverId> = (0..4).map(driver).collect();
        let mut counter = Counter::default();
        for act in acts.into_iter().chain((0..4).map(Act::Ask)) {
            match act {
                Act::Fix(number, lat, lon, age) => {
                    // Its clock is off, and it arrives a while before it is read.
                    let fix = Fix {
                        driver: driver(number),
                        position: Position::new(lat, lon).unwrap(),
                        recorded_at: now - SignedDuration::from_secs(age),
                    };
                    let arrived_at = now - SignedDuration::from_secs(age / 4);
                    if arrived_at >= now - TTL {
                        let known = plain.get(&fix.driver);
                        if known.is_none_or(|known| known.fix.recorded_at < fix.recorded_at) {
                            let order = serving.get(&fix.driver).copied();
                            let off_duty = known.is_some_and(|known| known.off_duty);
                            if known.is_none() {
                                newcomers.insert(fix.driver.clone());
                            }
                            let seen = Seen { fix: fix.clone(), arrived_at, order, off_duty };
                            plain.insert(fix.driver.clone(), seen);
                        }
                        map.apply(LatestFix { fix, arrived_at }, now);
                    }
                }
                Act::Serve(mask) => {
                    let busy = (0..8).filter(|bit| mask & (1 << bit) != 0);
                    serving = busy.map(|bit| (driver(bit), order(bit))).collect();
                    for (driver, seen) in &mut plain {
                        seen.order = serving.get(driver).copied();
                    }
                    map.set_serving(serving.clone());
                }
                Act::Duty(number, off_duty) => {
                    // Whoever came since is asked about.
                    let mut asked: Vec<DriverId> = map.take_newcomers(20);
                    asked.sort();
                    let expected: Vec<DriverId> = std::mem::take(&mut newcomers).into_iter().collect();
                    prop_assert_eq!(asked, expected);
                    map.set_off_duty(&driver(number), off_duty);
                    if let Some(seen) = plain.get_mut(&driver(number)) {
                        seen.off_duty = off_duty;
                    }
                }
                Act::Pass(secs) => {
                    now += SignedDuration::from_secs(secs);
                    plain.retain(|_, seen| seen.arrived_at >= now - TTL);
                    newcomers.retain(|driver| plain.contains_key(driver));
                    // Departures expire soon: a client that sleeps for longer begins anew.
                    map.expire(now - TTL, now - SignedDuration::from_secs(15), now);
                }
                Act::Ask(3) => {
                    let area = areas()[1];
                    counter.learn(map.cells_in(&area, counter.version));
                    let expected = counted(plain.values(), &area);
                    prop_assert_eq!(&counter.known, &expected);
                    let all: usize = expected.values().map(|(drivers, _)| drivers).sum();
                    prop_assert_eq!(map.count_in(&area), all);
                }
                Act::Ask(number) => {
                    let since = clients[number].version;
                    let area = areas().get(number).copied();
                    let is_wanted = |seen: &Seen| match area {
                        Some(area) => area.touches_cell_of(seen.fix.position),
                        None => ids.contains(&seen.fix.driver),
                    };
                    let news = match area {
                        Some(area) => map.in_area(&area, since),
                        None => map.of_drivers(&ids, since),
                    };
                    clients[number].learn(news);
                    let mut wanted = plain.clone();
                    wanted.retain(|_, seen| is_wanted(seen));
                    prop_assert_eq!(&clients[number].known, &wanted, "client {}", number);
                }
            }
            prop_assert_eq!(map.len(), plain.len());
        }
    }
}

#[test]
fn who_asks_again_learns_nothing_again() {
    let mut map = LiveMap::default();
    let now: Timestamp = "2026-11-27T18:00:00Z".parse().unwrap();
    let [area, _] = areas();
    let fix = Fix {
        driver: driver(1),
        position: Position::new(37.02, -122.02).unwrap(),
        recorded_at: now,
    };
    map.apply(of_now(fix.clone(), now), now);
    let first = map.in_area(&area, Version::default());
    assert_eq!((first.drivers.len(), first.gone.len()), (1, 0));
    map.apply(of_now(fix, now), now);
    let again = map.in_area(&area, first.version);
    assert_eq!(
        (again.drivers.len(), again.gone.len(), again.version),
        (0, 0, first.version)
    );
}

#[test]
fn what_left_long_ago_takes_no_room() {
    let mut map = LiveMap::default();
    let now: Timestamp = "2026-11-27T18:00:00Z".parse().unwrap();
    for number in 0..100 {
        let fix = Fix {
            driver: driver(1),
            position: Position::new(37.0 + f64::from(number) / 50.0, -122.02).unwrap(),
            recorded_at: now + SignedDuration::from_secs(number.into()),
        };
        map.apply(of_now(fix, now), now);
    }
    assert_eq!(map.cells.len(), 100);
    let later = now + SignedDuration::from_mins(5);
    map.expire(later, later, later);
    assert!(map.is_empty());
    assert_eq!(
        (map.cells.len(), map.silent.len()),
        (1, 1),
        "what left just now is known"
    );
    let later = later + SignedDuration::from_secs(1);
    map.expire(later, later, later);
    assert_eq!((map.cells.len(), map.silent.len()), (0, 0));
}

/// Else it would be shown for ever to who slept meanwhile.
#[test]
fn who_slept_for_longer_than_a_departure_is_known_begins_anew() {
    let mut map = LiveMap::default();
    let now: Timestamp = "2026-11-27T18:00:00Z".parse().unwrap();
    let [area, _] = areas();
    let fix = |number, at| Fix {
        driver: driver(number),
        position: Position::new(37.02, -122.02).unwrap(),
        recorded_at: at,
    };
    map.apply(of_now(fix(1, now), now), now);
    let ids = [driver(1), driver(2)];
    let (in_area, of_drivers) = (
        map.in_area(&area, Version::default()),
        map.of_drivers(&ids, Version::default()),
    );
    assert!(in_area.is_whole && of_drivers.is_whole);
    let later = now + SignedDuration::from_mins(1);
    map.expire(later - TTL, later - TTL, later);
    let known = map.in_area(&area, in_area.version);
    assert_eq!((known.is_whole, known.gone), (false, vec![driver(1)]));
    let later = later + SignedDuration::from_mins(5);
    map.expire(later - TTL, later - TTL, later);
    map.apply(of_now(fix(2, later), later), later);
    for news in [
        map.in_area(&area, in_area.version),
        map.of_drivers(&ids, of_drivers.version),
    ] {
        assert!(news.is_whole && news.gone.is_empty());
        assert_eq!(news.drivers.len(), 1);
    }
    // Who was awake knows what it has to.
    assert!(!map.in_area(&area, known.version).is_whole);
}

/// Whoever took a driver from the map sees it as it was then, whatever is done to it afterwards.
#[test]
fn what_was_taken_from_the_map_does_not_change() {
    let at = |lat, seconds| Fix {
        driver: driver(1),
        position: Position::new(lat, -122.0).unwrap(),
        recorded_at: Timestamp::from_second(seconds).unwrap(),
    };
    let now = Timestamp::from_second(100).unwrap();
    let mut map = LiveMap::default();
    let apply = |map: &mut LiveMap, fix| map.apply(of_now(fix, now), now);
    apply(&mut map, at(37.001, 1));
    let take = |map: &LiveMap| map.of_drivers([&driver(1)], Version::default()).drivers.remove(0);
    let mut taken = vec![(take(&map), at(37.001, 1), None, false)];
    apply(&mut map, at(37.002, 2));
    taken.push((take(&map), at(37.002, 2), None, false));
    map.set_serving([(driver(1), order(7))].into());
    taken.push((take(&map), at(37.002, 2), Some(order(7)), false));
    map.set_off_duty(&driver(1), true);
    taken.push((take(&map), at(37.002, 2), Some(order(7)), true));
    apply(&mut map, at(38.0, 3));
    taken.push((take(&map), at(38.0, 3), Some(order(7)), true));
    for (seen, fix, order, off_duty) in taken {
        let expected = Seen {
            fix,
            arrived_at: now,
            order,
            off_duty,
        };
        assert_eq!(*seen, expected);
    }
}
