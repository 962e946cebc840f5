//! The notification feed in Postgres: data and checkpoint in one transaction of its own.

use async_trait::async_trait;
use domain::Instant;
use domain::hours::Zone;
use domain::ids::{AccountId, Id, ProviderId, SubjectId};
use domain::position::{Partition, PartitionCount, Position, PositionToken};
use domain::text::ServiceName;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{
    Counts, FeedBatch, FeedError, FeedKey, Filter, Folded, NewNotification, Notification,
    NotificationFeed, NotificationKind, PartyName,
};
use crate::paging::{self, InvalidCursor, Page, PageLimit};
use crate::table::bigint;

const LIST: &str = "notifications";

/// Whether a notification is read, by its own mark or its account's.
macro_rules! read {
    () => {
        "(n.read_at IS NOT NULL OR n.recorded_at <= f.all_read_until) IS TRUE"
    };
}

/// A notification's columns and whether it is read. A row without a kind is a mere mark.
macro_rules! select {
    ($read:expr, $rest:literal) => {
        concat!(
            "SELECT n.partition, n.number, n.kind, n.appointment_id, n.provider_id, n.other_id, \
             n.other_name, n.service_name, n.starts_at, n.old_starts_at, n.zone, n.recorded_at, \
             n.hold_id, ",
            $read,
            " AS read ",
            $rest
        )
    };
}

/// The feed in Postgres.
#[derive(Debug, Clone)]
pub struct PostgresFeed {
    pool: PgPool,
    /// What batches are applied with.
    writes: PgPool,
    partitions: PartitionCount,
}

impl PostgresFeed {
    /// In this database, whose migrations have run.
    pub fn new(pool: PgPool, partitions: PartitionCount) -> Self {
        Self { writes: pool.clone(), pool, partitions }
    }

    /// Applies batches with connections of this pool.
    #[must_use]
    pub fn writing_with(mut self, pool: PgPool) -> Self {
        self.writes = pool;
        self
    }
}

#[async_trait]
impl NotificationFeed for PostgresFeed {
    async fn apply(&self, batch: FeedBatch) -> Result<(), FeedError> {
        let Folded { documents, all_read } = batch.fold();
        // Whoever loses what a crash of Postgres takes away applies it again: the checkpoint goes with it.
        let begin = "BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '1s'";
        let mut transaction = self.writes.begin_with(begin).await.map_err(unavailable)?;
        // Locks the checkpoint first, so that two projectors of one partition take turns.
        let applied = lock_checkpoint(&mut transaction, batch.partition).await?;
        if batch.from > applied {
            return Err(FeedError::Gap { partition: batch.partition, applied });
        }
        let mut columns = Columns::default();
        for ((recipient, at), entry) in &documents {
            columns.push(*recipient, *at, entry.content, entry.read_at);
        }
        if !documents.is_empty() {
            columns.upsert(&mut transaction).await.map_err(unavailable)?;
        }
        if !all_read.is_empty() {
            sqlx::query(
                "INSERT INTO notification_feeds AS t (recipient_id, all_read_until)
                 SELECT * FROM unnest($1::uuid[], $2::timestamptz[])
                 ON CONFLICT (recipient_id) DO UPDATE SET all_read_until = excluded.all_read_until
                 WHERE t.all_read_until < excluded.all_read_until",
            )
            .bind(all_read.keys().map(|account| account.uuid()).collect::<Vec<_>>())
            .bind(all_read.values().copied().collect::<Vec<_>>())
            .execute(&mut *transaction)
            .await
            .map_err(unavailable)?;
        }
        if batch.to > applied {
            sqlx::query("UPDATE notification_checkpoints SET position = $2 WHERE partition = $1")
                .bind(i32::from(batch.partition.0))
                .bind(bigint(batch.to))
                .execute(&mut *transaction)
                .await
                .map_err(unavailable)?;
        }
        transaction.commit().await.map_err(unavailable)
    }

    async fn applied(&self, partition: Partition) -> Result<u64, FeedError> {
        let applied: Option<i64> = sqlx::query_scalar(
            "SELECT position FROM notification_checkpoints WHERE partition = $1",
        )
        .bind(i32::from(partition.0))
        .fetch_optional(&self.pool)
        .await
        .map_err(unavailable)?;
        number(applied.unwrap_or_default(), "position")
    }

    async fn applied_all(&self) -> Result<PositionToken, FeedError> {
        let rows: Vec<(i32, i64)> =
            sqlx::query_as("SELECT partition, position FROM notification_checkpoints")
                .fetch_all(&self.pool)
                .await
                .map_err(unavailable)?;
        rows.into_iter().map(|(partition, number)| position(partition, number)).collect()
    }

