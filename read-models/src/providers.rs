//! Providers as clients find them: one by slug, one's own; lists of them are in [`crate::provider_search`].
//! `ProviderOpened` begins a row; `ProfileChanged`, `SlugChanged`, `StandingSet` and `WeeklyHoursSet` change it; the other
//! events of a provider only raise its version, so that its `ETag` moves with them.

use domain::hours::Zone;
use domain::ids::{AccountId, Id, ProviderId};
use domain::money::Money;
use domain::provider::{Details, Point, Standing};
use domain::text::{BusinessName, Slug, Specialization};
use sqlx::{PgConnection, PgPool};
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

use crate::provider_search::{plain, search_words};
use crate::table::{
    Columns, RawStamp, RowStamp, StampColumns, Table, TableError, Writes, database, money_columns,
};

pub(crate) const TABLE: &str = "providers";
/// The most characters of a name that lists are sorted by.
const SORT_KEY_CHARS: usize = 255;

macro_rules! columns {
    () => {
        "id, partition, position, version, account_id, slug, former_slugs, business_name, description, \
         address, city, state, postal_code, latitude_e7, longitude_e7, phone, website, instagram, \
         facebook, specializations, is_verified, plan, zone, hourly_rate_minor, \
         hourly_rate_currency, is_open, created_at, updated_at"
    };
}

/// What [`Raw`] is read from.
pub(crate) const COLUMNS: &str = columns!();

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM providers ", $rest)
    };
}

/// The table.
pub struct Providers;

/// The changes of a batch.
pub type ProviderWrites = Writes<Providers>;

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderRow {
    /// Which.
    pub id: ProviderId,
    /// Whose shop it is.
    pub account: AccountId,
    /// Its name in URLs; `None` once its owner was erased.
    pub slug: Option<Slug>,
    /// What its page was called before.
    pub former_slugs: Vec<Slug>,
    /// Its name; `None` once its owner was erased.
    pub business_name: Option<BusinessName>,
    /// What else it says of itself.
    pub details: Box<Details>,
    /// Badge and plan.
    pub standing: Standing,
    /// Its time zone.
    pub zone: Zone,
    /// What an hour costs where a service has no price of its own.
    pub hourly_rate: Option<Money>,
    /// Whether it can be found and booked.
    pub is_open: bool,
    /// The events behind it.
    pub stamp: RowStamp,
}

impl ProviderRow {
    /// Where it stands in the list: by its name in lower case, then by id. `None` where it is not listed.
    pub fn list_key(&self) -> Option<(String, ProviderId)> {
        let name = self.business_name.as_ref().filter(|_| self.is_open)?;
        Some((sort_key(name.as_str()), self.id))
    }
}

/// A name as lists are sorted by it: in lower case, without accents, so that Ávila stands beside Avila and not behind
/// Zilda; cut, as what is decomposed may be longer and an index takes only so much. `migrations/0011_names_without_accents.sql` does the
/// same to older rows.
pub(crate) fn sort_key(name: &str) -> String {
    let accent = |c: &char| ('\u{300}'..='\u{36f}').contains(c);
    name.to_lowercase().nfd().filter(|c| !accent(c)).take(SORT_KEY_CHARS).collect()
}

/// What an event does to a provider's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProviderChange {
    /// The shop opened.
    Opened {
        /// Whose it is.
        account: AccountId,
        /// Its name in URLs.
        slug: Option<Slug>,
        /// Its name.
        business_name: Option<BusinessName>,
        /// What an hour costs.
        hourly_rate: Option<Money>,
        /// Its time zone.
        zone: Zone,
    },
    /// What it says of itself changed.
    ProfileChanged {
        /// The new name.
        business_name: Option<BusinessName>,
        /// The new rate.
        hourly_rate: Option<Money>,
        /// What else it says now.
        details: Box<Details>,
    },
    /// Its page has another name.
    SlugChanged {
        /// The new one.
        slug: Option<Slug>,
        /// Those that lead to it.
        former: Vec<Slug>,
    },
    /// Badge and plan were set.
    StandingSet(Standing),
    /// Its time zone was set.
    ZoneSet(Zone),
    /// It can be found and booked, or not.
    DoorsSet {
        /// Whether it can.
        is_open: bool,
    },
    /// It is closed for good: its owner was erased, and what it was called with them.
    Closed,
    /// Something that shows nowhere in the row but in its version.
    Touched,
}

