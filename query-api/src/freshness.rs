//! Read your own writes: wait, bounded, until a read model has come as far as `Pontual-After` asks.
//!
//! For example a client that booked at 3:18 asks for its appointments with `Pontual-After: 3:18`. The read tables
//! stand at 3:12; a few milliseconds later at 3:20, and the answer has the booking in it. Had 3:18 been parked
//! it would be `503 not-caught-up`. However many partitions the header names, every look is one question. Nothing is
//! kept between requests, so a crash costs the request alone.

use std::future::Future;
use std::time::Duration;

use axum::extract::FromRequestParts;
use domain::position::{Partition, Position, PositionToken};
use http::request::Parts;
use http_kit::headers::After;
use http_kit::{Kind, Problem};
use read_models::freshness::TablesFreshness;
use tokio::time::{Instant, sleep};

use crate::QueryState;

/// How long a read waits before it says `not-caught-up`.
const WAIT: Duration = Duration::from_secs(2);
/// Between two looks, at first; doubled up to the last.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(50);

/// The position `Pontual-After` asks to have been seen, in this log: a partition it does not have is refused, and what
/// asks for nothing is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(pub PositionToken);

impl FromRequestParts<QueryState> for Seen {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &QueryState) -> Result<Self, Problem> {
        let After(token) = After::from_request_parts(parts, state).await?;
        let count = state.log.partitions().get();
        if token.positions().any(|at| at.partition.0 >= count) {
            let detail = "names a partition the log does not have";
            return Err(Problem::field(Kind::InvalidHeader, "Pontual-After", detail));
        }
        Ok(Self(token.positions().filter(|at| at.number > 0).collect()))
    }
}

/// Waits until what is applied has reached every position of a token.
async fn wait<F, E>(after: &PositionToken, applied: impl Fn() -> F) -> Result<(), Problem>
where
    F: Future<Output = Result<PositionToken, E>>,
    E: std::error::Error + 'static,
{
    if after.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + WAIT;
    let mut pause = FIRST_LOOK;
    loop {
        let applied = applied().await.map_err(|error| Problem::unavailable(&error))?;
        if after.positions().all(|at| applied.number(at.partition) >= at.number) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Problem::from(Kind::NotCaughtUp).retry_after(1));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

impl QueryState {
    /// Waits for the read tables.
    pub(crate) async fn tables_after(&self, after: &PositionToken) -> Result<(), Problem> {
        let partitions: Vec<_> = after.positions().map(|at| at.partition).collect();
        wait(after, || self.tables.applied(&partitions)).await?;
        self.tables_hold(after).await
    }

    /// That nothing a token asks for is missing from what the read tables have applied.
    pub(crate) async fn tables_hold(&self, after: &PositionToken) -> Result<(), Problem> {
        self.not_parked(crate::PROJECTOR_OF_TABLES, after).await
    }

    /// Up to which event of a partition the read tables are applied, and whether they hold all of that: while
    /// something is parked they do not, and nothing would tell a cache when it is applied after all. To be
    /// asked before the rows are read, which are then at least as recent.
    pub(crate) async fn tables_as_of(&self, partition: Partition) -> Result<(u64, bool), Problem> {
        let applied = self.tables.applied(&[partition]).await;
        let as_of = applied.map_err(|error| Problem::unavailable(&error))?.number(partition);
        let connection = self.log.pool().acquire().await;
        let mut connection = connection.map_err(|error| Problem::unavailable(&error))?;
        let projector = crate::PROJECTOR_OF_TABLES;
        let parked = event_log::parked::documents(&mut connection, projector, partition).await;
        let parked = parked.map_err(|error| Problem::unavailable(&error))?;
        Ok((as_of, parked.is_empty()))
    }

    /// Waits for the notification feed.
    pub(crate) async fn feed_after(&self, after: &PositionToken) -> Result<(), Problem> {
        let mut positions = after.positions();
        // Nearly always it is one; else all of them are one question too.
        let only = positions.next().filter(|_| positions.next().is_none());
        let only = only.map(|at| at.partition);
        let feed = &self.feed;
        let applied = || async move {
            let Some(partition) = only else { return feed.applied_all().await };
            let number = feed.applied(partition).await?;
            Ok(PositionToken::from_iter([Position { partition, number }]))
        };
        wait(after, applied).await?;
        self.not_parked(crate::PROJECTOR_OF_FEED, after).await
    }

    /// Waits for the audit trail.
    pub(crate) async fn audit_after(&self, after: &PositionToken) -> Result<(), Problem> {
        let pool = self.log.pool().clone();
        let trail = TablesFreshness::new(pool, crate::PROJECTOR_OF_AUDIT);
        let partitions: Vec<_> = after.positions().map(|at| at.partition).collect();
        wait(after, || trail.applied(&partitions)).await?;
        self.not_parked(crate::PROJECTOR_OF_AUDIT, after).await
    }

    /// A token whose event is parked is never reached: the read says so instead of lying.
    async fn not_parked(&self, projector: &str, after: &PositionToken) -> Result<(), Problem> {
        if after.is_empty() {
            return Ok(());
        }
        let parked = event_log::parked::any_parked_at(self.log.pool(), projector, after).await;
        if parked.map_err(|error| Problem::unavailable(&error))? {
            return Err(Problem::from(Kind::NotCaughtUp).retry_after(60));
        }
        Ok(())
    }
}
