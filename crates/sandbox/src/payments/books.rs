//! The provider's books: what was charged and refunded, and the answers that are saved under idempotency keys, as
//! Stripe v1 has it (<https://docs.stripe.com/api/idempotent_requests>).
//!
//! Everything happens under one lock, from the look at the key to the write of the line, so that of any number of
//! requests with one key exactly one has an effect. Changes are made by [`Book::apply`] alone, on a record that is
//! already in the file, and restoring the file is the same call.

use std::collections::HashMap;
use std::path::Path;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::journal::{Effect, Journal, Record, SavedAnswer};
use super::objects::{Intent, Movement, MovementKind, Refund};
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::{self, CardOutcome, Charge, Instruction, Page, What};
use super::webhooks::Event;
use crate::Error;

/// How an instruction is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    Usual,
    /// The card is declined whatever it is.
    Decline,
    /// Done, but the saved answer is a 500.
    SaveError,
}

/// The books and their file.
#[derive(Debug)]
pub(super) struct Books {
    book: Book,
    /// `None` once closed.
    journal: Option<Journal>,
    /// What the last instruction did, until somebody takes it.
    news: Option<Event>,
}

impl Books {
    pub(super) fn open(path: &Path) -> Result<Books, Error> {
        let mut book = Book::default();
        let journal = Journal::open(path, |record| book.apply(record))?;
        Ok(Books {
            book,
            journal: Some(journal),
            news: None,
        })
    }

    /// Lets go of the file. A request that is still on its way has no effect any more.
    pub(super) fn close(&mut self) {
        self.journal = None;
    }

    /// What the instruction just carried out did, as an event; `None` if it did nothing, or an earlier one had.
    pub(super) fn take_news(&mut self) -> Option<Event> {
        self.news.take()
    }

    /// Carries out an instruction, or replays the answer to the first one with its key.
    pub(super) fn execute(&mut self, instruction: &Instruction, manner: Manner) -> Result<Reply, Refusal> {
        match self.book.earlier_answer(instruction)? {
            Some(reply) => Ok(reply),
            None => self.carry_out(instruction, manner),
        }
    }

    /// Marks the key of an instruction as in use, until [`Books::finish`]. The answer instead, if there is one already.
    pub(super) fn begin(&mut self, instruction: &Instruction) -> Result<Option<Reply>, Refusal> {
        let earlier = self.book.earlier_answer(instruction)?;
        if let (None, Some(key)) = (&earlier, &instruction.key) {
            let answer = Answer {
                fingerprint: instruction.fingerprint.clone(),
                state: AnswerState::InProgress,
            };
            self.book
                .answers
                .insert((instruction.api_key.clone(), key.clone()), answer);
        }
        Ok(earlier)
    }

    /// Carries out an instruction that was begun.
    pub(super) fn finish(&mut self, instruction: &Instruction) -> Result<Reply, Refusal> {
        if let Some(key) = &instruction.key {
            self.book.answers.remove(&(instruction.api_key.clone(), key.clone()));
        }
        self.carry_out(instruction, Manner::Usual)
    }

    fn carry_out(&mut self, instruction: &Instruction, manner: Manner) -> Result<Reply, Refusal> {
        let (effect, truth) = match &instruction.what {
            What::Charge(charge) => charge_card(charge, manner),
            What::Refund(request) => self.book.refund(request)?,
        };
        let reply = if manner == Manner::SaveError {
            Refusal::server_error().into()
        } else {
            truth
        };
        let answer = instruction.key.clone().map(|key| SavedAnswer {
            api_key: instruction.api_key.clone(),
            key,
            fingerprint: instruction.fingerprint.clone(),
            status: reply.status.as_u16(),
            body: reply.body.clone(),
        });
        let record = Record { effect, answer };
        let journal = self.journal.as_mut().ok_or_else(Refusal::server_error)?;
        if let Err(error) = journal.append(&record) {
            tracing::error!(%error, "payment ledger cannot be written; nothing was charged or refunded");
            return Err(Refusal::server_error());
        }
        self.news = Some(news(&record.effect, instruction));
        self.book.apply(record);
        Ok(reply)
    }

