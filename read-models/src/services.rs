//! What a provider offers. `ServiceAdded` begins a row, `ServiceChanged` replaces it, `ServiceRemoved` leaves
//! a tombstone, so that an older write cannot bring the service back.

use domain::hours::WeeklyHours;
use domain::ids::{CategoryId, Id, ProviderId, ServiceId};
use domain::money::Money;
use domain::provider::{Provider, Service};
use domain::slots::Measure;
use domain::text::{Description, ServiceName};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::table::{
    Columns, RawStamp, RowStamp, StampColumns, Table, TableError, Writes, database, money_columns,
};

const TABLE: &str = "services";

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, partition, position, version, provider_id, name, description, \
             duration_minutes, interval_minutes, buffer_before_minutes, buffer_after_minutes, \
             capacity, weekly, price_minor, price_currency, category_id, is_active, sort_order, \
             removed, created_at, updated_at \
             FROM services ",
            $rest
        )
    };
}

/// The table.
pub struct Services;

/// The changes of a batch.
pub type ServiceWrites = Writes<Services>;

/// A service and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceRow {
    /// Who offers it.
    pub provider: ProviderId,
    /// What it is called; `None` once the shop's owner was erased: then it is not listed.
    pub name: Option<ServiceName>,
    /// More about it.
    pub description: Option<Description>,
    /// Which it is, and how long it takes.
    pub measure: Measure,
    /// Windows of its own, besides the shop's.
    pub weekly: Option<Box<WeeklyHours>>,
    /// Its own price.
    pub price: Option<Money>,
    /// What kind of service it is; the category may be gone.
    pub category: Option<CategoryId>,
    /// Whether it is offered at present.
    pub is_active: bool,
    /// Where it stands in the shop's list: by this number, then by age.
    pub sort_order: u16,
    /// Whether it is offered no longer.
    pub removed: bool,
    /// The events behind it; the version is the provider's.
    pub stamp: RowStamp,
}

impl ServiceRow {
    /// Takes on what a provider's event says.
    fn set(&mut self, service: &Service) {
        self.name = service.name.known().cloned();
        self.description = service.description.as_ref().and_then(|text| text.known()).cloned();
        self.measure = service.measure();
        self.weekly = service.weekly.clone();
        self.price = service.price;
        self.category = service.category;
        self.is_active = service.is_active;
        self.sort_order = service.sort_order;
    }
}

/// What an event does to a service's row.
#[derive(Debug, Clone, PartialEq)]
pub enum ServiceChange {
    /// It is offered.
    Added {
        /// By whom.
        provider: ProviderId,
        /// What it is.
        service: Service,
    },
    /// It is something else now.
    Changed(Service),
    /// It stands elsewhere in the list.
    Placed {
        /// Where.
        sort_order: u16,
    },
    /// It is offered no longer.
    Removed,
}

impl Table for Services {
    const NAME: &'static str = TABLE;
    type Id = ServiceId;
    type Row = ServiceRow;
    type Change = ServiceChange;

    fn stamp(row: &mut ServiceRow) -> &mut RowStamp {
        &mut row.stamp
    }

    fn begins(change: &ServiceChange) -> bool {
        matches!(change, ServiceChange::Added { .. })
    }

    fn begin(_: ServiceId, stamp: RowStamp, change: ServiceChange) -> Option<ServiceRow> {
        match change {
            ServiceChange::Added { provider, service } => {
                let mut row = ServiceRow {
                    provider,
                    name: None,
                    description: None,
                    measure: service.measure(),
                    weekly: None,
                    price: None,
                    category: None,
                    is_active: true,
                    sort_order: 0,
                    removed: false,
                    stamp,
                };
                row.set(&service);
                Some(row)
            }
            ServiceChange::Changed(_) | ServiceChange::Placed { .. } | ServiceChange::Removed => {
                None
            }
        }
    }

    fn change(row: &mut ServiceRow, change: ServiceChange) {
        match change {
            ServiceChange::Added { provider: _, service } => {
                row.set(&service);
                row.removed = false;
            }
            ServiceChange::Changed(service) => row.set(&service),
            ServiceChange::Placed { sort_order } => row.sort_order = sort_order,
            ServiceChange::Removed => row.removed = true,
        }
    }

