//! How fresh a read model is, so that whoever wrote can read what they wrote.
//!
//! A command answers with a position token, say `3:1042`. A read that carries it waits, bounded, until what
//! it reads [`reaches`] the token: the read tables by their projector's checkpoint ([`TablesFreshness`]), the
//! availability cache and the notification feed by what they say of themselves. A crash of the projector
//! leaves the checkpoint where the data is, never ahead.

use domain::position::{Partition, Position, PositionToken};
use sqlx::PgPool;
use thiserror::Error;

/// The checkpoints cannot be read.
#[derive(Debug, Error)]
#[error("the checkpoints of the read tables cannot be read")]
pub struct FreshnessUnavailable(#[source] sqlx::Error);

/// Whether what was applied covers all that a token asks for.
pub fn reaches(applied: &PositionToken, wanted: &PositionToken) -> bool {
    wanted.positions().all(|position| applied.number(position.partition) >= position.number)
}

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

    /// Up to which event of a partition; 0 before the first.
    pub async fn applied(&self, partition: Partition) -> Result<u64, FreshnessUnavailable> {
        let number: Option<i64> = sqlx::query_scalar(
            "SELECT position FROM checkpoints WHERE projector = $1 AND partition = $2",
        )
        .bind(&self.projector)
        .bind(i32::from(partition.0))
        .fetch_optional(&self.pool)
        .await
        .map_err(FreshnessUnavailable)?;
        Ok(number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default())
    }

    /// Up to which event of every partition.
    pub async fn all(&self) -> Result<PositionToken, FreshnessUnavailable> {
        let rows: Vec<(i32, i64)> = sqlx::query_as(
            "SELECT partition::integer, position FROM checkpoints WHERE projector = $1",
        )
        .bind(&self.projector)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_reached_when_every_partition_it_names_is() {
        let token = |text: &str| text.parse::<PositionToken>().unwrap();
        assert!(reaches(&token("0:7,3:10"), &token("3:10")));
        assert!(reaches(&token("0:7,3:10"), &token("")));
        assert!(!reaches(&token("0:7,3:10"), &token("3:11")));
        assert!(!reaches(&token("0:7"), &token("0:7,1:1")));
        assert!(reaches(&token(""), &token("2:0")));
    }
}