impl Table for Providers {
    const NAME: &'static str = TABLE;
    type Id = ProviderId;
    type Row = ProviderRow;
    type Change = ProviderChange;

    fn stamp(row: &mut ProviderRow) -> &mut RowStamp {
        &mut row.stamp
    }

    fn begins(change: &ProviderChange) -> bool {
        matches!(change, ProviderChange::Opened { .. })
    }

    fn begin(id: ProviderId, stamp: RowStamp, change: ProviderChange) -> Option<ProviderRow> {
        match change {
            ProviderChange::Opened { account, slug, business_name, hourly_rate, zone } => {
                Some(ProviderRow {
                    id,
                    account,
                    slug,
                    former_slugs: Vec::new(),
                    business_name,
                    details: Box::default(),
                    standing: Standing::default(),
                    zone,
                    hourly_rate,
                    is_open: true,
                    stamp,
                })
            }
            ProviderChange::ProfileChanged { .. }
            | ProviderChange::SlugChanged { .. }
            | ProviderChange::StandingSet(_)
            | ProviderChange::ZoneSet(_)
            | ProviderChange::DoorsSet { .. }
            | ProviderChange::Closed
            | ProviderChange::Touched => None,
        }
    }

    fn change(row: &mut ProviderRow, change: ProviderChange) {
        match change {
            opened @ ProviderChange::Opened { .. } => {
                if let Some(begun) = Self::begin(row.id, row.stamp, opened) {
                    *row = begun;
                }
            }
            ProviderChange::ProfileChanged { business_name, hourly_rate, details } => {
                row.business_name = business_name;
                row.hourly_rate = hourly_rate;
                row.details = details;
            }
            ProviderChange::SlugChanged { slug, former } => {
                row.slug = slug;
                row.former_slugs = former;
            }
            ProviderChange::StandingSet(standing) => row.standing = standing,
            ProviderChange::ZoneSet(zone) => row.zone = zone,
            ProviderChange::DoorsSet { is_open } => row.is_open = is_open,
            ProviderChange::Closed => {
                row.is_open = false;
                row.slug = None;
                row.former_slugs.clear();
                row.business_name = None;
                *row.details = Details::default();
            }
            ProviderChange::Touched => {}
        }
    }

