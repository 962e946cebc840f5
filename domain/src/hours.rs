//! When a provider works: weekly windows, overrides of single days, and the booking policy (K2).
//!
//! Everything here is in the provider's local time. A window is `09:00`–`12:30`; `24:00` is the end of a
//! day. The slot arithmetic that turns windows into instants is in [`crate::slots`].

use std::fmt;
use std::str::FromStr;

use chrono::{Datelike, NaiveDate, Weekday};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::time_off::TimeOff;

/// Why hours or a policy were refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidHours {
    /// Not `HH:MM` from 00:00 to 24:00.
    #[error("a time of day must be HH:MM, from 00:00 to 24:00")]
    MinuteOfDay,
    /// A window that ends before it starts, or windows that overlap or touch out of order.
    #[error("windows must end after they start, be in order and not overlap")]
    Windows,
    /// More windows than a day may have.
    #[error("a day may have at most {} windows", Windows::MAX)]
    TooMany,
    /// No such IANA time zone.
    #[error("time_zone must be an IANA name such as America/Sao_Paulo")]
    Zone,
    /// Not `YYYY-MM-DDTHH:MM`.
    #[error("a local time must be such as 2026-12-24T12:00")]
    LocalMinute,
    /// Time off that ends before it starts, or lasts too long.
    #[error("time off must end after it starts, and within {} days", TimeOff::MAX_DAYS)]
    TimeOff,
    /// A policy's value out of bounds.
    #[error("{field} must be between {min} and {max}")]
    Bounds {
        /// Which field.
        field: &'static str,
        /// The least value.
        min: u32,
        /// The greatest value.
        max: u32,
    },
}

/// A local time of day in whole minutes, `00:00` to `24:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MinuteOfDay(u16);

impl MinuteOfDay {
    /// Minutes since midnight, 0–1440.
    pub const fn minutes(self) -> u16 {
        self.0
    }

    /// From minutes since midnight; more than 1440 is refused.
    pub const fn from_minutes(minutes: u16) -> Result<Self, InvalidHours> {
        if minutes <= 1440 { Ok(Self(minutes)) } else { Err(InvalidHours::MinuteOfDay) }
    }
}

impl fmt::Display for MinuteOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl From<MinuteOfDay> for String {
    fn from(time: MinuteOfDay) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for MinuteOfDay {
    type Error = InvalidHours;
    fn try_from(text: String) -> Result<Self, InvalidHours> {
        text.parse()
    }
}

impl FromStr for MinuteOfDay {
    type Err = InvalidHours;
    fn from_str(text: &str) -> Result<Self, InvalidHours> {
        let bytes = text.as_bytes();
        let digit =
            |i: usize| bytes.get(i).filter(|b| b.is_ascii_digit()).map(|b| u16::from(b - b'0'));
        let (Some(a), Some(b), Some(b':'), Some(c), Some(d), 5) =
            (digit(0), digit(1), bytes.get(2).copied(), digit(3), digit(4), bytes.len())
        else {
            return Err(InvalidHours::MinuteOfDay);
        };
        let (hours, minutes) = (a * 10 + b, c * 10 + d);
        if minutes > 59 {
            Err(InvalidHours::MinuteOfDay)
        } else {
            Self::from_minutes(hours * 60 + minutes)
        }
    }
}

/// One stretch of working time within a local day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The first minute.
    pub from: MinuteOfDay,
    /// The end, not included.
    pub to: MinuteOfDay,
}

/// The windows of one day: in order, not overlapping, at most [`Windows::MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Window>", into = "Vec<Window>")]
pub struct Windows(Vec<Window>);

impl Windows {
    /// The most windows a day may have.
    pub const MAX: usize = 24;

    /// The windows, in order.
    pub fn iter(&self) -> impl Iterator<Item = Window> + '_ {
        self.0.iter().copied()
    }

    /// Whether it is a day off.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// None: a day off.
    pub const NONE: Self = Self(Vec::new());

    /// The windows as a slice.
    pub fn as_slice(&self) -> &[Window] {
        &self.0
    }

    /// What lies in both, in order: at most as many windows as the two have together.
    pub fn shared_with(&self, other: &Self) -> Vec<Window> {
        let mut shared = Vec::new();
        for window in &self.0 {
            for theirs in &other.0 {
                let (from, to) = (window.from.max(theirs.from), window.to.min(theirs.to));
                if from < to {
                    shared.push(Window { from, to });
                }
            }
        }
        shared
    }

    /// 08:00–18:00 (`S0-26`).
    pub fn classic() -> Self {
        Self(vec![Window { from: MinuteOfDay(8 * 60), to: MinuteOfDay(18 * 60) }])
    }
}