    pub(super) fn intent(&self, id: &str) -> Result<Reply, Refusal> {
        let intent = self
            .book
            .intents
            .get(id)
            .ok_or_else(|| Refusal::missing("payment_intent", "intent", id))?;
        Ok(Reply::ok(&intent.to_json()))
    }

    pub(super) fn refund(&self, id: &str) -> Result<Reply, Refusal> {
        let refund = self
            .book
            .refunds
            .get(id)
            .ok_or_else(|| Refusal::missing("refund", "refund", id))?;
        Ok(Reply::ok(&refund.to_json()))
    }

    pub(super) fn list_intents(&self, page: &Page) -> Result<Reply, Refusal> {
        let older = self.book.intents.older_than(page.starting_after.as_deref());
        let older = older.ok_or_else(|| no_such_start("payment_intent", page))?;
        let wanted = older.filter(|intent| page.is_new_enough(intent.created));
        Ok(list("/v1/payment_intents", page, wanted.map(Intent::to_json)))
    }

    pub(super) fn list_refunds(&self, page: &Page) -> Result<Reply, Refusal> {
        let older = self.book.refunds.older_than(page.starting_after.as_deref());
        let older = older.ok_or_else(|| no_such_start("refund", page))?;
        let wanted = older.filter(|refund| {
            page.is_new_enough(refund.created) && page.payment_intent.as_ref().is_none_or(|id| *id == refund.intent_id)
        });
        Ok(list("/v1/refunds", page, wanted.map(Refund::to_json)))
    }

    pub(super) fn movements(&self) -> Vec<Movement> {
        self.book.movements.clone()
    }
}

/// What is known, all of it restored from the file.
#[derive(Debug, Default)]
struct Book {
    intents: Shelf<Intent>,
    refunds: Shelf<Refund>,
    /// By API key and idempotency key: two accounts may use the same key.
    answers: HashMap<(String, String), Answer>,
    movements: Vec<Movement>,
}

#[derive(Debug)]
struct Answer {
    fingerprint: String,
    state: AnswerState,
}

#[derive(Debug)]
enum AnswerState {
    InProgress,
    Saved { status: StatusCode, body: String },
}

impl Book {
    fn earlier_answer(&self, instruction: &Instruction) -> Result<Option<Reply>, Refusal> {
        let Some(key) = &instruction.key else { return Ok(None) };
        let Some(answer) = self.answers.get(&(instruction.api_key.clone(), key.clone())) else {
            return Ok(None);
        };
        match &answer.state {
            _ if answer.fingerprint != instruction.fingerprint => Err(Refusal::key_reused()),
            AnswerState::InProgress => Err(Refusal::key_in_use()),
            AnswerState::Saved { status, body } => Ok(Some(Reply {
                status: *status,
                body: body.clone(),
                replayed: true,
            })),
        }
    }

