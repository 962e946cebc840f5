//! A series: what was asked for, and the appointments that came of it.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::Instant;
use domain::ids::{AccountId, ProviderId, SeriesId, ServiceId};
use domain::recurrence::Recurrence;
use domain::series::{Mode, Placed, Series};
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path};
use http_kit::headers::Tag;
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};
use serde::Serialize;
use utoipa::ToSchema;

use crate::appointments::{AppointmentBody, seen_by};
use crate::as_of::log_problem;
use crate::freshness::Seen;
use crate::{QueryState, rules, table_problem};

/// A series, as its parties see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct SeriesBody {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: SeriesId,
    /// With whom.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Who booked.
    #[schema(value_type = Option<uuid::Uuid>)]
    client_id: Option<AccountId>,
    /// What was booked.
    #[schema(value_type = uuid::Uuid)]
    service_id: ServiceId,
    /// The first occurrence of its rule, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    start: Instant,
    /// The rule, in the provider's local days.
    #[schema(value_type = String, example = "FREQ=WEEKLY;COUNT=10")]
    rrule: Recurrence,
    /// The zone these days were counted in.
    #[schema(example = "America/Sao_Paulo")]
    time_zone: &'static str,
    /// `all-or-nothing` or `best-effort`.
    #[schema(value_type = String, example = "best-effort")]
    mode: Mode,
    /// Its appointments as they stand, by number; at most 60.
    appointments: Vec<AppointmentBody>,
}

/// One series, for its client and its provider.
#[utoipa::path(
    get, path = "/api/series/{id}", operation_id = "Series", tag = "appointments",
    params(("id" = uuid::Uuid, Path, description = "The series")),
    responses((status = 200, body = SeriesBody), QueryProblems), security(("bearer" = []))
)]
pub async fn series(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Path(id): Path<SeriesId>,
    Seen(after): Seen,
) -> Result<Response, Problem> {
    let stored = state.log.load::<Series>(id).await.map_err(log_problem)?;
    let placed = stored.state.placed.as_ref().ok_or(Kind::NotFound)?;
    let reader = rules::series(&actor, placed)?;
    state.tables_after(&after).await?;
    let rows = read_models::appointments::of_series(state.log.pool(), id).await;
    let appointments = seen_by(&state, reader, rows.map_err(table_problem)?).await?;
    let Placed { parties, service, start, rule, zone, mode, status: _, booked: _ } = placed.clone();
    let body = SeriesBody {
        id,
        provider_id: parties.provider,
        client_id: parties.client.account(),
        service_id: service,
        start,
        rrule: rule,
        time_zone: zone.name(),
        mode,
        appointments,
    };
    Ok((Tag(stored.version), Json(body)).into_response())
}