    async fn load(
        connection: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<Vec<(ServiceId, ServiceRow)>, TableError> {
        let rows = sqlx::query_as(select!("WHERE id = ANY($1)"))
            .bind(ids)
            .fetch_all(connection)
            .await
            .map_err(database(TABLE))?;
        Ok(read(rows)?.into_iter().map(|row| (row.measure.service, row)).collect())
    }

    async fn upsert(connection: &mut PgConnection, rows: &[ServiceRow]) -> Result<u64, TableError> {
        let mut stamps = StampColumns::default();
        rows.iter().for_each(|row| stamps.push(&row.stamp));
        let (prices, currencies): (Vec<_>, Vec<_>) =
            rows.iter().map(|row| money_columns(row.price)).unzip();
        let minutes = |of: fn(&Measure) -> u16| -> Vec<i32> {
            rows.iter().map(|row| of(&row.measure).into()).collect()
        };
        let names: Vec<Option<&str>> =
            rows.iter().map(|row| row.name.as_ref().map(ServiceName::as_str)).collect();
        let descriptions: Vec<Option<&str>> =
            rows.iter().map(|row| row.description.as_ref().map(Description::as_str)).collect();
        let weekly: Vec<Option<String>> = rows
            .iter()
            .map(|row| {
                row.weekly
                    .as_ref()
                    .map(|weekly| serde_json::to_string(weekly).expect("windows are plain JSON"))
            })
            .collect();
        let done = sqlx::query(
            "INSERT INTO services AS t (id, partition, position, version, provider_id, name,
                 description, duration_minutes, interval_minutes, buffer_before_minutes,
                 buffer_after_minutes, capacity, price_minor, price_currency, category_id, is_active, sort_order,
                 removed, created_at, updated_at, weekly)
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::uuid[],
                 $6::text[], $7::text[], $8::integer[], $9::integer[], $10::integer[],
                 $11::integer[], $12::integer[], $13::bigint[], $14::text[], $15::uuid[],
                 $16::boolean[], $17::integer[], $18::boolean[], $19::timestamptz[],
                 $20::timestamptz[], $21::text[])
             ON CONFLICT (id) DO UPDATE SET
                 partition = excluded.partition, position = excluded.position,
                 version = excluded.version, provider_id = excluded.provider_id,
                 name = excluded.name, description = excluded.description,
                 duration_minutes = excluded.duration_minutes,
                 interval_minutes = excluded.interval_minutes,
                 buffer_before_minutes = excluded.buffer_before_minutes,
                 buffer_after_minutes = excluded.buffer_after_minutes,
                 capacity = excluded.capacity, price_minor = excluded.price_minor,
                 price_currency = excluded.price_currency, category_id = excluded.category_id,
                 is_active = excluded.is_active, sort_order = excluded.sort_order,
                 removed = excluded.removed,
                 created_at = excluded.created_at, updated_at = excluded.updated_at,
                 weekly = excluded.weekly
             WHERE t.position < excluded.position",
        )
        .bind(rows.iter().map(|row| row.measure.service.uuid()).collect::<Vec<_>>())
        .bind(stamps.partitions)
        .bind(stamps.positions)
        .bind(stamps.versions)
        .bind(rows.iter().map(|row| row.provider.uuid()).collect::<Vec<_>>())
        .bind(names)
        .bind(descriptions)
        .bind(minutes(|measure| measure.duration_minutes))
        .bind(minutes(|measure| measure.interval_minutes))
        .bind(minutes(|measure| measure.buffer_before_minutes))
        .bind(minutes(|measure| measure.buffer_after_minutes))
        .bind(minutes(|measure| measure.capacity))
        .bind(prices)
        .bind(currencies)
        .bind(rows.iter().map(|row| row.category.map(Id::uuid)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.is_active).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| i32::from(row.sort_order)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.removed).collect::<Vec<_>>())
        .bind(stamps.created_at)
        .bind(stamps.updated_at)
        .bind(weekly)
        .execute(connection)
        .await
        .map_err(database(TABLE))?;
        Ok(done.rows_affected())
    }
}

