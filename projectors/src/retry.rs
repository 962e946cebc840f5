//! Applying again what was parked: `pontual retry NAME`, once the cause is mended.
//!
//! For example `accounts` refused an event at 2:7; 2:7 is parked, and 2:9 of the same account behind it. A retry
//! takes both, applies 2:7, then 2:9, and forgets them. The running projector goes on meanwhile: if it meets
//! 2:12 of that account it waits for the retry, and then finds the document free, or parks 2:12 behind 2:9.
//!
//! A crash between applying and forgetting applies again; twice equals once.

use event_log::parked;

use crate::runner::{ApplyError, Batch, Projector};
use crate::tail::SharedTail;

/// What a retry of parked events did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retried {
    /// Events that were applied.
    pub applied: u64,
    /// Documents that are still parked.
    pub still_parked: u64,
}

/// Applies parked events again, document by document, in order; what fails again stays parked.
///
/// A document's rows are locked meanwhile, in a transaction of this process' own; the projector writes with
/// another connection, so a pool of one is too small.
pub async fn retry(tail: &SharedTail, projector: &dyn Projector) -> Result<Retried, ApplyError> {
    let (log, name) = (tail.log(), projector.name());
    let mut retried = Retried::default();
    for partition in log.partitions().all() {
        let mut connection = log.pool().acquire().await?;
        let documents = parked::documents(&mut connection, name, partition).await?;
        drop(connection);
        for document in documents {
            let mut transaction = log.pool().begin().await?;
            let rows = parked::take_for_retry(&mut transaction, name, partition, &document).await?;
            let mut away = None;
            for row in rows {
                let events = log.tail(partition, row.at.number - 1, 1).await?;
                let batch = Batch {
                    partition,
                    events: events.iter().collect(),
                    checkpoint: None,
                    lease: None,
                };
                match projector.apply(&batch).await {
                    Ok(()) => {
                        parked::remove(&mut transaction, name, &document, row.at).await?;
                        retried.applied += 1;
                    }
                    Err(ApplyError::Poison(error)) => {
                        let causes = crate::causes(&*error);
                        parked::park(&mut transaction, name, &document, row.at, &causes).await?;
                        retried.still_parked += 1;
                        break;
                    }
                    Err(other) => {
                        away = Some(other);
                        break;
                    }
                }
            }
            // What was applied until then is done, whatever came after it.
            transaction.commit().await?;
            if let Some(error) = away {
                return Err(error);
            }
        }
    }
    Ok(retried)
}
