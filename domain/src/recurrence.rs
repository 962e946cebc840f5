//! Recurrence: when the appointments of a series are, as a rule of RFC 5545 (section 3.3.10) says.
//!
//! A rule counts local days: `FREQ=WEEKLY;COUNT=10` from Tuesday 09:00 in Lisbon is ten Tuesdays, each at 09:00 on the
//! wall there, whatever the clocks are set to meanwhile. A day on which that time does not exist (02:30, when clocks go
//! forward at 02:00) has an occurrence all the same, without an instant; of a time that exists twice it is the first.
//!
//! Of the standard this is what a series of appointments needs, and all of it is bounded: `FREQ` (`DAILY`, `WEEKLY`,
//! `MONTHLY`), `INTERVAL`, `BYDAY`, `BYMONTHDAY`, `WKST`, and `COUNT` or `UNTIL`; at most [`MAX_OCCURRENCES`] within
//! [`REACH_DAYS`]. Everything else is refused, never ignored. Days are looked at one by one, each by itself, so that nothing
//! a client writes costs more than that many looks.

use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike, MappedLocalTime, NaiveDate, NaiveDateTime, Offset, TimeZone, Weekday,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Instant;
use crate::hours::Zone;

/// The most occurrences a rule may have.
pub const MAX_OCCURRENCES: u16 = 60;

/// Within how many days from its start, included, a rule must have ended: five years.
pub const REACH_DAYS: u16 = 5 * 366;

/// How long a rule's text may be.
const MAX_LENGTH: usize = 256;

/// Why a rule was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidRecurrence {
    /// Not a rule at all.
    #[error("rrule must be an RFC 5545 rule such as FREQ=WEEKLY;BYDAY=TU;COUNT=10")]
    Form,
    /// A part of the standard that series do not have.
    #[error(
        "rrule must be of FREQ (DAILY, WEEKLY or MONTHLY), INTERVAL, BYDAY, BYMONTHDAY, WKST, COUNT and UNTIL"
    )]
    Unsupported,
    /// It never ends, or says twice when.
    #[error("rrule must be given with COUNT or UNTIL, not both")]
    Unbounded,
    /// More occurrences than [`MAX_OCCURRENCES`].
    #[error("rrule must be of at most {MAX_OCCURRENCES} occurrences")]
    TooMany,
    /// No occurrence.
    #[error("rrule must be of at least one occurrence")]
    Empty,
    /// It goes on for longer than [`REACH_DAYS`].
    #[error("rrule must be over within five years")]
    TooFar,
    /// The start is no occurrence.
    #[error("start must be the first occurrence of rrule")]
    Start,
}

impl InvalidRecurrence {
    /// Which of the fields it is about.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Start => "/start",
            Self::Form
            | Self::Unsupported
            | Self::Unbounded
            | Self::TooMany
            | Self::Empty
            | Self::TooFar => "/rrule",
        }
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Recurrence {
    frequency: Frequency,
    interval: u16,
    days: Vec<ByDay>,
    month_days: Vec<i8>,
    week_start: Weekday,
    end: End,
}

/// When an occurrence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// Which of its rule, from 1.
    pub number: u16,
    /// On the wall of its zone.
    pub local: NaiveDateTime,
    /// `None` where that time does not exist.
    pub start: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frequency {
    Daily,
    Weekly,
    Monthly,
}

/// A weekday; in a month perhaps its first, second … or last, last but one ….
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ByDay {
    nth: Option<i8>,
    day: Weekday,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Count(u16),
    /// The last local day.
    Day(NaiveDate),
    /// The last instant.
    At(Instant),
}

