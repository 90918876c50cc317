//! Refused callers in the log: a line for each reason now and then, with how many there were, whoever floods us.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{field, warn};

use super::AccessError;

/// How much time is between two lines of one reason.
const EVERY: Duration = Duration::from_secs(10);

/// Writes refusals to the log, without what was shown.
#[derive(Debug, Default)]
pub struct RefusalLog {
    reasons: Mutex<BTreeMap<&'static str, Written>>,
}

#[derive(Debug)]
struct Written {
    at: Instant,
    since: u64,
}

impl RefusalLog {
    /// This caller was refused.
    pub fn refused(&self, error: &AccessError, path: &str, peer: Option<IpAddr>) {
        let Some(refused) = self.count(error.reason(), Instant::now()) else {
            return;
        };
        let peer = peer.map(field::display);
        let reason = error.reason();
        warn!(reason, method = path, peer, refused, "callers are refused: {error}");
    }

    /// How many were refused since the last line, this one included; `None`: no line yet.
    fn count(&self, reason: &'static str, now: Instant) -> Option<u64> {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(written) = reasons.get_mut(reason) else {
            reasons.insert(reason, Written { at: now, since: 0 });
            return Some(1);
        };
        written.since += 1;
        (now.duration_since(written.at) >= EVERY).then(|| {
            written.at = now;
            std::mem::take(&mut written.since)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_line_now_and_then_with_its_number() {
        let log = RefusalLog::default();
        let begin = Instant::now();
        assert_eq!(log.count("TOKEN_MISSING", begin), Some(1));
        assert!((0..100).all(|_| log.count("TOKEN_MISSING", begin).is_none()));
        assert_eq!(log.count("TOKEN_EXPIRED", begin), Some(1), "each reason has its own");
        assert_eq!(log.count("TOKEN_MISSING", begin + EVERY), Some(101));
        assert_eq!(log.count("TOKEN_MISSING", begin + EVERY), None);
    }
}
