//! Slot arithmetic: from local windows to instants, and from instants to free slots.
//!
//! A window belongs to a local date. Its instants are all those whose local time lies in it, so a DST gap
//! shortens it and an overlap lengthens it. Candidates start at window start + k × interval in local time:
//! a time that falls into a gap does not exist, one that an overlap repeats exists twice. A slot's duration
//! is elapsed time and must end inside the window. For example, on 2026-03-29 in Lisbon (01:00 → 02:00),
//! the window 00:00–04:00 with 60-minute slots has starts at 00:00, 02:00 and 03:00: three, not four.
//!
//! An appointment occupies its time plus its service's buffers; two occupations may not intersect, except
//! that one with the same service and start may be joined while a seat is free.
//!
//! Nothing here panics, whatever instant a client sends: outside the years 0 to 9999 there are no slots, and
//! instants beyond what can be represented are cut to the last that can.

use std::collections::BTreeMap;

use chrono::{
    DateTime, Datelike, Days, FixedOffset, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone,
    Timelike, Utc,
};
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::hours::{Policy, WeeklyHours, Windows, Zone};
use crate::ids::ServiceId;

/// A half-open stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The first instant.
    pub start: Instant,
    /// The end, not included.
    pub end: Instant,
}

impl Span {
    /// Whether the two share an instant.
    pub fn intersects(&self, other: &Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The UTC days it touches, in order.
    pub fn utc_days(&self) -> Vec<NaiveDate> {
        let first = self.start.date_naive();
        let last = shifted(self.end, -TimeDelta::nanoseconds(1)).date_naive().max(first);
        first.iter_days().take_while(|day| *day <= last).collect()
    }
}

/// When a provider can be booked: everything but what is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The provider's time zone.
    pub zone: Zone,
    /// The windows of each weekday.
    pub weekly: WeeklyHours,
    /// Days that differ: time off (no windows) or other hours.
    pub overrides: BTreeMap<NaiveDate, Windows>,
    /// Notice, horizon and the like.
    pub policy: Policy,
}

impl Schedule {
    /// The windows of a local date.
    pub fn windows(&self, day: NaiveDate) -> &Windows {
        self.overrides.get(&day).unwrap_or_else(|| self.weekly.on(day))
    }

    /// The local date of an instant.
    pub fn local_day(&self, at: Instant) -> NaiveDate {
        self.local(at).date()
    }

    /// The last local date that may be booked.
    pub fn last_day(&self, now: Instant) -> NaiveDate {
        let days = Days::new(u64::from(self.policy.horizon_days));
        self.local_day(now).checked_add_days(days).unwrap_or(NaiveDate::MAX)
    }

    /// The earliest instant that may be booked; the start must be later than now in any case (`S0-28`).
    pub fn earliest(&self, now: Instant) -> Instant {
        shifted(now, TimeDelta::minutes(i64::from(self.policy.minimum_notice_minutes)))
    }

    /// Whether a start is neither past, too soon nor beyond the horizon.
    pub fn in_time(&self, start: Instant, now: Instant) -> bool {
        start > now && start >= self.earliest(now) && self.local_day(start) <= self.last_day(now)
    }

