//! What goes wrong at the provider, and how often: a list of faults, of which the first that fits a request decides.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A way for a request to go wrong. Of reads only lists go wrong, and only before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// 402, the card is declined: a definite answer, saved under its key. Charges, and captures if they are named.
    Decline,
    /// The refund is made, and is pending until the sandbox settles it or lets it fail. Refunds only.
    RefundPending,
    /// 429, nothing done, nothing saved.
    RateLimited,
    /// 400 for a reason that has nothing to do with this payment: the account may not use the kind of payment method.
    /// Nothing done, nothing saved.
    Rejected,
    /// 409 as if the key were in use, nothing done, nothing saved.
    InProgress,
    /// 500, nothing done, nothing saved.
    ErrorBeforeEffect,
    /// 500, but the money has moved. The true answer is saved: the same key gets it.
    ErrorAfterEffect,
    /// 500, but the money has moved, and the 500 is saved: the same key gets it again, only a read shows the truth.
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
    /// As usual, but `delay_ms` later; if the client hangs up before then, nothing is done. It is combined with another
    /// fault.
    Latency,
}

impl FaultKind {
    const ALL: [FaultKind; 17] = [
        FaultKind::Decline,
        FaultKind::RefundPending,
        FaultKind::RateLimited,
        FaultKind::Rejected,
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

    fn may_hit_lists(self) -> bool {
        matches!(self, FaultKind::RateLimited | FaultKind::ErrorBeforeEffect)
    }

    fn waits(self) -> bool {
        matches!(self, FaultKind::LateSuccess | FaultKind::Latency)
    }

    /// Whether it can hit this operation, of a fault that is for `named`.
    fn may_hit(self, operation: FaultTarget, named: FaultTarget) -> bool {
        match self {
            // For the other operations the money is there, and a capture is rarely declined.
            FaultKind::Decline if named == FaultTarget::Capture => operation == FaultTarget::Capture,
            FaultKind::Decline => operation == FaultTarget::Charge,
            FaultKind::RefundPending => operation == FaultTarget::Refund,
            _ => true,
        }
    }
}

/// Which requests a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultTarget {
    /// `POST /v1/payment_intents`, holds too.
    Charge,
    /// `POST /v1/payment_intents/{id}/capture`.
    Capture,
    /// `POST /v1/payment_intents/{id}/cancel`.
    Cancel,
    /// `POST /v1/refunds`.
    Refund,
    /// All of them.
    Any,
    /// A page of any list. Only [`FaultKind::RateLimited`] and [`FaultKind::ErrorBeforeEffect`].
    List,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// For which requests.
    pub operation: FaultTarget,
    /// For how many more of them; `None` is until cleared.
    pub times: Option<u64>,
    /// For which share of them, 0 to 1. Drawn from a fixed sequence: the same requests in the same order get the same
    /// faults.
    pub probability: f64,
    /// How long [`FaultKind::LateSuccess`] and [`FaultKind::Latency`] wait, in milliseconds, at most ten minutes.
    pub delay_ms: u64,
}

const DELAY_MS_MAX: u64 = 600_000;
/// A list is written by a test; one that is longer is a mistake.
const FAULTS_MAX: usize = 100;

