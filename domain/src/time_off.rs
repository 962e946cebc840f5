//! Time off: a stretch of a provider's local time in which nothing starts, runs or ends.
//!
//! It is in local time, from one minute to another, over as many days as it takes: from `2026-12-24T12:00` to
//! `2027-01-02T00:00`. It does not move the grid of slots: those it touches are left out, the others stand where they stood.
//! A minute that a clock shows twice is off both times.

use std::fmt;
use std::str::FromStr;

use chrono::{NaiveDate, NaiveDateTime, TimeDelta, Timelike as _};
use serde::{Deserialize, Serialize};

use crate::hours::InvalidHours;

/// A local date and time of day in whole minutes, `2026-12-24T12:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LocalMinute(NaiveDateTime);

impl LocalMinute {
    const FORM: &'static str = "%Y-%m-%dT%H:%M";

    /// The date and time.
    pub const fn naive(self) -> NaiveDateTime {
        self.0
    }
}

impl fmt::Display for LocalMinute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.format(Self::FORM).fmt(f)
    }
}

impl FromStr for LocalMinute {
    type Err = InvalidHours;
    fn from_str(text: &str) -> Result<Self, InvalidHours> {
        // chrono would take a year of any length, and a month of one digit.
        let form = "0000-00-00T00:00";
        let alike = |(c, form): (u8, u8)| if form == b'0' { c.is_ascii_digit() } else { c == form };
        if text.len() != form.len() || !text.bytes().zip(form.bytes()).all(alike) {
            return Err(InvalidHours::LocalMinute);
        }
        NaiveDateTime::parse_from_str(text, Self::FORM)
            .map(Self)
            .map_err(|_| InvalidHours::LocalMinute)
    }
}

impl TryFrom<String> for LocalMinute {
    type Error = InvalidHours;
    fn try_from(text: String) -> Result<Self, InvalidHours> {
        text.parse()
    }
}

impl From<LocalMinute> for String {
    fn from(at: LocalMinute) -> Self {
        at.to_string()
    }
}

/// A stretch of time off, in the provider's local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawTimeOff")]
pub struct TimeOff {
    /// The first minute.
    pub from: LocalMinute,
    /// The end, not included.
    pub until: LocalMinute,
}

impl TimeOff {
    /// The longest there is: a year and a day.
    pub const MAX_DAYS: i64 = 367;

    /// The stretch, if it ends after it starts and within a year.
    pub fn new(from: LocalMinute, until: LocalMinute) -> Result<Self, InvalidHours> {
        let length = until.naive() - from.naive();
        if length > TimeDelta::zero() && length <= TimeDelta::days(Self::MAX_DAYS) {
            Ok(Self { from, until })
        } else {
            Err(InvalidHours::TimeOff)
        }
    }

    /// Whether the local times `from..until` share a minute with it.
    pub fn touches(&self, from: NaiveDateTime, until: NaiveDateTime) -> bool {
        self.from.0 < until && from < self.until.0
    }

    /// Its minutes of a local date, `0..=1440`, if it touches that.
    pub fn minutes_of(&self, day: NaiveDate) -> Option<(u16, u16)> {
        const DAY: u16 = 24 * 60;
        let minute = |at: NaiveDateTime| u16::try_from(at.hour() * 60 + at.minute()).unwrap_or(DAY);
        let (first, last) = (self.from.0.date(), self.until.0.date());
        if day < first || day > last {
            return None;
        }
        let from = if day == first { minute(self.from.0) } else { 0 };
        let until = if day == last { minute(self.until.0) } else { DAY };
        (from < until).then_some((from, until))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTimeOff {
    from: LocalMinute,
    until: LocalMinute,
}

impl TryFrom<RawTimeOff> for TimeOff {
    type Error = InvalidHours;
    fn try_from(raw: RawTimeOff) -> Result<Self, InvalidHours> {
        Self::new(raw.from, raw.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(from: &str, until: &str) -> Result<TimeOff, InvalidHours> {
        TimeOff::new(from.parse()?, until.parse()?)
    }

    #[test]
    fn a_local_minute_reads_and_writes_one_form() {
        let at: LocalMinute = "2026-12-24T12:05".parse().unwrap();
        assert_eq!(at.to_string(), "2026-12-24T12:05");
        for wrong in [
            "2026-12-24",
            "2026-12-24T12:05:00",
            "2026-12-24T24:00",
            "2026-02-29T10:00",
            "2026-1-24T12:005",
            "2026-12-24 12:05",
            "+026-12-24T12:05",
            "",
        ] {
            assert!(wrong.parse::<LocalMinute>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn it_ends_after_it_starts_and_within_a_year() {
        assert!(off("2026-12-24T12:00", "2026-12-24T12:01").is_ok());
        assert!(off("2026-12-24T12:00", "2026-12-24T12:00").is_err());
        assert!(off("2026-12-24T12:00", "2026-12-23T12:00").is_err());
        assert!(off("2026-01-01T00:00", "2027-01-03T00:00").is_ok());
        assert!(off("2026-01-01T00:00", "2027-01-03T00:01").is_err());
    }

    #[test]
    fn each_day_has_its_part() {
        let off = off("2026-12-24T12:00", "2026-12-26T00:00").unwrap();
        let part = |day: &str| off.minutes_of(day.parse().unwrap());
        assert_eq!(part("2026-12-23"), None);
        assert_eq!(part("2026-12-24"), Some((720, 1440)));
        assert_eq!(part("2026-12-25"), Some((0, 1440)));
        assert_eq!(part("2026-12-26"), None);
    }
}
