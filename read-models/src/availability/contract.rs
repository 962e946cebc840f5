//! What every availability cache must do, run against both: in the process, and in a real Redis.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant as Timer};

use chrono::NaiveDate;
use domain::ids::{ProviderId, ServiceId};
use domain::position::Partition;
use domain::slots::Taken;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::testing::{
    at, day, id, partitions, position, provider_in, schedule, server, span, unique,
};

const COUNT: u16 = 7;
const P: Partition = Partition(3);
/// Longer than a test takes on a busy machine.
const AGES: Duration = Duration::from_secs(120);

/// A cache that can be made to forget.
enum Subject {
    InProcess(InProcessCache),
    Redis(RedisCache),
}

impl Subject {
    fn in_process(silence: Duration) -> Self {
        let options = InProcessOptions { silence, ..InProcessOptions::default() };
        Self::InProcess(InProcessCache::new(partitions(COUNT), options))
    }

    fn redis(silence: Duration) -> Self {
        let namespace = format!("{}:", unique("test"));
        // What a failed test leaves behind goes by itself.
        let ttl = Duration::from_secs(120);
        let timeout = Duration::from_secs(5);
        let options = RedisOptions { namespace, ttl, silence, timeout, ..RedisOptions::default() };
        let cache = RedisCache::new(&server("TEST_REDIS_URL"), partitions(COUNT), options);
        Self::Redis(cache.unwrap())
    }

    fn cache(&self) -> &dyn AvailabilityCache {
        match self {
            Self::InProcess(cache) => cache,
            Self::Redis(cache) => cache,
        }
    }

    async fn evict(&self, key: Key) {
        match self {
            Self::InProcess(cache) => cache.evict(key),
            Self::Redis(cache) => cache.evict(key).await,
        }
    }

    async fn lose_everything(&self) {
        match self {
            Self::InProcess(cache) => cache.clear(),
            Self::Redis(cache) => cache.restore(&[]).await,
        }
    }

    /// Applies a batch of these writes.
    async fn apply(&self, from: u64, to: u64, writes: Vec<CacheWrite>) {
        let mut batch = CacheBatch::new(P, from, to);
        writes.into_iter().for_each(|write| batch.push(write));
        self.cache().apply(batch).await.unwrap();
    }

    async fn applied(&self) -> u64 {
        self.cache().applied().await.unwrap().number(P)
    }

    /// The number of a day's value.
    async fn number(&self, utc_day: NaiveDate) -> Option<u64> {
        let docs = self.cache().get(shop(), &[utc_day]).await.unwrap();
        docs.days[0].1.as_ref().map(|doc| doc.number)
    }
}

