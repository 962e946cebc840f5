//! Limits in Redis, shared by all processes.
//!
//! One Lua script a request: Redis runs it as one, by its own clock, so processes neither race nor have to agree on
//! the time. A key is `<prefix>limit:<22 characters>`, a keyed hash of rule and address, and it expires when its quota
//! is whole: an address that sent one request of 100 a minute is forgotten after 600 ms. A flood is so bounded by time:
//! at r new addresses a second there are r × 0.6 s keys of that rule, whoever many addresses there are.
//!
//! An answer is waited for some tens of milliseconds. Without one the process' own limiter counts, and goes on counting
//! without asking until Redis answers a ping in the background again: an outage costs a request or two their patience,
//! lets nobody through who is over the limit of one process, and takes nobody's service away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{RedisError, Script};

use super::{InProcess, Key, Quota, RateLimiter, Verdict, micros};

/// The step of `gcra`, in Redis. Microseconds since 1970 are exact in Lua's numbers until the year 2255.
const LUA: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local period, step = tonumber(ARGV[1]), tonumber(ARGV[2])
local whole = tonumber(redis.call('GET', KEYS[1]) or now)
if whole - now > period or whole < now then whole = now end
local next = whole + step
if next - now > period then return { 0, 0, next - now - period } end
redis.call('SET', KEYS[1], string.format('%.0f', next), 'PX', math.ceil((next - now) / 1000))
return { 1, math.floor((period - (next - now)) / step), next - now }
";

/// How the limiter uses Redis.
#[derive(Debug, Clone)]
pub struct RedisLimiterOptions {
    /// What every key begins with.
    pub prefix: String,
    /// How long an answer is waited for.
    pub timeout: Duration,
    /// How long to wait between two pings while it does not answer.
    pub retry: Duration,
}

impl Default for RedisLimiterOptions {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            timeout: Duration::from_millis(50),
            retry: Duration::from_millis(500),
        }
    }
}

/// Limits in Redis.
pub struct InRedis {
    connection: ConnectionManager,
    script: Script,
    options: RedisLimiterOptions,
    fallback: InProcess,
    away: Arc<AtomicBool>,
}

impl InRedis {
    /// Connects when it is first used. `fallback` counts while Redis does not answer.
    pub fn new(
        client: redis::Client,
        options: RedisLimiterOptions,
        fallback: InProcess,
    ) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(Duration::from_secs(1)))
            .set_number_of_retries(0)
            .set_pipeline_buffer_size(1024);
        let connection = ConnectionManager::new_lazy_with_config(client, config)?;
        let away = Arc::new(AtomicBool::new(false));
        Ok(Self { connection, script: Script::new(LUA), options, fallback, away })
    }

    async fn ask(&self, key: Key, quota: Quota) -> Option<Verdict> {
        let (period, step) = quota.micros();
        let key =
            format!("{}limit:{}", self.options.prefix, URL_SAFE_NO_PAD.encode(key.0.to_be_bytes()));
        let mut connection = self.connection.clone();
        let mut call = self.script.key(key);
        call.arg(period).arg(step);
        let answer = call.invoke_async::<(i64, i64, i64)>(&mut connection);
        match tokio::time::timeout(self.options.timeout, answer).await {
            Ok(Ok((allowed, remaining, wait))) => Some(Verdict {
                allowed: allowed == 1,
                remaining: u32::try_from(remaining).unwrap_or_default(),
                wait: micros(wait),
            }),
            Ok(Err(error)) => {
                self.is_away(&error);
                None
            }
            Err(elapsed) => {
                self.is_away(&elapsed);
                None
            }
        }
    }

    /// Says so once, and has somebody look for it.
    fn is_away(&self, error: &dyn std::error::Error) {
        if self.away.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::warn!(%error, "Redis does not answer: limits are counted in this process meanwhile");
        let (connection, options) = (self.connection.clone(), self.options.clone());
        tokio::spawn(look_for_it(Arc::downgrade(&self.away), connection, options));
    }
}

