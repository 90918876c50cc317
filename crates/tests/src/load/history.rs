//! What the clients asked and what was answered: in memory for the checks, and as a line of JSON each for people.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prost::Message as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use waybill_proto::order::v1::{CreateOrderRequest, CreateOrderResponse, OrderStatus};

use super::calls::Outcome;
use super::findings::{Findings, lock};

/// A currency without decimals, which the provider counts in hundredths.
pub const OTHER_UNIT: &str = "UGX";

/// Whose key: keys are a user's own.
pub type Key = (String, String);

/// An order as it was answered to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// Its id.
    pub order: Uuid,
    /// As in the database.
    pub status: &'static str,
    /// Of the bytes of the answer.
    pub sha256: String,
    /// Who served it then.
    pub driver: Option<String>,
}

/// All calls of a run.
pub struct History {
    findings: Arc<Findings>,
    started: Instant,
    file: Mutex<BufWriter<File>>,
    keys: Mutex<HashMap<Key, Asked>>,
    acknowledged_fixes: Mutex<Vec<(String, Timestamp)>>,
    outcomes: Mutex<HashMap<String, u64>>,
}

/// What was asked under a key.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The request.
    pub request: CreateOrderRequest,
    /// The first answer.
    pub answer: Option<Answered>,
}

impl History {
    /// An empty one, which writes `history.jsonl` into this folder.
    pub fn new(folder: &Path, findings: Arc<Findings>) -> History {
        let file = File::create(folder.join("history.jsonl")).expect("a file");
        History {
            findings,
            started: Instant::now(),
            file: Mutex::new(BufWriter::new(file)),
            keys: Mutex::default(),
            acknowledged_fixes: Mutex::default(),
            outcomes: Mutex::default(),
        }
    }

    /// A client is about to ask for an order.
    pub fn asks(&self, request: &CreateOrderRequest) {
        let asked = Asked {
            request: request.clone(),
            answer: None,
        };
        lock(&self.keys).entry(key(request)).or_insert(asked);
        self.write(
            &json!({"call": "create", "event": "invoke", "user": request.user_id, "key": request.idempotency_key}),
        );
    }

    /// A call for an order ended. The order, if it was answered.
    pub fn record_create(
        &self,
        request: &CreateOrderRequest,
        outcome: &Outcome<Vec<u8>>,
        gate: usize,
    ) -> Option<Answered> {
        self.count("create", outcome);
        let answer = match outcome {
            Outcome::Ok(bytes) => self.read(bytes, request),
            Outcome::Refused(status) => {
                self.findings.add(
                    "M3",
                    &format!("a valid order of {} was refused: {status:?}", request.user_id),
                );
                None
            }
            Outcome::Unknown(_) => None,
        };
        self.write(&json!({
            "call": "create", "event": outcome.kind(), "user": request.user_id, "key": request.idempotency_key,
            "gate": gate, "code": outcome.code(), "message": outcome.message(), "order": answer.as_ref().map(|answer| answer.order),
            "status": answer.as_ref().map(|answer| answer.status), "sha256": answer.as_ref().map(|answer| &answer.sha256),
        }));
        if let Some(answer) = &answer {
            self.compare(request, answer);
        }
        answer
    }

    /// Another call ended.
    pub fn record<T>(&self, call: &'static str, order: &str, outcome: &Outcome<T>) {
        self.count(call, outcome);
        self.write(
            &json!({"call": call, "event": outcome.kind(), "order": order, "code": outcome.code(),
            "message": outcome.message()}),
        );
    }

    /// These fixes were acknowledged.
    pub fn acknowledged(&self, fixes: impl Iterator<Item = (String, Timestamp)>) {
        lock(&self.acknowledged_fixes).extend(fixes);
    }

    /// Every key that was ever used.
    pub fn keys(&self) -> Vec<Asked> {
        lock(&self.keys).values().cloned().collect()
    }

