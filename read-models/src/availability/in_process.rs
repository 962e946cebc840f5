//! The availability cache without Redis: in the memory of one process, bounded in bytes.
//!
//! Every serving process feeds its own, from its own tail of the log. A restart begins cold.

use std::collections::HashMap;
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::NaiveDate;
use domain::ids::{Id, ProviderId};
use domain::position::{Partition, PartitionCount, Position, PositionToken};
use moka::sync::Cache;

use super::{
    Action, AvailabilityCache, AvailabilityDocs, CacheBatch, CacheState, CacheUnavailable,
    CacheWrite, Cached, CatalogueMark, DayListDoc, Doc, Key, Kind, SILENCE, Value,
};

/// How much it may keep.
#[derive(Debug, Clone, Copy)]
pub struct InProcessOptions {
    /// The most memory of all values together, in bytes, roughly.
    pub max_bytes: u64,
    /// How long a value is kept at most: a safety net (K25).
    pub ttl: Duration,
    /// How long a partition's values hold without a word of its projector.
    pub silence: Duration,
}

impl Default for InProcessOptions {
    fn default() -> Self {
        Self {
            max_bytes: 64 * 1024 * 1024,
            ttl: Duration::from_secs(24 * 60 * 60),
            silence: SILENCE,
        }
    }
}

/// The cache of one process.
pub struct InProcessCache {
    partitions: PartitionCount,
    entries: Cache<Key, Entry>,
    states: HashMap<Partition, State>,
    silence: Duration,
}

/// What the cache knows of a partition.
#[derive(Default)]
struct State {
    /// Held while entries of the partition are written.
    writing: Mutex<()>,
    progress: RwLock<Progress>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    epoch: u64,
    ceiling: Option<u64>,
    applied: Option<u64>,
    /// When its projector last applied something, or said that there is nothing to apply.
    heard: Option<Instant>,
}

impl Progress {
    fn state(self) -> Option<CacheState> {
        let Self { epoch, ceiling, applied, heard: _ } = self;
        Some(CacheState { epoch, ceiling: ceiling?, applied: applied? })
    }
}

#[derive(Clone)]
struct Entry {
    epoch: u64,
    number: u64,
    value: Option<Value>,
}

impl InProcessCache {
    /// An empty cache for a log of so many partitions.
    pub fn new(partitions: PartitionCount, options: InProcessOptions) -> Self {
        let entries = Cache::builder()
            .max_capacity(options.max_bytes)
            .weigher(|_, entry: &Entry| entry.value.as_ref().map_or(128, weight))
            .time_to_live(options.ttl)
            .build();
        let states = partitions.all().map(|p| (p, State::default())).collect();
        Self { partitions, entries, states, silence: options.silence }
    }

    /// Loses everything at once, as a cache may.
    pub fn clear(&self) {
        for state in self.states.values() {
            let _writing = state.writing.lock().unwrap_or_else(|poison| poison.into_inner());
            let mut progress = state.progress.write().unwrap_or_else(|poison| poison.into_inner());
            *progress = Progress { epoch: progress.epoch + 1, ..Progress::default() };
        }
        self.entries.invalidate_all();
    }

    /// Loses the lists, which show people: somebody is being erased. What readers compute slots from shows nobody.
    pub fn lose_all_lists(&self) {
        for (key, _) in &self.entries {
            match *key {
                Key::DayList(..) => self.entries.invalidate(&*key),
                Key::Schedule(_) | Key::Day(..) | Key::Catalogue(_) => {}
            }
        }
    }

    /// A partition the log does not have has no state, and nothing is kept of it; nor is there anything in one whose
    /// projector is silent: no entry is of the epoch 0.
    fn progress(&self, partition: Partition) -> Progress {
        let Some(state) = self.states.get(&partition) else { return Progress::default() };
        let progress = *state.progress.read().unwrap_or_else(|poison| poison.into_inner());
        if self.is_alive(&progress) { progress } else { Progress::default() }
    }

    fn is_alive(&self, progress: &Progress) -> bool {
        progress.heard.is_some_and(|heard| heard.elapsed() < self.silence)
    }

    fn doc<T: Kind>(&self, key: Key, progress: Progress) -> Option<Doc<T>> {
        let entry = self.entries.get(&key).filter(|entry| entry.epoch == progress.epoch)?;
        let value = match entry.value {
            Some(value) => Some(T::from_value(value)?),
            None => None,
        };
        Some(Doc { number: entry.number, value })
    }

    fn cached<T: Kind>(&self, key: Key) -> Cached<T> {
        let progress = self.progress(key.partition(self.partitions));
        Cached { applied: progress.applied, doc: self.doc(key, progress) }
    }

