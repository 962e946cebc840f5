//! What this process has just appended, for its own followers: they need not read it back.
//!
//! For example a booking is committed as 3:17 and 3:18. Before the followers of partition 3 are woken, its two events are
//! kept here; a follower that stands at 3:16 takes both. What another process appends is not here: the numbers then have a
//! gap, and the follower reads the log. Nothing is kept until somebody follows, nothing for longer than what is opened
//! may linger, and never more than [`MOST`] of a partition.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use domain::position::{Partition, PartitionCount};

use crate::sealing::KEY_CACHE;
use crate::{EventLog, Recorded};

/// The most events that wait in a partition; those that come first are let go first.
const MOST: usize = 4096;

type Waiting = BTreeMap<u64, (Instant, Arc<Recorded>)>;

/// The events that wait to be taken, by partition and number.
pub(crate) struct Recent {
    followed: AtomicBool,
    partitions: Vec<Mutex<Waiting>>,
}

impl Recent {
    pub(crate) fn new(partitions: PartitionCount) -> Self {
        let partitions = partitions.all().map(|_| Mutex::default()).collect();
        Self { followed: AtomicBool::new(false), partitions }
    }

    /// Whether anybody will take what is kept.
    pub(crate) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed)
    }

    /// Keeps an event that is committed.
    pub(crate) fn keep(&self, event: Recorded) {
        let mut waiting = self.waiting(event.at.partition);
        waiting.insert(event.at.number, (Instant::now(), Arc::new(event)));
        while waiting.len() > MOST {
            waiting.pop_first();
        }
    }

    /// Lets go of what nobody took in time.
    pub(crate) fn sweep(&self) {
        for waiting in &self.partitions {
            locked(waiting).retain(|_, (since, _)| since.elapsed() < KEY_CACHE);
        }
    }

    /// Lets all go: somebody was erased.
    pub(crate) fn forget_all(&self) {
        self.partitions.iter().for_each(|waiting| locked(waiting).clear());
    }

    fn waiting(&self, partition: Partition) -> MutexGuard<'_, Waiting> {
        locked(&self.partitions[usize::from(partition.0)])
    }
}

/// What these locks guard is whole even if a holder panicked.
fn locked(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventLog {
    /// From now on, keeps what this process appends until it is taken with [`EventLog::take_appended`].
    pub fn keep_appended(&self) {
        self.core.recent.followed.store(true, Ordering::Relaxed);
    }

    /// What this process appended directly after a position, in order and without gaps, at most `limit`; empty if that
    /// came from elsewhere or is not kept any more. What is taken is kept no longer.
    pub fn take_appended(
        &self,
        partition: Partition,
        after: u64,
        limit: u32,
    ) -> Vec<Arc<Recorded>> {
        let mut waiting = self.core.recent.waiting(partition);
        *waiting = waiting.split_off(&(after + 1));
        let mut taken = Vec::new();
        while taken.len() < usize::try_from(limit).unwrap_or(usize::MAX)
            && let Some(next) = waiting.first_entry()
            && *next.key() == after + 1 + taken.len() as u64
        {
            let (since, event) = next.remove();
            if since.elapsed() > KEY_CACHE {
                return Vec::new();
            }
            taken.push(event);
        }
        taken
    }
}
