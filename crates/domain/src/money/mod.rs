//! Money: whole minor units of ISO 4217 and a currency, never a float.

mod provider_unit;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

pub use self::provider_unit::ProviderUnit;

/// The most that is stored of any currency, in minor units. What one payment may be is less for most:
/// [`ProviderUnit::maximum_minor`].
pub const MINOR_UNITS_MAX: i64 = 999_999_999_999;

/// Why an amount was refused. Limits and steps are in minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MoneyError {
    /// Zero or less.
    #[error("must be greater than 0")]
    NotPositive,
    /// Less than the payment provider charges.
    #[error("must be at least {0}, the least that the payment provider charges in this currency")]
    TooSmall(i64),
    /// More than the payment provider charges, or than is stored.
    #[error("must be at most {0}")]
    TooLarge(i64),
    /// Between two amounts that the payment provider has.
    #[error("must be a multiple of {0}: the payment provider has no smaller step of this currency")]
    NotInSteps(i64),
    /// The payment provider takes no payments in the currency.
    #[error("is in a currency that the payment provider does not accept")]
    Currency,
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

    /// How the payment provider counts it; `None` if it does not accept it.
    pub fn provider_unit(self) -> Option<ProviderUnit> {
        ProviderUnit::of(self)
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

/// An amount of money that was asked for or moved. Invariant: between 1 and [`MINOR_UNITS_MAX`].
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
            _ => Err(MoneyError::TooLarge(MINOR_UNITS_MAX)),
        }
    }

    /// An amount that the payment provider can charge: of a currency that it accepts, within its limits, in its steps.
    pub fn payable(currency: Currency, minor_units: i64) -> Result<Money, MoneyError> {
        let money = Money::new(currency, minor_units)?;
        let unit = currency.provider_unit().ok_or(MoneyError::Currency)?;
        if minor_units < unit.minimum_minor() {
            return Err(MoneyError::TooSmall(unit.minimum_minor()));
        }
        if minor_units > unit.maximum_minor() {
            return Err(MoneyError::TooLarge(unit.maximum_minor()));
        }
        if money.provider_units().is_none() {
            return Err(MoneyError::NotInSteps(unit.step_minor()));
        }
        Ok(money)
    }

    /// An amount that the payment provider can refund: of a currency that it accepts, in its steps. A refund has no minimum.
    pub fn refundable(currency: Currency, minor_units: i64) -> Result<Money, MoneyError> {
        let money = Money::new(currency, minor_units)?;
        let unit = currency.provider_unit().ok_or(MoneyError::Currency)?;
        if money.provider_units().is_none() {
            return Err(MoneyError::NotInSteps(unit.step_minor()));
        }
        Ok(money)
    }

    /// The amount that the payment provider writes as `units`; `None` where that is not a whole number of minor units.
    pub fn from_provider(currency: Currency, units: i64) -> Option<Money> {
        let minor_units = currency.provider_unit()?.to_minor(units)?;
        Money::new(currency, minor_units).ok()
    }

    /// How the payment provider writes the amount; `None` where it has no such amount.
    pub fn provider_units(&self) -> Option<i64> {
        self.currency.provider_unit()?.from_minor(self.minor_units)
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
        assert_eq!(
            Money::new(usd, MINOR_UNITS_MAX + 1),
            Err(MoneyError::TooLarge(MINOR_UNITS_MAX))
        );
    }

    #[test]
    fn a_payable_amount_is_one_that_the_provider_charges() {
        let payable = |code: &str, minor| Money::payable(code.parse().unwrap(), minor);
        assert!(payable("USD", 50).is_ok());
        assert_eq!(payable("USD", 49), Err(MoneyError::TooSmall(50)));
        assert_eq!(payable("USD", 0), Err(MoneyError::NotPositive));
        assert_eq!(payable("USD", 100_000_000), Err(MoneyError::TooLarge(99_999_999)));
        // 1.5 million rupiah are some 90 dollars.
        assert!(payable("IDR", 150_000_000).is_ok());
        assert_eq!(payable("KWD", 1999), Err(MoneyError::NotInSteps(10)));
        assert!(payable("KWD", 1990).is_ok());
        assert_eq!(payable("UGX", 1_000_000), Err(MoneyError::TooLarge(999_999)));
        assert_eq!(payable("CUP", 1000), Err(MoneyError::Currency));
    }

    #[test]
    fn an_amount_comes_back_from_the_provider_as_it_went() {
        for (code, minor) in [
            ("EUR", 1999),
            ("UGX", 5000),
            ("MGA", 500_000),
            ("ISK", 150),
            ("KWD", 1990),
        ] {
            let money = Money::payable(code.parse().unwrap(), minor).unwrap();
            let units = money.provider_units().unwrap();
            assert_eq!(Money::from_provider(money.currency(), units), Some(money));
        }
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
