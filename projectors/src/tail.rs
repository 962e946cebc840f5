//! One tail of the log for all projectors of a process.
//!
//! Projectors of one process stand at about the same place, so each partition keeps its latest decoded
//! events in a ring: the first projector to ask fetches and decodes, the others read from memory. A
//! projector that is far behind misses the ring and reads the log itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::position::Partition;
use event_log::{EventLog, LogError, Recorded};

/// How many decoded events a partition keeps.
const RING: usize = 4096;

/// A shared view of the newest events of every partition.
pub struct SharedTail {
    log: EventLog,
    partitions: Vec<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Events at consecutive positions; the newest last.
    ring: Mutex<VecDeque<Arc<Recorded>>>,
    /// Held while one projector fetches, so that the others find the ring filled.
    fetching: tokio::sync::Mutex<()>,
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
        let shared = &self.partitions[usize::from(partition.0)];
        if let Some(events) = shared.read(after, limit) {
            return Ok(events);
        }
        let _turn = shared.fetching.lock().await;
        if let Some(events) = shared.read(after, limit) {
            return Ok(events);
        }
        let events: Vec<_> =
            self.log.tail(partition, after, limit).await?.into_iter().map(Arc::new).collect();
        shared.keep(after, &events);
        Ok(events)
    }

    /// Waits until there is something after a position, or for so long.
    pub async fn wait(
        &self,
        partition: Partition,
        after: u64,
        at_most: Duration,
    ) -> Result<(), LogError> {
        self.log.wait_beyond(partition, after, at_most).await.map(drop)
    }
}

impl Shared {
    fn read(&self, after: u64, limit: u32) -> Option<Vec<Arc<Recorded>>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let first = ring.front()?.at.number;
        let skip = usize::try_from((after + 1).checked_sub(first)?).ok()?;
        if skip >= ring.len() {
            return None;
        }
        Some(ring.iter().skip(skip).take(usize::try_from(limit).ok()?).cloned().collect())
    }

    /// Keeps what was fetched if it continues the ring, or starts it anew if it is ahead of it.
    fn keep(&self, after: u64, events: &[Arc<Recorded>]) {
        let Some(last) = events.last() else { return };
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = ring.back().map_or(0, |event| event.at.number);
        if !ring.is_empty() && last.at.number <= newest {
            return;
        }
        if newest != after {
            ring.clear();
        }
        ring.extend(events.iter().cloned());
        let surplus = ring.len().saturating_sub(RING);
        ring.drain(..surplus);
    }
}
