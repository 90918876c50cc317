//! How long an order looks for a driver: a window of time in which it could look. While drivers' positions are not to be had it waits; and once they
//! are again, drivers need a moment to be seen.

use std::time::Duration;

/// For so long it looks after it could not, or after another process looked, even if the window would be over: as long as phones take to report
/// where they are.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The window of one search, at one process. What it is about times of the process is since any fixed origin of its own.
#[derive(Debug, Clone)]
pub struct SearchWindow {
    window: Duration,
    /// How much time does not count.
    outage_max: Duration,
    outage_since: Option<Duration>,
    outages_before: Duration,
    /// Since when it could look.
    looks_since: Option<Duration>,
}

impl SearchWindow {
    /// A window of so much time, of which up to `outage_max` more without a look does not count.
    pub fn new(window: Duration, outage_max: Duration) -> SearchWindow {
        SearchWindow {
            window,
            outage_max,
            outage_since: None,
            outages_before: Duration::ZERO,
            looks_since: None,
        }
    }

    /// Drivers were looked for, or could not be.
    pub fn looked(&mut self, could: bool, now: Duration) {
        if !could {
            self.outage_since.get_or_insert(now);
            self.looks_since = None;
            return;
        }
        if let Some(since) = self.outage_since.take() {
            self.outages_before += now.saturating_sub(since);
        }
        self.looks_since.get_or_insert(now);
    }

    /// Whether it is over: `lasted` is how long ago the search began, wherever that was.
    pub fn is_over(&self, lasted: Duration, now: Duration) -> bool {
        // While drivers cannot be looked for all of the limit is left: who looked before did not say how much of it was used.
        let not_counted = match self.outage_since {
            Some(_) => self.outage_max,
            None => self.outages_before.min(self.outage_max),
        };
        if lasted.saturating_sub(not_counted) < self.window {
            return false;
        }
        let looks_for = self.looks_since.map(|since| now.saturating_sub(since));
        looks_for.is_none_or(|looks_for| looks_for >= self.window.min(LOOK_AGAIN))
            // However often it could not look: this is the most that it takes.
            || lasted >= self.window.saturating_add(self.outage_max).saturating_add(LOOK_AGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(20);
    const OUTAGE: Duration = Duration::from_mins(2);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn it_ends_with_the_window() {
        let mut search = SearchWindow::new(WINDOW, OUTAGE);
        search.looked(true, secs(100));
        assert!(!search.is_over(secs(19), secs(119)));
        assert!(search.is_over(secs(20), secs(120)));
        let mut none = SearchWindow::new(secs(0), OUTAGE);
        none.looked(true, secs(100));
        assert!(none.is_over(secs(0), secs(100)), "one look is all");
    }

    #[test]
    fn time_in_which_it_could_not_look_does_not_count() {
        let mut search = SearchWindow::new(WINDOW, OUTAGE);
        search.looked(true, secs(100));
        search.looked(false, secs(110));
        assert!(!search.is_over(secs(139), secs(239)));
        assert!(search.is_over(secs(140), secs(240)), "the limit of that, too, is over");
        search.looked(true, secs(150));
        assert!(!search.is_over(secs(59), secs(159)));
        assert!(search.is_over(secs(60), secs(160)));
    }

    /// Their phones had nothing to report to: each is too old to be found.
    #[test]
    fn after_an_outage_drivers_have_a_moment_to_be_seen() {
        let mut search = SearchWindow::new(WINDOW, OUTAGE);
        search.looked(true, secs(100));
        search.looked(false, secs(119));
        search.looked(true, secs(150));
        assert!(!search.is_over(secs(54), secs(154)));
        assert!(search.is_over(secs(55), secs(155)));
    }

    /// It does not know what the one before it could see.
    #[test]
    fn who_goes_on_with_a_search_looks_for_a_moment_too() {
        let mut search = SearchWindow::new(WINDOW, OUTAGE);
        search.looked(true, secs(7));
        assert!(!search.is_over(secs(45), secs(7)));
        assert!(!search.is_over(secs(49), secs(11)));
        assert!(search.is_over(secs(50), secs(12)));
    }

    #[test]
    fn outages_without_end_do_not_keep_it_open_for_ever() {
        let mut search = SearchWindow::new(WINDOW, OUTAGE);
        for at in (0..140).step_by(2) {
            search.looked(at % 4 == 0, secs(at));
            assert!(!search.is_over(secs(at), secs(at)), "after {at} s");
        }
        search.looked(true, secs(145));
        assert!(search.is_over(secs(145), secs(145)));
    }
}
