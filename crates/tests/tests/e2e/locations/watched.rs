//! The live feed: who watches drivers sees them come, move, be taken and go (W1, W3, W4).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use testkit::wire::{PICKUP, a_ride, fix, now, position, refusal_fields};
use testkit::{Builder, Rig, until};
use tonic::{Code, Status, Streaming};
use waybill_proto::fleet::v1 as pb;
use waybill_proto::fleet::v1::watch_drivers_request::Scope;

/// What has to come well within this time, and in a program that is broken never would.
const IN_TIME: Duration = Duration::from_mins(1);

/// Around the place where rides begin, some 4 km each way.
pub fn around() -> Scope {
    Scope::Area(pb::Area {
        south_west: Some(position((PICKUP.0 - 0.04, PICKUP.1 - 0.04))),
        north_east: Some(position((PICKUP.0 + 0.04, PICKUP.1 + 0.04))),
    })
}

pub fn named(drivers: &[&str]) -> Scope {
    Scope::Drivers(pb::DriverIds {
        driver_ids: drivers.iter().map(|&driver| driver.to_owned()).collect(),
    })
}

pub fn request(scope: Scope) -> pb::WatchDriversRequest {
    pb::WatchDriversRequest {
        scope: Some(scope),
        interval: Some(prost_types::Duration {
            seconds: 0,
            nanos: 250_000_000,
        }),
        cursor: String::new(),
    }
}

/// A client, and the drivers that it knows.
pub struct Watcher {
    stream: Streaming<pb::WatchDriversResponse>,
    pub known: BTreeMap<String, pb::Driver>,
    /// The drivers and the free ones of each cell, by its middle.
    pub cells: BTreeMap<String, (i32, i32)>,
    pub resets: usize,
    /// Where a broken stream goes on.
    pub cursor: String,
}

impl Watcher {
    pub async fn begin(rig: &Rig, scope: Scope) -> Watcher {
        Watcher::of(rig.fleet().watch_drivers(request(scope)).await.unwrap().into_inner())
    }

    pub fn of(stream: Streaming<pb::WatchDriversResponse>) -> Watcher {
        Watcher {
            stream,
            known: BTreeMap::new(),
            cells: BTreeMap::new(),
            resets: 0,
            cursor: String::new(),
        }
    }

    /// Applies the next message; whether the stream goes on.
    async fn read_on(&mut self) -> Result<bool, Status> {
        let message = tokio::time::timeout(IN_TIME, self.stream.message()).await;
        let Some(message) = message.expect("a message comes in time")? else {
            return Ok(false);
        };
        if message.reset {
            self.known.clear();
            self.cells.clear();
            // What is only begun is no place to go on.
            self.cursor.clear();
            self.resets += 1;
        }
        for driver in message.drivers {
            self.known.insert(driver.driver_id.clone(), driver);
        }
        for driver in message.gone {
            self.known.remove(&driver);
        }
        for cell in message.cells {
            let centre = cell.centre.unwrap();
            let middle = format!("{:.3} {:.3}", centre.latitude(), centre.longitude());
            self.cells.insert(middle, (cell.drivers, cell.free));
        }
        self.cells.retain(|_, (drivers, _)| *drivers > 0);
        // A message that is cut off from those after it is no place to go on.
        assert!(!message.more || message.cursor.is_empty());
        if !message.cursor.is_empty() {
            self.cursor = message.cursor;
        }
        Ok(true)
    }

    /// Applies the next message of a stream that goes on.
    pub async fn read(&mut self) -> Result<(), Status> {
        self.read_on().await.map(|goes_on| assert!(goes_on, "the stream ended"))
    }

    /// Reads on until this is so. Messages come without news, too, so that all of it has a limit.
    pub async fn until(&mut self, is_so: impl Fn(&BTreeMap<String, pb::Driver>) -> bool) {
        let reads = async {
            while !is_so(&self.known) {
                self.read().await.unwrap();
            }
        };
        let in_time = tokio::time::timeout(IN_TIME, reads).await;
        in_time.unwrap_or_else(|_| panic!("it is not so in time: {:?}", self.known));
    }

    /// Reads on until there is a cursor, which is once its server has looked at everything.
    pub async fn until_it_can_go_on(&mut self) {
        let reads = async {
            while self.cursor.is_empty() {
                self.read().await.unwrap();
            }
        };
        tokio::time::timeout(IN_TIME, reads)
            .await
            .expect("there is a cursor in time");
    }

