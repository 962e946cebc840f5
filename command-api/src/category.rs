//! Categories of services, which administrators list (`S3-48` to `S3-50`).

use axum::extract::State;
use axum::response::IntoResponse;
use domain::category::{AddCategory, Category, ChangeCategory, Listing, RemoveCategory};
use domain::ids::CategoryId;
use domain::text::{CategoryName, Color, Description, Icon, Slug};
use http::StatusCode;
use http::header::LOCATION;
use http_kit::Problem;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path, Submission};
use http_kit::problem::CommandProblems;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::CommandState;

pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new().routes(routes!(add)).routes(routes!(change, remove))
}

/// A category: all of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CategoryListing, example = json!({
    "name": "Cabelo", "slug": "cabelo", "icon": "scissors", "color": "#aa33ff", "sort_order": 1,
}))]
struct Fields {
    #[schema(value_type = String, min_length = 1, max_length = 100)]
    name: CategoryName,
    /// Its name in URLs: `a-z`, `0-9` and single hyphens.
    #[schema(value_type = String, min_length = 3, max_length = 100)]
    slug: Slug,
    #[schema(value_type = Option<String>, max_length = 4000)]
    description: Option<Description>,
    /// Which icon a front end shows.
    #[schema(value_type = Option<String>, max_length = 50)]
    icon: Option<Icon>,
    /// `#rrggbb`.
    #[schema(value_type = Option<String>, pattern = "^#[0-9a-fA-F]{6}$")]
    color: Option<Color>,
    /// Whether it is listed, and services may name it.
    #[serde(default = "yes")]
    #[schema(default = true)]
    is_active: bool,
    /// Where it stands in the list: by this number, then by name.
    #[serde(default)]
    #[schema(default = 0)]
    sort_order: i32,
}

const fn yes() -> bool {
    true
}

impl From<Fields> for Listing {
    fn from(fields: Fields) -> Self {
        let Fields { name, slug, description, icon, color, is_active, sort_order } = fields;
        Self { name, slug, description, icon, color, is_active, sort_order }
    }
}

/// A category is as it was asked to be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CategoryStands)]
struct Stands {
    #[schema(value_type = String, format = Uuid)]
    id: CategoryId,
}

/// Add a category: administrators alone.
#[utoipa::path(
    post, path = "/api/categories", operation_id = "AddCategory", tag = "categories",
    security(("bearer" = [])),
    request_body = Fields,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 201, body = Stands), CommandProblems),
)]
async fn add(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(body), sent }: Submission<Json<Fields>>,
) -> Result<impl IntoResponse, Problem> {
    let (outcome, receipt) = api.execute(actor, sent, AddCategory { listing: body.into() }).await?;
    let id = outcome.category;
    let location = [(LOCATION, format!("/api/categories/{id}"))];
    Ok((StatusCode::CREATED, receipt.of::<Category>(id), location, Json(Stands { id })))
}

/// Change a category: administrators alone.
#[utoipa::path(
    put, path = "/api/categories/{id}", operation_id = "ChangeCategory", tag = "categories",
    security(("bearer" = [])),
    request_body = Fields,
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Stands), CommandProblems),
)]
async fn change(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(category): Path<CategoryId>,
    Submission { body: Json(body), sent }: Submission<Json<Fields>>,
) -> Result<impl IntoResponse, Problem> {
    let command = ChangeCategory { category, listing: body.into() };
    let (outcome, receipt) = api.execute(actor, sent, command).await?;
    Ok((receipt.of::<Category>(category), Json(Stands { id: outcome.category })))
}

/// Remove a category: administrators alone.
///
/// Services that name it are from then on in none.
#[utoipa::path(
    delete, path = "/api/categories/{id}", operation_id = "RemoveCategory", tag = "categories",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 204), CommandProblems),
)]
async fn remove(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(category): Path<CategoryId>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let (_, receipt) = api.execute(actor, sent, RemoveCategory { category }).await?;
    Ok((StatusCode::NO_CONTENT, receipt.of::<Category>(category), ()))
}
