//! The provider's ledger: what was charged and refunded, and the answers that are saved under idempotency keys, as
//! Stripe v1 does it (<https://docs.stripe.com/api/idempotent_requests>).
//!
//! Everything happens under one lock, from the look-up of the key to the write of the line, so that of any number of
//! requests with one key exactly one has an effect. Only [`Entries::apply`] changes what is known, by a record that is
//! already in the file; the file is restored by the same call.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use axum::http::StatusCode;
use indexmap::IndexMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api_error::ApiError;
use super::currencies;
use super::journal::{Effect, Journal, Record, SavedAnswer};
use super::listing::{self, list, next_time};
use super::objects::{CardOutcome, PaymentIntent, Refund, new_id};
use super::past::{PastCharge, PastRefund};
use super::payment_methods::{PaymentMethod, Wallet};
use super::reply::Reply;
use super::request::{Action, ChargeRequest, Page, PaymentRequest, RefundRequest};
use super::webhooks::Event;
use crate::Error;

/// Which way money went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MovementKind {
    /// From the customer.
    Charge,
    /// Back to the customer.
    Refund,
}

/// Money that really moved: one line of the provider's ledger. Declines and failures have none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// Which way.
    pub kind: MovementKind,
    /// `metadata[order_id]` of the request; that of its charge for a refund without one. `None` if neither had one.
    pub order_id: Option<String>,
    /// `pi_...` of a charge, `re_...` of a refund.
    pub provider_id: String,
    /// In Stripe's unit of the currency, above zero: that of ISO 4217 for most.
    pub amount_minor: i64,
    /// ISO 4217, in lower case as Stripe has it.
    pub currency: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
}

/// How a request is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Execution {
    Normal,
    /// The card is declined, whatever card it is.
    Decline,
    /// The effect happens, but the saved answer is a 500.
    SaveError,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Executed {
    pub reply: Reply,
    /// What it did; `None` if an earlier request with its key did it.
    pub event: Option<Event>,
}

/// What is known, and its file.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: Entries,
    /// `None` once closed.
    journal: Option<Journal>,
}

impl Ledger {
    pub(super) fn open(path: &Path) -> Result<Ledger, Error> {
        let mut entries = Entries::default();
        let journal = Journal::open(path, |record| entries.apply(record))?;
        Ok(Ledger {
            entries,
            journal: Some(journal),
        })
    }

    /// Releases the file. A request that still runs has no effect any more.
    pub(super) fn close(&mut self) {
        self.journal = None;
    }

    /// Executes a request, or replays the answer to the first one with its key.
    pub(super) fn execute(&mut self, request: &PaymentRequest, execution: Execution) -> Result<Executed, ApiError> {
        match self.entries.earlier_answer(request)? {
            Some(reply) => Ok(Executed { reply, event: None }),
            None => self.execute_first(request, execution),
        }
    }

    /// Marks the key of a request as in use until [`Ledger::finish`]. Returns the answer if there is one already.
    pub(super) fn begin(&mut self, request: &PaymentRequest) -> Result<Option<Reply>, ApiError> {
        let earlier = self.entries.earlier_answer(request)?;
        if let (None, Some(key)) = (&earlier, request.account_key()) {
            let answer = Answer {
                fingerprint: request.fingerprint.clone(),
                reply: None,
            };
            self.entries.answers.insert(key, answer);
        }
        Ok(earlier)
    }

    /// Executes a request that was begun.
    pub(super) fn finish(&mut self, request: &PaymentRequest) -> Result<Executed, ApiError> {
        if let Some(key) = request.account_key() {
            self.entries.answers.remove(&key);
        }
        self.execute_first(request, Execution::Normal)
    }

