//! The availability cache in Redis, shared by all processes.
//!
//! A value is a string: `<epoch> <number>\n<json>`; no JSON is a tombstone. A partition's state is a string
//! too, `<epoch> <ceiling> <applied> <step>`, so that one MGET brings the state and all values a reader needs. It
//! expires unless a projector applies something, be it an empty batch: then every value is of another epoch.
//! Batches and fills are Lua scripts: Redis runs each as one, and so the guards hold whoever else writes.
//! The scripts touch keys of one partition; they need a single Redis, not a cluster.
//!
//! What was parsed last is remembered with the bytes it was parsed from: a value that did not change is
//! not parsed again. Lists, which hold names, are forgotten when nobody asks; schedules and days are not, and sit in a
//! cache that is cheaper to ask.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::NaiveDate;
use domain::ids::{Id, ProviderId};
use domain::position::{Partition, PartitionCount, Position, PositionToken};
use moka::sync::Cache;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, RedisError, Script, ScriptInvocation};
use tokio::sync::oneshot;

use super::{
    Action, AvailabilityCache, AvailabilityDocs, CacheBatch, CacheState, CacheUnavailable,
    CacheWrite, Cached, CatalogueMark, DayListDoc, Doc, Key, Kind, SILENCE, Value,
};

/// How the cache uses Redis.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// What every key begins with; nothing by default, so that a day's list is exactly
    /// `appointments-list:PROVIDER_ID:DATE` (`S0-35`). A rebuild or a test uses one of its own, such as `g2:`.
    pub namespace: String,
    /// How long a value is kept at most: a safety net (K25).
    pub ttl: Duration,
    /// How long a partition's values hold without a word of its projector.
    pub silence: Duration,
    /// How long any call may take, connecting included.
    pub timeout: Duration,
    /// The most memory for what was parsed last, in bytes, roughly: so much for lists, and so much for the rest.
    pub parsed_bytes: u64,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            ttl: Duration::from_secs(24 * 60 * 60),
            silence: SILENCE,
            timeout: Duration::from_millis(800),
            parsed_bytes: 32 * 1024 * 1024,
        }
    }
}

/// The cache in Redis.
pub struct RedisCache {
    connection: ConnectionManager,
    partitions: PartitionCount,
    options: RedisOptions,
    lists: Cache<Key, Parsed>,
    measures: quick_cache::sync::Cache<Key, Parsed, ByBytes>,
    states: Arc<States>,
}

/// A value and the bytes it was parsed from.
type Parsed = Arc<(Vec<u8>, Value)>;

#[derive(Clone)]
struct ByBytes;

impl quick_cache::Weighter<Key, Parsed> for ByBytes {
    fn weight(&self, _: &Key, parsed: &Parsed) -> u64 {
        weight(parsed).into()
    }
}

fn weight(parsed: &Parsed) -> u32 {
    u32::try_from(parsed.0.len().saturating_mul(4) + 256).unwrap_or(u32::MAX)
}

/// How many values one script writes: Redis does nothing else meanwhile.
const CHUNK: usize = 64;