    async fn load(
        connection: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<Vec<(ProviderId, ProviderRow)>, TableError> {
        let rows = sqlx::query_as(select!("WHERE id = ANY($1)"))
            .bind(ids)
            .fetch_all(connection)
            .await
            .map_err(database(TABLE))?;
        Ok(read(rows)?.into_iter().map(|row| (row.id, row)).collect())
    }

    async fn upsert(
        connection: &mut PgConnection,
        rows: &[ProviderRow],
    ) -> Result<u64, TableError> {
        let mut stamps = StampColumns::default();
        rows.iter().for_each(|row| stamps.push(&row.stamp));
        let names: Vec<Option<&str>> =
            rows.iter().map(|row| row.business_name.as_ref().map(BusinessName::as_str)).collect();
        let sort_names: Vec<Option<String>> = names.iter().map(|name| name.map(sort_key)).collect();
        let (rates, currencies): (Vec<_>, Vec<_>) =
            rows.iter().map(|row| money_columns(row.hourly_rate)).unzip();
        let said = |of: fn(&Details) -> Option<&str>| -> Vec<Option<&str>> {
            rows.iter().map(|row| of(&row.details)).collect()
        };
        let degrees = |of: fn(Point) -> i32| -> Vec<Option<i32>> {
            rows.iter().map(|row| row.details.point.map(of)).collect()
        };
        // Lists within lists are no arrays to Postgres: as JSON.
        let lists = |of: fn(&ProviderRow) -> Vec<&str>| -> Vec<serde_json::Value> {
            rows.iter().map(|row| of(row).into()).collect()
        };
        let words =
            |row: &ProviderRow| Some(search_words(row.business_name.as_ref()?, &row.details));
        let city_key = |row: &ProviderRow| Some(plain(row.details.city.as_ref()?.as_str()));
        let done = sqlx::query(
            "INSERT INTO providers AS t (id, partition, position, version, account_id, slug,
                 business_name, sort_name, zone, hourly_rate_minor, hourly_rate_currency, is_open,
                 created_at, updated_at, description, address, city, state, postal_code,
                 latitude_e7, longitude_e7, phone, website, instagram, facebook, is_verified, plan,
                 city_key, search_words, former_slugs, specializations)
             SELECT id, partition, position, version, account_id, slug, business_name, sort_name,
                 zone, hourly_rate_minor, hourly_rate_currency, is_open, created_at, updated_at,
                 description, address, city, state, postal_code, latitude_e7, longitude_e7, phone,
                 website, instagram, facebook, is_verified, plan, city_key,
                 array_to_tsvector(string_to_array(words, ' ')),
                 ARRAY(SELECT jsonb_array_elements_text(former_slugs)),
                 ARRAY(SELECT jsonb_array_elements_text(specializations))
             FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::uuid[],
                 $6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::text[],
                 $12::boolean[], $13::timestamptz[], $14::timestamptz[], $15::text[], $16::text[],
                 $17::text[], $18::text[], $19::text[], $20::integer[], $21::integer[],
                 $22::text[], $23::text[], $24::text[], $25::text[], $26::boolean[], $27::text[],
                 $28::text[], $29::text[], $30::jsonb[], $31::jsonb[])
             AS new (id, partition, position, version, account_id, slug, business_name, sort_name,
                 zone, hourly_rate_minor, hourly_rate_currency, is_open, created_at, updated_at,
                 description, address, city, state, postal_code, latitude_e7, longitude_e7, phone,
                 website, instagram, facebook, is_verified, plan, city_key, words, former_slugs,
                 specializations)
             ON CONFLICT (id) DO UPDATE SET
                 partition = excluded.partition, position = excluded.position,
                 version = excluded.version, account_id = excluded.account_id, slug = excluded.slug,
                 business_name = excluded.business_name, sort_name = excluded.sort_name,
                 zone = excluded.zone, hourly_rate_minor = excluded.hourly_rate_minor,
                 hourly_rate_currency = excluded.hourly_rate_currency, is_open = excluded.is_open,
                 created_at = excluded.created_at, updated_at = excluded.updated_at,
                 description = excluded.description, address = excluded.address,
                 city = excluded.city, state = excluded.state, postal_code = excluded.postal_code,
                 latitude_e7 = excluded.latitude_e7, longitude_e7 = excluded.longitude_e7,
                 phone = excluded.phone, website = excluded.website,
                 instagram = excluded.instagram, facebook = excluded.facebook,
                 is_verified = excluded.is_verified, plan = excluded.plan,
                 city_key = excluded.city_key, search_words = excluded.search_words,
                 former_slugs = excluded.former_slugs, specializations = excluded.specializations
             WHERE t.position < excluded.position",
        )
        .bind(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
        .bind(stamps.partitions)
        .bind(stamps.positions)
        .bind(stamps.versions)
        .bind(rows.iter().map(|row| row.account.uuid()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.slug.as_ref().map(Slug::as_str)).collect::<Vec<_>>())
        .bind(names)
        .bind(sort_names)
        .bind(rows.iter().map(|row| row.zone.name()).collect::<Vec<_>>())
        .bind(rates)
        .bind(currencies)
        .bind(rows.iter().map(|row| row.is_open).collect::<Vec<_>>())
        .bind(stamps.created_at)
        .bind(stamps.updated_at)
        .bind(said(|said| said.description.as_ref().map(|text| text.as_str())))
        .bind(said(|said| said.address.as_ref().map(|text| text.as_str())))
        .bind(said(|said| said.city.as_ref().map(|text| text.as_str())))
        .bind(said(|said| said.state.as_ref().map(|text| text.as_str())))
        .bind(said(|said| said.postal_code.as_ref().map(|text| text.as_str())))
        .bind(degrees(Point::latitude_e7))
        .bind(degrees(Point::longitude_e7))
        .bind(said(|said| said.phone.as_ref().map(|text| text.as_str())))
        .bind(said(|said| said.website.as_ref().map(|text| text.as_str())))
        .bind(said(|said| said.instagram.as_ref().map(|text| text.as_str())))
        .bind(said(|said| said.facebook.as_ref().map(|text| text.as_str())))
        .bind(rows.iter().map(|row| row.standing.is_verified).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.standing.plan.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(city_key).collect::<Vec<_>>())
        .bind(rows.iter().map(words).collect::<Vec<_>>())
        .bind(lists(|row| row.former_slugs.iter().map(Slug::as_str).collect()))
        .bind(lists(|row| row.details.specializations.iter().map(|text| text.as_str()).collect()))
        .execute(connection)
        .await
        .map_err(database(TABLE))?;
        Ok(done.rows_affected())
    }
}

