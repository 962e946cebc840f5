//! A hold, for its holder.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::Instant;
use domain::hold::{Ended, Held, Hold, Placed};
use domain::ids::{HoldId, Id, ProviderId, ServiceId};
use domain::position::Position;
use http_kit::Problem;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path};
use http_kit::headers::Tag;
use http_kit::problem::QueryProblems;
use serde::Serialize;
use utoipa::ToSchema;

use crate::availability::{head_of, local};
use crate::freshness::Seen;
use crate::{QueryState, rules};

/// A slot that is, or was, held.
#[derive(Debug, Serialize, ToSchema)]
pub struct HoldBody {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: HoldId,
    /// Of which provider.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Of which service.
    #[schema(value_type = uuid::Uuid)]
    service_id: ServiceId,
    /// `held`, `used` (it became an appointment), `released` or `expired`.
    #[schema(example = "held")]
    status: &'static str,
    /// When it starts, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    start: Instant,
    /// When it ends, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    end: Instant,
    /// When it starts at the provider's.
    #[schema(example = "2026-12-01T09:00:00-03:00")]
    local_start: String,
    /// The provider's IANA time zone.
    time_zone: &'static str,
    /// When the hold ends, or would have ended, by itself.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    expires_at: Instant,
}

/// A hold of one's own.
#[utoipa::path(
    get, path = "/api/holds/{id}", operation_id = "Hold", tag = "appointments",
    params(("id" = uuid::Uuid, Path, description = "The hold")),
    responses((status = 200, body = HoldBody), QueryProblems), security(("bearer" = []))
)]
pub async fn hold(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Path(id): Path<HoldId>,
    Seen(after): Seen,
) -> Result<Response, Problem> {
    let holder = rules::own(&actor)?;
    let partition = state.log.partitions().partition_of(id.slot());
    let wanted = Position { partition, number: after.number(partition) };
    let at_least = head_of(&state, wanted).await?;
    let loaded = state.log.load_at_least::<Hold>(id, at_least).await;
    let loaded = loaded.map_err(|error| Problem::unavailable(&error))?;
    let Placed { held, ended } = *loaded.state.of(holder)?;
    let Held { provider, holder: _, measure, slot, zone, expires_at, wait: _ } = held;
    let status = match ended {
        Some(Ended::Used) => "used",
        Some(Ended::Released) => "released",
        Some(Ended::Expired) => "expired",
        None if expires_at <= state.log.clock().now() => "expired",
        None => "held",
    };
    let body = HoldBody {
        id,
        provider_id: provider,
        service_id: measure.service,
        status,
        start: slot.start,
        end: slot.end,
        local_start: local(slot.start, zone),
        time_zone: zone.name(),
        expires_at,
    };
    Ok((Tag(loaded.version), Json(body)).into_response())
}
