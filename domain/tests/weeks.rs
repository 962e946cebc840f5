//! Whole weeks, with every rule at once, against an oracle that walks minute by minute and shares nothing with the slot
//! engine: windows, overrides, time off, holidays, a service's own windows, buffers, groups, holds, limits of a day, in
//! zones whose clocks change.

#![expect(clippy::unwrap_used, reason = "a builder that fails is a failed test")]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use domain::holidays::HolidayCalendar;
use domain::hours::{MinuteOfDay, Policy, WeeklyHours, Window, Windows, Zone};
use domain::ids::{Mint, RoutingSlot, ServiceId, TimeOffId};
use domain::slots::{Measure, Schedule, Span, Taken};
use domain::time_off::TimeOff;
use domain::{Instant, Refusal};
use proptest::prelude::*;

const ZONES: [Tz; 5] = [
    Tz::America__Sao_Paulo,
    Tz::Europe__Lisbon,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::Africa__Casablanca,
];

// ── The oracle ──────────────────────────────────────────────────────────────────────────────────────────

/// Easter Sundays from an almanac: the oracle computes none.
const EASTERS: [(i32, u32, u32); 21] = [
    (2010, 4, 4),
    (2011, 4, 24),
    (2012, 4, 8),
    (2013, 3, 31),
    (2014, 4, 20),
    (2015, 4, 5),
    (2016, 3, 27),
    (2017, 4, 16),
    (2018, 4, 1),
    (2019, 4, 21),
    (2020, 4, 12),
    (2021, 4, 4),
    (2022, 4, 17),
    (2023, 4, 9),
    (2024, 3, 31),
    (2025, 4, 20),
    (2026, 4, 5),
    (2027, 3, 28),
    (2028, 4, 16),
    (2029, 4, 1),
    (2030, 4, 21),
];

fn is_holiday(day: NaiveDate, optional: bool) -> bool {
    let (_, month, date) = EASTERS[usize::try_from(day.year() - 2010).unwrap()];
    let easter = NaiveDate::from_ymd_opt(day.year(), month, date).unwrap();
    let from_easter = |days: i64| easter + TimeDelta::days(days) == day;
    let fixed = ["01-01", "04-21", "05-01", "09-07", "10-12", "11-02", "11-15", "12-25"];
    fixed.contains(&day.format("%m-%d").to_string().as_str())
        || (day.year() >= 2024 && (day.month(), day.day()) == (11, 20))
        || from_easter(-2)
        || (optional && (from_easter(-48) || from_easter(-47) || from_easter(60)))
}

fn seats(taken: &Taken, now: Instant) -> u32 {
    let held = taken.held_until.iter().filter(|until| **until > now).count();
    u32::from(taken.seats_taken) + u32::try_from(held).unwrap()
}

/// What the oracle is told; nothing of it is the engine's own.
#[derive(Debug, Clone)]
struct Week {
    zone: Tz,
    /// From Monday on, in minutes of the day.
    weekly: Vec<Vec<(u16, u16)>>,
    own: Option<Vec<Vec<(u16, u16)>>>,
    overrides: Vec<(NaiveDate, Vec<(u16, u16)>)>,
    off: Vec<(NaiveDateTime, NaiveDateTime)>,
    /// Whether it keeps holidays, and the optional ones.
    holidays: Option<bool>,
    notice_minutes: u32,
    horizon_days: u32,
    max_per_day: Option<u32>,
}

impl Week {
    /// Whether a local minute is in the `piece`-th window of the shop and one of the service: `piece` names the pair.
    fn pieces(&self, day: NaiveDate) -> Vec<Vec<bool>> {
        let weekday = usize::try_from(day.weekday().num_days_from_monday()).unwrap();
        let overridden = self.overrides.iter().rev().find(|(date, _)| *date == day);
        let shop = match overridden {
            Some((_, windows)) => windows.clone(),
            None if self.holidays.is_some_and(|optional| is_holiday(day, optional)) => Vec::new(),
            None => self.weekly[weekday].clone(),
        };
        let own = match &self.own {
            Some(own) => own[weekday].clone(),
            None => vec![(0, 1440)],
        };
        let mut pieces = Vec::new();
        for (from, to) in &shop {
            for (own_from, own_to) in &own {
                let inside = |m: &u16| m >= from && m < to && m >= own_from && m < own_to;
                pieces.push((0..1440).map(|minute| inside(&minute)).collect());
            }
        }
        pieces
    }

