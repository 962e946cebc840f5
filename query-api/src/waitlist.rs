//! Waitlists: one's own places in line, and how long a provider's line is.

use axum::extract::State;
use domain::Instant;
use domain::ids::{HoldId, ProviderId, ServiceId, WaitId};
use domain::waitlist::Offer;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path, Query};
use http_kit::paging::{List, Paging};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};
use read_models::waits::{self, Placed, WaitStatus};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::freshness::Seen;
use crate::{QueryState, page_limit, rules, table_problem};

/// A place in line, as whoever has it sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct WaitBody {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: WaitId,
    /// At which provider.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// For which service.
    #[schema(value_type = uuid::Uuid)]
    service_id: ServiceId,
    /// From when on, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    from: Instant,
    /// Until when, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    to: Instant,
    /// `waiting`, `offered`, or how it ended: `taken`, `declined`, `lapsed`, `left`, `passed` or `gone`.
    #[schema(value_type = String, example = "waiting")]
    status: WaitStatus,
    /// How many wait for some of the same, up to this one; `null` once it has ended.
    place: Option<u64>,
    /// What is, or was, offered.
    offer: Option<OfferBody>,
    /// Since when.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Instant,
}

impl WaitBody {
    /// As it is at an instant.
    pub(crate) fn of(Placed { row, place }: Placed, now: Instant) -> Self {
        Self {
            id: row.wait.id,
            provider_id: row.provider,
            service_id: row.wait.service,
            from: row.wait.from,
            to: row.wait.to,
            status: row.status_at(now),
            place,
            offer: row.offer.map(Into::into),
            created_at: row.stamp.created_at,
        }
    }
}

/// A slot that is offered: it is taken by booking it with this hold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WaitlistOffer)]
pub struct OfferBody {
    /// The hold that keeps it.
    #[schema(value_type = uuid::Uuid)]
    hold_id: HoldId,
    /// When it starts, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    start: Instant,
    /// When it ends, in UTC.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    end: Instant,
    /// Until when it is offered.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    expires_at: Instant,
}

impl From<Offer> for OfferBody {
    fn from(Offer { hold, slot, expires_at }: Offer) -> Self {
        Self { hold_id: hold, start: slot.start, end: slot.end, expires_at }
    }
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageParams {
    /// How many items, 1 to 100; 20 unless given.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// One's own places in line, those that ended too, the latest first.
#[utoipa::path(
    get, path = "/api/waitlist", operation_id = "OwnWaits", tag = "appointments",
    params(PageParams),
    responses((status = 200, body = List<WaitBody>), QueryProblems), security(("bearer" = []))
)]
pub async fn own_waits(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Query(params): Query<PageParams>,
    Seen(after): Seen,
) -> Result<Json<List<WaitBody>>, Problem> {
    let account = rules::own(&actor)?;
    let paging = Paging::new(params.limit, params.cursor)?;
    state.tables_after(&after).await?;
    let (now, limit) = (state.log.clock().now(), page_limit(paging.limit)?);
    let cursor = paging.cursor.as_deref();
    let page = waits::of_account(state.log.pool(), account, now, cursor, limit).await;
    let page = page.map_err(table_problem)?;
    let items = page.items.into_iter().map(|placed| WaitBody::of(placed, now)).collect();
    Ok(Json(List { items, next_cursor: page.next_cursor }))
}

/// How many wait for a service.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LineLength)]
pub struct LengthBody {
    /// For which.
    #[schema(value_type = uuid::Uuid)]
    service_id: ServiceId,
    /// How many.
    waiting: u64,
}

/// How many wait at a provider, by service; for the provider, who is not told who they are.
#[utoipa::path(
    get, path = "/api/waitlist/provider/{id}", operation_id = "WaitlistLength", tag = "appointments",
    params(("id" = uuid::Uuid, Path, description = "The provider")),
    responses((status = 200, body = List<LengthBody>), QueryProblems), security(("bearer" = []))
)]
pub async fn length(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Path(id): Path<ProviderId>,
    Seen(after): Seen,
) -> Result<Json<List<LengthBody>>, Problem> {
    state.tables_after(&after).await?;
    let provider = read_models::providers::by_id(state.log.pool(), id).await;
    let provider = provider.map_err(table_problem)?.ok_or(Kind::NotFound)?;
    rules::provider_day(&actor, provider.account)?;
    let lengths = waits::lengths(state.log.pool(), id, state.log.clock().now()).await;
    let lengths = lengths.map_err(table_problem)?.into_iter();
    let items = lengths.map(|(service_id, waiting)| LengthBody { service_id, waiting }).collect();
    Ok(Json(List { items, next_cursor: None }))
}
