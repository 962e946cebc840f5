//! A shop's time off and the holidays it keeps.

use axum::extract::State;
use axum::response::IntoResponse;
use domain::holidays::HolidayCalendar;
use domain::ids::{ProviderId, TimeOffId};
use domain::provider::{CancelTimeOff, ChangeProvider, Provider, SetHolidays, TakeTimeOff};
use domain::text::Note;
use domain::time_off::{LocalMinute, TimeOff};
use http::StatusCode;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path, Submission};
use http_kit::problem::CommandProblems;
use http_kit::{Kind, Problem, schema};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::CommandState;
use crate::provider::change_own;

pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new().routes(routes!(take)).routes(routes!(cancel)).routes(routes!(set_holidays))
}

/// A stretch of the shop's local time in which nothing is to be booked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TimeOffTaking, example = json!({
    "from": "2026-12-24T12:00", "until": "2027-01-02T00:00", "reason": "Férias",
}))]
struct Taking {
    /// Local, `YYYY-MM-DDTHH:MM`.
    #[schema(value_type = String)]
    from: LocalMinute,
    /// Local, `YYYY-MM-DDTHH:MM`; not included. At most 367 days after `from`.
    #[schema(value_type = String)]
    until: LocalMinute,
    /// Why. Nobody else sees it.
    #[schema(value_type = Option<String>, max_length = 2000)]
    reason: Option<Note>,
}

/// Time off that was taken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TimeOffTaken)]
struct Taken {
    #[schema(value_type = String, format = Uuid)]
    id: TimeOffId,
}

/// Take time off from one's own shop.
///
/// Standing appointments stay; `GET /api/appointments/outside-hours` lists them.
#[utoipa::path(
    post, path = "/api/providers/{id}/time-off", operation_id = "TakeTimeOff", tag = "providers",
    security(("bearer" = [])),
    request_body = Taking,
    params(
        ("id" = String, Path, format = Uuid, description = "The shop"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 201, body = Taken), CommandProblems),
)]
async fn take(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(provider): Path<ProviderId>,
    Submission { body: Json(Taking { from, until, reason }), sent }: Submission<Json<Taking>>,
) -> Result<impl IntoResponse, Problem> {
    let time_off = TimeOff::new(from, until)
        .map_err(|wrong| Problem::field(Kind::InvalidInput, "/until", &wrong.to_string()))?;
    let command = TakeTimeOff { provider, time_off, reason };
    let (outcome, receipt) = api.execute(actor, sent, command).await?;
    Ok((StatusCode::CREATED, receipt.of::<Provider>(provider), Json(Taken { id: outcome.id })))
}

/// Work after all in a stretch that was to be off.
#[utoipa::path(
    delete, path = "/api/providers/{id}/time-off/{time_off}", operation_id = "CancelTimeOff",
    tag = "providers", security(("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid, description = "The shop"),
        ("time_off" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 204), CommandProblems),
)]
async fn cancel(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path((provider, id)): Path<(ProviderId, TimeOffId)>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let command = ChangeProvider { provider, change: CancelTimeOff { id } };
    let (_, receipt) = api.execute(actor, sent, command).await?;
    Ok((StatusCode::NO_CONTENT, receipt.of::<Provider>(provider), ()))
}

/// Which holidays the shop keeps.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = HolidaysChange, example = json!({"calendar": "brazil"}))]
struct Holidays {
    /// `null`: none.
    #[schema(value_type = Option<schema::HolidayCalendar>)]
    calendar: Option<HolidayCalendar>,
}

/// The shop keeps them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HolidaysSet)]
struct HolidaysKept {
    #[schema(value_type = String, format = Uuid)]
    id: ProviderId,
}

/// Keep a calendar of holidays: the shop is closed on them, unless a day is overridden.
#[utoipa::path(
    put, path = "/api/providers/holidays", operation_id = "SetHolidays", tag = "providers",
    security(("bearer" = [])),
    request_body = Holidays,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = HolidaysKept), CommandProblems),
)]
async fn set_holidays(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(Holidays { calendar }), sent }: Submission<Json<Holidays>>,
) -> Result<impl IntoResponse, Problem> {
    let (outcome, receipt) =
        change_own(&api, actor, sent, SetHolidays { holidays: calendar }).await?;
    Ok((receipt, Json(HolidaysKept { id: outcome.provider })))
}
