//! The availability cache: per provider the schedule, per provider and UTC day what is taken; cached the same way
//! (`S0-16`), a provider's appointments of a local day; and per partition a mark that the catalogue is as it was, by which
//! answers made of it are kept (`S0-24`, `S3-71`).
//!
//! Free slots are computed on read, from intervals, so a change of service or duration needs no new cache.
//! For example: `SlotTaken` reaches the projector, which loads the agenda and puts the day's whole [`DayDoc`];
//! a client asks for that day, [`AvailabilityCache::get`] brings schedule and days in one round trip, and
//! [`Availability::free_slots`] subtracts the one from the other. What is missing the reader loads from the
//! log, answers, and offers to the cache by [`AvailabilityCache::fill`].
//!
//! # What keeps it right
//!
//! The cache may lose anything at any time: an entry (eviction, expiry), everything (a flush), or the last
//! minutes (a restart from an older snapshot). A lost entry must be a miss, never an older value. So:
//!
//! - every value carries the number, within its partition, of the event it is as of; an older or equal one
//!   is ignored, twice equals once;
//! - per partition the cache keeps a *ceiling*, the last event any projector began to apply, and what was
//!   *applied*, up to which all is in place. [`AvailabilityCache::apply`] raises the ceiling, writes, then
//!   raises what was applied;
//! - a fill says up to which event of the partition it is complete, and is refused below the ceiling: it
//!   could hide an event that was applied and whose value is gone;
//! - so is a projector's value for an entry that is not there, when the ceiling says that somebody was there
//!   before it: that projector is late, or repeats itself. The entry stays a miss;
//! - a projector that goes on beyond what was applied knows that the cache lost its memory: it begins a new
//!   *epoch*, and everything of another epoch is a miss from then on.
//!
//! An idle projector applies an empty batch now and then ([`CacheBatch::heartbeat`]), so that a cache that
//! was lost is noticed without an event, and so that a cache whose projector was lost is noticed at all: a partition
//! nobody applied anything to for [`SILENCE`] has forgotten everything, and its readers go to the log. A crash at any point leaves a ceiling that is too high: the repeated
//! batch then only replaces what is there, and readers fill the rest.

#[cfg(test)]
mod contract;
mod in_process;
mod redis;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::NaiveDate;
use domain::ids::{Id, ProviderId};
use domain::position::{Partition, PartitionCount, PositionToken};
use domain::provider::{Provider, Service};
use domain::slots::{Measure, Schedule, Span, Taken};
use domain::{Instant, Refusal};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::in_process::{InProcessCache, InProcessOptions};
pub use self::redis::{RedisCache, RedisOptions};
use crate::appointments::AppointmentRow;

/// How long a partition's values hold without a word of its projector, which gives one about every second.
pub const SILENCE: Duration = Duration::from_secs(30);

/// When a provider can be booked, and what for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleDoc {
    /// Hours, overrides, policy.
    pub schedule: Schedule,
    /// What is offered at present.
    pub services: Vec<Measure>,
}

impl ScheduleDoc {
    /// What a cache is to know of a shop; `None` when it cannot be booked.
    pub fn of(provider: &Provider) -> Option<Self> {
        provider.open().ok()?;
        let offered = provider.services.values().filter(|service| service.is_active);
        let services = offered.map(Service::measure).collect();
        Some(Self { schedule: provider.schedule.clone(), services })
    }

    /// How many things of some 64 bytes it has.
    fn size(&self) -> usize {
        let Schedule { overrides, time_off, own_weekly, .. } = &self.schedule;
        self.services.len() + overrides.len() + time_off.len() + 16 * own_weekly.len()
    }
}

/// What is taken of a provider's UTC day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayDoc {
    /// Its occupations.
    pub taken: Vec<Taken>,
}

impl DayDoc {
    /// About how many bytes it takes.
    pub(crate) fn size(&self) -> usize {
        self.taken.iter().map(|taken| 96 + 12 * taken.held_until.len()).sum()
    }
}

/// A provider's appointments of a local day (`S0-16`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayListDoc {
    /// The instants of the day when it was listed: a provider that moved to another zone has other days.
    pub within: Span,
    /// All of them, by start.
    pub items: Vec<AppointmentRow>,
}

/// That nothing of a partition's providers, services and categories has changed since the event this is as of. As long as
/// it is there with the same number, what was made of them still holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogueMark {}

/// A value of the cache and how recent it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doc<T> {
    /// The event of the partition it is as of.
    pub number: u64,
    /// The value; `None` is a tombstone: there is no such thing.
    pub value: Option<Arc<T>>,
}

