//! Stripe's error answers (<https://docs.stripe.com/api/errors>).

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::objects::PaymentIntent;
use super::reply::Reply;

/// An answer other than success: an HTTP status, and the object under `error`.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    error: Value,
    is_saved: bool,
}

impl ApiError {
    fn new(status: StatusCode, kind: &str, message: &str) -> ApiError {
        let error = json!({ "type": kind, "message": message });
        ApiError {
            status,
            error,
            is_saved: false,
        }
    }

    /// A refusal for the state of a payment: 400. The request was executed, so this is its answer, and its key keeps it
    /// (<https://docs.stripe.com/error-low-level#content-errors>).
    pub(super) fn state(message: &str) -> ApiError {
        ApiError {
            is_saved: true,
            ..ApiError::request(message)
        }
    }

    /// Whether the same key gets it again.
    pub(super) fn is_saved(&self) -> bool {
        self.is_saved
    }

    /// What it says to people.
    pub(super) fn message(&self) -> &str {
        self.error.get("message").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn with(mut self, field: &str, value: impl Into<Value>) -> ApiError {
        if let Some(error) = self.error.as_object_mut() {
            error.insert(field.to_owned(), value.into());
        }
        self
    }

    /// A request that makes no sense as a whole: 400.
    pub(super) fn request(message: &str) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// A parameter that is missing or wrong: 400.
    pub(super) fn parameter(code: &str, param: &str, message: &str) -> ApiError {
        ApiError::request(message).with("code", code).with("param", param)
    }

    /// A parameter that the request does not have: 400.
    pub(super) fn unknown_parameter(name: &str) -> ApiError {
        let message = format!("Received unknown parameter: {name}");
        ApiError::parameter("parameter_unknown", name, &message)
    }

    /// The payment is in a state in which this cannot be done, with the payment: 400.
    pub(super) fn unexpected_state(intent: &PaymentIntent, message: &str) -> ApiError {
        ApiError::state(message)
            .with("code", "payment_intent_unexpected_state")
            .with("payment_intent", intent.to_json())
    }

    /// More than is held, as in <https://github.com/Automattic/woocommerce-payments/issues/7029>: 400, without a parameter.
    pub(super) fn capture_too_large(intent: &PaymentIntent) -> ApiError {
        let message = "The payment could not be captured because the requested capture amount is greater than the amount \
                       you can capture for this charge.";
        ApiError::state(message)
            .with("code", "amount_too_large")
            .with("payment_intent", intent.to_json())
    }

    /// More than is left of a charge: 400. Stripe has no code for it, as in
    /// <https://github.com/reactioncommerce/reaction/issues/3704> and
    /// <https://github.com/hackerai-tech/hackerai/pull/939>; its text writes the amounts with the sign of the currency.
    pub(super) fn refund_too_large(amount: i64, left: i64) -> ApiError {
        let message = format!("Refund amount ({amount}) is greater than unrefunded amount on charge ({left})");
        ApiError::state(&message).with("param", "amount")
    }

    /// The bank has the money of a charge (<https://docs.stripe.com/error-codes#charge-disputed>): 400.
    pub(super) fn disputed(charge: &str) -> ApiError {
        let message = format!("Charge {charge} has been charged back; cannot issue a refund.");
        ApiError::state(&message).with("code", "charge_disputed")
    }

    /// All of a charge was refunded before: 400.
    pub(super) fn already_refunded(charge: &str) -> ApiError {
        let message = format!("Charge {charge} has already been refunded.");
        ApiError::state(&message).with("code", "charge_already_refunded")
    }

    /// No such object: 404.
    pub(super) fn not_found(kind: &str, param: &str, id: &str) -> ApiError {
        let message = format!("No such {kind}: '{id}'");
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", &message)
            .with("code", "resource_missing")
            .with("param", param)
    }

    /// A parameter names an object that does not exist: 400.
    pub(super) fn missing(param: &str, id: &str) -> ApiError {
        let kind = if param == "customer" {
            "customer"
        } else {
            "PaymentMethod"
        };
        ApiError::parameter("resource_missing", param, &format!("No such {kind}: '{id}'"))
    }

    /// A page of charges begins after one that does not exist: 400.
    pub(super) fn missing_charge(id: &str) -> ApiError {
        ApiError::parameter("resource_missing", "starting_after", &format!("No such charge: '{id}'"))
    }

    /// No such path or method: 404.
    pub(super) fn unrecognized(method: &str, path: &str) -> ApiError {
        let message = format!("Unrecognized request URL ({method}: {path}).");
        ApiError::new(StatusCode::NOT_FOUND, "invalid_request_error", &message)
    }

    /// 401. The key is not repeated, not even in part.
    pub(super) fn unauthorized() -> ApiError {
        let message = "Invalid API Key provided: the sandbox accepts any key that begins with sk_test_.";
        ApiError::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message)
    }

    /// The same key with other parameters: 400.
    pub(super) fn key_reused() -> ApiError {
        let message = "Keys for idempotent requests can only be used with the same parameters they were first used \
                       with. Try using a different key to execute a different request.";
        ApiError::new(StatusCode::BAD_REQUEST, "idempotency_error", message)
    }

    /// The same key while the first request runs: 409.
    pub(super) fn key_in_use() -> ApiError {
        let message = "There is currently another in-progress request using this idempotency key. Please try again \
                       later.";
        ApiError::new(StatusCode::CONFLICT, "idempotency_error", message).with("code", "idempotency_key_in_use")
    }

    /// 429.
    pub(super) fn rate_limited() -> ApiError {
        let message = "Request rate limit exceeded. Please retry with exponential backoff.";
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "invalid_request_error", message).with("code", "rate_limit")
    }

    /// The account may not use this kind of payment method: 400.
    pub(super) fn not_activated() -> ApiError {
        let message = "The payment method type provided: card is invalid. Please ensure the provided type is activated in \
                       your dashboard.";
        ApiError::parameter("payment_intent_invalid_parameter", "payment_method_types", message)
    }

    /// 500.
    pub(super) fn server_error() -> ApiError {
        let message = "An unknown error occurred.";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "api_error", message)
    }

    /// The card's network refuses the capture of a hold that stands: 402.
    pub(super) fn capture_declined() -> ApiError {
        let declined = ApiError::new(StatusCode::PAYMENT_REQUIRED, "card_error", "Your card was declined.");
        ApiError {
            is_saved: true,
            ..declined
                .with("code", "card_declined")
                .with("decline_code", "generic_decline")
        }
    }

    /// The card was declined: 402, with the intent that records it.
    pub(super) fn declined(intent: &PaymentIntent) -> ApiError {
        let error = intent.decline_json();
        let declined = ApiError {
            status: StatusCode::PAYMENT_REQUIRED,
            error,
            is_saved: true,
        };
        declined.with("payment_intent", intent.to_json())
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Reply {
        Reply::new(error.status, &json!({ "error": error.error }))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        Reply::from(self).into_response()
    }
}
