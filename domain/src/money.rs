//! Money: integer minor units and an ISO 4217 code (K14).

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Three capital letters, such as `BRL`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

/// A text that is no currency code.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("currency must be an ISO 4217 code of three capital letters")]
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
        if code.iter().all(u8::is_ascii_uppercase) { Ok(Self(code)) } else { Err(InvalidCurrency) }
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

    /// What `minutes` cost at this price per hour, rounded half up to a minor unit (`S1-26`).
    pub fn for_minutes_at_hourly(self, minutes: u32) -> Self {
        let minor = self.amount_minor.saturating_mul(minutes.into()).saturating_add(30) / 60;
        Self { amount_minor: minor.min(Self::MAX_MINOR), currency: self.currency }
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
        let rate = Money::new(10_001, Currency::BRL).unwrap();
        assert_eq!(rate.for_minutes_at_hourly(60).amount_minor, 10_001);
        assert_eq!(rate.for_minutes_at_hourly(30).amount_minor, 5_001);
        assert_eq!(rate.for_minutes_at_hourly(90).amount_minor, 15_002);
    }

    #[test]
    fn money_out_of_bounds_cannot_be_read() {
        for text in [
            r#"{"amount_minor":-1}"#,
            r#"{"amount_minor":10000000001}"#,
            r#"{"amount_minor":1,"currency":"brl"}"#,
            r#"{"amount_minor":1.5}"#,
        ] {
            assert!(serde_json::from_str::<Money>(text).is_err(), "{text}");
        }
        let money: Money = serde_json::from_str(r#"{"amount_minor":12000}"#).unwrap();
        assert_eq!(money.currency, Currency::BRL);
    }
}