impl TryFrom<Vec<Window>> for Windows {
    type Error = InvalidHours;
    fn try_from(windows: Vec<Window>) -> Result<Self, InvalidHours> {
        if windows.len() > Self::MAX {
            return Err(InvalidHours::TooMany);
        }
        let ends_after_start = windows.iter().all(|w| w.from < w.to);
        let in_order = windows.windows(2).all(|pair| pair[0].to <= pair[1].from);
        if ends_after_start && in_order { Ok(Self(windows)) } else { Err(InvalidHours::Windows) }
    }
}

impl From<Windows> for Vec<Window> {
    fn from(windows: Windows) -> Self {
        windows.0
    }
}

/// The windows of each weekday.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeeklyHours {
    /// Monday.
    #[serde(default)]
    pub monday: Windows,
    /// Tuesday.
    #[serde(default)]
    pub tuesday: Windows,
    /// Wednesday.
    #[serde(default)]
    pub wednesday: Windows,
    /// Thursday.
    #[serde(default)]
    pub thursday: Windows,
    /// Friday.
    #[serde(default)]
    pub friday: Windows,
    /// Saturday.
    #[serde(default)]
    pub saturday: Windows,
    /// Sunday.
    #[serde(default)]
    pub sunday: Windows,
}

impl WeeklyHours {
    /// Every day 08:00–18:00: the classic profile (K1).
    pub fn classic() -> Self {
        let day = Windows::classic;
        Self {
            monday: day(),
            tuesday: day(),
            wednesday: day(),
            thursday: day(),
            friday: day(),
            saturday: day(),
            sunday: day(),
        }
    }

    /// The windows of a local date, overrides aside.
    pub fn on(&self, day: NaiveDate) -> &Windows {
        match day.weekday() {
            Weekday::Mon => &self.monday,
            Weekday::Tue => &self.tuesday,
            Weekday::Wed => &self.wednesday,
            Weekday::Thu => &self.thursday,
            Weekday::Fri => &self.friday,
            Weekday::Sat => &self.saturday,
            Weekday::Sun => &self.sunday,
        }
    }
}

/// An IANA time zone (K9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(pub chrono_tz::Tz);

impl Zone {
    /// America/Sao_Paulo, the default.
    pub const SAO_PAULO: Self = Self(chrono_tz::America::Sao_Paulo);

    /// The IANA name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::SAO_PAULO
    }
}

impl FromStr for Zone {
    type Err = InvalidHours;
    fn from_str(text: &str) -> Result<Self, InvalidHours> {
        text.parse().map(Self).map_err(|_| InvalidHours::Zone)
    }
}

impl TryFrom<String> for Zone {
    type Error = InvalidHours;
    fn try_from(text: String) -> Result<Self, InvalidHours> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name().to_owned()
    }
}

/// Whether a booking stands at once or waits for the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// A booking is confirmed at once.
    Automatic,
    /// A booking is pending until the provider confirms or declines.
    Manual,
}

/// How a provider takes bookings (K2, K19).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawPolicy")]
pub struct Policy {
    /// A booking must be at least this far ahead.
    pub minimum_notice_minutes: u32,
    /// A booking may be at most this many local days ahead.
    pub horizon_days: u32,
    /// A client may cancel or reschedule until this long before the start; 0 is until the start.
    pub cancellation_window_minutes: u32,
    /// Whether bookings wait for the provider.
    pub confirmation: Confirmation,
    /// A booking that waits for the provider expires this long after it was made; where there is no such limit, at its
    /// start. Never later than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer_within_minutes: Option<u32>,
    /// Whether people without an account may book by name and address (K18).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub guests: bool,
    /// The most bookings a local day may have, every seat of a group counted; holds count while they hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_day: Option<u32>,
    /// How long a slot is held while somebody checks out; [`Policy::HOLD_MINUTES`] unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_minutes: Option<u32>,
    /// How long who waits is offered a slot that was given back; [`Policy::WAITLIST_OFFER_MINUTES`] unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waitlist_offer_minutes: Option<u32>,
}

impl Policy {
    /// How long a slot is held where the policy does not say.
    pub const HOLD_MINUTES: u32 = 10;

    /// How long who waits is offered a slot where the policy does not say.
    pub const WAITLIST_OFFER_MINUTES: u32 = 30;