    fn execute_first(&mut self, request: &PaymentRequest, execution: Execution) -> Result<Executed, ApiError> {
        let (effect, true_reply) = match &request.action {
            Action::Charge(charge) => self.entries.charge(charge.clone(), execution)?,
            Action::Refund(refund) => self.entries.refund(refund)?,
        };
        let reply = match execution {
            Execution::SaveError => ApiError::server_error().into(),
            Execution::Normal | Execution::Decline => true_reply,
        };
        let answer = request.key.clone().map(|key| SavedAnswer {
            api_key: request.api_key.clone(),
            key,
            fingerprint: request.fingerprint.clone(),
            status: reply.status.as_u16(),
            body: reply.body.clone(),
        });
        let record = Record { effect, answer };
        let journal = self.journal.as_mut().ok_or_else(ApiError::server_error)?;
        if let Err(error) = journal.append(&record) {
            tracing::error!(%error, "payment ledger cannot be written; nothing was charged or refunded");
            return Err(ApiError::server_error());
        }
        let event = event(&record.effect, request);
        self.entries.apply(record);
        Ok(Executed { reply, event })
    }

    /// Makes a customer.
    pub(super) fn add_customer(&mut self) -> Result<Reply, ApiError> {
        let id = new_id("cus");
        let reply = Reply::ok(&json!({ "id": id, "object": "customer", "livemode": false }));
        self.enter(Effect::Customer(id))?;
        Ok(reply)
    }

    /// Makes a payment method that is attached to no one.
    pub(super) fn add_method(&mut self, card: CardOutcome) -> Result<Reply, ApiError> {
        let id = new_id("pm");
        let method = PaymentMethod {
            id,
            card,
            customer: None,
        };
        let reply = Reply::ok(&method.to_json());
        self.enter(Effect::PaymentMethod(method))?;
        Ok(reply)
    }

    /// Attaches a payment method to a customer.
    pub(super) fn attach(&mut self, method: &str, customer: &str) -> Result<Reply, ApiError> {
        let method = self.entries.wallet.attach(method, customer)?;
        let reply = Reply::ok(&method.to_json());
        self.enter(Effect::PaymentMethod(method))?;
        Ok(reply)
    }

    pub(super) fn add_past_charge(&mut self, charge: PastCharge) -> io::Result<()> {
        let created = next_time(&self.entries.intents, charge.created);
        self.write(Effect::Intent(PastCharge { created, ..charge }.into()))
    }

    pub(super) fn add_past_refund(&mut self, refund: PastRefund) -> io::Result<()> {
        let created = next_time(&self.entries.refunds, refund.created);
        self.write(Effect::Refund(PastRefund { created, ..refund }.into()))
    }

    fn enter(&mut self, effect: Effect) -> Result<(), ApiError> {
        self.write(effect).map_err(|_| ApiError::server_error())
    }

    fn write(&mut self, effect: Effect) -> io::Result<()> {
        let record = Record { effect, answer: None };
        let stopped = || io::Error::other("the provider is stopped");
        self.journal.as_mut().ok_or_else(stopped)?.append(&record)?;
        self.entries.apply(record);
        Ok(())
    }

    pub(super) fn intent(&self, id: &str) -> Result<Reply, ApiError> {
        let intent = find(&self.entries.intents, id, "payment_intent", "intent")?;
        Ok(Reply::ok(&intent.to_json()))
    }

    pub(super) fn refund(&self, id: &str) -> Result<Reply, ApiError> {
        let refund = find(&self.entries.refunds, id, "refund", "refund")?;
        Ok(Reply::ok(&refund.to_json()))
    }

    pub(super) fn list_intents(&self, page: &Page) -> Result<Reply, ApiError> {
        let intents = &self.entries.intents;
        let wanted = listing::of_time(intents, page, start(intents, page, "payment_intent")?);
        Ok(list("/v1/payment_intents", page, wanted.map(PaymentIntent::to_json)))
    }

    pub(super) fn list_charges(&self, page: &Page) -> Result<Reply, ApiError> {
        let Entries { intents, places, .. } = &self.entries;
        let end = match &page.starting_after {
            None => intents.len(),
            Some(id) => *places.charges.get(id).ok_or_else(|| ApiError::missing_charge(id))?,
        };
        let of_payment: Vec<usize> = page
            .payment_intent
            .iter()
            .filter_map(|id| intents.get_index_of(id))
            .collect();
        let chosen = match (&page.payment_intent, &page.transfer_group) {
            (None, None) => None,
            (Some(_), _) => Some(of_payment.as_slice()),
            (None, Some(group)) => Some(places_of(&places.groups, group)),
        };
        let url = "/v1/charges";
        let Some(chosen) = chosen else {
            let wanted = listing::of_time(intents, page, end);
            return Ok(list(url, page, wanted.filter_map(PaymentIntent::charge_json)));
        };
        let is_of_group =
            |intent: &&PaymentIntent| page.transfer_group.is_none() || page.transfer_group == intent.transfer_group;
        let wanted = listing::of_places(intents, chosen, page, end).filter(is_of_group);
        Ok(list(url, page, wanted.filter_map(PaymentIntent::charge_json)))
    }

