//! A provider's calendar: the open windows of each day and the appointments among them, so that a front end can draw it.
//!
//! The windows are the provider's; the days are those of the zone that is asked for. For example a week asked for in
//! `Europe/Lisbon` of a shop in São Paulo that closes at 22:00 has windows that end at 01:00 of the day after, cut at
//! midnight. Appointments are read from the tables as they stand, those that run into the first day included.

use axum::extract::State;
use chrono::{Datelike as _, Days, Months, NaiveDate, TimeDelta, Weekday};
use domain::Instant;
use domain::appointment::Status;
use domain::hours::Zone;
use domain::ids::{AccountId, AppointmentId, ProviderId};
use domain::provider::Provider;
use domain::slots::{Schedule, Span, local_day_span};
use http_kit::auth::SignedIn;
use http_kit::extract::{Date, Json, Path, Query};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem, schema};
use read_models::appointments::AppointmentRow;
use read_models::providers::ProviderRow;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::appointments::{ServiceName, Statuses};
use crate::as_of::log_problem;
use crate::availability::local;
use crate::freshness::Seen;
use crate::{QueryState, rules, table_problem};

/// The most days of a calendar.
const MOST_DAYS: i64 = 62;
/// The most appointments of one.
const MOST_APPOINTMENTS: u16 = 2_000;

/// Which days.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CalendarParams {
    /// The first date; with `to`.
    #[param(value_type = Option<String>, format = Date, example = "2026-12-01")]
    from: Option<Date>,
    /// The last date, at most 61 days later.
    #[param(value_type = Option<String>, format = Date, example = "2026-12-31")]
    to: Option<Date>,
    /// Instead of `from` and `to`: the day, week or month that `date` lies in.
    #[param(inline)]
    view: Option<View>,
    /// A date; with `view`.
    #[param(value_type = Option<String>, format = Date)]
    date: Option<Date>,
    /// What a week begins with.
    #[serde(default)]
    #[param(inline, default = "monday")]
    week_start: WeekStart,
    /// The IANA time zone of the days; the provider's unless given.
    #[param(value_type = Option<String>, example = "Europe/Lisbon")]
    zone: Option<Zone>,
    /// Of these statuses only, with commas between.
    #[param(value_type = Option<String>, example = "pending,confirmed")]
    status: Option<Statuses>,
}

/// How much of a calendar is seen.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum View {
    Day,
    Week,
    Month,
}

/// What a week begins with.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WeekStart {
    /// As ISO 8601 has it.
    #[default]
    Monday,
    /// As in Brazil and the United States.
    Sunday,
    /// As in much of the Arab world.
    Saturday,
}

impl WeekStart {
    /// The first day of the week a date lies in.
    pub(crate) fn of(self, date: NaiveDate) -> NaiveDate {
        let first = match self {
            Self::Monday => Weekday::Mon,
            Self::Sunday => Weekday::Sun,
            Self::Saturday => Weekday::Sat,
        };
        date - Days::new(u64::from(date.weekday().days_since(first)))
    }
}

/// A provider's calendar.
#[derive(Debug, Serialize, ToSchema)]
pub struct Calendar {
    /// Whose.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// The IANA time zone of the days and of all local times.
    #[schema(example = "America/Sao_Paulo")]
    time_zone: &'static str,
    /// The provider's.
    #[schema(example = "America/Sao_Paulo")]
    provider_time_zone: &'static str,
    /// The first date.
    from: NaiveDate,
    /// The last.
    to: NaiveDate,
    /// Each date, in order.
    days: Vec<CalendarDay>,
    /// What shares an instant with them, by start.
    appointments: Vec<CalendarAppointment>,
    /// Whether there are more than 2,000 appointments, and only the first are here.
    truncated: bool,
}

/// A date of a calendar.
#[derive(Debug, Serialize, ToSchema)]
pub struct CalendarDay {
    /// Which.
    date: NaiveDate,
    /// When the shop is open on it, in order; none is a day off.
    windows: Vec<CalendarWindow>,
}

/// A stretch in which a shop is open.
#[derive(Debug, Serialize, ToSchema)]
pub struct CalendarWindow {
    /// When it begins, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    start: Instant,
    /// When it ends, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    end: Instant,
    /// When it begins on the calendar's clock.
    #[schema(example = "2026-12-01T08:00:00-03:00")]
    local_start: String,
    /// When it ends on the calendar's clock.
    #[schema(example = "2026-12-01T18:00:00-03:00")]
    local_end: String,
}

