//! Forgetting the erased where lists are cached in process: the job that purges them (`jobs/erasure.rs`) runs in one
//! process, and reaches no other's memory.
//!
//! Every process that serves without Redis looks at the erasures under way. For example Ana cancelled an appointment with
//! Carla and is erased; the worker of another process empties the row, and writes down that she is purged. This process
//! sees her erasure at another stage than before, and forgets all its lists: the next reader fills them from the tables.
//! It sees so again when the erasure is complete, which takes away what a reader that was at it brought back.
//!
//! A look that fails is one nobody knows what it missed: the next one forgets. Nothing outlives a crash.

use std::sync::Arc;
use std::time::Duration;

use read_models::availability::InProcessCache;
use read_models::erasures;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(2);
/// How many erasures are looked at. Of more, the oldest: those change first.
const MOST: i64 = 1_000;

/// Looks until it is told to stop.
pub async fn forget_lists(pool: PgPool, cache: Arc<InProcessCache>, stop: CancellationToken) {
    let mut known = None;
    loop {
        let open = erasures::open(&pool, MOST).await;
        let open = open.inspect_err(|error| {
            tracing::debug!(%error, "the erasures under way could not be read");
        });
        let open = open.ok();
        if open.is_some() && open != known {
            cache.lose_all_lists();
        }
        known = open;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
