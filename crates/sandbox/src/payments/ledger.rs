//! The provider's ledger: what was charged and refunded, and the answers that are saved under idempotency keys, as
//! Stripe v1 does it (<https://docs.stripe.com/api/idempotent_requests>).
//!
//! Everything happens under one lock, from the look-up of the key to the write of the line, so that of any number of
//! requests with one key exactly one has an effect. Only [`Entries::apply`] changes what is known, by a record that is
//! already in the file; the file is restored by the same call.

use std::collections::BTreeMap;
use std::path::Path;

use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::change::{Change, Execution};
use super::journal::{Effect, Journal, Record, SavedAnswer};
use super::listing::{self, Objects, list, next_time};
use super::movements::{Movement, MovementKind};
use super::objects::{CardOutcome, Closing, Dispute, PaymentIntent, Refund, RefundState, new_id};
use super::past::{PastCharge, PastRefund};
use super::payment_methods::{PaymentMethod, Wallet};
use super::reply::Reply;
use super::request::{Action, ChargeRequest, Page, PaymentRequest};
use super::webhooks::Event;
use super::{charges, disputes, holds, refunds};
use crate::Error;

/// What became of a request, or of a call of the sandbox.
#[derive(Debug)]
pub(super) struct Executed {
    pub reply: Reply,
    /// What it did; none if an earlier request with its key did it.
    pub events: Vec<Event>,
}

