//! `waybill reconcile`: reads the provider's movements window by window, and has the storage compare each window with the
//! ledger. What the ledger has and a window lacks is asked for by its id, before it counts as a difference.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::Stores;
use super::audit::{AuditError, all_accounts};
use super::windows::{ListError, Window, Windows, oldest_payment, share};
use crate::config::Config;
use crate::egress::payments::{Cause, PaymentAccounts};
use crate::resilience::Deadline;
use crate::storage::reconcile::{Candidate, Entry, LedgerWindow, ReconcileSession};

/// How long ago an order must have changed before a mismatch counts as a difference.
const SETTLED_AFTER: SignedDuration = SignedDuration::from_mins(1);
/// How many differences are shown; all are counted.
const SHOWN_MAX: usize = 1_000;

/// Which part of the time is compared, and in which steps.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReconcileRange {
    /// From this time on; else from the first movement on either side.
    pub from: Option<Timestamp>,
    /// Until before this time; else until now.
    pub until: Option<Timestamp>,
    /// How much time is compared at once; else as much as has some thousand movements.
    pub window: Option<Duration>,
}

/// One movement of an order that differs between the provider's list and the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The order.
    pub order: Uuid,
    /// The order's status, by its name in the database; `None` if there is no such order.
    pub order_status: Option<String>,
    /// `charge` or `refund`.
    pub kind: String,
    /// What differs.
    pub difference: String,
    /// Whether the order changed so recently that the two sides may only have been read at different moments. Not counted.
    pub in_flight: bool,
    /// The ledger's entry.
    pub ours: Option<Entry>,
    /// The provider's entries: more than one where it has the movement more than once.
    pub theirs: Vec<Entry>,
}

/// The result of the comparison so far.
#[derive(Debug, Clone)]
pub struct Reconciled {
    /// Where it began.
    pub from: Timestamp,
    /// Up to where it came.
    pub compared_until: Timestamp,
    /// Where it ends.
    pub until: Timestamp,
    /// Charges in the provider's list.
    pub charges: usize,
    /// Refunds in the provider's list.
    pub refunds: usize,
    /// Those in flight and the others, in the order of windows; at most a thousand.
    pub shown: Vec<Difference>,
    /// How many differ.
    pub differences: i64,
    /// How many more differ, of orders that changed recently.
    pub in_flight: i64,
    /// Movements at the provider that carry no order and are not in the ledger.
    pub without_order: i64,
}

impl Reconciled {
    /// Whether all of the time was compared.
    pub fn is_complete(&self) -> bool {
        self.compared_until >= self.until
    }

    /// Which share of the time was compared, 0 to 1.
    pub fn share(&self) -> f64 {
        share(self.from, self.compared_until, self.until)
    }
}

/// A comparison that is under way.
pub struct Reconciliation {
    session: ReconcileSession,
    accounts: PaymentAccounts,
    windows: Windows,
    result: Reconciled,
}

impl Reconciliation {
    /// Begins one. Nothing is compared yet.
    pub async fn begin(config: &Config, range: ReconcileRange) -> Result<Reconciliation, AuditError> {
        let stores = Stores::new(config)?;
        let accounts = all_accounts(config, &stores.postgres).await?;
        let session = ReconcileSession::begin(&stores.postgres).await?;
        let now = session.now().await?;
        let from = match range.from {
            Some(from) => from,
            None => first_movement(&session, &accounts, now).await?.unwrap_or(now),
        };
        let windows = Windows::new(accounts.clone(), from, range.until, now, range.window);
        Ok(Reconciliation {
            result: Reconciled {
                from: windows.position(),
                compared_until: windows.position(),
                until: windows.until(),
                charges: 0,
                refunds: 0,
                shown: Vec::new(),
                differences: 0,
                in_flight: 0,
                without_order: 0,
            },
            session,
            accounts,
            windows,
        })
    }

    /// The result so far.
    pub fn result(&self) -> &Reconciled {
        &self.result
    }

