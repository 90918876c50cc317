//! The fixes again, out of the stream in which they arrived: for whoever missed some of them, as a consumer that was away.
//!
//! The caller asks for the next page when it has room for it, so that who reads slowly costs nothing. A tenant with several shards has
//! several streams: a page is of one of them, and the cursor names the place in each.

use jiff::Timestamp;
use waybill_domain::fix::Fix;
use waybill_domain::tenant::Tenant;

use crate::storage::StoreError;
use crate::storage::keys::ShardKeys;
use crate::storage::live::{BEGINNING, LiveStore, entry_order};

/// Entries in a page.
const PAGE: usize = 500;

/// From where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayFrom {
    /// The oldest entry that is kept.
    Oldest,
    /// What arrived then or later.
    Time(Timestamp),
    /// What came after: the cursor of a page, an entry of each stream.
    After(Vec<String>),
}

/// Some fixes, in the order in which they arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayPage {
    /// The fixes; empty if the entries of the page could not be read.
    pub fixes: Vec<Fix>,
    /// What continues after this page.
    pub cursor: Vec<String>,
    /// When the oldest entry arrived that is kept; only in the first page, and only if earlier ones were asked for: what there was
    /// before it was trimmed.
    pub trimmed_until: Option<Timestamp>,
}

/// A replay that goes on.
pub struct Replay {
    live: LiveStore,
    streams: Vec<Stream>,
    /// The stream of the next page.
    turn: usize,
    trimmed_until: Option<Timestamp>,
    is_first: bool,
}

struct Stream {
    shard: ShardKeys,
    /// After which entry.
    after: String,
    /// The last entry that there was when the replay began; `None`: the stream is empty.
    last: Option<String>,
    is_over: bool,
}

impl Replay {
    /// From there to what is the end now. `None`: the cursor is not of this tenant's streams.
    pub async fn begin(live: LiveStore, tenant: &Tenant, from: &ReplayFrom) -> Result<Option<Replay>, StoreError> {
        let shards: Vec<ShardKeys> = live.keys().shards_of(tenant).to_vec();
        if matches!(from, ReplayFrom::After(entries) if entries.len() != shards.len()) {
            return Ok(None);
        }
        let (mut streams, mut trimmed_until) = (Vec::new(), None);
        for (number, shard) in shards.into_iter().enumerate() {
            let ends = live.events_ends(&shard).await?;
            let after = match from {
                ReplayFrom::Oldest => BEGINNING.to_owned(),
                ReplayFrom::Time(time) => entry_before(*time),
                ReplayFrom::After(entries) => entries.get(number).cloned().unwrap_or_default(),
            };
            if let Some((first, _)) = &ends
                && *from != ReplayFrom::Oldest
                && entry_order(&after) < entry_order(first)
            {
                let kept_from = Timestamp::from_millisecond(entry_order(first).0.cast_signed()).ok();
                trimmed_until = trimmed_until.max(kept_from);
            }
            streams.push(Stream {
                is_over: ends.is_none(),
                last: ends.map(|(_, last)| last),
                shard,
                after,
            });
        }
        Ok(Some(Replay {
            live,
            streams,
            turn: 0,
            trimmed_until,
            is_first: true,
        }))
    }

    /// The next page; `None`: there is no more. The first one comes in any case.
    pub async fn next(&mut self) -> Result<Option<ReplayPage>, StoreError> {
        let mut fixes = Vec::new();
        while let Some(stream) = self.streams.get_mut(self.turn) {
            if !stream.is_over {
                fixes = stream.read(&self.live).await?;
                break;
            }
            self.turn += 1;
        }
        if !std::mem::take(&mut self.is_first) && self.turn >= self.streams.len() {
            return Ok(None);
        }
        Ok(Some(ReplayPage {
            fixes,
            cursor: self.streams.iter().map(|stream| stream.after.clone()).collect(),
            trimmed_until: self.trimmed_until.take(),
        }))
    }
}

impl Stream {
    async fn read(&mut self, live: &LiveStore) -> Result<Vec<Fix>, StoreError> {
        let Some(last) = &self.last else {
            return Ok(Vec::new());
        };
        let entries = live
            .read_events_until(&self.shard, Some(&self.after), last, PAGE)
            .await?;
        self.is_over = entries.len() < PAGE;
        if let Some(entry) = entries.last() {
            self.after.clone_from(&entry.id);
        }
        Ok(entries.into_iter().filter_map(|entry| entry.fix.ok()).collect())
    }
}

/// The id before every entry that arrived then or later.
fn entry_before(time: Timestamp) -> String {
    match u64::try_from(time.as_millisecond()) {
        Ok(millis @ 1..) => format!("{}-{}", millis - 1, u64::MAX),
        _ => BEGINNING.to_owned(),
    }
}

/// Whether this is the id of an entry.
pub fn is_entry_id(text: &str) -> bool {
    let number =
        |part: &str| part.len() <= 20 && part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u64>().is_ok();
    text.split_once('-')
        .is_some_and(|(millis, within)| number(millis) && number(within))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_at_a_time_comes_after_the_id_before_it() {
        let time = Timestamp::from_millisecond(1_795_800_000_123).unwrap();
        assert!(entry_order(&entry_before(time)) < entry_order("1795800000123-0"));
        assert!(entry_order(&entry_before(time)) > entry_order("1795800000122-7"));
        for early in [Timestamp::UNIX_EPOCH, Timestamp::MIN] {
            assert_eq!(entry_before(early), BEGINNING);
        }
    }

    #[test]
    fn an_id_is_two_numbers() {
        for good in ["0-0", "1795800000123-7", "18446744073709551615-18446744073709551615"] {
            assert!(is_entry_id(good), "{good:?}");
        }
        for bad in [
            "",
            "-",
            "1-",
            "-1",
            "1",
            "1-2-3",
            "+1-2",
            "a-b",
            "18446744073709551616-0",
            "1- 2",
            "$",
            "*",
        ] {
            assert!(!is_entry_id(bad), "{bad:?}");
        }
    }
}
