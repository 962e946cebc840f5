//! The holidays of Brazil, as a calendar that a shop may opt into: on such a day it is closed, unless it says otherwise
//! for that very day.
//!
//! National holidays are those of Law 662/1949 with Laws 6.802/1980 (12 October), 10.607/2002 (21 April, 2 November) and
//! 14.759/2023 (20 November, from 2024), and Good Friday, which Law 9.093/1995 leaves to the towns and all of them keep.
//! Carnival and Corpus Christi are no holidays by law, but most work places close: they are the optional ones. Movable days
//! are counted from Easter. For example in 2026 Easter is 5 April, so Good Friday is 3 April, Carnival 16 and 17 February
//! and Corpus Christi 4 June.

use chrono::{Datelike, NaiveDate, TimeDelta};
use serde::{Deserialize, Serialize};

use crate::locale::Locale;

/// Which days a shop is closed on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolidayCalendar {
    /// The national holidays.
    Brazil,
    /// The national holidays, Carnival and Corpus Christi.
    BrazilWithOptional,
}

impl HolidayCalendar {
    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Brazil => "brazil",
            Self::BrazilWithOptional => "brazil_with_optional",
        }
    }

    /// The holiday a date is, if it is one.
    pub fn on(self, day: NaiveDate) -> Option<Holiday> {
        let optional = match self {
            Self::Brazil => false,
            Self::BrazilWithOptional => true,
        };
        fixed(day).or_else(|| movable(day, optional))
    }
}

/// A holiday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is what it is called")]
pub enum Holiday {
    NewYear,
    Carnival,
    GoodFriday,
    Tiradentes,
    LabourDay,
    CorpusChristi,
    IndependenceDay,
    OurLadyOfAparecida,
    AllSouls,
    RepublicDay,
    BlackConsciousness,
    Christmas,
}

impl Holiday {
    /// What it is called.
    pub const fn name(self, locale: Locale) -> &'static str {
        match self {
            Self::NewYear => locale.pick("Confraternização Universal", "New Year's Day"),
            Self::Carnival => locale.pick("Carnaval", "Carnival"),
            Self::GoodFriday => locale.pick("Sexta-feira Santa", "Good Friday"),
            Self::Tiradentes => locale.pick("Tiradentes", "Tiradentes"),
            Self::LabourDay => locale.pick("Dia do Trabalho", "Labour Day"),
            Self::CorpusChristi => locale.pick("Corpus Christi", "Corpus Christi"),
            Self::IndependenceDay => locale.pick("Independência do Brasil", "Independence Day"),
            Self::OurLadyOfAparecida => {
                locale.pick("Nossa Senhora Aparecida", "Our Lady of Aparecida")
            }
            Self::AllSouls => locale.pick("Finados", "All Souls' Day"),
            Self::RepublicDay => locale.pick("Proclamação da República", "Republic Day"),
            Self::BlackConsciousness => {
                locale.pick("Dia da Consciência Negra", "Black Consciousness Day")
            }
            Self::Christmas => locale.pick("Natal", "Christmas Day"),
        }
    }
}

fn fixed(day: NaiveDate) -> Option<Holiday> {
    match (day.month(), day.day()) {
        (1, 1) => Some(Holiday::NewYear),
        (4, 21) => Some(Holiday::Tiradentes),
        (5, 1) => Some(Holiday::LabourDay),
        (9, 7) => Some(Holiday::IndependenceDay),
        (10, 12) if day.year() >= 1980 => Some(Holiday::OurLadyOfAparecida),
        (11, 2) => Some(Holiday::AllSouls),
        (11, 15) => Some(Holiday::RepublicDay),
        (11, 20) if day.year() >= 2024 => Some(Holiday::BlackConsciousness),
        (12, 25) => Some(Holiday::Christmas),
        _ => None,
    }
}

fn movable(day: NaiveDate, optional: bool) -> Option<Holiday> {
    // Easter is from 22 March to 25 April: nothing that hangs on it is after 24 June or before 2 February.
    if !(2..=6).contains(&day.month()) {
        return None;
    }
    match day.signed_duration_since(easter(day.year())?).num_days() {
        -2 => Some(Holiday::GoodFriday),
        -48 | -47 if optional => Some(Holiday::Carnival),
        60 if optional => Some(Holiday::CorpusChristi),
        _ => None,
    }
}

/// Easter Sunday of a year of the Gregorian calendar (the anonymous algorithm, Nature 1876, as Butcher gives it).
fn easter(year: i32) -> Option<NaiveDate> {
    let (a, b, c) = (year.rem_euclid(19), year.div_euclid(100), year.rem_euclid(100));
    let (d, e) = (b / 4, b % 4);
    let g = (b - (b + 8) / 25 + 1) / 3;
    let h = (19 * a + b - d - g + 15).rem_euclid(30);
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k).rem_euclid(7);
    let m = (a + 11 * h + 22 * l) / 451;
    let days_after_1_march = i64::from(h + l - 7 * m + 21);
    NaiveDate::from_ymd_opt(year, 3, 1)?.checked_add_signed(TimeDelta::days(days_after_1_march))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn year(calendar: HolidayCalendar, year: i32) -> Vec<String> {
        let first = NaiveDate::from_ymd_opt(year, 1, 1).unwrap();
        first
            .iter_days()
            .take_while(|day| day.year() == year)
            .filter(|day| calendar.on(*day).is_some())
            .map(|day| day.format("%m-%d").to_string())
            .collect()
    }

    #[test]
    fn easter_is_where_the_almanacs_have_it() {
        for (year, day) in [
            (1961, "1961-04-02"),
            (1981, "1981-04-19"),
            (2000, "2000-04-23"),
            (2008, "2008-03-23"),
            (2011, "2011-04-24"),
            (2019, "2019-04-21"),
            (2024, "2024-03-31"),
            (2025, "2025-04-20"),
            (2026, "2026-04-05"),
            (2027, "2027-03-28"),
            (2038, "2038-04-25"),
            (2285, "2285-03-22"),
        ] {
            assert_eq!(easter(year), Some(date(day)));
        }
    }

    #[test]
    fn the_years_have_the_holidays_that_were_decreed() {
        // Portaria MGI 8.617/2023, 9.783/2024 and 11.460/2025.
        assert_eq!(
            year(HolidayCalendar::BrazilWithOptional, 2024),
            [
                "01-01", "02-12", "02-13", "03-29", "04-21", "05-01", "05-30", "09-07", "10-12",
                "11-02", "11-15", "11-20", "12-25"
            ]
        );
        assert_eq!(
            year(HolidayCalendar::Brazil, 2025),
            [
                "01-01", "04-18", "04-21", "05-01", "09-07", "10-12", "11-02", "11-15", "11-20",
                "12-25"
            ]
        );
        assert_eq!(
            year(HolidayCalendar::BrazilWithOptional, 2026),
            [
                "01-01", "02-16", "02-17", "04-03", "04-21", "05-01", "06-04", "09-07", "10-12",
                "11-02", "11-15", "11-20", "12-25"
            ]
        );
        assert!(!year(HolidayCalendar::Brazil, 2023).contains(&"11-20".to_owned()));
    }

    #[test]
    fn no_date_there_is_makes_it_panic() {
        for day in [NaiveDate::MIN, NaiveDate::MAX, date("0000-03-01"), date("-0001-04-01")] {
            HolidayCalendar::BrazilWithOptional.on(day);
        }
    }
}
