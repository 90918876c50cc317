//! How the payment provider counts each currency, and how much of it one payment may move.
//!
//! The contract and the database count in ISO 4217 minor units. Stripe counts most currencies in the same unit, and some
//! in another one: an amount that is not converted is wrong by a factor of a hundred. The rules are those of Stripe,
//! "Supported currencies" (<https://docs.stripe.com/currencies>), in the edition for API version 2025-04-30: the
//! presentment currencies, "Zero-decimal currencies", "Three-decimal currencies", "Special cases" and "Minimum and maximum
//! charge amounts". A currency without a minimum in that table has one that depends on the exchange rate of the day; only
//! the provider knows it.

use super::Currency;

/// Counted with two decimals.
const TWO_DECIMALS: &[&str] = &[
    "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BGN", "BMD", "BND", "BOB",
    "BRL", "BSD", "BWP", "BYN", "BZD", "CAD", "CDF", "CHF", "CNY", "COP", "CRC", "CVE", "CZK", "DKK", "DOP", "DZD",
    "EGP", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GIP", "GMD", "GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR",
    "ILS", "INR", "JMD", "KES", "KGS", "KHR", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "MAD", "MDL", "MKD",
    "MMK", "MNT", "MOP", "MUR", "MVR", "MWK", "MXN", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "PAB",
    "PEN", "PGK", "PHP", "PKR", "PLN", "QAR", "RON", "RSD", "RUB", "SAR", "SBD", "SCR", "SEK", "SGD", "SHP", "SLE",
    "SOS", "SRD", "SZL", "THB", "TJS", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "USD", "UYU", "UZS", "WST", "XCD",
    "YER", "ZAR", "ZMW",
];
/// Counted in whole units. MGA is among them, which has two decimals in ISO 4217.
const ZERO_DECIMALS: &[&str] = &[
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF",
];
/// Counted with three decimals, the last of which must be 0.
const THREE_DECIMALS: &[&str] = &["BHD", "JOD", "KWD", "OMR", "TND"];
/// Counted with two decimals, which must both be 0: there are no fractions of these.
const WHOLE_IN_HUNDREDTHS: &[&str] = &["ISK", "UGX"];

/// The least that a payment may be, in the provider's unit.
const MINIMUMS: &[(&str, i64)] = &[
    ("AED", 200),
    ("AUD", 50),
    ("BGN", 100),
    ("BRL", 50),
    ("CAD", 50),
    ("CHF", 50),
    ("CZK", 1500),
    ("DKK", 250),
    ("EUR", 50),
    ("GBP", 30),
    ("HKD", 400),
    ("HUF", 17_500),
    ("INR", 50),
    ("JPY", 50),
    ("MXN", 1000),
    ("MYR", 200),
    ("NOK", 300),
    ("NZD", 50),
    ("PLN", 200),
    ("RON", 200),
    ("SEK", 300),
    ("SGD", 50),
    ("THB", 1000),
    ("USD", 50),
];
/// The most that a payment may be, in the provider's unit: eight digits, and twelve for IDR.
const MAXIMUM: i64 = 99_999_999;
const MAXIMUM_OF_IDR: i64 = 999_999_999_999;

/// How the provider counts a currency that it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderUnit {
    /// The decimals of its unit, which need not be those of ISO 4217.
    decimals: u16,
    /// The decimals of ISO 4217.
    iso_decimals: u16,
    /// Every amount is a multiple of this, in its unit.
    step: i64,
    minimum: i64,
    maximum: i64,
}

impl ProviderUnit {
    /// Of this currency; `None` if the provider does not accept it.
    pub fn of(currency: Currency) -> Option<ProviderUnit> {
        let code = currency.code();
        let (decimals, step) = if TWO_DECIMALS.contains(&code) {
            (2, 1)
        } else if ZERO_DECIMALS.contains(&code) {
            (0, 1)
        } else if THREE_DECIMALS.contains(&code) {
            (3, 10)
        } else if WHOLE_IN_HUNDREDTHS.contains(&code) {
            (2, 100)
        } else {
            return None;
        };
        let minimum = MINIMUMS
            .iter()
            .find(|(of, _)| *of == code)
            .map_or(step, |(_, least)| *least);
        Some(ProviderUnit {
            decimals,
            iso_decimals: currency.decimals(),
            step,
            minimum,
            maximum: if code == "IDR" { MAXIMUM_OF_IDR } else { MAXIMUM },
        })
    }

    /// ISO minor units in the provider's unit; `None` where it has no such amount.
    pub fn from_minor(self, minor_units: i64) -> Option<i64> {
        let units = rescale(minor_units, self.iso_decimals, self.decimals)?;
        (units % self.step == 0).then_some(units)
    }

    /// The provider's units in ISO minor units; `None` where ISO 4217 has no such amount.
    pub fn to_minor(self, units: i64) -> Option<i64> {
        rescale(units, self.decimals, self.iso_decimals)
    }

