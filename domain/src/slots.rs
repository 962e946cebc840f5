//! Slot arithmetic: from local windows to instants, and from instants to free slots.
//!
//! A window belongs to a local date. Its instants are all those whose local time lies in it, so a DST gap
//! shortens it and an overlap lengthens it. Candidates start at window start + k × interval in local time:
//! a time that falls into a gap does not exist, one that an overlap repeats exists twice. A slot's duration
//! is elapsed time and must end inside the window. For example, on 2026-03-29 in Lisbon (01:00 → 02:00),
//! the window 00:00–04:00 with 60-minute slots has starts at 00:00, 02:00 and 03:00: three, not four.
//!
//! The windows of a date are those of its override, else none on a holiday the shop keeps, else those of its weekday. A
//! service may have weekly windows of its own: then its windows are what lies in one of the shop's *and* in one of its own,
//! and each such piece is a window like any other: the grid of starts begins where the piece does. A shop that opens
//! 08:00–18:00 and a service of 60 minutes on mornings from 08:30 to 12:00 give 08:30, 09:30 and 10:30. Time off moves no
//! grid: it takes away the slots it touches.
//!
//! An appointment occupies its time plus its service's buffers; two occupations may not intersect, except
//! that one with the same service and start may be joined while a seat is free. A slot that is held is occupied until the
//! hold ends, which it does by itself. Where the policy limits a local day, bookings and holds that start on it count.
//!
//! Nothing here panics, whatever instant a client sends: outside the years 0 to 9999 there are no slots, and
//! instants beyond what can be represented are cut to the last that can.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{
    DateTime, Datelike, Days, FixedOffset, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone,
    Timelike, Utc,
};
use serde::{Deserialize, Serialize};

use crate::Instant;
use crate::holidays::{Holiday, HolidayCalendar};
use crate::hours::{Policy, WeeklyHours, Window, Windows, Zone};
use crate::ids::{ServiceId, TimeOffId};
use crate::time_off::TimeOff;

/// A half-open stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The first instant.
    pub start: Instant,
    /// The end, not included.
    pub end: Instant,
}

impl Span {
    /// What these leave of it.
    fn without(self, others: &[Self]) -> Vec<Self> {
        let cut = |left: Vec<Self>, other: &Self| {
            let parts = left.into_iter().flat_map(|span| {
                let before = Self { start: span.start, end: span.end.min(other.start) };
                let after = Self { start: span.start.max(other.end), end: span.end };
                [before, after]
            });
            parts.filter(|part| part.start < part.end).collect()
        };
        others.iter().fold(vec![self], cut)
    }

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
    /// Days that differ: other hours, or none.
    pub overrides: BTreeMap<NaiveDate, Windows>,
    /// Notice, horizon and the like.
    pub policy: Policy,
    /// The holidays on which it is closed, days of `overrides` excepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holidays: Option<HolidayCalendar>,
    /// Stretches of time off. Why, stands elsewhere: here are numbers only.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub time_off: BTreeMap<TimeOffId, TimeOff>,
    /// The services that have weekly windows of their own. Their events say which; they stand here so that all that
    /// decides when a slot starts is in one place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub own_weekly: BTreeMap<ServiceId, WeeklyHours>,
}

impl Schedule {
    /// The windows of a local date, time off and services' own windows aside.
    pub fn windows(&self, day: NaiveDate) -> &Windows {
        const NONE: &Windows = &Windows::NONE;
        match self.overrides.get(&day) {
            Some(windows) => windows,
            None if self.holiday(day).is_some() => NONE,
            None => self.weekly.on(day),
        }
    }

    /// The holiday on which the shop is closed that day.
    pub fn holiday(&self, day: NaiveDate) -> Option<Holiday> {
        let holiday = self.holidays?.on(day)?;
        (!self.overrides.contains_key(&day)).then_some(holiday)
    }