    /// Compares the next window; `false` if none is left. After an error, or if it is dropped, nothing of that window is in
    /// the result.
    pub async fn compare_next(&mut self) -> Result<bool, AuditError> {
        // By the database's clock, and before the list is read: what changes while it is read is in flight.
        let settled_before = self.session.now().await? - SETTLED_AFTER;
        let Some(window) = self.windows.read_next().await? else {
            return Ok(false);
        };
        let ledger = LedgerWindow {
            from: window.from,
            until: window.until,
            settled_before,
        };
        let compared = self.session.compare(&window.movements, ledger).await?;
        let mut differences = Vec::new();
        for mut candidate in compared.candidates {
            if candidate.ours_is_elsewhere {
                let found = self.look_up(&candidate).await;
                let found = found.map_err(ListError::of(&candidate.account))?;
                candidate.theirs.extend(found);
            }
            differences.extend(difference(candidate));
        }
        self.add(&window, differences);
        self.result.differences += compared.more;
        self.result.in_flight += compared.more_in_flight;
        self.result.without_order += compared.without_order;
        Ok(true)
    }

    fn add(&mut self, window: &Window, differences: Vec<Difference>) {
        let result = &mut self.result;
        let charges = window.movements.iter().filter(|movement| movement.kind == "charge");
        let charges = charges.count();
        result.charges += charges;
        result.refunds += window.movements.len() - charges;
        result.compared_until = window.until;
        for difference in differences {
            let counted = if difference.in_flight {
                &mut result.in_flight
            } else {
                &mut result.differences
            };
            *counted += 1;
            if result.shown.len() < SHOWN_MAX {
                result.shown.push(difference);
            }
        }
    }

    /// The ledger's entry as the provider has it, at whatever time.
    async fn look_up(&self, candidate: &Candidate) -> Result<Option<Entry>, Cause> {
        let Some(ours) = &candidate.ours else {
            return Ok(None);
        };
        let client = self.accounts.client(&candidate.account)?;
        let (id, deadline) = (ours.provider_id.as_str(), Deadline::after(Duration::MAX));
        let (status, entry) = if candidate.kind == "charge" {
            match client.retrieve(id, deadline).await {
                Ok(payment) => (
                    payment.status,
                    entry(payment.provider_id, payment.moved_minor, payment.currency),
                ),
                Err(cause) => return missing(cause),
            }
        } else {
            match client.retrieve_refund(id, deadline).await {
                Ok(refund) => (
                    refund.status,
                    entry(refund.provider_id, refund.amount_minor, refund.currency),
                ),
                Err(cause) => return missing(cause),
            }
        };
        Ok((status == "succeeded").then_some(entry))
    }
}

/// When the first movement was made on either side.
async fn first_movement(
    session: &ReconcileSession,
    accounts: &PaymentAccounts,
    now: Timestamp,
) -> Result<Option<Timestamp>, AuditError> {
    let ours = session.first_charge().await?;
    let before = ours.unwrap_or(now + SignedDuration::from_hours(24));
    let theirs = oldest_payment(accounts, before).await?;
    Ok(theirs.or(ours))
}

/// That there is no such object is an answer; that the provider does not answer is none.
fn missing(cause: Cause) -> Result<Option<Entry>, Cause> {
    match cause {
        Cause::Status(404) | Cause::Unsendable => Ok(None),
        cause => Err(cause),
    }
}

fn entry(provider_id: String, amount_minor: i64, currency: String) -> Entry {
    Entry {
        provider_id,
        amount_minor,
        currency,
    }
}

/// What differs, if anything does.
fn difference(candidate: Candidate) -> Option<Difference> {
    let difference = match (&candidate.ours, candidate.theirs.as_slice()) {
        (_, [_, _, ..]) => format!("at the provider {} times", candidate.theirs.len()),
        (None, _) => "not in the ledger".to_owned(),
        (Some(_), []) => "not at the provider".to_owned(),
        (Some(ours), [theirs]) if ours.currency != theirs.currency => "another currency".to_owned(),
        (Some(ours), [theirs]) if ours.amount_minor != theirs.amount_minor => "another amount".to_owned(),
        (Some(ours), [theirs]) if ours.provider_id != theirs.provider_id => "another id".to_owned(),
        (Some(_), [_]) if candidate.is_of_another => "another order".to_owned(),
        (Some(_), [_]) => return None,
    };
    Some(Difference {
        order: candidate.order,
        order_status: candidate.order_status,
        kind: candidate.kind,
        difference,
        in_flight: candidate.in_flight,
        ours: candidate.ours,
        theirs: candidate.theirs,
    })
}
