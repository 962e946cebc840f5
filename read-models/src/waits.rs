//! Waits: who stands in which provider's line, since when, and what became of it. `WaitlistJoined` begins a row, later events
//! change its status. The line itself is the log's; here it is counted for those who ask.

use domain::Instant;
use domain::ids::{AccountId, HoldId, Id, ProviderId, ServiceId, WaitId};
use domain::slots::Span;
use domain::waitlist::{Ending, Offer, Wait, WaitlistEvent};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::paging::{self, Page, PageLimit};
use crate::table::{
    Columns, RawStamp, RowStamp, StampColumns, Table, TableError, Writes, bigint, database,
    page_database,
};

const TABLE: &str = "waits";

/// The table.
pub struct Waits;

/// The changes of a batch.
pub type WaitWrites = Writes<Waits>;

/// Where a wait stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitStatus {
    /// In line.
    Waiting,
    /// In line, with an offer.
    Offered,
    /// They booked what they were offered.
    Taken,
    /// They let go of what they were offered.
    Declined,
    /// They did not take it in time.
    Lapsed,
    /// They left before they were offered anything.
    Left,
    /// The time they waited for is over.
    Passed,
    /// They, or the service, are there no more.
    Gone,
}

impl WaitStatus {
    /// As stored and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Offered => "offered",
            Self::Taken => Ending::Taken.as_str(),
            Self::Declined => Ending::Declined.as_str(),
            Self::Lapsed => Ending::Lapsed.as_str(),
            Self::Left => Ending::Left.as_str(),
            Self::Passed => Ending::Passed.as_str(),
            Self::Gone => Ending::Gone.as_str(),
        }
    }
}

impl From<Ending> for WaitStatus {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Taken => Self::Taken,
            Ending::Declined => Self::Declined,
            Ending::Lapsed => Self::Lapsed,
            Ending::Left => Self::Left,
            Ending::Passed => Self::Passed,
            Ending::Gone => Self::Gone,
        }
    }
}

/// A place in line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitRow {
    /// At which provider.
    pub provider: ProviderId,
    /// For what.
    pub wait: Wait,
    /// Where it stands.
    pub status: WaitStatus,
    /// The number of the event that began it.
    pub joined: u64,
    /// What is, or was, offered.
    pub offer: Option<Offer>,
    /// The events behind it; the version is the line's.
    pub stamp: RowStamp,
}

impl WaitRow {
    /// As it is at an instant: what nobody waits for any more has passed before anybody has said so.
    pub fn status_at(&self, now: Instant) -> WaitStatus {
        if self.status == WaitStatus::Waiting && self.wait.to <= now {
            WaitStatus::Passed
        } else {
            self.status
        }
    }
}

/// What an event does to a place in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitChange {
    /// Somebody stands in line.
    Joined(ProviderId, Wait),
    /// They are offered something.
    Offered(Offer),
    /// They are in line no more.
    Ended(Ending),
}

impl From<&WaitlistEvent> for WaitChange {
    fn from(event: &WaitlistEvent) -> Self {
        match event {
            WaitlistEvent::WaitlistJoined { provider, wait } => Self::Joined(*provider, *wait),
            WaitlistEvent::SlotOffered {
                provider: _,
                provider_account: _,
                zone: _,
                wait: _,
                offer,
            } => Self::Offered(*offer),
            WaitlistEvent::WaitEnded { provider: _, wait: _, ending } => Self::Ended(*ending),
        }
    }
}

impl Table for Waits {
    const NAME: &'static str = TABLE;
    type Id = WaitId;
    type Row = WaitRow;
    type Change = WaitChange;

    fn stamp(row: &mut WaitRow) -> &mut RowStamp {
        &mut row.stamp
    }

    fn begins(change: &WaitChange) -> bool {
        matches!(change, WaitChange::Joined(..))
    }

    fn begin(_: WaitId, stamp: RowStamp, change: WaitChange) -> Option<WaitRow> {
        let WaitChange::Joined(provider, wait) = change else { return None };
        let joined = stamp.at.number;
        let (status, offer) = (WaitStatus::Waiting, None);
        Some(WaitRow { provider, wait, status, joined, offer, stamp })
    }

    fn change(row: &mut WaitRow, change: WaitChange) {
        match change {
            WaitChange::Joined(provider, wait) => {
                (row.provider, row.wait) = (provider, wait);
                (row.status, row.offer) = (WaitStatus::Waiting, None);
            }
            WaitChange::Offered(offer) => {
                (row.status, row.offer) = (WaitStatus::Offered, Some(offer));
            }
            WaitChange::Ended(ending) => row.status = ending.into(),
        }
    }

