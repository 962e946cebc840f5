//! Providers as clients find them: the list by name, one by slug, one's own. `ProviderOpened` begins a row;
//! `ProfileChanged` and `WeeklyHoursSet` change it; the other events of a provider only raise its version,
//! so that its `ETag` moves with them.

use domain::hours::Zone;
use domain::ids::{AccountId, Id, ProviderId};
use domain::money::Money;
use domain::position::Partition;
use domain::text::{BusinessName, Slug};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

use crate::paging::{self, Page, PageLimit};
use crate::table::{
    Columns, RawStamp, RowStamp, StampColumns, Table, TableError, Writes, database, money_columns,
    page_database,
};

const TABLE: &str = "providers";
/// The most characters of a name that lists are sorted by.
const SORT_KEY_CHARS: usize = 255;
const LIST: &str = "providers";

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, partition, position, version, account_id, slug, business_name, zone, \
             hourly_rate_minor, hourly_rate_currency, is_open, created_at, updated_at \
             FROM providers ",
            $rest
        )
    };
}

/// The table.
pub struct Providers;

/// The changes of a batch.
pub type ProviderWrites = Writes<Providers>;

/// A provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderRow {
    /// Which.
    pub id: ProviderId,
    /// Whose shop it is.
    pub account: AccountId,
    /// Its name in URLs; `None` once its owner was erased.
    pub slug: Option<Slug>,
    /// Its name; `None` once its owner was erased.
    pub business_name: Option<BusinessName>,
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
fn sort_key(name: &str) -> String {
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
    /// Name or rate changed.
    ProfileChanged {
        /// The new name.
        business_name: Option<BusinessName>,
        /// The new rate.
        hourly_rate: Option<Money>,
    },
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
                    business_name,
                    zone,
                    hourly_rate,
                    is_open: true,
                    stamp,
                })
            }
            ProviderChange::ProfileChanged { .. }
            | ProviderChange::ZoneSet(_)
            | ProviderChange::DoorsSet { .. }
            | ProviderChange::Closed
            | ProviderChange::Touched => None,
        }
    }

    fn change(row: &mut ProviderRow, change: ProviderChange) {
        match change {
            ProviderChange::Opened { account, slug, business_name, hourly_rate, zone } => {
                let (id, is_open, stamp) = (row.id, true, row.stamp);
                *row = ProviderRow {
                    id,
                    account,
                    slug,
                    business_name,
                    zone,
                    hourly_rate,
                    is_open,
                    stamp,
                };
            }
            ProviderChange::ProfileChanged { business_name, hourly_rate } => {
                row.business_name = business_name;
                row.hourly_rate = hourly_rate;
            }
            ProviderChange::ZoneSet(zone) => row.zone = zone,
            ProviderChange::DoorsSet { is_open } => row.is_open = is_open,
            ProviderChange::Closed => {
                row.is_open = false;
                row.slug = None;
                row.business_name = None;
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
        let done = sqlx::query(
            "INSERT INTO providers AS t (id, partition, position, version, account_id, slug,
                 business_name, sort_name, zone, hourly_rate_minor, hourly_rate_currency, is_open,
                 created_at, updated_at)
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::uuid[],
                 $6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::text[],
                 $12::boolean[], $13::timestamptz[], $14::timestamptz[])
             ON CONFLICT (id) DO UPDATE SET
                 partition = excluded.partition, position = excluded.position,
                 version = excluded.version, account_id = excluded.account_id, slug = excluded.slug,
                 business_name = excluded.business_name, sort_name = excluded.sort_name,
                 zone = excluded.zone, hourly_rate_minor = excluded.hourly_rate_minor,
                 hourly_rate_currency = excluded.hourly_rate_currency, is_open = excluded.is_open,
                 created_at = excluded.created_at, updated_at = excluded.updated_at
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
        "UPDATE providers SET slug = NULL, business_name = NULL, sort_name = NULL WHERE account_id = $1
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

/// The list of all that are open, by name.
pub async fn list(
    pool: &PgPool,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<Page<ProviderRow>, TableError> {
    let after: Option<(String, ProviderId)> = paging::decode(LIST, cursor)?;
    let query = match after {
        None => sqlx::query_as(select!(
            "WHERE is_open AND sort_name IS NOT NULL ORDER BY sort_name, id LIMIT $1"
        ))
        .bind(limit.and_one()),
        Some((name, id)) => sqlx::query_as(select!(
            "WHERE is_open AND sort_name IS NOT NULL AND (sort_name, id) > ($2, $3) \
             ORDER BY sort_name, id LIMIT $1"
        ))
        .bind(limit.and_one())
        .bind(name)
        .bind(id.uuid()),
    };
    let rows = query.fetch_all(pool).await.map_err(page_database(TABLE, cursor.is_some()))?;
    Ok(page(read(rows)?, limit))
}

/// The first of one partition in the order of [`list`]: what the cached list is made of.
pub async fn first_of_partition(
    pool: &PgPool,
    partition: Partition,
    limit: PageLimit,
) -> Result<Vec<ProviderRow>, TableError> {
    let rows = sqlx::query_as(select!(
        "WHERE partition = $1 AND is_open AND sort_name IS NOT NULL ORDER BY sort_name, id LIMIT $2"
    ))
    .bind(i32::from(partition.0))
    .bind(i64::from(limit.get()))
    .fetch_all(pool)
    .await;
    read(rows.map_err(database(TABLE))?)
}

/// Rows in the order of [`list`], cut to a page of it.
pub(crate) fn page(rows: Vec<ProviderRow>, limit: PageLimit) -> Page<ProviderRow> {
    Page::cut(rows, limit, LIST, ProviderRow::list_key)
}

#[derive(sqlx::FromRow)]
struct Raw {
    id: Uuid,
    account_id: Uuid,
    slug: Option<String>,
    business_name: Option<String>,
    zone: String,
    hourly_rate_minor: Option<i64>,
    hourly_rate_currency: Option<String>,
    is_open: bool,
    #[sqlx(flatten)]
    stamp: RawStamp,
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
            business_name,
            zone,
            hourly_rate_minor,
            hourly_rate_currency,
            is_open,
            stamp,
        } = raw;
        let columns = Columns(TABLE);
        Ok(Self {
            id: columns.id("id", id)?,
            account: columns.id("account_id", account_id)?,
            slug: columns.optional("slug", slug)?,
            business_name: columns.optional("business_name", business_name)?,
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
