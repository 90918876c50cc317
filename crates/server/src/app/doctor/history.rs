//! Fixes that are in no history and that no server with these settings reads: those of a tenant that was taken out of
//! `tenants.names`, or of a shard that there is not any more. The streams are known by their cursors: Redis is not searched for them.

use std::collections::HashSet;

use super::{Diagnosis, change, ok, warning};
use crate::app::{Stores, settings};
use crate::config::Config;
use crate::storage::StoreError;
use crate::storage::history::{HistoryStore, StreamCursor};
use crate::storage::live::{Backlog, LiveStore};

const PART: &str = "history";

/// A warning for each stream that holds such fixes. Nothing where there are no cursors yet, for the schema is to be migrated: that has a
/// line of its own.
pub async fn history(config: &Config, stores: &Stores, is_migrated: bool) -> Vec<Diagnosis> {
    match left_over(config, stores).await {
        Ok(left) if left.is_empty() => vec![ok(
            PART,
            "no stream holds fixes that no server with these settings reads",
        )],
        Ok(left) => left.iter().map(|(stream, left)| unread(stream, *left)).collect(),
        Err(StoreError::Unexpected(_)) if !is_migrated => Vec::new(),
        Err(error) => vec![change(PART, error)],
    }
}

/// The streams that these settings do not name, and how much of each is not in the history.
async fn left_over(config: &Config, stores: &Stores) -> Result<Vec<(String, Backlog)>, StoreError> {
    let keys = settings::keys(config);
    let live = LiveStore::new(stores.redis.clone(), keys, settings::live(config));
    let history = HistoryStore::new(stores.postgres.clone(), settings::instance_name());
    let read: HashSet<&str> = live.keys().shards().iter().map(|shard| shard.events.as_str()).collect();
    let mut left = Vec::new();
    for StreamCursor { stream, last_id } in history.cursors().await? {
        if read.contains(stream.as_str()) {
            continue;
        }
        let backlog = live.backlog(&stream, &last_id).await?;
        if backlog.at_least > 0 {
            left.push((stream, backlog));
        }
    }
    Ok(left)
}

fn unread(stream: &str, Backlog { at_least, at_most }: Backlog) -> Diagnosis {
    let fixes = match (at_least, at_most) {
        (1, 1) => "1 fix".to_owned(),
        (least, most) if least == most => format!("{least} fixes"),
        (least, most) => format!("{least} to {most} fixes"),
    };
    let found = format!(
        "{stream} has {fixes} not in the history, and no server with these settings reads it: put its tenant back into \
         tenants.names, or redis.shards or redis.key_prefix back to what it was, until it is written"
    );
    warning(PART, found)
}
