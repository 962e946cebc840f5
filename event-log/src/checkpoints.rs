//! How far each projector has come, per partition.

use domain::position::{Partition, PositionToken};
use sqlx::{PgConnection, PgPool};
use thiserror::Error;

use crate::leases::Lease;

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
pub async fn get(
    _pool: &PgPool,
    _projector: &str,
    _partition: Partition,
) -> Result<u64, sqlx::Error> {
    todo!()
}

/// All of a projector's checkpoints.
pub async fn all(_pool: &PgPool, _projector: &str) -> Result<PositionToken, sqlx::Error> {
    todo!()
}

/// Moves a checkpoint within the caller's transaction, if it is where the caller believes and, where a
/// lease is given, the lease was not lost.
pub async fn advance(
    _transaction: &mut PgConnection,
    _projector: &str,
    _partition: Partition,
    _from: u64,
    _to: u64,
    _lease: Option<&Lease>,
) -> Result<(), CheckpointError> {
    todo!()
}
