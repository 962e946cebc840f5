//! Categories as they are listed. `CategoryAdded` begins a row, `CategoryChanged` replaces what it says,
//! `CategoryRemoved` leaves a tombstone, so that an older write cannot bring the category back.
//!
//! A service's row names a category by its id; one that is removed, or not listed at present, is left out of every answer
//! by whoever reads both ([`listed_of`]).

use domain::category::Listing;
use domain::ids::{CategoryId, Id};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::paging::{self, Page, PageLimit};
use crate::providers::sort_key;
use crate::table::{
    Columns, RawStamp, RowStamp, StampColumns, Table, TableError, Writes, database, page_database,
};

const TABLE: &str = "categories";

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, partition, position, version, name, slug, description, icon, color, is_active, \
             sort_order, removed, created_at, updated_at FROM categories ",
            $rest
        )
    };
}

/// The table.
pub struct Categories;

/// The changes of a batch.
pub type CategoryWrites = Writes<Categories>;

/// A category.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CategoryRow {
    /// Which.
    pub id: CategoryId,
    /// What is said of it.
    pub listing: Listing,
    /// Whether it is gone.
    pub removed: bool,
    /// The events behind it.
    pub stamp: RowStamp,
}

impl CategoryRow {
    fn list_key(&self) -> (i32, String, CategoryId) {
        (self.listing.sort_order, sort_key(self.listing.name.as_str()), self.id)
    }
}

/// What an event does to a category's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CategoryChange {
    /// It is there.
    Added(Listing),
    /// Something else is said of it.
    Changed(Listing),
    /// It is gone.
    Removed,
}

impl Table for Categories {
    const NAME: &'static str = TABLE;
    type Id = CategoryId;
    type Row = CategoryRow;
    type Change = CategoryChange;

    fn stamp(row: &mut CategoryRow) -> &mut RowStamp {
        &mut row.stamp
    }

    fn begins(change: &CategoryChange) -> bool {
        matches!(change, CategoryChange::Added(_))
    }

    fn begin(id: CategoryId, stamp: RowStamp, change: CategoryChange) -> Option<CategoryRow> {
        match change {
            CategoryChange::Added(listing) => {
                Some(CategoryRow { id, listing, removed: false, stamp })
            }
            CategoryChange::Changed(_) | CategoryChange::Removed => None,
        }
    }

    fn change(row: &mut CategoryRow, change: CategoryChange) {
        match change {
            CategoryChange::Added(listing) => {
                row.listing = listing;
                row.removed = false;
            }
            CategoryChange::Changed(listing) => row.listing = listing,
            CategoryChange::Removed => row.removed = true,
        }
    }

    async fn load(
        connection: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<Vec<(CategoryId, CategoryRow)>, TableError> {
        let rows = sqlx::query_as(select!("WHERE id = ANY($1)"))
            .bind(ids)
            .fetch_all(connection)
            .await
            .map_err(database(TABLE))?;
        Ok(read(rows)?.into_iter().map(|row| (row.id, row)).collect())
    }

    async fn upsert(
        connection: &mut PgConnection,
        rows: &[CategoryRow],
    ) -> Result<u64, TableError> {
        let mut stamps = StampColumns::default();
        rows.iter().for_each(|row| stamps.push(&row.stamp));
        let texts = |of: fn(&Listing) -> Option<&str>| -> Vec<Option<&str>> {
            rows.iter().map(|row| of(&row.listing)).collect()
        };
        let sort_names: Vec<_> =
            rows.iter().map(|row| sort_key(row.listing.name.as_str())).collect();
        let done = sqlx::query(
            "INSERT INTO categories AS t (id, partition, position, version, name, sort_name, slug,
                 description, icon, color, is_active, sort_order, removed, created_at, updated_at)
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[],
                 $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::boolean[],
                 $12::integer[], $13::boolean[], $14::timestamptz[], $15::timestamptz[])
             ON CONFLICT (id) DO UPDATE SET
                 partition = excluded.partition, position = excluded.position,
                 version = excluded.version, name = excluded.name, sort_name = excluded.sort_name,
                 slug = excluded.slug, description = excluded.description, icon = excluded.icon,
                 color = excluded.color, is_active = excluded.is_active,
                 sort_order = excluded.sort_order, removed = excluded.removed,
                 created_at = excluded.created_at, updated_at = excluded.updated_at
             WHERE t.position < excluded.position",
        )
        .bind(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
        .bind(stamps.partitions)
        .bind(stamps.positions)
        .bind(stamps.versions)
        .bind(texts(|listing| Some(listing.name.as_str())))
        .bind(sort_names)
        .bind(texts(|listing| Some(listing.slug.as_str())))
        .bind(texts(|listing| listing.description.as_ref().map(|text| text.as_str())))
        .bind(texts(|listing| listing.icon.as_ref().map(|text| text.as_str())))
        .bind(texts(|listing| listing.color.as_ref().map(|text| text.as_str())))
        .bind(rows.iter().map(|row| row.listing.is_active).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.listing.sort_order).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.removed).collect::<Vec<_>>())
        .bind(stamps.created_at)
        .bind(stamps.updated_at)
        .execute(connection)
        .await
        .map_err(database(TABLE))?;
        Ok(done.rows_affected())
    }
}