    /// Every slot of a local date that the windows allow, whether taken or not, in order.
    pub fn candidates(&self, measure: &Measure, day: NaiveDate) -> Vec<Span> {
        let windows = self.windows(day);
        if windows.is_empty() {
            return Vec::new();
        }
        let stretches = stretches(self.zone, day);
        let duration = measure.duration();
        let mut slots = Vec::new();
        for window in windows.iter() {
            let (from, to) = (window.from.minutes(), window.to.minutes());
            let open: Vec<(Span, &Stretch)> = stretches
                .iter()
                .filter_map(|stretch| Some((stretch.instants(day, from, to)?, stretch)))
                .collect();
            for (i, (span, stretch)) in open.iter().enumerate() {
                // Stretches that touch are one open time: a slot may run across a change of offset.
                let end = open[i..]
                    .windows(2)
                    .take_while(|pair| pair[0].0.end == pair[1].0.start)
                    .last()
                    .map_or(span.end, |pair| pair[1].0.end);
                for local in (from..to).step_by(measure.interval().into()) {
                    let start = stretch.instant(day, local);
                    if start >= span.start && start < span.end && start + duration <= end {
                        slots.push(Span { start, end: start + duration });
                    }
                }
            }
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// The instants at which the windows of a local date are open, in order. A window is one span, or several where a
    /// change of offset takes a part out of it.
    pub fn open(&self, day: NaiveDate) -> Vec<Span> {
        let stretches = stretches(self.zone, day);
        let mut open: Vec<Span> = Vec::new();
        for window in self.windows(day).iter() {
            let (from, to) = (window.from.minutes(), window.to.minutes());
            let before = open.len();
            for span in stretches.iter().filter_map(|stretch| stretch.instants(day, from, to)) {
                match open[before..].last_mut() {
                    Some(last) if last.end == span.start => last.end = span.end,
                    _ => open.push(span),
                }
            }
        }
        open.sort_unstable();
        open
    }

    /// Whether one of [`Self::candidates`] starts at this instant, without listing them: every booking asks.
    pub fn allows(&self, measure: &Measure, start: Instant) -> bool {
        let local = self.local(start);
        let day = local.date();
        if !has_slots(day) || local.second() != 0 || local.nanosecond() != 0 {
            return false;
        }
        let minute = local.hour() * 60 + local.minute();
        let window = self.windows(day).iter().find(|window| {
            (u32::from(window.from.minutes())..u32::from(window.to.minutes())).contains(&minute)
        });
        let Some(window) = window else { return false };
        let into = minute - u32::from(window.from.minutes());
        if !into.is_multiple_of(measure.interval().into()) {
            return false;
        }
        let end = start + measure.duration();
        if offset(self.zone, start) == offset(self.zone, end) {
            return minute + u32::from(measure.duration_minutes) <= u32::from(window.to.minutes());
        }
        // The offset changes on the way, so local time does not run with elapsed time: look closely.
        self.candidates(measure, day).iter().any(|slot| slot.start == start)
    }

    /// The slots of a local date that can be booked now, given what is taken on the UTC days around it.
    pub fn free(
        &self,
        measure: &Measure,
        day: NaiveDate,
        taken: &[Taken],
        now: Instant,
    ) -> Vec<Span> {
        if day < self.local_day(now) || day > self.last_day(now) {
            return Vec::new();
        }
        let earliest = self.earliest(now);
        let mut slots = self.candidates(measure, day);
        slots.retain(|slot| {
            slot.start > now
                && slot.start >= earliest
                && taken.iter().all(|other| measure.fits(*slot, other))
        });
        slots
    }

    /// The local time of an instant.
    fn local(&self, at: Instant) -> NaiveDateTime {
        let utc = at.naive_utc();
        utc.checked_add_offset(offset(self.zone, at)).unwrap_or(utc)
    }
}

/// What slot arithmetic needs to know of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// Which service.
    pub service: ServiceId,
    /// Elapsed minutes.
    pub duration_minutes: u16,
    /// Local minutes between two starts.
    pub interval_minutes: u16,
    /// Minutes kept free before.
    pub buffer_before_minutes: u16,
    /// Minutes kept free after.
    pub buffer_after_minutes: u16,
    /// How many can book the same slot.
    pub capacity: u16,
}

impl Measure {
    /// A slot with its buffers.
    pub fn buffered(&self, slot: Span) -> Span {
        Span {
            start: shifted(slot.start, -TimeDelta::minutes(i64::from(self.buffer_before_minutes))),
            end: shifted(slot.end, TimeDelta::minutes(i64::from(self.buffer_after_minutes))),
        }
    }

    /// The slot that starts then.
    pub fn slot_at(&self, start: Instant) -> Span {
        Span { start, end: shifted(start, self.duration()) }
    }

    fn duration(&self) -> TimeDelta {
        TimeDelta::minutes(i64::from(self.duration_minutes))
    }

    fn interval(&self) -> u16 {
        self.interval_minutes.max(1)
    }

    /// Whether a slot can stand beside what is taken: apart from it, or in one of its free seats.
    ///
    /// To join, both must be the same slot of the same service. After a change of the service's duration
    /// or buffers they are not, and joining would leave the longer one's end unguarded. After a change of
    /// its capacity the smaller one counts: nobody gets more company than they booked with.
    pub fn fits(&self, slot: Span, taken: &Taken) -> bool {
        let span = self.buffered(slot);
        !span.intersects(&taken.span)
            || (taken.service == self.service
                && taken.start == slot.start
                && taken.span == span
                && taken.seats_taken < taken.capacity.min(self.capacity))
    }
}

/// A stretch of a provider's time that is occupied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// With buffers.
    pub span: Span,
    /// Without buffers.
    pub start: Instant,
    /// What it is occupied by.
    pub service: ServiceId,
    /// How many seats it has.
    pub capacity: u16,
    /// How many of them are taken.
    pub seats_taken: u16,
}