impl RedisCache {
    /// Connects when it is first used, so that a Redis that is down stops nobody from starting.
    pub fn new(
        url: &str,
        partitions: PartitionCount,
        options: RedisOptions,
    ) -> Result<Self, CacheUnavailable> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(options.timeout))
            .set_response_timeout(Some(options.timeout))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(20))
            .set_max_delay(Duration::from_millis(100))
            .set_pipeline_buffer_size(1024);
        let connection = redis::Client::open(url)
            .and_then(|client| ConnectionManager::new_lazy_with_config(client, config))
            .map_err(unavailable)?;
        let measures =
            quick_cache::sync::Cache::with_weighter(10_000, options.parsed_bytes, ByBytes);
        let lists = Cache::builder()
            .max_capacity(options.parsed_bytes)
            .weigher(|_, parsed| weight(parsed))
            .time_to_idle(Duration::from_secs(3600))
            .build();
        let keys = partitions.all().map(|partition| state_key(&options.namespace, partition));
        let states = Arc::new(States {
            connection: connection.clone(),
            timeout: options.timeout,
            keys: keys.collect(),
            asked: Mutex::default(),
        });
        Ok(Self { connection, partitions, options, lists, measures, states })
    }

    fn parsed(&self, key: Key) -> Option<Parsed> {
        match key {
            Key::Schedule(_) | Key::Day(..) => self.measures.get(&key),
            Key::DayList(..) | Key::Catalogue(_) => self.lists.get(&key),
        }
    }

    fn keep_parsed(&self, key: Key, parsed: Parsed) {
        match key {
            Key::Schedule(_) | Key::Day(..) => self.measures.insert(key, parsed),
            Key::DayList(..) | Key::Catalogue(_) => self.lists.insert(key, parsed),
        }
    }

    fn state_key(&self, partition: Partition) -> String {
        state_key(&self.options.namespace, partition)
    }

    fn key(&self, key: Key) -> String {
        let mut name = String::with_capacity(self.options.namespace.len() + 72);
        name.push_str(&self.options.namespace);
        match key {
            Key::Schedule(provider) => write!(name, "measures:{provider}"),
            Key::Day(provider, day) => write!(name, "agenda:{provider}:{day}"),
            Key::DayList(provider, day) => write!(name, "appointments-list:{provider}:{day}"),
            Key::Catalogue(partition) => write!(name, "catalogue:{partition}"),
        }
        .expect("a String takes all that is written to it");
        name
    }

    async fn mget(&self, keys: Vec<String>) -> Result<Vec<Option<Vec<u8>>>, CacheUnavailable> {
        let mut connection = self.connection.clone();
        self.in_time(connection.mget(keys)).await
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, CacheUnavailable> {
        within(self.options.timeout, call).await
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, CacheUnavailable> {
        let mut connection = self.connection.clone();
        self.in_time(script.invoke_async(&mut connection)).await
    }

    /// Reads a value of this epoch; anything else is a miss, as is what this program cannot parse.
    fn doc<T: Kind>(&self, key: Key, state: &State, raw: Option<Vec<u8>>) -> Option<Doc<T>> {
        let raw = raw?;
        let end = raw.iter().take(HEAD_BYTES).position(|byte| *byte == b'\n')?;
        let (epoch, number) = std::str::from_utf8(&raw[..end]).ok()?.split_once(' ')?;
        if epoch != state.epoch {
            return None;
        }
        let number = number.parse().ok()?;
        if raw.len() == end + 1 {
            return Some(Doc { number, value: None });
        }
        if let Some(parsed) = self.parsed(key)
            && parsed.0 == raw
        {
            return Some(Doc { number, value: Some(T::from_value(parsed.1.clone())?) });
        }
        match serde_json::from_slice::<T>(&raw[end + 1..]) {
            Ok(doc) => {
                let doc = Arc::new(doc);
                self.keep_parsed(key, Arc::new((raw, T::into_value(doc.clone()))));
                Some(Doc { number, value: Some(doc) })
            }
            Err(error) => {
                let name = self.key(key);
                let (line, column) = (error.line(), error.column());
                tracing::warn!(key = %name, line, column, "the cached value {name} cannot be read");
                None
            }
        }
    }

    async fn cached<T: Kind>(&self, keys: &[Key]) -> Result<Vec<Cached<T>>, CacheUnavailable> {
        let names = keys
            .iter()
            .flat_map(|key| [self.state_key(key.partition(self.partitions)), self.key(*key)])
            .collect();
        let mut values = self.mget(names).await?.into_iter();
        let mut next = || values.next().flatten();
        Ok(keys
            .iter()
            .map(|key| {
                let (state, raw) = (State::read(next()), next());
                Cached { applied: state.applied, doc: self.doc(*key, &state, raw) }
            })
            .collect())
    }

    /// Adds a write's key and its four arguments.
    fn add(&self, script: &mut ScriptInvocation<'_>, write: &CacheWrite) {
        let (operation, body) = match &write.action {
            Action::Put(Some(value)) => ("put", value.json()),
            Action::Put(None) => ("put", Vec::new()),
            Action::Forget => ("forget", Vec::new()),
        };
        script.key(self.key(write.key));
        script.arg(operation).arg(write.number).arg(millis(self.options.ttl)).arg(body);
    }

    /// Applies a batch in chunks; `false` when somebody else, or a restart, came between two of them.
    async fn apply_chunks(&self, batch: &CacheBatch) -> Result<bool, CacheUnavailable> {
        let writes: Vec<&CacheWrite> = batch.writes.values().collect();
        let chunks: Vec<&[&CacheWrite]> =
            if writes.is_empty() { vec![&[]] } else { writes.chunks(CHUNK).collect() };
        let (mut step, mut in_order) = (String::new(), 0_u8);
        for (i, chunk) in chunks.iter().enumerate() {
            let mut script = APPLY.prepare_invoke();
            script.key(self.state_key(batch.partition));
            script.arg(batch.from).arg(batch.to);
            script.arg(format!("{:016x}", rand::random::<u64>()));
            script.arg(&step).arg(in_order).arg(u8::from(i + 1 == chunks.len()));
            script.arg(millis(self.options.silence));
            for write in *chunk {
                debug_assert_eq!(write.key.partition(self.partitions), batch.partition);
                self.add(&mut script, write);
            }
            (step, in_order) = self.run(&script).await?;
            if step.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[async_trait]
impl AvailabilityCache for RedisCache {
    async fn apply(&self, batch: CacheBatch) -> Result<(), CacheUnavailable> {
        for _ in 0..3 {
            if self.apply_chunks(&batch).await? {
                return Ok(());
            }
        }
        Err(CacheUnavailable("somebody came between the parts of a batch three times".into()))
    }

    async fn fill(
        &self,
        partition: Partition,
        as_of: u64,
        writes: Vec<CacheWrite>,
    ) -> Result<(), CacheUnavailable> {
        let writes: Vec<CacheWrite> = writes.into_iter().filter(CacheWrite::is_put).collect();
        for chunk in writes.chunks(CHUNK) {
            let mut script = FILL.prepare_invoke();
            script.key(self.state_key(partition));
            script.arg(as_of);
            for write in chunk {
                debug_assert_eq!(write.key.partition(self.partitions), partition);
                self.add(&mut script, write);
            }
            self.run::<()>(&script).await?;
        }
        Ok(())
    }

    async fn get(
        &self,
        provider: ProviderId,
        utc_days: &[NaiveDate],
    ) -> Result<AvailabilityDocs, CacheUnavailable> {
        let partition = self.partitions.partition_of(provider.slot());
        let mut names = Vec::with_capacity(utc_days.len() + 2);
        names.push(self.state_key(partition));
        names.push(self.key(Key::Schedule(provider)));
        names.extend(utc_days.iter().map(|day| self.key(Key::Day(provider, *day))));
        let mut values = self.mget(names).await?.into_iter();
        let mut next = || values.next().flatten();
        let state = State::read(next());
        Ok(AvailabilityDocs {
            state: state.whole(),
            schedule: self.doc(Key::Schedule(provider), &state, next()),
            days: utc_days
                .iter()
                .map(|day| (*day, self.doc(Key::Day(provider, *day), &state, next())))
                .collect(),
        })
    }

    async fn get_day_list(
        &self,
        provider: ProviderId,
        local_day: NaiveDate,
    ) -> Result<Cached<DayListDoc>, CacheUnavailable> {
        let mut cached = self.cached(&[Key::DayList(provider, local_day)]).await?;
        Ok(cached.pop().unwrap_or(Cached { applied: None, doc: None }))
    }

    async fn get_catalogue(
        &self,
    ) -> Result<Vec<(Partition, Cached<CatalogueMark>)>, CacheUnavailable> {
        let keys: Vec<Key> = self.partitions.all().map(Key::Catalogue).collect();
        Ok(self.partitions.all().zip(self.cached(&keys).await?).collect())
    }

    async fn lose_lists(&self, days: &[(ProviderId, NaiveDate)]) -> Result<(), CacheUnavailable> {
        let keys: Vec<Key> = super::lists_of(days).into_iter().collect();
        for chunk in keys.chunks(CHUNK) {
            let mut connection = self.connection.clone();
            let names: Vec<String> = chunk.iter().map(|key| self.key(*key)).collect();
            self.in_time(connection.unlink::<_, ()>(names)).await?;
            chunk.iter().for_each(|key| self.lists.invalidate(key));
        }
        Ok(())
    }

    async fn state(&self, partition: Partition) -> Result<Option<CacheState>, CacheUnavailable> {
        let states = self.states.now().await?;
        let state = states.get(usize::from(partition.0));
        Ok(state.and_then(State::whole))
    }

    async fn applied(&self) -> Result<PositionToken, CacheUnavailable> {
        let keys = self.partitions.all().map(|partition| self.state_key(partition)).collect();
        let states = self.mget(keys).await?;
        let position = |(partition, raw)| {
            let number = State::read(raw).applied?;
            Some(Position { partition, number })
        };
        Ok(self.partitions.all().zip(states).filter_map(position).collect())
    }
}

#[cfg(test)]
impl RedisCache {
    /// Loses one entry, as eviction does.
    pub(super) async fn evict(&self, key: Key) {
        let mut connection = self.connection.clone();
        let () = connection.del(self.key(key)).await.expect("Redis answers");
    }

    /// All there is, as a snapshot would have it.
    pub(super) async fn snapshot(&self) -> Vec<(String, Vec<u8>)> {
        let mut connection = self.connection.clone();
        let pattern = format!("{}*", self.options.namespace);
        let keys: Vec<String> = connection.keys(pattern).await.expect("Redis answers");
        let mut snapshot = Vec::new();
        for key in keys {
            let value = connection.get(&key).await.expect("Redis answers");
            snapshot.push((key, value));
        }
        snapshot
    }

    /// Loses all there is and has a snapshot instead, as after a restart.
    pub(super) async fn restore(&self, snapshot: &[(String, Vec<u8>)]) {
        let mut connection = self.connection.clone();
        for (key, _) in self.snapshot().await {
            let () = connection.del(key).await.expect("Redis answers");
        }
        for (key, value) in snapshot {
            let () = connection.set(key, value).await.expect("Redis answers");
        }
    }
}

/// The states of all partitions, read once for everybody who asks while the reading before is under way: so many readers
/// at once cost Redis no more than one, and none is answered from what was read before it asked.
struct States {
    connection: ConnectionManager,
    timeout: Duration,
    keys: Vec<String>,
    asked: Mutex<Askers>,
}

#[derive(Default)]
struct Askers {
    /// Whether somebody reads, and will look at `waiting` after that.
    reading: bool,
    waiting: Vec<oneshot::Sender<Arc<[State]>>>,
}

impl States {
    async fn now(self: &Arc<Self>) -> Result<Arc<[State]>, CacheUnavailable> {
        let (answer, answered) = oneshot::channel();
        let alone = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.waiting.push(answer);
            !std::mem::replace(&mut asked.reading, true)
        };
        if alone {
            tokio::spawn(Arc::clone(self).read());
        }
        answered.await.map_err(|dropped| CacheUnavailable(Box::new(dropped)))
    }

    /// Reads until nobody waits. A reading that fails is told by dropping those who wait for it.
    async fn read(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                if asked.waiting.is_empty() {
                    asked.reading = false;
                    return;
                }
                std::mem::take(&mut asked.waiting)
            };
            let mut connection = self.connection.clone();
            let read: Result<Vec<Option<Vec<u8>>>, _> =
                within(self.timeout, connection.mget(&self.keys)).await;
            match read {
                Ok(states) => {
                    let states: Arc<[State]> = states.into_iter().map(State::read).collect();
                    for answer in waiting {
                        // Whoever hung up does not need it.
                        let _ = answer.send(Arc::clone(&states));
                    }
                }
                Err(error) => tracing::debug!(%error, "the cache's states cannot be read"),
            }
        }
    }
}

fn state_key(namespace: &str, partition: Partition) -> String {
    format!("{namespace}availability-state:{partition}")
}

async fn within<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, CacheUnavailable> {
    match tokio::time::timeout(timeout, call).await {
        Ok(answer) => answer.map_err(unavailable),
        Err(elapsed) => Err(CacheUnavailable(Box::new(elapsed))),
    }
}

/// As Redis wants it: never 0.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn unavailable(error: RedisError) -> CacheUnavailable {
    CacheUnavailable(Box::new(error))
}