impl Fault {
    /// Each request, until cleared.
    pub fn always(kind: FaultKind) -> Fault {
        Fault {
            kind,
            operation: FaultTarget::Any,
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
    pub fn on(self, operation: FaultTarget) -> Fault {
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

    fn fits(&self, operation: FaultTarget) -> bool {
        if operation == FaultTarget::List || self.operation == FaultTarget::List {
            return operation == self.operation && self.kind.may_hit_lists();
        }
        let targeted = self.operation == FaultTarget::Any || self.operation == operation;
        targeted && self.kind.may_hit(operation, self.operation)
    }
}

/// An invalid fault in a `PUT`: which field, and what it must be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidFault {
    pub field: String,
    pub must: String,
}

/// Parses one fault, or a list of them.
pub(super) fn parse(json: &Value) -> Result<Vec<Fault>, InvalidFault> {
    match json {
        Value::Object(fields) => Ok(vec![parse_fault(fields, "")?]),
        Value::Array(faults) if faults.len() <= FAULTS_MAX => faults
            .iter()
            .enumerate()
            .map(|(at, fault)| match fault {
                Value::Object(fields) => parse_fault(fields, &format!("[{at}].")),
                _ => Err(invalid(&format!("[{at}]"), "must be an object with `kind`")),
            })
            .collect(),
        _ => {
            let must = r#"must be a fault such as {"kind": "decline", "times": 1}, or a list of up to 100"#;
            Err(invalid("body", must))
        }
    }
}

fn parse_fault(fields: &Map<String, Value>, at: &str) -> Result<Fault, InvalidFault> {
    let invalid = |field: &str, must: &str| invalid(&format!("{at}{field}"), must);
    let known = ["kind", "operation", "times", "probability", "delay_ms"];
    if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        let must = "is not a field of a fault: use kind, operation, times, probability, delay_ms";
        return Err(invalid(unknown, must));
    }
    // Null is as good as absent.
    let get = |name: &str| fields.get(name).filter(|value| !value.is_null());

    let kinds = || invalid("kind", &format!("must be one of {}", serde_json::json!(FaultKind::ALL)));
    let kind = get("kind")
        .and_then(|value| FaultKind::deserialize(value).ok())
        .ok_or_else(kinds)?;
    let mut fault = Fault::always(kind);
    if let Some(value) = get("operation") {
        let operations = |_| invalid("operation", "must be charge, capture, cancel, refund, any or list");
        fault.operation = FaultTarget::deserialize(value).map_err(operations)?;
    }
    if fault.operation != FaultTarget::Any && !kind.may_hit(fault.operation, fault.operation) {
        return Err(invalid(
            "operation",
            "must be any, charge or capture for decline, any or refund for refund_pending",
        ));
    }
    if fault.operation == FaultTarget::List && !kind.may_hit_lists() {
        return Err(invalid(
            "operation",
            "can be list only for rate_limited and error_before_effect",
        ));
    }
    if let Some(value) = get("times") {
        let count = value.as_u64().filter(|count| *count > 0);
        fault.times = Some(count.ok_or_else(|| invalid("times", "must be a whole number from 1, or null"))?);
    }
    if let Some(value) = get("probability") {
        let share = value.as_f64().filter(|share| (0.0..=1.0).contains(share));
        fault.probability = share.ok_or_else(|| invalid("probability", "must be a number from 0 to 1"))?;
    }
    if let Some(value) = get("delay_ms") {
        let delay = value.as_u64().filter(|delay| *delay <= DELAY_MS_MAX);
        fault.delay_ms = delay.ok_or_else(|| invalid("delay_ms", "must be a whole number from 0 to 600000"))?;
    }
    match (kind.waits(), fault.delay_ms) {
        (true, 0) => Err(invalid("delay_ms", "must be given for late_success and latency")),
        (false, 1..) => Err(invalid("delay_ms", "is only for late_success and latency")),
        _ => Ok(fault),
    }
}

fn invalid(field: &str, must: &str) -> InvalidFault {
    InvalidFault {
        field: field.to_owned(),
        must: must.to_owned(),
    }
}

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FaultDecision {
    /// Wait this long before anything else.
    pub latency: Duration,
    /// Then this, with its delay.
    pub fault: Option<(FaultKind, Duration)>,
}

/// The faults that are set, with what is left of each.
#[derive(Debug, Default)]
pub(super) struct Faults {
    set: Vec<SetFault>,
}

#[derive(Debug)]
struct SetFault {
    fault: Fault,
    /// How many requests it could have hit: the place in its sequence of draws.
    drawn: u64,
}

impl Faults {
    pub(super) fn set(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.set = faults.into_iter().map(|fault| SetFault { fault, drawn: 0 }).collect();
    }

    /// Those that can still hit.
    pub(super) fn remaining(&self) -> Vec<Fault> {
        self.set.iter().map(|set| set.fault).collect()
    }

