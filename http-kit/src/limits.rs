//! Rate limits: so many requests of a kind, per address and per account, in so much time (K24, `S3-52` to `S3-54`).
//!
//! GCRA: of each key one instant is kept, the time at which its quota would be whole again. A request moves
//! it ahead by period ÷ burst; one that would move it further than a period from now is refused, `429` with
//! `Retry-After`. So 100 per minute lets 100 through at once and then one every 600 ms.
//!
//! Who is limited is never stored in clear: a [`Key`] is a keyed hash of the rule and of the address (IPv6 by
//! its /64) or the account. [`RateLimiter`] is the port; [`InProcess`] and [`InRedis`] keep it, and both pass
//! one contract test. For example a sign-in is counted three times: by the front against its address's
//! `general`, by the route's layer against its address's `sign-in`, and by the handler, with
//! [`Limits::account`], against the account that is tried. What was counted leaves in `RateLimit` headers.
//!
//! After a crash all quotas in process are whole; those in Redis are as they were.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

use crate::origin::RequestOrigin;
use crate::problem::{Kind, Problem};

#[cfg(test)]
mod contract;
mod in_process;
mod in_redis;

pub use in_process::{CAPACITY, InProcess};
pub use in_redis::{InRedis, RedisLimiterOptions};

/// The label of the key that hides whom the limits are about: `log.derive_key(RATE_LIMITS)`.
pub const RATE_LIMITS: &str = "rate-limits";

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

    /// Period and step in microseconds.
    fn micros(self) -> (i64, i64) {
        let period = i64::try_from(self.period.as_micros()).unwrap_or(i64::MAX / 4).max(1);
        (period, (period / i64::from(self.burst.max(1))).max(1))
    }
}

/// A text that is no quota.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a limit is a number of requests per s, min, h or day, as 100/min is")]
pub struct InvalidQuota;

impl FromStr for Quota {
    type Err = InvalidQuota;

    fn from_str(text: &str) -> Result<Self, InvalidQuota> {
        let (burst, period) = text.split_once('/').ok_or(InvalidQuota)?;
        let burst = burst.trim().parse().ok().filter(|burst| (1..=1_000_000).contains(burst));
        let seconds = match period.trim() {
            "s" => 1,
            "min" => 60,
            "h" => 3600,
            "day" => 86_400,
            _ => return Err(InvalidQuota),
        };
        Ok(Self { burst: burst.ok_or(InvalidQuota)?, period: Duration::from_secs(seconds) })
    }
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Any request (`S3-52`).
    General,
    /// Trying a password: signing in, and wherever else one is asked for (`S3-53`).
    SignIn,
    /// Registering (`S3-54`).
    Registration,
    /// Asking for a mail that resets a password.
    PasswordReset,
    /// Exchanging a refresh token.
    Refresh,
    /// Booking for somebody without an account.
    GuestBooking,
    /// Booking a series.
    Series,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::General,
        Self::SignIn,
        Self::Registration,
        Self::PasswordReset,
        Self::Refresh,
        Self::GuestBooking,
        Self::Series,
    ];

    /// Its name for an address, as in the `RateLimit` headers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::General => "general",
            Self::SignIn => "sign-in",
            Self::Registration => "registration",
            Self::PasswordReset => "password-reset",
            Self::Refresh => "refresh",
            Self::GuestBooking => "guest-booking",
            Self::Series => "series",
        }
    }

    /// Its name for an account.
    const fn name_of_account(self) -> &'static str {
        match self {
            Self::General => "account",
            Self::SignIn => "sign-in-account",
            Self::Registration => "registration-account",
            Self::PasswordReset => "password-reset-account",
            Self::Refresh => "refresh-account",
            Self::GuestBooking => "guest-booking-account",
            Self::Series => "series-account",
        }
    }
}

/// Whose quota of which rule: a keyed hash, so that neither a dump of Redis nor one of memory tells addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(pub(crate) u128);

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
    /// Counts one request. It always has an answer: a limiter that needs somebody else falls back.
    async fn count(&self, key: Key, quota: Quota) -> Verdict;
}

/// One step of GCRA, in microseconds: the verdict, and when the quota is whole if the request passes. `LUA` in
/// `in_redis.rs` is the same step.
fn gcra(whole_at: i64, now: i64, quota: Quota) -> (Verdict, i64) {
    let (period, step) = quota.micros();
    // Further ahead than a period is impossible, unless the clock was set back.
    let whole_at = if whole_at - now > period { now } else { whole_at.max(now) };
    let next = whole_at + step;
    if next - now > period {
        let wait = micros(next - now - period);
        return (Verdict { allowed: false, remaining: 0, wait }, whole_at);
    }
    let remaining = u32::try_from((period - (next - now)) / step).unwrap_or_default();
    (Verdict { allowed: true, remaining, wait: micros(next - now) }, next)
}

fn micros(n: i64) -> Duration {
    Duration::from_micros(u64::try_from(n).unwrap_or_default())
}

