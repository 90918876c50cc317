//! `/readyz`: whether to send this process work, and if not, why.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// How long one probe may take. A store that needs longer for a ping is not one to send work to.
const PROBE_TIME_MAX: Duration = Duration::from_millis(500);

/// A question that `/readyz` asks each time, such as a ping of a store.
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

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    status: &'static str,
    checks: BTreeMap<Cow<'static, str>, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
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

    async fn report(&self) -> Report {
        let outcomes = join_all(self.probes.iter().map(Probe::outcome)).await;
        let mut report = Report {
            status: "ready",
            checks: BTreeMap::new(),
            warnings: Vec::new(),
        };
        for (probe, outcome) in self.probes.iter().zip(outcomes) {
            let check = match outcome {
                ProbeOutcome::Ok => "ok".to_owned(),
                ProbeOutcome::Warning(text) => {
                    report.warnings.push(format!("{}: {text}", probe.name));
                    "ok".to_owned()
                }
                ProbeOutcome::Failed(reason) => {
                    report.status = "not ready";
                    reason
                }
            };
            report.checks.insert(probe.name.clone(), check);
        }
        if self.draining.is_cancelled() {
            report.status = "draining";
        }
        report
    }
}

pub(super) async fn readyz(State(readiness): State<Arc<Readiness>>) -> (StatusCode, Json<Report>) {
    let report = readiness.report().await;
    let code = if report.status == "ready" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(report))
}