    async fn load(
        connection: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<Vec<(WaitId, WaitRow)>, TableError> {
        let rows: Vec<Raw> =
            sqlx::query_as("SELECT *, NULL::bigint AS place FROM waits WHERE id = ANY($1)")
                .bind(ids)
                .fetch_all(connection)
                .await
                .map_err(database(TABLE))?;
        let rows = rows.into_iter().map(WaitRow::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(rows.into_iter().map(|row| (row.wait.id, row)).collect())
    }

    async fn upsert(connection: &mut PgConnection, rows: &[WaitRow]) -> Result<u64, TableError> {
        let mut stamps = StampColumns::default();
        rows.iter().for_each(|row| stamps.push(&row.stamp));
        let ids = |of: fn(&WaitRow) -> Uuid| rows.iter().map(of).collect::<Vec<_>>();
        let at = |of: fn(&WaitRow) -> Instant| rows.iter().map(of).collect::<Vec<_>>();
        let offer = |of: fn(&Offer) -> Instant| {
            rows.iter().map(|row| row.offer.as_ref().map(of)).collect::<Vec<_>>()
        };
        let holds: Vec<_> =
            rows.iter().map(|row| row.offer.map(|offer| offer.hold.uuid())).collect();
        let done = sqlx::query(
            "INSERT INTO waits AS t (id, partition, position, version, provider_id, account_id,
                 service_id, from_at, to_at, status, joined, hold_id, offer_start, offer_end,
                 offered_until, created_at, updated_at)
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::uuid[],
                 $6::uuid[], $7::uuid[], $8::timestamptz[], $9::timestamptz[], $10::text[],
                 $11::bigint[], $12::uuid[], $13::timestamptz[], $14::timestamptz[],
                 $15::timestamptz[], $16::timestamptz[], $17::timestamptz[])
             ON CONFLICT (id) DO UPDATE SET
                 partition = excluded.partition, position = excluded.position,
                 version = excluded.version, provider_id = excluded.provider_id,
                 account_id = excluded.account_id, service_id = excluded.service_id,
                 from_at = excluded.from_at, to_at = excluded.to_at, status = excluded.status,
                 joined = excluded.joined, hold_id = excluded.hold_id,
                 offer_start = excluded.offer_start, offer_end = excluded.offer_end,
                 offered_until = excluded.offered_until, created_at = excluded.created_at,
                 updated_at = excluded.updated_at
             WHERE t.position < excluded.position",
        )
        .bind(ids(|row| row.wait.id.uuid()))
        .bind(stamps.partitions)
        .bind(stamps.positions)
        .bind(stamps.versions)
        .bind(ids(|row| row.provider.uuid()))
        .bind(ids(|row| row.wait.account.uuid()))
        .bind(ids(|row| row.wait.service.uuid()))
        .bind(at(|row| row.wait.from))
        .bind(at(|row| row.wait.to))
        .bind(rows.iter().map(|row| row.status.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| bigint(row.joined)).collect::<Vec<_>>())
        .bind(holds)
        .bind(offer(|offer| offer.slot.start))
        .bind(offer(|offer| offer.slot.end))
        .bind(offer(|offer| offer.expires_at))
        .bind(stamps.created_at)
        .bind(stamps.updated_at)
        .execute(connection)
        .await
        .map_err(database(TABLE))?;
        Ok(done.rows_affected())
    }
}

/// A place in line, and which it is as long as it stands: how many wait for some of the same, up to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The place.
    pub row: WaitRow,
    /// Which it is, from 1.
    pub place: Option<u64>,
}