/// The list, by `sort_order` and name: those that are active, or all there are.
pub async fn list(
    pool: &PgPool,
    inactive_too: bool,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<Page<CategoryRow>, TableError> {
    let after: Option<(i32, String, CategoryId)> = paging::decode(TABLE, cursor)?;
    let query = match after {
        None => sqlx::query_as(select!(
            "WHERE NOT removed AND (is_active OR $2) ORDER BY sort_order, sort_name, id LIMIT $1"
        ))
        .bind(limit.and_one())
        .bind(inactive_too),
        Some((order, name, id)) => sqlx::query_as(select!(
            "WHERE NOT removed AND (is_active OR $2) AND (sort_order, sort_name, id) > ($3, $4, $5) \
             ORDER BY sort_order, sort_name, id LIMIT $1"
        ))
        .bind(limit.and_one())
        .bind(inactive_too)
        .bind(order)
        .bind(name)
        .bind(id.uuid()),
    };
    let rows = query.fetch_all(pool).await.map_err(page_database(TABLE, cursor.is_some()))?;
    Ok(Page::cut(read(rows)?, limit, TABLE, CategoryRow::list_key))
}

/// The category with this id, unless it was removed.
pub async fn by_id(pool: &PgPool, id: CategoryId) -> Result<Option<CategoryRow>, TableError> {
    let row = sqlx::query_as(select!("WHERE id = $1 AND NOT removed"))
        .bind(id.uuid())
        .fetch_optional(pool)
        .await;
    row.map_err(database(TABLE))?.map(|raw: Raw| raw.try_into()).transpose()
}

/// Those of these that are listed.
pub async fn listed_of(pool: &PgPool, ids: &[CategoryId]) -> Result<Vec<CategoryRow>, TableError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query_as(select!("WHERE id = ANY($1) AND is_active AND NOT removed"))
        .bind(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
        .fetch_all(pool)
        .await;
    read(rows.map_err(database(TABLE))?)
}

#[derive(sqlx::FromRow)]
struct Raw {
    id: Uuid,
    name: String,
    slug: String,
    description: Option<String>,
    icon: Option<String>,
    color: Option<String>,
    is_active: bool,
    sort_order: i32,
    removed: bool,
    #[sqlx(flatten)]
    stamp: RawStamp,
}

fn read(rows: Vec<Raw>) -> Result<Vec<CategoryRow>, TableError> {
    rows.into_iter().map(CategoryRow::try_from).collect()
}

impl TryFrom<Raw> for CategoryRow {
    type Error = TableError;
    fn try_from(raw: Raw) -> Result<Self, TableError> {
        let Raw { id, name, slug, description, icon, color, is_active, sort_order, removed, stamp } =
            raw;
        let columns = Columns(TABLE);
        let listing = Listing {
            name: columns.text("name", name)?,
            slug: columns.text("slug", slug)?,
            description: columns.optional("description", description)?,
            icon: columns.optional("icon", icon)?,
            color: columns.optional("color", color)?,
            is_active,
            sort_order,
        };
        Ok(Self { id: columns.id("id", id)?, listing, removed, stamp: columns.stamp(stamp)? })
    }
}
