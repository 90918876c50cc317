//! `/readyz`: whether to send this process work, and if not, why.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use crate::readiness::{ProbeOutcome, Readiness, Report, Status};

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    status: &'static str,
    checks: BTreeMap<Cow<'static, str>, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

pub(super) async fn readyz(State(readiness): State<Arc<Readiness>>) -> (StatusCode, Json<Answer>) {
    let report = readiness.report().await;
    let code = match report.status {
        Status::Ready => StatusCode::OK,
        Status::NotReady | Status::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(Answer::of(report)))
}

impl Answer {
    fn of(report: Report) -> Answer {
        let mut answer = Answer {
            status: report.status.as_str(),
            checks: BTreeMap::new(),
            warnings: Vec::new(),
        };
        for (name, outcome) in report.checks {
            let check = match outcome {
                ProbeOutcome::Ok => "ok".to_owned(),
                ProbeOutcome::Warning(text) => {
                    answer.warnings.push(format!("{name}: {text}"));
                    "ok".to_owned()
                }
                ProbeOutcome::Failed(reason) => reason,
            };
            answer.checks.insert(name, check);
        }
        answer
    }
}