/// The UTC days whose agendas can matter to slots of a local date: those the date touches, and a day on
/// each side for what crosses midnight and for buffers.
pub fn utc_days_around(zone: Zone, day: NaiveDate) -> Vec<NaiveDate> {
    let stretches = stretches(zone, day);
    let (Some(first), Some(last)) = (stretches.first(), stretches.last()) else {
        return Vec::new();
    };
    let margin = TimeDelta::days(1);
    Span { start: first.span.start - margin, end: last.span.end + margin }.utc_days()
}

/// The instants of a local date, from its first to its last; `None` for a date the zone skipped.
pub fn local_day_span(zone: Zone, day: NaiveDate) -> Option<Span> {
    let stretches = stretches(zone, day);
    Some(Span { start: stretches.first()?.span.start, end: stretches.last()?.span.end })
}

/// A stretch of a local date during which the offset does not change.
struct Stretch {
    span: Span,
    offset: TimeDelta,
}

impl Stretch {
    /// The instant of a local minute, were this stretch's offset in force.
    fn instant(&self, day: NaiveDate, minute: u16) -> Instant {
        let local = midnight(day) + TimeDelta::minutes(i64::from(minute));
        DateTime::from_naive_utc_and_offset(local - self.offset, Utc)
    }

    /// The instants of the local minutes `from..to` in this stretch, if any.
    fn instants(&self, day: NaiveDate, from: u16, to: u16) -> Option<Span> {
        let start = self.instant(day, from).max(self.span.start);
        let end = self.instant(day, to).min(self.span.end);
        (start < end).then_some(Span { start, end })
    }
}

/// The local date cut into stretches of one offset each, in order. A date the zone skipped has none.
fn stretches(zone: Zone, day: NaiveDate) -> Vec<Stretch> {
    if !has_slots(day) {
        return Vec::new();
    }
    let noon = midnight(day) + TimeDelta::hours(12);
    let utc = |naive: NaiveDateTime| DateTime::<Utc>::from_naive_utc_and_offset(naive, Utc);
    let offset = |at: Instant| TimeDelta::seconds(i64::from(offset(zone, at).local_minus_utc()));
    // Offsets lie between -16 and +16 hours: the date lies within these instants.
    let (first, last) = (utc(noon - TimeDelta::hours(29)), utc(noon + TimeDelta::hours(29)));
    let mut changes = Vec::new();
    if offset(first) == offset(last) && offset(first) == offset(utc(noon)) {
        changes.push((first, offset(first)));
    } else {
        let step = TimeDelta::hours(1);
        let mut at = first;
        changes.push((first, offset(first)));
        while at < last {
            let (mut low, mut high) = (at, at + step);
            if offset(low) != offset(high) {
                while high - low > TimeDelta::seconds(1) {
                    let middle = low + TimeDelta::seconds((high - low).num_seconds() / 2);
                    if offset(middle) == offset(at) { low = middle } else { high = middle }
                }
                changes.push((high, offset(high)));
            }
            at += step;
        }
    }
    let mut stretches = Vec::with_capacity(changes.len());
    for (i, (start, offset)) in changes.iter().enumerate() {
        let until = changes.get(i + 1).map_or(last, |next| next.0);
        let whole = Stretch { span: Span { start: *start, end: until }, offset: *offset };
        if let Some(span) = whole.instants(day, 0, 24 * 60) {
            stretches.push(Stretch { span, offset: *offset });
        }
    }
    stretches
}

fn midnight(day: NaiveDate) -> NaiveDateTime {
    day.and_time(chrono::NaiveTime::MIN)
}

/// The years RFC 3339 can write. Far inside what can be represented, so that no sum within overflows.
fn has_slots(day: NaiveDate) -> bool {
    (0..=9999).contains(&day.year())
}

/// The offset of a zone from UTC at an instant.
fn offset(zone: Zone, at: Instant) -> FixedOffset {
    zone.0.offset_from_utc_datetime(&at.naive_utc()).fix()
}

/// `at`, that much later or earlier; at most the last or first instant there is.
pub(crate) fn shifted(at: Instant, by: TimeDelta) -> Instant {
    let limit = if by < TimeDelta::zero() { Instant::MIN_UTC } else { Instant::MAX_UTC };
    at.checked_add_signed(by).unwrap_or(limit)
}
