//! What kinds of services there are (`S3-47`).

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::Instant;
use domain::category::Listing;
use domain::ids::CategoryId;
use domain::text::{CategoryName, Color, Description, Icon, Slug};
use http_kit::auth::MaybeSignedIn;
use http_kit::extract::{Json, Path, Query, Rendered};
use http_kit::headers::Tag;
use http_kit::paging::{LIMIT_MAX, List, Paging};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};
use read_models::categories::{self, CategoryRow};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::catalogue::Question;
use crate::freshness::Seen;
use crate::{QueryState, page_limit, rules, table_problem};

/// Which categories.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct CategoriesParams {
    /// Those that are not active, too: administrators alone.
    #[serde(default)]
    #[param(default = false)]
    inactive: bool,
    /// How many items, 1 to 100; 100 unless given.
    #[param(minimum = 1, maximum = 100, default = 100)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A category.
#[derive(Debug, Serialize, ToSchema)]
pub struct CategoryBody {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: CategoryId,
    /// Its name.
    #[schema(value_type = String, example = "Cabelo")]
    name: CategoryName,
    /// Its name in URLs.
    #[schema(value_type = String, example = "cabelo")]
    slug: Slug,
    /// More about it.
    #[schema(value_type = Option<String>)]
    description: Option<Description>,
    /// Which icon a front end shows.
    #[schema(value_type = Option<String>, example = "scissors")]
    icon: Option<Icon>,
    /// `#rrggbb`.
    #[schema(value_type = Option<String>, example = "#aa33ff")]
    color: Option<Color>,
    /// Whether it is listed.
    is_active: bool,
    /// Where it stands in the list.
    sort_order: i32,
    /// When it was added.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Instant,
}

impl From<CategoryRow> for CategoryBody {
    fn from(row: CategoryRow) -> Self {
        let CategoryRow { id, listing, removed: _, stamp } = row;
        let Listing { name, slug, description, icon, color, is_active, sort_order } = listing;
        let created_at = stamp.created_at;
        Self { id, name, slug, description, icon, color, is_active, sort_order, created_at }
    }
}

/// The categories, by `sort_order` and name (`S3-47`). Cached.
#[utoipa::path(
    get, path = "/api/categories", operation_id = "ListCategories", tag = "categories",
    params(CategoriesParams),
    responses((status = 200, body = List<CategoryBody>), QueryProblems)
)]
pub async fn list_categories(
    State(state): State<QueryState>,
    signed_in: Result<MaybeSignedIn, Problem>,
    Query(CategoriesParams { inactive, limit, cursor }): Query<CategoriesParams>,
    Seen(after): Seen,
) -> Result<Response, Problem> {
    let paging = Paging::new(limit.or(Some(LIMIT_MAX)), cursor)?;
    if inactive {
        rules::inactive_categories(&rules::whoever(signed_in))?;
        state.tables_after(&after).await?;
        return Ok(page(&state, true, &paging).await?.into_response());
    }
    let question = Question::Categories(paging.cursor.clone(), paging.limit);
    let answer = state.of_catalogue(question, &after, || page(&state, false, &paging)).await?;
    Ok(answer.into_response())
}

async fn page(
    state: &QueryState,
    inactive_too: bool,
    paging: &Paging,
) -> Result<Rendered, Problem> {
    let (cursor, limit) = (paging.cursor.as_deref(), page_limit(paging.limit)?);
    let page = categories::list(state.log.pool(), inactive_too, cursor, limit).await;
    let page = page.map_err(table_problem)?.map(CategoryBody::from);
    Rendered::of(&List { items: page.items, next_cursor: page.next_cursor })
}

/// One category; one that is not active is shown to administrators alone.
#[utoipa::path(
    get, path = "/api/categories/{id}", operation_id = "Category", tag = "categories",
    params(("id" = uuid::Uuid, Path, description = "The category")),
    responses((status = 200, body = CategoryBody), QueryProblems)
)]
pub async fn category(
    State(state): State<QueryState>,
    signed_in: Result<MaybeSignedIn, Problem>,
    Path(id): Path<CategoryId>,
    Seen(after): Seen,
) -> Result<(Tag, Json<CategoryBody>), Problem> {
    state.tables_after(&after).await?;
    let row = categories::by_id(state.log.pool(), id).await.map_err(table_problem)?;
    let row = row.ok_or(Kind::NotFound)?;
    if !row.listing.is_active {
        rules::inactive_categories(&rules::whoever(signed_in)).map_err(|_| Kind::NotFound)?;
    }
    Ok((Tag(row.stamp.version), Json(row.into())))
}