/// An appointment in a calendar.
#[derive(Debug, Serialize, ToSchema)]
pub struct CalendarAppointment {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: AppointmentId,
    /// Who booked; `null` for a guest, who has no account.
    #[schema(value_type = Option<uuid::Uuid>)]
    client_id: Option<AccountId>,
    /// The client's name when it was booked.
    client_name: Option<String>,
    /// What was booked.
    service: ServiceName,
    /// Where it stands.
    #[schema(value_type = String, example = "confirmed")]
    status: Status,
    /// When it starts, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    start: Instant,
    /// When it ends, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    end: Instant,
    /// When it starts on the calendar's clock.
    local_start: String,
    /// When it ends on the calendar's clock.
    local_end: String,
    /// What it costs.
    #[schema(value_type = Option<schema::Money>)]
    price: Option<domain::money::Money>,
}

impl CalendarAppointment {
    fn of(row: AppointmentRow, zone: Zone) -> Self {
        Self {
            id: row.id,
            client_id: row.client.account(),
            client_name: row.contact.map(|contact| contact.name.to_string()),
            service: ServiceName { id: row.service, name: row.service_name.map(Into::into) },
            status: row.status,
            start: row.slot.start,
            end: row.slot.end,
            local_start: local(row.slot.start, zone),
            local_end: local(row.slot.end, zone),
            price: row.price,
        }
    }
}

/// The first and the last date that is asked for.
fn dates(params: &CalendarParams) -> Result<(NaiveDate, NaiveDate), Problem> {
    let wrong = |field: &str, detail| Problem::field(Kind::InvalidQuery, field, detail);
    let (first, last) = match (params.from, params.to, params.view, params.date) {
        (Some(from), Some(to), None, None) => (from.0, to.0),
        (None, None, Some(view), Some(date)) => view.around(date.0, params.week_start),
        _ => return Err(wrong("from", "give from and to, or view and date")),
    };
    if !(0..MOST_DAYS).contains(&(last - first).num_days()) {
        return Err(wrong("to", "must be from 0 to 61 days after from"));
    }
    Ok((first, last))
}

impl View {
    fn around(self, date: NaiveDate, week_start: WeekStart) -> (NaiveDate, NaiveDate) {
        match self {
            Self::Day => (date, date),
            Self::Week => {
                let first = week_start.of(date);
                (first, first + Days::new(6))
            }
            Self::Month => {
                let first = date - Days::new(u64::from(date.day0()));
                (first, first + Months::new(1) - Days::new(1))
            }
        }
    }
}

/// A provider's calendar of at most 62 days (`S3-46`), for the provider.
///
/// `from` and `to`, both included, or `view` and `date`. Days are those of `zone`; windows are cut at their midnights.
#[utoipa::path(
    get, path = "/api/appointments/calendar/{id}", operation_id = "ProviderCalendar", tag = "appointments",
    params(("id" = uuid::Uuid, Path, description = "The provider"), CalendarParams),
    responses((status = 200, body = Calendar), QueryProblems), security(("bearer" = []))
)]
pub async fn calendar(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Path(id): Path<ProviderId>,
    Query(params): Query<CalendarParams>,
    Seen(after): Seen,
) -> Result<Json<Calendar>, Problem> {
    let (from, to) = dates(&params)?;
    state.tables_after(&after).await?;
    let row = read_models::providers::by_id(state.log.pool(), id).await;
    let row = row.map_err(table_problem)?.ok_or(Kind::NotFound)?;
    rules::provider_day(&actor, row.account)?;
    let schedule = schedule_of(&state, &row).await?;
    let zone = params.zone.unwrap_or(schedule.zone);
    let statuses = params.status.unwrap_or_default().0;

    let mut rows = Vec::new();
    if let Some(within) = span_of(zone, from, to) {
        let most = MOST_APPOINTMENTS + 1;
        let pool = state.log.pool();
        let found = read_models::appointments::intersecting(pool, id, within, &statuses, most);
        rows = found.await.map_err(table_problem)?;
    }
    let truncated = rows.len() > usize::from(MOST_APPOINTMENTS);
    rows.truncate(MOST_APPOINTMENTS.into());
    let days = from.iter_days().take_while(|date| *date <= to);
    Ok(Json(Calendar {
        provider_id: id,
        time_zone: zone.name(),
        provider_time_zone: schedule.zone.name(),
        from,
        to,
        days: days
            .map(|date| CalendarDay { date, windows: windows(&schedule, zone, date) })
            .collect(),
        appointments: rows.into_iter().map(|row| CalendarAppointment::of(row, zone)).collect(),
        truncated,
    }))
}