    /// The windows of a local date in which slots of a service lie.
    fn windows_for(&self, service: ServiceId, day: NaiveDate) -> Cow<'_, [Window]> {
        let windows = self.windows(day);
        match self.own_weekly.get(&service) {
            None => Cow::Borrowed(windows.as_slice()),
            Some(own) => Cow::Owned(windows.shared_with(own.on(day))),
        }
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
        let windows = self.windows_for(measure.service, day);
        if windows.is_empty() {
            return Vec::new();
        }
        let stretches = stretches(self.zone, day);
        let off = self.time_off_of(day, &stretches);
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
                    let slot = Span { start, end: start + duration };
                    if start >= span.start
                        && start < span.end
                        && slot.end <= end
                        && !off.iter().any(|off| off.intersects(&slot))
                    {
                        slots.push(slot);
                    }
                }
            }
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// The instants at which the windows of a local date are open, in order. A window is one span, or several where a
    /// change of offset or time off takes a part out of it.
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
        let off = self.time_off_of(day, &stretches);
        let mut open: Vec<Span> = open.into_iter().flat_map(|span| span.without(&off)).collect();
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
        let windows = self.windows_for(measure.service, day);
        let window = windows.iter().find(|window| {
            (u32::from(window.from.minutes())..u32::from(window.to.minutes())).contains(&minute)
        });
        let Some(window) = window else { return false };
        let into = minute - u32::from(window.from.minutes());
        if !into.is_multiple_of(measure.interval().into()) {
            return false;
        }
        let end = start + measure.duration();
        if offset(self.zone, start) == offset(self.zone, end) {
            let until = local + measure.duration();
            return minute + u32::from(measure.duration_minutes) <= u32::from(window.to.minutes())
                && !self.time_off.values().any(|off| off.touches(local, until));
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
                && taken.iter().all(|other| measure.fits(*slot, other, now))
        });
        if !slots.is_empty() && self.is_full(day, taken, now) {
            slots.clear();
        }
        slots
    }

    /// Whether a local date has as many bookings as it may, given what is taken on the UTC days it touches.
    pub fn is_full<'a>(
        &self,
        day: NaiveDate,
        taken: impl IntoIterator<Item = &'a Taken>,
        now: Instant,
    ) -> bool {
        let Some(most) = self.policy.max_per_day else { return false };
        // What crosses midnight stands in two agendas, and counts once.
        let (mut seen, mut bookings) = (BTreeSet::new(), 0_u32);
        for taken in taken {
            if self.local_day(taken.start) == day
                && seen.insert((taken.start, taken.service, taken.span))
            {
                bookings += u32::from(taken.seats_taken) + u32::from(taken.seats_held(now));
            }
        }
        bookings >= most
    }

    /// The UTC days whose agendas say whether a local date [is full](Self::is_full); none where there is no limit.
    pub fn days_that_fill(&self, day: NaiveDate) -> Vec<NaiveDate> {
        if self.policy.max_per_day.is_none() {
            return Vec::new();
        }
        local_day_span(self.zone, day).map_or_else(Vec::new, |span| span.utc_days())
    }

    /// What is off of a local date, as instants.
    fn time_off_of(&self, day: NaiveDate, stretches: &[Stretch]) -> Vec<Span> {
        let minutes = self.time_off.values().filter_map(|off| off.minutes_of(day));
        minutes
            .flat_map(|(from, to)| stretches.iter().filter_map(move |s| s.instants(day, from, to)))
            .collect()
    }

    /// Whether a stretch of time touches time off.
    pub(crate) fn is_off(&self, span: Span) -> bool {
        let days = || {
            let (first, last) = (self.local_day(span.start), self.local_day(span.end));
            first.min(last).iter_days().take_while(move |day| *day <= first.max(last))
        };
        !self.time_off.is_empty()
            && days().any(|day| {
                let off = self.time_off_of(day, &stretches(self.zone, day));
                off.iter().any(|off| off.intersects(&span))
            })
    }

    /// Whether a stretch of time lies in one window of the shop, and in one that is its service's, whatever the grid. The
    /// time of an appointment that stands is asked about, after the hours were changed.
    pub(crate) fn covers(&self, span: Span, windows: &[Window]) -> bool {
        let day = self.local_day(span.start);
        let stretches = stretches(self.zone, day);
        windows.iter().any(|window| {
            let (from, to) = (window.from.minutes(), window.to.minutes());
            let mut open_until = span.start;
            for part in stretches.iter().filter_map(|stretch| stretch.instants(day, from, to)) {
                if part.start <= open_until && open_until < part.end {
                    open_until = part.end;
                }
            }
            span.start < open_until && span.end <= open_until
        })
    }

    /// The windows of a service on the date a stretch of time starts on, and whether they have it.
    pub(crate) fn has_room_for(&self, service: ServiceId, span: Span) -> bool {
        self.covers(span, &self.windows_for(service, self.local_day(span.start)))
    }

    /// The local time of an instant.
    pub(crate) fn local(&self, at: Instant) -> NaiveDateTime {
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
    pub fn fits(&self, slot: Span, taken: &Taken, now: Instant) -> bool {
        self.obstacle(slot, taken, now).is_none()
    }

    /// What keeps a slot from standing beside what is taken, if it cannot.
    ///
    /// To join, both must be the same slot of the same service. After a change of the service's duration
    /// or buffers they are not, and joining would leave the longer one's end unguarded. After a change of
    /// its capacity the smaller one counts: nobody gets more company than they booked with.
    pub fn obstacle(&self, slot: Span, taken: &Taken, now: Instant) -> Option<Obstacle> {
        let span = self.buffered(slot);
        if !span.intersects(&taken.span) {
            return None;
        }
        let (booked, held) = (taken.seats_taken, taken.seats_held(now));
        if booked == 0 && held == 0 {
            return None;
        }
        let joins =
            taken.service == self.service && taken.start == slot.start && taken.span == span;
        let seats = taken.capacity.min(self.capacity);
        match joins {
            true if booked.saturating_add(held) < seats => None,
            true if booked >= seats && seats > 1 => Some(Obstacle::Full),
            true if booked >= seats => Some(Obstacle::Taken),
            true => Some(Obstacle::Held),
            false if booked > 0 => Some(Obstacle::Taken),
            false => Some(Obstacle::Held),
        }
    }
}

/// What is in the way of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Somebody has booked.
    Taken,
    /// Nobody has booked, but somebody checks out.
    Held,
    /// A group has no seat left.
    Full,
}

/// A stretch of a provider's time that is occupied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// With buffers.
    pub span: Span,
    /// Without buffers.
    pub start: Instant,
    /// What it is occupied by.
    pub service: ServiceId,
    /// How many seats it has.
    pub capacity: u16,
    /// How many of them are booked.
    pub seats_taken: u16,
    /// Until when others are held, those whose time is over included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_until: Vec<Instant>,
}

impl Taken {
    /// How many seats are held now: a hold ends by itself.
    pub fn seats_held(&self, now: Instant) -> u16 {
        let live = self.held_until.iter().filter(|until| now < **until).count();
        u16::try_from(live).unwrap_or(u16::MAX)
    }
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
