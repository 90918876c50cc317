//! A fleet that is followed: shared by its follower, who writes it, and its watchers, who look.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use tokio::time::Instant;
use waybill_domain::live::LiveMap;

use super::cursor::Moments;

/// A fleet that is followed.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    state: RwLock<State>,
    watchers: AtomicUsize,
    is_over: AtomicBool,
}

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Where its drivers are.
    pub map: LiveMap,
    /// Grows each time that the map was made anew: what was known of it before says nothing.
    pub made: u64,
    /// When it was last known to be up to date; `None`: never.
    pub current_at: Option<Instant>,
    /// Up to when who serves an order is known; `None`: it never was, and no driver counts as free.
    pub serving_at: Option<Timestamp>,
    /// Up to when it is known who is off duty; `None`: of some it never was.
    pub duty_at: Option<Timestamp>,
    /// Up to when all else is known: the streams, and who is silent.
    pub streams_at: Option<Timestamp>,
    pub silence_at: Option<Timestamp>,
    /// Which version the map had when.
    pub moments: Moments,
}

/// A watcher of a fleet. While there is one, it is followed.
#[derive(Debug)]
pub(super) struct Watching(pub Arc<Fleet>);

/// Its follower. Dropped, however it ends, the fleet is over.
#[derive(Debug)]
pub(super) struct Following(pub Arc<Fleet>);

impl State {
    /// Since when it is up to date, and fit to be shown.
    pub(super) fn shown_since(&self) -> Option<Instant> {
        let is_known = self.serving_at.is_some() && self.duty_at.is_some();
        self.current_at.filter(|_| is_known)
    }

    /// Up to when all is known that there is to know.
    pub(super) fn known_at(&self) -> Option<Timestamp> {
        let known = [self.streams_at, self.serving_at, self.duty_at, self.silence_at];
        known.into_iter().min().flatten()
    }
}

impl Fleet {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is not followed any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// Whether someone watches it.
    pub(super) fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::SeqCst) > 0
    }

    /// Ends it, unless a watcher came meanwhile.
    pub(super) fn is_left(&self) -> bool {
        self.is_over.store(true, Ordering::SeqCst);
        if !self.is_watched() {
            return true;
        }
        self.is_over.store(false, Ordering::SeqCst);
        false
    }
}

impl Watching {
    /// Counts one more watcher; `None`: the fleet is not followed any more.
    pub(super) fn begin(fleet: Arc<Fleet>) -> Option<Watching> {
        fleet.watchers.fetch_add(1, Ordering::SeqCst);
        let watching = Watching(fleet);
        // The follower looks at both in the other order.
        (!watching.0.is_over()).then_some(watching)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
        // A fleet of a hundred thousand is not kept for no one.
        let state = std::mem::take(&mut *self.0.write());
        drop(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_is_over_is_not_watched_any_more() {
        let fleet = Arc::new(Fleet::default());
        let watching = Watching::begin(Arc::clone(&fleet)).unwrap();
        assert!(!fleet.is_left() && !fleet.is_over(), "someone watches it");
        drop(watching);
        drop(Following(Arc::clone(&fleet)));
        assert!(Watching::begin(Arc::clone(&fleet)).is_none());
        assert!(!fleet.is_watched());
    }
}
