//! What goes wrong at the provider, and how often: a list of rules, of which the first that fits a request decides.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A way for a request that moves money to go wrong. Only these requests do; reads are always answered truly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// 402, the card is declined: a definite answer, saved under its key. Charges only.
    Decline,
    /// 429, nothing done, nothing saved.
    RateLimited,
    /// 409 as if the key were in use, nothing done, nothing saved.
    InProgress,
    /// 500, nothing done, nothing saved.
    ErrorBeforeEffect,
    /// 500, but the money has moved. The true answer is saved: the same key gets it.
    ErrorAfterEffect,
    /// 500, but the money has moved, and the 500 is saved: the same key gets it again, only a read tells the truth.
    ErrorAfterEffectSaved,
    /// No answer, ever, and nothing done. The connection stays open.
    Hang,
    /// No answer until the money moves, after `delay_ms`, whether the client has waited or not. Meanwhile the key is in
    /// use (409).
    LateSuccess,
    /// The money has moved, and the connection is closed without an answer. The true answer is saved.
    ReplyLost,
    /// The money has moved, and the answer is 200 with a page of HTML. The true answer is saved.
    Garbage,
    /// The money has moved, and the answer is 200 with another amount. The true answer is saved.
    WrongAmount,
    /// The money has moved, and the answer is 200 with another currency. The true answer is saved.
    WrongCurrency,
    /// The money has moved, and the answer is 200 with nothing in it. The true answer is saved.
    EmptyBody,
    /// The money has moved, and the answer comes at a byte a second. The true answer is saved.
    SlowBody,
    /// As usual, but `delay_ms` later; a client that hangs up before then has asked for nothing. It goes together with
    /// another fault.
    Latency,
}

impl FaultKind {
    const ALL: [FaultKind; 15] = [
        FaultKind::Decline,
        FaultKind::RateLimited,
        FaultKind::InProgress,
        FaultKind::ErrorBeforeEffect,
        FaultKind::ErrorAfterEffect,
        FaultKind::ErrorAfterEffectSaved,
        FaultKind::Hang,
        FaultKind::LateSuccess,
        FaultKind::ReplyLost,
        FaultKind::Garbage,
        FaultKind::WrongAmount,
        FaultKind::WrongCurrency,
        FaultKind::EmptyBody,
        FaultKind::SlowBody,
        FaultKind::Latency,
    ];

    fn waits(self) -> bool {
        matches!(self, FaultKind::LateSuccess | FaultKind::Latency)
    }
}

/// Which requests a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `POST /v1/payment_intents`.
    Charge,
    /// `POST /v1/refunds`.
    Refund,
    /// Both.
    Any,
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// For which requests.
    pub operation: Operation,
    /// For how many more of them; `None` is until cleared.
    pub times: Option<u64>,
    /// For which share of them, 0 to 1. Drawn from a fixed sequence: the same requests in the same order meet the same
    /// faults.
    pub probability: f64,
    /// How long [`FaultKind::LateSuccess`] and [`FaultKind::Latency`] wait, in milliseconds, at most ten minutes.
    pub delay_ms: u64,
}

const DELAY_MS_MAX: u64 = 600_000;
/// A list is a script of a test; one that is longer is a mistake.
const RULES_MAX: usize = 100;

impl Fault {
    /// Each request, until cleared.
    pub fn always(kind: FaultKind) -> Fault {
        Fault {
            kind,
            operation: Operation::Any,
            times: None,
            probability: 1.0,
            delay_ms: 0,
        }
    }

    /// The next `count` requests.
    pub fn times(kind: FaultKind, count: u64) -> Fault {
        Fault {
            times: Some(count),
            ..Fault::always(kind)
        }
    }

    /// Only for this operation.
    #[must_use]
    pub fn on(self, operation: Operation) -> Fault {
        Fault { operation, ..self }
    }

    /// Only for this share of the requests, 0 to 1.
    #[must_use]
    pub fn with_probability(self, probability: f64) -> Fault {
        Fault { probability, ..self }
    }

    /// With this delay, rounded down to milliseconds.
    #[must_use]
    pub fn delayed(self, delay: Duration) -> Fault {
        Fault {
            delay_ms: u64::try_from(delay.as_millis()).unwrap_or(DELAY_MS_MAX),
            ..self
        }
    }

    fn hits(&self, operation: Operation) -> bool {
        let asked = self.operation == Operation::Any || self.operation == operation;
        // A refund is not declined: the money is there, for it was charged.
        asked && (self.kind != FaultKind::Decline || operation == Operation::Charge)
    }
}

