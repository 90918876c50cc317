//! The movements at all accounts of the provider, a window of time after another: however large they are, one window of them is in
//! memory.

use std::fmt;
use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use waybill_domain::payment_account::PaymentAccount;

use crate::egress::payments::{Cause, Movement as ProviderMovement, PaymentAccounts, Period};
use crate::storage::Movement;

/// The first window, if nothing else is asked for.
const FIRST_LENGTH_SECS: i64 = 3_600;
/// No window is longer: a month of nothing is as quickly read.
const LENGTH_MAX_SECS: i64 = 30 * 24 * 3_600;
/// A window should have so many movements: enough that the calls for it are full pages, and few enough that one takes
/// seconds.
const MOVEMENTS_FEW: usize = 2_500;
const MOVEMENTS_MANY: usize = 10_000;
/// A window that has more of one kind is not read to its end: its first half is.
const MOVEMENTS_MAX: usize = 50_000;

/// A list of an account that cannot be read.
#[derive(Debug, thiserror::Error)]
pub struct ListError {
    account: PaymentAccount,
    cause: Cause,
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.account.name() {
            None => self.cause.fmt(f),
            Some(_) => write!(f, "[{}] {}", self.account, self.cause),
        }
    }
}

impl ListError {
    pub(super) fn of(account: &PaymentAccount) -> impl FnOnce(Cause) -> ListError {
        let account = account.clone();
        |cause| ListError { account, cause }
    }
}

/// A window that was read.
#[derive(Debug)]
pub(super) struct Window {
    /// From this time on.
    pub from: Timestamp,
    /// Until before this time.
    pub until: Timestamp,
    /// What the provider moved in it.
    pub movements: Vec<Movement>,
}

/// Reads windows, from one time to another.
#[derive(Debug)]
pub(super) struct Windows {
    accounts: PaymentAccounts,
    /// Where the next window begins.
    next: Timestamp,
    until: Timestamp,
    /// Whether the last window has no end: the provider's clock may be ahead of ours.
    is_open: bool,
    /// The length that was asked for.
    length_secs_wanted: Option<i64>,
    length_secs: i64,
}

impl Windows {
    /// From `from` to `until`, or to now. `length`: of each window; without it each has some thousand movements.
    pub fn new(
        accounts: PaymentAccounts,
        from: Timestamp,
        until: Option<Timestamp>,
        now: Timestamp,
        length: Option<Duration>,
    ) -> Windows {
        let wanted = length.map(|length| i64::try_from(length.as_secs()).unwrap_or(i64::MAX));
        let wanted = wanted.map(|secs| secs.max(1));
        Windows {
            accounts,
            next: whole_second(from),
            until: whole_second(until.unwrap_or(now + SignedDuration::from_secs(1))),
            is_open: until.is_none(),
            length_secs_wanted: wanted,
            length_secs: wanted.unwrap_or(FIRST_LENGTH_SECS),
        }
    }

    /// Where the next window begins: what is before it was read.
    pub fn position(&self) -> Timestamp {
        self.next
    }

    /// Where the last window ends.
    pub fn until(&self) -> Timestamp {
        self.until
    }

    /// The movements of this time; `None`: an account has more than `max` of one kind.
    async fn read(&self, period: Period, max: usize) -> Result<Option<Vec<Movement>>, ListError> {
        let lists = self.accounts.all().map(async |(account, client)| {
            let lists = tokio::try_join!(client.list_charges(period, max), client.list_refunds(period, max));
            let lists = lists.map_err(ListError::of(account))?;
            let (Some(charges), Some(refunds)) = lists else {
                return Ok(None);
            };
            let charges = charges.into_iter().map(|movement| entry("charge", account, movement));
            let refunds = refunds.into_iter().map(|movement| entry("refund", account, movement));
            Ok(Some(charges.chain(refunds).collect::<Vec<_>>()))
        });
        let lists: Option<Vec<_>> = try_join_all(lists).await?.into_iter().collect();
        Ok(lists.map(|lists| lists.into_iter().flatten().collect()))
    }

