//! What a client asks for: its account, its idempotency key, and a form that is parsed once and is valid from then on.
//! Unknown parameters are refused, as Stripe does: a typing error must not pass unnoticed.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;

use super::api_error::ApiError;
use super::currencies;
use super::objects::{CardOutcome, PaymentIntent, Refund, RefundState, new_id};

/// The parameters of a form, in the order in which they came.
pub(super) type Form = Vec<(String, String)>;

// Stripe's limits.
const KEY_LENGTH_MAX: usize = 255;
const DESCRIPTOR_MAX: usize = 22;
const METADATA_MAX: usize = 50;
const METADATA_NAME_MAX: usize = 40;
const METADATA_VALUE_MAX: usize = 500;
const PAGE_MAX: usize = 100;
const PAGE_DEFAULT: usize = 10;

/// A request that moves money.
#[derive(Clone, Debug)]
pub(super) struct PaymentRequest {
    pub api_key: String,
    /// The `Idempotency-Key`, if there is one.
    pub key: Option<String>,
    /// Path and parameters in a fixed order: equal for equal requests, and for no others.
    pub fingerprint: String,
    pub action: Action,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Charge(ChargeRequest),
    Capture(CaptureRequest),
    Cancel(CancelRequest),
    Refund(RefundRequest),
}

/// `POST /v1/payment_intents`.
#[derive(Clone, Debug)]
pub(super) struct ChargeRequest {
    pub amount: i64,
    pub currency: String,
    /// Empty until a payment method is given.
    pub payment_method: String,
    pub customer: Option<String>,
    pub is_confirmed: bool,
    /// The money is held, to be captured by another request.
    pub is_manual: bool,
    pub transfer_group: Option<String>,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

/// `POST /v1/payment_intents/{id}/capture` (<https://docs.stripe.com/api/payment_intents/capture>).
#[derive(Clone, Debug)]
pub(super) struct CaptureRequest {
    pub payment_intent: String,
    /// All that is held if not given.
    pub amount: Option<i64>,
    pub metadata: BTreeMap<String, String>,
}

/// `POST /v1/payment_intents/{id}/cancel` (<https://docs.stripe.com/api/payment_intents/cancel>).
#[derive(Clone, Debug)]
pub(super) struct CancelRequest {
    pub payment_intent: String,
    pub reason: Option<String>,
}

/// `POST /v1/refunds`.
#[derive(Clone, Debug)]
pub(super) struct RefundRequest {
    pub payment_intent: String,
    /// All that is left if not given.
    pub amount: Option<i64>,
    pub reason: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

impl PaymentRequest {
    pub(super) fn new(
        api_key: String,
        headers: &HeaderMap,
        path: &str,
        mut form: Form,
        parse: impl FnOnce(&Form) -> Result<Action, ApiError>,
    ) -> Result<PaymentRequest, ApiError> {
        let key = idempotency_key(headers)?;
        let action = parse(&form)?;
        form.sort();
        let fingerprint = serde_json::json!([path, form]).to_string();
        Ok(PaymentRequest {
            api_key,
            key,
            fingerprint,
            action,
        })
    }

    /// Under which its answer is saved.
    pub(super) fn account_key(&self) -> Option<(String, String)> {
        let key = self.key.clone()?;
        Some((self.api_key.clone(), key))
    }
}

impl ChargeRequest {
    pub(super) fn parse(form: &Form) -> Result<ChargeRequest, ApiError> {
        let ignored = [
            "automatic_payment_methods[enabled]",
            "automatic_payment_methods[allow_redirects]",
            "payment_method_types[]",
            // No test card here requires its holder to act, so this changes nothing.
            "error_on_requires_action",
        ];
        let known = [
            "amount",
            "currency",
            "payment_method",
            "customer",
            "confirm",
            "capture_method",
            "off_session",
            "description",
            "statement_descriptor_suffix",
            "transfer_group",
        ];
        refuse_unknown(form, &[&known[..], &ignored].concat())?;
        let currency = required(form, "currency")?;
        let amount = parse_amount("amount", required(form, "amount")?)?;
        currencies::check_charge(amount, currency)?;
        // Not confirmed, it is a payment that waits for a payment method; the sandbox has no separate confirmation.
        let is_confirmed = get(form, "confirm") == Some("true");
        let payment_method = match get(form, "payment_method") {
            Some(payment_method) => payment_method,
            None if is_confirmed => required(form, "payment_method")?,
            None => "",
        };
        if get(form, "off_session") == Some("true") && !is_confirmed {
            let message = "off_session can only be used with confirm=true.";
            return Err(ApiError::parameter("parameter_invalid", "off_session", message));
        }
        let capture_method = get(form, "capture_method").unwrap_or("automatic");
        if !["automatic", "automatic_async", "manual"].contains(&capture_method) {
            let message = "Invalid capture_method: must be one of automatic, automatic_async, or manual";
            return Err(ApiError::parameter("parameter_invalid", "capture_method", message));
        }
        let suffix = get(form, "statement_descriptor_suffix").unwrap_or("Suffix");
        if suffix.len() > DESCRIPTOR_MAX || !suffix.contains(|letter: char| letter.is_ascii_alphabetic()) {
            let message = "The statement descriptor suffix must have a letter and at most 22 characters.";
            return Err(ApiError::parameter(
                "parameter_invalid",
                "statement_descriptor_suffix",
                message,
            ));
        }
        Ok(ChargeRequest {
            amount,
            currency: currency.to_owned(),
            payment_method: payment_method.to_owned(),
            customer: get(form, "customer").map(str::to_owned),
            is_confirmed,
            is_manual: capture_method == "manual",
            transfer_group: get(form, "transfer_group").map(str::to_owned),
            description: get(form, "description").map(str::to_owned),
            metadata: metadata(form)?,
        })
    }