    fn refund(&self, request: &request::Refund) -> Result<(Effect, Reply), Refusal> {
        let id = &request.payment_intent;
        let intent = self
            .intents
            .get(id)
            .ok_or_else(|| Refusal::missing("payment_intent", "payment_intent", id))?;
        if intent.outcome != CardOutcome::Paid {
            let message = format!("This PaymentIntent ({id}) does not have a successful charge to refund.");
            return Err(Refusal::request(&message));
        }
        let left = intent.amount - intent.amount_refunded;
        if left == 0 {
            let message = format!("Charge {} has already been refunded.", intent.charge_id);
            return Err(Refusal::state("charge_already_refunded", &message));
        }
        let amount = request.amount.unwrap_or(left);
        if amount > left {
            let message = format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left}).");
            return Err(Refusal::parameter("amount_too_large", "amount", &message));
        }
        let refund = Refund::new(request, intent, amount);
        let reply = Reply::ok(&refund.to_json());
        Ok((Effect::Refund(refund), reply))
    }

    /// The only place where the book changes for good.
    fn apply(&mut self, record: Record) {
        match record.effect {
            Effect::Intent(intent) => self.enter_intent(intent),
            Effect::Refund(refund) => self.enter_refund(refund),
        }
        if let Some(saved) = record.answer {
            let status = StatusCode::from_u16(saved.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let state = AnswerState::Saved {
                status,
                body: saved.body,
            };
            let answer = Answer {
                fingerprint: saved.fingerprint,
                state,
            };
            self.answers.insert((saved.api_key, saved.key), answer);
        }
    }

    fn enter_intent(&mut self, intent: Intent) {
        if intent.outcome == CardOutcome::Paid {
            self.movements.push(Movement {
                kind: MovementKind::Charge,
                order_id: intent.order_id().cloned(),
                provider_id: intent.id.clone(),
                amount_minor: intent.amount,
                currency: intent.currency.clone(),
                created: intent.created,
            });
        }
        self.intents.put(intent.id.clone(), intent);
    }

    fn enter_refund(&mut self, refund: Refund) {
        let charged = self.intents.get_mut(&refund.intent_id);
        let order_id = refund
            .order_id()
            .or(charged.as_ref().and_then(|intent| intent.order_id()))
            .cloned();
        if let Some(intent) = charged {
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
        self.refunds.put(refund.id.clone(), refund);
    }
}

/// Objects by id, and in the order in which they came.
#[derive(Debug)]
struct Shelf<T> {
    objects: Vec<T>,
    places: HashMap<String, usize>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            objects: Vec::new(),
            places: HashMap::new(),
        }
    }
}

impl<T> Shelf<T> {
    fn put(&mut self, id: String, object: T) {
        self.places.insert(id, self.objects.len());
        self.objects.push(object);
    }

    fn get(&self, id: &str) -> Option<&T> {
        self.objects.get(*self.places.get(id)?)
    }

    fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.objects.get_mut(*self.places.get(id)?)
    }

    /// The newest first; `None` if there is no object of that id.
    fn older_than(&self, id: Option<&str>) -> Option<impl Iterator<Item = &T>> {
        let end = id.map_or(Some(self.objects.len()), |id| self.places.get(id).copied())?;
        Some(self.objects.get(..end)?.iter().rev())
    }
}

fn charge_card(charge: &Charge, manner: Manner) -> (Effect, Reply) {
    let outcome = match (charge.card, manner) {
        (CardOutcome::Paid, Manner::Decline) => CardOutcome::Declined,
        (card, _) => card,
    };
    let intent = Intent::new(charge, outcome);
    let reply = if outcome == CardOutcome::Paid {
        Reply::ok(&intent.to_json())
    } else {
        Refusal::declined(&intent).into()
    };
    (Effect::Intent(intent), reply)
}

/// Under the names of <https://docs.stripe.com/api/events/types>.
fn news(effect: &Effect, instruction: &Instruction) -> Event {
    let (kind, object) = match effect {
        Effect::Intent(intent) if intent.outcome == CardOutcome::Paid => ("payment_intent.succeeded", intent.to_json()),
        Effect::Intent(intent) => ("payment_intent.payment_failed", intent.to_json()),
        Effect::Refund(refund) => ("refund.created", refund.to_json()),
    };
    Event::new(kind, &object, instruction.key.as_ref())
}

fn list(url: &str, page: &Page, mut objects: impl Iterator<Item = Value>) -> Reply {
    let data: Vec<Value> = objects.by_ref().take(page.limit).collect();
    Reply::ok(&json!({ "object": "list", "url": url, "has_more": objects.next().is_some(), "data": data }))
}

fn no_such_start(kind: &str, page: &Page) -> Refusal {
    let id = page.starting_after.as_deref().unwrap_or_default();
    Refusal::parameter("resource_missing", "starting_after", &format!("No such {kind}: '{id}'"))
}