    /// Reads on to the end of the stream.
    pub async fn until_ended(&mut self) {
        let reads = async { while self.read_on().await.unwrap() {} };
        tokio::time::timeout(IN_TIME, reads)
            .await
            .expect("the stream ends in time");
    }

    pub fn names(&self) -> Vec<&str> {
        self.known.keys().map(String::as_str).collect()
    }
}

#[tokio::test]
async fn who_watches_an_area_sees_drivers_come_move_be_taken_and_leave() {
    let rig = Rig::builder().servers(2).start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.driver_at("cab-far", PICKUP.0 + 1.0, PICKUP.1).await;
    let mut watcher = Watcher::begin(&rig, around()).await;
    watcher.read().await.unwrap();
    assert_eq!((watcher.names(), watcher.resets), (vec!["cab-1"], 1));

    rig.driver_at("cab-2", PICKUP.0 + 0.03, PICKUP.1).await;
    watcher.until(|known| known.contains_key("cab-2")).await;
    let order = rig.place(a_ride()).await;
    watcher
        .until(|known| known["cab-1"].active_order_id == order.order_id)
        .await;
    rig.driver_at("cab-1", PICKUP.0 + 0.02, PICKUP.1).await;
    watcher
        .until(|known| (known["cab-1"].position.unwrap().latitude() - PICKUP.0 - 0.02).abs() < 1e-6)
        .await;
    assert_eq!(
        watcher.known["cab-1"].active_order_id, order.order_id,
        "it serves still"
    );
    rig.complete(&order.order_id).await.unwrap();
    watcher.until(|known| known["cab-1"].active_order_id.is_empty()).await;
    rig.driver_at("cab-2", PICKUP.0 + 0.5, PICKUP.1).await;
    watcher.until(|known| !known.contains_key("cab-2")).await;
    assert_eq!((watcher.names(), watcher.resets), (vec!["cab-1"], 1));
}

#[tokio::test]
async fn who_watches_drivers_by_their_ids_sees_them_wherever_they_are() {
    let rig = Rig::start().await;
    let mut watcher = Watcher::begin(&rig, named(&["cab-1", "cab-2"])).await;
    watcher.read().await.unwrap();
    assert_eq!((watcher.names(), watcher.resets), (vec![], 1));
    for driver in ["cab-1", "cab-3", "cab-2"] {
        rig.driver_at(driver, -33.9, 151.2).await;
    }
    watcher.until(|known| known.len() == 2).await;
    assert_eq!(watcher.names(), ["cab-1", "cab-2"]);
}

/// No one is shown where it is not.
#[tokio::test]
async fn a_driver_who_is_silent_is_gone() {
    let rig = Rig::with("locations.ttl=3s").await;
    for driver in ["cab-1", "cab-2"] {
        rig.driver_at(driver, PICKUP.0, PICKUP.1).await;
    }
    let mut area = Watcher::begin(&rig, around()).await;
    let mut both = Watcher::begin(&rig, named(&["cab-1", "cab-2"])).await;
    area.until(|known| known.len() == 2).await;
    both.until(|known| known.len() == 2).await;
    for watcher in [&mut area, &mut both] {
        watcher.until(BTreeMap::is_empty).await;
    }
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    for watcher in [&mut area, &mut both] {
        watcher.until(|known| known.len() == 1).await;
        assert_eq!((watcher.names(), watcher.resets), (vec!["cab-1"], 1));
    }
}

/// What comes late, and what is older than what is known, moves no one.
#[tokio::test]
async fn the_newest_fix_of_a_driver_counts() {
    let rig = Rig::start().await;
    let at = now();
    rig.report(vec![fix("cab-1", PICKUP.0, PICKUP.1, at)]).await;
    let mut watcher = Watcher::begin(&rig, around()).await;
    watcher.until(|known| known.len() == 1).await;
    let older = at - SignedDuration::from_secs(5);
    rig.report(vec![
        fix("cab-1", PICKUP.0 + 0.01, PICKUP.1, older),
        fix("cab-2", PICKUP.0, PICKUP.1, at),
    ])
    .await;
    watcher.until(|known| known.contains_key("cab-2")).await;
    let latitude = watcher.known["cab-1"].position.unwrap().latitude();
    assert!((latitude - PICKUP.0).abs() < 1e-9, "{latitude}");
}

