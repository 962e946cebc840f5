//! Finding providers: the list of all that are open, by name or by distance, narrowed by what somebody looks for.
//!
//! For example `q=corte sao` near a place within 10 km: every word must begin a word of the shop's name, description,
//! specializations or city, whatever its accents; a box around the place is cut out of the index, the distance of what is
//! in it computed on the sphere, and the page begins after the distance and id that the cursor names. All of it is
//! Postgres' own: no extension.

use domain::ids::{CategoryId, Id, ProviderId};
use domain::money::Currency;
use domain::provider::{Details, Point};
use domain::text::{BusinessName, Slug};
use sqlx::{PgPool, Postgres, QueryBuilder};
use unicode_normalization::UnicodeNormalization as _;

use crate::paging::{self, Page, PageLimit};
use crate::providers::{COLUMNS, ProviderRow, Raw, TABLE};
use crate::table::{TableError, page_database};

/// The most words of a text that are looked for.
const WORDS: usize = 12;
/// Longer words are cut, where they are kept and where they are looked for.
const WORD_CHARS: usize = 40;
/// The earth's mean radius (IUGG).
const EARTH_M: f64 = 6_371_008.8;

/// What somebody looks for. What is left out does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// Each begins a word that the shop says of itself.
    pub words: Vec<String>,
    /// The city, as [`plain`] has it.
    pub city: Option<String>,
    /// It offers a service of this category.
    pub category: Option<OfCategory>,
    /// Whether an administrator vouches for it.
    pub is_verified: Option<bool>,
    /// It offers a service at such a price; of the category, if one is named.
    pub price: Option<PriceRange>,
    /// It is near a place.
    pub near: Option<Near>,
    /// In which order; by distance only with a place.
    pub sort: Sort,
}

/// A category by id or slug. One that is not listed has no services.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OfCategory {
    /// By id.
    Id(CategoryId),
    /// By slug.
    Slug(Slug),
}

/// Prices from and up to, in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PriceRange {
    /// At least, in minor units.
    pub min_minor: i64,
    /// At most.
    pub max_minor: i64,
    /// In which currency.
    pub currency: Currency,
}

/// Around a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Near {
    /// The place.
    pub point: Point,
    /// How far from it, at most.
    pub radius_m: u32,
}

/// The order of a list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Sort {
    /// By name, accents apart, then by id.
    #[default]
    Name,
    /// The nearest first.
    Distance,
}

/// A provider that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The provider.
    pub row: ProviderRow,
    /// How far it is from the place that was named, in metres.
    pub distance_m: Option<u64>,
}

/// A text without accents and in lower case, its words apart by one space.
pub fn plain(text: &str) -> String {
    words_of(text).collect::<Vec<_>>().join(" ")
}

/// The words that a text is looked for by: the first few.
pub fn query_words(text: &str) -> Vec<String> {
    words_of(text).take(WORDS).collect()
}

fn words_of(text: &str) -> impl Iterator<Item = String> {
    let accent = |c: &char| ('\u{300}'..='\u{36f}').contains(c);
    let bare: String = text.to_lowercase().nfd().filter(|c| !accent(c)).collect();
    let words: Vec<String> = bare
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| word.chars().take(WORD_CHARS).collect())
        .collect();
    words.into_iter()
}

/// The words a shop is found by, one space apart.
pub(crate) fn search_words(name: &BusinessName, details: &Details) -> String {
    let texts = [
        Some(name.as_str()),
        details.description.as_ref().map(|text| text.as_str()),
        details.city.as_ref().map(|text| text.as_str()),
    ];
    let specializations = details.specializations.iter().map(|text| Some(text.as_str()));
    let words = texts.into_iter().chain(specializations).flatten().flat_map(words_of);
    words.collect::<Vec<_>>().join(" ")
}

