//! Money: integer minor units and an ISO 4217 code (K14). Amounts are computed in whole minor units, however many of them
//! the currency has in one: none of yen, a hundred of reais, a thousand of dinars.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What people pay with by ISO 4217: neither metals, funds and codes for tests, nor what is no money any more. A code that
/// retires stays here, for events hold it.
const CODES: [&str; 7] = [
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD",
    "CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD",
    "GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD",
    "KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO",
    "NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE",
    "SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VED VES VND",
    "VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG",
];

/// The code of a currency in use, such as `BRL`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

/// A text that is no currency code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("currency must be an ISO 4217 code of three capital letters, of a currency in use")]
pub struct InvalidCurrency;

impl Currency {
    /// Brazilian real, the default.
    pub const BRL: Self = Self(*b"BRL");

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a currency is three ASCII letters")
    }
}

impl TryFrom<String> for Currency {
    type Error = InvalidCurrency;
    fn try_from(text: String) -> Result<Self, InvalidCurrency> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| InvalidCurrency)?;
        let known =
            CODES.iter().flat_map(|line| line.split(' ')).any(|known| known.as_bytes() == code);
        if known { Ok(Self(code)) } else { Err(InvalidCurrency) }
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount that is not negative and at most [`Money::MAX_MINOR`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawMoney")]
pub struct Money {
    /// In minor units: 12000 is R$ 120,00.
    pub amount_minor: i64,
    /// The currency.
    pub currency: Currency,
}

/// An amount out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("amount_minor must be between 0 and {}", Money::MAX_MINOR)]
pub struct InvalidAmount;

impl Money {
    /// The most one price may be: ten billion minor units (`S3-15`: decimal(10,2)).
    pub const MAX_MINOR: i64 = 10_000_000_000;

    /// `None` when the amount is negative or too large.
    pub fn new(amount_minor: i64, currency: Currency) -> Result<Self, InvalidAmount> {
        if (0..=Self::MAX_MINOR).contains(&amount_minor) {
            Ok(Self { amount_minor, currency })
        } else {
            Err(InvalidAmount)
        }
    }
}

/// What an hour costs (`S1-26`): at most so much that a whole day of it is a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Money", into = "Money")]
pub struct HourlyRate(Money);

/// A rate out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("amount_minor must be between 0 and {}", HourlyRate::MAX_MINOR)]
pub struct InvalidRate;

impl HourlyRate {
    /// The most an hour may cost. No service is longer than a day.
    pub const MAX_MINOR: i64 = Money::MAX_MINOR / 24;

    /// What `minutes`, a day's at most, cost, rounded half up to a minor unit.
    pub fn for_minutes(self, minutes: u16) -> Money {
        debug_assert!(minutes <= 24 * 60, "no service is longer than a day");
        let Money { amount_minor, currency } = self.0;
        Money { amount_minor: (amount_minor * i64::from(minutes) + 30) / 60, currency }
    }
}

impl TryFrom<Money> for HourlyRate {
    type Error = InvalidRate;
    fn try_from(money: Money) -> Result<Self, InvalidRate> {
        if money.amount_minor <= Self::MAX_MINOR { Ok(Self(money)) } else { Err(InvalidRate) }
    }
}

impl From<HourlyRate> for Money {
    fn from(rate: HourlyRate) -> Self {
        rate.0
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMoney {
    amount_minor: i64,
    #[serde(default = "brl")]
    currency: Currency,
}

fn brl() -> Currency {
    Currency::BRL
}

impl TryFrom<RawMoney> for Money {
    type Error = InvalidAmount;
    fn try_from(raw: RawMoney) -> Result<Self, InvalidAmount> {
        Self::new(raw.amount_minor, raw.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hourly_rate_is_prorated_and_rounded_half_up() {
        let rate = |minor| HourlyRate::try_from(Money::new(minor, Currency::BRL).unwrap());
        for (minutes, costs) in [(60, 10_001), (30, 5_001), (90, 15_002)] {
            assert_eq!(rate(10_001).unwrap().for_minutes(minutes).amount_minor, costs);
        }
        // The dearest day is a price, and read as one.
        let most = rate(HourlyRate::MAX_MINOR).unwrap().for_minutes(24 * 60);
        assert!(Money::new(most.amount_minor, Currency::BRL).is_ok());
        assert_eq!(rate(HourlyRate::MAX_MINOR + 1), Err(InvalidRate));
    }

    #[test]
    fn money_out_of_bounds_cannot_be_read() {
        for text in [
            r#"{"amount_minor":-1}"#,
            r#"{"amount_minor":10000000001}"#,
            r#"{"amount_minor":1,"currency":"brl"}"#,
            r#"{"amount_minor":1,"currency":"BR"}"#,
            r#"{"amount_minor":1,"currency":"L A"}"#,
            r#"{"amount_minor":1,"currency":"ZZZ"}"#,
            r#"{"amount_minor":1,"currency":"XXX"}"#,
            r#"{"amount_minor":1,"currency":"XAU"}"#,
            r#"{"amount_minor":1,"currency":"DEM"}"#,
            r#"{"amount_minor":1.5}"#,
        ] {
            assert!(serde_json::from_str::<Money>(text).is_err(), "{text}");
        }
        let money: Money = serde_json::from_str(r#"{"amount_minor":12000}"#).unwrap();
        assert_eq!(money.currency, Currency::BRL);
        for code in ["AED", "BRL", "EUR", "JPY", "KWD", "USD", "ZWG"] {
            assert_eq!(Currency::try_from(code.to_owned()).unwrap().as_str(), code);
        }
        assert!(CODES.iter().flat_map(|line| line.split(' ')).all(|code| code.len() == 3));
    }
}
