//! Holding a slot while one checks out.

use axum::extract::State;
use axum::response::IntoResponse;
use chrono::SecondsFormat;
use domain::Instant;
use domain::hold::{Held, Hold, HoldSlot, ReleaseHold};
use domain::hours::Zone;
use domain::ids::{HoldId, ProviderId, ServiceId};
use http::StatusCode;
use http::header::LOCATION;
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
    OpenApiRouter::new().routes(routes!(place)).routes(routes!(release))
}

/// What to hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SlotHolding, example = json!({
    "provider_id": "01935d2e-7c11-7a3f-9c2b-0242ac120002", "start": "2026-03-02T13:00:00Z",
}))]
struct Holding {
    #[schema(value_type = String, format = Uuid)]
    provider_id: ProviderId,
    /// Left out where the shop offers just one service.
    #[schema(value_type = Option<String>, format = Uuid)]
    service_id: Option<ServiceId>,
    /// RFC 3339, with any offset.
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
}

/// A slot that is held.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SlotHeld)]
struct Stands {
    /// Name it as `hold` when you book.
    #[schema(value_type = String, format = Uuid)]
    id: HoldId,
    #[schema(value_type = String, format = Uuid)]
    provider_id: ProviderId,
    #[schema(value_type = String, format = Uuid)]
    service_id: ServiceId,
    #[schema(value_type = String, format = DateTime)]
    start: String,
    #[schema(value_type = String, format = DateTime)]
    end: String,
    /// The provider's IANA zone.
    #[schema(value_type = String)]
    time_zone: Zone,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    expires_at: String,
}

impl Stands {
    fn of(id: HoldId, held: Held) -> Self {
        let Held { provider, holder: _, measure, slot, zone, expires_at, wait: _ } = held;
        let utc = |at: Instant| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        Self {
            id,
            provider_id: provider,
            service_id: measure.service,
            start: utc(slot.start),
            end: utc(slot.end),
            time_zone: zone,
            expires_at: utc(expires_at),
        }
    }
}

/// Hold a slot while one checks out.
///
/// Nobody else can book or hold it until it ends, which it does by itself. Booking it with `hold` makes it the appointment.
/// Whoever holds another slot of that provider on that UTC day lets the first one go.
#[utoipa::path(
    post, path = "/api/holds", operation_id = "HoldSlot", tag = "appointments",
    security(("bearer" = [])),
    request_body = Holding,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses(
        (status = 201, body = Stands, headers(
            ("Location" = String, description = "The hold"),
            ("Pontual-Position" = String, description = "Send it as Pontual-After to read this write"),
            ("ETag" = String, description = "The hold's version"),
        )),
        CommandProblems,
    ),
)]
async fn place(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(body), sent }: Submission<Json<Holding>>,
) -> Result<impl IntoResponse, Problem> {
    let Holding { provider_id, service_id, start } = body;
    let command = HoldSlot { provider: provider_id, service: service_id, start: start.0 };
    let (outcome, receipt) = api.execute(actor, sent, command).await?;
    let location = [(LOCATION, format!("/api/holds/{}", outcome.hold))];
    let answer = Stands::of(outcome.hold, outcome.held);
    Ok((StatusCode::CREATED, receipt.of::<Hold>(outcome.hold), location, Json(answer)))
}

/// Let go of a slot one holds.
#[utoipa::path(
    delete, path = "/api/holds/{id}", operation_id = "ReleaseHold", tag = "appointments",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v1\""),
    ),
    responses((status = 204), CommandProblems),
)]
async fn release(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(hold): Path<HoldId>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let (_, receipt) = api.execute(actor, sent, ReleaseHold { hold }).await?;
    Ok((StatusCode::NO_CONTENT, receipt.of::<Hold>(hold), ()))
}
