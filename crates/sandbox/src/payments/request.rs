//! What a client asks for: who it is, under which key, and a form that is read once and is then known to make sense.
//! Parameters that the provider does not know are refused, as Stripe does: a typing error must not be a surprise.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// The parameters of a form, in the order in which they came.
pub(super) type Form = Vec<(String, String)>;

// Stripe's limits.
const AMOUNT_MAX: i64 = 99_999_999;
const KEY_LENGTH_MAX: usize = 255;
const METADATA_MAX: usize = 50;
const METADATA_NAME_MAX: usize = 40;
const METADATA_VALUE_MAX: usize = 500;
const PAGE_MAX: usize = 100;
const PAGE_DEFAULT: usize = 10;

/// A request that moves money.
#[derive(Clone, Debug)]
pub(super) struct Instruction {
    pub api_key: String,
    /// The `Idempotency-Key`, if there is one.
    pub key: Option<String>,
    /// Path and parameters in a fixed order: equal for equal requests, and for no others.
    pub fingerprint: String,
    pub what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Charge(Charge),
    Refund(Refund),
}

/// `POST /v1/payment_intents`.
#[derive(Clone, Debug)]
pub(super) struct Charge {
    pub amount: i64,
    pub currency: String,
    pub payment_method: String,
    pub card: CardOutcome,
    pub description: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

/// `POST /v1/refunds`.
#[derive(Clone, Debug)]
pub(super) struct Refund {
    pub payment_intent: String,
    /// All that is left, if not given.
    pub amount: Option<i64>,
    pub reason: Option<String>,
    pub metadata: BTreeMap<String, String>,
}

/// What a test card does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CardOutcome {
    Paid,
    Declined,
    InsufficientFunds,
}

impl CardOutcome {
    /// By the name of the test payment method (<https://docs.stripe.com/testing>).
    fn of(payment_method: &str) -> Option<CardOutcome> {
        match payment_method {
            "pm_card_visa" | "pm_card_mastercard" => Some(CardOutcome::Paid),
            "pm_card_chargeDeclined" | "pm_card_visa_chargeDeclined" => Some(CardOutcome::Declined),
            "pm_card_chargeDeclinedInsufficientFunds" | "pm_card_visa_chargeDeclinedInsufficientFunds" => {
                Some(CardOutcome::InsufficientFunds)
            }
            _ => None,
        }
    }
}

impl Instruction {
    pub(super) fn new(
        api_key: String,
        headers: &HeaderMap,
        path: &str,
        mut form: Form,
        parse: impl FnOnce(&Form) -> Result<What, Refusal>,
    ) -> Result<Instruction, Refusal> {
        let key = idempotency_key(headers)?;
        let what = parse(&form)?;
        form.sort();
        let fingerprint = serde_json::json!([path, form]).to_string();
        Ok(Instruction {
            api_key,
            key,
            fingerprint,
            what,
        })
    }
}

impl Charge {
    pub(super) fn parse(form: &Form) -> Result<Charge, Refusal> {
        let ignored = [
            "automatic_payment_methods[enabled]",
            "automatic_payment_methods[allow_redirects]",
            "payment_method_types[]",
            // No card here wants its holder to act, so there is nothing to decline for.
            "error_on_requires_action",
        ];
        let known = ["amount", "currency", "payment_method", "confirm", "description"];
        refuse_unknown(form, &[&known[..], &ignored].concat())?;
        let currency = required(form, "currency")?;
        if currency.len() != 3 || !currency.bytes().all(|letter| letter.is_ascii_lowercase()) {
            let message = "Invalid currency: it must be a three-letter ISO code in lower case.";
            return Err(Refusal::parameter("parameter_invalid", "currency", message));
        }
        let amount = parse_amount(required(form, "amount")?)?;
        let payment_method = required(form, "payment_method")?;
        let card = CardOutcome::of(payment_method).ok_or_else(|| {
            let message = format!("No such PaymentMethod: '{payment_method}'");
            Refusal::parameter("resource_missing", "payment_method", &message)
        })?;
        if get(form, "confirm") != Some("true") {
            let message = "The sandbox only takes confirm=true: it has no separate confirmation.";
            return Err(Refusal::parameter("parameter_missing", "confirm", message));
        }
        Ok(Charge {
            amount,
            currency: currency.to_owned(),
            payment_method: payment_method.to_owned(),
            card,
            description: get(form, "description").map(str::to_owned),
            metadata: metadata(form)?,
        })
    }
}

impl Refund {
    pub(super) fn parse(form: &Form) -> Result<Refund, Refusal> {
        refuse_unknown(form, &["payment_intent", "amount", "reason"])?;
        let reason = get(form, "reason");
        if reason.is_some_and(|reason| !["duplicate", "fraudulent", "requested_by_customer"].contains(&reason)) {
            let message = "Invalid reason: it must be duplicate, fraudulent or requested_by_customer.";
            return Err(Refusal::parameter("parameter_invalid", "reason", message));
        }
        Ok(Refund {
            payment_intent: required(form, "payment_intent")?.to_owned(),
            amount: get(form, "amount").map(parse_amount).transpose()?,
            reason: reason.map(str::to_owned),
            metadata: metadata(form)?,
        })
    }
}

