//! The rules of amounts, as Stripe documents them (<https://docs.stripe.com/currencies>), in its own unit of each
//! currency: the smallest, except that UGX and ISK are written with two decimals that must be 0.

use super::api_error::ApiError;

/// Written with three decimals, the last of which must be 0.
const THREE_DECIMALS: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];
/// Written with two decimals, both of which must be 0.
const WHOLE_IN_HUNDREDTHS: [&str; 2] = ["isk", "ugx"];
/// Known to ISO 4217 and not accepted: some of many, so that a refusal can be seen.
const NOT_ACCEPTED: [&str; 6] = ["cup", "irr", "iqd", "kpw", "lyd", "syp"];
/// The least that is charged, for an account that settles in the currency.
const MINIMUMS: [(&str, i64); 24] = [
    ("aed", 200),
    ("aud", 50),
    ("bgn", 100),
    ("brl", 50),
    ("cad", 50),
    ("chf", 50),
    ("czk", 1500),
    ("dkk", 250),
    ("eur", 50),
    ("gbp", 30),
    ("hkd", 400),
    ("huf", 17_500),
    ("inr", 50),
    ("jpy", 50),
    ("mxn", 1000),
    ("myr", 200),
    ("nok", 300),
    ("nzd", 50),
    ("pln", 200),
    ("ron", 200),
    ("sek", 300),
    ("sgd", 50),
    ("thb", 1000),
    ("usd", 50),
];
/// Eight digits, and twelve for IDR.
const MAXIMUM: i64 = 99_999_999;
const MAXIMUM_OF_IDR: i64 = 999_999_999_999;

/// Refuses an amount that cannot be charged in this currency.
pub(super) fn check_charge(amount: i64, currency: &str) -> Result<(), ApiError> {
    check_amount(amount, currency)?;
    let minimum = MINIMUMS.iter().find(|(of, _)| *of == currency);
    if minimum.is_some_and(|(_, least)| amount < *least) {
        let message = "The amount is below the minimum charge amount of the currency.";
        return Err(ApiError::parameter("amount_too_small", "amount", message));
    }
    Ok(())
}

/// Refuses an amount that does not exist in this currency.
pub(super) fn check_amount(amount: i64, currency: &str) -> Result<(), ApiError> {
    if currency.len() != 3 || !currency.bytes().all(|letter| letter.is_ascii_lowercase()) {
        let message = "Invalid currency: it must be a three-letter ISO code in lower case.";
        return Err(ApiError::parameter("parameter_invalid", "currency", message));
    }
    if NOT_ACCEPTED.contains(&currency) {
        let message = format!("Invalid currency: {currency}.");
        return Err(ApiError::parameter("parameter_invalid", "currency", &message));
    }
    let maximum = if currency == "idr" { MAXIMUM_OF_IDR } else { MAXIMUM };
    if amount > maximum {
        let message = format!("Amount must be no more than {maximum}.");
        return Err(ApiError::parameter("amount_too_large", "amount", &message));
    }
    let step = if THREE_DECIMALS.contains(&currency) {
        10
    } else if WHOLE_IN_HUNDREDTHS.contains(&currency) {
        100
    } else {
        1
    };
    if amount % step != 0 {
        let message = format!("Invalid amount: it must be divisible by {step} in {currency}.");
        return Err(ApiError::parameter("parameter_invalid_integer", "amount", &message));
    }
    Ok(())
}