/// A rule of a `PUT` that cannot be: which field, and what it must be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadFault {
    pub field: String,
    pub must: String,
}

/// Reads one rule, or a list of them.
pub(super) fn parse(json: &Value) -> Result<Vec<Fault>, BadFault> {
    match json {
        Value::Object(rule) => Ok(vec![parse_rule(rule, "")?]),
        Value::Array(rules) if rules.len() <= RULES_MAX => rules
            .iter()
            .enumerate()
            .map(|(at, rule)| match rule {
                Value::Object(rule) => parse_rule(rule, &format!("[{at}].")),
                _ => Err(bad(&format!("[{at}]"), "must be an object with `kind`")),
            })
            .collect(),
        _ => Err(bad(
            "body",
            "must be a rule such as {\"kind\": \"decline\", \"times\": 1}, or a list of up to 100",
        )),
    }
}

fn parse_rule(rule: &Map<String, Value>, at: &str) -> Result<Fault, BadFault> {
    let bad = |field: &str, must: &str| bad(&format!("{at}{field}"), must);
    let fields = ["kind", "operation", "times", "probability", "delay_ms"];
    if let Some(unknown) = rule.keys().find(|name| !fields.contains(&name.as_str())) {
        return Err(bad(
            unknown,
            "is not a field of a rule: kind, operation, times, probability, delay_ms are",
        ));
    }
    // Null is as good as absent.
    let given = |name: &str| rule.get(name).filter(|value| !value.is_null());

    let kinds = || bad("kind", &format!("must be one of {}", serde_json::json!(FaultKind::ALL)));
    let kind = given("kind")
        .and_then(|value| FaultKind::deserialize(value).ok())
        .ok_or_else(kinds)?;
    let mut fault = Fault::always(kind);
    if let Some(value) = given("operation") {
        let operations = |_| bad("operation", "must be charge, refund or any");
        fault.operation = Operation::deserialize(value).map_err(operations)?;
    }
    if kind == FaultKind::Decline && fault.operation == Operation::Refund {
        return Err(bad("operation", "must be charge or any: a refund is not declined"));
    }
    if let Some(value) = given("times") {
        let count = value.as_u64().filter(|count| *count > 0);
        fault.times = Some(count.ok_or_else(|| bad("times", "must be a whole number from 1, or null"))?);
    }
    if let Some(value) = given("probability") {
        let share = value.as_f64().filter(|share| (0.0..=1.0).contains(share));
        fault.probability = share.ok_or_else(|| bad("probability", "must be a number from 0 to 1"))?;
    }
    if let Some(value) = given("delay_ms") {
        let delay = value.as_u64().filter(|delay| *delay <= DELAY_MS_MAX);
        fault.delay_ms = delay.ok_or_else(|| bad("delay_ms", "must be a whole number from 0 to 600000"))?;
    }
    match (kind.waits(), fault.delay_ms) {
        (true, 0) => Err(bad("delay_ms", "must be given for late_success and latency")),
        (false, 1..) => Err(bad("delay_ms", "is only for late_success and latency")),
        _ => Ok(fault),
    }
}

fn bad(field: &str, must: &str) -> BadFault {
    BadFault {
        field: field.to_owned(),
        must: must.to_owned(),
    }
}

/// What one request meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    /// Wait this long before anything.
    pub latency: Duration,
    /// Then this, with its delay.
    pub fault: Option<(FaultKind, Duration)>,
}

/// The rules that are set, with what is left of each.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    fault: Fault,
    /// How many requests it could have hit: the place in its sequence of draws.
    drawn: u64,
}

impl Faults {
    pub(super) fn set(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.rules = faults.into_iter().map(|fault| Rule { fault, drawn: 0 }).collect();
    }

    /// Those that can still hit.
    pub(super) fn left(&self) -> Vec<Fault> {
        self.rules.iter().map(|rule| rule.fault).collect()
    }

    /// Decides about one request: the first latency and the first other fault that hit it, each counted.
    pub(super) fn decide(&mut self, operation: Operation) -> Fate {
        let mut fate = Fate {
            latency: Duration::ZERO,
            fault: None,
        };
        for rule in &mut self.rules {
            let Fault { kind, delay_ms, .. } = rule.fault;
            let delay = Duration::from_millis(delay_ms);
            // Once its place is taken a rule is not asked: it must not be counted for a request that it spares.
            if kind == FaultKind::Latency {
                if fate.latency.is_zero() && rule.strikes(operation) {
                    fate.latency = delay;
                }
            } else if fate.fault.is_none() && rule.strikes(operation) {
                fate.fault = Some((kind, delay));
            }
        }
        self.rules.retain(|rule| rule.fault.times != Some(0));
        fate
    }
}

