//! Which process runs a projector on a partition.

use std::time::Duration;

use domain::position::Partition;
use sqlx::PgPool;

/// The right to run a projector on a partition until it expires. The epoch rises whenever it changes hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Of which projector.
    pub projector: String,
    /// On which partition.
    pub partition: Partition,
    /// Who holds it.
    pub owner: String,
    /// The fencing epoch.
    pub epoch: u64,
    /// How long it lasts from each renewal.
    pub ttl: Duration,
}

/// Takes the lease if it is free or expired; `None` if somebody else holds it.
pub async fn acquire(
    _pool: &PgPool,
    _projector: &str,
    _partition: Partition,
    _owner: &str,
    _ttl: Duration,
) -> Result<Option<Lease>, sqlx::Error> {
    todo!()
}

/// Extends the lease; `false` if it was lost.
pub async fn renew(_pool: &PgPool, _lease: &Lease) -> Result<bool, sqlx::Error> {
    todo!()
}

/// Gives the lease back, if it is still held.
pub async fn release(_pool: &PgPool, _lease: &Lease) -> Result<(), sqlx::Error> {
    todo!()
}
