//! `ReplayLocations` of `waybill.fleet.v1.FleetService`: the fixes again, page by page, as the client reads.

use futures_util::stream::{BoxStream, StreamExt as _, try_unfold};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use waybill_proto::fleet::v1 as pb;
use waybill_proto::fleet::v1::replay_locations_request::From;
use waybill_proto::location::v1::Fix;

use super::fields::Violations;
use super::render;
use super::status::elsewhere;
use crate::locations::replay::{Replay, ReplayFrom, ReplayPage, is_entry_id};

/// What separates the entries of a cursor.
const SEPARATOR: char = ',';
/// The longest cursor that is looked at: of a thousand streams.
const CURSOR_LENGTH_MAX: usize = 42_000;

pub(super) type Replayed = BoxStream<'static, Result<pb::ReplayLocationsResponse, Status>>;

/// From where the request asks.
pub(super) fn parse_replay(request: &pb::ReplayLocationsRequest) -> Result<ReplayFrom, Status> {
    let mut bad = Violations::default();
    let from = match &request.from {
        None => Some(ReplayFrom::Oldest),
        Some(From::Time(time)) => bad.time("time", Some(time)).map(ReplayFrom::Time),
        Some(From::Cursor(cursor)) => {
            let entries = cursor.split(SEPARATOR);
            let is_good = cursor.len() <= CURSOR_LENGTH_MAX && entries.clone().all(is_entry_id);
            is_good.then(|| ReplayFrom::After(entries.map(str::to_owned).collect()))
        }
    };
    match from {
        Some(from) => Ok(from),
        None if bad.is_empty() => Err(not_a_cursor()),
        None => Err(bad.into_status()),
    }
}

/// The cursor is none of these streams.
pub(super) fn not_a_cursor() -> Status {
    let mut bad = Violations::default();
    bad.add("cursor", "is not a cursor of this replay");
    bad.into_status()
}

/// A page for each message that the client has room for.
pub(super) fn replayed(replay: Replay, draining: CancellationToken) -> Replayed {
    try_unfold(replay, move |mut replay| {
        let draining = draining.clone();
        async move {
            if draining.is_cancelled() {
                return Err(elsewhere());
            }
            let page = replay.next().await?;
            Ok(page.map(|page| (render_page(&page), replay)))
        }
    })
    .boxed()
}

fn render_page(page: &ReplayPage) -> pb::ReplayLocationsResponse {
    let fixes = page.fixes.iter().map(|fix| Fix {
        driver_id: fix.driver.name().to_owned(),
        position: Some(render::position(fix.position)),
        recorded_at: Some(render::timestamp(fix.recorded_at)),
    });
    pb::ReplayLocationsResponse {
        fixes: fixes.collect(),
        cursor: page.cursor.join(&SEPARATOR.to_string()),
        trimmed_until: page.trimmed_until.map(render::timestamp),
    }
}