/// The providers that are open and as the filter says, a page of them.
pub async fn search(
    pool: &PgPool,
    filter: &Filter,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<Page<Found>, TableError> {
    let list = list_of(filter);
    let mut query = QueryBuilder::new("SELECT ");
    query.push(COLUMNS).push(", d.distance_m FROM providers p CROSS JOIN LATERAL (SELECT ");
    match filter.near {
        Some(near) => distance(&mut query, near),
        None => _ = query.push("NULL::bigint"),
    }
    query.push(") AS d (distance_m) WHERE is_open AND sort_name IS NOT NULL");
    narrow(&mut query, filter);
    match filter.sort {
        Sort::Name => {
            if let Some((name, id)) = paging::decode::<(String, ProviderId)>(&list, cursor)? {
                query.push(" AND (sort_name, id) > (").push_bind(name);
                query.push(", ").push_bind(id.uuid()).push(")");
            }
            query.push(" ORDER BY sort_name, id LIMIT ");
        }
        Sort::Distance => {
            if let Some((far, id)) = paging::decode::<(u64, ProviderId)>(&list, cursor)? {
                let far = i64::try_from(far).map_err(|_| paging::InvalidCursor)?;
                query.push(" AND (d.distance_m, id) > (").push_bind(far);
                query.push(", ").push_bind(id.uuid()).push(")");
            }
            query.push(" ORDER BY d.distance_m, id LIMIT ");
        }
    }
    query.push_bind(limit.and_one());
    let rows: Vec<RawFound> = query
        .build_query_as()
        .fetch_all(pool)
        .await
        .map_err(page_database(TABLE, cursor.is_some()))?;
    let found = |raw: RawFound| {
        let distance_m = raw.distance_m.and_then(|metres| u64::try_from(metres).ok());
        Ok(Found { row: raw.row.try_into()?, distance_m })
    };
    let found: Vec<Found> = rows.into_iter().map(found).collect::<Result<_, TableError>>()?;
    Ok(match filter.sort {
        Sort::Name => Page::cut(found, limit, &list, |found| found.row.list_key()),
        Sort::Distance => Page::cut(found, limit, &list, |found| (found.distance_m, found.row.id)),
    })
}

/// A cursor by name goes on in any list by name; one by distance only from the same place.
fn list_of(filter: &Filter) -> String {
    match (filter.sort, filter.near) {
        (Sort::Distance, Some(Near { point, radius_m: _ })) => {
            format!("providers-near:{}:{}", point.latitude_e7(), point.longitude_e7())
        }
        (Sort::Name | Sort::Distance, _) => "providers".to_owned(),
    }
}

/// The distance on the sphere, in whole metres.
fn distance(query: &mut QueryBuilder<'_, Postgres>, Near { point, radius_m: _ }: Near) {
    let latitude = point.latitude().to_radians();
    query.push("round(2 * ").push_bind(EARTH_M).push(" * asin(least(1.0::float8, sqrt(");
    query.push("power(sin((radians(latitude_e7 / 1e7::float8) - ").push_bind(latitude);
    query.push(") / 2), 2) + cos(radians(latitude_e7 / 1e7::float8)) * ");
    query.push_bind(latitude.cos());
    query.push(" * power(sin((radians(longitude_e7 / 1e7::float8) - ");
    query.push_bind(point.longitude().to_radians()).push(") / 2), 2)))))::bigint");
}

fn narrow(query: &mut QueryBuilder<'_, Postgres>, filter: &Filter) {
    let Filter { words, city, category, is_verified, price, near, sort: _ } = filter;
    if !words.is_empty() {
        // Letters and digits only: nothing in them means anything to a tsquery.
        let all: Vec<String> = words.iter().map(|word| format!("'{word}':*")).collect();
        query.push(" AND search_words @@ ").push_bind(all.join(" & ")).push("::tsquery");
    }
    if let Some(city) = city {
        query.push(" AND city_key = ").push_bind(city.clone());
    }
    if let Some(is_verified) = is_verified {
        query.push(" AND is_verified = ").push_bind(*is_verified);
    }
    if let Some(near) = near {
        within(query, *near);
    }
    if category.is_none() && price.is_none() {
        return;
    }
    query.push(" AND EXISTS (SELECT 1 FROM services s");
    if category.is_some() {
        query.push(" JOIN categories c ON c.id = s.category_id AND c.is_active AND NOT c.removed");
    }
    query.push(
        " WHERE s.provider_id = p.id AND s.is_active AND NOT s.removed AND s.name IS NOT NULL",
    );
    match category {
        Some(OfCategory::Id(id)) => _ = query.push(" AND c.id = ").push_bind(id.uuid()),
        Some(OfCategory::Slug(slug)) => {
            query.push(" AND c.slug = ").push_bind(slug.as_str().to_owned());
        }
        None => {}
    }
    if let Some(PriceRange { min_minor, max_minor, currency }) = price {
        // As domain::money::HourlyRate::for_minutes rounds.
        query.push(
            " AND coalesce(s.price_minor, (p.hourly_rate_minor * s.duration_minutes + 30) / 60) BETWEEN ",
        );
        query.push_bind(*min_minor).push(" AND ").push_bind(*max_minor);
        query.push(" AND CASE WHEN s.price_minor IS NULL THEN p.hourly_rate_currency ELSE s.price_currency END = ");
        query.push_bind(currency.as_str().to_owned());
    }
    query.push(")");
}

/// Within the radius; a box around it first, which an index can find.
fn within(query: &mut QueryBuilder<'_, Postgres>, Near { point, radius_m }: Near) {
    let (latitude, longitude) = (point.latitude(), point.longitude());
    let angle = f64::from(radius_m) / EARTH_M;
    let (south, north) = (latitude - angle.to_degrees(), latitude + angle.to_degrees());
    query.push(" AND latitude_e7 BETWEEN ").push_bind((south * 1e7).floor());
    query.push("::bigint AND ").push_bind((north * 1e7).ceil()).push("::bigint");
    // Over a pole every longitude is near. Over the date line the box would be two: there the latitudes alone narrow it.
    if south > -90.0 && north < 90.0 {
        let reach = (angle.sin() / latitude.to_radians().cos()).clamp(-1.0, 1.0).asin();
        let (west, east) = (longitude - reach.to_degrees(), longitude + reach.to_degrees());
        if west >= -180.0 && east <= 180.0 {
            query.push(" AND longitude_e7 BETWEEN ").push_bind((west * 1e7).floor());
            query.push("::bigint AND ").push_bind((east * 1e7).ceil()).push("::bigint");
        }
    }
    query.push(" AND d.distance_m <= ").push_bind(i64::from(radius_m));
}

#[derive(sqlx::FromRow)]
struct RawFound {
    #[sqlx(flatten)]
    row: Raw,
    distance_m: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_no_accents_no_capitals_and_no_punctuation() {
        assert_eq!(plain("  São-Paulo, (SP)! "), "sao paulo sp");
        assert_eq!(query_words("Ávila's 24h"), ["avila", "s", "24h"]);
        assert_eq!(query_words("' & | ! :* \\ "), Vec::<String>::new());
        assert_eq!(query_words(&"a ".repeat(100)).len(), WORDS);
        assert_eq!(plain(&"ã".repeat(100)).len(), WORD_CHARS);
        assert_eq!(plain("हिन्दी 日本"), plain("हिन्दी\u{2003}日本"));
    }
}
