//! Slot arithmetic against a brute-force oracle that walks the clock.
//!
//! The oracle knows one definition: `[s, e)` is a slot of a local date when its local start is a window's
//! start + k × interval, and every instant in it has that local date and a local time in that window. It
//! looks at instants one after another, and shares no arithmetic with the code under test.

#![expect(clippy::unwrap_used, reason = "a builder that fails is a failed test")]

use std::collections::BTreeSet;
use std::ops::Range;

use chrono::{DateTime, Days, NaiveDate, Offset, TimeDelta, TimeZone, Timelike, Utc};
use chrono_tz::Tz;
use domain::Instant;
use domain::holidays::HolidayCalendar;
use domain::hours::{MinuteOfDay, Policy, WeeklyHours, Window, Windows, Zone};
use domain::ids::{Mint, RoutingSlot, ServiceId};
use domain::slots::{Measure, Schedule, Span, Taken, utc_days_around};
use domain::time_off::TimeOff;
use proptest::prelude::*;

// ── The oracle ──────────────────────────────────────────────────────────────────────────────────────────

/// Every instant around a local date, a step apart, with what a clock on the wall says.
struct Clock {
    step_seconds: i64,
    /// The instant, and the second of the local day where the local date is `day`.
    ticks: Vec<(Instant, Option<u32>)>,
}

impl Clock {
    fn around(zone: Tz, day: NaiveDate) -> Self {
        let noon = day.and_hms_opt(12, 0, 0).unwrap().and_utc();
        let (first, last) = (noon - TimeDelta::hours(32), noon + TimeDelta::hours(32));
        // Where all offsets are whole minutes, so are all changes of them, and a minute is one tick.
        let whole = |at: Instant| seconds_east(zone, at) % 60 == 0;
        let all_whole = (0..=64).all(|hour| whole(first + TimeDelta::hours(hour)));
        let step_seconds = if all_whole { 60 } else { 1 };
        let count = (last - first).num_seconds() / step_seconds;
        let ticks = (0..count)
            .map(|i| {
                let at = first + TimeDelta::seconds(i * step_seconds);
                let local = at.with_timezone(&zone).naive_local();
                (at, (local.date() == day).then(|| local.time().num_seconds_from_midnight()))
            })
            .collect();
        Self { step_seconds, ticks }
    }

    fn slots(&self, windows: &Windows, measure: &Measure) -> Vec<Span> {
        let duration = TimeDelta::minutes(measure.duration_minutes.into());
        let needed = duration.num_seconds() / self.step_seconds;
        let mut slots = BTreeSet::new();
        for window in windows.iter() {
            let (from, to) =
                (u32::from(window.from.minutes()) * 60, u32::from(window.to.minutes()) * 60);
            let interval = u32::from(measure.interval_minutes) * 60;
            // How many ticks from here on are in the window without a break.
            let mut run = 0;
            for (at, second) in self.ticks.iter().rev() {
                let inside = second.filter(|second| (from..to).contains(second));
                run = if inside.is_some() { run + 1 } else { 0 };
                if inside.is_some_and(|second| (second - from).is_multiple_of(interval))
                    && run >= needed
                {
                    slots.insert(Span { start: *at, end: *at + duration });
                }
            }
        }
        slots.into_iter().collect()
    }

    /// The instants a slot could start at if only the local time mattered.
    fn grid(&self, windows: &Windows, measure: &Measure) -> Vec<Instant> {
        let on_grid = |second: u32| {
            let interval = u32::from(measure.interval_minutes) * 60;
            windows.iter().any(|window| {
                let from = u32::from(window.from.minutes()) * 60;
                second >= from && (second - from).is_multiple_of(interval)
            })
        };
        self.ticks.iter().filter(|(_, s)| s.is_some_and(on_grid)).map(|(at, _)| *at).collect()
    }
}

fn seconds_east(zone: Tz, at: Instant) -> i32 {
    zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()
}

/// The local dates of every change of a zone's offset in these years.
fn days_of_change(zone: Tz, years: Range<i32>) -> BTreeSet<NaiveDate> {
    let local_day = |at: Instant| at.with_timezone(&zone).date_naive();
    let mut days = BTreeSet::new();
    let new_year = |year| Utc.with_ymd_and_hms(year, 1, 1, 0, 0, 0).unwrap();
    let mut at = new_year(years.start);
    while at < new_year(years.end) {
        let next = at + TimeDelta::hours(12);
        if seconds_east(zone, at) != seconds_east(zone, next) {
            let (a, b) = (local_day(at), local_day(next));
            days.extend(a.min(b).iter_days().take_while(|day| *day <= a.max(b)));
        }
        at = next;
    }
    days
}