    async fn list(
        &self,
        recipient: AccountId,
        filter: Filter,
        cursor: Option<&str>,
        limit: PageLimit,
    ) -> Result<Page<Notification>, FeedError> {
        let before: Option<FeedKey> = paging::decode(LIST, cursor)?;
        let sql = match filter {
            Filter::All => select!(
                read!(),
                "FROM notifications n LEFT JOIN notification_feeds f USING (recipient_id)
                 WHERE n.recipient_id = $1 AND n.kind IS NOT NULL
                 AND (n.recorded_at, n.partition, n.number) < (COALESCE($3::timestamptz, 'infinity'),
                     COALESCE($4::integer, 0), COALESCE($5::bigint, 0))
                 ORDER BY n.recorded_at DESC, n.partition DESC, n.number DESC LIMIT $2"
            ),
            // The account's mark is looked up first, so that what it covers is not even read.
            Filter::Unread => select!(
                "false",
                "FROM notifications n
                 WHERE n.recipient_id = $1 AND n.kind IS NOT NULL AND n.read_at IS NULL
                 AND n.recorded_at > COALESCE((SELECT all_read_until FROM notification_feeds
                     WHERE recipient_id = $1), '-infinity')
                 AND (n.recorded_at, n.partition, n.number) < (COALESCE($3::timestamptz, 'infinity'),
                     COALESCE($4::integer, 0), COALESCE($5::bigint, 0))
                 ORDER BY n.recorded_at DESC, n.partition DESC, n.number DESC LIMIT $2"
            ),
        };
        let rows: Vec<Raw> = sqlx::query_as(sql)
            .bind(recipient.uuid())
            .bind(limit.and_one())
            .bind(before.map(|(recorded_at, _, _)| recorded_at))
            .bind(before.map(|(_, partition, _)| i32::from(partition.0)))
            .bind(before.map(|(_, _, number)| bigint(number)))
            .fetch_all(&self.pool)
            .await
            .map_err(|error| {
                if paging::is_the_cursors_fault(&error, cursor.is_some()) {
                    FeedError::Cursor(InvalidCursor)
                } else {
                    unavailable(error)
                }
            })?;
        Ok(Page::cut(read(recipient, rows)?, limit, LIST, |item| item.content.key()))
    }

    async fn after(
        &self,
        recipient: AccountId,
        seen: &PositionToken,
        limit: PageLimit,
    ) -> Result<Vec<Notification>, FeedError> {
        let (partitions, numbers): (Vec<i32>, Vec<i64>) = self
            .partitions
            .all()
            .map(|partition| (i32::from(partition.0), bigint(seen.number(partition))))
            .unzip();
        let rows: Vec<Raw> = sqlx::query_as(select!(
            read!(),
            "FROM unnest($2::integer[], $3::bigint[]) AS seen (partition, number)
             CROSS JOIN LATERAL (
                 SELECT * FROM notifications
                 WHERE recipient_id = $1 AND partition = seen.partition AND number > seen.number
                     AND kind IS NOT NULL
                 ORDER BY number LIMIT $4
             ) AS n
             LEFT JOIN notification_feeds f ON f.recipient_id = n.recipient_id
             ORDER BY n.recorded_at, n.partition, n.number LIMIT $4"
        ))
        .bind(recipient.uuid())
        .bind(partitions)
        .bind(numbers)
        .bind(i64::from(limit.get()))
        .fetch_all(&self.pool)
        .await
        .map_err(unavailable)?;
        read(recipient, rows)
    }

    async fn counts(&self, recipient: AccountId) -> Result<Counts, FeedError> {
        let (unread, total): (i64, i64) = sqlx::query_as(
            "SELECT
                 (SELECT count(*) FROM (
                     SELECT FROM notifications n
                     WHERE n.recipient_id = $1 AND n.kind IS NOT NULL AND n.read_at IS NULL
                         AND n.recorded_at > COALESCE((SELECT all_read_until FROM notification_feeds
                             WHERE recipient_id = $1), '-infinity')
                     LIMIT $2) AS u),
                 (SELECT count(*) FROM (
                     SELECT FROM notifications n WHERE n.recipient_id = $1 AND n.kind IS NOT NULL
                     LIMIT $2) AS t)",
        )
        .bind(recipient.uuid())
        .bind(bigint(Counts::MOST))
        .fetch_one(&self.pool)
        .await
        .map_err(unavailable)?;
        Ok(Counts { unread: number(unread, "unread")?, total: number(total, "total")? })
    }