/// The ids of the entries say when they came, by the clock of Redis.
#[tokio::test]
async fn a_redis_whose_clock_is_behind_hides_no_one() {
    let rig = Rig::start().await;
    let mut watcher = Watcher::begin(&rig, around()).await;
    watcher.until_it_can_go_on().await;
    let mut add = redis::cmd("XADD");
    add.arg("location_events").arg("1000-1").arg("driver_id").arg("cab-1");
    add.arg("lat").arg(PICKUP.0).arg("long").arg(PICKUP.1);
    add.arg("timestamp").arg(jiff::Timestamp::now().as_microsecond());
    add.exec_async(&mut rig.redis().await).await.unwrap();
    watcher.until(|known| known.contains_key("cab-1")).await;
}

fn of_two_shards() -> Builder {
    Rig::builder().set("redis.shards", "2").servers(2)
}

/// Two hundred drivers, over two shards, while they move: once they stand still every watcher knows what the index has.
#[tokio::test]
async fn once_no_one_moves_watchers_know_what_the_index_has() {
    let rig = of_two_shards().start().await;
    let place = |number: u32, round: u32| {
        let (angle, radius) = (f64::from(number * 7 + round * 13), 0.01 * f64::from(number % 9));
        (PICKUP.0 + radius * angle.sin(), PICKUP.1 + radius * angle.cos())
    };
    let move_all = async |round: u32| {
        for from in (0..200).step_by(50) {
            let fixes = (from..from + 50).map(|number| {
                let (lat, lon) = place(number, round);
                fix(&format!("cab-{number}"), lat, lon, now())
            });
            rig.report(fixes.collect()).await;
        }
    };
    move_all(0).await;
    let mut watchers = Vec::new();
    for round in 1..6 {
        watchers.push(Watcher::begin(&rig, around()).await);
        move_all(round).await;
    }
    let (south, north) = (PICKUP.0 - 0.04, PICKUP.0 + 0.04);
    let (west, east) = (PICKUP.1 - 0.04, PICKUP.1 + 0.04);
    let cell = |degrees: f64| (degrees * 100.0).floor();
    let is_in = |(lat, lon): (f64, f64)| {
        (cell(south)..=cell(north)).contains(&cell(lat)) && (cell(west)..=cell(east)).contains(&cell(lon))
    };
    let there: Vec<String> = (0..200)
        .filter(|number| is_in(place(*number, 5)))
        .map(|number| format!("cab-{number}"))
        .collect();
    assert!((50..150).contains(&there.len()), "{}", there.len());
    for watcher in &mut watchers {
        watcher
            .until(|known| {
                known.len() == there.len()
                    && there.iter().all(|driver| {
                        let number: u32 = driver.trim_start_matches("cab-").parse().unwrap();
                        let position = known.get(driver).and_then(|driver| driver.position);
                        position.is_some_and(|position| (position.latitude() - place(number, 5).0).abs() < 1e-6)
                    })
            })
            .await;
    }
}