    /// The least that a payment may be, in ISO minor units.
    pub fn minimum_minor(self) -> i64 {
        // The least multiple of the step that is at least the minimum exists in both units (a test below).
        self.to_minor(self.minimum).unwrap_or(i64::MAX)
    }

    /// The most that a payment may be, in ISO minor units: rounded down where the maximum is no whole minor unit.
    pub fn maximum_minor(self) -> i64 {
        let whole = self.maximum - self.maximum % self.step;
        self.to_minor(whole).unwrap_or(0)
    }

    /// The least difference between two amounts, in ISO minor units.
    pub fn step_minor(self) -> i64 {
        match self.to_minor(self.step) {
            Some(step) => step.max(1),
            None => 1,
        }
    }
}

/// The amount with other decimals; `None` if that is not a whole number or too large to be one.
fn rescale(amount: i64, from: u16, to: u16) -> Option<i64> {
    let factor = 10_i64.checked_pow(u32::from(from.abs_diff(to)))?;
    if to >= from {
        amount.checked_mul(factor)
    } else {
        (amount % factor == 0).then_some(amount / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(code: &str) -> ProviderUnit {
        ProviderUnit::of(code.parse().unwrap()).unwrap()
    }

    fn all() -> impl Iterator<Item = &'static str> {
        [TWO_DECIMALS, ZERO_DECIMALS, THREE_DECIMALS, WHOLE_IN_HUNDREDTHS]
            .into_iter()
            .flatten()
            .copied()
    }

    /// The examples of Stripe's page, and the currencies whose unit differs from that of ISO 4217.
    #[test]
    fn amounts_are_converted_to_the_unit_of_the_provider() {
        for (code, minor, units) in [
            ("USD", 1000, 1000), // 10 dollars
            ("JPY", 500, 500),   // 500 yen
            ("UGX", 5, 500),     // 5 shillings, no decimals in ISO 4217
            ("UGX", 5000, 500_000),
            ("ISK", 5, 500),        // 5 krónur, no decimals in ISO 4217
            ("MGA", 500_000, 5000), // 5000 ariary, two decimals in ISO 4217
            ("KWD", 5120, 5120),    // 5.120 dinars
            ("HUF", 17_500, 17_500),
            ("TWD", 80_045, 80_045),
        ] {
            assert_eq!(unit(code).from_minor(minor), Some(units), "{code} {minor}");
            assert_eq!(unit(code).to_minor(units), Some(minor), "{code} {units}");
        }
    }

    #[test]
    fn what_the_provider_has_no_amount_for_is_not_rounded() {
        assert_eq!(unit("KWD").from_minor(1999), None);
        assert_eq!(unit("MGA").from_minor(550), None);
        assert_eq!(unit("ISK").to_minor(150), None);
        assert_eq!(unit("UGX").from_minor(i64::MAX), None);
        assert_eq!(unit("KWD").step_minor(), 10);
        assert_eq!(unit("MGA").step_minor(), 100);
        assert_eq!(unit("UGX").step_minor(), 1);
        assert_eq!(unit("USD").step_minor(), 1);
    }

    #[test]
    fn limits_are_those_of_the_provider_in_minor_units_of_iso() {
        let limits = |code| (unit(code).minimum_minor(), unit(code).maximum_minor());
        assert_eq!(limits("USD"), (50, 99_999_999));
        assert_eq!(limits("IDR"), (1, 999_999_999_999));
        assert_eq!(limits("KWD"), (10, 99_999_990));
        assert_eq!(limits("UGX"), (1, 999_999));
        assert_eq!(limits("MGA"), (100, 9_999_999_900));
    }

    #[test]
    fn every_currency_of_the_table_is_one_of_iso_and_is_there_once() {
        let mut codes: Vec<_> = all().collect();
        assert!(codes.len() > 130, "{}", codes.len());
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all().count(), "a currency is in two lists");
        for code in codes {
            assert!(code.parse::<Currency>().is_ok(), "{code}");
            let unit = unit(code);
            for minor in [unit.minimum_minor(), unit.maximum_minor(), unit.step_minor()] {
                let units = unit.from_minor(minor);
                assert_eq!(
                    units.and_then(|units| unit.to_minor(units)),
                    Some(minor),
                    "{code} {minor}"
                );
            }
        }
        for (code, minimum) in MINIMUMS {
            assert!(all().any(|known| known == *code), "{code}");
            assert_eq!(
                unit(code).to_minor(*minimum),
                Some(unit(code).minimum_minor()),
                "{code}"
            );
        }
        for refused in ["CUP", "IRR", "IQD", "LYD", "KPW"] {
            assert_eq!(ProviderUnit::of(refused.parse().unwrap()), None, "{refused}");
        }
    }
}
