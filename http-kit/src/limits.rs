//! Rate limits: so many requests of a kind, per address, in so much time (K24, `S3-52` to `S3-54`).
//!
//! GCRA: of each key one instant is kept, the time at which its quota would be whole again. A request moves
//! it ahead by period ÷ burst; one that would move it further than a period from now is refused, `429` with
//! `Retry-After`. So 100 per minute lets 100 through at once and then one every 600 ms.
//!
//! [`RateLimiter`] is the port. The adapter here lives in the process and is bounded: under a flood of
//! addresses the least used are forgotten, which errs on the side of letting through. After a crash all
//! quotas are whole.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue};
use moka::sync::Cache;

use crate::auth::Now;
use crate::origin::RequestOrigin;
use crate::problem::{Kind, Problem};

/// How many keys are kept.
const KEYS_MAX: u64 = 100_000;

/// So many in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// How many.
    pub burst: u32,
    /// In how much time.
    pub period: Duration,
}

impl Quota {
    /// So many a minute.
    pub const fn per_minute(burst: u32) -> Self {
        Self { burst, period: Duration::from_secs(60) }
    }

    /// So many an hour.
    pub const fn per_hour(burst: u32) -> Self {
        Self { burst, period: Duration::from_secs(3600) }
    }
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Any request (`S3-52`).
    General,
    /// Signing in (`S3-53`).
    SignIn,
    /// Registering (`S3-54`).
    Registration,
}

impl Rule {
    /// Its name, as in the `RateLimit` headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::SignIn => "sign-in",
            Self::Registration => "registration",
        }
    }
}

/// Whose quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Of which rule.
    pub rule: Rule,
    /// Of which address; IPv6 by its /64, which is what one subscriber has.
    pub address: Option<IpAddr>,
}

impl Key {
    /// The key of an address.
    pub fn new(rule: Rule, address: Option<IpAddr>) -> Self {
        let network = |address: IpAddr| match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
            }
        };
        Self { rule, address: address.map(network) }
    }
}

/// What a limiter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request may pass.
    pub allowed: bool,
    /// How many more may, right now.
    pub remaining: u32,
    /// Until the quota is whole again; of a refusal, until one more may pass.
    pub wait: Duration,
}

/// The port: counts a request against a key's quota.
#[async_trait]
pub trait RateLimiter: Send + Sync {
    /// Counts one request. A limiter that cannot be asked lets through.
    async fn count(&self, key: Key, quota: Quota) -> Verdict;
}

/// Limits within this process.
pub struct InProcess {
    whole_at: Cache<Key, Arc<AtomicI64>>,
    now: Now,
}

impl InProcess {
    /// All quotas whole.
    pub fn new(now: Now) -> Self {
        let whole_at =
            Cache::builder().max_capacity(KEYS_MAX).time_to_idle(Duration::from_secs(7200)).build();
        Self { whole_at, now }
    }
}

#[async_trait]
impl RateLimiter for InProcess {
    async fn count(&self, key: Key, quota: Quota) -> Verdict {
        let now = (self.now)().timestamp_micros();
        let whole_at = self.whole_at.get_with(key, || Arc::new(AtomicI64::new(now)));
        let mut seen = whole_at.load(Ordering::Relaxed);
        loop {
            let (verdict, next) = gcra(seen, now, quota);
            if !verdict.allowed {
                return verdict;
            }
            match whole_at.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return verdict,
                Err(other) => seen = other,
            }
        }
    }
}

/// One step of GCRA, in microseconds: the verdict, and when the quota is whole if the request passes.
fn gcra(whole_at: i64, now: i64, quota: Quota) -> (Verdict, i64) {
    let period = i64::try_from(quota.period.as_micros()).unwrap_or(i64::MAX / 4).max(1);
    let step = (period / i64::from(quota.burst.max(1))).max(1);
    let micros = |n: i64| Duration::from_micros(u64::try_from(n).unwrap_or_default());
    // Further ahead than a period is impossible, unless the clock was set back.
    let whole_at = if whole_at - now > period { now } else { whole_at.max(now) };
    let next = whole_at + step;
    if next - now > period {
        return (
            Verdict { allowed: false, remaining: 0, wait: micros(next - now - period) },
            whole_at,
        );
    }
    let remaining = u32::try_from((period - (next - now)) / step).unwrap_or_default();
    (Verdict { allowed: true, remaining, wait: micros(next - now) }, next)
}

/// The limits an API keeps.
#[derive(Clone)]
pub struct Limits {
    limiter: Option<Arc<dyn RateLimiter>>,
    /// Of any request.
    pub general: Quota,
    /// Of signing in.
    pub sign_in: Quota,
    /// Of registering.
    pub registration: Quota,
}

impl Limits {
    /// The seeds' limits, kept by this limiter: 100 a minute, 5 sign-ins a minute, 3 registrations an hour.
    pub fn new(limiter: Arc<dyn RateLimiter>) -> Self {
        Self {
            limiter: Some(limiter),
            general: Quota::per_minute(100),
            sign_in: Quota::per_minute(5),
            registration: Quota::per_hour(3),
        }
    }

    /// No limits.
    pub fn off() -> Self {
        Self {
            limiter: None,
            general: Quota::per_minute(u32::MAX),
            sign_in: Quota::per_minute(u32::MAX),
            registration: Quota::per_hour(u32::MAX),
        }
    }