/// Runs each of these against both caches, under its own name.
macro_rules! contract {
    ($($name:ident;)*) => {
        mod in_process {
            use super::{AGES, Subject};
            $(#[tokio::test] async fn $name() { super::$name(Subject::in_process(AGES)).await; })*
        }
        mod redis {
            use super::{AGES, Subject};
            $(#[tokio::test] async fn $name() { super::$name(Subject::redis(AGES)).await; })*
        }
    };
}

contract! {
    what_was_put_comes_back_in_one_reading;
    an_older_write_is_ignored_and_twice_equals_once;
    of_two_writes_to_one_entry_in_a_batch_the_later_counts;
    a_tombstone_is_no_miss_and_nothing_older_comes_back;
    what_is_forgotten_is_a_miss_until_it_is_filled;
    a_cold_cache_takes_no_fill_and_says_so;
    a_fill_that_may_hide_an_applied_event_is_refused;
    what_was_applied_never_sinks;
    a_state_is_another_after_every_event_and_the_same_after_none;
    many_who_ask_for_the_state_at_once_are_all_answered;
    a_late_projector_brings_back_nothing_that_was_evicted;
    a_repeated_batch_after_a_crash_goes_on;
    a_cache_that_lost_everything_is_cold_not_wrong;
    a_gap_makes_everything_before_it_a_miss;
    partitions_do_not_disturb_each_other;
    large_batches_are_applied_whole;
    day_lists_and_marks_of_the_catalogue_are_cached_the_same_way;
    racing_writers_leave_the_latest;
    whatever_is_lost_late_or_repeated_no_value_is_older_than_what_was_applied;
}

fn shop() -> ProviderId {
    provider_in(P.0, COUNT, 1)
}

fn first() -> NaiveDate {
    day("2026-03-10")
}

fn doc(minutes: i64) -> DayDoc {
    let span = span("2026-03-10T13:00:00Z", minutes);
    let (start, service) = (span.start, id::<ServiceId>(4));
    DayDoc {
        taken: vec![Taken {
            span,
            start,
            service,
            capacity: 1,
            seats_taken: 1,
            held_until: vec![],
        }],
    }
}

fn applied(docs: &AvailabilityDocs) -> Option<u64> {
    docs.state.map(|state| state.applied())
}

fn put(utc_day: NaiveDate, number: u64) -> CacheWrite {
    CacheWrite::day(shop(), utc_day, number, doc(i64::try_from(number).unwrap()))
}

async fn what_was_put_comes_back_in_one_reading(subject: Subject) {
    let (one, two) = (first(), day("2026-03-11"));
    let hours = schedule("America/Sao_Paulo", id(4));
    let schedule = CacheWrite::schedule(shop(), 4, Some(hours.clone()));
    subject.apply(0, 9, vec![schedule, put(one, 7), put(two, 9)]).await;
    for _ in 0..2 {
        let docs = subject.cache().get(shop(), &[two, day("2026-03-12"), one]).await.unwrap();
        assert_eq!(applied(&docs), Some(9));
        assert_eq!(docs.schedule, Some(Doc { number: 4, value: Some(Arc::new(hours.clone())) }));
        let value = |number, minutes| Some(Doc { number, value: Some(Arc::new(doc(minutes))) });
        let expected = [(two, value(9, 9)), (day("2026-03-12"), None), (one, value(7, 7))];
        assert_eq!(docs.days, expected);
    }
    let nobody = subject.cache().get(provider_in(P.0, COUNT, 2), &[one]).await.unwrap();
    assert_eq!((applied(&nobody), nobody.schedule, &nobody.days[0].1), (Some(9), None, &None));
}

async fn an_older_write_is_ignored_and_twice_equals_once(subject: Subject) {
    subject.apply(0, 5, vec![put(first(), 5)]).await;
    subject.apply(0, 5, vec![CacheWrite::day(shop(), first(), 5, doc(99))]).await;
    subject.apply(5, 6, vec![put(first(), 4)]).await;
    let docs = subject.cache().get(shop(), &[first()]).await.unwrap();
    let there = docs.days[0].1.as_ref().unwrap();
    assert_eq!((there.number, there.value.as_deref()), (5, Some(&doc(5))));
    subject.apply(6, 8, vec![put(first(), 8)]).await;
    assert_eq!(subject.number(first()).await, Some(8));
}

async fn of_two_writes_to_one_entry_in_a_batch_the_later_counts(subject: Subject) {
    subject.apply(0, 9, vec![put(first(), 9), put(first(), 3)]).await;
    assert_eq!(subject.number(first()).await, Some(9));
}

async fn a_tombstone_is_no_miss_and_nothing_older_comes_back(subject: Subject) {
    let put = |number| CacheWrite::schedule(shop(), number, Some(schedule("Europe/Lisbon", id(4))));
    subject.apply(0, 5, vec![put(5)]).await;
    subject.apply(5, 7, vec![CacheWrite::schedule(shop(), 7, None)]).await;
    subject.apply(7, 8, vec![put(6)]).await;
    subject.cache().fill(P, 8, vec![put(6)]).await.unwrap();
    let docs = subject.cache().get(shop(), &[]).await.unwrap();
    assert_eq!(docs.schedule, Some(Doc { number: 7, value: None }));
    assert!(Availability::from_docs(&docs).is_none());
}

async fn what_is_forgotten_is_a_miss_until_it_is_filled(subject: Subject) {
    let list = |number| {
        let within = span("2026-03-10T03:00:00Z", 24 * 60);
        CacheWrite::day_list(shop(), first(), number, DayListDoc { within, items: vec![] })
    };
    let number = async || {
        let cached = subject.cache().get_day_list(shop(), first()).await.unwrap();
        cached.doc.map(|doc| doc.number)
    };
    subject.apply(0, 5, vec![list(5)]).await;
    subject.apply(5, 7, vec![CacheWrite::forget_day_list(shop(), first(), 7)]).await;
    assert_eq!(number().await, None);
    subject.cache().fill(P, 6, vec![list(6)]).await.unwrap();
    assert_eq!(number().await, None, "a table that is behind does not fill");
    subject.cache().fill(P, 8, vec![list(8)]).await.unwrap();
    assert_eq!(number().await, Some(8));
    subject.apply(7, 8, vec![CacheWrite::forget_day_list(shop(), first(), 8)]).await;
    assert_eq!(number().await, Some(8), "what is as recent as the event needs no forgetting");
    let forget = vec![CacheWrite::forget_day_list(shop(), first(), 99)];
    subject.cache().fill(P, 99, forget).await.unwrap();
    assert_eq!(number().await, Some(8), "a fill forgets nothing");
}

async fn a_cold_cache_takes_no_fill_and_says_so(subject: Subject) {
    subject.cache().fill(P, 100, vec![put(first(), 100)]).await.unwrap();
    let docs = subject.cache().get(shop(), &[first()]).await.unwrap();
    assert_eq!((applied(&docs), &docs.days[0].1), (None, &None));
    assert!(subject.cache().applied().await.unwrap().is_empty());

    subject.cache().apply(CacheBatch::heartbeat(P, 100)).await.unwrap();
    subject.cache().fill(P, 100, vec![put(first(), 42)]).await.unwrap();
    assert_eq!((subject.number(first()).await, subject.applied().await), (Some(42), 100));
}

async fn a_fill_that_may_hide_an_applied_event_is_refused(subject: Subject) {
    subject.apply(0, 5, vec![]).await;
    // A reader loads at 5; then event 6 changes the day, is applied, and its value is lost.
    subject.apply(5, 6, vec![put(first(), 6)]).await;
    subject.evict(Key::Day(shop(), first())).await;
    subject.cache().fill(P, 5, vec![put(first(), 3)]).await.unwrap();
    assert_eq!(subject.number(first()).await, None);
    // A day nothing ever happened on is filled as of 0.
    subject.cache().fill(P, 6, vec![put(day("2026-03-11"), 0)]).await.unwrap();
    assert_eq!(subject.number(day("2026-03-11")).await, Some(0));
}

async fn what_was_applied_never_sinks(subject: Subject) {
    subject.apply(0, 9, vec![]).await;
    subject.apply(3, 5, vec![]).await;
    assert_eq!(subject.applied().await, 9);
    subject.cache().apply(CacheBatch::heartbeat(P, 9)).await.unwrap();
    assert_eq!(subject.cache().applied().await.unwrap().to_string(), "3:9");
}

async fn a_state_is_another_after_every_event_and_the_same_after_none(subject: Subject) {
    let state = async || {
        let state = subject.cache().state(P).await.unwrap();
        let docs = subject.cache().get(shop(), &[first()]).await.unwrap();
        assert_eq!(docs.state, state);
        state
    };
    assert_eq!(state().await, None, "a cold cache knows nothing");
    subject.apply(0, 5, vec![put(first(), 5)]).await;
    let warm = state().await;
    assert_eq!(warm.unwrap().applied(), 5);
    subject.cache().apply(CacheBatch::heartbeat(P, 5)).await.unwrap();
    subject.apply(0, 5, vec![put(first(), 5)]).await;
    subject.cache().fill(P, 5, vec![put(day("2026-03-11"), 0)]).await.unwrap();
    subject.evict(Key::Day(shop(), first())).await;
    assert_eq!(state().await, warm);
    subject.apply(5, 6, vec![]).await;
    assert_ne!(state().await, warm);
    subject.apply(8, 9, vec![]).await;
    let later = state().await;
    subject.lose_everything().await;
    assert_eq!(state().await, None);
    subject.apply(0, 9, vec![]).await;
    assert_ne!(state().await, later, "it is another epoch");
    assert_eq!(subject.cache().state(Partition(COUNT)).await.unwrap(), None);
}

async fn many_who_ask_for_the_state_at_once_are_all_answered(subject: Subject) {
    for number in 0..20 {
        subject.apply(number, number + 1, vec![]).await;
        let asked = (0..64).map(|_| subject.cache().state(P));
        for state in futures_util::future::join_all(asked).await {
            assert_eq!(state.unwrap().unwrap().applied(), number + 1);
        }
    }
}

async fn a_late_projector_brings_back_nothing_that_was_evicted(subject: Subject) {
    subject.apply(0, 5, vec![put(first(), 5)]).await;
    subject.apply(5, 9, vec![put(first(), 9)]).await;
    subject.evict(Key::Day(shop(), first())).await;
    subject.apply(0, 5, vec![put(first(), 5)]).await;
    assert_eq!(subject.number(first()).await, None);
    subject.apply(9, 11, vec![put(first(), 11)]).await;
    assert_eq!(subject.number(first()).await, Some(11));
}

async fn a_repeated_batch_after_a_crash_goes_on(subject: Subject) {
    let other = day("2026-03-11");
    subject.apply(0, 5, vec![put(first(), 5)]).await;
    // The crash came before the checkpoint moved; the next batch is longer.
    subject.apply(0, 8, vec![put(first(), 7), put(other, 8)]).await;
    assert_eq!((subject.applied().await, subject.number(first()).await), (8, Some(7)));
    assert_eq!(subject.number(other).await, None, "whether it was there before is not known");
    subject.cache().fill(P, 8, vec![put(other, 8)]).await.unwrap();
    assert_eq!(subject.number(other).await, Some(8));
}

async fn a_cache_that_lost_everything_is_cold_not_wrong(subject: Subject) {
    subject.apply(0, 5, vec![put(first(), 5)]).await;
    subject.lose_everything().await;
    let docs = subject.cache().get(shop(), &[first()]).await.unwrap();
    assert_eq!((applied(&docs), &docs.days[0].1), (None, &None));
    // A late projector wakes first, then the one that is ahead.
    subject.apply(2, 4, vec![put(first(), 4)]).await;
    subject.cache().apply(CacheBatch::heartbeat(P, 5)).await.unwrap();
    assert_eq!((subject.applied().await, subject.number(first()).await), (5, None));
}

async fn a_gap_makes_everything_before_it_a_miss(subject: Subject) {
    subject.apply(0, 5, vec![put(first(), 5)]).await;
    subject.apply(7, 9, vec![put(day("2026-03-11"), 9)]).await;
    assert_eq!(subject.applied().await, 9);
    assert_eq!(subject.number(first()).await, None);
    assert_eq!(subject.number(day("2026-03-11")).await, Some(9));
}

async fn partitions_do_not_disturb_each_other(subject: Subject) {
    let foreign = provider_in(4, COUNT, 1);
    let mut batch = CacheBatch::new(Partition(4), 0, 50);
    batch.push(CacheWrite::day(foreign, first(), 50, doc(5)));
    subject.cache().apply(batch).await.unwrap();
    subject.apply(0, 5, vec![put(first(), 5)]).await;
    subject.apply(7, 8, vec![]).await;
    let docs = subject.cache().get(foreign, &[first()]).await.unwrap();
    assert_eq!((applied(&docs), docs.days[0].1.as_ref().unwrap().number), (Some(50), 50));
    let applied = subject.cache().applied().await.unwrap();
    assert_eq!(applied, [position(3, 8), position(4, 50)].into_iter().collect());
}

async fn large_batches_are_applied_whole(subject: Subject) {
    let days: Vec<NaiveDate> = first().iter_days().take(300).collect();
    let numbers = 1..;
    let writes = days.iter().zip(numbers).map(|(day, number)| put(*day, number)).collect();
    subject.apply(0, 300, writes).await;
    let docs = subject.cache().get(shop(), &days).await.unwrap();
    assert_eq!(applied(&docs), Some(300));
    assert!(docs.days.iter().zip(1..).all(|((_, doc), n)| doc.as_ref().unwrap().number == n));
}

async fn day_lists_and_marks_of_the_catalogue_are_cached_the_same_way(subject: Subject) {
    subject.apply(0, 5, vec![CacheWrite::catalogue(P, 5)]).await;
    let marks = subject.cache().get_catalogue().await.unwrap();
    assert_eq!(marks.len(), usize::from(COUNT));
    for (partition, cached) in marks {
        let there = partition == P;
        assert_eq!(cached.applied, there.then_some(5));
        let value = Some(Arc::new(CatalogueMark {}));
        assert_eq!(cached.doc, there.then_some(Doc { number: 5, value }));
    }
    subject.apply(5, 6, vec![CacheWrite::forget_catalogue(P, 6)]).await;
    let marks = subject.cache().get_catalogue().await.unwrap();
    assert!(marks.iter().all(|(_, cached)| cached.doc.is_none()));

    let within = span("2026-03-10T03:00:00Z", 24 * 60);
    let list = DayListDoc { within, items: vec![] };
    subject.apply(6, 7, vec![CacheWrite::day_list(shop(), first(), 7, list.clone())]).await;
    let cached = subject.cache().get_day_list(shop(), first()).await.unwrap();
    let doc = Some(Doc { number: 7, value: Some(Arc::new(list)) });
    assert_eq!(cached, Cached { applied: Some(7), doc });
}

async fn racing_writers_leave_the_latest(subject: Subject) {
    let subject = Arc::new(subject);
    subject.apply(0, 1, vec![put(first(), 1)]).await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8_u64 {
        let subject = Arc::clone(&subject);
        tasks.spawn(async move {
            for round in 1..=40 {
                let number = 1 + round * 8 + (round * 5 + writer) % 8;
                if writer % 2 == 0 {
                    subject.apply(1, number, vec![put(first(), number)]).await;
                } else {
                    let fill = vec![put(first(), number)];
                    subject.cache().fill(P, u64::from(u32::MAX), fill).await.unwrap();
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(subject.number(first()).await, Some(1 + 40 * 8 + 7));
}

/// A log of one partition whose events each change one day, two projectors, readers, and every misfortune.
struct World {
    subject: Subject,
    random: StdRng,
    days: Vec<NaiveDate>,
    /// Which day event n + 1 changed.
    log: Vec<usize>,
    checkpoint: u64,
    late: u64,
    fills: Vec<(u64, Vec<CacheWrite>)>,
    snapshot: Vec<(String, Vec<u8>)>,
}

impl World {
    fn head(&self) -> u64 {
        self.log.len().try_into().unwrap()
    }

    /// The last event up to `number` that changed a day.
    fn last(&self, day: usize, number: u64) -> u64 {
        let until = usize::try_from(number).unwrap();
        self.log[..until].iter().rposition(|changed| *changed == day).map_or(0, |n| n as u64 + 1)
    }

    /// Applies the next events, with values that may be more recent than the batch. Where it leads.
    async fn batch(&mut self, from: u64) -> u64 {
        let to = self.random.random_range(from..=self.head().min(from + 6));
        let mut writes = Vec::new();
        for day in 0..self.days.len() {
            if self.last(day, to) > from {
                let as_of = self.random.random_range(to..=self.head());
                writes.push(put(self.days[day], self.last(day, as_of)));
            }
        }
        self.subject.apply(from, to, writes).await;
        to
    }

    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..25 => {
                for _ in 0..self.random.random_range(1..5) {
                    let day = self.random.random_range(0..self.days.len());
                    self.log.push(day);
                }
            }
            25..45 => self.checkpoint = self.batch(self.checkpoint).await,
            // A crash: applied, but the checkpoint does not know.
            45..50 => drop(self.batch(self.checkpoint).await),
            50..60 => self.late = self.batch(self.late).await,
            60..63 => self.late = self.random.random_range(0..=self.checkpoint),
            63..66 => {
                let heartbeat = CacheBatch::heartbeat(P, self.checkpoint);
                self.subject.cache().apply(heartbeat).await.unwrap();
            }
            66..76 => {
                let as_of = self.random.random_range(0..=self.head());
                let loaded = self.random.random_range(as_of..=self.head());
                let days = self.days.iter().enumerate();
                let writes = days.map(|(i, day)| put(*day, self.last(i, loaded))).collect();
                self.fills.push((as_of, writes));
            }
            76..86 if !self.fills.is_empty() => {
                let i = self.random.random_range(0..self.fills.len());
                let (as_of, writes) = self.fills.swap_remove(i);
                self.subject.cache().fill(P, as_of, writes).await.unwrap();
            }
            86..95 => {
                let day = self.random.random_range(0..self.days.len());
                self.subject.evict(Key::Day(shop(), self.days[day])).await;
            }
            95 => self.subject.lose_everything().await,
            96 | 97 => {
                if let Subject::Redis(cache) = &self.subject {
                    self.snapshot = cache.snapshot().await;
                }
            }
            98 => {
                if let Subject::Redis(cache) = &self.subject {
                    cache.restore(&self.snapshot).await;
                }
            }
            _ => {}
        }
    }

    /// Nothing that is there may lack an event that is said to be applied.
    async fn check(&self, seed: u64) {
        let docs = self.subject.cache().get(shop(), &self.days).await.unwrap();
        let Some(applied) = applied(&docs) else { return };
        assert!(applied <= self.head());
        for (i, (_, doc)) in docs.days.iter().enumerate() {
            if let Some(doc) = doc {
                let least = self.last(i, applied);
                assert!(doc.number >= least, "seed {seed}: {} < {least} at {applied}", doc.number);
                let minutes = doc.value.as_ref().unwrap().taken[0].span;
                let minutes = (minutes.end - minutes.start).num_minutes();
                assert_eq!(minutes, i64::try_from(doc.number).unwrap());
            }
        }
    }
}

async fn whatever_is_lost_late_or_repeated_no_value_is_older_than_what_was_applied(
    subject: Subject,
) {
    let (seeds, steps) = match &subject {
        Subject::InProcess(_) => (60, 400),
        Subject::Redis(_) => (8, 250),
    };
    let mut subject = Some(subject);
    for seed in 0..seeds {
        let mut world = World {
            subject: subject.take().unwrap(),
            random: StdRng::seed_from_u64(seed),
            days: first().iter_days().take(4).collect(),
            log: Vec::new(),
            checkpoint: 0,
            late: 0,
            fills: Vec::new(),
            snapshot: Vec::new(),
        };
        for _ in 0..steps {
            world.step().await;
            world.check(seed).await;
        }
        // In the end it is warm again, and exact.
        while world.checkpoint < world.head() {
            world.checkpoint = world.batch(world.checkpoint).await;
        }
        let head = world.head();
        world.subject.cache().apply(CacheBatch::heartbeat(P, head)).await.unwrap();
        let latest: Vec<u64> = (0..world.days.len()).map(|day| world.last(day, head)).collect();
        let fill = world.days.iter().zip(&latest).map(|(day, number)| put(*day, *number));
        world.subject.cache().fill(P, head, fill.collect()).await.unwrap();
        for (day, number) in world.days.iter().zip(latest) {
            assert_eq!(world.subject.number(*day).await, Some(number), "seed {seed}");
        }
        world.subject.lose_everything().await;
        subject = Some(world.subject);
    }
}

#[tokio::test]
async fn a_cache_whose_projector_is_silent_is_cold_until_it_speaks_again() {
    // Long enough that a busy machine gets everything done in between.
    let silence = Duration::from_secs(2);
    for subject in [Subject::in_process(silence), Subject::redis(silence)] {
        subject.apply(0, 5, vec![put(first(), 5)]).await;
        assert_eq!(subject.number(first()).await, Some(5));
        // A heartbeat is a word.
        for _ in 0..6 {
            tokio::time::sleep(silence / 4).await;
            subject.cache().apply(CacheBatch::heartbeat(P, 5)).await.unwrap();
        }
        assert_eq!(subject.number(first()).await, Some(5));

        tokio::time::sleep(silence + silence / 4).await;
        let docs = subject.cache().get(shop(), &[first()]).await.unwrap();
        assert_eq!((applied(&docs), &docs.days[0].1), (None, &None));
        assert!(subject.cache().applied().await.unwrap().is_empty());
        subject.cache().fill(P, 5, vec![put(first(), 5)]).await.unwrap();
        assert_eq!(subject.number(first()).await, None, "a cold cache takes no fill");

        subject.cache().apply(CacheBatch::heartbeat(P, 5)).await.unwrap();
        assert_eq!((subject.applied().await, subject.number(first()).await), (5, None));
        subject.cache().fill(P, 5, vec![put(first(), 5)]).await.unwrap();
        assert_eq!(subject.number(first()).await, Some(5));
    }
}

/// Expects a call to fail as it should, soon.
async fn unavailable<T>(call: impl Future<Output = Result<T, CacheUnavailable>>) {
    let begun = Timer::now();
    let answer = call.await;
    assert!(answer.is_err_and(|error| error.to_string().contains("does not answer")));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_redis_that_is_down_or_hangs_is_unavailable_within_a_second() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [closed, hanging.local_addr().unwrap()] {
        let url = format!("redis://{address}");
        let cache = RedisCache::new(&url, partitions(COUNT), RedisOptions::default()).unwrap();
        for _ in 0..2 {
            unavailable(cache.get(shop(), &[first()])).await;
            unavailable(cache.apply(CacheBatch::heartbeat(P, 5))).await;
            unavailable(cache.fill(P, 5, vec![put(first(), 5)])).await;
            unavailable(cache.applied()).await;
        }
    }
    assert!(RedisCache::new("nonsense", partitions(COUNT), RedisOptions::default()).is_err());
}

#[tokio::test]
async fn redis_keys_are_those_the_requirement_names() {
    let Subject::Redis(cache) = Subject::redis(AGES) else {
        unreachable!("it is the one in Redis")
    };
    let within = span("2026-03-10T03:00:00Z", 24 * 60);
    let mut batch = CacheBatch::new(P, 0, 1);
    let list = DayListDoc { within, items: vec![] };
    batch.push(CacheWrite::day_list(shop(), first(), 1, list));
    cache.apply(batch).await.unwrap();
    let keys: Vec<String> = cache.snapshot().await.into_iter().map(|(key, _)| key).collect();
    let wanted = format!(":appointments-list:{}:2026-03-10", shop());
    assert!(keys.iter().any(|key| key.ends_with(&wanted)), "{keys:?}");
    cache.restore(&[]).await;
}

#[tokio::test]
async fn a_cache_in_the_process_is_bounded() {
    let options = InProcessOptions { max_bytes: 100_000, ..InProcessOptions::default() };
    let cache = InProcessCache::new(partitions(COUNT), options);
    let mut batch = CacheBatch::new(P, 0, 5000);
    for (day, number) in first().iter_days().zip(1..=5000) {
        batch.push(put(day, number));
    }
    cache.apply(batch).await.unwrap();
    let days: Vec<NaiveDate> = first().iter_days().take(5000).collect();
    let docs = cache.get(shop(), &days).await.unwrap();
    let there = docs.days.iter().filter(|(_, doc)| doc.is_some()).count();
    assert!(there < 1500, "{there}");
    assert_eq!(applied(&docs), Some(5000));
}

mod computing {
    use super::*;
    use chrono::TimeDelta;
    use domain::hours::Zone;
    use domain::slots::Measure;

    fn measure(random: &mut StdRng) -> Measure {
        let duration_minutes = random.random_range(1..=20) * 15;
        Measure {
            service: id(random.random_range(4..6)),
            duration_minutes,
            interval_minutes: random.random_range(1..=8) * 15,
            buffer_before_minutes: random.random_range(0..=16) * 15,
            buffer_after_minutes: random.random_range(0..=16) * 15,
            capacity: random.random_range(1..=2),
        }
    }

    /// What an agenda of each UTC day would hold of these occupations.
    fn agendas(taken: &[Taken], days: &[NaiveDate]) -> Vec<(NaiveDate, Arc<DayDoc>)> {
        let of = |day: &NaiveDate| {
            let here = taken.iter().filter(|taken| taken.span.utc_days().contains(day));
            (*day, Arc::new(DayDoc { taken: here.cloned().collect() }))
        };
        days.iter().map(of).collect()
    }

    #[test]
    fn free_slots_and_days_are_those_the_domain_computes_from_everything() {
        let zones = [
            "America/Sao_Paulo",
            "Europe/Lisbon",
            "Pacific/Kiritimati",
            "Etc/GMT+12",
            "Asia/Kathmandu",
            "Pacific/Auckland",
            "America/New_York",
        ];
        let mut random = StdRng::seed_from_u64(7);
        let mut found = 0;
        for round in 0..700 {
            let zone: Zone = zones[round % zones.len()].parse().unwrap();
            let mut hours = schedule(zone.name(), id(4));
            let windows = if round % 2 == 0 {
                r#"[{"from":"00:00","to":"24:00"}]"#
            } else {
                r#"[{"from":"07:30","to":"12:00"},{"from":"13:00","to":"23:45"}]"#
            };
            let today = day("2026-03-29");
            hours.schedule.overrides.insert(today, serde_json::from_str(windows).unwrap());
            hours.schedule.policy.max_per_day =
                random.random_bool(0.3).then(|| random.random_range(1..15));
            let now = at("2026-03-28T09:00:00Z");
            let (measure, other) = (measure(&mut random), measure(&mut random));
            let mut taken = Vec::new();
            for _ in 0..random.random_range(0..25) {
                let measure = if random.random_bool(0.5) { measure } else { other };
                let minutes = random.random_range(-36 * 4..60 * 4) * 15;
                let start = at("2026-03-29T00:00:00Z") + TimeDelta::minutes(minutes);
                taken.push(Taken {
                    span: measure.buffered(measure.slot_at(start)),
                    start,
                    service: measure.service,
                    capacity: measure.capacity,
                    seats_taken: random.random_range(0..=1),
                    held_until: (0..random.random_range(0..=1))
                        .map(|_| now + TimeDelta::minutes(random.random_range(-5..5)))
                        .collect(),
                });
            }
            let mut availability = Availability::new(Arc::new(hours.clone()));
            // Of the days around it those that matter are enough, and are asked for at once.
            let around = Availability::days_around(today, today);
            if let Err(MissingDays(missing)) = availability.free_slots(&measure, today, now) {
                assert!(missing.iter().all(|day| around.contains(day)), "{missing:?}");
                for (day, doc) in agendas(&taken, &missing) {
                    availability.add_day(day, doc);
                }
            }
            let free = availability.free_slots(&measure, today, now).unwrap();
            assert_eq!(free, hours.schedule.free(&measure, today, &taken, now), "{zone:?}");
            found += free.len();

            let (first, last) = (day("2026-03-27"), day("2026-04-01"));
            let mut availability = Availability::new(Arc::new(hours.clone()));
            for (day, doc) in agendas(&taken, &Availability::days_around(first, last)) {
                availability.add_day(day, doc);
            }
            let days = availability.free_days(&measure, first, last, now).unwrap();
            let expected: Vec<NaiveDate> = first
                .iter_days()
                .take_while(|day| *day <= last)
                .filter(|day| !hours.schedule.free(&measure, *day, &taken, now).is_empty())
                .collect();
            assert_eq!(days, expected);
            // No other day can have made a difference.
            let fewer = availability.clone().for_slots(&measure, first, last, now);
            assert!(fewer.days().len() <= availability.days().len());
            assert!(fewer.days().windows(2).all(|pair| pair[0] < pair[1]));
            assert_eq!(fewer.free_days(&measure, first, last, now).unwrap(), days);
            let fewer = availability.clone().for_slots(&measure, today, today, now);
            assert_eq!(fewer.free_slots(&measure, today, now).unwrap(), free);
            // A range is its days, and what a booking would be told is what is listed.
            let range = availability.free_between(&measure, first, last, now).unwrap();
            let of_days = first.iter_days().take_while(|day| *day <= last);
            let of_days: Vec<Span> =
                of_days.flat_map(|day| hours.schedule.free(&measure, day, &taken, now)).collect();
            assert_eq!(range, of_days);
            for slot in hours.schedule.candidates(&measure, today) {
                let told = availability.bookable(&measure, slot.start, now).unwrap();
                assert_eq!(told.is_ok(), free.contains(&slot), "{told:?}");
            }
            let ends = availability.next_expiry(now);
            assert!(ends.is_none_or(|ends| now < ends));
        }
        assert!(found > 1000, "the examples must not be empty: {found}");
    }

    #[test]
    fn a_month_names_all_the_days_it_lacks_at_once() {
        let service = id(4);
        let hours = schedule("America/Sao_Paulo", service);
        let measure = hours.services[0];
        let mut availability = Availability::new(Arc::new(hours));
        let (first, last) = (day("2026-03-01"), day("2026-03-31"));
        let now = at("2026-03-20T15:00:00Z");
        let MissingDays(missing) = availability.free_days(&measure, first, last, now).unwrap_err();
        let expected: Vec<NaiveDate> = day("2026-03-20").iter_days().take(12).collect();
        assert_eq!(missing, expected, "past days and the days around them do not matter");
        for day in missing {
            availability.add_day(day, Arc::default());
        }
        let free = availability.free_days(&measure, first, last, now).unwrap();
        assert_eq!(free, expected);
    }

    #[test]
    fn absurd_dates_have_no_slots_and_do_no_harm() {
        let hours = schedule("America/Sao_Paulo", id(4));
        let measure = hours.services[0];
        let availability = Availability::new(Arc::new(hours));
        let now = at("2026-03-20T15:00:00Z");
        for day in
            [NaiveDate::MIN, NaiveDate::MAX, super::day("9999-12-31"), super::day("0001-01-01")]
        {
            assert_eq!(availability.free_slots(&measure, day, now), Ok(vec![]));
            assert_eq!(availability.free_days(&measure, day, day, now), Ok(vec![]));
            assert!(!Availability::days_around(day, day).is_empty());
        }
        assert_eq!(
            availability.free_days(&measure, NaiveDate::MAX, NaiveDate::MIN, now),
            Ok(vec![])
        );
    }
}