/// Ends when Redis answers, or nobody needs to know any more.
async fn look_for_it(
    away: Weak<AtomicBool>,
    mut connection: ConnectionManager,
    options: RedisLimiterOptions,
) {
    while away.strong_count() > 0 {
        let ping = redis::cmd("PING");
        let answer = ping.query_async::<String>(&mut connection);
        // Longer than a request would wait: making the connection takes longer, too.
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_secs(1), answer).await {
            if let Some(away) = away.upgrade() {
                away.store(false, Ordering::Relaxed);
                tracing::info!("Redis answers again: limits are shared again");
            }
            return;
        }
        tokio::time::sleep(options.retry).await;
    }
}

#[async_trait]
impl RateLimiter for InRedis {
    async fn count(&self, key: Key, quota: Quota) -> Verdict {
        if !self.away.load(Ordering::Relaxed)
            && let Some(verdict) = self.ask(key, quota).await
        {
            return verdict;
        }
        metrics::counter!("rate_limits_counted_in_process_total").increment(1);
        self.fallback.count(key, quota).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use chrono::DateTime;
    use redis::AsyncCommands as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::limits::contract::{self, Passing, random_key};

    fn server() -> String {
        std::env::var("TEST_REDIS_URL").expect("TEST_REDIS_URL is not set: run scripts/test.sh")
    }

    fn prefix() -> String {
        format!("test_{:016x}:", rand::random::<u64>())
    }

    /// With a patience that a busy machine does not exhaust, unless a test is about that.
    fn limiter(url: &str, prefix: &str, timeout_ms: u64) -> Arc<InRedis> {
        let options = RedisLimiterOptions {
            prefix: prefix.to_owned(),
            timeout: Duration::from_millis(timeout_ms),
            retry: Duration::from_millis(20),
        };
        let now = DateTime::from_timestamp(1_770_000_000, 0).unwrap();
        let fallback = InProcess::new(Arc::new(move || now));
        Arc::new(InRedis::new(redis::Client::open(url).unwrap(), options, fallback).unwrap())
    }

    async fn connect() -> redis::aio::MultiplexedConnection {
        let client = redis::Client::open(server()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    async fn keys(of: &str) -> Vec<String> {
        let mut connection = connect().await;
        let mut found = Vec::new();
        let mut scan = connection.scan_match::<_, String>(format!("{of}*")).await.unwrap();
        while let Some(key) = scan.next_item().await {
            found.push(key.unwrap());
        }
        found
    }

    #[tokio::test]
    async fn it_keeps_the_contract() {
        let limiter = limiter(&server(), &prefix(), 20_000);
        contract::all(limiter.clone(), &Passing::Real { started: Instant::now() }).await;
        assert!(!limiter.away.load(Ordering::Relaxed), "Redis was asked all along");
    }

    #[tokio::test]
    async fn two_processes_on_one_redis_share_a_quota_and_another_prefix_has_its_own() {
        let prefix = prefix();
        let both = [limiter(&server(), &prefix, 20_000), limiter(&server(), &prefix, 20_000)];
        let (key, quota) = (random_key(), Quota::per_hour(10));
        let racers: Vec<_> = (0..64)
            .map(|n| {
                let limiter = both[n % 2].clone();
                tokio::spawn(async move { limiter.count(key, quota).await.allowed })
            })
            .collect();
        let mut allowed = 0;
        for racer in racers {
            allowed += u32::from(racer.await.unwrap());
        }
        assert_eq!(allowed, 10);
        let other = limiter(&server(), &format!("other_{prefix}"), 20_000);
        assert!(other.count(key, quota).await.allowed);
    }

    /// What a flood costs: a key lives as long as its quota is not whole, which of one request is a step.
    #[tokio::test]
    async fn a_key_expires_when_its_quota_is_whole_so_time_bounds_a_flood() {
        let prefix = prefix();
        let limiter = limiter(&server(), &prefix, 20_000);
        // 100 a minute: a step is 600 ms. Shorter, and thirty thousand addresses outlive it.
        let quota = Quota { burst: 100, period: Duration::from_secs(60) };
        let started = Instant::now();
        let flood: Vec<_> = (0..32)
            .map(|_| {
                let limiter = Arc::clone(&limiter);
                tokio::spawn(async move {
                    for _ in 0..1_000 {
                        assert!(limiter.count(random_key(), quota).await.allowed);
                    }
                })
            })
            .collect();
        for one in flood {
            one.await.unwrap();
        }
        let took = started.elapsed();
        let left = keys(&prefix).await;
        let mut connection = connect().await;
        if let Some(key) = left.first() {
            let bytes: Option<u64> = redis::cmd("MEMORY")
                .arg("USAGE")
                .arg(key)
                .query_async(&mut connection)
                .await
                .unwrap();
            let ttl: i64 = connection.pttl(key).await.unwrap();
            println!(
                "32000 addresses in {took:?}: {} keys left, {bytes:?} bytes a key",
                left.len()
            );
            assert!(ttl <= 600, "{ttl} ms");
            assert!(bytes.is_none_or(|bytes| bytes <= 256), "{bytes:?}");
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while !keys(&prefix).await.is_empty() {
            assert!(Instant::now() < deadline, "keys stay for ever");
        }
    }

    #[tokio::test]
    async fn no_address_is_readable_in_redis() {
        let prefix = prefix();
        let limits = crate::limits::Limits::new(limiter(&server(), &prefix, 20_000));
        let rule = crate::limits::Rule::SignIn;
        limits.address(rule, "203.0.113.77".parse().ok()).await.unwrap();
        limits.account(rule, "ana@example.com").await.unwrap();
        let keys = keys(&prefix).await;
        assert_eq!(keys.len(), 2);
        for key in keys {
            let value: String = connect().await.get(&key).await.unwrap();
            let hidden = key.strip_prefix(&prefix).unwrap().strip_prefix("limit:").unwrap();
            assert!(hidden.len() == 22 && !hidden.contains("203.0") && !hidden.contains("ana"));
            assert!(value.bytes().all(|b| b.is_ascii_digit()), "{value}");
        }
    }

    #[tokio::test]
    async fn without_redis_the_process_counts_by_itself() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let limiter = limiter(&format!("redis://{nobody}"), "", 1_000);
        let (key, quota) = (random_key(), Quota::per_hour(5));
        for _ in 0..5 {
            assert!(limiter.count(key, quota).await.allowed);
        }
        assert!(!limiter.count(key, quota).await.allowed, "not everything passes");
    }

    /// A server that takes connections and says nothing, and later is a way to the real one.
    #[tokio::test]
    async fn a_redis_that_hangs_costs_one_patience_and_is_used_again_when_it_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let real = redis::Client::open(server()).unwrap();
        let redis::ConnectionAddr::Tcp(host, port) = real.get_connection_info().addr() else {
            panic!("TEST_REDIS_URL is not a TCP address")
        };
        let real = format!("{host}:{port}");
        let open = Arc::new(AtomicBool::new(false));
        let gate = Arc::clone(&open);
        tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if gate.load(Ordering::Relaxed) {
                    let mut there = TcpStream::connect(&real).await.unwrap();
                    tokio::spawn(async move {
                        tokio::io::copy_bidirectional(&mut stream, &mut there).await
                    });
                } else {
                    silent.push(stream);
                }
            }
        });
        let prefix = prefix();
        let limiter = limiter(&format!("redis://{address}"), &prefix, 50);
        let (key, quota) = (random_key(), Quota::per_hour(100));
        assert!(limiter.count(key, quota).await.allowed);
        assert!(limiter.away.load(Ordering::Relaxed));
        let started = Instant::now();
        for _ in 0..50 {
            assert!(limiter.count(key, quota).await.allowed);
        }
        assert!(started.elapsed() < Duration::from_millis(50 * 50), "each paid the patience");
        open.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(20);
        // As Redis never heard of this key, a whole quota is left there.
        while limiter.count(random_key(), quota).await.remaining != 99
            || keys(&prefix).await.is_empty()
        {
            assert!(Instant::now() < deadline, "it is never used again");
            tokio::task::yield_now().await;
        }
    }
}
