//! Sessions as their owners see them: where one is signed in. `SessionStarted` begins a row, `SessionEnded` ends
//! it. A session also is over when its time is up, or when its account's credential generation has moved on; both
//! are asked when it is read ([`of_account`]), so that one event of an account ends them all. Accounts and their
//! sessions share a slot, hence a partition and a checkpoint: a row never is ahead of its account's.

use domain::Instant;
use domain::account::Status;
use domain::ids::{AccountId, Id, SessionId};
use domain::session::EndReason;
use domain::text::{IpText, UserAgent};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::paging::{self, Page, PageLimit};
use crate::table::{
    Columns, RawStamp, RowStamp, StampColumns, Table, TableError, Writes, database,
};

const TABLE: &str = "sessions";
const LIST: &str = "sessions";

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT s.id, s.partition, s.position, s.version, s.account_id, s.generation, \
             s.expires_at, s.ended_at, s.end_reason, s.ip, s.user_agent, s.created_at, s.updated_at \
             FROM sessions s ",
            $rest
        )
    };
}

/// The table.
pub struct Sessions;

/// The changes of a batch.
pub type SessionWrites = Writes<Sessions>;

/// A session. It began when its stamp was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub account: AccountId,
    /// The account's credential generation when it began.
    pub generation: u32,
    /// When it ends at the latest.
    pub expires_at: Instant,
    /// When it was ended, if it was.
    pub ended_at: Option<Instant>,
    /// Why.
    pub end_reason: Option<EndReason>,
    /// From which address; `None` if unknown or erased.
    pub ip: Option<IpText>,
    /// With what; `None` if unknown or erased.
    pub user_agent: Option<UserAgent>,
    /// The events behind it.
    pub stamp: RowStamp,
}

impl SessionRow {
    /// When it began.
    pub const fn started_at(&self) -> Instant {
        self.stamp.created_at
    }
}

/// What an event does to a session's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChange {
    /// Somebody signed in.
    Started {
        /// Whose it is.
        account: AccountId,
        /// The account's credential generation.
        generation: u32,
        /// When it ends at the latest.
        expires_at: Instant,
        /// From which address.
        ip: Option<IpText>,
        /// With what.
        user_agent: Option<UserAgent>,
    },
    /// It is over.
    Ended {
        /// Since when.
        at: Instant,
        /// Why.
        reason: EndReason,
    },
}

impl Table for Sessions {
    const NAME: &'static str = TABLE;
    type Id = SessionId;
    type Row = SessionRow;
    type Change = SessionChange;

    fn stamp(row: &mut SessionRow) -> &mut RowStamp {
        &mut row.stamp
    }

    fn begins(change: &SessionChange) -> bool {
        matches!(change, SessionChange::Started { .. })
    }

    fn begin(id: SessionId, stamp: RowStamp, change: SessionChange) -> Option<SessionRow> {
        match change {
            SessionChange::Started { account, generation, expires_at, ip, user_agent } => {
                Some(SessionRow {
                    id,
                    account,
                    generation,
                    expires_at,
                    ended_at: None,
                    end_reason: None,
                    ip,
                    user_agent,
                    stamp,
                })
            }
            SessionChange::Ended { .. } => None,
        }
    }

    fn change(row: &mut SessionRow, change: SessionChange) {
        match change {
            started @ SessionChange::Started { .. } => {
                if let Some(begun) = Self::begin(row.id, row.stamp, started) {
                    *row = begun;
                }
            }
            SessionChange::Ended { at, reason } => {
                row.ended_at = Some(at);
                row.end_reason = Some(reason);
            }
        }
    }

    async fn load(
        connection: &mut PgConnection,
        ids: &[Uuid],
    ) -> Result<Vec<(SessionId, SessionRow)>, TableError> {
        let rows: Vec<Raw> = sqlx::query_as(select!("WHERE s.id = ANY($1)"))
            .bind(ids)
            .fetch_all(connection)
            .await
            .map_err(database(TABLE))?;
        rows.into_iter().map(|raw| SessionRow::try_from(raw).map(|row| (row.id, row))).collect()
    }

    async fn upsert(connection: &mut PgConnection, rows: &[SessionRow]) -> Result<u64, TableError> {
        let mut stamps = StampColumns::default();
        rows.iter().for_each(|row| stamps.push(&row.stamp));
        let text = |column: fn(&SessionRow) -> Option<&str>| {
            rows.iter().map(column).collect::<Vec<Option<&str>>>()
        };
        let done = sqlx::query(
            "INSERT INTO sessions AS t (id, partition, position, version, account_id, generation,
                 expires_at, ended_at, end_reason, ip, user_agent, created_at, updated_at)
             SELECT * FROM unnest($1::uuid[], $2::integer[], $3::bigint[], $4::bigint[], $5::uuid[],
                 $6::bigint[], $7::timestamptz[], $8::timestamptz[], $9::text[], $10::text[],
                 $11::text[], $12::timestamptz[], $13::timestamptz[])
             ON CONFLICT (id) DO UPDATE SET
                 partition = excluded.partition, position = excluded.position,
                 version = excluded.version, account_id = excluded.account_id,
                 generation = excluded.generation, expires_at = excluded.expires_at,
                 ended_at = excluded.ended_at, end_reason = excluded.end_reason, ip = excluded.ip,
                 user_agent = excluded.user_agent, created_at = excluded.created_at,
                 updated_at = excluded.updated_at
             WHERE t.position < excluded.position",
        )
        .bind(rows.iter().map(|row| row.id.uuid()).collect::<Vec<_>>())
        .bind(stamps.partitions)
        .bind(stamps.positions)
        .bind(stamps.versions)
        .bind(rows.iter().map(|row| row.account.uuid()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| i64::from(row.generation)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.expires_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.ended_at).collect::<Vec<_>>())
        .bind(text(|row| row.end_reason.map(EndReason::as_str)))
        .bind(text(|row| row.ip.as_ref().map(IpText::as_str)))
        .bind(text(|row| row.user_agent.as_ref().map(UserAgent::as_str)))
        .bind(stamps.created_at)
        .bind(stamps.updated_at)
        .execute(connection)
        .await
        .map_err(database(TABLE))?;
        Ok(done.rows_affected())
    }
}

