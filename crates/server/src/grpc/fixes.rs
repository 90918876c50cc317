//! The fixes of one message into domain values. Good ones are stored, bad ones are named: one bad fix refuses no other.
//! This is a pure function of the message and the server's clock, and the hottest one: `make count` holds its cost.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use jiff::{SignedDuration, Timestamp};
use waybill_domain::fix::{Fix, TimeError, TimeWindow};
use waybill_domain::id::DriverId;
use waybill_domain::position::Position;
use waybill_domain::tenant::Tenant;
use waybill_proto::location::v1 as pb;

use super::fields;

/// A message's fixes, sorted into good and bad.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Those that can be stored, in the message's order.
    pub fixes: Vec<Fix>,
    /// Why each other one cannot, by its sequence.
    pub rejections: Vec<pb::Rejection>,
    /// The drivers whose clocks seem to be off, and how far ahead the newest time of each is.
    pub clock_offsets: HashMap<DriverId, SignedDuration>,
}

/// How far a newest time may be from the server's clock without a word: networks take their time.
const CLOCK_OFFSET_MAX: SignedDuration = SignedDuration::from_secs(5);

/// A fix whose time was not looked at.
struct Parsed {
    driver: DriverId,
    position: Position,
    recorded_at: Timestamp,
}

impl Batch {
    /// Sorts `fixes`, which are numbered from `first_sequence` on, as of `now`. A time outside of `window` is bad.
    /// So is one of another driver than `only`, where there is one. The drivers are those of `tenant`.
    pub fn parse(
        fixes: Vec<pb::Fix>,
        first_sequence: u64,
        now: Timestamp,
        window: TimeWindow,
        tenant: &Tenant,
        only: Option<&DriverId>,
    ) -> Batch {
        let mut batch = Batch {
            fixes: Vec::with_capacity(fixes.len()),
            rejections: Vec::new(),
            clock_offsets: HashMap::new(),
        };
        // In this order: after the last fix no further sequence is asked for, which need not exist.
        for (fix, sequence) in fixes.into_iter().zip(first_sequence..) {
            let parsed = parse_fix(&fix, tenant, only).and_then(|parsed| {
                batch.note_clock(&parsed, now);
                in_window(parsed, now, window)
            });
            match parsed {
                Ok(fix) => batch.fixes.push(fix),
                Err(rejection) => batch.rejections.push(pb::Rejection { sequence, ..rejection }),
            }
        }
        batch.keep_newest_clocks(now);
        batch
    }

    fn note_clock(&mut self, parsed: &Parsed, now: Timestamp) {
        let ahead = parsed.recorded_at.duration_since(now);
        if ahead.abs() > CLOCK_OFFSET_MAX {
            let known = self.clock_offsets.entry(parsed.driver.clone()).or_insert(ahead);
            *known = ahead.max(*known);
        }
    }

    /// What was measured before it was sent says nothing of a clock, if something newer says that it is right.
    fn keep_newest_clocks(&mut self, now: Timestamp) {
        if self.clock_offsets.is_empty() {
            return;
        }
        for fix in &self.fixes {
            if let Some(known) = self.clock_offsets.get_mut(&fix.driver) {
                *known = fix.recorded_at.duration_since(now).max(*known);
            }
        }
        self.clock_offsets.retain(|_, ahead| ahead.abs() > CLOCK_OFFSET_MAX);
    }

    /// This batch, and the one after it.
    pub fn add(&mut self, next: Batch) {
        if !self.clock_offsets.is_empty() {
            for fix in &next.fixes {
                self.clock_offsets.remove(&fix.driver);
            }
        }
        self.clock_offsets.extend(next.clock_offsets);
        self.fixes.extend(next.fixes);
        self.rejections.extend(next.rejections);
    }

    /// Rejects so many fixes of each of these drivers, the first ones: what passes are the newest. The message is numbered from `first_sequence` on.
    pub fn reject_excess(&mut self, mut excess: HashMap<String, u32>, first_sequence: u64) {
        let Batch { fixes, rejections, .. } = self;
        let bad: HashSet<u64> = rejections.iter().map(|rejection| rejection.sequence).collect();
        let mut sequences = (first_sequence..).filter(|sequence| !bad.contains(sequence));
        fixes.retain(|fix| {
            let sequence = sequences.next().unwrap_or_default();
            let left = excess.get_mut(fix.driver.as_str()).filter(|left| **left > 0);
            let Some(left) = left else { return true };
            *left -= 1;
            let why = "has too many fixes; send this one again later";
            let rejection = reject(pb::RejectionReason::RateLimited, "driver_id", why);
            rejections.push(pb::Rejection { sequence, ..rejection });
            false
        });
        rejections.sort_unstable_by_key(|rejection| rejection.sequence);
    }

