//! Whether to send this process work, and if not, why: what it depends on is asked each time.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use tokio_util::sync::CancellationToken;

/// How long one probe may take. A store that needs longer for a ping is not one to send work to.
const PROBE_TIME_MAX: Duration = Duration::from_millis(500);

/// A question that is asked each time, such as a ping of a store.
pub struct Probe {
    name: Cow<'static, str>,
    check: Box<dyn Fn() -> BoxFuture<'static, ProbeOutcome> + Send + Sync>,
}

/// What a probe found. The texts are one sentence each, for people, without the name of the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// It works.
    Ok,
    /// It works, and an operator should change this.
    Warning(String),
    /// It does not work, for this reason.
    Failed(String),
}

/// The probes, and whether the process is on its way out.
#[derive(Debug)]
pub struct Readiness {
    probes: Vec<Probe>,
    draining: CancellationToken,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// Of all together.
    pub status: Status,
    /// Of each probe, in their order.
    pub checks: Vec<(Cow<'static, str>, ProbeOutcome)>,
}

/// Whether to send this process work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Yes.
    Ready,
    /// No: something that it depends on does not work.
    NotReady,
    /// No: it is on its way out.
    Draining,
}

impl Status {
    /// Its name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ready => "ready",
            Status::NotReady => "not ready",
            Status::Draining => "draining",
        }
    }
}

impl Probe {
    /// A probe called `name`, such as "redis". `check` has 500 ms, then it is dropped.
    pub fn new<F>(name: impl Into<Cow<'static, str>>, check: impl Fn() -> F + Send + Sync + 'static) -> Probe
    where
        F: Future<Output = ProbeOutcome> + Send + 'static,
    {
        Probe {
            name: name.into(),
            check: Box::new(move || check().boxed()),
        }
    }

    async fn outcome(&self) -> ProbeOutcome {
        let in_time = tokio::time::timeout(PROBE_TIME_MAX, (self.check)()).await;
        in_time.unwrap_or_else(|_| ProbeOutcome::Failed(format!("no answer within {} ms", PROBE_TIME_MAX.as_millis())))
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probe").field(&self.name).finish()
    }
}

impl From<Result<(), String>> for ProbeOutcome {
    fn from(result: Result<(), String>) -> ProbeOutcome {
        result.map_or_else(ProbeOutcome::Failed, |()| ProbeOutcome::Ok)
    }
}

impl Readiness {
    /// Ready when every probe is, until `draining` is cancelled.
    pub fn new(probes: Vec<Probe>, draining: CancellationToken) -> Readiness {
        Readiness { probes, draining }
    }

    /// Asks every probe.
    pub async fn report(&self) -> Report {
        let outcomes = join_all(self.probes.iter().map(Probe::outcome)).await;
        let has_failed = outcomes
            .iter()
            .any(|outcome| matches!(outcome, ProbeOutcome::Failed(_)));
        let status = match (self.draining.is_cancelled(), has_failed) {
            (true, _) => Status::Draining,
            (false, true) => Status::NotReady,
            (false, false) => Status::Ready,
        };
        let names = self.probes.iter().map(|probe| probe.name.clone());
        Report {
            status,
            checks: names.zip(outcomes).collect(),
        }
    }
}