/// What is known, and its file.
#[derive(Debug)]
pub(super) struct Ledger {
    pub entries: Entries,
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
            Some(reply) => Ok(Executed {
                reply,
                events: Vec::new(),
            }),
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
        let change = match self.entries.decide(&request.action, execution) {
            Ok(change) => change,
            Err(error) => {
                self.save_refusal(request, &error)?;
                return Err(error);
            }
        };
        let reply = match execution {
            Execution::SaveError => ApiError::server_error().into(),
            Execution::Normal | Execution::Decline | Execution::Pending => change.reply,
        };
        self.write(Record {
            effect: change.effect,
            answer: saved_answer(request, &reply),
        })?;
        let events = events(&change.events, request.key.as_ref());
        Ok(Executed { reply, events })
    }

    /// The same key gets it again, if the request was executed.
    fn save_refusal(&mut self, request: &PaymentRequest, error: &ApiError) -> Result<(), ApiError> {
        let answer = saved_answer(request, &error.clone().into()).filter(|_| error.is_saved());
        let Some(answer) = answer else { return Ok(()) };
        self.write(Record {
            effect: Effect::Refused {},
            answer: Some(answer),
        })
    }

    /// Executes what no request of the API asked for.
    pub(super) fn execute_unasked(&mut self, change: Change) -> Result<Executed, ApiError> {
        self.enter(change.effect)?;
        let events = events(&change.events, None);
        Ok(Executed {
            reply: change.reply,
            events,
        })
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

    pub(super) fn add_past_charge(&mut self, charge: PastCharge) -> Result<(), ApiError> {
        let created = next_time(&self.entries.intents, charge.created);
        self.enter(Effect::Intent(PastCharge { created, ..charge }.into()))
    }

    pub(super) fn add_past_refund(&mut self, refund: PastRefund) -> Result<(), ApiError> {
        let created = next_time(&self.entries.refunds, refund.created);
        self.enter(Effect::Refund(PastRefund { created, ..refund }.into()))
    }

    pub(super) fn enter(&mut self, effect: Effect) -> Result<(), ApiError> {
        self.write(Record { effect, answer: None })
    }

    fn write(&mut self, record: Record) -> Result<(), ApiError> {
        let journal = self.journal.as_mut().ok_or_else(ApiError::server_error)?;
        if let Err(error) = journal.append(&record) {
            tracing::error!(%error, "payment ledger cannot be written; nothing was done");
            return Err(ApiError::server_error());
        }
        self.entries.apply(record);
        Ok(())
    }

    pub(super) fn intent(&self, id: &str) -> Result<Reply, ApiError> {
        let intent = find(&self.entries.intents, id, "payment_intent", "intent")?;
        Ok(Reply::ok(&intent.to_json()))
    }

    pub(super) fn refund(&self, id: &str) -> Result<Reply, ApiError> {
        Ok(Reply::ok(&self.entries.refund(id)?.to_json()))
    }

    pub(super) fn dispute(&self, id: &str) -> Result<Reply, ApiError> {
        Ok(Reply::ok(&self.entries.dispute(id)?.to_json()))
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

    pub(super) fn list_disputes(&self, page: &Page, charge: Option<&str>) -> Result<Reply, ApiError> {
        disputes::list(&self.entries.disputes, page, charge)
    }

    pub(super) fn movements(&self) -> Vec<Movement> {
        self.entries.movements.clone()
    }
}

/// What is known, all of it restored from the file. Objects are by id, in the order in which they came, and stay where they are when
/// there are more: to move a hundred thousand charges with their answers, the provider would stand still for a quarter of a second under load.
#[derive(Debug, Default)]
pub(super) struct Entries {
    intents: Objects<PaymentIntent>,
    refunds: Objects<Refund>,
    disputes: Objects<Dispute>,
    places: Places,
    /// By API key and idempotency key: two accounts may use the same key.
    answers: BTreeMap<(String, String), Answer>,
    movements: Vec<Movement>,
    wallet: Wallet,
}

/// Where objects are in their lists, by what they are asked for.
#[derive(Debug, Default)]
struct Places {
    /// An intent by the id of its charge.
    charges: BTreeMap<String, usize>,
    /// Intents by their group.
    groups: BTreeMap<String, Vec<usize>>,
    /// Refunds by their payment.
    refunds: BTreeMap<String, Vec<usize>>,
}

/// The places of this key, the oldest first.
fn places_of<'a>(places: &'a BTreeMap<String, Vec<usize>>, key: &str) -> &'a [usize] {
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

    fn decide(&self, action: &Action, execution: Execution) -> Result<Change, ApiError> {
        match action {
            Action::Charge(charge) => self.charge(charge.clone(), execution),
            Action::Capture(capture) => {
                let intent = self.intent(&capture.payment_intent, "intent")?;
                holds::capture(intent, capture, execution)
            }
            Action::Cancel(cancel) => holds::cancel(self.intent(&cancel.payment_intent, "intent")?, cancel),
            Action::Refund(refund) => {
                let intent = self.intent(&refund.payment_intent, "payment_intent")?;
                refunds::refund(intent, self.dispute_of(intent), refund, execution, self.refund_time())
            }
        }
    }

    fn charge(&self, charge: ChargeRequest, execution: Execution) -> Result<Change, ApiError> {
        let card = if charge.is_confirmed {
            self.wallet
                .card_of(&charge.payment_method, charge.customer.as_deref())?
        } else {
            CardOutcome::Unconfirmed
        };
        let created = next_time(&self.intents, Timestamp::now().as_second());
        Ok(charges::charge(charge, card, execution, created))
    }

    pub(super) fn intent(&self, id: &str, param: &str) -> Result<&PaymentIntent, ApiError> {
        find(&self.intents, id, "payment_intent", param)
    }

    pub(super) fn refund(&self, id: &str) -> Result<&Refund, ApiError> {
        find(&self.refunds, id, "refund", "refund")
    }

    /// The time of a refund that is made now.
    fn refund_time(&self) -> i64 {
        next_time(&self.refunds, Timestamp::now().as_second())
    }

    pub(super) fn dispute(&self, id: &str) -> Result<&Dispute, ApiError> {
        find(&self.disputes, id, "dispute", "dispute")
    }

    fn dispute_of(&self, intent: &PaymentIntent) -> Option<&Dispute> {
        let mut disputes = self.disputes.values().map(Box::as_ref);
        disputes.find(|dispute| dispute.intent_id == intent.id)
    }

    /// The only place where entries are added.
    fn apply(&mut self, record: Record) {
        match record.effect {
            Effect::Intent(intent) => self.enter_intent(intent),
            Effect::Refund(refund) => self.enter_refund(refund),
            Effect::Dispute(dispute) => self.enter_dispute(dispute),
            Effect::Refused {} => {}
            // A request that still runs is younger than they are.
            Effect::KeysExpired { .. } => self.answers.retain(|_, answer| answer.reply.is_none()),
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

    /// A new payment, or what became of one.
    fn enter_intent(&mut self, intent: PaymentIntent) {
        self.wallet.note_use(&intent);
        let received_before = self
            .intents
            .get(&intent.id)
            .map_or(0, |intent| intent.amount_received());
        if intent.amount_received() > received_before {
            self.movements.push(Movement {
                kind: MovementKind::Charge,
                order_id: intent.order_id().cloned(),
                provider_id: intent.id.clone(),
                amount_minor: intent.amount_received(),
                currency: intent.currency.clone(),
                created: intent.received_at(),
            });
        }
        if !self.intents.contains_key(&intent.id) {
            let place = self.intents.len();
            self.places.charges.insert(intent.charge_id.clone(), place);
            if let Some(group) = &intent.transfer_group {
                self.places.groups.entry(group.clone()).or_default().push(place);
            }
        }
        self.intents.insert(intent.id.clone(), Box::new(intent));
    }

    /// A new refund, or what became of one.
    fn enter_refund(&mut self, refund: Refund) {
        let (kind, created) = match (&refund.state, self.refunds.contains_key(&refund.id)) {
            (_, false) => (Some(MovementKind::Refund), refund.created),
            (RefundState::Failed { at, .. }, true) => (Some(MovementKind::FailedRefund), *at),
            (RefundState::Succeeded | RefundState::Pending, true) => (None, refund.created),
        };
        let mut order_id = refund.order_id().cloned();
        if let Some(intent) = self.intents.get_mut(&refund.intent_id) {
            order_id = order_id.or_else(|| intent.order_id().cloned());
            match kind {
                Some(MovementKind::Refund) => intent.amount_refunded += refund.amount,
                Some(MovementKind::FailedRefund) => intent.amount_refunded -= refund.amount,
                _ => {}
            }
        }
        self.movements.extend(kind.map(|kind| Movement {
            kind,
            order_id,
            provider_id: refund.id.clone(),
            amount_minor: refund.amount,
            currency: refund.currency.clone(),
            created,
        }));
        if kind == Some(MovementKind::Refund) {
            let of_payment = self.places.refunds.entry(refund.intent_id.clone()).or_default();
            of_payment.push(self.refunds.len());
        }
        self.refunds.insert(refund.id.clone(), Box::new(refund));
    }

    /// A new dispute, or one that was closed.
    fn enter_dispute(&mut self, dispute: Dispute) {
        let mut order_id = None;
        if let Some(intent) = self.intents.get_mut(&dispute.intent_id) {
            intent.disputed = true;
            order_id = intent.order_id().cloned();
        }
        let movement = match dispute.closed {
            None => Some((MovementKind::DisputeWithdrawal, dispute.created)),
            Some(Closing { won: true, at }) => Some((MovementKind::DisputeReinstatement, at)),
            Some(Closing { won: false, .. }) => None,
        };
        self.movements.extend(movement.map(|(kind, created)| Movement {
            kind,
            order_id,
            provider_id: dispute.id.clone(),
            amount_minor: dispute.amount,
            currency: dispute.currency.clone(),
            created,
        }));
        self.disputes.insert(dispute.id.clone(), Box::new(dispute));
    }
}

/// `None` without a key.
fn saved_answer(request: &PaymentRequest, reply: &Reply) -> Option<SavedAnswer> {
    Some(SavedAnswer {
        api_key: request.api_key.clone(),
        key: request.key.clone()?,
        fingerprint: request.fingerprint.clone(),
        status: reply.status.as_u16(),
        body: reply.body.clone(),
    })
}

fn events(of: &[(&'static str, Value)], key: Option<&String>) -> Vec<Event> {
    of.iter().map(|(kind, object)| Event::new(kind, object, key)).collect()
}

fn find<'a, T>(objects: &'a Objects<T>, id: &str, kind: &str, param: &str) -> Result<&'a T, ApiError> {
    let found = objects.get(id).map(Box::as_ref);
    found.ok_or_else(|| ApiError::not_found(kind, param, id))
}

/// The place in the list before which the page begins.
fn start<T>(objects: &Objects<T>, page: &Page, kind: &str) -> Result<usize, ApiError> {
    let Some(id) = &page.starting_after else {
        return Ok(objects.len());
    };
    objects.get_index_of(id).ok_or_else(|| {
        let message = format!("No such {kind}: '{id}'");
        ApiError::parameter("resource_missing", "starting_after", &message)
    })
}
