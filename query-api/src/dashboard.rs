//! A provider's dashboard (`S3-33`): today, what comes next, what waits for an answer, and how business goes.
//!
//! Everything is counted in the provider's zone: `this_month` begins at its local midnight. The figures come from the read
//! tables (`read-models/src/dashboard.rs`), the open minutes from the provider's schedule; nothing is kept for them.

use axum::extract::State;
use chrono::{Datelike as _, Days, Months, NaiveDate, TimeDelta};
use domain::Instant;
use domain::hours::Zone;
use domain::ids::ProviderId;
use domain::money::Currency;
use domain::slots::{Schedule, Span};
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Query};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};
use read_models::dashboard::{Dashboard, Revenue, Times};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::appointments::{AppointmentBody, seen_by};
use crate::calendar::{WeekStart, open_on, schedule_of, span_of};
use crate::freshness::Seen;
use crate::{QueryState, rules, table_problem};

/// Over how many days no-shows are counted.
const NO_SHOW_DAYS: u64 = 90;

/// How the dashboard is shown.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DashboardParams {
    /// What a week begins with.
    #[serde(default)]
    #[param(inline, default = "monday")]
    week_start: WeekStart,
}

/// A provider's dashboard.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Dashboard)]
pub struct DashboardBody {
    /// Whose.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// The provider's IANA time zone, which days, weeks and months are in.
    #[schema(example = "America/Sao_Paulo")]
    time_zone: &'static str,
    /// The present.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    now: Instant,
    /// Today, less what was called off.
    today: Today,
    /// The next five that begin.
    next: Vec<AppointmentBody>,
    /// Those to come that wait for an answer.
    pending: Pending,
    /// The week's load.
    week: Week,
    /// The prices of confirmed and completed appointments, by the month they are in.
    revenue: RevenueOfMonths,
    /// How many did not come.
    no_show: NoShow,
    /// Who booked for the first time, what was called off left out.
    new_clients: NewClients,
}

/// A dashboard's present day.
#[derive(Debug, Serialize, ToSchema)]
struct Today {
    /// The local date.
    date: NaiveDate,
    /// How many appointments there are.
    count: i64,
    /// The first 100 of them, by start.
    appointments: Vec<AppointmentBody>,
}

/// What waits for a provider's answer.
#[derive(Debug, Serialize, ToSchema)]
struct Pending {
    /// How many.
    count: i64,
    /// The first 20 of them, by start.
    appointments: Vec<AppointmentBody>,
}

/// How full a week is.
#[derive(Debug, Serialize, ToSchema)]
struct Week {
    /// Minutes of appointments that are pending, confirmed, completed or missed; those of a group count once.
    booked_minutes: i64,
    /// Minutes in which the shop is open.
    open_minutes: i64,
    /// The one by the other; `null` in a week off. More than 1 where hours changed after something was booked.
    load: Option<f64>,
    /// Each date.
    days: Vec<DayLoad>,
}

/// How full a day is.
#[derive(Debug, Serialize, ToSchema)]
struct DayLoad {
    /// The local date.
    date: NaiveDate,
    /// Minutes of appointments that are pending, confirmed, completed or missed; those of a group count once.
    booked_minutes: i64,
    /// Minutes in which the shop is open.
    open_minutes: i64,
}

/// What came in, or will.
#[derive(Debug, Serialize, ToSchema)]
struct RevenueOfMonths {
    /// This month, by currency.
    this_month: Vec<Takings>,
    /// The month before.
    last_month: Vec<Takings>,
}

/// What came in, or will, in one currency.
#[derive(Debug, Serialize, ToSchema)]
struct Takings {
    /// The sum, in minor units.
    amount_minor: i64,
    /// ISO 4217.
    #[schema(value_type = String, example = "BRL")]
    currency: Currency,
    /// Of how many appointments.
    appointments: i64,
}

/// How many did not come, of those that are known to have come or not.
#[derive(Debug, Serialize, ToSchema)]
struct NoShow {
    /// Since when they are counted: for 90 days.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    since: Instant,
    /// How many did not come.
    no_shows: i64,
    /// How many came.
    completed: i64,
    /// From 0 to 1; `null` while nothing is known.
    rate: Option<f64>,
}

/// How many booked for the first time.
#[derive(Debug, Serialize, ToSchema)]
struct NewClients {
    /// This month.
    this_month: i64,
    /// The month before.
    last_month: i64,
}

/// The signed-in account's own shop at a glance (`S3-33`).
#[utoipa::path(
    get, path = "/api/providers/dashboard", operation_id = "ProviderDashboard", tag = "providers",
    params(DashboardParams),
    responses((status = 200, body = DashboardBody), QueryProblems), security(("bearer" = []))
)]
pub async fn dashboard(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Query(params): Query<DashboardParams>,
    Seen(after): Seen,
) -> Result<Json<DashboardBody>, Problem> {
    let account = rules::own(&actor)?;
    state.tables_after(&after).await?;
    let pool = state.log.pool();
    let row = read_models::providers::of_account(pool, account).await;
    let row = row.map_err(table_problem)?.ok_or(Kind::NotFound)?;
    let schedule = schedule_of(&state, &row).await?;
    let now = state.log.clock().now();
    let (date, zone) = (schedule.local_day(now), schedule.zone);
    let monday = params.week_start.of(date);
    let times = times(zone, now, date, monday).ok_or(Kind::Internal)?;
    let seen = read_models::dashboard::of_provider(pool, row.id, &times).await;
    let Dashboard { today, next, pending, figures, week, revenue } = seen.map_err(table_problem)?;
    let (first, second) = (today.len(), next.len());
    let rows = today.into_iter().chain(next).chain(pending).collect();
    let mut bodies = seen_by(&state, account, rows).await?;
    let pending = bodies.split_off(first + second);
    let next = bodies.split_off(first);
    Ok(Json(DashboardBody {
        provider_id: row.id,
        time_zone: zone.name(),
        now,
        today: Today { date, count: figures.today, appointments: bodies },
        next,
        pending: Pending { count: figures.pending, appointments: pending },
        week: load(&schedule, monday, &week),
        revenue: RevenueOfMonths {
            this_month: takings(&revenue, true),
            last_month: takings(&revenue, false),
        },
        no_show: NoShow {
            since: times.no_shows_since,
            no_shows: figures.no_shows,
            completed: figures.completed,
            rate: ratio(figures.no_shows, figures.no_shows + figures.completed),
        },
        new_clients: NewClients {
            this_month: figures.new_this_month,
            last_month: figures.new_last_month,
        },
    }))
}

