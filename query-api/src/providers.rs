//! Providers: finding them, one by its slug, one's own.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::Instant;
use domain::ids::ProviderId;
use domain::money::{Currency, Money};
use domain::provider::{Details, Point, Specializations, Standing};
use domain::text::{
    Address, City, Description, Facebook, Instagram, Phone, Plan, PostalCode, Slug,
    State as StateName, Website,
};
use http::StatusCode;
use http::header::LOCATION;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path, Query, Rendered};
use http_kit::headers::Tag;
use http_kit::paging::{List, Paging};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem, schema};
use read_models::provider_search::{
    Filter, Found, Near, OfCategory, PriceRange, Sort, plain, query_words, search,
};
use read_models::providers::ProviderRow;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::catalogue::Question;
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
    /// What it is, in its own words.
    #[schema(value_type = Option<String>)]
    description: Option<Description>,
    /// Street and number.
    #[schema(value_type = Option<String>)]
    address: Option<Address>,
    /// City.
    #[schema(value_type = Option<String>, example = "São Paulo")]
    city: Option<City>,
    /// State or province.
    #[schema(value_type = Option<String>, example = "SP")]
    state: Option<StateName>,
    /// Postal code.
    #[schema(value_type = Option<String>)]
    postal_code: Option<PostalCode>,
    /// Degrees north.
    #[schema(example = -23.5505199)]
    latitude: Option<f64>,
    /// Degrees east.
    #[schema(example = -46.6333094)]
    longitude: Option<f64>,
    /// Telephone.
    #[schema(value_type = Option<String>)]
    phone: Option<Phone>,
    /// Its own page.
    #[schema(value_type = Option<String>)]
    website: Option<Website>,
    /// At Instagram, without `@`.
    #[schema(value_type = Option<String>)]
    instagram: Option<Instagram>,
    /// At Facebook, without `@`.
    #[schema(value_type = Option<String>)]
    facebook: Option<Facebook>,
    /// What it is good at.
    #[schema(value_type = Vec<String>)]
    specializations: Specializations,
    /// Whether the installation vouches for it.
    is_verified: bool,
    /// What it is on: for its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "free")]
    plan: Option<Plan>,
    /// What its page was called before, the newest last: for its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    former_slugs: Option<Vec<Slug>>,
    /// When it opened.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Instant,
    /// When something of it last changed.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    updated_at: Instant,
}

impl ProviderBody {
    /// As its owner sees it; `None` once they were erased.
    fn own(row: ProviderRow) -> Option<Self> {
        let (plan, former_slugs) = (row.standing.plan.clone(), row.former_slugs.clone());
        let public = Self::of(row)?;
        Some(Self { plan: Some(plan), former_slugs: Some(former_slugs), ..public })
    }

    /// `None` once its owner was erased.
    pub(crate) fn of(row: ProviderRow) -> Option<Self> {
        let ProviderRow {
            id,
            account: _,
            slug,
            former_slugs: _,
            business_name,
            details,
            standing: Standing { is_verified, plan: _ },
            zone,
            hourly_rate,
            is_open: _,
            stamp,
        } = row;
        let Details {
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
        } = *details;
        Some(Self {
            id,
            slug: slug?,
            business_name: business_name.map(Into::into),
            time_zone: zone.name(),
            hourly_rate,
            description,
            address,
            city,
            state,
            postal_code,
            latitude: point.map(Point::latitude),
            longitude: point.map(Point::longitude),
            phone,
            website,
            instagram,
            facebook,
            specializations,
            is_verified,
            plan: None,
            former_slugs: None,
            created_at: stamp.created_at,
            updated_at: stamp.updated_at,
        })
    }
}

/// A provider that was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct FoundBody {
    /// The provider.
    #[serde(flatten)]
    provider: ProviderBody,
    /// How far it is from the place that was named, in metres.
    #[serde(skip_serializing_if = "Option::is_none")]
    distance_m: Option<u64>,
}

/// A provider and what it offers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderPage {
    /// The provider.
    #[serde(flatten)]
    provider: ProviderBody,
    /// What it offers.
    services: Vec<ServiceBody>,
}