/// What the cache has of one thing; a miss is `doc: None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cached<T> {
    /// Up to which event of the thing's partition the cache is applied; `None` when it does not know.
    pub applied: Option<u64>,
    /// What there is.
    pub doc: Option<Doc<T>>,
}

/// How far the cache is with a partition. As long as it says the same, whatever was read under it is still as of
/// [`Self::applied`]: every write of a later event changes it, and what is lost meanwhile does not make it older.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheState {
    epoch: u64,
    ceiling: u64,
    applied: u64,
}

impl CacheState {
    /// Up to which event of the partition everything is in place.
    pub const fn applied(&self) -> u64 {
        self.applied
    }
}

/// What the cache has of one provider.
#[derive(Debug, Clone, PartialEq)]
pub struct AvailabilityDocs {
    /// How far the cache is with the provider's partition; `None` when it does not know.
    pub state: Option<CacheState>,
    /// The schedule.
    pub schedule: Option<Doc<ScheduleDoc>>,
    /// The days that were asked for, in that order.
    pub days: Vec<(NaiveDate, Option<Doc<DayDoc>>)>,
}

/// What can be cached, and under which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Key {
    Schedule(ProviderId),
    Day(ProviderId, NaiveDate),
    DayList(ProviderId, NaiveDate),
    Catalogue(Partition),
}

impl Key {
    fn partition(self, partitions: PartitionCount) -> Partition {
        match self {
            Self::Schedule(provider) | Self::Day(provider, _) | Self::DayList(provider, _) => {
                partitions.partition_of(provider.slot())
            }
            Self::Catalogue(partition) => partition,
        }
    }
}

/// The lists that show appointments of these days.
fn lists_of(days: &[(ProviderId, NaiveDate)]) -> BTreeSet<Key> {
    days.iter().map(|&(provider, day)| Key::DayList(provider, day)).collect()
}

/// A value of any kind.
#[derive(Debug, Clone)]
enum Value {
    Schedule(Arc<ScheduleDoc>),
    Day(Arc<DayDoc>),
    DayList(Arc<DayListDoc>),
    Catalogue(Arc<CatalogueMark>),
}

/// One of the kinds of values, and its place in [`Value`].
trait Kind: Sized + Serialize + for<'de> Deserialize<'de> {
    fn into_value(this: Arc<Self>) -> Value;
    fn from_value(value: Value) -> Option<Arc<Self>>;
}

macro_rules! kinds {
    ($($kind:ident($doc:ty)),*) => {$(
        impl Kind for $doc {
            fn into_value(this: Arc<Self>) -> Value {
                Value::$kind(this)
            }
            fn from_value(value: Value) -> Option<Arc<Self>> {
                if let Value::$kind(this) = value { Some(this) } else { None }
            }
        }
    )*

        impl Value {
            fn json(&self) -> Vec<u8> {
                match self {
                    $(Self::$kind(doc) => serde_json::to_vec(doc),)*
                }
                .expect("what is cached is plain data")
            }
        }
    };
}

kinds! {
    Schedule(ScheduleDoc),
    Day(DayDoc),
    DayList(DayListDoc),
    Catalogue(CatalogueMark)
}

/// What to do with one entry.
#[derive(Debug, Clone)]
enum Action {
    /// Store it; `None` is a tombstone.
    Put(Option<Value>),
    /// Let it be a miss, so that the next reader fills it.
    Forget,
}

/// A value to write, and the number of the event it is as of.
#[derive(Debug, Clone)]
pub struct CacheWrite {
    key: Key,
    number: u64,
    action: Action,
}

impl CacheWrite {
    /// A provider's schedule; `None` when there is no such provider.
    pub fn schedule(provider: ProviderId, number: u64, doc: Option<ScheduleDoc>) -> Self {
        Self::put(Key::Schedule(provider), number, doc)
    }

    /// What is taken of a provider's UTC day.
    pub fn day(provider: ProviderId, utc_day: NaiveDate, number: u64, doc: DayDoc) -> Self {
        Self::put(Key::Day(provider, utc_day), number, Some(doc))
    }

    /// A provider's appointments of a local day.
    pub fn day_list(
        provider: ProviderId,
        local_day: NaiveDate,
        number: u64,
        doc: DayListDoc,
    ) -> Self {
        Self::put(Key::DayList(provider, local_day), number, Some(doc))
    }