    fn is_off(&self, local: NaiveDateTime) -> bool {
        self.off.iter().any(|(from, until)| *from <= local && local < *until)
    }

    /// How many seats of a local date are booked or held.
    fn seats(&self, taken: &[Taken], day: NaiveDate, now: Instant) -> u32 {
        let that_day = |taken: &&Taken| taken.start.with_timezone(&self.zone).date_naive() == day;
        taken.iter().filter(that_day).map(|taken| seats(taken, now)).sum()
    }

    /// The slots of a local date that can be booked at `now`, one look at the clock per minute.
    fn free(
        &self,
        measure: &Measure,
        day: NaiveDate,
        taken: &[Taken],
        now: Instant,
    ) -> Vec<Instant> {
        let local = |at: Instant| at.with_timezone(&self.zone).naive_local();
        let noon = day.and_hms_opt(12, 0, 0).unwrap().and_utc();
        let ticks: Vec<Instant> =
            (-32 * 60..32 * 60).map(|minute| noon + TimeDelta::minutes(minute)).collect();
        let minute_of = |at: Instant| {
            let local = local(at);
            let minute = u16::try_from(local.hour() * 60 + local.minute()).unwrap();
            (local.date() == day && !self.is_off(local)).then_some(minute)
        };
        let minutes: Vec<Option<u16>> = ticks.iter().map(|at| minute_of(*at)).collect();
        let duration = usize::from(measure.duration_minutes);
        let mut starts = BTreeSet::new();
        for piece in self.pieces(day) {
            let Some(first) = piece.iter().position(|inside| *inside) else { continue };
            let mut run = 0;
            for (at, minute) in ticks.iter().zip(&minutes).rev() {
                let inside = minute.map(usize::from).filter(|minute| piece[*minute]);
                run = if inside.is_some() { run + 1 } else { 0 };
                if inside
                    .is_some_and(|m| (m - first).is_multiple_of(measure.interval_minutes.into()))
                    && run >= duration
                {
                    starts.insert(*at);
                }
            }
        }
        if self.max_per_day.is_some_and(|most| self.seats(taken, day, now) >= most) {
            return Vec::new();
        }
        let minutes_of = |span: &Span| (span.start.timestamp() / 60)..(span.end.timestamp() / 60);
        let in_time = |start: &Instant| {
            *start > now
                && (*start - now) >= TimeDelta::minutes(self.notice_minutes.into())
                && local(*start).date() <= local(now).date() + Days::new(self.horizon_days.into())
        };
        let before = TimeDelta::minutes(measure.buffer_before_minutes.into());
        let after = TimeDelta::minutes(
            i64::from(measure.duration_minutes) + i64::from(measure.buffer_after_minutes),
        );
        let apart = |start: &Instant| {
            let mine = minutes_of(&Span { start: *start - before, end: *start + after });
            taken.iter().all(|other| {
                let theirs = minutes_of(&other.span);
                let meet = mine.clone().any(|minute| theirs.contains(&minute));
                let joins =
                    other.service == measure.service && other.start == *start && theirs == mine;
                let room = u32::from(other.capacity.min(measure.capacity)) > seats(other, now);
                !meet || seats(other, now) == 0 || (joins && room)
            })
        };
        starts.into_iter().filter(in_time).filter(apart).collect()
    }

    /// The same for the engine.
    fn schedule(&self, measure: &Measure) -> Schedule {
        let week = |days: &[Vec<(u16, u16)>]| WeeklyHours {
            monday: windows(&days[0]),
            tuesday: windows(&days[1]),
            wednesday: windows(&days[2]),
            thursday: windows(&days[3]),
            friday: windows(&days[4]),
            saturday: windows(&days[5]),
            sunday: windows(&days[6]),
        };
        let minute = |at: &NaiveDateTime| at.format("%Y-%m-%dT%H:%M").to_string().parse().unwrap();
        let id = |n| Mint::new([2; 32]).id::<TimeOffId>(RoutingSlot::from_bits(1), n);
        Schedule {
            zone: Zone(self.zone),
            weekly: week(&self.weekly),
            overrides: self.overrides.iter().map(|(day, pairs)| (*day, windows(pairs))).collect(),
            policy: Policy {
                minimum_notice_minutes: self.notice_minutes,
                horizon_days: self.horizon_days,
                max_per_day: self.max_per_day,
                ..Policy::classic()
            },
            holidays: self.holidays.map(|optional| {
                if optional { HolidayCalendar::BrazilWithOptional } else { HolidayCalendar::Brazil }
            }),
            time_off: (0..)
                .zip(&self.off)
                .map(|(n, (from, until))| {
                    (id(n), TimeOff::new(minute(from), minute(until)).unwrap())
                })
                .collect(),
            own_weekly: self.own.iter().map(|own| (measure.service, week(own))).collect(),
        }
    }
}