/// What Redis knows of a partition; a state that is gone has an epoch no value has.
#[derive(Default)]
struct State {
    epoch: String,
    ceiling: Option<u64>,
    applied: Option<u64>,
}

impl State {
    fn read(raw: Option<Vec<u8>>) -> Self {
        let Some(text) = raw.and_then(|raw| String::from_utf8(raw).ok()) else {
            return Self::default();
        };
        let mut parts = text.split(' ');
        let epoch = parts.next().unwrap_or_default().to_owned();
        let mut number = || parts.next().and_then(|number| number.parse().ok());
        Self { epoch, ceiling: number(), applied: number() }
    }

    fn whole(&self) -> Option<CacheState> {
        let epoch = u64::from_str_radix(&self.epoch, 16).ok()?;
        Some(CacheState { epoch, ceiling: self.ceiling?, applied: self.applied? })
    }
}

/// A value's first line is shorter than this: 16 digits of epoch, a space, at most 20 of number.
const HEAD_BYTES: usize = 40;

/// KEYS: the state, then the values. ARGV: from, to, a random word; then the word of the chunk before ('' for
/// the first) and whether it was in order; whether this is the last chunk; how long the state holds; then four per
/// value.
/// Gives this chunk's word, '' when the chunk before was not the last to write here, and whether the batch is
/// in order.
///
/// Numbers are compared as numbers and stored as the text they came as: Lua would round large ones.
static APPLY: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local epoch, ceiling, applied, step
        local state = redis.call('GET', KEYS[1])
        if state then
            epoch, ceiling, applied, step = string.match(state, '^(%x+) (%d+) (%d*) (%x+)$')
        end
        local from, to, in_order = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[5] == '1'
        if ARGV[4] ~= '' then
            if step ~= ARGV[4] then return {'', 0} end
        elseif not epoch or applied == '' or tonumber(applied) < from then
            epoch, ceiling, applied, in_order = ARGV[3], ARGV[2], '', true
        else
            in_order = tonumber(ceiling) == from
            if tonumber(ceiling) < to then ceiling = ARGV[2] end
        end
        for i = 2, #KEYS do
            local a = 7 + (i - 2) * 4
            local op, number, ttl, body = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]
            local e, n = string.match(redis.call('GETRANGE', KEYS[i], 0, 39), '^(%x+) (%d+)\n')
            local there = e == epoch
            if there and tonumber(n) >= tonumber(number) then
                -- as new or newer
            elseif op == 'forget' then
                redis.call('DEL', KEYS[i])
            elseif there or in_order then
                redis.call('SET', KEYS[i], epoch .. ' ' .. number .. '\n' .. body, 'PX', ttl)
            end
        end
        if ARGV[6] == '1' and (applied == '' or tonumber(applied) < to) then applied = ARGV[2] end
        redis.call('SET', KEYS[1], epoch .. ' ' .. ceiling .. ' ' .. applied .. ' ' .. ARGV[3], 'PX', ARGV[7])
        return {ARGV[3], in_order and 1 or 0}
        ",
    )
});

/// KEYS: the state, then the values. ARGV: up to which event they are complete; then four per value.
static FILL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
        local state = redis.call('GET', KEYS[1])
        if not state then return end
        local epoch, ceiling = string.match(state, '^(%x+) (%d+) ')
        if tonumber(ceiling) > tonumber(ARGV[1]) then return end
        for i = 2, #KEYS do
            local a = 1 + (i - 2) * 4
            local number, ttl, body = ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]
            local e, n = string.match(redis.call('GETRANGE', KEYS[i], 0, 39), '^(%x+) (%d+)\n')
            if e ~= epoch or tonumber(n) < tonumber(number) then
                redis.call('SET', KEYS[i], epoch .. ' ' .. number .. '\n' .. body, 'PX', ttl)
            end
        end
        ",
    )
});
