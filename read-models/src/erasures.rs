//! How far the erasure of a person is: one row per erased account, which the job `PurgeAccount` takes from stage to stage.
//!
//! For example `AccountErased` at 2:17 begins Ana's row; her standing appointments are cancelled ([`Stage::Told`]), the read
//! tables lose what they had of her ([`Stage::Purged`]), and once no process can remember her key it is all done once more
//! ([`Stage::Complete`]). A crash leaves the row at its stage, and that step is done again.

use domain::Instant;
use domain::ids::{AccountId, Id, ProviderId};
use domain::position::PositionToken;
use sqlx::{PgConnection, PgPool};

use crate::table::{Columns, TableError, database};
use crate::{accounts, appointment_notes, appointments, audit, providers, services, sessions};

const TABLE: &str = "erasures";

/// What was done last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The log forgot them.
    Begun,
    /// Their standing appointments were cancelled, so that the other side is told.
    Told,
    /// What was made of the log lost what it had of them.
    Purged,
    /// No process remembers their key any more.
    Settling,
    /// What was booked in the meantime was cancelled.
    Settled,
    /// It was purged again. Nothing is left.
    Complete,
}

impl Stage {
    const ALL: [Self; 6] =
        [Self::Begun, Self::Told, Self::Purged, Self::Settling, Self::Settled, Self::Complete];

    /// As in the table and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Told => "told",
            Self::Purged => "purged",
            Self::Settling => "settling",
            Self::Settled => "settled",
            Self::Complete => "complete",
        }
    }
}

/// How far an erasure is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureRow {
    /// Who.
    pub account: AccountId,
    /// When the log forgot them.
    pub erased_at: Instant,
    /// What was done last.
    pub stage: Stage,
    /// What every projector must have passed before the next step.
    pub heads: Option<PositionToken>,
    /// When nothing was left.
    pub completed_at: Option<Instant>,
}

/// Somebody was erased. Twice is once.
pub async fn begin(
    connection: &mut PgConnection,
    account: AccountId,
    erased_at: Instant,
) -> Result<(), TableError> {
    sqlx::query(
        "INSERT INTO erasures (account_id, erased_at, stage) VALUES ($1, $2, $3)
         ON CONFLICT (account_id) DO NOTHING",
    )
    .bind(account.uuid())
    .bind(erased_at)
    .bind(Stage::Begun.as_str())
    .execute(connection)
    .await
    .map_err(database(TABLE))?;
    Ok(())
}

/// How far somebody's erasure is.
pub async fn of_account(
    pool: &PgPool,
    account: AccountId,
) -> Result<Option<ErasureRow>, TableError> {
    let row: Option<(Instant, String, Option<String>, Option<Instant>)> = sqlx::query_as(
        "SELECT erased_at, stage, heads, completed_at FROM erasures WHERE account_id = $1",
    )
    .bind(account.uuid())
    .fetch_optional(pool)
    .await
    .map_err(database(TABLE))?;
    let Some((erased_at, stage, heads, completed_at)) = row else { return Ok(None) };
    let corrupt = |column| TableError::Corrupt { table: TABLE, column };
    let known = Stage::ALL.into_iter().find(|known| known.as_str() == stage);
    let heads = heads.map(|heads| heads.parse().map_err(|_| corrupt("heads"))).transpose()?;
    let stage = known.ok_or_else(|| corrupt("stage"))?;
    Ok(Some(ErasureRow { account, erased_at, stage, heads, completed_at }))
}

/// Whose erasure is under way, and how far it is: at most this many, the oldest first.
pub async fn open(pool: &PgPool, most: i64) -> Result<Vec<(AccountId, String)>, TableError> {
    let rows: Vec<(uuid::Uuid, String)> = sqlx::query_as(
        "SELECT account_id, stage FROM erasures WHERE completed_at IS NULL
         ORDER BY erased_at, account_id LIMIT $1",
    )
    .bind(most)
    .fetch_all(pool)
    .await
    .map_err(database(TABLE))?;
    let columns = Columns(TABLE);
    rows.into_iter().map(|(id, stage)| Ok((columns.id("account_id", id)?, stage))).collect()
}

/// Goes on to a stage, and says what must be passed before the next; unless somebody else went on.
pub async fn advance(
    pool: &PgPool,
    row: &ErasureRow,
    to: Stage,
    heads: Option<&PositionToken>,
    now: Instant,
) -> Result<(), TableError> {
    sqlx::query(
        "UPDATE erasures SET stage = $3, heads = $4, completed_at = CASE WHEN $5 THEN $6::timestamptz END
         WHERE account_id = $1 AND stage = $2",
    )
    .bind(row.account.uuid())
    .bind(row.stage.as_str())
    .bind(to.as_str())
    .bind(heads.map(ToString::to_string))
    .bind(to == Stage::Complete)
    .bind(now)
    .execute(pool)
    .await
    .map_err(database(TABLE))?;
    Ok(())
}

/// Takes an erased person out of every table that was made of the log, in one transaction. To be called once the
/// projectors that feed them have passed the heads of the erasure: from then on they read nothing of the person. Gives the
/// person's shops.
pub async fn purge_tables(
    pool: &PgPool,
    account: AccountId,
) -> Result<Vec<ProviderId>, TableError> {
    let mut transaction = pool.begin().await.map_err(database(TABLE))?;
    accounts::purge_person(&mut transaction, account).await?;
    sessions::forget_whose(&mut transaction, &[account]).await?;
    appointments::purge_person(&mut transaction, account).await?;
    appointment_notes::purge_person(&mut transaction, account.uuid()).await?;
    let shops = providers::purge_person(&mut transaction, account).await?;
    services::forget_of(&mut transaction, &shops).await?;
    audit::purge_person(&mut transaction, account).await?;
    transaction.commit().await.map_err(database(TABLE))?;
    Ok(shops)
}