// ── Random weeks ────────────────────────────────────────────────────────────────────────────────────────

fn windows(pairs: &[(u16, u16)]) -> Windows {
    let minute = |minutes| MinuteOfDay::from_minutes(minutes).unwrap();
    let windows: Vec<Window> =
        pairs.iter().map(|(from, to)| Window { from: minute(*from), to: minute(*to) }).collect();
    windows.try_into().unwrap()
}

fn service(n: u32) -> ServiceId {
    Mint::new([1; 32]).id(RoutingSlot::from_bits(1), n)
}

/// Every day whose clocks change, the days beside it, and holidays.
fn days(zone: Tz) -> Vec<NaiveDate> {
    let offset = |day: NaiveDate| {
        let noon = Utc.from_utc_datetime(&day.and_hms_opt(12, 0, 0).unwrap());
        noon.with_timezone(&zone).naive_local() - noon.naive_utc()
    };
    let first = NaiveDate::from_ymd_opt(2010, 2, 1).unwrap();
    let all = || first.iter_days().take_while(|day| day.year() < 2030);
    let changes = all().filter(|day| offset(*day) != offset(day.succ_opt().unwrap()));
    let mut days: Vec<NaiveDate> =
        changes.flat_map(|day| [day.pred_opt().unwrap(), day, day.succ_opt().unwrap()]).collect();
    days.extend(all().filter(|day| is_holiday(*day, true) && day.year() > 2021));
    days
}

fn any_windows() -> impl Strategy<Value = Vec<(u16, u16)>> {
    let edges = prop::collection::btree_set(prop_oneof![0u16..=288, 0u16..=48], 2..=6);
    let random = edges.prop_map(|edges| {
        let edges: Vec<u16> = edges.into_iter().map(|edge| edge * 5).collect();
        edges.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
    });
    prop_oneof![1 => Just(Vec::new()), 2 => Just(vec![(0, 1440)]), 6 => random]
}

fn any_week() -> impl Strategy<Value = Vec<Vec<(u16, u16)>>> {
    prop::collection::vec(any_windows(), 7)
}

prop_compose! {
    fn any_measure(services: u32)(
        n in 0..services,
        duration_minutes in prop_oneof![Just(30), 5u16..=180],
        interval_minutes in prop_oneof![Just(30), 5u16..=120],
        buffer_before_minutes in prop_oneof![Just(0), 0u16..=90],
        buffer_after_minutes in prop_oneof![Just(0), 0u16..=90],
        capacity in 1u16..=3,
    ) -> Measure {
        Measure {
            service: service(n), duration_minutes, interval_minutes,
            buffer_before_minutes, buffer_after_minutes, capacity,
        }
    }
}

fn any_day() -> impl Strategy<Value = (Tz, NaiveDate)> {
    static DAYS: LazyLock<Vec<(Tz, NaiveDate)>> = LazyLock::new(|| {
        ZONES.iter().flat_map(|zone| days(*zone).into_iter().map(|day| (*zone, day))).collect()
    });
    prop::sample::select(DAYS.as_slice())
}