    /// How many fixes the message had, the bad ones among them: each of those is named in its response.
    pub fn size(&self) -> usize {
        self.fixes.len() + self.rejections.len()
    }

    /// How many fixes each driver has in it.
    pub fn by_driver(&self) -> HashMap<&str, u32> {
        // Room for all: a map that grows hashes every name again.
        let mut counts = HashMap::with_capacity(self.fixes.len());
        for fix in &self.fixes {
            *counts.entry(fix.driver.as_str()).or_insert(0) += 1;
        }
        counts
    }
}

fn parse_fix(fix: &pb::Fix, tenant: &Tenant, only: Option<&DriverId>) -> Result<Parsed, pb::Rejection> {
    use pb::RejectionReason as Reason;
    let driver: DriverId = fix
        .driver_id
        .parse()
        .map_err(|error| reject(Reason::DriverId, "driver_id", error))?;
    let driver = driver.of(tenant);
    if let Some(only) = only.filter(|only| **only != driver) {
        return Err(reject(
            Reason::NotPermitted,
            "driver_id",
            format_args!("must be {}, the caller", only.name()),
        ));
    }
    let position = fields::position("position", fix.position.as_ref())
        .map_err(|bad| reject(Reason::Position, &bad.field, bad.message))?;
    let recorded_at = fields::timestamp("recorded_at", fix.recorded_at.as_ref())
        .map_err(|bad| reject(Reason::TimeInvalid, &bad.field, bad.message))?;
    Ok(Parsed {
        driver,
        position,
        recorded_at,
    })
}

fn in_window(parsed: Parsed, now: Timestamp, window: TimeWindow) -> Result<Fix, pb::Rejection> {
    let Parsed {
        driver,
        position,
        recorded_at,
    } = parsed;
    Fix::new(driver, position, recorded_at, now, window).map_err(|error| {
        let reason = match error {
            TimeError::InFuture => pb::RejectionReason::TimeInFuture,
            TimeError::TooOld => pb::RejectionReason::TimeTooOld,
        };
        reject(reason, "recorded_at", error)
    })
}

fn reject(reason: pb::RejectionReason, field: &str, why: impl Display) -> pb::Rejection {
    pb::Rejection {
        sequence: 0,
        reason: reason.into(),
        field: field.to_owned(),
        message: format!("{field} {why}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use waybill_proto::location::v1::RejectionReason;

    use super::*;

    const NOW_SECS: i64 = 1_790_000_000;

    fn fix(driver: &str, recorded_at_secs: i64) -> pb::Fix {
        pb::Fix {
            driver_id: driver.to_owned(),
            position: Some(pb::LatLng {
                latitude: Some(37.7749),
                longitude: Some(-122.4194),
            }),
            recorded_at: Some(prost_types::Timestamp {
                seconds: recorded_at_secs,
                nanos: 0,
            }),
        }
    }

    #[test]
    fn a_bad_fix_is_named_by_its_sequence_and_spoils_no_other() {
        let fixes = vec![
            fix("cab-1", NOW_SECS),
            fix("cab 2", NOW_SECS),
            fix("cab-3", NOW_SECS + 31),
            fix("cab-1", NOW_SECS - 1),
        ];
        let window = TimeWindow {
            future_max: Duration::from_secs(30),
            age_max: Duration::from_hours(24),
        };
        let now = Timestamp::from_second(NOW_SECS).unwrap();

        let batch = Batch::parse(fixes, 7, now, window, &Tenant::default(), None);

        let rejected = batch.rejections.iter().map(|one| (one.sequence, one.reason()));
        assert_eq!(
            rejected.collect::<Vec<_>>(),
            [(8, RejectionReason::DriverId), (9, RejectionReason::TimeInFuture)]
        );
        assert_eq!(batch.by_driver(), HashMap::from([("cab-1", 2)]));
    }
}