#[tokio::test]
async fn a_watch_that_cannot_be_names_each_field() {
    let rig = Rig::start().await;
    let area = |south_west, north_east| {
        Some(Scope::Area(pb::Area {
            south_west: Some(position(south_west)),
            north_east: Some(position(north_east)),
        }))
    };
    let too_many: Vec<String> = (0..101).map(|number| format!("cab-{number}")).collect();
    let too_many: Vec<&str> = too_many.iter().map(String::as_str).collect();
    let second = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    // As many as are named: a refusal has to fit into what clients read.
    let bad: Vec<&str> = vec![""; 100];
    let named_bad: Vec<String> = (0..10).map(|number| format!("drivers.driver_ids[{number}]")).collect();
    for (scope, interval, fields) in [
        (Some(named(&bad)), None, named_bad.iter().map(String::as_str).collect()),
        (None, None, vec!["scope"]),
        (None, second(31, 0), vec!["interval", "scope"]),
        (Some(Scope::OrderId("1".to_owned())), None, vec!["order_id"]),
        (area((1.0, 1.0), (0.0, 2.0)), None, vec!["area.south_west"]),
        (area((1.0, 1.0), (3.1, 2.0)), None, vec!["area.south_west"]),
        (area((1.0, 1.0), (2.0, 0.0)), None, vec!["area.south_west"]),
        (
            area((f64::NAN, 1.0), (2.0, 200.0)),
            None,
            vec!["area.north_east.longitude", "area.south_west.latitude"],
        ),
        (
            Some(Scope::Area(pb::Area::default())),
            None,
            vec!["area.north_east", "area.south_west"],
        ),
        (Some(named(&[])), None, vec!["drivers.driver_ids"]),
        (Some(named(&too_many)), None, vec!["drivers.driver_ids"]),
        (
            Some(named(&["cab-1", "", "a b"])),
            None,
            vec!["drivers.driver_ids[1]", "drivers.driver_ids[2]"],
        ),
        (Some(named(&["cab-1"])), second(0, 249_999_999), vec!["interval"]),
        (Some(named(&["cab-1"])), second(-1, 0), vec!["interval"]),
        (Some(named(&["cab-1"])), second(1, i32::MAX), vec!["interval"]),
    ] {
        let refused = rig
            .fleet()
            .watch_drivers(pb::WatchDriversRequest {
                scope,
                interval,
                cursor: String::new(),
            })
            .await;
        let refused = refused.expect_err("it is refused");
        assert_eq!(
            (refused.code(), refusal_fields(&refused)),
            (
                Code::InvalidArgument,
                fields.iter().map(|&field| field.to_owned()).collect()
            )
        );
    }
}

#[tokio::test]
async fn there_is_room_for_so_many_watchers() {
    let rig = Rig::with("locations.watchers_max=2").await;
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(Watcher::begin(&rig, around()).await);
    }
    let refused = rig.fleet().watch_drivers(request(around())).await.unwrap_err();
    testkit::wire::assert_refused_for_now(&refused, Code::ResourceExhausted);
    open.pop();
    until("a place is free again", async || {
        rig.fleet().watch_drivers(request(around())).await
    })
    .await;
}

#[tokio::test]
async fn a_watch_lives_through_a_redis_that_is_away_for_a_moment() {
    let mut rig = Rig::builder().private_stores().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let mut watcher = Watcher::begin(&rig, around()).await;
    watcher.until(|known| known.len() == 1).await;
    rig.stores().redis().kill().await.unwrap();
    rig.stores().redis().restart().await.unwrap();
    until("fixes are taken again", async || {
        let fixes = vec![fix("cab-2", PICKUP.0, PICKUP.1, now())];
        let report = waybill_proto::location::v1::ReportLocationsRequest { fixes };
        rig.locations().report_locations(report).await
    })
    .await;
    watcher.until(|known| known.contains_key("cab-2")).await;
}

#[tokio::test]
async fn without_postgres_positions_go_on() {
    let mut rig = Rig::builder().private_stores().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    let order = rig.place(a_ride()).await;
    let mut watcher = Watcher::begin(&rig, around()).await;
    watcher
        .until(|known| {
            known
                .get("cab-1")
                .is_some_and(|driver| driver.active_order_id == order.order_id)
        })
        .await;
    rig.stores().postgres().kill().await.unwrap();
    rig.driver_at("cab-1", PICKUP.0 + 0.01, PICKUP.1).await;
    rig.driver_at("cab-2", PICKUP.0, PICKUP.1).await;
    watcher.until(|known| known.contains_key("cab-2")).await;
    let seen = &watcher.known["cab-1"];
    assert!((seen.position.unwrap().latitude() - PICKUP.0 - 0.01).abs() < 1e-6);
    assert_eq!(seen.active_order_id, order.order_id, "as it was last known");
}

/// Of no driver is it said that it is free before that is known.
#[tokio::test]
async fn a_watch_that_begins_without_postgres_is_refused() {
    let mut rig = Rig::builder().private_stores().start().await;
    rig.driver_at("cab-1", PICKUP.0, PICKUP.1).await;
    rig.stores().postgres().kill().await.unwrap();
    let refused = rig.fleet().watch_drivers(request(around())).await.unwrap_err();
    testkit::wire::assert_refused_for_now(&refused, Code::Unavailable);
}

#[tokio::test]
async fn a_server_that_drains_ends_its_watches_with_the_reason() {
    let mut rig = Rig::start().await;
    let mut watcher = Watcher::begin(&rig, around()).await;
    watcher.read().await.unwrap();
    rig.stop_servers().await;
    let ended = loop {
        if let Err(status) = watcher.read().await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
}
