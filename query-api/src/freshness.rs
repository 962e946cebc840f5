//! Read your own writes: wait, bounded, until a read model has come as far as `Pontual-After` asks.
//!
//! For example a client that booked at 3:18 asks for its appointments with `Pontual-After: 3:18`. The read tables
//! stand at 3:12; a few milliseconds later at 3:20, and the answer has the booking in it. Had 3:18 been parked
//! it would be `503 not-caught-up`. Nothing is kept between requests, so a crash costs the request alone.

use std::future::Future;
use std::time::Duration;

use domain::position::{Partition, PositionToken};
use http_kit::{Kind, Problem};
use read_models::freshness::TablesFreshness;
use tokio::time::{Instant, sleep};

use crate::QueryState;

/// How long a read waits before it says `not-caught-up`.
const WAIT: Duration = Duration::from_secs(2);
/// Between two looks, at first; doubled up to the last.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Waits until `applied` has reached every position of a token.
async fn wait<F, E>(after: &PositionToken, applied: impl Fn(Partition) -> F) -> Result<(), Problem>
where
    F: Future<Output = Result<u64, E>>,
    E: std::error::Error + 'static,
{
    let deadline = Instant::now() + WAIT;
    for position in after.positions() {
        let mut pause = FIRST_LOOK;
        loop {
            let applied = applied(position.partition).await;
            if applied.map_err(|error| Problem::unavailable(&error))? >= position.number {
                break;
            }
            if Instant::now() >= deadline {
                return Err(Problem::from(Kind::NotCaughtUp).retry_after(1));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_LOOK);
        }
    }
    Ok(())
}

impl QueryState {
    /// Waits for the read tables.
    pub(crate) async fn tables_after(&self, after: &PositionToken) -> Result<(), Problem> {
        wait(after, |partition| self.tables.applied(partition)).await?;
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
        let as_of = self.tables.applied(partition).await;
        let as_of = as_of.map_err(|error| Problem::unavailable(&error))?;
        let connection = self.log.pool().acquire().await;
        let mut connection = connection.map_err(|error| Problem::unavailable(&error))?;
        let projector = crate::PROJECTOR_OF_TABLES;
        let parked = event_log::parked::documents(&mut connection, projector, partition).await;
        let parked = parked.map_err(|error| Problem::unavailable(&error))?;
        Ok((as_of, parked.is_empty()))
    }

    /// Waits for the notification feed.
    pub(crate) async fn feed_after(&self, after: &PositionToken) -> Result<(), Problem> {
        wait(after, |partition| self.feed.applied(partition)).await?;
        self.not_parked(crate::PROJECTOR_OF_FEED, after).await
    }

    /// Waits for the audit trail.
    pub(crate) async fn audit_after(&self, after: &PositionToken) -> Result<(), Problem> {
        let pool = self.log.pool().clone();
        let trail = TablesFreshness::new(pool, crate::PROJECTOR_OF_AUDIT);
        wait(after, |partition| trail.applied(partition)).await?;
        self.not_parked(crate::PROJECTOR_OF_AUDIT, after).await
    }

    /// A token whose event is parked is never reached: the read says so instead of lying.
    async fn not_parked(&self, projector: &str, after: &PositionToken) -> Result<(), Problem> {
        for position in after.positions() {
            let parked =
                event_log::parked::is_parked_at(self.log.pool(), projector, position).await;
            if parked.map_err(|error| Problem::unavailable(&error))? {
                return Err(Problem::from(Kind::NotCaughtUp).retry_after(60));
            }
        }
        Ok(())
    }
}