impl Recurrence {
    /// Its occurrences from a start, which must be the first of them, in a zone; in order.
    pub fn occurrences(
        &self,
        start: Instant,
        zone: Zone,
    ) -> Result<Vec<Occurrence>, InvalidRecurrence> {
        let first = local(start, zone).ok_or(InvalidRecurrence::TooFar)?;
        let anchor = first.date();
        if !self.falls_on(anchor, anchor) {
            return Err(InvalidRecurrence::Start);
        }
        let last = match self.end {
            End::Count(_) => None,
            End::Day(day) => Some(day.and_hms_opt(23, 59, 59).ok_or(InvalidRecurrence::Form)?),
            End::At(at) => Some(local(at, zone).ok_or(InvalidRecurrence::TooFar)?),
        };
        let too_far = |last: NaiveDateTime| (last.date() - anchor).num_days() >= REACH_DAYS.into();
        if last.is_some_and(too_far) {
            return Err(InvalidRecurrence::TooFar);
        }
        let mut occurrences = Vec::new();
        for day in anchor.iter_days().take(REACH_DAYS.into()) {
            if !self.falls_on(anchor, day) {
                continue;
            }
            let local = day.and_time(first.time());
            if last.is_some_and(|last| local > last) {
                break;
            }
            let number = u16::try_from(occurrences.len() + 1).unwrap_or(u16::MAX);
            if number > MAX_OCCURRENCES {
                return Err(InvalidRecurrence::TooMany);
            }
            let start = if day == anchor { Some(start) } else { instant(local, zone) };
            occurrences.push(Occurrence { number, local, start });
            if self.end == End::Count(number) {
                return Ok(occurrences);
            }
        }
        match (self.end, occurrences.is_empty()) {
            (End::Count(_), _) => Err(InvalidRecurrence::TooFar),
            (End::Day(_) | End::At(_), true) => Err(InvalidRecurrence::Empty),
            (End::Day(_) | End::At(_), false) => Ok(occurrences),
        }
    }

    /// Whether a local day is one of the rule's, its end aside; `anchor` is the first, and not later.
    fn falls_on(&self, anchor: NaiveDate, day: NaiveDate) -> bool {
        let every = i64::from(self.interval);
        let on_weekday = |by: &ByDay| match by.nth {
            None => by.day == day.weekday(),
            Some(nth) => by.day == day.weekday() && nth_weekday(day, nth),
        };
        let on_weekdays = self.days.is_empty() || self.days.iter().any(on_weekday);
        let on_month_days =
            self.month_days.is_empty() || self.month_days.iter().any(|n| nth_day(day, *n));
        match self.frequency {
            Frequency::Daily => {
                (day - anchor).num_days() % every == 0 && on_weekdays && on_month_days
            }
            Frequency::Weekly => {
                let week = |day: NaiveDate| {
                    let into = i64::from(day.weekday().days_since(self.week_start));
                    i64::from(day.num_days_from_ce()) - into
                };
                let weeks = (week(day) - week(anchor)) / 7;
                let own = !self.days.is_empty() || day.weekday() == anchor.weekday();
                weeks % every == 0 && on_weekdays && own
            }
            Frequency::Monthly => {
                let month = |day: NaiveDate| i64::from(day.year()) * 12 + i64::from(day.month0());
                let plain = self.days.is_empty() && self.month_days.is_empty();
                let own = !plain || day.day() == anchor.day();
                (month(day) - month(anchor)) % every == 0 && on_weekdays && on_month_days && own
            }
        }
    }
}

/// Whether a day is the n-th of its month, counted from the end where n is negative.
fn nth_day(day: NaiveDate, n: i8) -> bool {
    let from_end = i64::from(day.num_days_in_month()) - i64::from(day.day()) + 1;
    i64::from(n) == i64::from(day.day()) || -i64::from(n) == from_end
}

/// The same, counting only days of its weekday.
fn nth_weekday(day: NaiveDate, n: i8) -> bool {
    let before = i64::from(day.day0()) / 7;
    let after = (i64::from(day.num_days_in_month()) - i64::from(day.day())) / 7;
    i64::from(n) == before + 1 || -i64::from(n) == after + 1
}

/// What clocks show; `None` beyond what can be represented.
fn local(at: Instant, zone: Zone) -> Option<NaiveDateTime> {
    let utc = at.naive_utc();
    utc.checked_add_offset(zone.0.offset_from_utc_datetime(&utc).fix())
}

/// When clocks show this for the first time, if they do.
fn instant(local: NaiveDateTime, zone: Zone) -> Option<Instant> {
    match zone.0.from_local_datetime(&local) {
        MappedLocalTime::Single(at) | MappedLocalTime::Ambiguous(at, _) => Some(at.to_utc()),
        MappedLocalTime::None => None,
    }
}

