//! Money: whole minor units and a currency, never a float.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The most that one order may cost, in minor units: 1,000,000.00 of a currency with two decimals. A typing error of
/// two digits should not reach a customer's card.
pub const MINOR_UNITS_MAX: i64 = 100_000_000;

/// Why an amount was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MoneyError {
    /// Zero or less.
    #[error("must be greater than 0")]
    NotPositive,
    /// More than an order may cost.
    #[error("must be at most {MINOR_UNITS_MAX}")]
    TooLarge,
}

/// Why a currency was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is not an ISO 4217 currency code, such as USD")]
pub struct UnknownCurrency;

/// An ISO 4217 currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// Its code: three capital letters.
    pub fn code(&self) -> &'static str {
        self.0.code()
    }

    /// How many decimals its minor unit has: 2 for USD, 0 for JPY, 3 for KWD.
    pub fn decimals(&self) -> u16 {
        self.0.exponent().unwrap_or(0)
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(code: &str) -> Result<Currency, UnknownCurrency> {
        // Lower case is refused, not corrected: one spelling has one request hash. Funds, metals and test codes have no
        // minor unit to pay in.
        iso_currency::Currency::from_code(code)
            .filter(|known| known.code() == code && !known.is_fund() && known.exponent().is_some())
            .map(Currency)
            .ok_or(UnknownCurrency)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// An amount to pay. Invariant: between 1 and [`MINOR_UNITS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    currency: Currency,
    minor_units: i64,
}

impl Money {
    /// An amount of `minor_units` of the currency's smallest unit.
    pub fn new(currency: Currency, minor_units: i64) -> Result<Money, MoneyError> {
        match minor_units {
            ..=0 => Err(MoneyError::NotPositive),
            1..=MINOR_UNITS_MAX => Ok(Money { currency, minor_units }),
            _ => Err(MoneyError::TooLarge),
        }
    }

    /// In which currency.
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// How much, in the currency's smallest unit.
    pub fn minor_units(&self) -> i64 {
        self.minor_units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_positive_and_bounded() {
        let usd: Currency = "USD".parse().unwrap();
        assert_eq!(Money::new(usd, 1999).unwrap().minor_units(), 1999);
        assert_eq!(Money::new(usd, 0), Err(MoneyError::NotPositive));
        assert_eq!(Money::new(usd, -1), Err(MoneyError::NotPositive));
        assert_eq!(Money::new(usd, i64::MIN), Err(MoneyError::NotPositive));
        assert!(Money::new(usd, MINOR_UNITS_MAX).is_ok());
        assert_eq!(Money::new(usd, MINOR_UNITS_MAX + 1), Err(MoneyError::TooLarge));
    }

    #[test]
    fn currencies_are_known_codes_in_capitals() {
        assert_eq!("JPY".parse::<Currency>().unwrap().decimals(), 0);
        assert_eq!("XOF".parse::<Currency>().unwrap().decimals(), 0);
        assert_eq!("KWD".parse::<Currency>().unwrap().decimals(), 3);
        for bad in ["", "usd", "US", "USDT", "ZZZ", "U$D", "XAU", "XXX", "XTS"] {
            assert_eq!(bad.parse::<Currency>(), Err(UnknownCurrency), "{bad:?}");
        }
    }
}
