//! Events a projector could not apply, and all later events of the same document.
//!
//! One broken event must not stop the others: its document is parked, with the error, and whatever comes for
//! that document later is parked behind it, in order. The parking commits with the checkpoint that passes
//! the event, so after a crash it is either parked or not yet passed. `pontual retry NAME` takes a document's
//! events in order and applies them; what went through is removed in the same transaction.

use std::collections::BTreeSet;

use domain::Instant;
use domain::position::{Partition, Position, PositionToken};
use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::{big, from_big, from_small, positions, small};

/// The longest error text that is kept.
const ERROR_MAX: usize = 2000;

/// A parked event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// By which projector.
    pub projector: String,
    /// The document it belongs to.
    pub document: String,
    /// Where the event stands.
    pub at: Position,
    /// Why it was parked; of a later event, that the document is parked.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was first parked.
    pub parked_at: Instant,
}

type Row = (i16, String, String, i64, String, i32, Instant);

const COLUMNS: &str = "partition, projector, document, position, error, attempts, parked_at";

fn parked((partition, projector, document, position, error, attempts, parked_at): Row) -> Parked {
    let at = Position { partition: Partition(from_small(partition)), number: from_big(position) };
    let attempts = attempts.unsigned_abs();
    Parked { projector, document, at, error, attempts, parked_at }
}

/// Parks an event of a document, within the caller's transaction. Again is once, with one more attempt.
/// The error must name no personal data.
pub async fn park(
    transaction: &mut PgConnection,
    projector: &str,
    document: &str,
    at: Position,
    error: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO parked AS p (partition, projector, document, position, error)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (partition, projector, document, position) DO UPDATE
         SET error = excluded.error, attempts = p.attempts + 1",
    )
    .bind(small(at.partition))
    .bind(projector)
    .bind(document)
    .bind(big(at.number))
    .bind(error.chars().filter(|c| *c != '\0').take(ERROR_MAX).collect::<String>())
    .execute(transaction)
    .await?;
    Ok(())
}

/// The documents of a partition that are parked.
pub async fn documents(
    connection: &mut PgConnection,
    projector: &str,
    partition: Partition,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let documents: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT document FROM parked WHERE partition = $1 AND projector = $2",
    )
    .bind(small(partition))
    .bind(projector)
    .fetch_all(connection)
    .await?;
    Ok(documents.into_iter().collect())
}

/// What is parked, oldest first.
pub async fn list(
    pool: &PgPool,
    projector: Option<&str>,
    limit: u32,
) -> Result<Vec<Parked>, sqlx::Error> {
    let sql = format!(
        "SELECT {COLUMNS} FROM parked WHERE $1::text IS NULL OR projector = $1
         ORDER BY parked_at, projector, document, partition, position LIMIT $2"
    );
    let rows: Vec<Row> =
        sqlx::query_as(&sql).bind(projector).bind(i64::from(limit)).fetch_all(pool).await?;
    Ok(rows.into_iter().map(parked).collect())
}

/// Locks a document's parked events, in order, for a retry within the caller's transaction. Empty if
/// another process is retrying it.
pub async fn take_for_retry(
    transaction: &mut PgConnection,
    projector: &str,
    partition: Partition,
    document: &str,
) -> Result<Vec<Parked>, sqlx::Error> {
    // All or none: whoever has the first has them all.
    let sql = format!(
        "WITH first AS (
             SELECT position FROM parked WHERE partition = $1 AND projector = $2 AND document = $3
               AND position = (SELECT min(position) FROM parked
                               WHERE partition = $1 AND projector = $2 AND document = $3)
             FOR UPDATE SKIP LOCKED)
         SELECT {COLUMNS} FROM parked
         WHERE partition = $1 AND projector = $2 AND document = $3 AND EXISTS (SELECT FROM first)
         ORDER BY position"
    );
    let rows: Vec<Row> = sqlx::query_as(&sql)
        .bind(small(partition))
        .bind(projector)
        .bind(document)
        .fetch_all(transaction)
        .await?;
    Ok(rows.into_iter().map(parked).collect())
}

/// Forgets parked events of a document up to and with this position: they were applied.
pub async fn remove(
    transaction: &mut PgConnection,
    projector: &str,
    document: &str,
    up_to: Position,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM parked WHERE partition = $1 AND projector = $2 AND document = $3 AND position <= $4",
    )
    .bind(small(up_to.partition))
    .bind(projector)
    .bind(document)
    .bind(big(up_to.number))
    .execute(transaction)
    .await?;
    Ok(())
}

/// Parks an event behind an earlier one of its document; `false` if nothing of the document is parked any
/// more. Waits for a retry of the document that is under way.
pub async fn park_behind(
    executor: impl PgExecutor<'_>,
    projector: &str,
    document: &str,
    at: Position,
) -> Result<bool, sqlx::Error> {
    let parked = sqlx::query(
        "WITH earlier AS MATERIALIZED (
             SELECT FROM parked WHERE partition = $1 AND projector = $2 AND document = $3
             ORDER BY position LIMIT 1 FOR SHARE)
         INSERT INTO parked AS p (partition, projector, document, position, error)
         SELECT $1, $2, $3, $4, 'parked behind an earlier event of its document' FROM earlier
         ON CONFLICT (partition, projector, document, position) DO UPDATE SET error = p.error",
    )
    .bind(small(at.partition))
    .bind(projector)
    .bind(document)
    .bind(big(at.number))
    .execute(executor)
    .await?;
    Ok(parked.rows_affected() > 0)
}

/// Forgets all a projector has parked, within the transaction that resets it.
pub async fn reset(transaction: &mut PgConnection, projector: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM parked WHERE projector = $1")
        .bind(projector)
        .execute(transaction)
        .await?;
    Ok(())
}

/// Whether one of these events, or another of the same command, is parked: whoever waits for it waits in vain.
pub async fn any_parked_at(
    pool: &PgPool,
    projector: &str,
    at: &PositionToken,
) -> Result<bool, sqlx::Error> {
    let (partitions, numbers): (Vec<i16>, Vec<i64>) =
        at.positions().map(|at| (small(at.partition), big(at.number))).unzip();
    sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM unnest($1::smallint[], $3::bigint[]) AS asked (partition, position)
             JOIN parked p ON p.partition = asked.partition AND p.projector = $2
             JOIN events e ON e.partition = p.partition AND e.position = p.position
             JOIN events a ON a.partition = asked.partition AND a.position = asked.position
             WHERE e.metadata ->> 'command' = a.metadata ->> 'command')",
    )
    .bind(partitions)
    .bind(projector)
    .bind(numbers)
    .fetch_one(pool)
    .await
}

/// The first event a projector has parked, of each partition where there is one.
pub async fn lowest(pool: &PgPool, projector: &str) -> Result<PositionToken, sqlx::Error> {
    let rows = sqlx::query_as(
        "SELECT partition, min(position) FROM parked WHERE projector = $1 GROUP BY partition",
    )
    .bind(projector)
    .fetch_all(pool)
    .await?;
    Ok(positions(rows))
}