    pub(super) fn into_intent(self, outcome: CardOutcome, created: i64) -> PaymentIntent {
        PaymentIntent {
            id: new_id("pi"),
            charge_id: new_id("ch"),
            amount: self.amount,
            amount_refunded: 0,
            currency: self.currency,
            payment_method: self.payment_method,
            customer: self.customer,
            transfer_group: self.transfer_group,
            description: self.description,
            metadata: self.metadata,
            created,
            outcome,
            is_manual: self.is_manual,
            capture: None,
            cancellation: None,
            disputed: false,
        }
    }
}

impl CaptureRequest {
    pub(super) fn parse(payment_intent: &str, form: &Form) -> Result<CaptureRequest, ApiError> {
        let amount = "amount_to_capture";
        refuse_unknown(form, &[amount])?;
        Ok(CaptureRequest {
            payment_intent: payment_intent.to_owned(),
            amount: get(form, amount).map(|text| parse_amount(amount, text)).transpose()?,
            metadata: metadata(form)?,
        })
    }
}

impl CancelRequest {
    pub(super) fn parse(payment_intent: &str, form: &Form) -> Result<CancelRequest, ApiError> {
        // Unlike a capture, a cancellation takes no metadata.
        if let Some((name, _)) = form.iter().find(|(name, _)| name != "cancellation_reason") {
            return Err(ApiError::unknown_parameter(name));
        }
        let reason = get(form, "cancellation_reason");
        let reasons = ["duplicate", "fraudulent", "requested_by_customer", "abandoned"];
        if reason.is_some_and(|reason| !reasons.contains(&reason)) {
            let message = "Invalid cancellation_reason: must be one of duplicate, fraudulent, requested_by_customer, or \
                           abandoned";
            return Err(ApiError::parameter("parameter_invalid", "cancellation_reason", message));
        }
        Ok(CancelRequest {
            payment_intent: payment_intent.to_owned(),
            reason: reason.map(str::to_owned),
        })
    }
}

impl RefundRequest {
    pub(super) fn parse(form: &Form) -> Result<RefundRequest, ApiError> {
        refuse_unknown(form, &["payment_intent", "amount", "reason"])?;
        let reason = get(form, "reason");
        if reason.is_some_and(|reason| !["duplicate", "fraudulent", "requested_by_customer"].contains(&reason)) {
            let message = "Invalid reason: it must be duplicate, fraudulent or requested_by_customer.";
            return Err(ApiError::parameter("parameter_invalid", "reason", message));
        }
        Ok(RefundRequest {
            payment_intent: required(form, "payment_intent")?.to_owned(),
            amount: get(form, "amount")
                .map(|text| parse_amount("amount", text))
                .transpose()?,
            reason: reason.map(str::to_owned),
            metadata: metadata(form)?,
        })
    }

    pub(super) fn to_refund(&self, intent: &PaymentIntent, amount: i64, state: RefundState, created: i64) -> Refund {
        Refund {
            id: new_id("re"),
            intent_id: intent.id.clone(),
            charge_id: intent.charge_id.clone(),
            amount,
            currency: intent.currency.clone(),
            reason: self.reason.clone(),
            metadata: self.metadata.clone(),
            created,
            state,
        }
    }
}

/// Which part of a list, newest first.
#[derive(Debug)]
pub(super) struct Page {
    /// 1 to 100.
    pub limit: usize,
    /// Only what is older than the object of this id.
    pub starting_after: Option<String>,
    /// Of refunds and charges: only those of this intent.
    pub payment_intent: Option<String>,
    /// Of charges: only those of this group.
    pub transfer_group: Option<String>,
    /// Only objects that were created at this Unix second or later.
    pub created_from: Option<i64>,
    /// Only objects that were created before this Unix second.
    pub created_before: Option<i64>,
}

impl Page {
    pub(super) fn parse(query: &Form, filters: &[&str]) -> Result<Page, ApiError> {
        let known = ["limit", "starting_after", "created[gte]", "created[lt]"];
        refuse_unknown(query, &[&known, filters].concat())?;
        let invalid = |param, message| ApiError::parameter("parameter_invalid_integer", param, message);
        let limit = match get(query, "limit").map(str::parse) {
            None => PAGE_DEFAULT,
            Some(Ok(limit @ 1..=PAGE_MAX)) => limit,
            Some(_) => return Err(invalid("limit", "It must be 1 to 100.")),
        };
        let time = |name| {
            let time = get(query, name).map(str::parse).transpose();
            time.map_err(|_| invalid(name, "It must be a Unix time in seconds."))
        };
        let text = |name| get(query, name).map(str::to_owned);
        Ok(Page {
            limit,
            starting_after: text("starting_after"),
            payment_intent: text("payment_intent"),
            transfer_group: text("transfer_group"),
            created_from: time("created[gte]")?,
            created_before: time("created[lt]")?,
        })
    }

