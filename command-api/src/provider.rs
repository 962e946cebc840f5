//! Opening a shop, what its owner sets (profile, slug, hours, overrides, policy), and how an administrator sees it.
//!
//! One account has at most one shop, so the routes need no id: the shop is found by the account's claim.

use axum::extract::State;
use axum::response::IntoResponse;
use domain::hours::{Policy, WeeklyHours, Windows, Zone};
use domain::ids::{ProviderId, ServiceId};
use domain::money::HourlyRate;
use domain::provider::{
    ChangeProvider, ChangeProviderProfile, ChangeSlug, Details, OpenProvider, OverrideDay,
    OwnersChange, Point, Provider, RemoveOverride, SetPolicy, SetProviderStanding, SetWeeklyHours,
    Specializations, Standing,
};
use domain::text::{
    Address, BusinessName, City, Description, Facebook, Instagram, NewSlug, Phone, Plan,
    PostalCode, Slug, State as StateName, Website,
};
use http::StatusCode;
use http::header::LOCATION;
use http_kit::auth::SignedIn;
use http_kit::extract::{Date, Json, Path, Sent, Submission};
use http_kit::problem::CommandProblems;
use http_kit::{Problem, schema};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::service::ServiceBody;
use crate::{CommandState, Receipt};

pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new()
        .routes(routes!(open))
        .routes(routes!(change_profile))
        .routes(routes!(change_slug))
        .routes(routes!(set_standing))
        .routes(routes!(set_hours))
        .routes(routes!(override_day, remove_override))
        .routes(routes!(set_policy))
}

/// A shop to open. Only a name and a slug are needed: the rest starts as one 60-minute service, every day
/// 08:00–18:00.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProviderOpening, example = json!({
    "business_name": "Salão da Ana", "slug": "salao-da-ana", "time_zone": "America/Sao_Paulo",
}))]
struct Opening {
    #[schema(value_type = String, min_length = 2, max_length = 255)]
    business_name: BusinessName,
    /// The name of its page: `a-z`, `0-9` and single hyphens.
    #[schema(value_type = String, min_length = 3, max_length = 100)]
    slug: NewSlug,
    /// IANA; America/Sao_Paulo unless given.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "America/Sao_Paulo")]
    time_zone: Zone,
    /// What an hour costs where a service has no price of its own.
    #[schema(value_type = Option<schema::Money>)]
    hourly_rate: Option<HourlyRate>,
    #[schema(value_type = Option<schema::WeeklyHours>)]
    weekly: Option<WeeklyHours>,
    #[schema(value_type = Option<schema::Policy>)]
    policy: Option<Policy>,
    /// The first service.
    #[schema(value_type = Option<crate::service::Fields>)]
    service: Option<ServiceBody>,
}

/// An open shop.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderOpened)]
struct Opened {
    #[schema(value_type = String, format = Uuid)]
    id: ProviderId,
    #[schema(value_type = String, example = "salao-da-ana")]
    slug: Slug,
    /// Its first service.
    #[schema(value_type = String, format = Uuid)]
    service_id: ServiceId,
}

/// Open a shop for one's own account.
#[utoipa::path(
    post, path = "/api/providers", operation_id = "OpenProvider", tag = "providers",
    security(("bearer" = [])),
    request_body = Opening,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses(
        (status = 201, body = Opened, headers(
            ("Location" = String, description = "The shop's page"),
            ("Pontual-Position" = String, description = "Send it as Pontual-After to read this write"),
            ("ETag" = String, description = "The shop's version"),
        )),
        CommandProblems,
    ),
)]
async fn open(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(body), sent }: Submission<Json<Opening>>,
) -> Result<impl IntoResponse, Problem> {
    let Opening { business_name, slug, time_zone, hourly_rate, weekly, policy, service } = body;
    let command = OpenProvider {
        business_name,
        slug: slug.clone(),
        zone: time_zone,
        hourly_rate,
        weekly,
        policy,
        service: service.map(ServiceBody::into_offer),
    };
    let (outcome, receipt) = api.execute(actor, sent, command).await?;
    // Stored answers hold no names. A repeated one answers the same request, so the name is the same.
    let location = [(LOCATION, format!("/api/providers/{slug}"))];
    let receipt = receipt.of::<Provider>(outcome.provider);
    let slug = slug.into();
    let answer = Opened { id: outcome.provider, slug, service_id: outcome.service };
    Ok((StatusCode::CREATED, receipt, location, Json(answer)))
}

/// The shop is as it was asked to be.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProviderChanged)]
struct Changed {
    #[schema(value_type = String, format = Uuid)]
    id: ProviderId,
}

