//! Where a driver was: its fixes out of the history, page by page.

use jiff::{SignedDuration, Timestamp};
use testkit::Rig;
use testkit::wire::{PICKUP, fix, now, refusal_fields, time};
use tonic::{Code, Status};
use waybill_proto::fleet::v1 as pb;

use crate::cli::{on_stores, on_stores_with};

/// A driver's fixes, one a second up to now; their times, the oldest first. In the history when this returns.
async fn driven(rig: &Rig, driver: &str, count: i64) -> Vec<Timestamp> {
    let end = now();
    let times: Vec<Timestamp> = (0..count)
        .map(|ago| end - SignedDuration::from_secs(count - ago))
        .collect();
    for part in times.chunks(400) {
        let fixes = part.iter().map(|at| fix(driver, PICKUP.0, PICKUP.1, *at));
        rig.report(fixes.collect()).await;
    }
    rig.until_written().await;
    times
}

fn of(driver: &str) -> pb::ListLocationsRequest {
    pb::ListLocationsRequest {
        driver_id: driver.to_owned(),
        ..pb::ListLocationsRequest::default()
    }
}

async fn page(rig: &Rig, request: &pb::ListLocationsRequest) -> Result<pb::ListLocationsResponse, Status> {
    let listed = rig.fleet().list_locations(request.clone()).await?;
    Ok(listed.into_inner())
}

/// The times on all pages, and how many pages there are.
async fn all(rig: &Rig, mut request: pb::ListLocationsRequest) -> (Vec<prost_types::Timestamp>, usize) {
    let (mut times, mut pages) = (Vec::new(), 0);
    loop {
        let found = page(rig, &request).await.unwrap();
        times.extend(found.locations.iter().map(|location| location.recorded_at.unwrap()));
        pages += 1;
        if found.next_page_token.is_empty() {
            return (times, pages);
        }
        request.page_token = found.next_page_token;
    }
}

#[tokio::test]
async fn all_fixes_of_a_driver_are_listed_once_page_by_page() {
    let rig = Rig::start().await;
    driven(&rig, "cab-2", 5).await;
    let times = driven(&rig, "cab-1", 25).await;
    let oldest_first: Vec<_> = times.iter().map(|at| time(*at)).collect();
    let newest_first: Vec<_> = oldest_first.iter().rev().copied().collect();

    let found = page(&rig, &of("cab-1")).await.unwrap();
    let first = &found.locations[0];
    let position = first.position.unwrap();
    assert_eq!((position.latitude(), position.longitude()), PICKUP);
    assert_eq!((first.recorded_at, found.locations.len()), (Some(newest_first[0]), 25));
    for (size, pages) in [(10, 3), (25, 1), (24, 2), (5_000, 1), (1, 25)] {
        for oldest in [false, true] {
            let request = pb::ListLocationsRequest {
                oldest_first: oldest,
                page_size: size,
                ..of("cab-1")
            };
            let expected = if oldest { &oldest_first } else { &newest_first };
            assert_eq!(all(&rig, request).await, (expected.clone(), pages), "{size} {oldest}");
        }
    }
}

#[tokio::test]
async fn a_time_range_has_its_beginning_and_not_its_end() {
    let rig = Rig::start().await;
    let times = driven(&rig, "cab-1", 10).await;
    for (from, until, expected) in [
        (Some(3), None, 3..10),
        (None, Some(3), 0..3),
        (Some(3), Some(7), 3..7),
        (Some(3), Some(4), 3..4),
    ] {
        for (page_size, oldest_first) in [(2, true), (0, true), (2, false)] {
            let request = pb::ListLocationsRequest {
                from: from.map(|index: usize| time(times[index])),
                until: until.map(|index: usize| time(times[index])),
                oldest_first,
                page_size,
                ..of("cab-1")
            };
            let mut expected: Vec<_> = times[expected.clone()].iter().map(|at| time(*at)).collect();
            if !oldest_first {
                expected.reverse();
            }
            assert_eq!(all(&rig, request).await.0, expected, "{from:?} {until:?} {page_size}");
        }
    }
    let never = pb::ListLocationsRequest {
        until: Some(time("1990-01-01T00:00:00Z".parse().unwrap())),
        ..of("cab-1")
    };
    assert_eq!(all(&rig, never).await, (vec![], 1));
    // Further than any clock of a database.
    let ever = pb::ListLocationsRequest {
        from: Some(time("-009999-01-03T00:00:00Z".parse().unwrap())),
        until: Some(time("9999-12-29T00:00:00Z".parse().unwrap())),
        ..of("cab-1")
    };
    assert_eq!(all(&rig, ever).await.0.len(), 10);
    assert_eq!(all(&rig, of("cab-unknown")).await, (vec![], 1));
}

