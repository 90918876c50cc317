//! The CAs of which peers must show a certificate: whether they can be read, and for how long they are valid.

use jiff::{SignedDuration, Timestamp};

use super::{Diagnosis, SOON, change, ok, warning};
use crate::app::settings;
use crate::config::Config;
use crate::tls::{TlsError, Validity};

const PART: &str = "tls.client_ca";

/// A line for each CA about which something is to be done, or one about all; none where peers need no certificate.
pub async fn client_ca(config: &Config, now: Timestamp) -> Vec<Diagnosis> {
    match settings::tls(config).and_then(|files| files.client_ca) {
        Some(file) => judge(Validity::of_cas(&file).await, now),
        None => Vec::new(),
    }
}

fn judge(read: Result<Vec<Option<Validity>>, TlsError>, now: Timestamp) -> Vec<Diagnosis> {
    let cas = match read {
        Ok(cas) => cas,
        Err(error) => return vec![change(PART, error)],
    };
    let count = cas.len();
    let name = |index: usize| match count {
        1 => PART.to_owned(),
        _ => format!("{PART}: certificate {} of {count}", index + 1),
    };
    let faults = cas.iter().enumerate();
    let faults: Vec<Diagnosis> = faults.filter_map(|(index, ca)| fault(&name(index), *ca, now)).collect();
    if !faults.is_empty() {
        return faults;
    }
    let until = cas.iter().flatten().map(|ca| ca.not_after).min().unwrap_or(now);
    let found = match count {
        1 => format!("{PART} has 1 CA, valid until {until}: peers must show a certificate of it"),
        _ => format!(
            "{PART} has {count} CAs, the first valid until {until}: peers must show a certificate of one of them"
        ),
    };
    vec![ok(PART, found)]
}

/// What is to be done about this CA, if anything.
fn fault(name: &str, ca: Option<Validity>, now: Timestamp) -> Option<Diagnosis> {
    let Some(validity) = ca else {
        let found = format!("{name} is of X.509 version 1: until when it is valid cannot be read");
        return Some(warning(PART, found));
    };
    // A CA is trusted by its name and key alone (RFC 5280, section 6.1.1): its own time ends nothing here.
    if let Err(error) = validity.check(now) {
        let found = format!(
            "{name} {error}, and peers with certificates of it are still let in: make a CA and their certificates anew \
             (docs/runbook.md, \"Certificates\"), or take it out of the file once no peer needs it"
        );
        return Some(change(PART, found));
    }
    let left: SignedDuration = validity.not_after.duration_since(now);
    (left < SOON).then(|| {
        let days = left.as_hours() / 24;
        let until = validity.not_after;
        let found = format!(
            "{name} expires in {days} days, at {until}: add the CA that follows it to the file, nothing has to be restarted"
        );
        warning(PART, found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::doctor::Mark;

    #[test]
    fn each_ca_that_is_to_be_replaced_has_a_line() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().unwrap();
        let valid = |from_hours: i64, until_hours: i64| {
            let at = |hours| now + SignedDuration::from_hours(hours);
            Some(Validity {
                not_before: at(from_hours),
                not_after: at(until_hours),
            })
        };
        let good = valid(-1, 14 * 24);
        let lines = |cas: &[Option<Validity>]| {
            let found = judge(Ok(cas.to_vec()), now).into_iter();
            found.map(|line| (line.mark, line.finding)).collect::<Vec<_>>()
        };
        for (cas, said) in [
            (&[good][..], &[(Mark::Ok, "1 CA, valid until 2026-12-11T12:00:00Z")][..]),
            (
                &[valid(-1, 9_000), good],
                &[(Mark::Ok, "2 CAs, the first valid until 2026-12-11T12:00:00Z")],
            ),
            (
                &[valid(-1, 14 * 24 - 1)],
                &[(Mark::Warning, "tls.client_ca expires in 13 days")],
            ),
            (
                &[valid(1, 9_000)],
                &[(Mark::Change, "tls.client_ca is not valid before")],
            ),
            (&[None], &[(Mark::Warning, "tls.client_ca is of X.509 version 1")]),
            (
                &[None, good, valid(-2, -1)],
                &[
                    (Mark::Warning, "certificate 1 of 3 is of X.509 version 1"),
                    (Mark::Change, "certificate 3 of 3 expired at 2026-11-27T11:00:00Z"),
                ],
            ),
        ] {
            let found = lines(cas);
            assert_eq!(found.len(), said.len(), "{found:?}");
            for ((mark, finding), (expected, text)) in found.iter().zip(said) {
                assert!(mark == expected && finding.contains(text), "{text}: {finding}");
            }
        }
        let unread = judge(Err(TlsError::new(PART, "is bad")), now);
        assert_eq!(unread, [change(PART, "tls.client_ca is bad")]);
    }
}