/// How much of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Any request of an address.
    pub general: Quota,
    /// Any request of a signed-in account, from wherever.
    pub account: Quota,
    /// Tries of a password, of an address and of an account.
    pub sign_in: Quota,
    /// Registrations of an address.
    pub registration: Quota,
    /// Mails that reset a password, of an address and of an account.
    pub password_reset: Quota,
    /// Refreshes, of an address and of an account.
    pub refresh: Quota,
    /// Bookings for people without an account: of an address, where nobody is signed in; and for an email address.
    pub guest_booking: Quota,
    /// Series that an account books.
    pub series: Quota,
}

impl Quotas {
    /// The seeds' (`S3-52` to `S3-54`), and for what they do not name what people need several times over.
    pub const SEEDS: Self = Self {
        general: Quota::per_minute(100),
        account: Quota::per_minute(300),
        sign_in: Quota::per_minute(5),
        registration: Quota::per_hour(3),
        password_reset: Quota::per_hour(3),
        refresh: Quota::per_minute(60),
        guest_booking: Quota::per_hour(10),
        series: Quota::per_hour(20),
    };
}

/// The limits an API keeps. Cheap to clone.
#[derive(Clone)]
pub struct Limits {
    limiter: Option<Arc<dyn RateLimiter>>,
    hidden_by: Arc<[u8; 32]>,
    /// How much of what.
    pub quotas: Quotas,
}

/// Whom a request is counted against.
enum Whose<'a> {
    Address(Option<IpAddr>),
    Account(&'a str),
}

impl Limits {
    /// The seeds' limits, kept by this limiter. Keys are hidden by a random key: processes that share a Redis
    /// need [`Self::hidden_by`].
    pub fn new(limiter: Arc<dyn RateLimiter>) -> Self {
        let hidden_by = Arc::new(rand::random());
        Self { limiter: Some(limiter), hidden_by, quotas: Quotas::SEEDS }
    }

    /// No limits.
    pub fn off() -> Self {
        Self { limiter: None, hidden_by: Arc::new([0; 32]), quotas: Quotas::SEEDS }
    }

    /// With the key that hides addresses and accounts: the same in all processes that share a limiter.
    #[must_use]
    pub fn hidden_by(mut self, key: [u8; 32]) -> Self {
        self.hidden_by = Arc::new(key);
        self
    }

    /// With other quotas.
    #[must_use]
    pub fn with(mut self, quotas: Quotas) -> Self {
        self.quotas = quotas;
        self
    }

    /// Counts a request against an account's quota; refused, it is the `429` to answer.
    ///
    /// `named` is what the caller says whose account it is: the address they typed, a session's or an account's
    /// id. Call it before anything is looked up, for known and unknown ones alike: then it tells nothing of
    /// whether there is such an account.
    ///
    /// ```ignore
    /// api.limits.account(Rule::SignIn, &body.email).await?;        // POST /api/auth/login, …/reactivate
    /// api.limits.account(Rule::PasswordReset, &body.email).await?; // POST /api/auth/forgot
    /// api.limits.account(Rule::SignIn, &account.to_string()).await?; // wherever one's own password is asked for
    /// ```
    ///
    /// Upper and lower case and blanks around it make no difference. The address's own quota is the route's
    /// layer's business: see [`limit`].
    pub async fn account(&self, rule: Rule, named: &str) -> Result<(), Problem> {
        self.spend(rule, Whose::Account(named)).await
    }

    /// Counts a request against an address's quota, for a handler that only then knows the rule. Routes have
    /// [`limit`].
    pub async fn address(&self, rule: Rule, address: Option<IpAddr>) -> Result<(), Problem> {
        self.spend(rule, Whose::Address(address)).await
    }

    async fn spend(&self, rule: Rule, whose: Whose<'_>) -> Result<(), Problem> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let of_account = matches!(whose, Whose::Account(_));
        let name = if of_account { rule.name_of_account() } else { rule.name() };
        let quota = self.quota(rule, of_account);
        let verdict = limiter.count(self.key(name, &whose), quota).await;
        // What others have tried on an account is nobody's business until it stands in one's way.
        if !of_account || rule == Rule::General || !verdict.allowed {
            note(Counted { name, quota, verdict });
        }
        if verdict.allowed {
            return Ok(());
        }
        metrics::counter!("http_requests_limited_total", "rule" => name).increment(1);
        Err(Problem::from(Kind::TooManyRequests).retry_after(whole_seconds(verdict.wait)))
    }

    fn quota(&self, rule: Rule, of_account: bool) -> Quota {
        match rule {
            Rule::General if of_account => self.quotas.account,
            Rule::General => self.quotas.general,
            Rule::SignIn => self.quotas.sign_in,
            Rule::Registration => self.quotas.registration,
            Rule::PasswordReset => self.quotas.password_reset,
            Rule::Refresh => self.quotas.refresh,
            Rule::GuestBooking => self.quotas.guest_booking,
            Rule::Series => self.quotas.series,
        }
    }

