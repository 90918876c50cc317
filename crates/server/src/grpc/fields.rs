//! Requests into domain values. All bad fields of a request are named at once, so that a caller can fix them at once.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};
use tracing::Span;
use tracing::field::display;
use waybill_domain::id::OrderId;
use waybill_domain::money::{Currency, Money, MoneyError};
use waybill_domain::position::{Position, PositionError};
use waybill_proto::location::v1::LatLng;
use waybill_proto::order::v1 as pb;

/// The bad fields of one request so far.
#[derive(Debug, Default)]
pub struct Violations {
    fields: Vec<FieldViolation>,
}

/// A field that is bad: its path and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadField {
    /// As in the contract, such as `pickup.latitude`.
    pub field: String,
    /// For people.
    pub message: String,
}

impl Violations {
    /// The value; or the field is noted with its error.
    pub fn check<T>(&mut self, field: &str, value: Result<T, impl Display>) -> Option<T> {
        value.map_err(|error| self.add(field, &error.to_string())).ok()
    }

    /// The value of the text; or the field is noted.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, field: &str, text: &str) -> Option<T> {
        self.check(field, text.parse())
    }

    /// The id of the order that the call is about. It goes onto the span of the call, too.
    pub fn order_id(&mut self, text: &str) -> Option<OrderId> {
        let id = self.parse("order_id", text)?;
        record_order(id);
        Some(id)
    }

    /// A point that must be given.
    pub fn position(&mut self, field: &str, given: Option<&LatLng>) -> Option<Position> {
        match position(field, given) {
            Ok(position) => Some(position),
            Err(bad) => {
                self.add(&bad.field, &bad.message);
                None
            }
        }
    }

    /// A time that must be given.
    pub fn time(&mut self, field: &str, given: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
        match timestamp(field, given) {
            Ok(time) => Some(time),
            Err(bad) => {
                self.add(&bad.field, &bad.message);
                None
            }
        }
    }

    /// A sum to charge, which must be given.
    pub fn money(&mut self, field: &str, given: Option<&pb::Money>) -> Option<Money> {
        self.amount(field, given, Money::payable)
    }

    /// A sum to refund, or to keep of what was charged, which must be given.
    pub fn refund(&mut self, field: &str, given: Option<&pb::Money>) -> Option<Money> {
        self.amount(field, given, Money::refundable)
    }

    fn amount(
        &mut self,
        field: &str,
        given: Option<&pb::Money>,
        amount: fn(Currency, i64) -> Result<Money, MoneyError>,
    ) -> Option<Money> {
        let Some(given) = given else {
            self.add(field, "is required");
            return None;
        };
        let (code, minor_units) = (format!("{field}.currency_code"), format!("{field}.minor_units"));
        let currency = match self.parse::<Currency>(&code, &given.currency_code) {
            Some(currency) if currency.provider_unit().is_none() => {
                self.add(&code, "is a currency that the payment provider does not accept");
                None
            }
            parsed => parsed,
        };
        let Some(currency) = currency else {
            // A bad amount is named even when the currency is bad too: what is no amount of any currency.
            let any = "USD".parse().ok()?;
            self.check(&minor_units, Money::new(any, given.minor_units));
            return None;
        };
        self.check(&minor_units, amount(currency, given.minor_units))
    }

    /// Whether no field is bad so far.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Notes a bad field.
    pub fn add(&mut self, field: &str, message: &str) {
        self.fields.push(FieldViolation::new(field, message));
    }

    /// INVALID_ARGUMENT, which names every bad field. Callers miss a value, so there is at least one.
    pub fn into_status(self) -> Status {
        let named: Vec<String> = self
            .fields
            .iter()
            .map(|violation| format!("{} {}", violation.field, violation.description))
            .collect();
        let details = ErrorDetails::with_bad_request(self.fields);
        Status::with_error_details(Code::InvalidArgument, named.join("; "), details)
    }
}

/// Puts the id of the order onto the span of the call.
pub fn record_order(id: OrderId) {
    Span::current().record("order_id", display(id));
}

/// A point that must be given; or which field of it is bad.
pub fn position(field: &str, given: Option<&LatLng>) -> Result<Position, BadField> {
    let given = given.ok_or_else(|| bad(field, "is required"))?;
    let coordinate =
        |name: &str, given: Option<f64>| given.ok_or_else(|| bad(&format!("{field}.{name}"), "is required"));
    let latitude = coordinate("latitude", given.latitude)?;
    let longitude = coordinate("longitude", given.longitude)?;
    Position::new(latitude, longitude).map_err(|error| {
        let coordinate = match error {
            PositionError::LatitudeOutOfRange => "latitude",
            PositionError::LongitudeOutOfRange => "longitude",
        };
        bad(&format!("{field}.{coordinate}"), error)
    })
}

/// A span of time; `None`: it is negative, or not as the contract of the type has it. Not by prost's conversion, which takes nanoseconds
/// of more than a second, and overflows at the least number.
pub fn duration(given: &prost_types::Duration) -> Option<Duration> {
    match (u64::try_from(given.seconds), u32::try_from(given.nanos)) {
        (Ok(seconds), Ok(nanos @ 0..1_000_000_000)) => Some(Duration::new(seconds, nanos)),
        _ => None,
    }
}

/// A time that must be given.
pub fn timestamp(field: &str, given: Option<&prost_types::Timestamp>) -> Result<Timestamp, BadField> {
    let given = given.ok_or_else(|| bad(field, "is required"))?;
    // Nanoseconds count forward from the second, from 0 to 999,999,999, by the contract of the type.
    if !(0..1_000_000_000).contains(&given.nanos) {
        return Err(bad(&format!("{field}.nanos"), "must be from 0 to 999999999"));
    }
    Timestamp::new(given.seconds, given.nanos).map_err(|_| bad(field, "is not a time between the years -9999 and 9999"))
}

fn bad(field: &str, message: impl Display) -> BadField {
    BadField {
        field: field.to_owned(),
        message: message.to_string(),
    }
}
