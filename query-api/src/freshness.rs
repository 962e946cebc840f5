//! Read your own writes: wait, bounded, until a read model has come as far as `Pontual-After` asks.

use std::future::Future;
use std::time::Duration;

use domain::position::{Partition, PositionToken};
use http_kit::{Kind, Problem};
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
        self.not_parked(crate::PROJECTOR_OF_TABLES, after).await
    }

    /// Waits for the notification feed.
    pub(crate) async fn feed_after(&self, after: &PositionToken) -> Result<(), Problem> {
        wait(after, |partition| self.feed.applied(partition)).await?;
        self.not_parked(crate::PROJECTOR_OF_FEED, after).await
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