/// An account's places in line, those that ended too, the latest first.
pub async fn of_account(
    pool: &PgPool,
    account: AccountId,
    now: Instant,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<Page<Placed>, TableError> {
    const LIST: &str = "waits";
    let after: Option<(Instant, WaitId)> = paging::decode(LIST, cursor)?;
    let rows: Vec<Raw> = sqlx::query_as(
        "SELECT w.*, CASE WHEN w.status IN ('waiting', 'offered') AND w.to_at > $3 THEN
             (SELECT count(*) FROM waits o
              WHERE o.provider_id = w.provider_id AND o.service_id = w.service_id
                AND o.status IN ('waiting', 'offered') AND o.joined <= w.joined AND o.to_at > $3
                AND o.from_at < w.to_at AND w.from_at < o.to_at) END AS place
         FROM waits w WHERE w.account_id = $1
           AND (w.created_at, w.id) < (COALESCE($4::timestamptz, 'infinity'), COALESCE($5::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
         ORDER BY w.created_at DESC, w.id DESC LIMIT $2",
    )
    .bind(account.uuid())
    .bind(limit.and_one())
    .bind(now)
    .bind(after.map(|(created, _)| created))
    .bind(after.map(|(_, id)| id.uuid()))
    .fetch_all(pool)
    .await
    .map_err(page_database(TABLE, cursor.is_some()))?;
    let columns = Columns(TABLE);
    let placed = |raw: Raw| {
        let place = raw.place.map(|place| columns.number("place", place)).transpose()?;
        Ok(Placed { place, row: raw.try_into()? })
    };
    let rows = rows.into_iter().map(placed).collect::<Result<Vec<_>, TableError>>()?;
    Ok(Page::cut(rows, limit, LIST, |placed| (placed.row.stamp.created_at, placed.row.wait.id)))
}

/// How many wait at a provider, by service.
pub async fn lengths(
    pool: &PgPool,
    provider: ProviderId,
    now: Instant,
) -> Result<Vec<(ServiceId, u64)>, TableError> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "SELECT service_id, count(*) FROM waits
         WHERE provider_id = $1 AND status IN ('waiting', 'offered') AND to_at > $2
         GROUP BY service_id ORDER BY service_id LIMIT 500",
    )
    .bind(provider.uuid())
    .bind(now)
    .fetch_all(pool)
    .await
    .map_err(database(TABLE))?;
    let columns = Columns(TABLE);
    rows.into_iter()
        .map(|(service, waiting)| {
            Ok((columns.id("service_id", service)?, columns.number("count", waiting)?))
        })
        .collect()
}

/// Where an account stands in line, to be taken out of it; some at a time.
pub async fn open_of(
    pool: &PgPool,
    account: AccountId,
    after: Option<WaitId>,
    limit: i64,
) -> Result<Vec<(ProviderId, WaitId)>, TableError> {
    let rows: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "SELECT provider_id, id FROM waits
         WHERE account_id = $1 AND status IN ('waiting', 'offered')
           AND id > COALESCE($3::uuid, '00000000-0000-0000-0000-000000000000')
         ORDER BY id LIMIT $2",
    )
    .bind(account.uuid())
    .bind(limit)
    .bind(after.map(WaitId::uuid))
    .fetch_all(pool)
    .await
    .map_err(database(TABLE))?;
    let columns = Columns(TABLE);
    rows.into_iter()
        .map(|(provider, id)| Ok((columns.id("provider_id", provider)?, columns.id("id", id)?)))
        .collect()
}

#[derive(sqlx::FromRow)]
struct Raw {
    id: Uuid,
    provider_id: Uuid,
    account_id: Uuid,
    service_id: Uuid,
    from_at: Instant,
    to_at: Instant,
    status: String,
    joined: i64,
    hold_id: Option<Uuid>,
    offer_start: Option<Instant>,
    offer_end: Option<Instant>,
    offered_until: Option<Instant>,
    place: Option<i64>,
    #[sqlx(flatten)]
    stamp: RawStamp,
}

impl TryFrom<Raw> for WaitRow {
    type Error = TableError;
    fn try_from(raw: Raw) -> Result<Self, TableError> {
        let Raw {
            id,
            provider_id,
            account_id,
            service_id,
            from_at,
            to_at,
            status,
            joined,
            hold_id,
            offer_start,
            offer_end,
            offered_until,
            place: _,
            stamp,
        } = raw;
        let columns = Columns(TABLE);
        let hold: Option<HoldId> = hold_id.map(|id| columns.id("hold_id", id)).transpose()?;
        let offer = match (hold, offer_start, offer_end, offered_until) {
            (Some(hold), Some(start), Some(end), Some(expires_at)) => {
                Some(Offer { hold, slot: Span { start, end }, expires_at })
            }
            _ => None,
        };
        Ok(Self {
            provider: columns.id("provider_id", provider_id)?,
            wait: Wait {
                id: columns.id("id", id)?,
                account: columns.id("account_id", account_id)?,
                service: columns.id("service_id", service_id)?,
                from: from_at,
                to: to_at,
            },
            status: columns.text("status", status)?,
            joined: columns.number("joined", joined)?,
            offer,
            stamp: columns.stamp(stamp)?,
        })
    }
}
