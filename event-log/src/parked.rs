//! Events a projector could not apply, and all later events of the same document.

use std::collections::BTreeSet;

use domain::Instant;
use domain::position::{Partition, Position};
use sqlx::{PgConnection, PgPool};

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

/// Parks an event of a document, within the caller's transaction. Again is once, with one more attempt.
pub async fn park(
    _transaction: &mut PgConnection,
    _projector: &str,
    _document: &str,
    _at: Position,
    _error: &str,
) -> Result<(), sqlx::Error> {
    todo!()
}

/// Whether a document is parked.
pub async fn is_parked(
    _pool: &PgPool,
    _projector: &str,
    _partition: Partition,
    _document: &str,
) -> Result<bool, sqlx::Error> {
    todo!()
}

/// The documents of a partition that are parked.
pub async fn documents(
    _connection: &mut PgConnection,
    _projector: &str,
    _partition: Partition,
) -> Result<BTreeSet<String>, sqlx::Error> {
    todo!()
}

/// What is parked, oldest first.
pub async fn list(
    _pool: &PgPool,
    _projector: Option<&str>,
    _limit: u32,
) -> Result<Vec<Parked>, sqlx::Error> {
    todo!()
}

/// Locks a document's parked events, in order, for a retry within the caller's transaction. Empty if
/// another process is retrying it.
pub async fn take_for_retry(
    _transaction: &mut PgConnection,
    _projector: &str,
    _partition: Partition,
    _document: &str,
) -> Result<Vec<Parked>, sqlx::Error> {
    todo!()
}

/// Forgets parked events of a document up to and with this position: they were applied.
pub async fn remove(
    _transaction: &mut PgConnection,
    _projector: &str,
    _document: &str,
    _up_to: Position,
) -> Result<(), sqlx::Error> {
    todo!()
}