    /// Says that a provider's appointments of a local day changed: the next reader fills them.
    pub fn forget_day_list(provider: ProviderId, local_day: NaiveDate, number: u64) -> Self {
        let key = Key::DayList(provider, local_day);
        Self { key, number, action: Action::Forget }
    }

    /// That a partition's catalogue is as of this event.
    pub fn catalogue(partition: Partition, number: u64) -> Self {
        Self::put(Key::Catalogue(partition), number, Some(CatalogueMark {}))
    }

    /// Says that a partition's catalogue changed: what was made of it holds no longer.
    pub fn forget_catalogue(partition: Partition, number: u64) -> Self {
        Self { key: Key::Catalogue(partition), number, action: Action::Forget }
    }

    /// Whether it stores something: all a fill may do.
    fn is_put(&self) -> bool {
        matches!(self.action, Action::Put(_))
    }

    fn put<T: Kind>(key: Key, number: u64, doc: Option<T>) -> Self {
        let value = doc.map(|doc| T::into_value(Arc::new(doc)));
        Self { key, number, action: Action::Put(value) }
    }
}

/// What one batch of events does to the cache.
#[derive(Debug, Clone)]
pub struct CacheBatch {
    partition: Partition,
    from: u64,
    to: u64,
    writes: HashMap<Key, CacheWrite>,
}

impl CacheBatch {
    /// The batch of the events after `from`, up to and with `to`. `from` is where the projector's checkpoint
    /// stands; it may move on only when the batch was applied.
    pub fn new(partition: Partition, from: u64, to: u64) -> Self {
        Self { partition, from, to: to.max(from), writes: HashMap::new() }
    }

    /// An empty batch: what a projector that has nothing to do applies now and then, and when it starts.
    pub fn heartbeat(partition: Partition, checkpoint: u64) -> Self {
        Self::new(partition, checkpoint, checkpoint)
    }

    /// Adds a write; of two to the same entry the later counts. All must be of the batch's partition.
    pub fn push(&mut self, write: CacheWrite) {
        let older = self.writes.get(&write.key).is_some_and(|there| there.number > write.number);
        if !older {
            self.writes.insert(write.key, write);
        }
    }
}

/// The cache cannot be reached, or does not answer in time. Readers go to the log; the projector tries again.
#[derive(Debug, Error)]
#[error("the availability cache does not answer")]
pub struct CacheUnavailable(#[source] pub(crate) Box<dyn std::error::Error + Send + Sync>);

/// Where availability is cached: [`RedisCache`], or [`InProcessCache`] without Redis.
#[async_trait]
pub trait AvailabilityCache: Send + Sync + 'static {
    /// Applies a batch of the log. Says nothing of what was ignored: readers find it missing, or newer.
    async fn apply(&self, batch: CacheBatch) -> Result<(), CacheUnavailable>;

    /// Offers what a reader loaded after a miss. All must be of `partition`, and hold every event of it up to
    /// `as_of`: read the partition's head first, then load.
    async fn fill(
        &self,
        partition: Partition,
        as_of: u64,
        writes: Vec<CacheWrite>,
    ) -> Result<(), CacheUnavailable>;

    /// A provider's schedule and what is taken on these UTC days, in one round trip.
    async fn get(
        &self,
        provider: ProviderId,
        utc_days: &[NaiveDate],
    ) -> Result<AvailabilityDocs, CacheUnavailable>;

    /// A provider's appointments of a local day.
    async fn get_day_list(
        &self,
        provider: ProviderId,
        local_day: NaiveDate,
    ) -> Result<Cached<DayListDoc>, CacheUnavailable>;

    /// The marks of all partitions' catalogues.
    async fn get_catalogue(
        &self,
    ) -> Result<Vec<(Partition, Cached<CatalogueMark>)>, CacheUnavailable>;

    /// Loses the lists of these local days: somebody in them was erased. Whoever reads next fills them anew; a reader that was at it may bring an older one back, so this
    /// is done twice.
    async fn lose_lists(&self, days: &[(ProviderId, NaiveDate)]) -> Result<(), CacheUnavailable>;

    /// How far the cache is with a partition, asked for after this call began; `None` when it does not know. Much cheaper
    /// than [`Self::get`].
    async fn state(&self, partition: Partition) -> Result<Option<CacheState>, CacheUnavailable>;

    /// Up to which event every partition is applied. One the cache knows nothing of is left out.
    async fn applied(&self) -> Result<PositionToken, CacheUnavailable>;
}

