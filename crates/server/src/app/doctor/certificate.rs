//! The certificate of the listeners: whether clients take it, and for how long.

use jiff::{SignedDuration, Timestamp};

use super::{Diagnosis, SOON, change, ok, warning};
use crate::app::settings;
use crate::config::Config;
use crate::tls::{TlsError, TlsFiles, Validity};

const PART: &str = "tls";

pub async fn certificate(config: &Config, now: Timestamp) -> Diagnosis {
    let Some(files) = settings::tls(config) else {
        return ok(PART, "is off: tls.cert is not set");
    };
    // A line of its own is about the CAs of peers.
    let files = TlsFiles {
        client_ca: None,
        ..files
    };
    judge(Validity::of_files(&files).await, now)
}

fn judge(read: Result<Validity, TlsError>, now: Timestamp) -> Diagnosis {
    let validity = read.and_then(|validity| {
        let checked = validity.check(now);
        checked.map_err(|error| TlsError::new("tls.cert", error.to_string()))?;
        Ok(validity.not_after)
    });
    let until = match validity {
        Ok(until) => until,
        Err(error) => {
            let found = format!(r#"{error}; docs/runbook.md, "Certificates", has the commands that make a good one"#);
            return change(PART, found);
        }
    };
    let left: SignedDuration = until.duration_since(now);
    if left < SOON {
        let days = left.as_hours() / 24;
        let found = format!(
            "tls.cert expires in {days} days, at {until}: write tls.cert and tls.key anew, nothing has to be restarted"
        );
        return warning(PART, found);
    }
    ok(PART, format!("tls.cert is valid until {until}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::doctor::Mark;

    #[test]
    fn a_certificate_is_to_be_replaced_two_weeks_before_its_end() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let valid = |from_hours: i64, until_hours: i64| {
            let at = |hours| now + SignedDuration::from_hours(hours);
            Ok(Validity {
                not_before: at(from_hours),
                not_after: at(until_hours),
            })
        };
        let endless = Validity {
            not_before: Timestamp::MIN,
            not_after: Timestamp::MAX,
        };
        for (read, mark, said) in [
            (valid(-1, 14 * 24), Mark::Ok, "valid until 2026-12-11T12:00:00Z"),
            (Ok(endless), Mark::Ok, "valid until 9999"),
            (valid(-1, 14 * 24 - 1), Mark::Warning, "in 13 days"),
            (valid(-1, 1), Mark::Warning, "in 0 days"),
            (valid(-2, -1), Mark::Change, "tls.cert expired at 2026-11-27T11:00:00Z"),
            (valid(1, 2), Mark::Change, "tls.cert is not valid before"),
            (Err(TlsError::new("tls.key", "is bad")), Mark::Change, "tls.key is bad"),
        ] {
            let found = judge(read, now);
            assert_eq!(found.mark, mark, "{found:?}");
            assert!(found.finding.contains(said), "{found:?}");
        }
    }
}