#[tokio::test]
async fn a_listing_that_cannot_be_names_each_field() {
    let rig = Rig::start().await;
    driven(&rig, "cab-1", 3).await;
    let whole = pb::ListLocationsRequest {
        page_size: 1,
        ..of("cab-1")
    };
    let token = page(&rig, &whole).await.unwrap().next_page_token;
    let at = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
    for (request, fields) in [
        (of(""), vec!["driver_id"]),
        (of("a b"), vec!["driver_id"]),
        (
            pb::ListLocationsRequest {
                from: at(0, -1),
                until: at(i64::MAX, 0),
                page_size: -1,
                ..of("cab-1")
            },
            vec!["from.nanos", "page_size", "until"],
        ),
        (
            pb::ListLocationsRequest {
                from: at(100, 0),
                until: at(100, 0),
                ..of("cab-1")
            },
            vec!["until"],
        ),
        (
            pb::ListLocationsRequest {
                page_token: "1".to_owned(),
                ..of("cab-1")
            },
            vec!["page_token"],
        ),
        (
            pb::ListLocationsRequest {
                page_token: token.clone(),
                ..of("cab-2")
            },
            vec!["page_token"],
        ),
        (
            pb::ListLocationsRequest {
                page_token: token.clone(),
                oldest_first: true,
                ..of("cab-1")
            },
            vec!["page_token"],
        ),
        (
            pb::ListLocationsRequest {
                page_token: token.clone(),
                from: at(5, 0),
                ..of("cab-1")
            },
            vec!["page_token"],
        ),
    ] {
        let refused = page(&rig, &request).await.expect_err("it is refused");
        let fields: Vec<String> = fields.into_iter().map(str::to_owned).collect();
        assert_eq!(
            (refused.code(), refusal_fields(&refused)),
            (Code::InvalidArgument, fields),
            "{request:?}"
        );
    }
}

/// `waybill history export cab-1 ARGS`: standard output, and the line beside it.
async fn exported(rig: &Rig, args: &[&str]) -> (String, String) {
    let ended = on_stores(rig, &[&["history", "export", "cab-1"], args].concat()).await;
    assert_eq!(ended.status, Some(0), "{ended:?}");
    (ended.stdout, ended.stderr)
}

#[tokio::test]
async fn the_history_of_a_driver_is_exported_as_other_programs_read_it() {
    let rig = Rig::start().await;
    for (format, empty) in [("csv", "latitude"), ("geojson", "FeatureCollection"), ("gpx", "</gpx>")] {
        let (stdout, stderr) = exported(&rig, &["--format", format]).await;
        assert!(
            stdout.contains(empty) && stderr.contains("no fixes of cab-1"),
            "{stdout} {stderr}"
        );
    }
    // More than is read at once.
    let times = driven(&rig, "cab-1", 2_001).await;
    let (csv, stderr) = exported(&rig, &[]).await;
    let lines: Vec<&str> = csv.lines().collect();
    let expected: Vec<String> = times
        .iter()
        .map(|at| format!("cab-1,{at},{},{}", PICKUP.0, PICKUP.1))
        .collect();
    assert_eq!(lines[1..], expected);
    assert_eq!(stderr.trim(), "2001 fixes of cab-1");

    let (from, to) = (times[10].to_string(), times[12].to_string());
    let (json, _) = exported(&rig, &["--format", "geojson", "--from", &from, "--to", &to]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["features"].as_array().unwrap().len(), 2);
    let (gpx, _) = exported(&rig, &["--format", "gpx", "--to", &times[3].to_string()]).await;
    assert_eq!(gpx.matches("<trkpt ").count(), 3);

    for args in [
        &["--from", &from, "--to", &from][..],
        &["--tenant", "gamma"],
        &["--format", "kml"],
    ] {
        let refused = on_stores(&rig, &[&["history", "export", "cab-1"], args].concat()).await;
        assert_eq!((refused.status, refused.stdout.as_str()), (Some(64), ""), "{refused:?}");
    }
    let nowhere = [("DATABASE_URL", "postgres://waybill@127.0.0.1:1/waybill")];
    let failed = on_stores_with(&rig, &["history", "export", "cab-1"], &nowhere).await;
    assert_eq!((failed.status, failed.stdout.as_str()), (Some(69), ""), "{failed:?}");
}