/// Empties what was personal in the sessions of people who were erased, in the projector's transaction. A rebuild
/// reads it as erased from the log.
pub async fn forget_whose(
    connection: &mut PgConnection,
    erased: &[AccountId],
) -> Result<(), TableError> {
    if erased.is_empty() {
        return Ok(());
    }
    sqlx::query("UPDATE sessions SET ip = NULL, user_agent = NULL WHERE account_id = ANY($1)")
        .bind(erased.iter().map(|id| id.uuid()).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(database(TABLE))?;
    Ok(())
}

/// All of an account's sessions, over or not, the newest first.
pub async fn all_of_account(
    pool: &PgPool,
    account: AccountId,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<Page<SessionRow>, TableError> {
    const ALL: &str = "sessions.all";
    let after: Option<(Instant, SessionId)> = paging::decode(ALL, cursor)?;
    let (at, id) = after.unzip();
    let rows: Vec<Raw> = sqlx::query_as(select!(
        "WHERE s.account_id = $2 \
           AND ($3::timestamptz IS NULL OR (s.created_at, s.id) < ($3, $4)) \
         ORDER BY s.created_at DESC, s.id DESC LIMIT $1"
    ))
    .bind(limit.and_one())
    .bind(account.uuid())
    .bind(at)
    .bind(id.map(SessionId::uuid))
    .fetch_all(pool)
    .await
    .map_err(database(TABLE))?;
    let rows = rows.into_iter().map(SessionRow::try_from).collect::<Result<_, _>>()?;
    Ok(Page::cut(rows, limit, ALL, |row: &SessionRow| (row.started_at(), row.id)))
}

/// The session with this id, over or not.
pub async fn by_id(pool: &PgPool, id: SessionId) -> Result<Option<SessionRow>, TableError> {
    let raw: Option<Raw> = sqlx::query_as(select!("WHERE s.id = $1"))
        .bind(id.uuid())
        .fetch_optional(pool)
        .await
        .map_err(database(TABLE))?;
    raw.map(SessionRow::try_from).transpose()
}

/// An account's sessions that are not over, the newest first.
pub async fn of_account(
    pool: &PgPool,
    account: AccountId,
    now: Instant,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<Page<SessionRow>, TableError> {
    let after: Option<(Instant, SessionId)> = paging::decode(LIST, cursor)?;
    let (at, id) = after.unzip();
    let rows: Vec<Raw> = sqlx::query_as(select!(
        "JOIN accounts a ON a.id = s.account_id AND a.generation = s.generation AND a.status = $6 \
         WHERE s.account_id = $2 AND s.ended_at IS NULL AND s.expires_at > $3 \
           AND ($4::timestamptz IS NULL OR (s.created_at, s.id) < ($4, $5)) \
         ORDER BY s.created_at DESC, s.id DESC LIMIT $1"
    ))
    .bind(limit.and_one())
    .bind(account.uuid())
    .bind(now)
    .bind(at)
    .bind(id.map(SessionId::uuid))
    .bind(Status::Active.as_str())
    .fetch_all(pool)
    .await
    .map_err(database(TABLE))?;
    let rows = rows.into_iter().map(SessionRow::try_from).collect::<Result<_, _>>()?;
    Ok(Page::cut(rows, limit, LIST, |row: &SessionRow| (row.started_at(), row.id)))
}

#[derive(sqlx::FromRow)]
struct Raw {
    id: Uuid,
    account_id: Uuid,
    generation: i64,
    expires_at: Instant,
    ended_at: Option<Instant>,
    end_reason: Option<String>,
    ip: Option<String>,
    user_agent: Option<String>,
    #[sqlx(flatten)]
    stamp: RawStamp,
}

impl TryFrom<Raw> for SessionRow {
    type Error = TableError;
    fn try_from(raw: Raw) -> Result<Self, TableError> {
        let Raw {
            id,
            account_id,
            generation,
            expires_at,
            ended_at,
            end_reason,
            ip,
            user_agent,
            stamp,
        } = raw;
        let columns = Columns(TABLE);
        Ok(Self {
            id: columns.id("id", id)?,
            account: columns.id("account_id", account_id)?,
            generation: columns.number("generation", generation)?,
            expires_at,
            ended_at,
            end_reason: columns.optional("end_reason", end_reason)?,
            ip: columns.optional("ip", ip)?,
            user_agent: columns.optional("user_agent", user_agent)?,
            stamp: columns.stamp(stamp)?,
        })
    }
}