    pub(super) fn list_refunds(&self, page: &Page) -> Result<Reply, ApiError> {
        let Entries { refunds, places, .. } = &self.entries;
        let end = start(refunds, page, "refund")?;
        let url = "/v1/refunds";
        let Some(payment) = &page.payment_intent else {
            let wanted = listing::of_time(refunds, page, end);
            return Ok(list(url, page, wanted.map(Refund::to_json)));
        };
        let of_payment = places_of(&places.refunds, payment);
        let wanted = listing::of_places(refunds, of_payment, page, end);
        Ok(list(url, page, wanted.map(Refund::to_json)))
    }

    pub(super) fn movements(&self) -> Vec<Movement> {
        self.entries.movements.clone()
    }
}

/// What is known, all of it restored from the file. Objects are by id, in the order in which they came.
#[derive(Debug, Default)]
struct Entries {
    intents: IndexMap<String, PaymentIntent>,
    refunds: IndexMap<String, Refund>,
    places: Places,
    /// By API key and idempotency key: two accounts may use the same key.
    answers: HashMap<(String, String), Answer>,
    movements: Vec<Movement>,
    wallet: Wallet,
}

/// Where objects are in their lists, by what they are asked for.
#[derive(Debug, Default)]
struct Places {
    /// An intent by the id of its charge.
    charges: HashMap<String, usize>,
    /// Intents by their group.
    groups: HashMap<String, Vec<usize>>,
    /// Refunds by their payment.
    refunds: HashMap<String, Vec<usize>>,
}

/// The places of this key, the oldest first.
fn places_of<'a>(places: &'a HashMap<String, Vec<usize>>, key: &str) -> &'a [usize] {
    places.get(key).map_or(&[], Vec::as_slice)
}

#[derive(Debug)]
struct Answer {
    fingerprint: String,
    /// `None` while the first request runs.
    reply: Option<Reply>,
}

impl Entries {
    fn earlier_answer(&self, request: &PaymentRequest) -> Result<Option<Reply>, ApiError> {
        let answer = request.account_key().and_then(|key| self.answers.get(&key));
        match answer {
            None => Ok(None),
            Some(answer) if answer.fingerprint != request.fingerprint => Err(ApiError::key_reused()),
            Some(Answer { reply: None, .. }) => Err(ApiError::key_in_use()),
            Some(Answer { reply, .. }) => Ok(reply.clone()),
        }
    }

    fn charge(&self, charge: ChargeRequest, execution: Execution) -> Result<(Effect, Reply), ApiError> {
        let card = if charge.is_confirmed {
            self.wallet
                .card_of(&charge.payment_method, charge.customer.as_deref())?
        } else {
            CardOutcome::Unconfirmed
        };
        let created = next_time(&self.intents, Timestamp::now().as_second());
        Ok(charge_card(charge, card, execution, created))
    }

