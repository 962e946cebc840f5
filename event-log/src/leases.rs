//! Which process runs a projector on a partition.
//!
//! A lease expires by the database's clock unless it is renewed, so a process that died is replaced after
//! `ttl`. The epoch rises whenever the lease changes hands: a process that slept through its expiry finds
//! another epoch when it moves its checkpoint, and rolls back. Where the target cannot check the epoch
//! (Redis, MongoDB) the lease only saves work; there the guards of the documents are what is right.

use std::time::Duration;

use domain::position::Partition;
use sqlx::{PgConnection, PgPool};

use crate::{big, from_big, small};

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

/// Takes the lease if it is free or expired; `None` if somebody else holds it. Whoever takes a lease again
/// that it holds already gets a new epoch: its earlier self may still be running.
pub async fn acquire(
    pool: &PgPool,
    projector: &str,
    partition: Partition,
    owner: &str,
    ttl: Duration,
) -> Result<Option<Lease>, sqlx::Error> {
    let epoch: Option<i64> = sqlx::query_scalar(
        "INSERT INTO leases AS l (partition, projector, owner, epoch, expires_at)
         VALUES ($1, $2, $3, 1, clock_timestamp() + $4 * interval '1 millisecond')
         ON CONFLICT (partition, projector) DO UPDATE
         SET owner = excluded.owner, epoch = l.epoch + 1, expires_at = excluded.expires_at
         WHERE l.expires_at <= clock_timestamp() OR l.owner = excluded.owner
         RETURNING epoch",
    )
    .bind(small(partition))
    .bind(projector)
    .bind(owner)
    .bind(millis(ttl))
    .fetch_optional(pool)
    .await?;
    Ok(epoch.map(|epoch| Lease {
        projector: projector.to_owned(),
        partition,
        owner: owner.to_owned(),
        epoch: from_big(epoch),
        ttl,
    }))
}

/// Extends the lease; `false` if it was lost. One that expired but that nobody took is still ours.
pub async fn renew(pool: &PgPool, lease: &Lease) -> Result<bool, sqlx::Error> {
    let renewed = sqlx::query(
        "UPDATE leases SET expires_at = clock_timestamp() + $5 * interval '1 millisecond'
         WHERE partition = $1 AND projector = $2 AND owner = $3 AND epoch = $4",
    )
    .bind(small(lease.partition))
    .bind(&lease.projector)
    .bind(&lease.owner)
    .bind(big(lease.epoch))
    .bind(millis(lease.ttl))
    .execute(pool)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Gives the lease back, if it is still held. The epoch stays, so that it only ever rises.
pub async fn release(pool: &PgPool, lease: &Lease) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE leases SET expires_at = '-infinity'
         WHERE partition = $1 AND projector = $2 AND owner = $3 AND epoch = $4",
    )
    .bind(small(lease.partition))
    .bind(&lease.projector)
    .bind(&lease.owner)
    .bind(big(lease.epoch))
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether the lease is still held, within the caller's transaction. Its row stays locked until the transaction
/// ends, so that nobody takes it over half-way.
pub async fn still_held(
    transaction: &mut PgConnection,
    lease: &Lease,
) -> Result<bool, sqlx::Error> {
    let ours: Option<i64> = sqlx::query_scalar(
        "SELECT epoch FROM leases WHERE partition = $1 AND projector = $2 AND owner = $3 AND epoch = $4
         FOR SHARE",
    )
    .bind(small(lease.partition))
    .bind(&lease.projector)
    .bind(&lease.owner)
    .bind(big(lease.epoch))
    .fetch_optional(transaction)
    .await?;
    Ok(ours.is_some())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