// ── Builders ────────────────────────────────────────────────────────────────────────────────────────────

fn instant(text: &str) -> Instant {
    text.parse().unwrap()
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn windows(pairs: &[(u16, u16)]) -> Windows {
    let minute = |minutes| MinuteOfDay::from_minutes(minutes).unwrap();
    let windows: Vec<Window> =
        pairs.iter().map(|(from, to)| Window { from: minute(*from), to: minute(*to) }).collect();
    windows.try_into().unwrap()
}

fn service(n: u32) -> ServiceId {
    Mint::new([1; 32]).id(RoutingSlot::from_bits(1), n)
}

fn measure(duration_minutes: u16, interval_minutes: u16) -> Measure {
    Measure {
        service: service(0),
        duration_minutes,
        interval_minutes,
        buffer_before_minutes: 0,
        buffer_after_minutes: 0,
        capacity: 1,
    }
}

fn schedule(zone: Tz, every_day: &Windows) -> Schedule {
    let day = || every_day.clone();
    Schedule {
        zone: Zone(zone),
        weekly: WeeklyHours {
            monday: day(),
            tuesday: day(),
            wednesday: day(),
            thursday: day(),
            friday: day(),
            saturday: day(),
            sunday: day(),
        },
        policy: Policy { horizon_days: 730, ..Policy::classic() },
        ..Schedule::default()
    }
}

/// The starts of a day's slots as UTC, `HH:MM` for that date and with the date otherwise.
fn starts(zone: Tz, day: &str, pairs: &[(u16, u16)], measure: &Measure) -> Vec<String> {
    schedule(zone, &windows(pairs))
        .candidates(measure, date(day))
        .iter()
        .map(|slot| slot.start.format("%dT%H:%M").to_string())
        .collect()
}

// ── Every change of offset ──────────────────────────────────────────────────────────────────────────────

fn agrees_with_the_oracle_on_every_change(zone: Tz, years: Range<i32>, at_least: usize) {
    let days = days_of_change(zone, years);
    assert!(days.len() >= at_least, "{zone} has only {} days of change", days.len());
    let shapes: Vec<(Windows, Measure)> = vec![
        (windows(&[(0, 1440)]), measure(60, 60)),
        (windows(&[(0, 1440)]), measure(50, 20)),
        (windows(&[(0, 1440)]), measure(1440, 30)),
        (windows(&[(0, 1440)]), measure(5, 1440)),
        (windows(&[(10, 145), (145, 250), (1290, 1440)]), measure(25, 15)),
        (windows(&[(0, 90), (90, 150), (180, 1000)]), measure(90, 7)),
        (windows(&[(8 * 60, 18 * 60)]), measure(60, 60)),
    ];
    for day in days {
        let clock = Clock::around(zone, day);
        for (windows, measure) in &shapes {
            let schedule = schedule(zone, windows);
            let slots = schedule.candidates(measure, day);
            assert_eq!(slots, clock.slots(windows, measure), "{zone} {day} {measure:?}");
            for start in clock.grid(windows, measure) {
                let listed = slots.binary_search_by_key(&start, |slot| slot.start).is_ok();
                assert_eq!(schedule.allows(measure, start), listed, "{zone} {start} {measure:?}");
            }
        }
    }
}

/// All the years the tz database knows, and those its rules go on for.
const ALL: Range<i32> = 1840..2101;

macro_rules! every_change {
    ($($name:ident: $zone:expr, $years:expr, $at_least:literal;)*) => {$(
        #[test]
        fn $name() {
            agrees_with_the_oracle_on_every_change($zone, $years, $at_least);
        }
    )*};
}

every_change! {
    every_change_of_sao_paulo_agrees_with_the_clock: chrono_tz::America::Sao_Paulo, ALL, 90;
    every_change_of_lisbon_agrees_with_the_clock: chrono_tz::Europe::Lisbon, ALL, 300;
    every_change_of_new_york_agrees_with_the_clock: chrono_tz::America::New_York, ALL, 350;
    every_change_of_lord_howe_agrees_with_the_clock: chrono_tz::Australia::Lord_Howe, ALL, 230;
    every_change_of_casablanca_agrees_with_the_clock: chrono_tz::Africa::Casablanca, ALL, 190;
    every_change_of_apia_agrees_with_the_clock: chrono_tz::Pacific::Apia, ALL, 10;
    every_change_of_kwajalein_agrees_with_the_clock: chrono_tz::Pacific::Kwajalein, ALL, 3;
    every_change_of_kathmandu_agrees_with_the_clock: chrono_tz::Asia::Kathmandu, ALL, 2;
    every_change_of_juneau_which_had_a_day_twice_agrees_with_the_clock: chrono_tz::America::Juneau, 1867..1868, 1;
    every_change_of_st_johns_a_minute_past_midnight_agrees_with_the_clock: chrono_tz::America::St_Johns, 1987..2012, 50;
    every_change_of_troll_of_two_hours_agrees_with_the_clock: chrono_tz::Antarctica::Troll, 2004..2030, 50;
    every_change_of_monrovia_with_seconds_until_1972_agrees_with_the_clock: chrono_tz::Africa::Monrovia, ALL, 3;
}

// ── Days one can look up ────────────────────────────────────────────────────────────────────────────────

#[test]
fn the_classic_day_of_sao_paulo_has_ten_slots_from_eight_to_five() {
    assert_eq!(
        starts(chrono_tz::America::Sao_Paulo, "2026-03-02", &[(480, 1080)], &measure(60, 60)),
        [
            "02T11:00", "02T12:00", "02T13:00", "02T14:00", "02T15:00", "02T16:00", "02T17:00",
            "02T18:00", "02T19:00", "02T20:00"
        ]
    );
}

#[test]
fn lisbon_loses_an_hour_in_spring_and_has_one_twice_in_autumn() {
    let zone = chrono_tz::Europe::Lisbon;
    let night = [(0, 240)];
    assert_eq!(
        starts(zone, "2026-03-29", &night, &measure(60, 60)),
        ["29T00:00", "29T01:00", "29T02:00"]
    );
    assert_eq!(
        starts(zone, "2026-10-25", &night, &measure(60, 60)),
        ["24T23:00", "25T00:00", "25T01:00", "25T02:00", "25T03:00"]
    );
}

#[test]
fn in_new_york_a_long_slot_runs_across_the_change() {
    let zone = chrono_tz::America::New_York;
    // 01:00 to 02:00 EST, then 03:00 to 03:30 EDT: ninety minutes.
    assert_eq!(
        starts(zone, "2026-03-08", &[(60, 210)], &measure(90, 30)),
        ["08T06:00"],
        "the window has just ninety minutes that day"
    );
    // 01:00 EDT, 01:00 EST, 02:00 EST.
    assert_eq!(
        starts(zone, "2026-11-01", &[(60, 180)], &measure(60, 60)),
        ["01T05:00", "01T06:00", "01T07:00"]
    );
}

#[test]
fn sao_paulo_skipped_midnight_in_spring_and_had_the_last_hour_twice_in_autumn() {
    let zone = chrono_tz::America::Sao_Paulo;
    assert_eq!(
        starts(zone, "2018-11-04", &[(0, 180)], &measure(60, 60)),
        ["04T03:00", "04T04:00"],
        "01:00 and 02:00"
    );
    assert_eq!(
        starts(zone, "2018-02-17", &[(22 * 60, 1440)], &measure(60, 60)),
        ["18T00:00", "18T01:00", "18T02:00"],
        "22:00, 23:00 and 23:00 again"
    );
}

#[test]
fn lord_howe_changes_by_half_an_hour() {
    let zone = chrono_tz::Australia::Lord_Howe;
    assert_eq!(
        starts(zone, "2026-04-05", &[(60, 180)], &measure(30, 30)),
        ["04T14:00", "04T14:30", "04T15:00", "04T15:30", "04T16:00"],
        "01:00, 01:30, 01:30 again, 02:00, 02:30"
    );
    assert_eq!(
        starts(zone, "2026-04-05", &[(60, 180)], &measure(60, 60)),
        ["04T14:00", "04T15:30"],
        "the second 01:30 is no start of a full hour"
    );
    assert_eq!(
        starts(zone, "2026-10-04", &[(60, 240)], &measure(30, 30)),
        ["03T14:30", "03T15:00", "03T15:30", "03T16:00", "03T16:30"],
        "01:00, 01:30, 02:30, 03:00, 03:30"
    );
}

#[test]
fn casablanca_goes_back_for_ramadan_and_forward_after_it() {
    let zone = chrono_tz::Africa::Casablanca;
    assert_eq!(
        starts(zone, "2026-02-15", &[(60, 240)], &measure(60, 60)),
        ["15T00:00", "15T01:00", "15T02:00", "15T03:00"],
        "01:00, 02:00, 02:00 again, 03:00"
    );
    assert_eq!(
        starts(zone, "2026-03-22", &[(60, 300)], &measure(60, 60)),
        ["22T01:00", "22T02:00", "22T03:00"],
        "01:00, 03:00, 04:00"
    );
}

#[test]
fn a_date_the_zone_skipped_has_no_slots_and_no_agendas() {
    let zone = chrono_tz::Pacific::Apia;
    let classic = [(480, 1080)];
    let slots = |day| starts(zone, day, &classic, &measure(60, 60)).len();
    assert_eq!((slots("2011-12-29"), slots("2011-12-30"), slots("2011-12-31")), (10, 0, 10));
    assert!(utc_days_around(Zone(zone), date("2011-12-30")).is_empty());
}

#[test]
fn odd_offsets_are_exact() {
    assert_eq!(
        starts(chrono_tz::Asia::Kathmandu, "2026-03-02", &[(480, 540)], &measure(60, 60)),
        ["02T02:15"]
    );
    // Local mean time, 3 h 6 min 28 s behind Greenwich.
    let slots = schedule(chrono_tz::America::Sao_Paulo, &windows(&[(480, 540)]))
        .candidates(&measure(60, 60), date("1900-01-01"));
    assert_eq!(slots[0].start, instant("1900-01-01T11:06:28Z"));
}

#[test]
fn an_override_replaces_the_weekday_and_an_empty_one_is_a_day_off() {
    let zone = chrono_tz::America::Sao_Paulo;
    let mut schedule = schedule(zone, &Windows::classic());
    schedule.overrides.insert(date("2026-03-02"), windows(&[(600, 720)]));
    schedule.overrides.insert(date("2026-03-03"), windows(&[]));
    let count = |day| schedule.candidates(&measure(60, 60), date(day)).len();
    assert_eq!((count("2026-03-02"), count("2026-03-03"), count("2026-03-04")), (2, 0, 10));
}

// ── Properties ──────────────────────────────────────────────────────────────────────────────────────────

const ZONES: [Tz; 12] = [
    Tz::America__Sao_Paulo,
    Tz::Europe__Lisbon,
    Tz::America__New_York,
    Tz::Australia__Lord_Howe,
    Tz::Africa__Casablanca,
    Tz::Pacific__Apia,
    Tz::Asia__Kathmandu,
    Tz::Pacific__Kiritimati,
    Tz::America__St_Johns,
    Tz::Asia__Tokyo,
    Tz::Pacific__Pago_Pago,
    Tz::UTC,
];

fn any_windows() -> impl Strategy<Value = Windows> {
    prop::collection::btree_set(0u16..=1440, 2..=8).prop_map(|edges| {
        let edges: Vec<u16> = edges.into_iter().collect();
        windows(&edges.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>())
    })
}

prop_compose! {
    fn any_measure(service_numbers: u32)(
        n in 0..service_numbers,
        duration_minutes in prop_oneof![Just(60), 5u16..=1440, 5u16..=120],
        interval_minutes in prop_oneof![Just(30), 5u16..=1440, 5u16..=60],
        buffer_before_minutes in prop_oneof![Just(0), 0u16..=240],
        buffer_after_minutes in prop_oneof![Just(0), 0u16..=240],
        capacity in 1u16..=3,
    ) -> Measure {
        Measure {
            service: service(n),
            duration_minutes,
            interval_minutes,
            buffer_before_minutes,
            buffer_after_minutes,
            capacity,
        }
    }
}

/// A day of one of the zones, every second one near a change of its offset.
fn any_day() -> impl Strategy<Value = (Tz, NaiveDate)> {
    let plain = (prop::sample::select(&ZONES[..]), 0u64..36_500)
        .prop_map(|(zone, n)| (zone, date("1970-01-01") + Days::new(n)));
    let changes: Vec<(Tz, NaiveDate)> = ZONES[..6]
        .iter()
        .flat_map(|zone| days_of_change(*zone, 1990..2040).into_iter().map(|day| (*zone, day)))
        .collect();
    prop_oneof![plain, prop::sample::select(changes)]
}

/// The minutes from the first instant to the last, as numbers.
fn minutes(span: &Span) -> BTreeSet<i64> {
    (span.start.timestamp()..span.end.timestamp()).step_by(60).map(|s| s.div_euclid(60)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn candidates_of_any_day_agree_with_the_clock(
        (zone, day) in any_day(),
        windows in any_windows(),
        measure in any_measure(1),
    ) {
        let schedule = schedule(zone, &windows);
        let clock = Clock::around(zone, day);
        let slots = schedule.candidates(&measure, day);
        prop_assert_eq!(&slots, &clock.slots(&windows, &measure));
        for start in clock.grid(&windows, &measure) {
            let listed = slots.iter().any(|slot| slot.start == start);
            prop_assert_eq!(schedule.allows(&measure, start), listed);
            for nudge in [TimeDelta::seconds(1), TimeDelta::nanoseconds(-1)] {
                prop_assert!(!schedule.allows(&measure, start + nudge));
            }
        }
    }

    #[test]
    fn free_slots_are_the_candidates_that_stand_apart_in_time_and_within_notice_and_horizon(
        (zone, day) in any_day(),
        windows in any_windows(),
        wanted in any_measure(2),
        occupied in prop::collection::vec((any_measure(2), 0i64..3 * 1440, 1u16..=3), 0..6),
        (now_minutes, to_the_instant, nudge) in (-3 * 1440i64..2 * 1440, any::<bool>(), -1i64..=1),
        minimum_notice_minutes in prop_oneof![Just(0), 0u32..3000],
        horizon_days in 1u32..4,
    ) {
        let mut schedule = schedule(zone, &windows);
        schedule.policy =
            Policy { minimum_notice_minutes, horizon_days, ..Policy::classic() };
        let midnight = day.and_hms_opt(0, 0, 0).unwrap().and_utc();
        let candidates = schedule.candidates(&wanted, day);
        // Half of the time it is just when a candidate starts, less the notice: give or take an instant.
        let some = candidates.get(usize::try_from(now_minutes.unsigned_abs()).unwrap() % candidates.len().max(1));
        let now = match some.filter(|_| to_the_instant) {
            Some(slot) => slot.start - TimeDelta::minutes(minimum_notice_minutes.into()),
            None => midnight + TimeDelta::minutes(now_minutes),
        } + TimeDelta::microseconds(nudge);
        // Half of what is taken stands where a candidate does, so that joining is tried as well.
        let taken: Vec<Taken> = occupied
            .iter()
            .map(|(measure, minute, seats)| {
                let n = usize::try_from(*minute).unwrap();
                let start = match candidates.get(n % (2 * candidates.len().max(1))) {
                    Some(slot) => slot.start,
                    None => midnight - TimeDelta::days(1) + TimeDelta::minutes(*minute),
                };
                let measure = if n % 2 == 0 { wanted } else { *measure };
                Taken {
                    span: measure.buffered(measure.slot_at(start)),
                    start,
                    service: measure.service,
                    capacity: measure.capacity,
                    seats_taken: (*seats).min(measure.capacity),
                    held_until: Vec::new(),
                }
            })
            .collect();

        let local_day = |at: Instant| at.with_timezone(&zone).date_naive();
        let in_time = |slot: &Span| {
            slot.start > now
                && slot.start - now >= TimeDelta::minutes(minimum_notice_minutes.into())
                && local_day(slot.start) <= local_day(now) + Days::new(horizon_days.into())
        };
        for slot in &candidates {
            prop_assert_eq!(schedule.in_time(slot.start, now), in_time(slot));
        }
        let expected: Vec<Span> = Clock::around(zone, day)
            .slots(&windows, &wanted)
            .into_iter()
            .filter(in_time)
            .filter(|slot| {
                let mine = minutes(&wanted.buffered(*slot));
                taken.iter().all(|other| {
                    let apart = mine.is_disjoint(&minutes(&other.span));
                    let same = other.service == wanted.service
                        && other.start == slot.start
                        && minutes(&other.span) == mine;
                    let seats = other.capacity.min(wanted.capacity);
                    apart || (same && other.seats_taken < seats)
                })
            })
            .collect();
        prop_assert_eq!(schedule.free(&wanted, day, &taken, now), expected);
    }

    #[test]
    fn whatever_can_be_in_the_way_of_a_date_stands_in_the_agendas_around_it(
        (zone, day) in any_day(),
        wanted in any_measure(1),
        other in any_measure(1),
        offset_minutes in -2000i64..2000,
    ) {
        let around = utc_days_around(Zone(zone), day);
        let whole_day = windows(&[(0, 1440)]);
        for slot in schedule(zone, &whole_day).candidates(&wanted, day) {
            let mine = wanted.buffered(slot);
            let start = slot.start + TimeDelta::minutes(offset_minutes);
            let theirs = other.buffered(other.slot_at(start));
            if mine.intersects(&theirs) {
                prop_assert!(theirs.utc_days().iter().any(|day| around.contains(day)));
                // … and where the two meet, both of them stand.
                prop_assert!(theirs.utc_days().iter().any(|day| mine.utc_days().contains(day)));
            }
        }
    }

    #[test]
    fn no_instant_and_no_measure_panics(
        seconds in prop_oneof![
            any::<i64>(),
            Instant::MIN_UTC.timestamp()..=Instant::MAX_UTC.timestamp(),
            -62_200_000_000i64..-62_100_000_000,
            253_402_000_000i64..253_403_000_000,
        ],
        nanos in prop_oneof![Just(0), 0u32..2_000_000_000],
        measure in (any::<u16>(), any::<u16>(), any::<u16>(), any::<u16>(), any::<u16>()),
    ) {
        let Some(at) = DateTime::<Utc>::from_timestamp(seconds, nanos) else { return Ok(()) };
        let (duration_minutes, interval_minutes, before, after, capacity) = measure;
        let measure = Measure {
            service: service(0),
            duration_minutes,
            interval_minutes,
            buffer_before_minutes: before,
            buffer_after_minutes: after,
            capacity,
        };
        survives(at, &measure);
    }
}

/// Puts an instant through every entry point, as the start and as now.
fn survives(at: Instant, measure: &Measure) {
    for zone in [Tz::Pacific__Kiritimati, Tz::Pacific__Pago_Pago, Tz::America__Sao_Paulo, Tz::UTC] {
        let mut schedule = schedule(zone, &windows(&[(0, 1439)]));
        schedule.policy.minimum_notice_minutes = 366 * 24 * 60;
        let day = schedule.local_day(at);
        for now in [at, Instant::MIN_UTC, Instant::MAX_UTC, Instant::UNIX_EPOCH] {
            schedule.in_time(at, now);
            schedule.in_time(now, at);
            schedule.earliest(now);
            schedule.last_day(now);
            schedule.free(measure, day, &[], now);
        }
        schedule.candidates(measure, day);
        schedule.allows(measure, at);
        assert!(utc_days_around(Zone(zone), day).len() <= 6);
        let span = measure.buffered(measure.slot_at(at));
        assert!(span.start <= span.end && span.utc_days().len() <= 200);
    }
}

#[test]
fn the_ends_of_time_have_no_slots_and_do_no_harm() {
    for at in [
        Instant::MIN_UTC,
        Instant::MAX_UTC,
        instant("-262143-01-01T00:00:00Z"),
        instant("0000-01-01T00:00:00Z"),
        instant("0001-01-01T00:00:00Z"),
        instant("9999-12-31T23:59:59Z"),
        instant("+10000-01-01T00:00:00Z"),
        instant("2016-12-31T23:59:60Z"),
    ] {
        survives(at, &measure(60, 60));
        survives(at, &measure(u16::MAX, u16::MAX));
        survives(at, &measure(0, 0));
    }
    let schedule = schedule(chrono_tz::UTC, &windows(&[(0, 1440)]));
    for day in [NaiveDate::MIN, NaiveDate::MAX] {
        assert!(schedule.candidates(&measure(60, 60), day).is_empty());
        assert!(utc_days_around(Zone(chrono_tz::UTC), day).is_empty());
    }
    assert_eq!(schedule.candidates(&measure(60, 60), date("9999-12-31")).len(), 24);
}

#[test]
fn what_only_a_buffer_meets_across_midnight_stands_in_the_agendas_around_the_date() {
    let utc = Zone(chrono_tz::UTC);
    let buffered =
        Measure { buffer_before_minutes: 60, buffer_after_minutes: 60, ..measure(60, 60) };
    let day = date("2026-03-02");
    let around = utc_days_around(utc, day);
    for start in ["2026-03-02T00:00:00Z", "2026-03-02T23:00:00Z"] {
        let slot = buffered.slot_at(instant(start));
        for utc_day in buffered.buffered(slot).utc_days() {
            assert!(around.contains(&utc_day), "{start}: {utc_day} is not among {around:?}");
        }
    }
}

#[test]
fn a_start_that_is_no_whole_minute_is_no_slot() {
    let schedule = schedule(chrono_tz::UTC, &windows(&[(0, 1440)]));
    let allows = |text: &str| schedule.allows(&measure(60, 60), instant(text));
    assert!(allows("2026-03-02T08:00:00Z"));
    assert!(allows("2026-03-02T08:00:00.000000000Z"));
    assert!(!allows("2026-03-02T08:00:00.000001Z"));
    assert!(!allows("2026-03-02T08:00:00.000000001Z"));
    assert!(!allows("2026-03-02T08:00:01Z"));
    // A leap second is not the minute after it.
    assert!(!allows("2026-03-02T07:59:60Z"));
}

#[test]
fn an_interval_that_runs_past_the_end_of_the_day_gives_one_start() {
    let schedule = schedule(chrono_tz::UTC, &windows(&[(1430, 1440)]));
    for interval in [1440, u16::MAX] {
        assert_eq!(schedule.candidates(&measure(5, interval), date("2026-03-02")).len(), 1);
    }
}

#[test]
fn windows_are_open_at_the_instants_the_clock_on_the_wall_has() {
    let spans = |zone, windows: &Windows, day: &str| -> Vec<(String, String)> {
        let text = |at: domain::Instant| at.format("%dT%H:%M").to_string();
        let open = schedule(zone, windows).open(date(day));
        open.into_iter().map(|span| (text(span.start), text(span.end))).collect()
    };
    let two = windows(&[(480, 720), (720, 1080)]);
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
    };
    assert_eq!(
        spans(chrono_tz::America::Sao_Paulo, &two, "2026-03-02"),
        owned(&[("02T11:00", "02T15:00"), ("02T15:00", "02T21:00")])
    );
    // An hour that is not there shortens the window that has it, an hour that is there twice lengthens it.
    let night = windows(&[(0, 240)]);
    let lisbon = chrono_tz::Europe::Lisbon;
    assert_eq!(spans(lisbon, &night, "2026-03-29"), owned(&[("29T00:00", "29T03:00")]));
    assert_eq!(spans(lisbon, &night, "2026-10-25"), owned(&[("24T23:00", "25T04:00")]));
    // Samoa had no 30 December 2011.
    assert!(spans(chrono_tz::Pacific::Apia, &two, "2011-12-30").is_empty());
    assert!(spans(chrono_tz::UTC, &windows(&[]), "2026-03-02").is_empty());
}

#[test]
fn neither_time_off_nor_a_holiday_is_open() {
    let mut schedule = schedule(chrono_tz::UTC, &windows(&[(480, 720), (720, 1080)]));
    let off =
        TimeOff::new("2026-03-02T10:30".parse().unwrap(), "2026-03-02T13:00".parse().unwrap());
    schedule.time_off.insert(Mint::new([2; 32]).id(RoutingSlot::from_bits(1), 0), off.unwrap());
    schedule.holidays = Some(HolidayCalendar::Brazil);
    let open = |day: &str| -> Vec<String> {
        let open = schedule.open(date(day));
        open.iter()
            .map(|span| format!("{}-{}", span.start.format("%H:%M"), span.end.format("%H:%M")))
            .collect()
    };
    assert_eq!(open("2026-03-02"), ["08:00-10:30", "13:00-18:00"]);
    assert_eq!(open("2026-03-03"), ["08:00-12:00", "12:00-18:00"]);
    assert_eq!(open("2026-12-25"), [""; 0]);
}