    fn key(&self, name: &'static str, whose: &Whose<'_>) -> Key {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.hidden_by.as_slice())
            .expect("HMAC takes a key of any length");
        mac.update(name.as_bytes());
        mac.update(&[0]);
        match *whose {
            Whose::Address(None) => {}
            Whose::Address(Some(address)) => match network(address) {
                IpAddr::V4(address) => mac.update(&address.octets()),
                IpAddr::V6(address) => mac.update(&address.octets()),
            },
            Whose::Account(named) => mac.update(named.trim().to_lowercase().as_bytes()),
        }
        let hash: [u8; 32] = mac.finalize().into_bytes().into();
        let (half, _) = hash.split_first_chunk::<16>().expect("a hash has 32 bytes");
        Key(u128::from_be_bytes(*half))
    }
}

/// What one subscriber has: an IPv4 address, or an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// Something a request was counted against.
struct Counted {
    name: &'static str,
    quota: Quota,
    verdict: Verdict,
}

tokio::task_local! {
    /// What this request was counted against so far: the front makes headers of it.
    static COUNTED: RefCell<Vec<Counted>>;
}

/// Behind no front there is nobody to tell.
fn note(counted: Counted) {
    let _ = COUNTED.try_with(|all| all.borrow_mut().push(counted));
}

/// Runs a request, and says in `RateLimit` headers what it was counted against and what is left, whether it was
/// refused or not (draft-ietf-httpapi-ratelimit-headers): `RateLimit-Policy: "general";q=100;w=60` and
/// `RateLimit: "general";r=42;t=35`, an inner rule's before an outer one's.
pub(crate) async fn announced(answer: impl Future<Output = Response>) -> Response {
    COUNTED
        .scope(RefCell::default(), async {
            let mut response = answer.await;
            COUNTED.with(|all| {
                all.borrow().iter().rev().for_each(|counted| counted.tell(response.headers_mut()));
            });
            response
        })
        .await
}

impl Counted {
    fn tell(&self, headers: &mut HeaderMap) {
        const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
        const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
        let Self { name, quota, verdict } = self;
        let policy = format!("\"{name}\";q={};w={}", quota.burst, quota.period.as_secs());
        let limit = format!("\"{name}\";r={};t={}", verdict.remaining, whole_seconds(verdict.wait));
        for (header, value) in [(POLICY, policy), (LIMIT, limit)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(header, value);
            }
        }
    }
}

/// The layer of one route, which counts its requests against their addresses:
/// `route_layer(from_fn_with_state((limits, Rule::SignIn), limit))`.
pub async fn limit(
    State((limits, rule)): State<(Limits, Rule)>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(origin) = RequestOrigin::from_request_parts(&mut parts, &()).await;
    match limits.address(rule, origin.ip).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(refused) => refused.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::off().hidden_by([1; 32])
    }

    fn of(address: &str) -> Key {
        limits().key("general", &Whose::Address(Some(address.parse().unwrap())))
    }

    fn named(account: &str) -> Key {
        limits().key("sign-in-account", &Whose::Account(account))
    }

    #[test]
    fn an_ipv6_subscriber_is_one_key_and_a_mapped_address_is_ipv4() {
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:1.2.3.4"), of("1.2.3.4"));
        assert_ne!(of("1.2.3.4"), of("1.2.3.5"));
    }

    #[test]
    fn an_account_is_one_key_however_its_address_is_typed() {
        assert_eq!(named("Ana@Example.COM "), named("ana@example.com"));
        assert_ne!(named("ana@example.com"), named("bia@example.com"));
    }

    #[test]
    fn a_key_differs_by_rule_and_by_the_key_that_hides_it() {
        let address = Whose::Address("1.2.3.4".parse().ok());
        assert_ne!(limits().key("general", &address), limits().key("sign-in", &address));
        let other = Limits::off().hidden_by([2; 32]);
        assert_ne!(limits().key("general", &address), other.key("general", &address));
        let mut names: Vec<_> =
            Rule::ALL.iter().flat_map(|rule| [rule.name(), rule.name_of_account()]).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 2 * Rule::ALL.len());
    }

    #[test]
    fn a_quota_is_so_many_in_so_much_time() {
        assert_eq!("100/min".parse(), Ok(Quota::per_minute(100)));
        assert_eq!("3/h".parse(), Ok(Quota::per_hour(3)));
        assert_eq!("1/s".parse::<Quota>().unwrap().period, Duration::from_secs(1));
        assert_eq!("9/day".parse::<Quota>().unwrap().period, Duration::from_secs(86_400));
        for wrong in ["", "100", "0/min", "-1/min", "1/minute", "1/60", "/min", "99999999999/s"] {
            assert_eq!(wrong.parse::<Quota>(), Err(InvalidQuota), "{wrong}");
        }
    }
}