    /// Whether an object that was created at this Unix second is asked for.
    pub(super) fn has_time(&self, created: i64) -> bool {
        self.created_from.is_none_or(|from| created >= from)
            && self.created_before.is_none_or(|before| created < before)
    }
}

/// The API key: a bearer token, or the user of basic authentication, as Stripe accepts both.
pub(super) fn api_key(headers: &HeaderMap) -> Result<String, ApiError> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, credentials) = header
        .and_then(|value| value.split_once(' '))
        .ok_or_else(ApiError::unauthorized)?;
    let key = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(credentials.trim().to_owned()),
        "basic" => decode_base64(credentials.trim()).and_then(|pair| Some(pair.split_once(':')?.0.to_owned())),
        _ => None,
    };
    key.filter(|key| key.starts_with("sk_test_"))
        .ok_or_else(ApiError::unauthorized)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= KEY_LENGTH_MAX => Ok(Some(key.to_owned())),
        _ => Err(ApiError::request("Idempotency-Key must be 1 to 255 characters.")),
    }
}

fn parse_amount(param: &str, text: &str) -> Result<i64, ApiError> {
    let not_an_amount = "parameter_invalid_integer";
    let (code, message) = match text.parse::<i64>() {
        Ok(amount @ 1..) => return Ok(amount),
        Ok(_) => (not_an_amount, "This value must be greater than or equal to 1."),
        Err(_) => (
            not_an_amount,
            "Invalid integer: the amount is a whole number of the currency's smallest unit.",
        ),
    };
    Err(ApiError::parameter(code, param, message))
}

fn metadata(form: &Form) -> Result<BTreeMap<String, String>, ApiError> {
    let pairs = form.iter();
    let pairs = pairs.filter_map(|(name, value)| Some((metadata_name(name)?.to_owned(), value.clone())));
    let metadata: BTreeMap<String, String> = pairs.collect();
    let too_long =
        |(name, value): (&String, &String)| name.len() > METADATA_NAME_MAX || value.len() > METADATA_VALUE_MAX;
    if metadata.len() > METADATA_MAX || metadata.iter().any(too_long) {
        let message = "Metadata can have up to 50 keys of up to 40 characters, with values of up to 500.";
        return Err(ApiError::parameter("parameter_invalid", "metadata", message));
    }
    Ok(metadata)
}

fn metadata_name(name: &str) -> Option<&str> {
    name.strip_prefix("metadata[")?
        .strip_suffix(']')
        .filter(|name| !name.is_empty())
}

pub(super) fn refuse_unknown(form: &Form, known: &[&str]) -> Result<(), ApiError> {
    let is_known = |name: &str| known.contains(&name) || metadata_name(name).is_some();
    match form.iter().find(|(name, _)| !is_known(name)) {
        Some((name, _)) => Err(ApiError::unknown_parameter(name)),
        None => Ok(()),
    }
}

pub(super) fn required<'form>(form: &'form Form, name: &str) -> Result<&'form str, ApiError> {
    let missing = || ApiError::parameter("parameter_missing", name, &format!("Missing required param: {name}."));
    get(form, name).ok_or_else(missing)
}

pub(super) fn get<'form>(form: &'form Form, name: &str) -> Option<&'form str> {
    form.iter()
        .find(|(other, value)| other == name && !value.is_empty())
        .map(|(_, value)| value.as_str())
}

fn decode_base64(text: &str) -> Option<String> {
    String::from_utf8(STANDARD_PAD_INDIFFERENT.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_read_from_both_kinds_of_authorization() {
        let key = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            api_key(&headers).ok()
        };
        let unpadded_with_password = "basic c2tfdGVzdF8xOng";
        for good in ["Bearer sk_test_1", "Basic c2tfdGVzdF8xOg==", unpadded_with_password] {
            assert_eq!(key(good).as_deref(), Some("sk_test_1"), "{good}");
        }
        for bad in [
            "Bearer sk_live_1",
            "sk_test_1",
            "Basic !!!!",
            "Digest sk_test_1",
            "Bearer ",
        ] {
            assert_eq!(key(bad), None, "{bad}");
        }
        assert!(api_key(&HeaderMap::new()).is_err());
    }
}
