//! What must hold of each value that was taken out of a request.

use waybill_domain::money::Money;
use waybill_domain::operator::Operator;
use waybill_domain::position::Position;
use waybill_domain::text::{Reason, has_refused, is_visible};

/// An id as it is stored: the caller writes its name, and never another tenant.
pub fn check_stored(id: &str) {
    check_name(id.strip_prefix("acme/").unwrap());
}

pub fn check_name(name: &str) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    assert!((1..=64).contains(&name.len()) && name.bytes().all(is_plain), "{name:?}");
}

pub fn check_position(position: Position) {
    assert!((-90.0..=90.0).contains(&position.lat_deg()) && (-180.0..=180.0).contains(&position.lon_deg()));
}

pub fn check_refund(amount: Money) {
    assert_eq!(Money::refundable(amount.currency(), amount.minor_units()), Ok(amount));
}

pub fn check_reason(reason: &Reason) {
    check_line(reason.as_str(), 500);
}

pub fn check_operator(name: &Operator) {
    check_line(name.as_str(), 64);
}

fn check_line(text: &str, max: usize) {
    let says_something = text.contains(is_visible) && !has_refused(text);
    assert!((1..=max).contains(&text.chars().count()) && says_something, "{text:?}");
}
