//! Recurrence rules: the dates they give, what is refused, and daylight saving time. A second, plain implementation that
//! counts instead of dividing agrees with the first on random rules.

#![expect(clippy::unwrap_used, reason = "a builder that fails is a failed test")]

use chrono::{Datelike, NaiveDate, Weekday};
use domain::Instant;
use domain::hours::Zone;
use domain::recurrence::{InvalidRecurrence, MAX_OCCURRENCES, Recurrence};
use proptest::prelude::*;

fn at(text: &str) -> Instant {
    text.parse().unwrap()
}

fn zone(name: &str) -> Zone {
    name.parse().unwrap()
}

fn rule(text: &str) -> Recurrence {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn days(text: &str, start: &str) -> Vec<String> {
    let occurrences = rule(text).occurrences(at(start), zone("UTC")).unwrap();
    occurrences.iter().map(|occurrence| occurrence.local.date().to_string()).collect()
}

#[test]
fn rules_give_the_days_the_standard_says() {
    for (text, start, expected) in [
        ("FREQ=DAILY;COUNT=3", "2026-03-30T09:00:00Z", "2026-03-30 2026-03-31 2026-04-01"),
        (
            "FREQ=DAILY;INTERVAL=10;COUNT=3",
            "2026-03-01T09:00:00Z",
            "2026-03-01 2026-03-11 2026-03-21",
        ),
        ("RRULE:FREQ=WEEKLY;COUNT=2", "2026-03-03T09:00:00Z", "2026-03-03 2026-03-10"),
        (
            "FREQ=WEEKLY;BYDAY=MO,TH;COUNT=3",
            "2026-03-02T09:00:00Z",
            "2026-03-02 2026-03-05 2026-03-09",
        ),
        // The two of the standard itself (section 3.3.10): the week's first day makes the difference.
        (
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO",
            "1997-08-05T09:00:00Z",
            "1997-08-05 1997-08-10 1997-08-19 1997-08-24",
        ),
        (
            "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU",
            "1997-08-05T09:00:00Z",
            "1997-08-05 1997-08-17 1997-08-19 1997-08-31",
        ),
        ("FREQ=MONTHLY;COUNT=3", "2026-01-31T09:00:00Z", "2026-01-31 2026-03-31 2026-05-31"),
        (
            "FREQ=MONTHLY;BYMONTHDAY=-1;COUNT=3",
            "2026-01-31T09:00:00Z",
            "2026-01-31 2026-02-28 2026-03-31",
        ),
        (
            "FREQ=MONTHLY;BYDAY=2TU,-1FR;COUNT=4",
            "2026-03-10T09:00:00Z",
            "2026-03-10 2026-03-27 2026-04-14 2026-04-24",
        ),
        (
            "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13;COUNT=2",
            "2026-03-13T09:00:00Z",
            "2026-03-13 2026-11-13",
        ),
        ("FREQ=DAILY;UNTIL=20260303", "2026-03-01T09:00:00Z", "2026-03-01 2026-03-02 2026-03-03"),
        ("FREQ=DAILY;UNTIL=20260303T085959Z", "2026-03-01T09:00:00Z", "2026-03-01 2026-03-02"),
        (
            "freq=daily;until=20260303T090000z",
            "2026-03-01T09:00:00Z",
            "2026-03-01 2026-03-02 2026-03-03",
        ),
    ] {
        assert_eq!(days(text, start).join(" "), expected, "{text}");
    }
}

#[test]
fn a_rule_keeps_its_local_time_when_clocks_change_and_has_no_instant_where_they_skip_it() {
    let lisbon = zone("Europe/Lisbon");
    let starts = |text: &str, start: &str| -> Vec<Option<String>> {
        let occurrences = rule(text).occurrences(at(start), lisbon).unwrap();
        occurrences.iter().map(|o| o.start.map(|at| at.to_rfc3339())).collect()
    };
    // Clocks go forward on 29 March 2026, at 01:00, and back on 25 October, at 02:00.
    assert_eq!(
        starts("FREQ=WEEKLY;COUNT=2", "2026-03-24T09:00:00Z"),
        [Some("2026-03-24T09:00:00+00:00".into()), Some("2026-03-31T08:00:00+00:00".into())]
    );
    assert_eq!(
        starts("FREQ=DAILY;COUNT=3", "2026-03-28T01:30:00Z"),
        [Some("2026-03-28T01:30:00+00:00".into()), None, Some("2026-03-30T00:30:00+00:00".into())]
    );
    // 01:30 is there twice; a series that begins at the second keeps that one, others take the first.
    assert_eq!(
        starts("FREQ=DAILY;COUNT=2", "2026-10-24T00:30:00Z")[1],
        Some("2026-10-25T00:30:00+00:00".into())
    );
    assert_eq!(
        starts("FREQ=DAILY;COUNT=1", "2026-10-25T01:30:00Z"),
        [Some("2026-10-25T01:30:00+00:00".into())]
    );
}

#[test]
fn what_is_unbounded_too_long_or_not_for_series_is_refused_by_name() {
    use InvalidRecurrence::{Empty, Form, TooMany, Unbounded, Unsupported};
    let long = format!("FREQ=DAILY;COUNT=5;BYMONTHDAY={}", vec!["1"; 200].join(","));
    for (text, expected) in [
        ("", Form),
        ("FREQ=DAILY", Unbounded),
        ("FREQ=DAILY;COUNT=2;UNTIL=20300101", Unbounded),
        ("FREQ=DAILY;COUNT=61", TooMany),
        ("FREQ=DAILY;COUNT=99999999999999999999", Form),
        ("FREQ=DAILY;COUNT=0", Empty),
        ("FREQ=DAILY;COUNT=-1", Form),
        ("FREQ=DAILY;COUNT=+1", Form),
        ("COUNT=2", Form),
        ("FREQ=DAILY;FREQ=DAILY;COUNT=2", Form),
        ("FREQ=DAILY;COUNT=2;", Form),
        ("FREQ=DAILY;COUNT", Form),
        ("FREQ=HOURLY;COUNT=2", Unsupported),
        ("FREQ=YEARLY;COUNT=2", Unsupported),
        ("FREQ=MONTHLY;BYDAY=MO;BYSETPOS=1;COUNT=2", Unsupported),
        ("FREQ=WEEKLY;BYDAY=1MO;COUNT=2", Form),
        ("FREQ=DAILY;BYDAY=1MO;COUNT=2", Form),
        ("FREQ=WEEKLY;BYMONTHDAY=1;COUNT=2", Form),
        ("FREQ=MONTHLY;BYDAY=6MO;COUNT=2", Form),
        ("FREQ=MONTHLY;BYDAY=0MO;COUNT=2", Form),
        ("FREQ=MONTHLY;BYMONTHDAY=32;COUNT=2", Form),
        ("FREQ=DAILY;INTERVAL=0;COUNT=2", Form),
        ("FREQ=DAILY;INTERVAL=367;COUNT=2", Form),
        ("FREQ=DAILY;UNTIL=20260230", Form),
        ("FREQ=DAILY;UNTIL=20260301T000000", Form),
        ("FREQ=DAILY;BYDAY=;COUNT=2", Form),
        ("FREQ=DAILY;BYDAY=M;COUNT=2", Form),
        ("FREQ=DAILY;BYDAY=É;COUNT=2", Form),
        ("FREQ=DAILY;X=1;COUNT=2", Form),
        (&long, Form),
    ] {
        assert_eq!(text.parse::<Recurrence>(), Err(expected), "{text}");
    }
}

#[test]
fn a_rule_that_does_not_fit_its_start_or_goes_on_too_long_has_no_occurrences() {
    use InvalidRecurrence::{Empty, Start, TooFar, TooMany};
    for (text, expected) in [
        ("FREQ=WEEKLY;BYDAY=TU;COUNT=2", Start),
        ("FREQ=MONTHLY;BYMONTHDAY=2;COUNT=2", Start),
        ("FREQ=DAILY;UNTIL=20260228", Empty),
        ("FREQ=DAILY;UNTIL=20260301T085959Z", Empty),
        ("FREQ=DAILY;UNTIL=20260430", TooMany),
        ("FREQ=DAILY;UNTIL=99991231", TooFar),
        ("FREQ=DAILY;INTERVAL=366;COUNT=60", TooFar),
        ("FREQ=MONTHLY;INTERVAL=13;BYMONTHDAY=1;COUNT=60", TooFar),
    ] {
        let occurrences = rule(text).occurrences(at("2026-03-01T09:00:00Z"), zone("UTC"));
        assert_eq!(occurrences, Err(expected), "{text}");
    }
    for text in ["FREQ=DAILY;UNTIL=20260429", "FREQ=MONTHLY;COUNT=60", "FREQ=DAILY;COUNT=60"] {
        assert_eq!(
            days(text, "2026-03-01T09:00:00Z").len(),
            usize::from(MAX_OCCURRENCES),
            "{text}"
        );
    }
    // Beyond what can be represented nothing panics.
    for start in [Instant::MIN_UTC, Instant::MAX_UTC] {
        let _ = rule("FREQ=DAILY;COUNT=60").occurrences(start, zone("America/Sao_Paulo"));
    }
}

#[test]
fn a_rule_is_stored_in_one_form() {
    for (text, stored) in [
        ("rrule:count=3;interval=1;freq=daily", "FREQ=DAILY;COUNT=3"),
        (
            "FREQ=WEEKLY;WKST=SU;INTERVAL=2;BYDAY=TU,SU;UNTIL=20300101",
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU;UNTIL=20300101",
        ),
        (
            "FREQ=MONTHLY;BYDAY=+2TU,-1FR;BYMONTHDAY=13,-1;UNTIL=20300101T120000Z",
            "FREQ=MONTHLY;BYDAY=2TU,-1FR;BYMONTHDAY=13,-1;UNTIL=20300101T120000Z",
        ),
    ] {
        assert_eq!(rule(text).to_string(), stored);
        assert_eq!(rule(stored), rule(text));
        let json = serde_json::to_string(&rule(text)).unwrap();
        assert_eq!(serde_json::from_str::<Recurrence>(&json).unwrap(), rule(text));
    }
}

/// What a rule is made of, to be counted plainly.
#[derive(Debug, Clone)]
struct Plain {
    weekly: bool,
    interval: u32,
    weekdays: Vec<Weekday>,
    nth: Option<i8>,
    count: usize,
}

impl Plain {
    fn text(&self) -> String {
        let days: Vec<String> = self
            .weekdays
            .iter()
            .map(|day| {
                let name = day.to_string()[..2].to_uppercase();
                self.nth.map_or(name.clone(), |nth| format!("{nth}{name}"))
            })
            .collect();
        let frequency = if self.weekly { "WEEKLY" } else { "MONTHLY" };
        let (interval, count) = (self.interval, self.count);
        format!("FREQ={frequency};INTERVAL={interval};BYDAY={};COUNT={count}", days.join(","))
    }

    /// Walks weeks and months, lists what each has, and counts.
    fn days(&self, first: NaiveDate) -> Vec<NaiveDate> {
        let mut days = Vec::new();
        let mut period = first;
        while days.len() < self.count {
            days.extend(self.of_period(period).into_iter().filter(|day| *day >= first));
            for _ in 0..self.interval {
                period = next_period(period, self.weekly);
            }
        }
        days.truncate(self.count);
        days
    }

    /// The days of the week or month a day is in.
    fn of_period(&self, day: NaiveDate) -> Vec<NaiveDate> {
        let same = |other: &NaiveDate| {
            if self.weekly {
                other.iso_week() == day.iso_week()
            } else {
                (other.year(), other.month()) == (day.year(), day.month())
            }
        };
        let from = day - chrono::Days::new(31);
        let all: Vec<NaiveDate> = from.iter_days().take(63).filter(same).collect();
        let mut chosen = Vec::new();
        for weekday in &self.weekdays {
            let theirs: Vec<_> = all.iter().filter(|day| day.weekday() == *weekday).collect();
            match self.nth {
                None => chosen.extend(theirs.into_iter().copied()),
                Some(nth) if nth > 0 => {
                    chosen.extend(theirs.get(nth.unsigned_abs() as usize - 1).map(|day| **day));
                }
                Some(nth) => {
                    chosen.extend(
                        theirs.iter().rev().nth(nth.unsigned_abs() as usize - 1).map(|day| **day),
                    );
                }
            }
        }
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }
}

fn next_period(day: NaiveDate, weekly: bool) -> NaiveDate {
    if weekly {
        return day + chrono::Days::new(7);
    }
    day.with_day(1).unwrap() + chrono::Months::new(1)
}

fn plain() -> impl Strategy<Value = Plain> {
    let weekdays = proptest::sample::subsequence(
        vec![
            Weekday::Mon,
            Weekday::Tue,
            Weekday::Wed,
            Weekday::Thu,
            Weekday::Fri,
            Weekday::Sat,
            Weekday::Sun,
        ],
        1..=7,
    );
    let nth = proptest::option::of(prop_oneof![1_i8..=4, -4_i8..=-1]);
    (any::<bool>(), 1_u32..=3, weekdays, nth, 1_usize..=60).prop_map(
        |(weekly, interval, weekdays, nth, count)| Plain {
            weekly,
            interval,
            weekdays,
            nth: nth.filter(|_| !weekly),
            count: if weekly { count } else { count.min(15) },
        },
    )
}

proptest! {
    #[test]
    fn dividing_and_counting_agree(plain in plain(), offset in 0_u64..400) {
        let begin = NaiveDate::from_ymd_opt(2027, 1, 1).unwrap() + chrono::Days::new(offset);
        // The first day from there on that is one of the rule's own period.
        let first = begin.iter_days().take(62).find(|day| plain.of_period(*day).contains(day));
        let Some(first) = first else { return Ok(()) };
        let start = first.and_hms_opt(12, 0, 0).unwrap().and_utc();
        let given = rule(&plain.text()).occurrences(start, zone("UTC")).unwrap();
        let given: Vec<NaiveDate> = given.iter().map(|occurrence| occurrence.local.date()).collect();
        prop_assert_eq!(given, plain.days(first), "{} from {}", plain.text(), first);
    }
}