/// What the shop says of itself: all of it. What is left out is not said.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProviderProfileChange, example = json!({
    "business_name": "Salão da Ana", "hourly_rate": {"amount_minor": 12000, "currency": "BRL"},
    "description": "Desde 1998.", "address": "Rua das Flores, 12", "city": "São Paulo", "state": "SP",
    "postal_code": "01310-100", "latitude": -23.5505199, "longitude": -46.6333094,
    "phone": "+55 11 91234-5678", "website": "https://salao.example", "instagram": "@salao.da.ana",
    "specializations": ["Noivas"],
}))]
struct ProfileFields {
    #[schema(value_type = String, min_length = 2, max_length = 255)]
    business_name: BusinessName,
    /// What an hour costs where a service has no price of its own.
    #[schema(value_type = Option<schema::Money>)]
    hourly_rate: Option<HourlyRate>,
    /// What the shop is, in its own words; a biography.
    #[schema(value_type = Option<String>, max_length = 4000)]
    description: Option<Description>,
    #[schema(value_type = Option<String>, max_length = 500)]
    address: Option<Address>,
    #[schema(value_type = Option<String>, max_length = 100)]
    city: Option<City>,
    #[schema(value_type = Option<String>, max_length = 50)]
    state: Option<StateName>,
    #[schema(value_type = Option<String>, max_length = 20)]
    postal_code: Option<PostalCode>,
    /// Degrees north, kept to seven decimals; with `longitude` or not at all.
    #[schema(minimum = -90, maximum = 90)]
    latitude: Option<f64>,
    /// Degrees east.
    #[schema(minimum = -180, maximum = 180)]
    longitude: Option<f64>,
    #[schema(value_type = Option<String>, min_length = 3, max_length = 20)]
    phone: Option<Phone>,
    /// `http` or `https`.
    #[schema(value_type = Option<String>, max_length = 255)]
    website: Option<Website>,
    #[schema(value_type = Option<String>, max_length = 100)]
    instagram: Option<Instagram>,
    #[schema(value_type = Option<String>, max_length = 100)]
    facebook: Option<Facebook>,
    /// What the provider is good at: at most 20, of up to 100 characters.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 20)]
    specializations: Specializations,
}

/// A profile as a body: parsed.
#[derive(Debug, Deserialize)]
#[serde(try_from = "ProfileFields")]
struct Profile {
    business_name: BusinessName,
    hourly_rate: Option<HourlyRate>,
    details: Details,
}

impl TryFrom<ProfileFields> for Profile {
    type Error = String;
    fn try_from(fields: ProfileFields) -> Result<Self, String> {
        let ProfileFields {
            business_name,
            hourly_rate,
            description,
            address,
            city,
            state,
            postal_code,
            latitude,
            longitude,
            phone,
            website,
            instagram,
            facebook,
            specializations,
        } = fields;
        let point = match (latitude, longitude) {
            (None, None) => None,
            (Some(latitude), Some(longitude)) => {
                let point = Point::from_degrees(latitude, longitude);
                Some(point.map_err(|error| error.to_string())?)
            }
            (Some(_), None) | (None, Some(_)) => {
                return Err("latitude must be given with longitude".to_owned());
            }
        };
        let details = Details {
            description,
            address,
            city,
            state,
            postal_code,
            point,
            phone,
            website,
            instagram,
            facebook,
            specializations,
        };
        Ok(Self { business_name, hourly_rate, details })
    }
}

/// Change what one's shop says of itself (`S3-32`).
///
/// The slug has a route of its own.
#[utoipa::path(
    put, path = "/api/providers/profile", operation_id = "ChangeProviderProfile", tag = "providers",
    security(("bearer" = [])),
    request_body = ProfileFields,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Changed), CommandProblems),
)]
async fn change_profile(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(body), sent }: Submission<Json<Profile>>,
) -> Result<impl IntoResponse, Problem> {
    let Profile { business_name, hourly_rate, details } = body;
    change(&api, actor, sent, ChangeProviderProfile { business_name, hourly_rate, details }).await
}

/// Another name for a shop's page.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SlugChange, example = json!({"slug": "studio-ana"}))]
struct SlugBody {
    /// `a-z`, `0-9` and single hyphens.
    #[schema(value_type = String, min_length = 3, max_length = 100)]
    slug: NewSlug,
}

/// Give the page of one's shop another name.
///
/// The former ones, ten at most, lead to it: whoever asks for one is sent on with 308.
#[utoipa::path(
    put, path = "/api/providers/profile/slug", operation_id = "ChangeSlug", tag = "providers",
    security(("bearer" = [])),
    request_body = SlugBody,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Changed), CommandProblems),
)]
async fn change_slug(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(SlugBody { slug }), sent }: Submission<Json<SlugBody>>,
) -> Result<impl IntoResponse, Problem> {
    let provider = api.own_shop(&actor).await?;
    let (outcome, receipt) = api.execute(actor, sent, ChangeSlug { provider, slug }).await?;
    Ok((receipt.of::<Provider>(provider), Json(Changed { id: outcome.provider })))
}