/// The stretches a dashboard is about; `None` at the ends of time.
fn times(zone: Zone, now: Instant, date: NaiveDate, monday: NaiveDate) -> Option<Times> {
    let this_month = date - Days::new(u64::from(date.day0()));
    let begin = |day: NaiveDate| Some(span_of(zone, day, day + Days::new(7))?.start);
    Some(Times {
        now,
        today: span_of(zone, date, date)?,
        week: span_of(zone, monday, monday + Days::new(6))?,
        last_month: begin(this_month - Months::new(1))?,
        this_month: begin(this_month)?,
        next_month: begin(this_month + Months::new(1))?,
        no_shows_since: now - Days::new(NO_SHOW_DAYS),
    })
}

fn takings(revenue: &[Revenue], this_month: bool) -> Vec<Takings> {
    let of_month = revenue.iter().filter(|revenue| revenue.this_month == this_month);
    of_month
        .map(|&Revenue { this_month: _, currency, amount_minor, appointments }| Takings {
            amount_minor,
            currency,
            appointments,
        })
        .collect()
}

fn load(schedule: &Schedule, monday: NaiveDate, times: &[Span]) -> Week {
    let day = |date: NaiveDate| {
        let within = span_of(schedule.zone, date, date);
        let open = open_on(schedule, schedule.zone, date);
        DayLoad {
            date,
            booked_minutes: within.map_or(0, |within| minutes(times, within)),
            open_minutes: within.map_or(0, |within| minutes(&open, within)),
        }
    };
    let days: Vec<DayLoad> = monday.iter_days().take(7).map(day).collect();
    let booked_minutes = days.iter().map(|day| day.booked_minutes).sum();
    let open_minutes = days.iter().map(|day| day.open_minutes).sum();
    Week { booked_minutes, open_minutes, load: ratio(booked_minutes, open_minutes), days }
}

/// How many minutes of a stretch these times cover; they are in order of their starts.
fn minutes(times: &[Span], within: Span) -> i64 {
    let (mut covered, mut until) = (TimeDelta::zero(), within.start);
    for time in times {
        let (start, end) = (time.start.max(until), time.end.min(within.end));
        if start < end {
            covered += end - start;
            until = end;
        }
    }
    covered.num_minutes()
}

/// One number by another, to four digits; `None` by zero.
fn ratio(part: i64, whole: i64) -> Option<f64> {
    let (part, whole) = (i32::try_from(part).ok()?, i32::try_from(whole).ok()?);
    (whole > 0).then(|| (f64::from(part) / f64::from(whole) * 10_000.0).round() / 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: &str, end: &str) -> Span {
        let at = |time: &str| format!("2026-03-02T{time}:00Z").parse().unwrap();
        Span { start: at(start), end: at(end) }
    }

    #[test]
    fn minutes_that_several_cover_count_once_and_none_outside_the_day() {
        let within = span("08:00", "18:00");
        for (times, expected) in [
            (vec![], 0),
            (vec![span("08:00", "09:00"), span("09:00", "10:00")], 120),
            (vec![span("08:00", "09:00"), span("08:30", "10:00")], 120),
            (vec![span("08:00", "12:00"), span("09:00", "10:00")], 240),
            (vec![span("07:00", "08:30"), span("17:30", "19:00")], 60),
            (vec![span("06:00", "07:00"), span("18:00", "19:00")], 0),
            (vec![span("06:00", "20:00")], 600),
        ] {
            assert_eq!(minutes(&times, within), expected, "{times:?}");
        }
    }

    #[test]
    fn a_ratio_by_nothing_is_none() {
        assert_eq!(ratio(1, 3), Some(0.3333));
        assert_eq!(ratio(0, 3), Some(0.0));
        assert_eq!(ratio(0, 0), None);
    }

    #[test]
    fn months_begin_at_the_midnights_of_the_zone() {
        let now = "2026-03-01T02:00:00Z".parse().unwrap();
        let zone = Zone::SAO_PAULO;
        let date = "2026-02-28".parse().unwrap();
        let times = times(zone, now, date, "2026-02-23".parse().unwrap()).unwrap();
        let text = |at: Instant| at.format("%F %R").to_string();
        assert_eq!(text(times.last_month), "2026-01-01 03:00");
        assert_eq!(text(times.this_month), "2026-02-01 03:00");
        assert_eq!(text(times.next_month), "2026-03-01 03:00");
        assert_eq!(text(times.week.end), "2026-03-02 03:00");
        assert!(times.today.start <= now && now < times.today.end);
    }
}