    /// The classic profile: no notice, a year ahead, pending until confirmed (K1, `S3-16`).
    pub fn classic() -> Self {
        Self {
            minimum_notice_minutes: 0,
            horizon_days: 365,
            cancellation_window_minutes: 0,
            confirmation: Confirmation::Manual,
            answer_within_minutes: None,
            guests: false,
            max_per_day: None,
            hold_minutes: None,
            waitlist_offer_minutes: None,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::classic()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    minimum_notice_minutes: u32,
    horizon_days: u32,
    cancellation_window_minutes: u32,
    confirmation: Confirmation,
    answer_within_minutes: Option<u32>,
    #[serde(default)]
    guests: bool,
    #[serde(default)]
    max_per_day: Option<u32>,
    #[serde(default)]
    hold_minutes: Option<u32>,
    #[serde(default)]
    waitlist_offer_minutes: Option<u32>,
}

impl TryFrom<RawPolicy> for Policy {
    type Error = InvalidHours;
    fn try_from(raw: RawPolicy) -> Result<Self, InvalidHours> {
        const YEAR_MINUTES: u32 = 366 * 24 * 60;
        const MONTH_MINUTES: u32 = 30 * 24 * 60;
        within("minimum_notice_minutes", raw.minimum_notice_minutes, 0, YEAR_MINUTES)?;
        within("horizon_days", raw.horizon_days, 1, 730)?;
        within("cancellation_window_minutes", raw.cancellation_window_minutes, 0, YEAR_MINUTES)?;
        if let Some(minutes) = raw.answer_within_minutes {
            within("answer_within_minutes", minutes, 5, MONTH_MINUTES)?;
        }
        raw.max_per_day.map(|most| within("max_per_day", most, 1, 1000)).transpose()?;
        raw.hold_minutes.map(|minutes| within("hold_minutes", minutes, 1, 60)).transpose()?;
        if let Some(minutes) = raw.waitlist_offer_minutes {
            within("waitlist_offer_minutes", minutes, 1, 24 * 60)?;
        }
        Ok(Self {
            minimum_notice_minutes: raw.minimum_notice_minutes,
            horizon_days: raw.horizon_days,
            cancellation_window_minutes: raw.cancellation_window_minutes,
            confirmation: raw.confirmation,
            answer_within_minutes: raw.answer_within_minutes,
            guests: raw.guests,
            max_per_day: raw.max_per_day,
            hold_minutes: raw.hold_minutes,
            waitlist_offer_minutes: raw.waitlist_offer_minutes,
        })
    }
}

/// `value`, if it is in bounds.
pub(crate) fn within(
    field: &'static str,
    value: u32,
    min: u32,
    max: u32,
) -> Result<u32, InvalidHours> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(InvalidHours::Bounds { field, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_of_day_reads_and_writes_hh_mm() {
        for (text, minutes) in [("00:00", 0), ("08:30", 510), ("24:00", 1440)] {
            let time: MinuteOfDay = text.parse().unwrap();
            assert_eq!((time.minutes(), time.to_string().as_str()), (minutes, text));
        }
        for wrong in ["24:01", "8:00", "08:60", "0800", "", "aa:bb", "08:00:00", "-1:00"] {
            assert!(wrong.parse::<MinuteOfDay>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn windows_out_of_order_overlapping_or_empty_are_refused() {
        let read = serde_json::from_str::<Windows>;
        assert!(read(r#"[{"from":"08:00","to":"12:00"},{"from":"12:00","to":"18:00"}]"#).is_ok());
        assert!(read(r#"[{"from":"08:00","to":"12:00"},{"from":"11:59","to":"18:00"}]"#).is_err());
        assert!(read(r#"[{"from":"13:00","to":"18:00"},{"from":"08:00","to":"12:00"}]"#).is_err());
        assert!(read(r#"[{"from":"08:00","to":"08:00"}]"#).is_err());
    }

    #[test]
    fn a_policy_out_of_bounds_is_refused() {
        let policy = |horizon: u32| {
            serde_json::from_str::<Policy>(&format!(
                r#"{{"minimum_notice_minutes":0,"horizon_days":{horizon},"cancellation_window_minutes":0,"confirmation":"manual"}}"#
            ))
        };
        assert!(policy(365).is_ok());
        assert!(policy(0).is_err());
        assert!(policy(731).is_err());
        let with = |more: &str| {
            serde_json::from_str::<Policy>(&format!(
                r#"{{"minimum_notice_minutes":0,"horizon_days":9,"cancellation_window_minutes":0,"confirmation":"manual",{more}}}"#
            ))
        };
        assert_eq!(with(r#""max_per_day":8,"hold_minutes":60"#).unwrap().max_per_day, Some(8));
        for wrong in [
            r#""max_per_day":0"#,
            r#""max_per_day":1001"#,
            r#""hold_minutes":0"#,
            r#""hold_minutes":61"#,
        ] {
            assert!(with(wrong).is_err(), "{wrong}");
        }
    }
}
