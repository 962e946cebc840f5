//! What a shop offers: services that can be booked.

use axum::extract::State;
use axum::response::IntoResponse;
use domain::hours::{InvalidHours, WeeklyHours};
use domain::ids::{CategoryId, ProviderId, ServiceId};
use domain::money::Money;
use domain::provider::{
    AddService, ChangeService, Offer, Provider, RemoveService, ReorderServices,
};
use domain::text::{Description, ServiceName};
use http::StatusCode;
use http::header::LOCATION;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path, Submission};
use http_kit::problem::CommandProblems;
use http_kit::{Problem, schema};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::CommandState;
use crate::provider::change_own;

pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new()
        .routes(routes!(add))
        .routes(routes!(change, remove))
        .routes(routes!(reorder))
}

/// A service.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ServiceOffer, example = json!({
    "name": "Corte", "duration_minutes": 45, "interval_minutes": 15,
    "price": {"amount_minor": 8000, "currency": "BRL"}, "buffer_after_minutes": 10,
}))]
pub(crate) struct Fields {
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    name: ServiceName,
    #[schema(value_type = Option<String>, max_length = 4000)]
    description: Option<Description>,
    /// What kind of service it is: a category that is listed.
    #[schema(value_type = Option<String>, format = Uuid)]
    category_id: Option<CategoryId>,
    /// Whether it is offered at present: listed, and to be booked.
    #[serde(default = "yes")]
    #[schema(default = true)]
    is_active: bool,
    #[schema(minimum = 5, maximum = 1440)]
    duration_minutes: u16,
    /// Minutes between two starts; the duration unless given.
    #[schema(minimum = 5, maximum = 1440)]
    interval_minutes: Option<u16>,
    /// Left out, the shop's hourly rate applies.
    #[schema(value_type = Option<schema::Money>)]
    price: Option<Money>,
    /// Minutes kept free before.
    #[serde(default)]
    #[schema(maximum = 240)]
    buffer_before_minutes: u16,
    /// Minutes kept free after.
    #[serde(default)]
    #[schema(maximum = 240)]
    buffer_after_minutes: u16,
    /// How many can book the same slot.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 500, default = 1)]
    capacity: u16,
    /// Windows of its own: its slots lie in these as well as in the shop's. Left out, the shop's alone count.
    #[schema(value_type = Option<schema::WeeklyHours>)]
    weekly: Option<Box<WeeklyHours>>,
}

const fn one() -> u16 {
    1
}

const fn yes() -> bool {
    true
}

impl TryFrom<Fields> for ServiceBody {
    type Error = InvalidHours;
    fn try_from(fields: Fields) -> Result<Self, InvalidHours> {
        let Fields {
            name,
            description,
            category_id,
            is_active,
            duration_minutes,
            interval_minutes,
            price,
            buffer_before_minutes,
            buffer_after_minutes,
            capacity,
            weekly,
        } = fields;
        let offer = Offer {
            name,
            description,
            category: category_id,
            is_active,
            duration_minutes,
            interval_minutes: interval_minutes.unwrap_or(duration_minutes),
            price,
            buffer_before_minutes,
            buffer_after_minutes,
            capacity,
            weekly,
        };
        offer.checked().map(Self)
    }
}

/// A service as a body: parsed, and in bounds.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Fields")]
pub(crate) struct ServiceBody(Offer);

impl ServiceBody {
    pub(crate) fn into_offer(self) -> Offer {
        self.0
    }
}

/// A service of a shop.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServiceStands)]
struct ServiceStands {
    #[schema(value_type = String, format = Uuid)]
    id: ServiceId,
    #[schema(value_type = String, format = Uuid)]
    provider_id: ProviderId,
}

/// Offer a service in one's own shop.
#[utoipa::path(
    post, path = "/api/services", operation_id = "AddService", tag = "services",
    security(("bearer" = [])),
    request_body = Fields,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 201, body = ServiceStands), CommandProblems),
)]
async fn add(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(body), sent }: Submission<Json<ServiceBody>>,
) -> Result<impl IntoResponse, Problem> {
    let command = AddService { offer: body.into_offer() };
    let (outcome, receipt) = change_own(&api, actor, sent, command).await?;
    let id = outcome.service.expect("adding a service names it");
    let location = [(LOCATION, format!("/api/services/{id}"))];
    let answer = ServiceStands { id, provider_id: outcome.provider };
    Ok((StatusCode::CREATED, receipt, location, Json(answer)))
}

/// Change a service of one's own shop.
///
/// Standing appointments keep what they were booked with.
#[utoipa::path(
    put, path = "/api/services/{id}", operation_id = "ChangeService", tag = "services",
    security(("bearer" = [])),
    request_body = Fields,
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = ServiceStands), CommandProblems),
)]
async fn change(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(service): Path<ServiceId>,
    Submission { body: Json(body), sent }: Submission<Json<ServiceBody>>,
) -> Result<impl IntoResponse, Problem> {
    let command = ChangeService { service, offer: body.into_offer() };
    let (outcome, receipt) = change_own(&api, actor, sent, command).await?;
    Ok((receipt, Json(ServiceStands { id: service, provider_id: outcome.provider })))
}

/// Offer a service of one's own shop no longer.
#[utoipa::path(
    delete, path = "/api/services/{id}", operation_id = "RemoveService", tag = "services",
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
    Path(service): Path<ServiceId>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let (_, receipt) = change_own(&api, actor, sent, RemoveService { service }).await?;
    Ok((StatusCode::NO_CONTENT, receipt, ()))
}

/// An order of services.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ServiceOrder)]
struct Order {
    /// All of the shop's services, those that are not active too, each once.
    #[schema(value_type = Vec<String>, max_items = 200)]
    services: Vec<ServiceId>,
}

/// The services stand in this order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServicesReordered)]
struct Reordered {
    #[schema(value_type = String, format = Uuid)]
    provider_id: ProviderId,
}

/// List the services of one's own shop in another order (`S3-40`).
#[utoipa::path(
    post, path = "/api/services/reorder", operation_id = "ReorderServices", tag = "services",
    security(("bearer" = [])),
    request_body = Order,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Reordered), CommandProblems),
)]
async fn reorder(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(Order { services }), sent }: Submission<Json<Order>>,
) -> Result<impl IntoResponse, Problem> {
    if services.len() > Provider::MAX_SERVICES {
        return Err(domain::Refusal::NotEveryService.into());
    }
    let command = ReorderServices { order: services };
    let (outcome, receipt) = change_own(&api, actor, sent, command).await?;
    Ok((receipt, Json(Reordered { provider_id: outcome.provider })))
}