/// A shop's badge and plan.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProviderStanding, example = json!({"is_verified": true, "plan": "pro"}))]
struct StandingBody {
    /// Whether the installation vouches for it.
    is_verified: bool,
    /// `free`, or whatever the installation sells: `a-z`, `0-9` and hyphens.
    #[serde(default)]
    #[schema(value_type = String, max_length = 20, default = "free")]
    plan: Plan,
}

/// Set a shop's verified badge and plan: administrators alone (`S3-80`, `S3-81`).
#[utoipa::path(
    put, path = "/api/providers/{id}/standing", operation_id = "SetProviderStanding", tag = "providers",
    security(("bearer" = [])),
    request_body = StandingBody,
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = StandingBody), CommandProblems),
)]
async fn set_standing(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(provider): Path<ProviderId>,
    Submission { body: Json(body), sent }: Submission<Json<StandingBody>>,
) -> Result<impl IntoResponse, Problem> {
    let StandingBody { is_verified, plan } = body;
    let standing = Standing { is_verified, plan };
    let command = SetProviderStanding { provider, standing };
    let (outcome, receipt) = api.execute(actor, sent, command).await?;
    let Standing { is_verified, plan } = outcome.standing;
    Ok((receipt.of::<Provider>(provider), Json(StandingBody { is_verified, plan })))
}

/// The zone and the windows of each weekday.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProviderHoursChange)]
struct Hours {
    #[schema(value_type = String, example = "America/Sao_Paulo")]
    time_zone: Zone,
    #[schema(value_type = schema::WeeklyHours)]
    weekly: WeeklyHours,
}

/// Set one's shop's time zone and weekly hours.
///
/// Standing appointments stay at their instant.
#[utoipa::path(
    put, path = "/api/providers/hours", operation_id = "SetWeeklyHours", tag = "providers",
    security(("bearer" = [])),
    request_body = Hours,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Changed), CommandProblems),
)]
async fn set_hours(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(body), sent }: Submission<Json<Hours>>,
) -> Result<impl IntoResponse, Problem> {
    let Hours { time_zone, weekly } = body;
    change(&api, actor, sent, SetWeeklyHours { zone: time_zone, weekly }).await
}

/// The windows of one day; none is a day off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DayOverride, example = json!({"windows": [{"from": "09:00", "to": "12:00"}]}))]
struct Day {
    #[schema(value_type = Vec<schema::Window>)]
    windows: Windows,
}

/// Make one day of one's shop differ from its weekday.
#[utoipa::path(
    put, path = "/api/providers/overrides/{date}", operation_id = "OverrideDay", tag = "providers",
    security(("bearer" = [])),
    request_body = Day,
    params(
        ("date" = String, Path, description = "A local date", example = "2026-12-24"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Changed), CommandProblems),
)]
async fn override_day(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(Date(day)): Path<Date>,
    Submission { body: Json(Day { windows }), sent }: Submission<Json<Day>>,
) -> Result<impl IntoResponse, Problem> {
    change(&api, actor, sent, OverrideDay { day, windows }).await
}

/// Let one day of one's shop be as its weekday again.
#[utoipa::path(
    delete, path = "/api/providers/overrides/{date}", operation_id = "RemoveOverride", tag = "providers",
    security(("bearer" = [])),
    params(
        ("date" = String, Path, description = "A local date", example = "2026-12-24"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 204), CommandProblems),
)]
async fn remove_override(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(Date(day)): Path<Date>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let (_, receipt) = change_own(&api, actor, sent, RemoveOverride { day }).await?;
    Ok((StatusCode::NO_CONTENT, receipt, ()))
}

/// Set how one's shop takes bookings.
#[utoipa::path(
    put, path = "/api/providers/policy", operation_id = "SetPolicy", tag = "providers",
    security(("bearer" = [])),
    request_body = schema::Policy,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = Changed), CommandProblems),
)]
async fn set_policy(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(policy), sent }: Submission<Json<Policy>>,
) -> Result<impl IntoResponse, Problem> {
    change(&api, actor, sent, SetPolicy { policy }).await
}

async fn change<C: OwnersChange>(
    api: &CommandState,
    actor: domain::actor::Actor,
    sent: Sent,
    change: C,
) -> Result<impl IntoResponse + use<C>, Problem> {
    let (outcome, receipt) = change_own(api, actor, sent, change).await?;
    Ok((receipt, Json(Changed { id: outcome.provider })))
}

/// A change to the actor's own shop.
pub(crate) async fn change_own<C: OwnersChange>(
    api: &CommandState,
    actor: domain::actor::Actor,
    sent: Sent,
    change: C,
) -> Result<(domain::provider::ProviderChanged, Receipt), Problem> {
    let provider = api.own_shop(&actor).await?;
    let (outcome, receipt) = api.execute(actor, sent, ChangeProvider { provider, change }).await?;
    Ok((outcome, receipt.of::<Provider>(provider)))
}
