//! What every rate limiter does, whatever it keeps its keys in.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::{Key, Quota, RateLimiter};

/// A limiter's clock, as a test sees it.
pub(crate) enum Passing {
    /// It stands until it is moved: figures are exact.
    Frozen { micros: Arc<AtomicI64>, started: i64 },
    /// The real one: figures are as exact as a question takes time.
    Real { started: Instant },
}

impl Passing {
    /// Moves a frozen clock; the real one goes by itself.
    pub(crate) fn pass(&self, time: Duration) {
        match self {
            Self::Frozen { micros, .. } => {
                micros.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::Relaxed);
            }
            Self::Real { .. } => {}
        }
    }

    fn now(&self) -> Duration {
        match self {
            Self::Frozen { micros, started } => {
                let passed = micros.load(Ordering::Relaxed) - started;
                Duration::from_micros(u64::try_from(passed).unwrap())
            }
            Self::Real { started } => started.elapsed(),
        }
    }
}

pub(crate) fn random_key() -> Key {
    Key(rand::random::<u128>().max(1))
}

/// All of it.
pub(crate) async fn all(limiter: Arc<dyn RateLimiter>, time: &Passing) {
    a_burst_passes_and_then_nothing(&*limiter, time).await;
    one_more_passes_exactly_when_it_was_told(&*limiter, time).await;
    a_steady_rate_passes_for_ever_and_no_more_than_that(&*limiter, time).await;
    racers_together_get_the_quota_and_no_more(limiter).await;
}

async fn a_burst_passes_and_then_nothing(limiter: &dyn RateLimiter, time: &Passing) {
    for burst in [1, 5, 7, 100] {
        let (key, quota) = (random_key(), Quota::per_hour(burst));
        for left in (0..burst).rev() {
            let before = time.now();
            let verdict = limiter.count(key, quota).await;
            assert!(verdict.allowed && verdict.remaining == left, "{verdict:?} of {burst}");
            let whole = quota.period * (burst - left) / burst;
            let slack = Duration::from_millis(1) + (time.now() - before) + time.now() / 100;
            assert!(
                verdict.wait <= whole && verdict.wait + slack > whole.saturating_sub(time.now())
            );
        }
        let refused = limiter.count(key, quota).await;
        assert!(!refused.allowed && refused.remaining == 0, "{refused:?} of {burst}");
        assert!(limiter.count(random_key(), quota).await.allowed, "somebody else is free");
    }
}

/// The wait of a refusal is the truth: not a moment sooner, and not later than the question takes.
async fn one_more_passes_exactly_when_it_was_told(limiter: &dyn RateLimiter, time: &Passing) {
    let (key, quota) = (random_key(), Quota { burst: 4, period: Duration::from_millis(1200) });
    let first = time.now();
    while limiter.count(key, quota).await.allowed {}
    let mut last_told = Duration::MAX;
    loop {
        let before = time.now();
        let verdict = limiter.count(key, quota).await;
        let after = time.now();
        if verdict.allowed {
            // The first free instant, as it was told, lies before this answer, and a step after the first request.
            assert!(after >= last_told, "told {last_told:?}, passed at {after:?}");
            assert!(after >= first + Duration::from_millis(300), "{first:?} {after:?}");
            break;
        }
        let (soonest, latest) = (before + verdict.wait, after + verdict.wait);
        // Each refusal tells of the same instant.
        assert!(last_told == Duration::MAX || latest + Duration::from_micros(2) >= last_told);
        last_told = if last_told == Duration::MAX { soonest } else { last_told.max(soonest) };
        assert!(verdict.wait <= Duration::from_millis(300), "{verdict:?}");
        match time {
            Passing::Frozen { .. } => {
                time.pass(verdict.wait - Duration::from_micros(1));
                assert!(!limiter.count(key, quota).await.allowed, "a microsecond too early");
                time.pass(Duration::from_micros(1));
            }
            Passing::Real { .. } => tokio::time::sleep(verdict.wait / 4).await,
        }
        assert!(time.now() < Duration::from_secs(20), "it never passed");
    }
}

/// Whoever asks for ever gets a burst and then the rate.
async fn a_steady_rate_passes_for_ever_and_no_more_than_that(
    limiter: &dyn RateLimiter,
    time: &Passing,
) {
    let (key, quota) = (random_key(), Quota { burst: 10, period: Duration::from_millis(500) });
    let started = time.now();
    let mut passed: u32 = 0;
    while time.now() < started + Duration::from_secs(2) {
        let verdict = limiter.count(key, quota).await;
        passed += u32::from(verdict.allowed);
        if !verdict.allowed {
            time.pass(verdict.wait);
            if let Passing::Real { .. } = time {
                tokio::time::sleep(verdict.wait).await;
            }
        }
    }
    let took = time.now() - started;
    let most = 10 + u32::try_from(took.as_millis() / 50).unwrap() + 1;
    assert!(passed <= most, "{passed} in {took:?}");
    // A machine that is busy asks too seldom; it got the burst all the same.
    let least = if matches!(time, Passing::Frozen { .. }) { most - 2 } else { 11 };
    assert!(passed >= least, "{passed} in {took:?}");
}

async fn racers_together_get_the_quota_and_no_more(limiter: Arc<dyn RateLimiter>) {
    let (key, quota) = (random_key(), Quota::per_hour(10));
    let racers: Vec<_> = (0..64)
        .map(|_| {
            let limiter = Arc::clone(&limiter);
            tokio::spawn(async move { limiter.count(key, quota).await.allowed })
        })
        .collect();
    let mut allowed = 0;
    for racer in racers {
        allowed += u32::from(racer.await.unwrap());
    }
    assert_eq!(allowed, 10);
}