/// UTC days that were needed and not given.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("what is taken on {} days is missing", .0.len())]
pub struct MissingDays(pub Vec<NaiveDate>);

/// A provider's schedule and what is taken: what free slots are computed from.
#[derive(Debug, Clone)]
pub struct Availability {
    schedule: Arc<ScheduleDoc>,
    days: BTreeMap<NaiveDate, Arc<DayDoc>>,
}

impl Availability {
    /// The UTC days that can matter to slots of these local dates, whatever the zone: to be asked of the
    /// cache before the zone is known. Offsets and buffers together are less than a day.
    pub fn days_around(first: NaiveDate, last: NaiveDate) -> Vec<NaiveDate> {
        let from = first.pred_opt().unwrap_or(first);
        let to = last.succ_opt().unwrap_or(last);
        from.iter_days().take_while(|day| *day <= to).collect()
    }

    /// From the schedule, with no day known to it yet.
    pub fn new(schedule: Arc<ScheduleDoc>) -> Self {
        Self { schedule, days: BTreeMap::new() }
    }

    /// From what the cache gave, as far as it goes; `None` without a schedule, be it a miss or a tombstone.
    pub fn from_docs(docs: &AvailabilityDocs) -> Option<Self> {
        let mut this = Self::new(docs.schedule.as_ref()?.value.clone()?);
        for (day, doc) in &docs.days {
            if let Some(Doc { number: _, value: Some(doc) }) = doc {
                this.days.insert(*day, Arc::clone(doc));
            }
        }
        Some(this)
    }

    /// Adds what is taken on a UTC day, such as one loaded from the log.
    pub fn add_day(&mut self, utc_day: NaiveDate, doc: Arc<DayDoc>) {
        self.days.insert(utc_day, doc);
    }

    /// Whether it is made of the very same documents, not just of equal ones. A cache gives the same document as long as
    /// nothing changed it.
    pub fn is_same(&self, other: &Self) -> bool {
        let days = self.days.iter().zip(&other.days);
        Arc::ptr_eq(&self.schedule, &other.schedule)
            && self.days.len() == other.days.len()
            && days.into_iter().all(|((day, doc), (of, same))| day == of && Arc::ptr_eq(doc, same))
    }

    /// The same with no more days than can matter to a service's slots on these local dates now.
    #[must_use]
    pub fn for_slots(
        mut self,
        measure: &Measure,
        first: NaiveDate,
        last: NaiveDate,
        now: Instant,
    ) -> Self {
        let without_days = Self::new(Arc::clone(&self.schedule));
        let matter = match without_days.free_days(measure, first, last, now) {
            Err(MissingDays(days)) => days,
            Ok(_) => Vec::new(),
        };
        self.days.retain(|day, _| matter.binary_search(day).is_ok());
        self
    }

    /// The UTC days it knows, in order.
    pub fn days(&self) -> Vec<NaiveDate> {
        self.days.keys().copied().collect()
    }

    /// About how many bytes it holds on to.
    pub fn weight(&self) -> u64 {
        let taken: usize = self.days.values().map(|day| day.size()).sum();
        let schedule = self.schedule.size();
        (512 + 64 * schedule + 128 * self.days.len() + taken) as u64
    }

    /// The schedule and the services.
    pub fn schedule(&self) -> &ScheduleDoc {
        &self.schedule
    }

    /// The free slots of a service on a local date, in order (`S0-22`).
    pub fn free_slots(
        &self,
        measure: &Measure,
        local_day: NaiveDate,
        now: Instant,
    ) -> Result<Vec<Span>, MissingDays> {
        let mut slots = self.open_slots(measure, local_day, now);
        let missing = self.missing(measure, local_day, &slots);
        if !missing.is_empty() {
            return Err(MissingDays(missing));
        }
        if self.is_full(local_day, now) {
            return Ok(Vec::new());
        }
        slots.retain(|slot| self.is_free(measure, *slot, now));
        Ok(slots)
    }

