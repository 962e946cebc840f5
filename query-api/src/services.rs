//! What providers offer.

use axum::extract::State;
use domain::hours::WeeklyHours;
use domain::ids::{CategoryId, ProviderId, ServiceId};
use domain::text::{CategoryName, Color, Icon, Slug};
use http_kit::auth::{MaybeSignedIn, SignedIn};
use http_kit::extract::{Json, Path};
use http_kit::paging::List;
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem, schema};
use read_models::categories::{self, CategoryRow};
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
    /// What kind of service it is; `null` where it names none that is listed.
    #[schema(value_type = Option<uuid::Uuid>)]
    category_id: Option<CategoryId>,
    /// The category itself.
    category: Option<CategoryBrief>,
    /// Whether it is offered at present: only its provider sees one that is not.
    is_active: bool,
    /// Where it stands in the shop's list.
    sort_order: u16,
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
    /// Windows of its own, besides the provider's; `null` where there are none.
    #[schema(value_type = Option<schema::WeeklyHours>)]
    weekly: Option<Box<WeeklyHours>>,
}

/// A service's category, as far as a list shows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CategoryBrief {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: CategoryId,
    /// Its name.
    #[schema(value_type = String, example = "Cabelo")]
    name: CategoryName,
    /// Its name in URLs.
    #[schema(value_type = String, example = "cabelo")]
    slug: Slug,
    /// Which icon a front end shows.
    #[schema(value_type = Option<String>, example = "scissors")]
    icon: Option<Icon>,
    /// `#rrggbb`.
    #[schema(value_type = Option<String>, example = "#aa33ff")]
    color: Option<Color>,
}

impl From<&CategoryRow> for CategoryBrief {
    fn from(row: &CategoryRow) -> Self {
        let listing = row.listing.clone();
        let (name, slug) = (listing.name, listing.slug);
        Self { id: row.id, name, slug, icon: listing.icon, color: listing.color }
    }
}

impl ServiceBody {
    /// With its category, if that is among the listed ones. `None` once the shop's owner was erased.
    fn of(row: ServiceRow, listed: &[CategoryRow]) -> Option<Self> {
        let ServiceRow {
            provider,
            name,
            description,
            measure,
            weekly,
            price,
            category,
            is_active,
            sort_order,
            removed: _,
            stamp: _,
        } = row;
        let category = listed.iter().find(|row| Some(row.id) == category);
        Some(Self {
            id: measure.service,
            provider_id: provider,
            name: name?.into(),
            description: description.map(Into::into),
            category_id: category.map(|row| row.id),
            category: category.map(CategoryBrief::from),
            is_active,
            sort_order,
            duration_minutes: measure.duration_minutes,
            interval_minutes: measure.interval_minutes,
            price,
            buffer_before_minutes: measure.buffer_before_minutes,
            buffer_after_minutes: measure.buffer_after_minutes,
            capacity: measure.capacity,
            weekly,
        })
    }
}

/// Rows with their categories. One that is gone, or not listed at present, is none.
async fn with_categories(
    state: &QueryState,
    rows: Vec<ServiceRow>,
) -> Result<Vec<ServiceBody>, Problem> {
    let mut named: Vec<CategoryId> = rows.iter().filter_map(|row| row.category).collect();
    named.sort_unstable();
    named.dedup();
    let listed = categories::listed_of(state.log.pool(), &named).await.map_err(table_problem)?;
    Ok(rows.into_iter().filter_map(|row| ServiceBody::of(row, &listed)).collect())
}

/// What a provider offers, in its order: at most 200 services, in one page (`S3-35`).
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
    of_provider(&state, provider, false).await.map(Json)
}

/// One service: where the `Location` of a new one leads.
#[utoipa::path(
    get, path = "/api/services/{id}", operation_id = "Service", tag = "services",
    params(("id" = uuid::Uuid, Path, description = "The service")),
    responses((status = 200, body = ServiceBody), QueryProblems)
)]
pub async fn service(
    State(state): State<QueryState>,
    signed_in: Result<MaybeSignedIn, Problem>,
    Path(id): Path<ServiceId>,
    Seen(after): Seen,
) -> Result<Json<ServiceBody>, Problem> {
    state.tables_after(&after).await?;
    let row = read_models::services::by_id(state.log.pool(), id).await.map_err(table_problem)?;
    let row = row.ok_or(Kind::NotFound)?;
    if !row.is_active {
        let shop = read_models::providers::by_id(state.log.pool(), row.provider).await;
        let shop = shop.map_err(table_problem)?.ok_or(Kind::NotFound)?;
        rules::inactive_service(&rules::whoever(signed_in), &shop)?;
    }
    let service = with_categories(&state, vec![row]).await?.pop();
    Ok(Json(service.ok_or(Kind::NotFound)?))
}

/// What the signed-in account's own shop offers, and what it does not offer at present (`S3-39`).
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
    of_provider(&state, shop.id, true).await.map(Json)
}

/// A provider's services; those that are not offered at present, too, for itself.
pub(crate) async fn of_provider(
    state: &QueryState,
    provider: ProviderId,
    inactive_too: bool,
) -> Result<List<ServiceBody>, Problem> {
    let rows = read_models::services::of_provider(state.log.pool(), provider, inactive_too).await;
    let items = with_categories(state, rows.map_err(table_problem)?).await?;
    Ok(List { items, next_cursor: None })
}
