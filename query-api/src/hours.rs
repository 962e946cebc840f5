//! What a provider's owner sees of their hours: time off with its reasons, and which appointments the hours no longer have.

use std::sync::Arc;

use axum::extract::State;
use domain::aggregate::Version;
use domain::ids::{Id, ProviderId, TimeOffId};
use domain::personal::Personal;
use domain::position::{Position, PositionToken};
use domain::provider::Provider;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path};
use http_kit::headers::Tag;
use http_kit::paging::{List, PageParams, Paging};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};
use serde::Serialize;
use utoipa::ToSchema;

use crate::appointments::AppointmentBody;
use crate::availability::{head_of, local};
use crate::freshness::Seen;
use crate::{QueryState, page_limit, rules, table_problem};

/// A stretch of time off.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimeOffBody {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: TimeOffId,
    /// Its first minute, in the provider's local time.
    #[schema(example = "2026-12-24T12:00")]
    from: String,
    /// Its end, not included.
    #[schema(example = "2027-01-02T00:00")]
    until: String,
    /// Why; nobody else sees it.
    reason: Option<String>,
}

/// A provider's time off, by its beginning: at most 500 stretches, for its owner.
#[utoipa::path(
    get, path = "/api/providers/{id}/time-off", operation_id = "TimeOff", tag = "providers",
    params(("id" = uuid::Uuid, Path, description = "The provider")),
    responses((status = 200, body = List<TimeOffBody>), QueryProblems), security(("bearer" = []))
)]
pub async fn time_off(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Path(id): Path<ProviderId>,
    Seen(after): Seen,
) -> Result<(Tag, Json<List<TimeOffBody>>), Problem> {
    let account = rules::own(&actor)?;
    let (provider, version) = provider_at(&state, id, &after).await?;
    rules::shop(account, provider.open()?)?;
    let mut stretches: Vec<_> = provider.schedule.time_off.iter().collect();
    stretches.sort_by_key(|(id, off)| (off.from, **id));
    let reasons = &provider.time_off_reasons;
    let items = stretches.into_iter().map(|(id, off)| TimeOffBody {
        id: *id,
        from: off.from.to_string(),
        until: off.until.to_string(),
        reason: reasons.get(id).and_then(Personal::known).map(ToString::to_string),
    });
    Ok((Tag(version), Json(List { items: items.collect(), next_cursor: None })))
}

/// A standing appointment that would not be booked like that today.
#[derive(Debug, Serialize, ToSchema)]
pub struct OutOfPlaceBody {
    /// The appointment.
    #[serde(flatten)]
    appointment: AppointmentBody,
    /// `day_off`, `holiday`, `time_off`, `outside_hours`, `outside_service_hours` or `local_time_changed`: the provider moved
    /// to a zone where clocks show another time for it than when it was booked.
    #[schema(example = "time_off")]
    reason: &'static str,
    /// When it starts on the provider's clock as it is now.
    #[schema(example = "2026-12-01T09:00:00-03:00")]
    local_start_now: String,
}

/// One's own shop's appointments to come that its hours, as they are now, do not have; the next first.
///
/// Changing hours touches no appointment. A page may be short, or empty, and still have a `next_cursor`.
#[utoipa::path(
    get, path = "/api/appointments/outside-hours", operation_id = "AppointmentsOutsideHours",
    tag = "appointments", params(PageParams),
    responses((status = 200, body = List<OutOfPlaceBody>), QueryProblems), security(("bearer" = []))
)]
pub async fn outside_hours(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    paging: Paging,
    Seen(after): Seen,
) -> Result<Json<List<OutOfPlaceBody>>, Problem> {
    let account = rules::own(&actor)?;
    let limit = page_limit(paging.limit)?;
    state.tables_after(&after).await?;
    let shop = read_models::providers::of_account(state.log.pool(), account).await;
    let shop = shop.map_err(table_problem)?.ok_or(Kind::NotFound)?;
    let (provider, _) = provider_at(&state, shop.id, &after).await?;
    let (schedule, now) = (&provider.schedule, state.log.clock().now());
    let (pool, cursor) = (state.log.pool(), paging.cursor.as_deref());
    let page =
        read_models::appointments::standing_of_provider(pool, shop.id, now, cursor, limit, |row| {
            schedule.out_of_place(row.service, row.slot, row.zone)
        });
    let page = page.await.map_err(table_problem)?.map(|(row, reason)| OutOfPlaceBody {
        local_start_now: local(row.slot.start, schedule.zone),
        reason: reason.as_str(),
        appointment: row.into(),
    });
    Ok(Json(List { items: page.items, next_cursor: page.next_cursor }))
}

/// A provider as the log has it now, and its version.
async fn provider_at(
    state: &QueryState,
    id: ProviderId,
    after: &PositionToken,
) -> Result<(Arc<Provider>, Version), Problem> {
    let partition = state.log.partitions().partition_of(id.slot());
    let wanted = Position { partition, number: after.number(partition) };
    let at_least = head_of(state, wanted).await?;
    let loaded = state.log.load_at_least::<Provider>(id, at_least).await;
    let loaded = loaded.map_err(|error| Problem::unavailable(&error))?;
    Ok((loaded.state, loaded.version))
}