    /// The slot that starts then, or why a booking of it would be refused now: the very rules of the booking.
    pub fn bookable(
        &self,
        measure: &Measure,
        start: Instant,
        now: Instant,
    ) -> Result<Result<Span, Refusal>, MissingDays> {
        let schedule = &self.schedule.schedule;
        let slot = match schedule.bookable(measure, start, now) {
            Ok(slot) => slot,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let local_day = schedule.local_day(start);
        let missing = self.missing(measure, local_day, &[slot]);
        if !missing.is_empty() {
            return Err(MissingDays(missing));
        }
        let obstacle = |taken: &Taken| measure.obstacle(slot, taken, now);
        let span = measure.buffered(slot);
        let mut days = span.utc_days().into_iter().filter_map(|day| self.days.get(&day));
        if let Some(obstacle) = days.find_map(|day| day.taken.iter().find_map(obstacle)) {
            return Ok(Err(obstacle.refusal()));
        }
        match schedule.policy.max_per_day {
            Some(limit) if self.is_full(local_day, now) => {
                Ok(Err(Refusal::DayFull { limit, alternatives: Vec::new() }))
            }
            Some(_) | None => Ok(Ok(slot)),
        }
    }

    /// When the first of the holds that are in somebody's way ends: until then nothing but an event changes what is free.
    pub fn next_expiry(&self, now: Instant) -> Option<Instant> {
        let taken = self.days.values().flat_map(|day| &day.taken);
        taken.flat_map(|taken| &taken.held_until).filter(|until| now < **until).min().copied()
    }

    /// The free slots of a service on the local dates from `first` to `last`, in order.
    pub fn free_between(
        &self,
        measure: &Measure,
        first: NaiveDate,
        last: NaiveDate,
        now: Instant,
    ) -> Result<Vec<Span>, MissingDays> {
        let schedule = &self.schedule.schedule;
        let first = first.max(schedule.local_day(now));
        let last = last.min(schedule.last_day(now));
        let (mut free, mut missing) = (Vec::new(), Vec::new());
        for day in first.iter_days().take_while(|day| *day <= last) {
            match self.free_slots(measure, day, now) {
                Ok(mut slots) => free.append(&mut slots),
                Err(MissingDays(mut days)) => missing.append(&mut days),
            }
        }
        if missing.is_empty() {
            return Ok(free);
        }
        missing.sort_unstable();
        missing.dedup();
        Err(MissingDays(missing))
    }

    /// The local dates from `first` to `last` with at least one free slot of a service, in order (`S0-21`).
    pub fn free_days(
        &self,
        measure: &Measure,
        first: NaiveDate,
        last: NaiveDate,
        now: Instant,
    ) -> Result<Vec<NaiveDate>, MissingDays> {
        let schedule = &self.schedule.schedule;
        let first = first.max(schedule.local_day(now));
        let last = last.min(schedule.last_day(now));
        let (mut free, mut missing) = (Vec::new(), Vec::new());
        for day in first.iter_days().take_while(|day| *day <= last) {
            let slots = self.open_slots(measure, day, now);
            missing.append(&mut self.missing(measure, day, &slots));
            if missing.is_empty()
                && slots.iter().any(|slot| self.is_free(measure, *slot, now))
                && !self.is_full(day, now)
            {
                free.push(day);
            }
        }
        if missing.is_empty() {
            return Ok(free);
        }
        missing.sort_unstable();
        missing.dedup();
        Err(MissingDays(missing))
    }

    /// The slots of a local date that may be booked now, were nothing taken.
    fn open_slots(&self, measure: &Measure, day: NaiveDate, now: Instant) -> Vec<Span> {
        self.schedule.schedule.free(measure, day, &[], now)
    }

    /// The UTC days of these slots of one local date, buffers included, of which nothing is known. An
    /// occupation that is in a slot's way shares an instant with it, and stands in the agenda of that
    /// instant's day. Where a local date may be full, also those of the date itself.
    fn missing(&self, measure: &Measure, local_day: NaiveDate, slots: &[Span]) -> Vec<NaiveDate> {
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return Vec::new() };
        let whole =
            Span { start: measure.buffered(*first).start, end: measure.buffered(*last).end };
        let mut days = whole.utc_days();
        days.extend(self.schedule.schedule.days_that_fill(local_day));
        days.sort_unstable();
        days.dedup();
        days.retain(|day| !self.days.contains_key(day));
        days
    }

    fn is_full(&self, local_day: NaiveDate, now: Instant) -> bool {
        let schedule = &self.schedule.schedule;
        let fills = schedule.days_that_fill(local_day);
        let days = fills.iter().filter_map(|day| self.days.get(day));
        schedule.is_full(local_day, days.flat_map(|day| &day.taken), now)
    }

    fn is_free(&self, measure: &Measure, slot: Span, now: Instant) -> bool {
        let span = measure.buffered(slot);
        let days = self.days.range(span.start.date_naive()..=span.end.date_naive());
        days.flat_map(|(_, doc)| &doc.taken).all(|taken| measure.fits(slot, taken, now))
    }
}