/// What somebody looks for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ProvidersParams {
    /// Words: each must begin one of name, description, specializations or city, whatever the accents.
    #[param(max_length = 200, example = "corte")]
    q: Option<String>,
    /// A category, by slug or id: what offers a service of it.
    #[param(example = "cabelo")]
    category: Option<String>,
    /// A city, whatever the accents.
    #[param(max_length = 100, example = "são paulo")]
    city: Option<String>,
    /// Whether the installation vouches for it.
    verified: Option<bool>,
    /// What offers a service at this price or more, in minor units.
    #[param(minimum = 0)]
    min_price_minor: Option<i64>,
    /// What offers a service at this price or less.
    #[param(minimum = 0)]
    max_price_minor: Option<i64>,
    /// The prices' currency.
    #[param(value_type = Option<String>, default = "BRL")]
    currency: Option<Currency>,
    /// Around a place: latitude and longitude.
    #[param(value_type = Option<String>, example = "-23.5505,-46.6333")]
    near: Option<Place>,
    /// How far around it.
    #[param(minimum = 1, maximum = 500, default = 25)]
    radius_km: Option<u32>,
    /// In which order: `name`, or `distance`, which is that around a place unless given.
    #[param(value_type = Option<String>, example = "name")]
    sort: Option<SortParam>,
    /// How many items, 1 to 100; 20 unless given.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// `latitude,longitude` in degrees.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub struct Place(Point);

impl TryFrom<String> for Place {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "near must be latitude,longitude such as -23.5505,-46.6333";
        let (latitude, longitude) = text.split_once(',').ok_or(WRONG)?;
        let degrees = |text: &str| text.trim().parse::<f64>().map_err(|_| WRONG);
        let point = Point::from_degrees(degrees(latitude)?, degrees(longitude)?);
        point.map(Self).map_err(|_| WRONG)
    }
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortParam {
    /// By name.
    Name,
    /// The nearest first.
    Distance,
}

/// How far around a place, unless the request says so.
const RADIUS_KM: u32 = 25;

impl ProvidersParams {
    fn filter(&self) -> Result<Filter, Problem> {
        let wrong = |field: &str, detail: &str| Problem::field(Kind::InvalidQuery, field, detail);
        let bounded = |field: &str, text: &Option<String>, most: usize| match text {
            Some(text) if text.chars().take(most + 1).count() > most => {
                Err(wrong(field, &format!("{field} must have 0 to {most} characters")))
            }
            Some(_) | None => Ok(()),
        };
        bounded("q", &self.q, 200)?;
        bounded("city", &self.city, 100)?;
        let category = match self.category.as_deref() {
            None => None,
            Some(text) => match (text.parse(), text.parse()) {
                (Ok(id), _) => Some(OfCategory::Id(id)),
                (Err(_), Ok(slug)) => Some(OfCategory::Slug(slug)),
                (Err(_), Err(_)) => {
                    return Err(wrong("category", "category must be a slug or an id"));
                }
            },
        };
        let (min_minor, max_minor) = (self.min_price_minor, self.max_price_minor);
        for (field, price) in [("min_price_minor", min_minor), ("max_price_minor", max_minor)] {
            if price.is_some_and(|price| price < 0) {
                return Err(wrong(field, &format!("{field} must be at least 0")));
            }
        }
        if self.currency.is_some() && min_minor.is_none() && max_minor.is_none() {
            return Err(wrong("currency", "currency must be given with a price"));
        }
        // Nothing to look for finds nobody, not everybody.
        let (words, city) = (self.q.as_deref().map(query_words), self.city.as_deref().map(plain));
        if words.as_ref().is_some_and(Vec::is_empty) {
            return Err(wrong("q", "q must be a text with a letter or a digit"));
        }
        if city.as_ref().is_some_and(String::is_empty) {
            return Err(wrong("city", "city must be a text with a letter or a digit"));
        }
        let price = (min_minor.is_some() || max_minor.is_some()).then(|| PriceRange {
            min_minor: min_minor.unwrap_or(0),
            max_minor: max_minor.unwrap_or(Money::MAX_MINOR),
            currency: self.currency.unwrap_or(Currency::BRL),
        });
        if price.is_some_and(|price| price.min_minor > price.max_minor) {
            return Err(wrong(
                "min_price_minor",
                "min_price_minor must be at most max_price_minor",
            ));
        }
        let km = self.radius_km.unwrap_or(RADIUS_KM);
        if !(1..=500).contains(&km) {
            return Err(wrong("radius_km", "radius_km must be between 1 and 500"));
        }
        if self.near.is_none() && self.radius_km.is_some() {
            return Err(wrong("radius_km", "radius_km must be given with near"));
        }
        let sort = match (self.sort, self.near) {
            (Some(SortParam::Distance), None) => {
                return Err(wrong("sort", "sort must be given with near"));
            }
            (Some(SortParam::Distance) | None, Some(_)) => Sort::Distance,
            (Some(SortParam::Name) | None, _) => Sort::Name,
        };
        Ok(Filter {
            words: words.unwrap_or_default(),
            city,
            category,
            is_verified: self.verified,
            price,
            near: self.near.map(|Place(point)| Near { point, radius_m: km * 1000 }),
            sort,
        })
    }
}