    /// Reads the next window; `None` after the last. After an error the same window is the next one.
    pub async fn read_next(&mut self) -> Result<Option<Window>, ListError> {
        while self.next < self.until {
            let until = end(self.next, self.length_secs).min(self.until);
            let period = Period {
                from: self.next,
                until: Some(until).filter(|until| !self.is_open || *until < self.until),
            };
            // Of a second all is read: time has no shorter part at the provider.
            let max = if self.length_secs == 1 {
                usize::MAX
            } else {
                MOVEMENTS_MAX
            };
            let Some(movements) = self.read(period, max).await? else {
                self.length_secs = (self.length_secs / 2).max(1);
                continue;
            };
            let window = Window {
                from: self.next,
                until,
                movements,
            };
            self.next = until;
            self.length_secs = next_length(self.length_secs, self.length_secs_wanted, window.movements.len());
            return Ok(Some(window));
        }
        Ok(None)
    }
}

/// When the first payment before this time was made, at any account.
pub(super) async fn oldest_payment(
    accounts: &PaymentAccounts,
    before: Timestamp,
) -> Result<Option<Timestamp>, ListError> {
    let oldest = accounts.all().map(async |(account, client)| {
        let oldest = client.oldest_payment(before).await;
        oldest.map_err(ListError::of(account))
    });
    let oldest = try_join_all(oldest).await?;
    Ok(oldest.into_iter().flatten().min())
}

/// The length of the window after one that had so many movements. Where nothing is, windows grow.
fn next_length(length_secs: i64, wanted: Option<i64>, movements: usize) -> i64 {
    if let Some(wanted) = wanted.filter(|_| movements > 0) {
        return wanted;
    }
    let next = match movements {
        0..MOVEMENTS_FEW => length_secs.saturating_mul(2),
        MOVEMENTS_MANY.. => length_secs / 2,
        _ => length_secs,
    };
    next.clamp(1, LENGTH_MAX_SECS.max(length_secs))
}

/// Which share of the time from `from` to `until` is before `reached`, 0 to 1.
pub(super) fn share(from: Timestamp, reached: Timestamp, until: Timestamp) -> f64 {
    let all = until.duration_since(from).as_secs_f64();
    let done = reached.duration_since(from).as_secs_f64();
    if all > 0.0 { (done / all).clamp(0.0, 1.0) } else { 1.0 }
}

fn end(from: Timestamp, length_secs: i64) -> Timestamp {
    let end = from.checked_add(SignedDuration::from_secs(length_secs));
    end.unwrap_or(Timestamp::MAX)
}

/// The provider counts time in whole seconds.
fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn entry(kind: &'static str, account: &PaymentAccount, movement: ProviderMovement) -> Movement {
    Movement {
        kind,
        account: account.clone(),
        order: movement.order_id,
        provider_id: movement.provider_id,
        amount: movement.amount_minor,
        currency: movement.currency,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_where_little_is_and_shrink_where_much_is() {
        for (movements, next) in [(0, 7_200), (1, 7_200), (2_499, 7_200), (5_000, 3_600), (10_000, 1_800)] {
            assert_eq!(next_length(3_600, None, movements), next, "{movements}");
        }
        assert_eq!(next_length(1, None, 1_000_000), 1, "a second is the shortest");
        assert_eq!(next_length(LENGTH_MAX_SECS, None, 0), LENGTH_MAX_SECS);
    }

    #[test]
    fn a_length_that_was_asked_for_is_kept_but_where_nothing_is() {
        assert_eq!(next_length(60, Some(60), 1), 60);
        assert_eq!(next_length(60, Some(60), 0), 120);
        assert_eq!(next_length(960, Some(60), 1), 60);
        assert_eq!(
            next_length(2 * LENGTH_MAX_SECS, Some(2 * LENGTH_MAX_SECS), 0),
            2 * LENGTH_MAX_SECS
        );
    }
}