/// Empties what an erased person's shop was called. `ShopClosed` did so; this is for a projector that could still read an
/// older event of it. Says which shops those are.
pub async fn purge_person(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<Vec<ProviderId>, TableError> {
    let shops: Vec<Uuid> = sqlx::query_scalar(
        "UPDATE providers SET slug = NULL, former_slugs = '{}', business_name = NULL,
             sort_name = NULL, description = NULL, address = NULL, city = NULL, state = NULL,
             postal_code = NULL, latitude_e7 = NULL, longitude_e7 = NULL, phone = NULL,
             website = NULL, instagram = NULL, facebook = NULL, specializations = '{}',
             city_key = NULL, search_words = NULL
         WHERE account_id = $1
         RETURNING id",
    )
    .bind(account.uuid())
    .fetch_all(connection)
    .await
    .map_err(database(TABLE))?;
    shops.into_iter().map(|id| Columns(TABLE).id("id", id)).collect()
}

/// The provider with this id.
pub async fn by_id(pool: &PgPool, id: ProviderId) -> Result<Option<ProviderRow>, TableError> {
    let row = sqlx::query_as(select!("WHERE id = $1")).bind(id.uuid()).fetch_optional(pool).await;
    row.map_err(database(TABLE))?.map(|raw: Raw| raw.try_into()).transpose()
}

/// The provider whose page has this name. A shop that cannot be found has no page.
pub async fn by_slug(pool: &PgPool, slug: &Slug) -> Result<Option<ProviderRow>, TableError> {
    // A slug that changed hands may stand twice for the moment its old owner's partition lags.
    let row =
        sqlx::query_as(select!("WHERE slug = $1 AND is_open ORDER BY updated_at DESC LIMIT 1"))
            .bind(slug.as_str())
            .fetch_optional(pool)
            .await;
    row.map_err(database(TABLE))?.map(|raw: Raw| raw.try_into()).transpose()
}

/// The provider whose page had this name before.
pub async fn by_former_slug(pool: &PgPool, slug: &Slug) -> Result<Option<ProviderRow>, TableError> {
    let row = sqlx::query_as(select!(
        "WHERE former_slugs @> ARRAY[$1] COLLATE \"C\" AND former_slugs <> '{}' AND is_open \
         ORDER BY updated_at DESC LIMIT 1"
    ))
    .bind(slug.as_str())
    .fetch_optional(pool)
    .await;
    row.map_err(database(TABLE))?.map(|raw: Raw| raw.try_into()).transpose()
}

/// The shop of an account.
pub async fn of_account(
    pool: &PgPool,
    account: AccountId,
) -> Result<Option<ProviderRow>, TableError> {
    let row = sqlx::query_as(select!("WHERE account_id = $1 ORDER BY created_at, id LIMIT 1"))
        .bind(account.uuid())
        .fetch_optional(pool)
        .await;
    row.map_err(database(TABLE))?.map(|raw: Raw| raw.try_into()).transpose()
}

#[derive(sqlx::FromRow)]
pub(crate) struct Raw {
    id: Uuid,
    account_id: Uuid,
    slug: Option<String>,
    former_slugs: Vec<String>,
    business_name: Option<String>,
    #[sqlx(flatten)]
    details: RawDetails,
    is_verified: bool,
    plan: String,
    zone: String,
    hourly_rate_minor: Option<i64>,
    hourly_rate_currency: Option<String>,
    is_open: bool,
    #[sqlx(flatten)]
    stamp: RawStamp,
}

#[derive(sqlx::FromRow)]
struct RawDetails {
    description: Option<String>,
    address: Option<String>,
    city: Option<String>,
    state: Option<String>,
    postal_code: Option<String>,
    latitude_e7: Option<i32>,
    longitude_e7: Option<i32>,
    phone: Option<String>,
    website: Option<String>,
    instagram: Option<String>,
    facebook: Option<String>,
    specializations: Vec<String>,
}

fn read(rows: Vec<Raw>) -> Result<Vec<ProviderRow>, TableError> {
    rows.into_iter().map(ProviderRow::try_from).collect()
}

impl TryFrom<Raw> for ProviderRow {
    type Error = TableError;
    fn try_from(raw: Raw) -> Result<Self, TableError> {
        let Raw {
            id,
            account_id,
            slug,
            former_slugs,
            business_name,
            details,
            is_verified,
            plan,
            zone,
            hourly_rate_minor,
            hourly_rate_currency,
            is_open,
            stamp,
        } = raw;
        let columns = Columns(TABLE);
        let former = |slug| columns.text("former_slugs", slug);
        Ok(Self {
            id: columns.id("id", id)?,
            account: columns.id("account_id", account_id)?,
            slug: columns.optional("slug", slug)?,
            former_slugs: former_slugs.into_iter().map(former).collect::<Result<_, _>>()?,
            business_name: columns.optional("business_name", business_name)?,
            details: Box::new(details.try_into()?),
            standing: Standing { is_verified, plan: columns.text("plan", plan)? },
            zone: columns.text("zone", zone)?,
            hourly_rate: columns.money(
                "hourly_rate_minor",
                hourly_rate_minor,
                hourly_rate_currency,
            )?,
            is_open,
            stamp: columns.stamp(stamp)?,
        })
    }
}

impl TryFrom<RawDetails> for Details {
    type Error = TableError;
    fn try_from(raw: RawDetails) -> Result<Self, TableError> {
        let RawDetails {
            description,
            address,
            city,
            state,
            postal_code,
            latitude_e7,
            longitude_e7,
            phone,
            website,
            instagram,
            facebook,
            specializations,
        } = raw;
        let columns = Columns(TABLE);
        let point = latitude_e7.zip(longitude_e7);
        let point = point.map(|(latitude, longitude)| Point::from_e7(latitude, longitude));
        let all = specializations.into_iter().map(|text| columns.text("specializations", text));
        let all: Vec<Specialization> = all.collect::<Result<_, _>>()?;
        Ok(Self {
            description: columns.optional("description", description)?,
            address: columns.optional("address", address)?,
            city: columns.optional("city", city)?,
            state: columns.optional("state", state)?,
            postal_code: columns.optional("postal_code", postal_code)?,
            point: point.transpose().map_err(|_| columns.corrupt("latitude_e7"))?,
            phone: columns.optional("phone", phone)?,
            website: columns.optional("website", website)?,
            instagram: columns.optional("instagram", instagram)?,
            facebook: columns.optional("facebook", facebook)?,
            specializations: all.try_into().map_err(|_| columns.corrupt("specializations"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accents_do_not_count_in_lists_and_other_scripts_keep_their_marks() {
        let mut names =
            ["Zilda", "Átila", "avila", "Ávila", "Çá e Lá", "Cabelo", "Édipo", "Eva", "Über"];
        names.sort_by_key(|name| sort_key(name));
        assert_eq!(
            names,
            ["Átila", "avila", "Ávila", "Çá e Lá", "Cabelo", "Édipo", "Eva", "Über", "Zilda"]
        );
        assert_eq!(sort_key("A\u{301}VILA"), "avila", "however the accent was typed");
        assert_eq!(sort_key("हिन्दी"), "हिन्दी");
        // Each of these is three characters of four bytes.
        assert!(sort_key(&"\u{1d160}".repeat(255)).len() <= 4 * SORT_KEY_CHARS);
    }
}