    async fn purge(&self, person: SubjectId, shops: &[ProviderId]) -> Result<(), FeedError> {
        let mut transaction = self.pool.begin().await.map_err(unavailable)?;
        sqlx::query(
            "UPDATE notifications SET other_name = NULL,
                 service_name = CASE WHEN provider_id = ANY ($2) THEN NULL ELSE service_name END
             WHERE other_id = $1 AND other_name IS NOT NULL",
        )
        .bind(person.uuid())
        .bind(shops.iter().map(|shop| shop.uuid()).collect::<Vec<_>>())
        .execute(&mut *transaction)
        .await
        .map_err(unavailable)?;
        for sql in [
            "DELETE FROM notifications WHERE recipient_id = $1",
            "DELETE FROM notification_feeds WHERE recipient_id = $1",
        ] {
            sqlx::query(sql)
                .bind(person.uuid())
                .execute(&mut *transaction)
                .await
                .map_err(unavailable)?;
        }
        transaction.commit().await.map_err(unavailable)
    }
}

/// How far a partition is applied, with a lock until the transaction ends.
async fn lock_checkpoint(
    connection: &mut PgConnection,
    partition: Partition,
) -> Result<u64, FeedError> {
    const LOCK: &str =
        "SELECT position FROM notification_checkpoints WHERE partition = $1 FOR UPDATE";
    let id = i32::from(partition.0);
    let there: Option<i64> = sqlx::query_scalar(LOCK)
        .bind(id)
        .fetch_optional(&mut *connection)
        .await
        .map_err(unavailable)?;
    if let Some(applied) = there {
        return number(applied, "position");
    }
    sqlx::query("INSERT INTO notification_checkpoints VALUES ($1, 0) ON CONFLICT DO NOTHING")
        .bind(id)
        .execute(&mut *connection)
        .await
        .map_err(unavailable)?;
    let applied: i64 =
        sqlx::query_scalar(LOCK).bind(id).fetch_one(connection).await.map_err(unavailable)?;
    number(applied, "position")
}

/// Documents as arrays for UNNEST.
#[derive(Default)]
struct Columns {
    recipients: Vec<Uuid>,
    partitions: Vec<i32>,
    numbers: Vec<i64>,
    kinds: Vec<Option<&'static str>>,
    appointments: Vec<Option<Uuid>>,
    holds: Vec<Option<Uuid>>,
    providers: Vec<Option<Uuid>>,
    others: Vec<Option<Uuid>>,
    other_names: Vec<Option<String>>,
    service_names: Vec<Option<String>>,
    starts: Vec<Option<Instant>>,
    old_starts: Vec<Option<Instant>>,
    zones: Vec<Option<&'static str>>,
    recorded: Vec<Option<Instant>>,
    read: Vec<Option<Instant>>,
}

impl Columns {
    fn push(
        &mut self,
        recipient: AccountId,
        at: Position,
        content: Option<&NewNotification>,
        read_at: Option<Instant>,
    ) {
        self.recipients.push(recipient.uuid());
        self.partitions.push(at.partition.0.into());
        self.numbers.push(bigint(at.number));
        self.kinds.push(content.map(|new| new.kind.as_str()));
        self.appointments.push(content.and_then(|new| new.appointment).map(Id::uuid));
        self.holds.push(content.and_then(|new| new.hold).map(Id::uuid));
        self.providers.push(content.map(|new| new.provider.uuid()));
        self.others.push(content.map(|new| new.other.uuid()));
        self.other_names.push(
            content.and_then(|new| new.other_name.as_ref()).map(|name| name.as_str().to_owned()),
        );
        self.service_names.push(
            content.and_then(|new| new.service_name.as_ref()).map(|name| name.as_str().to_owned()),
        );
        self.starts.push(content.map(|new| new.start));
        self.old_starts.push(content.and_then(|new| new.old_start));
        self.zones.push(content.map(|new| new.zone.name()));
        self.recorded.push(content.map(|new| new.recorded_at));
        self.read.push(read_at);
    }