/// Empties what the services of shops that are closed for good said, in the projector's transaction: their owners were
/// erased.
pub async fn forget_of(
    connection: &mut PgConnection,
    closed: &[ProviderId],
) -> Result<(), TableError> {
    if closed.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE services SET name = NULL, description = NULL, removed = true WHERE provider_id = ANY($1)",
    )
    .bind(closed.iter().map(|id| id.uuid()).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(database(TABLE))?;
    Ok(())
}

/// What a provider offers, in its order; what it does not offer at present too, if its owner asks.
pub async fn of_provider(
    pool: &PgPool,
    provider: ProviderId,
    inactive_too: bool,
) -> Result<Vec<ServiceRow>, TableError> {
    let rows = sqlx::query_as(select!(
        "WHERE provider_id = $1 AND NOT removed AND name IS NOT NULL AND (is_active OR $3) \
         ORDER BY sort_order, created_at, id LIMIT $2"
    ))
    .bind(provider.uuid())
    .bind(i64::try_from(Provider::MAX_SERVICES).unwrap_or(i64::MAX))
    .bind(inactive_too)
    .fetch_all(pool)
    .await;
    read(rows.map_err(database(TABLE))?)
}

/// The service with this id, unless it was removed.
pub async fn by_id(pool: &PgPool, id: ServiceId) -> Result<Option<ServiceRow>, TableError> {
    let row = sqlx::query_as(select!("WHERE id = $1 AND NOT removed"))
        .bind(id.uuid())
        .fetch_optional(pool)
        .await;
    row.map_err(database(TABLE))?.map(|raw: Raw| raw.try_into()).transpose()
}

#[derive(sqlx::FromRow)]
struct Raw {
    id: Uuid,
    provider_id: Uuid,
    name: Option<String>,
    description: Option<String>,
    duration_minutes: i32,
    interval_minutes: i32,
    buffer_before_minutes: i32,
    buffer_after_minutes: i32,
    capacity: i32,
    weekly: Option<String>,
    price_minor: Option<i64>,
    price_currency: Option<String>,
    category_id: Option<Uuid>,
    is_active: bool,
    sort_order: i32,
    removed: bool,
    #[sqlx(flatten)]
    stamp: RawStamp,
}

fn read(rows: Vec<Raw>) -> Result<Vec<ServiceRow>, TableError> {
    rows.into_iter().map(ServiceRow::try_from).collect()
}

impl TryFrom<Raw> for ServiceRow {
    type Error = TableError;
    fn try_from(raw: Raw) -> Result<Self, TableError> {
        let Raw {
            id,
            provider_id,
            name,
            description,
            duration_minutes,
            interval_minutes,
            buffer_before_minutes,
            buffer_after_minutes,
            capacity,
            weekly,
            price_minor,
            price_currency,
            category_id,
            is_active,
            sort_order,
            removed,
            stamp,
        } = raw;
        let columns = Columns(TABLE);
        let measure = Measure {
            service: columns.id("id", id)?,
            duration_minutes: columns.number("duration_minutes", duration_minutes)?,
            interval_minutes: columns.number("interval_minutes", interval_minutes)?,
            buffer_before_minutes: columns
                .number("buffer_before_minutes", buffer_before_minutes)?,
            buffer_after_minutes: columns.number("buffer_after_minutes", buffer_after_minutes)?,
            capacity: columns.number("capacity", capacity)?,
        };
        Ok(Self {
            provider: columns.id("provider_id", provider_id)?,
            name: columns.optional("name", name)?,
            description: columns.optional("description", description)?,
            measure,
            weekly: weekly.map(|json| columns.json("weekly", &json)).transpose()?,
            price: columns.money("price_minor", price_minor, price_currency)?,
            category: category_id.map(|id| columns.id("category_id", id)).transpose()?,
            is_active,
            sort_order: columns.number("sort_order", sort_order)?,
            removed,
            stamp: columns.stamp(stamp)?,
        })
    }
}
