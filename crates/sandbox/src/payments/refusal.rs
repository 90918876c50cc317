//! Stripe's error answers (<https://docs.stripe.com/api/errors>).

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::objects::Intent;
use super::reply::Reply;

/// An answer other than success: an HTTP status, and the object under `error`.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    error: Value,
}

impl Refusal {
    /// A parameter that is missing or wrong: 400.
    pub(super) fn parameter(code: &str, param: &str, message: &str) -> Refusal {
        let error = json!({ "type": "invalid_request_error", "code": code, "param": param, "message": message });
        Refusal {
            status: StatusCode::BAD_REQUEST,
            error,
        }
    }

    /// A request that makes no sense as a whole: 400.
    pub(super) fn request(message: &str) -> Refusal {
        Refusal {
            status: StatusCode::BAD_REQUEST,
            error: json!({ "type": "invalid_request_error", "message": message }),
        }
    }

    /// 400 with a code of its own.
    pub(super) fn state(code: &str, message: &str) -> Refusal {
        let error = json!({ "type": "invalid_request_error", "code": code, "message": message });
        Refusal {
            status: StatusCode::BAD_REQUEST,
            error,
        }
    }

    /// No such object: 404.
    pub(super) fn missing(kind: &str, param: &str, id: &str) -> Refusal {
        let message = format!("No such {kind}: '{id}'");
        let error =
            json!({ "type": "invalid_request_error", "code": "resource_missing", "param": param, "message": message });
        Refusal {
            status: StatusCode::NOT_FOUND,
            error,
        }
    }

    /// No such path or method: 404.
    pub(super) fn unrecognized(method: &str, path: &str) -> Refusal {
        let message = format!("Unrecognized request URL ({method}: {path}).");
        Refusal {
            status: StatusCode::NOT_FOUND,
            error: json!({ "type": "invalid_request_error", "message": message }),
        }
    }

    /// 401. The key is not repeated, not even in part.
    pub(super) fn unauthorized() -> Refusal {
        let message = "Invalid API Key provided: the sandbox takes any key that begins with sk_test_.";
        Refusal {
            status: StatusCode::UNAUTHORIZED,
            error: json!({ "type": "invalid_request_error", "message": message }),
        }
    }

    /// The same key with other parameters: 400.
    pub(super) fn key_reused() -> Refusal {
        let message = "Keys for idempotent requests can only be used with the same parameters they were first used \
                       with. Try using a different key if you meant to execute a different request.";
        Refusal {
            status: StatusCode::BAD_REQUEST,
            error: json!({ "type": "idempotency_error", "message": message }),
        }
    }

    /// The same key while the first request runs: 409.
    pub(super) fn key_in_use() -> Refusal {
        let message = "There is currently another in-progress request using this idempotency key. Please try again \
                       later.";
        let error = json!({ "type": "idempotency_error", "code": "idempotency_key_in_use", "message": message });
        Refusal {
            status: StatusCode::CONFLICT,
            error,
        }
    }

    /// 429.
    pub(super) fn rate_limited() -> Refusal {
        let message = "Request rate limit exceeded. Please retry with exponential backoff.";
        let error = json!({ "type": "invalid_request_error", "code": "rate_limit", "message": message });
        Refusal {
            status: StatusCode::TOO_MANY_REQUESTS,
            error,
        }
    }

    /// 500.
    pub(super) fn server_error() -> Refusal {
        let message = "An unknown error occurred.";
        Refusal {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            error: json!({ "type": "api_error", "message": message }),
        }
    }

    /// The card was declined: 402, with the intent that records it.
    pub(super) fn declined(intent: &Intent) -> Refusal {
        let mut error = intent.decline_json();
        if let Some(fields) = error.as_object_mut() {
            fields.insert("payment_intent".to_owned(), intent.to_json());
        }
        Refusal {
            status: StatusCode::PAYMENT_REQUIRED,
            error,
        }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        Reply::new(refusal.status, &json!({ "error": refusal.error }))
    }
}

impl axum::response::IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        Reply::from(self).into_response()
    }
}