    fn quota(&self, rule: Rule) -> Quota {
        match rule {
            Rule::General => self.general,
            Rule::SignIn => self.sign_in,
            Rule::Registration => self.registration,
        }
    }

    /// Counts a request of this address; `None` where there are no limits.
    pub(crate) async fn count(&self, rule: Rule, address: Option<IpAddr>) -> Option<Verdict> {
        let limiter = self.limiter.as_ref()?;
        Some(limiter.count(Key::new(rule, address), self.quota(rule)).await)
    }

    /// Runs `next` if the rule's quota allows, and says in `RateLimit` headers what is left.
    pub(crate) async fn guard(
        &self,
        rule: Rule,
        address: Option<IpAddr>,
        next: impl Future<Output = Response>,
    ) -> Response {
        let Some(verdict) = self.count(rule, address).await else { return next.await };
        let mut response = if verdict.allowed {
            next.await
        } else {
            metrics::counter!("http_requests_limited_total", "rule" => rule.name()).increment(1);
            Problem::from(Kind::TooManyRequests)
                .retry_after(whole_seconds(verdict.wait))
                .into_response()
        };
        announce(&mut response, rule, self.quota(rule), verdict);
        response
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// `RateLimit-Policy: "general";q=100;w=60` and `RateLimit: "general";r=42;t=35`
/// (draft-ietf-httpapi-ratelimit-headers). An inner rule's headers stand before an outer one's.
fn announce(response: &mut Response, rule: Rule, quota: Quota, verdict: Verdict) {
    const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
    const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
    let name = rule.name();
    let policy = format!("\"{name}\";q={};w={}", quota.burst, quota.period.as_secs());
    let limit = format!("\"{name}\";r={};t={}", verdict.remaining, whole_seconds(verdict.wait));
    for (header, value) in [(POLICY, policy), (LIMIT, limit)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().append(header, value);
        }
    }
}

/// The middleware of one route: `route_layer(from_fn_with_state((limits, Rule::SignIn), limit))`.
pub async fn limit(
    State((limits, rule)): State<(Limits, Rule)>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(origin) = RequestOrigin::from_request_parts(&mut parts, &()).await;
    limits.guard(rule, origin.ip, next.run(Request::from_parts(parts, body))).await
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use domain::Instant;

    use super::*;

    fn limiter() -> (InProcess, Arc<AtomicI64>) {
        let micros = Arc::new(AtomicI64::new(1_770_000_000_000_000));
        let read = Arc::clone(&micros);
        let now: Now = Arc::new(move || -> Instant {
            DateTime::from_timestamp_micros(read.load(Ordering::Relaxed)).unwrap()
        });
        (InProcess::new(now), micros)
    }

    fn key(address: &str) -> Key {
        Key::new(Rule::SignIn, Some(address.parse().unwrap()))
    }

    #[tokio::test]
    async fn a_burst_passes_then_one_per_interval() {
        let (limiter, micros) = limiter();
        let quota = Quota::per_minute(5);
        for left in (0..5).rev() {
            let verdict = limiter.count(key("1.2.3.4"), quota).await;
            assert!(verdict.allowed);
            assert_eq!(verdict.remaining, left);
        }
        let refused = limiter.count(key("1.2.3.4"), quota).await;
        assert_eq!((refused.allowed, refused.wait), (false, Duration::from_secs(12)));
        assert!(limiter.count(key("1.2.3.5"), quota).await.allowed, "another address is free");
        micros.fetch_add(11_999_999, Ordering::Relaxed);
        assert!(!limiter.count(key("1.2.3.4"), quota).await.allowed);
        micros.fetch_add(1, Ordering::Relaxed);
        assert!(limiter.count(key("1.2.3.4"), quota).await.allowed);
        assert!(!limiter.count(key("1.2.3.4"), quota).await.allowed);
    }

    #[tokio::test]
    async fn a_clock_set_back_does_not_lock_anybody_out() {
        let (limiter, micros) = limiter();
        let quota = Quota::per_hour(1);
        assert!(limiter.count(key("1.2.3.4"), quota).await.allowed);
        micros.fetch_sub(86_400_000_000, Ordering::Relaxed);
        assert!(limiter.count(key("1.2.3.4"), quota).await.allowed);
        assert!(!limiter.count(key("1.2.3.4"), quota).await.allowed);
    }

    #[tokio::test]
    async fn racers_together_get_the_quota_and_no_more() {
        let (limiter, _) = limiter();
        let limiter = Arc::new(limiter);
        let racers: Vec<_> = (0..64)
            .map(|_| {
                let limiter = Arc::clone(&limiter);
                tokio::spawn(async move {
                    limiter.count(key("1.2.3.4"), Quota::per_minute(10)).await.allowed
                })
            })
            .collect();
        let mut allowed = 0;
        for racer in racers {
            allowed += u32::from(racer.await.unwrap());
        }
        assert_eq!(allowed, 10);
    }

    #[test]
    fn an_ipv6_subscriber_is_one_key_and_a_mapped_address_is_ipv4() {
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), key("2001:db8:1:2:ffff::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:1.2.3.4"), key("1.2.3.4"));
    }
}
