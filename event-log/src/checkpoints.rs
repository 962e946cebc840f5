//! How far each projector has come, per partition.
//!
//! A checkpoint moves in the transaction that writes what it stands for, by compare-and-set: whoever finds
//! it elsewhere than it believes rolls back. So a batch is applied once, whatever two processes do; a crash
//! before the commit applies it again from where it stood.

use domain::position::{Partition, PositionToken};
use sqlx::{PgConnection, PgPool};
use thiserror::Error;

use crate::leases::Lease;
use crate::{big, from_big, positions, small};

/// Why a checkpoint did not move.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// Somebody else moved it, or took over the lease: roll back.
    #[error("the checkpoint was moved by somebody else")]
    Moved,
    /// Postgres failed.
    #[error("moving the checkpoint failed")]
    Database(#[from] sqlx::Error),
}

/// The last position the projector has applied; 0 at first.
pub async fn get(pool: &PgPool, projector: &str, partition: Partition) -> Result<u64, sqlx::Error> {
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT position FROM checkpoints WHERE partition = $1 AND projector = $2",
    )
    .bind(small(partition))
    .bind(projector)
    .fetch_optional(pool)
    .await?;
    Ok(found.map_or(0, from_big))
}

/// All of a projector's checkpoints.
pub async fn all(pool: &PgPool, projector: &str) -> Result<PositionToken, sqlx::Error> {
    let rows = sqlx::query_as("SELECT partition, position FROM checkpoints WHERE projector = $1")
        .bind(projector)
        .fetch_all(pool)
        .await?;
    Ok(positions(rows))
}

/// Moves a checkpoint within the caller's transaction, if it is where the caller believes and, where a
/// lease is given, the lease was not lost. The lease's row stays locked until the transaction ends, so that
/// nobody takes it over half-way.
pub async fn advance(
    transaction: &mut PgConnection,
    projector: &str,
    partition: Partition,
    from: u64,
    to: u64,
    lease: Option<&Lease>,
) -> Result<(), CheckpointError> {
    // The lease's row is looked at in the same statement, and stays locked.
    const HELD: &str = "WITH held AS (SELECT FROM leases WHERE partition = $1 AND projector = $2
             AND owner = $5 AND epoch = $6 FOR SHARE)";
    const IS_HELD: &str = "($5::text IS NULL OR EXISTS (SELECT FROM held))";
    // A checkpoint that does not exist stands at 0.
    let sql = if from == 0 {
        format!(
            "{HELD} INSERT INTO checkpoints AS c (partition, projector, position)
             SELECT $1, $2, $4 WHERE {IS_HELD}
             ON CONFLICT (partition, projector) DO UPDATE
             SET position = excluded.position, updated_at = clock_timestamp() WHERE c.position = $3"
        )
    } else {
        format!(
            "{HELD} UPDATE checkpoints SET position = $4, updated_at = clock_timestamp()
             WHERE partition = $1 AND projector = $2 AND position = $3 AND {IS_HELD}"
        )
    };
    let moved = sqlx::query(&sql)
        .bind(small(partition))
        .bind(projector)
        .bind(big(from))
        .bind(big(to))
        .bind(lease.map(|lease| &lease.owner))
        .bind(lease.map(|lease| big(lease.epoch)))
        .execute(transaction)
        .await?
        .rows_affected();
    if moved == 1 { Ok(()) } else { Err(CheckpointError::Moved) }
}

/// Forgets a projector's checkpoints, within the transaction that drops what they stood for.
pub async fn reset(transaction: &mut PgConnection, projector: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM checkpoints WHERE projector = $1")
        .bind(projector)
        .execute(transaction)
        .await?;
    Ok(())
}