/// A provider's schedule, at least as recent as its row.
pub(crate) async fn schedule_of(
    state: &QueryState,
    row: &ProviderRow,
) -> Result<Schedule, Problem> {
    let provider = state.log.load_at_least::<Provider>(row.id, row.stamp.at).await;
    Ok(provider.map_err(log_problem)?.state.schedule.clone())
}

/// The instants of these local dates, both included; `None` if the zone skipped all of them.
pub(crate) fn span_of(zone: Zone, first: NaiveDate, last: NaiveDate) -> Option<Span> {
    let days = || first.iter_days().take_while(|day| *day <= last);
    let start = days().find_map(|day| local_day_span(zone, day))?.start;
    let end =
        days().collect::<Vec<_>>().into_iter().rev().find_map(|day| local_day_span(zone, day))?;
    Some(Span { start, end: end.end })
}

/// When a shop is open on a date of some zone: whatever of its windows lies in it.
pub(crate) fn open_on(schedule: &Schedule, zone: Zone, date: NaiveDate) -> Vec<Span> {
    let Some(within) = local_day_span(zone, date) else { return Vec::new() };
    let first = schedule.local_day(within.start);
    let last = schedule.local_day(within.end - TimeDelta::microseconds(1));
    let open = first.iter_days().take_while(|day| *day <= last).flat_map(|day| schedule.open(day));
    open.map(|span| Span { start: span.start.max(within.start), end: span.end.min(within.end) })
        .filter(|span| span.start < span.end)
        .collect()
}

fn windows(schedule: &Schedule, zone: Zone, date: NaiveDate) -> Vec<CalendarWindow> {
    let window = |Span { start, end }| CalendarWindow {
        start,
        end,
        local_start: local(start, zone),
        local_end: local(end, zone),
    };
    open_on(schedule, zone, date).into_iter().map(window).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_week_begins_when_its_provider_says_and_a_month_ends_when_it_does() {
        for (start, first) in [
            (WeekStart::Monday, "2026-03-02"),
            (WeekStart::Sunday, "2026-03-01"),
            (WeekStart::Saturday, "2026-02-28"),
        ] {
            let (from, to) = View::Week.around(date("2026-03-04"), start);
            assert_eq!((from, to), (date(first), date(first) + Days::new(6)));
            assert_eq!(
                View::Week.around(from, start),
                (from, to),
                "it is its own week's first day"
            );
        }
        for (day, first, last) in [
            ("2026-02-28", "2026-02-01", "2026-02-28"),
            ("2028-02-01", "2028-02-01", "2028-02-29"),
            ("2026-12-31", "2026-12-01", "2026-12-31"),
        ] {
            let month = View::Month.around(date(day), WeekStart::Monday);
            assert_eq!(month, (date(first), date(last)));
        }
    }

    #[test]
    fn windows_are_cut_at_the_midnights_of_the_zone_that_looks() {
        let schedule = Schedule {
            zone: "Asia/Tokyo".parse().unwrap(),
            weekly: domain::hours::WeeklyHours::classic(),
            ..Schedule::default()
        };
        // 08:00–18:00 in Tokyo is 20:00–06:00 in São Paulo.
        let seen = |date: NaiveDate| -> Vec<(String, String)> {
            let windows = windows(&schedule, Zone::SAO_PAULO, date);
            windows.into_iter().map(|w| (w.local_start, w.local_end)).collect()
        };
        let at = |day: &str, time: &str| format!("{day}T{time}-03:00");
        assert_eq!(
            seen(date("2026-03-02")),
            [
                (at("2026-03-02", "00:00:00"), at("2026-03-02", "06:00:00")),
                (at("2026-03-02", "20:00:00"), at("2026-03-03", "00:00:00")),
            ]
        );
        let own = open_on(&schedule, schedule.zone, date("2026-03-02"));
        assert_eq!(own, schedule.open(date("2026-03-02")));
    }

    #[test]
    fn dates_that_a_zone_skipped_are_no_time_at_all() {
        let apia: Zone = "Pacific/Apia".parse().unwrap();
        assert_eq!(span_of(apia, date("2011-12-30"), date("2011-12-30")), None);
        let around = span_of(apia, date("2011-12-30"), date("2011-12-31")).unwrap();
        assert_eq!(Some(around), local_day_span(apia, date("2011-12-31")));
    }
}
