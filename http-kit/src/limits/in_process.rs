//! Limits within this process, in memory that never grows.
//!
//! A table of a fixed size: a key's bucket is a part of the key itself, which is a keyed hash, so nobody outside can
//! aim at a bucket. A bucket has a few places. A key whose quota is whole again needs none, and its place is free; in
//! a bucket without a free place the new key takes that of the one whose quota is nearest to whole. So a flood of
//! addresses that send one request each displaces one another, and hardly anybody who has used up their quota.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use super::{Key, Quota, RateLimiter, Verdict, gcra};
use crate::auth::Now;

/// Places of a bucket.
const PLACES: usize = 8;
/// Buckets; a power of two.
const BUCKETS: usize = 1 << 14;
/// How many keys are kept at most: 131,072, in 5 MB.
pub const CAPACITY: usize = PLACES * BUCKETS;

/// A key and when its quota is whole, in microseconds.
type Place = (Key, i64);

/// Limits within this process.
pub struct InProcess {
    buckets: Box<[Mutex<[Place; PLACES]>]>,
    now: Now,
}

impl InProcess {
    /// All quotas whole.
    pub fn new(now: Now) -> Self {
        let empty = || Mutex::new([(Key(0), i64::MIN); PLACES]);
        Self { buckets: std::iter::repeat_with(empty).take(BUCKETS).collect(), now }
    }

    fn count_now(&self, key: Key, quota: Quota) -> Verdict {
        let now = (self.now)().timestamp_micros();
        let bucket = usize::try_from(key.0 % BUCKETS as u128).unwrap_or_default();
        let mut places = self.buckets[bucket].lock().unwrap_or_else(PoisonError::into_inner);
        let known = places.iter().position(|(found, _)| *found == key);
        let whole_at = known.map_or(now, |place| places[place].1);
        let (verdict, next) = gcra(whole_at, now, quota);
        if verdict.allowed {
            let nearest = || (0..PLACES).min_by_key(|place| places[*place].1).unwrap_or_default();
            let place = known.unwrap_or_else(nearest);
            places[place] = (key, next);
        }
        verdict
    }
}

#[async_trait]
impl RateLimiter for InProcess {
    async fn count(&self, key: Key, quota: Quota) -> Verdict {
        self.count_now(key, quota)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use chrono::DateTime;
    use domain::Instant;

    use super::*;
    use crate::limits::contract::{self, Passing, random_key};

    const START: i64 = 1_770_000_000_000_000;

    fn limiter() -> (Arc<InProcess>, Passing) {
        let micros = Arc::new(AtomicI64::new(START));
        let read = Arc::clone(&micros);
        let now: Now = Arc::new(move || -> Instant {
            DateTime::from_timestamp_micros(read.load(Ordering::Relaxed)).unwrap()
        });
        (Arc::new(InProcess::new(now)), Passing::Frozen { micros, started: START })
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let (limiter, time) = limiter();
        contract::all(limiter, &time).await;
    }

    #[tokio::test]
    async fn a_clock_set_back_does_not_lock_anybody_out() {
        let (limiter, time) = limiter();
        let (key, quota) = (random_key(), Quota::per_hour(1));
        assert!(limiter.count(key, quota).await.allowed);
        let Passing::Frozen { micros, .. } = &time else { unreachable!("this clock is frozen") };
        micros.fetch_sub(86_400_000_000, Ordering::Relaxed);
        assert!(limiter.count(key, quota).await.allowed);
        assert!(!limiter.count(key, quota).await.allowed);
    }

    /// A million addresses in one instant: worse than any network can.
    #[test]
    fn a_million_addresses_fit_in_the_same_memory_and_hardly_free_who_was_limited() {
        let (limiter, time) = limiter();
        let limited: Vec<Key> = (0..100).map(|_| random_key()).collect();
        for key in &limited {
            (0..5).for_each(|_| assert!(limiter.count_now(*key, Quota::per_minute(5)).allowed));
        }
        for _ in 0..1_000_000 {
            limiter.count_now(random_key(), Quota::per_minute(100));
        }
        let taken = |limiter: &InProcess| {
            let of = |bucket: &Mutex<[Place; PLACES]>| {
                bucket.lock().unwrap().iter().filter(|(key, _)| key.0 != 0).count()
            };
            limiter.buckets.iter().map(of).sum::<usize>()
        };
        assert_eq!(taken(&limiter), CAPACITY, "the table is full, and as large as it was");
        assert!(size_of_val(&*limiter.buckets) <= 6 << 20, "{}", size_of_val(&*limiter.buckets));
        let free = |key: &&Key| limiter.count_now(**key, Quota::per_minute(5)).allowed;
        assert_eq!(limited.iter().filter(free).count(), 0, "nobody got away in the crowd");
        time.pass(Duration::from_secs(60));
        assert_eq!(limited.iter().filter(free).count(), 100, "and all are free in time");
    }
}