    /// Adds content to a mere mark and a mark to what is there; what is complete stays untouched.
    async fn upsert(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO notifications AS t (recipient_id, partition, number, kind, appointment_id,
                 provider_id, other_id, other_name, service_name, starts_at, old_starts_at, zone,
                 recorded_at, read_at, hold_id)
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::text[], $5::uuid[],
                 $6::uuid[], $7::uuid[], $8::text[], $9::text[], $10::timestamptz[],
                 $11::timestamptz[], $12::text[], $13::timestamptz[], $14::timestamptz[],
                 $15::uuid[])
             ON CONFLICT (recipient_id, partition, number) DO UPDATE SET
                 kind = COALESCE(t.kind, excluded.kind),
                 appointment_id = COALESCE(t.appointment_id, excluded.appointment_id),
                 provider_id = COALESCE(t.provider_id, excluded.provider_id),
                 other_id = COALESCE(t.other_id, excluded.other_id),
                 -- Names that were purged do not come back.
                 other_name = CASE WHEN t.kind IS NULL THEN excluded.other_name ELSE t.other_name END,
                 service_name = CASE WHEN t.kind IS NULL THEN excluded.service_name ELSE t.service_name END,
                 starts_at = COALESCE(t.starts_at, excluded.starts_at),
                 old_starts_at = COALESCE(t.old_starts_at, excluded.old_starts_at),
                 zone = COALESCE(t.zone, excluded.zone),
                 recorded_at = COALESCE(t.recorded_at, excluded.recorded_at),
                 hold_id = COALESCE(t.hold_id, excluded.hold_id),
                 read_at = LEAST(t.read_at, excluded.read_at)
             WHERE (t.kind IS NULL AND excluded.kind IS NOT NULL)
                 OR (t.read_at IS NULL AND excluded.read_at IS NOT NULL)
                 OR t.read_at > excluded.read_at",
        )
        .bind(self.recipients)
        .bind(self.partitions)
        .bind(self.numbers)
        .bind(self.kinds)
        .bind(self.appointments)
        .bind(self.providers)
        .bind(self.others)
        .bind(self.other_names)
        .bind(self.service_names)
        .bind(self.starts)
        .bind(self.old_starts)
        .bind(self.zones)
        .bind(self.recorded)
        .bind(self.read)
        .bind(self.holds)
        .execute(connection)
        .await
        .map(drop)
    }
}

#[derive(sqlx::FromRow)]
struct Raw {
    partition: i32,
    number: i64,
    kind: String,
    appointment_id: Option<Uuid>,
    hold_id: Option<Uuid>,
    provider_id: Uuid,
    other_id: Uuid,
    other_name: Option<String>,
    service_name: Option<String>,
    starts_at: Instant,
    old_starts_at: Option<Instant>,
    zone: String,
    recorded_at: Instant,
    read: bool,
}

fn read(recipient: AccountId, rows: Vec<Raw>) -> Result<Vec<Notification>, FeedError> {
    rows.into_iter()
        .map(|raw| {
            let Raw {
                partition,
                number,
                kind,
                appointment_id,
                hold_id,
                provider_id,
                other_id,
                other_name,
                service_name,
                starts_at,
                old_starts_at,
                zone,
                recorded_at,
                read,
            } = raw;
            let content = NewNotification {
                recipient,
                at: position(partition, number)?,
                recorded_at,
                kind: NotificationKind::parse(&kind)?,
                appointment: appointment_id.map(|of| id("appointment_id", of)).transpose()?,
                hold: hold_id.map(|of| id("hold_id", of)).transpose()?,
                provider: id("provider_id", provider_id)?,
                other: id("other_id", other_id)?,
                other_name: other_name.map(PartyName),
                service_name: service_name
                    .map(|name| name.parse::<ServiceName>())
                    .transpose()
                    .map_err(|_| FeedError::Corrupt { field: "service_name" })?,
                start: starts_at,
                old_start: old_starts_at,
                zone: zone.parse::<Zone>().map_err(|_| FeedError::Corrupt { field: "zone" })?,
            };
            Ok(Notification { content, read })
        })
        .collect()
}

fn id<I: TryFrom<Uuid>>(field: &'static str, id: Uuid) -> Result<I, FeedError> {
    id.try_into().map_err(|_| FeedError::Corrupt { field })
}

fn number(number: i64, field: &'static str) -> Result<u64, FeedError> {
    number.try_into().map_err(|_| FeedError::Corrupt { field })
}

fn position(partition: i32, of: i64) -> Result<Position, FeedError> {
    let partition = partition.try_into().map_err(|_| FeedError::Corrupt { field: "partition" })?;
    Ok(Position { partition: Partition(partition), number: number(of, "number")? })
}

fn unavailable(error: sqlx::Error) -> FeedError {
    FeedError::Unavailable(Box::new(error))
}
