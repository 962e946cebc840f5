//! One tail of the log for all projectors of a process.
//!
//! Projectors of one process stand at about the same place, so each partition keeps its latest decoded
//! events in a ring: the first projector to ask takes what this process has just appended, or fetches and decodes; the
//! others read from memory. For example five projectors wait behind 3:17; one of them fetches 3:18, and four find it in
//! the ring. A projector that is
//! far behind, as one that was just added, misses the ring and reads the log itself, in nobody's way.
//!
//! Nothing here outlives the process; a crash leaves every projector to its checkpoint.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use domain::position::Partition;
use event_log::{EventLog, LogError, Recorded};

/// How many decoded events a partition keeps.
const RING: usize = 4096;
/// And how long: they hold opened personal data, which lingers nowhere for more than a minute.
const KEEP: Duration = Duration::from_secs(60);
/// How often a partition's head is asked for, at most.
const HEAD: Duration = Duration::from_secs(1);

/// A shared view of the newest events of every partition.
pub struct SharedTail {
    log: EventLog,
    partitions: Vec<Shared>,
}

#[derive(Default)]
struct Shared {
    ring: Mutex<Ring>,
    /// Held while one projector fetches, so that the others find the ring filled.
    fetching: tokio::sync::Mutex<()>,
    head: Mutex<Head>,
}

/// Events at consecutive positions, the newest last, each with when it was fetched.
#[derive(Default)]
struct Ring(VecDeque<(Instant, Arc<Recorded>)>);

/// A partition's head as last seen.
#[derive(Default)]
struct Head {
    number: u64,
    asked: Option<Instant>,
}

/// What a ring has for a reader.
enum Found {
    Events(Vec<Arc<Recorded>>),
    /// It begins beyond what the reader needs next.
    Behind,
    /// It ends before that.
    Ahead,
}

impl SharedTail {
    /// A tail of this log.
    pub fn new(log: EventLog) -> Arc<Self> {
        let partitions = log.partitions().all().map(|_| Shared::default()).collect();
        Arc::new(Self { log, partitions })
    }

    /// The log it is a tail of.
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// The events of a partition after a position, in order, at most `limit`; empty at the head.
    pub async fn read(
        &self,
        partition: Partition,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Arc<Recorded>>, LogError> {
        let shared = self.shared(partition);
        let found = locked(&shared.ring).read(after, limit);
        match found {
            Found::Events(events) => return Ok(events),
            Found::Behind => return self.fetch(partition, after, limit).await,
            Found::Ahead => {}
        }
        let _turn = shared.fetching.lock().await;
        if let Found::Events(events) = locked(&shared.ring).read(after, limit) {
            return Ok(events);
        }
        let mut events = self.log.take_appended(partition, after, limit);
        if events.is_empty() {
            events = self.fetch(partition, after, limit).await?;
        }
        locked(&shared.ring).keep(after, &events);
        Ok(events)
    }

    /// Waits until there is something after a position, or for so long; says which.
    pub async fn wait(
        &self,
        partition: Partition,
        after: u64,
        at_most: Duration,
    ) -> Result<bool, LogError> {
        locked(&self.shared(partition).ring).forget_old();
        self.log.wait_beyond(partition, after, at_most).await
    }

    /// The head of a partition, as it was within the last second; as last seen when the log does not answer.
    pub async fn head(&self, partition: Partition) -> u64 {
        let shared = self.shared(partition);
        let (seen, fresh) = {
            let mut head = locked(&shared.head);
            let fresh = head.asked.is_some_and(|asked| asked.elapsed() < HEAD);
            if !fresh {
                // Whoever comes meanwhile takes what was seen.
                head.asked = Some(Instant::now());
            }
            (head.number, fresh)
        };
        if fresh {
            return seen;
        }
        let number = self.log.head(partition).await.unwrap_or(seen);
        let mut head = locked(&shared.head);
        head.number = head.number.max(number);
        head.number
    }

    async fn fetch(
        &self,
        partition: Partition,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Arc<Recorded>>, LogError> {
        Ok(self.log.tail(partition, after, limit).await?.into_iter().map(Arc::new).collect())
    }

    fn shared(&self, partition: Partition) -> &Shared {
        &self.partitions[usize::from(partition.0)]
    }
}

impl Ring {
    fn read(&mut self, after: u64, limit: u32) -> Found {
        self.forget_old();
        let Some((_, first)) = self.0.front() else { return Found::Ahead };
        let Some(skip) = (after + 1).checked_sub(first.at.number) else { return Found::Behind };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        if skip >= self.0.len() {
            return Found::Ahead;
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Found::Events(self.0.iter().skip(skip).take(limit).map(|(_, e)| e.clone()).collect())
    }

    /// Keeps what was fetched if it continues the ring, or starts it anew if it is ahead of it.
    fn keep(&mut self, after: u64, events: &[Arc<Recorded>]) {
        let Some(last) = events.last() else { return };
        let newest = self.0.back().map(|(_, event)| event.at.number);
        if newest.is_some_and(|newest| last.at.number <= newest) {
            return;
        }
        if newest.is_some_and(|newest| newest != after) {
            self.0.clear();
        }
        let now = Instant::now();
        self.0.extend(events.iter().map(|event| (now, event.clone())));
        let surplus = self.0.len().saturating_sub(RING);
        self.0.drain(..surplus);
    }

    fn forget_old(&mut self) {
        while self.0.front().is_some_and(|(since, _)| since.elapsed() > KEEP) {
            self.0.pop_front();
        }
    }
}

/// What these locks guard is whole even if a holder panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
