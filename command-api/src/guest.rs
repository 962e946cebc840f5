//! What a guest does with their one appointment, by the token of the link that was mailed to them.
//!
//! The token comes in a header, `Pontual-Guest`, and lets in to that appointment alone: until 30 days after its end, or until
//! the guest is erased.

use axum::extract::State;
use axum::response::IntoResponse;
use domain::actor::Actor;
use domain::appointment::{CancelAppointment, EraseGuest, RescheduleAppointment};
use domain::ids::AppointmentId;
use http::StatusCode;
use http_kit::Problem;
use http_kit::extract::{Json, Submission};
use http_kit::links::GuestToken;
use http_kit::problem::CommandProblems;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::CommandState;
use crate::appointment::{Cancellation, Move, Stands, answer};

/// Where a guest finds their appointment.
pub(crate) const GUEST_APPOINTMENT: &str = "/api/guest/appointment";

pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new().routes(routes!(reschedule)).routes(routes!(cancel)).routes(routes!(erase))
}

fn guest(api: &CommandState, token: &GuestToken) -> Result<(Actor, AppointmentId), Problem> {
    let (id, appointment) = token.guest(&api.keys.guest)?;
    Ok((Actor::Guest { id, appointment }, appointment))
}

/// Move a guest's appointment to another start.
#[utoipa::path(
    post, path = "/api/guest/appointment/reschedule", operation_id = "RescheduleGuestAppointment",
    tag = "appointments", security(("guest" = [])),
    request_body = Move,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Stands), CommandProblems),
)]
async fn reschedule(
    State(api): State<CommandState>,
    token: GuestToken,
    Submission { body: Json(Move { start }), sent }: Submission<Json<Move>>,
) -> Result<impl IntoResponse, Problem> {
    let (actor, appointment) = guest(&api, &token)?;
    let command = RescheduleAppointment { appointment, start: start.0 };
    let done = api.execute(actor, sent, command).await?;
    answer(&api, done).await
}

/// Call a guest's appointment off.
#[utoipa::path(
    delete, path = "/api/guest/appointment", operation_id = "CancelGuestAppointment",
    tag = "appointments", security(("guest" = [])),
    request_body = Option<Cancellation>,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Stands), CommandProblems),
)]
async fn cancel(
    State(api): State<CommandState>,
    token: GuestToken,
    Submission { body, sent }: Submission<Option<Json<Cancellation>>>,
) -> Result<impl IntoResponse, Problem> {
    let (actor, appointment) = guest(&api, &token)?;
    let reason = body.and_then(|Json(Cancellation { reason })| reason);
    let done = api.execute(actor, sent, CancelAppointment { appointment, reason }).await?;
    answer(&api, done).await
}

/// Erase a guest for good.
///
/// What they left is readable no more, the appointment is called off if it is still to come, and the link is dead.
#[utoipa::path(
    delete, path = "/api/guest", operation_id = "EraseGuest", tag = "appointments",
    security(("guest" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 202, description = "The guest is erased; what was made of the log follows"), CommandProblems),
)]
async fn erase(
    State(api): State<CommandState>,
    token: GuestToken,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let (actor, appointment) = guest(&api, &token)?;
    let (_, receipt) = api.execute(actor, sent, EraseGuest { appointment }).await?;
    Ok((StatusCode::ACCEPTED, receipt, ()))
}