/// Which part of a list, newest first.
#[derive(Debug)]
pub(super) struct Page {
    /// 1 to 100.
    pub limit: usize,
    /// Only what is older than the object of this id.
    pub starting_after: Option<String>,
    /// Of refunds: only those of this intent.
    pub payment_intent: Option<String>,
    /// Only what was made at this Unix second or later.
    pub created_from: Option<i64>,
}

impl Page {
    pub(super) fn parse(query: &Form, filters: &[&str]) -> Result<Page, Refusal> {
        refuse_unknown(query, &[&["limit", "starting_after", "created[gte]"], filters].concat())?;
        let limit = match get(query, "limit").map(str::parse) {
            None => PAGE_DEFAULT,
            Some(Ok(limit @ 1..=PAGE_MAX)) => limit,
            Some(_) => {
                return Err(Refusal::parameter(
                    "parameter_invalid_integer",
                    "limit",
                    "It must be 1 to 100.",
                ));
            }
        };
        let created_from = match get(query, "created[gte]").map(str::parse) {
            None => None,
            Some(Ok(second)) => Some(second),
            Some(Err(_)) => {
                return Err(Refusal::parameter(
                    "parameter_invalid_integer",
                    "created[gte]",
                    "It must be a Unix time in seconds.",
                ));
            }
        };
        let text = |name| get(query, name).map(str::to_owned);
        Ok(Page {
            limit,
            starting_after: text("starting_after"),
            payment_intent: text("payment_intent"),
            created_from,
        })
    }

    /// Whether an object that was made at this Unix second is asked for.
    pub(super) fn is_new_enough(&self, created: i64) -> bool {
        self.created_from.is_none_or(|from| created >= from)
    }
}

/// The API key: a bearer token, or the user of basic authentication, as Stripe takes both.
pub(super) fn api_key(headers: &HeaderMap) -> Result<String, Refusal> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, credentials) = given
        .and_then(|value| value.split_once(' '))
        .ok_or_else(Refusal::unauthorized)?;
    let key = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(credentials.trim().to_owned()),
        "basic" => decode_base64(credentials.trim()).and_then(|pair| Some(pair.split_once(':')?.0.to_owned())),
        _ => None,
    };
    key.filter(|key| key.starts_with("sk_test_"))
        .ok_or_else(Refusal::unauthorized)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= KEY_LENGTH_MAX => Ok(Some(key.to_owned())),
        _ => Err(Refusal::request("Idempotency-Key must be 1 to 255 characters.")),
    }
}

fn parse_amount(text: &str) -> Result<i64, Refusal> {
    let refuse = |code, message| Err(Refusal::parameter(code, "amount", message));
    match text.parse::<i64>() {
        Err(_) => refuse(
            "parameter_invalid_integer",
            "Invalid integer: the amount is a whole number of minor units.",
        ),
        Ok(..=0) => refuse(
            "parameter_invalid_integer",
            "This value must be greater than or equal to 1.",
        ),
        Ok(amount) if amount > AMOUNT_MAX => refuse("amount_too_large", "Amount must be no more than 99999999."),
        Ok(amount) => Ok(amount),
    }
}

fn metadata(form: &Form) -> Result<BTreeMap<String, String>, Refusal> {
    let pairs = form
        .iter()
        .filter_map(|(name, value)| Some((metadata_name(name)?, value)));
    let metadata: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let too_long =
        |(name, value): (&String, &String)| name.len() > METADATA_NAME_MAX || value.len() > METADATA_VALUE_MAX;
    if metadata.len() > METADATA_MAX || metadata.iter().any(too_long) {
        let message = "Metadata can have up to 50 keys of up to 40 characters, with values of up to 500.";
        return Err(Refusal::parameter("parameter_invalid", "metadata", message));
    }
    Ok(metadata)
}

fn metadata_name(name: &str) -> Option<&str> {
    name.strip_prefix("metadata[")?
        .strip_suffix(']')
        .filter(|name| !name.is_empty())
}

fn refuse_unknown(form: &Form, known: &[&str]) -> Result<(), Refusal> {
    let is_known = |name: &str| known.contains(&name) || metadata_name(name).is_some();
    match form.iter().find(|(name, _)| !is_known(name)) {
        Some((name, _)) => {
            let message = format!("Received unknown parameter: {name}");
            Err(Refusal::parameter("parameter_unknown", name, &message))
        }
        None => Ok(()),
    }
}

fn required<'form>(form: &'form Form, name: &str) -> Result<&'form str, Refusal> {
    let missing = || Refusal::parameter("parameter_missing", name, &format!("Missing required param: {name}."));
    get(form, name).ok_or_else(missing)
}

fn get<'form>(form: &'form Form, name: &str) -> Option<&'form str> {
    form.iter()
        .find(|(given, value)| given == name && !value.is_empty())
        .map(|(_, value)| value.as_str())
}

/// Base64 (RFC 4648, padded or not) of a UTF-8 text.
fn decode_base64(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut buffer, mut bits) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        buffer = (buffer << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff).ok()?);
        }
    }
    String::from_utf8(bytes).ok()
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
        assert_eq!(key("Bearer sk_test_1").as_deref(), Some("sk_test_1"));
        assert_eq!(key("Basic c2tfdGVzdF8xOg==").as_deref(), Some("sk_test_1"));
        assert_eq!(
            key("basic c2tfdGVzdF8xOng").as_deref(),
            Some("sk_test_1"),
            "unpadded, with a password"
        );
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