    /// Decides about one request: the first latency and the first other fault that hit it, each counted.
    pub(super) fn decide(&mut self, operation: FaultTarget) -> FaultDecision {
        let mut decision = FaultDecision::default();
        for set in &mut self.set {
            let Fault { kind, delay_ms, .. } = set.fault;
            let delay = Duration::from_millis(delay_ms);
            // Once its place in the decision is taken, a fault must not be counted for the request.
            if kind == FaultKind::Latency {
                if decision.latency.is_zero() && set.hits(operation) {
                    decision.latency = delay;
                }
            } else if decision.fault.is_none() && set.hits(operation) {
                decision.fault = Some((kind, delay));
            }
        }
        self.set.retain(|set| set.fault.times != Some(0));
        decision
    }
}

impl SetFault {
    fn hits(&mut self, operation: FaultTarget) -> bool {
        if !self.fault.fits(operation) {
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
    fn a_fault_hits_as_often_as_it_is_set_for_and_only_its_operation() {
        let mut faults = Faults::default();
        faults.set([Fault::times(FaultKind::ReplyLost, 2).on(FaultTarget::Refund)]);
        let refund = FaultTarget::Refund;
        let hits =
            [FaultTarget::Charge, refund, refund, refund].map(|operation| faults.decide(operation).fault.is_some());
        assert_eq!(hits, [false, true, true, false]);
        assert!(faults.remaining().is_empty());
    }

    #[test]
    fn the_first_fault_that_fits_decides_and_latency_is_combined_with_it() {
        let mut faults = Faults::default();
        let latency = Duration::from_millis(5);
        faults.set([
            Fault::always(FaultKind::Latency).delayed(latency),
            Fault::times(FaultKind::Decline, 1),
            Fault::always(FaultKind::RateLimited),
        ]);
        let decision = |kind| FaultDecision {
            latency,
            fault: Some((kind, Duration::ZERO)),
        };
        assert_eq!(
            faults.decide(FaultTarget::Refund),
            decision(FaultKind::RateLimited),
            "a refund is not declined"
        );
        assert_eq!(faults.decide(FaultTarget::Charge), decision(FaultKind::Decline));
        assert_eq!(faults.decide(FaultTarget::Charge), decision(FaultKind::RateLimited));
    }

    #[test]
    fn a_share_of_the_requests_is_hit_and_the_same_requests_each_time() {
        let run = || {
            let mut faults = Faults::default();
            faults.set([Fault::always(FaultKind::Decline).with_probability(0.25)]);
            (0..10_000)
                .map(|_| faults.decide(FaultTarget::Charge).fault.is_some())
                .collect::<Vec<_>>()
        };
        let hits = run().iter().filter(|hit| **hit).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
        assert_eq!(run(), run());
    }

    #[test]
    fn an_invalid_fault_is_refused_by_the_name_of_its_field() {
        for (json, field) in [
            (json!("decline"), "body"),
            (json!({}), "kind"),
            (json!({"kind": "explode"}), "kind"),
            (json!({"kind": "decline", "operation": "refunds"}), "operation"),
            (json!({"kind": "decline", "operation": "refund"}), "operation"),
            (json!({"kind": "hang", "operation": "list"}), "operation"),
            (json!({"kind": "decline", "times": -1}), "times"),
            (json!({"kind": "decline", "times": 0}), "times"),
            (json!({"kind": "decline", "probability": 1.5}), "probability"),
            (json!({"kind": "decline", "delay_ms": 10}), "delay_ms"),
            (json!({"kind": "latency"}), "delay_ms"),
            (json!({"kind": "decline", "time": 1}), "time"),
            (json!([{"kind": "decline"}, {"kind": 7}]), "[1].kind"),
            (json!([3]), "[0]"),
        ] {
            assert_eq!(parse(&json).unwrap_err().field, field, "{json}");
        }
    }

    #[test]
    fn faults_that_are_read_back_can_be_set_again() {
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