impl Rule {
    fn strikes(&mut self, operation: Operation) -> bool {
        if !self.fault.hits(operation) {
            return false;
        }
        self.drawn += 1;
        if draw(self.drawn) >= self.fault.probability {
            return false;
        }
        if let Some(left) = &mut self.fault.times {
            *left -= 1;
        }
        true
    }
}

/// The n-th number of a fixed sequence in [0, 1): `SplitMix64` (Steele, Lea, Flood 2014), its upper 53 bits.
fn draw(n: u64) -> f64 {
    let mut bits = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what an f64 holds")]
    let fraction = (bits >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_hits_as_often_as_it_says_and_only_its_operation() {
        let mut faults = Faults::default();
        faults.set([Fault::times(FaultKind::ReplyLost, 2).on(Operation::Refund)]);
        let met = [
            Operation::Charge,
            Operation::Refund,
            Operation::Refund,
            Operation::Refund,
        ]
        .map(|operation| faults.decide(operation).fault.is_some());
        assert_eq!(met, [false, true, true, false]);
        assert!(faults.left().is_empty());
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_latency_goes_with_it() {
        let mut faults = Faults::default();
        let slow = Fault::always(FaultKind::Latency).delayed(Duration::from_millis(5));
        faults.set([
            slow,
            Fault::times(FaultKind::Decline, 1),
            Fault::always(FaultKind::RateLimited),
        ]);
        let latency = Duration::from_millis(5);
        let fate = |kind| Fate {
            latency,
            fault: Some((kind, Duration::ZERO)),
        };
        assert_eq!(
            faults.decide(Operation::Refund),
            fate(FaultKind::RateLimited),
            "a refund is not declined"
        );
        assert_eq!(faults.decide(Operation::Charge), fate(FaultKind::Decline));
        assert_eq!(faults.decide(Operation::Charge), fate(FaultKind::RateLimited));
    }

    #[test]
    fn a_share_of_the_requests_is_hit_and_the_same_ones_each_time() {
        let run = || {
            let mut faults = Faults::default();
            faults.set([Fault::always(FaultKind::Decline).with_probability(0.25)]);
            (0..10_000)
                .map(|_| faults.decide(Operation::Charge).fault.is_some())
                .collect::<Vec<_>>()
        };
        let hits = run().iter().filter(|hit| **hit).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert_eq!(run(), run());
    }

    #[test]
    fn a_bad_rule_is_refused_by_the_name_of_its_field() {
        let refused = |json: Value| parse(&json).unwrap_err().field;
        assert_eq!(refused(json!("decline")), "body");
        assert_eq!(refused(json!({})), "kind");
        assert_eq!(refused(json!({"kind": "explode"})), "kind");
        assert_eq!(refused(json!({"kind": "decline", "operation": "refunds"})), "operation");
        assert_eq!(refused(json!({"kind": "decline", "operation": "refund"})), "operation");
        assert_eq!(refused(json!({"kind": "decline", "times": -1})), "times");
        assert_eq!(refused(json!({"kind": "decline", "times": 0})), "times");
        assert_eq!(refused(json!({"kind": "decline", "probability": 1.5})), "probability");
        assert_eq!(refused(json!({"kind": "decline", "delay_ms": 10})), "delay_ms");
        assert_eq!(refused(json!({"kind": "latency"})), "delay_ms");
        assert_eq!(refused(json!({"kind": "decline", "time": 1})), "time");
        assert_eq!(refused(json!([{"kind": "decline"}, {"kind": 7}])), "[1].kind");
        assert_eq!(refused(json!([3])), "[0]");
    }

    #[test]
    fn what_is_read_back_can_be_set_again() {
        for kind in FaultKind::ALL {
            let delay = Duration::from_millis(u64::from(kind.waits()));
            let fault = Fault::times(kind, 3).with_probability(0.5).delayed(delay);
            assert_eq!(parse(&json!([fault])).unwrap(), [fault]);
        }
        assert_eq!(
            parse(&json!({"kind": "hang", "times": null})).unwrap(),
            [Fault::always(FaultKind::Hang)]
        );
    }
}