    fn refund(&self, request: &RefundRequest) -> Result<(Effect, Reply), ApiError> {
        let id = &request.payment_intent;
        let intent = find(&self.intents, id, "payment_intent", "payment_intent")?;
        if !intent.is_paid() {
            let message = format!("This PaymentIntent ({id}) does not have a successful charge to refund.");
            return Err(ApiError::request(&message));
        }
        let left = intent.amount - intent.amount_refunded;
        if left == 0 {
            return Err(ApiError::already_refunded(&intent.charge_id));
        }
        let amount = request.amount.unwrap_or(left);
        currencies::check_amount(amount, &intent.currency)?;
        if amount > left {
            let message = format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).");
            return Err(ApiError::parameter("amount_too_large", "amount", &message));
        }
        let created = next_time(&self.refunds, Timestamp::now().as_second());
        let refund = request.to_refund(intent, amount, created);
        let reply = Reply::ok(&refund.to_json());
        Ok((Effect::Refund(refund), reply))
    }

    /// The only place where entries are added.
    fn apply(&mut self, record: Record) {
        match record.effect {
            Effect::Intent(intent) => self.enter_intent(intent),
            Effect::Refund(refund) => self.enter_refund(refund),
            Effect::Customer(id) => self.wallet.enter_customer(id),
            Effect::PaymentMethod(method) => self.wallet.enter_method(method),
        }
        if let Some(saved) = record.answer {
            let reply = Reply {
                status: StatusCode::from_u16(saved.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                body: saved.body,
                replayed: true,
            };
            let answer = Answer {
                fingerprint: saved.fingerprint,
                reply: Some(reply),
            };
            self.answers.insert((saved.api_key, saved.key), answer);
        }
    }

    fn enter_intent(&mut self, intent: PaymentIntent) {
        self.wallet.note_use(&intent);
        if intent.is_paid() {
            self.movements.push(Movement {
                kind: MovementKind::Charge,
                order_id: intent.order_id().cloned(),
                provider_id: intent.id.clone(),
                amount_minor: intent.amount,
                currency: intent.currency.clone(),
                created: intent.created,
            });
        }
        let place = self.intents.len();
        self.places.charges.insert(intent.charge_id.clone(), place);
        if let Some(group) = &intent.transfer_group {
            self.places.groups.entry(group.clone()).or_default().push(place);
        }
        self.intents.insert(intent.id.clone(), intent);
    }

    fn enter_refund(&mut self, refund: Refund) {
        let mut order_id = refund.order_id().cloned();
        if let Some(intent) = self.intents.get_mut(&refund.intent_id) {
            order_id = order_id.or_else(|| intent.order_id().cloned());
            intent.amount_refunded += refund.amount;
        }
        self.movements.push(Movement {
            kind: MovementKind::Refund,
            order_id,
            provider_id: refund.id.clone(),
            amount_minor: refund.amount,
            currency: refund.currency.clone(),
            created: refund.created,
        });
        let of_payment = self.places.refunds.entry(refund.intent_id.clone()).or_default();
        of_payment.push(self.refunds.len());
        self.refunds.insert(refund.id.clone(), refund);
    }
}

fn charge_card(charge: ChargeRequest, card: CardOutcome, execution: Execution, created: i64) -> (Effect, Reply) {
    let outcome = match (card, execution) {
        (CardOutcome::Paid, Execution::Decline) => CardOutcome::Declined,
        (card, _) => card,
    };
    let intent = charge.into_intent(outcome, created);
    let reply = match intent.outcome {
        CardOutcome::Paid | CardOutcome::Unconfirmed => Reply::ok(&intent.to_json()),
        CardOutcome::Declined | CardOutcome::InsufficientFunds => ApiError::declined(&intent).into(),
    };
    (Effect::Intent(intent), reply)
}

/// Under the names of <https://docs.stripe.com/api/events/types>.
fn event(effect: &Effect, request: &PaymentRequest) -> Option<Event> {
    let (kind, object) = match effect {
        Effect::Intent(intent) if intent.is_paid() => ("payment_intent.succeeded", intent.to_json()),
        Effect::Intent(intent) if intent.outcome == CardOutcome::Unconfirmed => {
            ("payment_intent.created", intent.to_json())
        }
        Effect::Intent(intent) => ("payment_intent.payment_failed", intent.to_json()),
        Effect::Refund(refund) => ("refund.created", refund.to_json()),
        Effect::Customer(_) | Effect::PaymentMethod(_) => return None,
    };
    Some(Event::new(kind, &object, request.key.as_ref()))
}

fn find<'a, T>(objects: &'a IndexMap<String, T>, id: &str, kind: &str, param: &str) -> Result<&'a T, ApiError> {
    objects.get(id).ok_or_else(|| ApiError::not_found(kind, param, id))
}

/// The place in the list before which the page begins.
fn start<T>(objects: &IndexMap<String, T>, page: &Page, kind: &str) -> Result<usize, ApiError> {
    let Some(id) = &page.starting_after else {
        return Ok(objects.len());
    };
    objects.get_index_of(id).ok_or_else(|| {
        let message = format!("No such {kind}: '{id}'");
        ApiError::parameter("resource_missing", "starting_after", &message)
    })
}