    /// Every order that was answered as settled.
    pub fn answered(&self) -> Vec<(Uuid, String)> {
        let keys = lock(&self.keys);
        let answers = keys.values().filter_map(|asked| asked.answer.as_ref());
        answers.map(|answer| (answer.order, answer.status.to_owned())).collect()
    }

    /// The most that may be taken for each order that was answered, in the provider's unit.
    pub fn prices(&self) -> HashMap<String, i64> {
        let keys = lock(&self.keys);
        let prices = keys.values().filter_map(|asked| {
            let (order, amount) = (asked.answer.as_ref()?.order, asked.request.amount.as_ref()?);
            let units = if amount.currency_code == OTHER_UNIT { 100 } else { 1 };
            Some((order.to_string(), amount.minor_units * units))
        });
        prices.collect()
    }

    /// Every fix that was acknowledged.
    pub fn acknowledged_fixes(&self) -> Vec<(String, Timestamp)> {
        lock(&self.acknowledged_fixes).clone()
    }

    /// How many calls of each kind ended how, for people.
    pub fn outcomes(&self) -> String {
        let outcomes = lock(&self.outcomes);
        let mut lines: Vec<_> = outcomes.iter().map(|(name, count)| format!("{name}={count}")).collect();
        lines.sort();
        lines.join(" ")
    }

    /// So that people can read it to its end.
    pub fn flush(&self) {
        // What cannot be written is missing in the file, and nowhere else.
        let _ = lock(&self.file).flush();
    }

    fn read(&self, bytes: &[u8], request: &CreateOrderRequest) -> Option<Answered> {
        let order = CreateOrderResponse::decode(bytes).ok().and_then(|answer| answer.order);
        let known = order
            .as_ref()
            .and_then(|order| Some((order.order_id.parse().ok()?, order.status())));
        let driver = order.as_ref().and_then(|order| order.assignment.as_ref());
        let driver = driver.map(|assignment| assignment.driver_id.clone());
        let status = match known {
            Some((_, OrderStatus::Succeeded)) => "succeeded",
            Some((_, OrderStatus::Refunded)) => "refunded",
            Some((_, OrderStatus::Failed)) => "failed",
            _ => {
                let what = format!(
                    "an order of {} was answered and is not settled: {order:?}",
                    request.user_id
                );
                self.findings.add("M3", &what);
                return None;
            }
        };
        let sha256 = hex(&Sha256::digest(bytes));
        let order = known?.0;
        Some(Answered {
            order,
            status,
            sha256,
            driver,
        })
    }

    /// The same key: the same order, and the same bytes.
    fn compare(&self, request: &CreateOrderRequest, answer: &Answered) {
        let mut keys = lock(&self.keys);
        let Some(asked) = keys.get_mut(&key(request)) else {
            return;
        };
        let first = asked.answer.get_or_insert_with(|| answer.clone());
        let whose = format!("{}/{}", request.user_id, request.idempotency_key);
        if first.order != answer.order {
            let what = format!("{whose} made two orders: {} and {}", first.order, answer.order);
            self.findings.add("M5", &what);
        } else if first.sha256 != answer.sha256 {
            let what = format!(
                "{whose} got two answers about order {}: {first:?}, {answer:?}",
                answer.order
            );
            self.findings.add("M4", &what);
        }
    }

    fn count<T>(&self, call: &str, outcome: &Outcome<T>) {
        let name = format!("{call}:{}", outcome.code());
        *lock(&self.outcomes).entry(name).or_default() += 1;
        if outcome.is_shut_out() {
            let what = format!(
                "{call} of a caller with a good token: {}: {}",
                outcome.code(),
                outcome.message()
            );
            self.findings.add("X1", &what);
        }
    }

    fn write(&self, line: &serde_json::Value) {
        let mut file = lock(&self.file);
        let at_ms = Duration::as_millis(&self.started.elapsed());
        // As above.
        let _ = writeln!(file, "{{\"ms\":{at_ms},\"is\":{line}}}");
    }
}

fn key(request: &CreateOrderRequest) -> Key {
    (request.user_id.clone(), request.idempotency_key.clone())
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
