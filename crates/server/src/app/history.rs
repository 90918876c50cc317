//! The history of fixes without a server: for `waybill history`.

use jiff::{SignedDuration, Timestamp};
use waybill_domain::fix::Fix;
use waybill_domain::id::DriverId;

use super::{Stores, settings};
use crate::config::Config;
use crate::storage::StoreError;
use crate::storage::history::{HistoryStore, Listed};

/// Fixes read at once.
const PAGE: u16 = 1_000;

/// Reads the fixes of one driver, the oldest first, a page after another.
pub struct HistoryReader {
    history: HistoryStore,
    driver: DriverId,
    next: Option<Listed>,
}

impl HistoryReader {
    /// Of the database of the configuration; nothing is connected yet. From `from` on, and until before `until`.
    pub fn open(
        config: &Config,
        driver: DriverId,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<HistoryReader, StoreError> {
        let stores = Stores::new(config)?;
        Ok(HistoryReader {
            history: HistoryStore::new(stores.postgres, settings::instance_name()),
            driver,
            next: Some(Listed {
                from,
                until,
                oldest_first: true,
            }),
        })
    }

    /// The next fixes; none after the last.
    pub async fn read_next(&mut self) -> Result<Vec<Fix>, StoreError> {
        let Some(listed) = self.next else {
            return Ok(Vec::new());
        };
        let fixes = self.history.list(&self.driver, listed, PAGE.into()).await?;
        // Times are in whole microseconds.
        let after = fixes.last().filter(|_| fixes.len() == usize::from(PAGE));
        let from = after.and_then(|last| last.recorded_at.checked_add(SignedDuration::from_micros(1)).ok());
        self.next = from.map(|from| Listed {
            from: Some(from),
            ..listed
        });
        Ok(fixes)
    }
}