impl FromStr for Recurrence {
    type Err = InvalidRecurrence;

    fn from_str(text: &str) -> Result<Self, InvalidRecurrence> {
        if text.len() > MAX_LENGTH || !text.is_ascii() {
            return Err(InvalidRecurrence::Form);
        }
        let text = text.trim().to_ascii_uppercase();
        let text = text.strip_prefix("RRULE:").unwrap_or(&text);
        let mut parts = Parts::default();
        for part in text.split(';') {
            let (name, value) = part.split_once('=').ok_or(InvalidRecurrence::Form)?;
            match name {
                "FREQ" => once(&mut parts.frequency, frequency(value)?)?,
                "INTERVAL" => once(&mut parts.interval, number(value, 1, 366)?)?,
                "BYDAY" => once(&mut parts.days, list(value, by_day)?)?,
                "BYMONTHDAY" => once(&mut parts.month_days, list(value, |n| nth(n, 31))?)?,
                "WKST" => once(&mut parts.week_start, weekday(value)?)?,
                "COUNT" => once(&mut parts.count, count(value)?)?,
                "UNTIL" => once(&mut parts.until, until(value)?)?,
                "BYSECOND" | "BYMINUTE" | "BYHOUR" | "BYYEARDAY" | "BYWEEKNO" | "BYMONTH"
                | "BYSETPOS" | "RSCALE" | "SKIP" => return Err(InvalidRecurrence::Unsupported),
                _ => return Err(InvalidRecurrence::Form),
            }
        }
        parts.rule()
    }
}

/// The parts of a rule, as they come.
#[derive(Default)]
struct Parts {
    frequency: Option<Frequency>,
    interval: Option<u16>,
    days: Option<Vec<ByDay>>,
    month_days: Option<Vec<i8>>,
    week_start: Option<Weekday>,
    count: Option<u16>,
    until: Option<End>,
}

impl Parts {
    fn rule(self) -> Result<Recurrence, InvalidRecurrence> {
        let Self { frequency, interval, days, month_days, week_start, count, until } = self;
        let frequency = frequency.ok_or(InvalidRecurrence::Form)?;
        let (days, month_days) = (days.unwrap_or_default(), month_days.unwrap_or_default());
        let has_nth = days.iter().any(|by| by.nth.is_some());
        // The standard forbids these.
        let fits = match frequency {
            Frequency::Daily => !has_nth,
            Frequency::Weekly => !has_nth && month_days.is_empty(),
            Frequency::Monthly => true,
        };
        if !fits {
            return Err(InvalidRecurrence::Form);
        }
        let end = match (count, until) {
            (Some(count), None) => End::Count(count),
            (None, Some(until)) => until,
            (None, None) | (Some(_), Some(_)) => return Err(InvalidRecurrence::Unbounded),
        };
        Ok(Recurrence {
            frequency,
            interval: interval.unwrap_or(1),
            days,
            month_days,
            week_start: week_start.unwrap_or(Weekday::Mon),
            end,
        })
    }
}

fn once<T>(part: &mut Option<T>, value: T) -> Result<(), InvalidRecurrence> {
    if part.replace(value).is_none() { Ok(()) } else { Err(InvalidRecurrence::Form) }
}

fn frequency(value: &str) -> Result<Frequency, InvalidRecurrence> {
    match value {
        "DAILY" => Ok(Frequency::Daily),
        "WEEKLY" => Ok(Frequency::Weekly),
        "MONTHLY" => Ok(Frequency::Monthly),
        "SECONDLY" | "MINUTELY" | "HOURLY" | "YEARLY" => Err(InvalidRecurrence::Unsupported),
        _ => Err(InvalidRecurrence::Form),
    }
}

fn number(value: &str, min: u16, max: u16) -> Result<u16, InvalidRecurrence> {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|number| (min..=max).contains(number));
    number.filter(|_| digits).ok_or(InvalidRecurrence::Form)
}

fn count(value: &str) -> Result<u16, InvalidRecurrence> {
    if !value.is_empty() && value.bytes().all(|byte| byte == b'0') {
        return Err(InvalidRecurrence::Empty);
    }
    let count = number(value, 1, u16::MAX)?;
    if count > MAX_OCCURRENCES { Err(InvalidRecurrence::TooMany) } else { Ok(count) }
}

