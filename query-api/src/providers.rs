//! Providers: the list, one by its slug, one's own.

use axum::extract::State;
use domain::Instant;
use domain::ids::ProviderId;
use domain::text::Slug;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path};
use http_kit::headers::Tag;
use http_kit::paging::{List, PageParams, Paging};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem, schema};
use read_models::providers::ProviderRow;
use serde::Serialize;
use utoipa::ToSchema;

use crate::freshness::Seen;
use crate::services::ServiceBody;
use crate::{QueryState, page_limit, rules, services, table_problem};

/// A provider, as everybody sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderBody {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: ProviderId,
    /// Its name in URLs.
    #[schema(value_type = String, example = "salao-da-ana")]
    slug: Slug,
    /// Its name; `null` once its owner was erased.
    #[schema(example = "Salão da Ana")]
    business_name: Option<String>,
    /// Its IANA time zone.
    #[schema(example = "America/Sao_Paulo")]
    time_zone: &'static str,
    /// What an hour costs where a service has no price of its own.
    #[schema(value_type = Option<schema::Money>)]
    hourly_rate: Option<domain::money::Money>,
    /// When it opened.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Instant,
}

impl ProviderBody {
    /// `None` once its owner was erased.
    fn of(row: ProviderRow) -> Option<Self> {
        Some(Self {
            id: row.id,
            slug: row.slug?,
            business_name: row.business_name.map(Into::into),
            time_zone: row.zone.name(),
            hourly_rate: row.hourly_rate,
            created_at: row.stamp.created_at,
        })
    }
}

/// A provider's page: itself and what it offers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderPage {
    /// The provider.
    #[serde(flatten)]
    provider: ProviderBody,
    /// What it offers.
    services: Vec<ServiceBody>,
}

/// All providers, by name (`S0-20`). The first page is cached (`S0-24`).
#[utoipa::path(
    get, path = "/api/providers", operation_id = "ListProviders", tag = "providers",
    params(PageParams),
    responses((status = 200, body = List<ProviderBody>), QueryProblems)
)]
pub async fn list_providers(
    State(state): State<QueryState>,
    paging: Paging,
    Seen(after): Seen,
) -> Result<Json<List<ProviderBody>>, Problem> {
    let limit = page_limit(paging.limit)?;
    let page = match &paging.cursor {
        None => state.first_providers(limit, &after).await?,
        Some(cursor) => {
            state.tables_after(&after).await?;
            let page = read_models::providers::list(state.log.pool(), Some(cursor), limit).await;
            page.map_err(table_problem)?
        }
    };
    let items = page.items.into_iter().filter_map(ProviderBody::of).collect();
    Ok(Json(List { items, next_cursor: page.next_cursor }))
}

/// A provider by its slug, with what it offers (`S3-30`).
#[utoipa::path(
    get, path = "/api/providers/{slug}", operation_id = "ProviderBySlug", tag = "providers",
    params(("slug" = String, Path, description = "The provider's name in URLs", example = "salao-da-ana")),
    responses((status = 200, body = ProviderPage), QueryProblems)
)]
pub async fn provider_by_slug(
    State(state): State<QueryState>,
    Path(slug): Path<String>,
    Seen(after): Seen,
) -> Result<Json<ProviderPage>, Problem> {
    // What cannot be a slug is nobody's.
    let slug: Slug = slug.parse().map_err(|_| Kind::NotFound)?;
    state.tables_after(&after).await?;
    let row = read_models::providers::by_slug(state.log.pool(), &slug).await;
    page_of(&state, row.map_err(table_problem)?.ok_or(Kind::NotFound)?).await
}

/// The signed-in account's own shop (`S3-31`).
#[utoipa::path(
    get, path = "/api/providers/profile", operation_id = "OwnProviderProfile", tag = "providers",
    responses((status = 200, body = ProviderPage), QueryProblems), security(("bearer" = []))
)]
pub async fn own_profile(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Seen(after): Seen,
) -> Result<(Tag, Json<ProviderPage>), Problem> {
    let account = rules::own(&actor)?;
    state.tables_after(&after).await?;
    let row = read_models::providers::of_account(state.log.pool(), account).await;
    let row = row.map_err(table_problem)?.ok_or(Kind::NotFound)?;
    // The services are of the same stream: their change is the shop's.
    let tag = Tag(row.stamp.version);
    Ok((tag, page_of(&state, row).await?))
}

pub(crate) async fn page_of(
    state: &QueryState,
    row: ProviderRow,
) -> Result<Json<ProviderPage>, Problem> {
    let services = services::of_provider(state, row.id).await?.items;
    let provider = ProviderBody::of(row).ok_or(Kind::NotFound)?;
    Ok(Json(ProviderPage { provider, services }))
}