    /// Writes one entry, with the partition's lock held.
    fn write(&self, epoch: u64, write: CacheWrite, insert: bool) {
        let CacheWrite { key, number, action } = write;
        let there = self.entries.get(&key).filter(|entry| entry.epoch == epoch);
        if there.as_ref().is_some_and(|entry| entry.number >= number) {
            return;
        }
        match action {
            Action::Forget => self.entries.invalidate(&key),
            Action::Put(value) if insert || there.is_some() => {
                self.entries.insert(key, Entry { epoch, number, value });
            }
            Action::Put(_) => {}
        }
    }
}

#[async_trait]
impl AvailabilityCache for InProcessCache {
    async fn apply(&self, batch: CacheBatch) -> Result<(), CacheUnavailable> {
        let CacheBatch { partition, from, to, writes } = batch;
        let Some(state) = self.states.get(&partition) else { return Ok(()) };
        let _writing = state.writing.lock().unwrap_or_else(|poison| poison.into_inner());
        let (epoch, in_order) = {
            let mut progress = state.progress.write().unwrap_or_else(|poison| poison.into_inner());
            let goes_on = progress.applied.is_some_and(|applied| applied >= from);
            if !goes_on || !self.is_alive(&progress) {
                *progress = Progress { epoch: progress.epoch + 1, ..Progress::default() };
            }
            progress.heard = Some(Instant::now());
            let in_order = progress.ceiling.is_none_or(|ceiling| ceiling == from);
            progress.ceiling = progress.ceiling.max(Some(to));
            (progress.epoch, in_order)
        };
        for write in writes.into_values() {
            debug_assert_eq!(write.key.partition(self.partitions), partition);
            self.write(epoch, write, in_order);
        }
        let mut progress = state.progress.write().unwrap_or_else(|poison| poison.into_inner());
        progress.applied = progress.applied.max(Some(to));
        Ok(())
    }

    async fn fill(
        &self,
        partition: Partition,
        as_of: u64,
        writes: Vec<CacheWrite>,
    ) -> Result<(), CacheUnavailable> {
        let Some(state) = self.states.get(&partition) else { return Ok(()) };
        let _writing = state.writing.lock().unwrap_or_else(|poison| poison.into_inner());
        let Progress { epoch, ceiling, applied: _, heard: _ } = self.progress(partition);
        if ceiling.is_some_and(|ceiling| ceiling <= as_of) {
            for write in writes.into_iter().filter(CacheWrite::is_put) {
                debug_assert_eq!(write.key.partition(self.partitions), partition);
                self.write(epoch, write, true);
            }
        }
        Ok(())
    }

    async fn get(
        &self,
        provider: ProviderId,
        utc_days: &[NaiveDate],
    ) -> Result<AvailabilityDocs, CacheUnavailable> {
        let progress = self.progress(self.partitions.partition_of(provider.slot()));
        let day = |&day: &NaiveDate| (day, self.doc(Key::Day(provider, day), progress));
        Ok(AvailabilityDocs {
            state: progress.state(),
            schedule: self.doc(Key::Schedule(provider), progress),
            days: utc_days.iter().map(day).collect(),
        })
    }

    async fn get_day_list(
        &self,
        provider: ProviderId,
        local_day: NaiveDate,
    ) -> Result<Cached<DayListDoc>, CacheUnavailable> {
        Ok(self.cached(Key::DayList(provider, local_day)))
    }

    async fn get_catalogue(
        &self,
    ) -> Result<Vec<(Partition, Cached<CatalogueMark>)>, CacheUnavailable> {
        let mark = |partition| (partition, self.cached(Key::Catalogue(partition)));
        Ok(self.partitions.all().map(mark).collect())
    }

    async fn lose_lists(&self, days: &[(ProviderId, NaiveDate)]) -> Result<(), CacheUnavailable> {
        for key in super::lists_of(days) {
            self.entries.invalidate(&key);
        }
        Ok(())
    }

    async fn state(&self, partition: Partition) -> Result<Option<CacheState>, CacheUnavailable> {
        Ok(self.progress(partition).state())
    }

    async fn applied(&self) -> Result<PositionToken, CacheUnavailable> {
        let position = |partition| {
            let number = self.progress(partition).applied?;
            Some(Position { partition, number })
        };
        Ok(self.partitions.all().filter_map(position).collect())
    }
}

#[cfg(test)]
impl InProcessCache {
    /// Loses one entry, as eviction does.
    pub(super) fn evict(&self, key: Key) {
        self.entries.invalidate(&key);
    }
}

/// About how many bytes a value takes.
fn weight(value: &Value) -> u32 {
    let bytes = 256
        + match value {
            Value::Schedule(doc) => doc.size() * 64 + 512,
            Value::Day(doc) => doc.size(),
            Value::DayList(doc) => doc.items.len() * 1024,
            Value::Catalogue(_) => 0,
        };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
