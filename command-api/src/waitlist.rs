//! Waiting for a slot where none is free.

use axum::extract::State;
use axum::response::IntoResponse;
use chrono::SecondsFormat;
use domain::Instant;
use domain::ids::{ProviderId, ServiceId, WaitId, WaitlistId};
use domain::waitlist::{JoinWaitlist, LeaveWaitlist, Waitlist, Waits};
use http::StatusCode;
use http_kit::Problem;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path, Submission, Timestamp};
use http_kit::problem::CommandProblems;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::CommandState;

pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new().routes(routes!(join)).routes(routes!(leave))
}

/// What to wait for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WaitlistJoining, example = json!({
    "provider_id": "01935d2e-7c11-7a3f-9c2b-0242ac120002",
    "from": "2026-03-03T11:00:00Z", "to": "2026-03-03T15:00:00Z",
}))]
struct Joining {
    #[schema(value_type = String, format = Uuid)]
    provider_id: ProviderId,
    /// Left out where the shop offers just one service.
    #[schema(value_type = Option<String>, format = Uuid)]
    service_id: Option<ServiceId>,
    /// From when on a slot may start: RFC 3339, with any offset.
    #[schema(value_type = String, format = DateTime)]
    from: Timestamp,
    /// Until when it must have ended, at most 14 days later.
    #[schema(value_type = String, format = DateTime)]
    to: Timestamp,
}

/// A place in line.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PlaceInLine)]
struct Place {
    #[schema(value_type = String, format = Uuid)]
    id: WaitId,
    #[schema(value_type = String, format = Uuid)]
    provider_id: ProviderId,
    #[schema(value_type = String, format = Uuid)]
    service_id: ServiceId,
    #[schema(value_type = String, format = DateTime)]
    from: String,
    #[schema(value_type = String, format = DateTime)]
    to: String,
    /// How many wait for some of the same, up to this one.
    #[schema(minimum = 1)]
    place: usize,
}

impl From<Waits> for Place {
    fn from(waits: Waits) -> Self {
        let Waits { provider, wait, service, from, to, place } = waits;
        let utc = |at: Instant| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        Self {
            id: wait,
            provider_id: provider,
            service_id: service,
            from: utc(from),
            to: utc(to),
            place,
        }
    }
}

/// Wait for a slot within a stretch of time in which none is free.
///
/// When one is given back, the first in line is offered it: it is held for them, for as long as the provider's policy says,
/// and a `waitlist_offer` notification names the hold. To take it is to book it with that `hold`. Whoever does not in time
/// has left the line, and it goes to the next. While something is free, `409 nothing-to-wait-for` says what.
#[utoipa::path(
    post, path = "/api/waitlist", operation_id = "JoinWaitlist", tag = "appointments",
    security(("bearer" = [])),
    request_body = Joining,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses(
        (status = 201, body = Place, headers(
            ("Pontual-Position" = String, description = "Send it as Pontual-After to read this write"),
            ("Idempotent-Replayed" = Option<String>, description = "true: the first answer again"),
        )),
        CommandProblems,
    ),
)]
async fn join(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(body), sent }: Submission<Json<Joining>>,
) -> Result<impl IntoResponse, Problem> {
    let Joining { provider_id, service_id, from, to } = body;
    let command =
        JoinWaitlist { provider: provider_id, service: service_id, from: from.0, to: to.0 };
    let (outcome, receipt) = api.execute(actor, sent, command).await?;
    Ok((StatusCode::CREATED, receipt, Json(Place::from(outcome))))
}

/// Leave the line. What one is offered just now goes to the next.
#[utoipa::path(
    delete, path = "/api/waitlist/provider/{id}/{wait}", operation_id = "LeaveWaitlist",
    tag = "appointments", security(("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid, description = "The provider"),
        ("wait" = String, Path, format = Uuid, description = "The place in line"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
    ),
    responses((status = 204), CommandProblems),
)]
async fn leave(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path((provider, wait)): Path<(ProviderId, WaitId)>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let (_, receipt) = api.execute(actor, sent, LeaveWaitlist { provider, wait }).await?;
    Ok((StatusCode::NO_CONTENT, receipt.of::<Waitlist>(WaitlistId::of(provider)), ()))
}