/// A day, or an instant in UTC: the start has a zone, so a local date-time is not what the standard asks for.
fn until(value: &str) -> Result<End, InvalidRecurrence> {
    if let Ok(day) = NaiveDate::parse_from_str(value, "%Y%m%d") {
        return if value.len() == 8 { Ok(End::Day(day)) } else { Err(InvalidRecurrence::Form) };
    }
    let at = NaiveDateTime::parse_from_str(value, "%Y%m%dT%H%M%SZ");
    let at = at.ok().filter(|_| value.len() == 16).ok_or(InvalidRecurrence::Form)?;
    Ok(End::At(DateTime::from_naive_utc_and_offset(at, chrono::Utc)))
}

fn list<T: PartialEq>(
    value: &str,
    one: impl Fn(&str) -> Result<T, InvalidRecurrence>,
) -> Result<Vec<T>, InvalidRecurrence> {
    value.split(',').map(one).collect()
}

/// A number from 1 to `max`, or from its negative to -1.
fn nth(value: &str, max: u16) -> Result<i8, InvalidRecurrence> {
    let (sign, digits) = match (value.strip_prefix('-'), value.strip_prefix('+')) {
        (Some(digits), _) => (-1, digits),
        (None, Some(digits)) => (1, digits),
        (None, None) => (1, value),
    };
    let n = i8::try_from(number(digits, 1, max)?).map_err(|_| InvalidRecurrence::Form)?;
    Ok(sign * n)
}

fn by_day(value: &str) -> Result<ByDay, InvalidRecurrence> {
    let at = value.len().checked_sub(2).ok_or(InvalidRecurrence::Form)?;
    let (which, day) = value.split_at(at);
    let which = if which.is_empty() { None } else { Some(nth(which, 5)?) };
    Ok(ByDay { nth: which, day: weekday(day)? })
}

const WEEKDAYS: [(&str, Weekday); 7] = [
    ("MO", Weekday::Mon),
    ("TU", Weekday::Tue),
    ("WE", Weekday::Wed),
    ("TH", Weekday::Thu),
    ("FR", Weekday::Fri),
    ("SA", Weekday::Sat),
    ("SU", Weekday::Sun),
];

fn weekday(value: &str) -> Result<Weekday, InvalidRecurrence> {
    let known = WEEKDAYS.iter().find(|(name, _)| *name == value);
    known.map(|(_, day)| *day).ok_or(InvalidRecurrence::Form)
}

fn name(day: Weekday) -> &'static str {
    WEEKDAYS[day.num_days_from_monday() as usize].0
}

/// As it is stored and shown: in one order, without what goes without saying.
impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frequency, interval, days, month_days, week_start, end } = self;
        f.write_str(match frequency {
            Frequency::Daily => "FREQ=DAILY",
            Frequency::Weekly => "FREQ=WEEKLY",
            Frequency::Monthly => "FREQ=MONTHLY",
        })?;
        if *interval != 1 {
            write!(f, ";INTERVAL={interval}")?;
        }
        for (n, by) in days.iter().enumerate() {
            f.write_str(if n == 0 { ";BYDAY=" } else { "," })?;
            if let Some(nth) = by.nth {
                write!(f, "{nth}")?;
            }
            f.write_str(name(by.day))?;
        }
        for (n, day) in month_days.iter().enumerate() {
            write!(f, "{}{day}", if n == 0 { ";BYMONTHDAY=" } else { "," })?;
        }
        if *week_start != Weekday::Mon {
            write!(f, ";WKST={}", name(*week_start))?;
        }
        match end {
            End::Count(count) => write!(f, ";COUNT={count}"),
            End::Day(day) => write!(f, ";UNTIL={}", day.format("%Y%m%d")),
            End::At(at) => write!(f, ";UNTIL={}", at.format("%Y%m%dT%H%M%SZ")),
        }
    }
}

impl TryFrom<String> for Recurrence {
    type Error = InvalidRecurrence;
    fn try_from(text: String) -> Result<Self, InvalidRecurrence> {
        text.parse()
    }
}

impl From<Recurrence> for String {
    fn from(rule: Recurrence) -> Self {
        rule.to_string()
    }
}
