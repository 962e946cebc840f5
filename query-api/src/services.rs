//! What providers offer.

use axum::extract::State;
use domain::ids::{ProviderId, ServiceId};
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path};
use http_kit::paging::List;
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem, schema};
use read_models::services::ServiceRow;
use serde::Serialize;
use utoipa::ToSchema;

use crate::freshness::Seen;
use crate::{QueryState, rules, table_problem};

/// A service one can book.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceBody {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: ServiceId,
    /// Whose it is.
    #[schema(value_type = uuid::Uuid)]
    provider_id: ProviderId,
    /// Its name.
    #[schema(example = "Corte de cabelo")]
    name: String,
    /// More about it.
    description: Option<String>,
    /// Elapsed minutes.
    #[schema(example = 60)]
    duration_minutes: u16,
    /// Minutes between two starts.
    interval_minutes: u16,
    /// Its own price; `null` takes the provider's hourly rate.
    #[schema(value_type = Option<schema::Money>)]
    price: Option<domain::money::Money>,
    /// Minutes kept free before.
    buffer_before_minutes: u16,
    /// Minutes kept free after.
    buffer_after_minutes: u16,
    /// How many can book the same slot.
    capacity: u16,
}

impl ServiceBody {
    /// `None` once the shop's owner was erased.
    fn of(row: ServiceRow) -> Option<Self> {
        let ServiceRow { provider, name, description, measure, price, removed: _, stamp: _ } = row;
        Some(Self {
            id: measure.service,
            provider_id: provider,
            name: name?.into(),
            description: description.map(Into::into),
            duration_minutes: measure.duration_minutes,
            interval_minutes: measure.interval_minutes,
            price,
            buffer_before_minutes: measure.buffer_before_minutes,
            buffer_after_minutes: measure.buffer_after_minutes,
            capacity: measure.capacity,
        })
    }
}

/// What a provider offers: at most 200 services, in one page (`S3-35`).
#[utoipa::path(
    get, path = "/api/services/provider/{id}", operation_id = "ProviderServices", tag = "services",
    params(("id" = uuid::Uuid, Path, description = "The provider")),
    responses((status = 200, body = List<ServiceBody>), QueryProblems)
)]
pub async fn provider_services(
    State(state): State<QueryState>,
    Path(provider): Path<ProviderId>,
    Seen(after): Seen,
) -> Result<Json<List<ServiceBody>>, Problem> {
    state.tables_after(&after).await?;
    let known = read_models::providers::by_id(state.log.pool(), provider).await;
    known.map_err(table_problem)?.ok_or(Kind::NotFound)?;
    of_provider(&state, provider).await.map(Json)
}

/// One service: where the `Location` of a new one leads.
#[utoipa::path(
    get, path = "/api/services/{id}", operation_id = "Service", tag = "services",
    params(("id" = uuid::Uuid, Path, description = "The service")),
    responses((status = 200, body = ServiceBody), QueryProblems)
)]
pub async fn service(
    State(state): State<QueryState>,
    Path(id): Path<ServiceId>,
    Seen(after): Seen,
) -> Result<Json<ServiceBody>, Problem> {
    state.tables_after(&after).await?;
    let row = read_models::services::by_id(state.log.pool(), id).await.map_err(table_problem)?;
    Ok(Json(row.and_then(ServiceBody::of).ok_or(Kind::NotFound)?))
}

/// What the signed-in account's own shop offers (`S3-39`).
#[utoipa::path(
    get, path = "/api/services/my-services", operation_id = "OwnServices", tag = "services",
    responses((status = 200, body = List<ServiceBody>), QueryProblems), security(("bearer" = []))
)]
pub async fn own_services(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Seen(after): Seen,
) -> Result<Json<List<ServiceBody>>, Problem> {
    let account = rules::own(&actor)?;
    state.tables_after(&after).await?;
    let shop = read_models::providers::of_account(state.log.pool(), account).await;
    let shop = shop.map_err(table_problem)?.ok_or(Kind::NotFound)?;
    of_provider(&state, shop.id).await.map(Json)
}

/// A provider's services.
pub(crate) async fn of_provider(
    state: &QueryState,
    provider: ProviderId,
) -> Result<List<ServiceBody>, Problem> {
    let rows = read_models::services::of_provider(state.log.pool(), provider).await;
    let items = rows.map_err(table_problem)?.into_iter().filter_map(ServiceBody::of).collect();
    Ok(List { items, next_cursor: None })
}