prop_compose! {
    fn any_shop()((zone, day) in any_day())(
        weekly in any_week(),
        own in prop::option::weighted(0.4, any_week()),
        overridden in prop::collection::vec((-1i64..=1, any_windows()), 0..2),
        off in prop::collection::vec((-2880i64..2880, prop_oneof![1i64..120, 1i64..3000]), 0..3),
        holidays in prop::option::weighted(0.6, any::<bool>()),
        notice_minutes in prop_oneof![Just(0), 0u32..600],
        horizon_days in 1u32..6,
        (zone, day) in Just((zone, day)),
    ) -> (Week, NaiveDate) {
        let near = |days: i64| day + TimeDelta::days(days);
        let midnight = day.and_hms_opt(0, 0, 0).unwrap();
        let at = |minutes: i64| midnight + TimeDelta::minutes(minutes);
        let mut overrides: Vec<(NaiveDate, Vec<(u16, u16)>)> =
            overridden.into_iter().map(|(days, windows)| (near(days), windows)).collect();
        overrides.dedup_by_key(|(day, _)| *day);
        let off = off.into_iter().map(|(from, length)| (at(from), at(from + length))).collect();
        let week = Week {
            zone, weekly, own, overrides, off, holidays, notice_minutes, horizon_days, max_per_day: None,
        };
        (week, day)
    }
}

/// What stands in the way: minutes from the day's noon, seats booked, and in how many minutes each hold ends.
type Standing = (Measure, i64, bool, u16, Vec<i64>);

fn any_standing() -> impl Strategy<Value = Standing> {
    let holds = prop::collection::vec(-5i64..5, 0..3);
    (any_measure(2), -1500i64..1500, any::<bool>(), 0u16..=2, holds)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn weeks_of_every_rule_agree_with_the_clock_minute_by_minute(
        (mut week, day) in any_shop(),
        measure in any_measure(1),
        standing in prop::collection::vec(any_standing(), 0..5),
        ahead_minutes in prop_oneof![Just(3000i64), -800i64..4000],
        room in prop::option::weighted(0.4, 0u32..3),
    ) {
        let open = week.schedule(&measure).candidates(&measure, day);
        let noon = day.and_hms_opt(12, 0, 0).unwrap().and_utc();
        let now = noon - TimeDelta::minutes(ahead_minutes);
        let mut taken: Vec<Taken> = Vec::new();
        for (i, (other, minute, aligned, seats, holds)) in standing.into_iter().enumerate() {
            // Half of them are the very service at one of its own starts, so that seats are shared.
            let (other, start) = match open.get((i * 7) % open.len().max(1)) {
                Some(slot) if aligned => (measure, slot.start),
                _ => (other, noon + TimeDelta::minutes(minute)),
            };
            let span = other.buffered(other.slot_at(start));
            if taken.iter().any(|there| (there.start, there.service, there.span) == (start, other.service, span)) {
                continue;
            }
            let held_until = holds.iter().map(|minutes| now + TimeDelta::minutes(*minutes)).collect();
            let (service, capacity, seats_taken) = (other.service, other.capacity, seats.min(other.capacity));
            taken.push(Taken { span, start, service, capacity, seats_taken, held_until });
        }
        // A limit that is near: so much more than there is fits.
        week.max_per_day = room.map(|room| (week.seats(&taken, day, now) + room).max(1));
        let schedule = week.schedule(&measure);
        let expected = week.free(&measure, day, &taken, now);

        // Twice over, as what crosses midnight stands in two agendas.
        let twice: Vec<Taken> = taken.iter().chain(&taken).cloned().collect();
        let free = schedule.free(&measure, day, &twice, now);
        let starts: Vec<Instant> = free.iter().map(|slot| slot.start).collect();
        prop_assert_eq!(&starts, &expected, "{} {}", week.zone, day);

        // And what a booking is told, at every fifth minute of that day and where a slot may be, is the same.
        for minute in -18 * 60..18 * 60 {
            let start = noon + TimeDelta::minutes(minute);
            let may_be = minute % 5 == 0 || open.iter().any(|slot| slot.start == start);
            if !may_be || schedule.local_day(start) != day {
                continue;
            }
            let told: Result<(), Refusal> = schedule.bookable(&measure, start, now).and_then(|slot| {
                match taken.iter().find_map(|other| measure.obstacle(slot, other, now)) {
                    Some(obstacle) => Err(obstacle.refusal()),
                    None if schedule.is_full(day, &taken, now) => {
                        Err(Refusal::DayFull { limit: 0, alternatives: Vec::new() })
                    }
                    None => Ok(()),
                }
            });
            prop_assert_eq!(told.is_ok(), expected.binary_search(&start).is_ok(), "{} {:?}", start, told);
        }
    }
}
