//! How fresh a read model is, so that whoever wrote can read what they wrote.
//!
//! A command answers with a position token, say `3:1042`. A read that carries it waits, bounded, until what
//! it reads has come as far: the read tables by their projector's checkpoint ([`TablesFreshness`]), the
//! availability cache and the notification feed by what they say of themselves. A crash of the projector
//! leaves the checkpoint where the data is, never ahead.

use domain::position::{Partition, Position, PositionToken};
use sqlx::PgPool;
use thiserror::Error;

/// The checkpoints cannot be read.
#[derive(Debug, Error)]
#[error("the checkpoints of the read tables cannot be read")]
pub struct FreshnessUnavailable(#[source] sqlx::Error);

/// How far the read tables have applied the log. Their checkpoint is the event log's, moved in the same
/// transaction as the tables.
#[derive(Debug, Clone)]
pub struct TablesFreshness {
    pool: PgPool,
    projector: String,
}

impl TablesFreshness {
    /// Of the tables that this projector writes.
    pub fn new(pool: PgPool, projector: impl Into<String>) -> Self {
        Self { pool, projector: projector.into() }
    }

    /// Up to which event of each of these partitions; one without any is left out. One question, however many.
    pub async fn applied(
        &self,
        partitions: &[Partition],
    ) -> Result<PositionToken, FreshnessUnavailable> {
        let rows: Vec<(i32, i64)> = sqlx::query_as(
            "SELECT partition::integer, position FROM checkpoints
             WHERE projector = $1 AND partition = ANY($2::integer[]::smallint[])",
        )
        .bind(&self.projector)
        .bind(partitions.iter().map(|partition| i32::from(partition.0)).collect::<Vec<_>>())
        .fetch_all(&self.pool)
        .await
        .map_err(FreshnessUnavailable)?;
        Ok(rows
            .into_iter()
            .filter_map(|(partition, number)| {
                let partition = Partition(u16::try_from(partition).ok()?);
                Some(Position { partition, number: u64::try_from(number).ok()? })
            })
            .collect())
    }
}