/// Providers: all, or those that somebody looks for, by name or by distance (`S0-20`, `S3-29`). Cached (`S0-24`, `S3-71`).
#[utoipa::path(
    get, path = "/api/providers", operation_id = "ListProviders", tag = "providers",
    params(ProvidersParams),
    responses((status = 200, body = List<FoundBody>), QueryProblems)
)]
pub async fn list_providers(
    State(state): State<QueryState>,
    Query(params): Query<ProvidersParams>,
    Seen(after): Seen,
) -> Result<Rendered, Problem> {
    let filter = params.filter()?;
    let paging = Paging::new(params.limit, params.cursor)?;
    let question =
        Question::Providers(Box::new(filter.clone()), paging.cursor.clone(), paging.limit);
    let find = || async {
        let (cursor, limit) = (paging.cursor.as_deref(), page_limit(paging.limit)?);
        let page = search(state.log.pool(), &filter, cursor, limit).await.map_err(table_problem)?;
        let body = |Found { row, distance_m }| {
            Some(FoundBody { provider: ProviderBody::of(row)?, distance_m })
        };
        let items: Vec<FoundBody> = page.items.into_iter().filter_map(body).collect();
        Rendered::of(&List { items, next_cursor: page.next_cursor })
    };
    state.of_catalogue(question, &after, find).await
}

/// A provider by its slug, with what it offers (`S3-30`). A former slug is answered 308 with the present one.
#[utoipa::path(
    get, path = "/api/providers/{slug}", operation_id = "ProviderBySlug", tag = "providers",
    params(("slug" = String, Path, description = "The provider's name in URLs", example = "salao-da-ana")),
    responses(
        (status = 200, body = ProviderPage),
        (status = 308, description = "The page has another name now", headers(("Location" = String))),
        QueryProblems,
    )
)]
pub async fn provider_by_slug(
    State(state): State<QueryState>,
    Path(slug): Path<String>,
    Seen(after): Seen,
) -> Result<Response, Problem> {
    // What cannot be a slug is nobody's.
    let slug: Slug = slug.parse().map_err(|_| Kind::NotFound)?;
    state.tables_after(&after).await?;
    let row = read_models::providers::by_slug(state.log.pool(), &slug).await;
    match row.map_err(table_problem)? {
        Some(row) => Ok(Json(page_of(&state, row, false).await?).into_response()),
        None => moved(&state, &slug, "").await,
    }
}

/// Sends on whoever asks for a former slug; `rest` is what stands behind it in the path.
pub(crate) async fn moved(
    state: &QueryState,
    slug: &Slug,
    rest: &str,
) -> Result<Response, Problem> {
    let row = read_models::providers::by_former_slug(state.log.pool(), slug).await;
    let now = row.map_err(table_problem)?.and_then(|row| row.slug).ok_or(Kind::NotFound)?;
    let location = [(LOCATION, format!("/api/providers/{now}{rest}"))];
    Ok((StatusCode::PERMANENT_REDIRECT, location).into_response())
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
    Ok((tag, Json(page_of(&state, row, true).await?)))
}

pub(crate) async fn page_of(
    state: &QueryState,
    row: ProviderRow,
    by_owner: bool,
) -> Result<ProviderPage, Problem> {
    let services = services::of_provider(state, row.id, by_owner).await?.items;
    let provider = if by_owner { ProviderBody::own(row) } else { ProviderBody::of(row) };
    let provider = provider.ok_or(Kind::NotFound)?;
    Ok(ProviderPage { provider, services })
}
