//! Loading: aggregates from memory, else from a snapshot and the events after it; streams; partitions.
//!
//! All that a decision reads comes in one statement, `log_read`, so it is one snapshot of the database: the
//! command's row, claims, and each stream from where it is already known.
//!
//! The hot cache holds aggregates as of some version. It is never the truth: an append checks the versions,
//! and the executor reads again before it refuses. Entries forget after a minute, so that what was opened
//! before a person was erased does not linger.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Instant as Monotonic;

use domain::Instant;
use domain::aggregate::{Aggregate, StreamId, StreamKind, Version};
use domain::command::ClaimKey;
use domain::event::Event;
use domain::ids::{RoutingSlot, SubjectId};
use domain::position::{Partition, Position, PositionToken};
use quick_cache::sync::Cache;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use crate::codec::{self, RawEvent};
use crate::kinds::{self, SNAPSHOT_FORM, State};
use crate::lane::InTheWay;
use crate::sealing::{self, KEY_CACHE, SubjectKeys};
use crate::{Core, EventLog, LogError, Recorded, big, from_big, small};

/// How many events of one stream a single read brings.
const PAGE: i32 = 1000;

/// An aggregate as of some version.
#[derive(Debug, Clone)]
pub struct LoadedAggregate<A> {
    /// How many events it has; 0 when it does not exist.
    pub version: Version,
    /// Its state.
    pub state: Arc<A>,
    /// Where its last event stands.
    pub last: Option<Position>,
}

/// A stream's aggregate in memory.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) version: Version,
    pub(crate) state: State,
    pub(crate) last: Option<Position>,
    /// When its last event was recorded.
    pub(crate) recorded_at: Option<Instant>,
    /// When the oldest of what is in it was opened.
    opened: Monotonic,
}

impl Held {
    /// A stream without events.
    pub(crate) fn fresh(stream: StreamId) -> Self {
        Self {
            version: 0,
            state: kinds::fresh(stream.kind),
            last: None,
            recorded_at: None,
            opened: Monotonic::now(),
        }
    }

    /// Applies events that follow; `false`, and nothing done, if they do not.
    pub(crate) fn extend<'a>(
        &mut self,
        stream: StreamId,
        events: impl Iterator<Item = (Version, Position, Instant, &'a Event)> + Clone,
    ) -> bool {
        let mut version = self.version;
        for (sequence, position, recorded_at, event) in events.clone() {
            version += 1;
            if sequence != version || event.stream_kind() != stream.kind {
                return false;
            }
            self.last = Some(position);
            self.recorded_at = self.recorded_at.max(Some(recorded_at));
        }
        if version > self.version {
            let state = std::mem::replace(&mut self.state, Arc::new(()));
            self.state = kinds::fold(stream.kind, state, events.map(|(.., event)| event));
            self.version = version;
        }
        true
    }

    /// Whether what was opened for it may still be remembered.
    fn is_fresh(&self) -> bool {
        self.opened.elapsed() < KEY_CACHE
    }

    fn into_loaded<A: Aggregate>(self) -> LoadedAggregate<A> {
        LoadedAggregate {
            version: self.version,
            state: kinds::downcast(self.state),
            last: self.last,
        }
    }
}

/// The bounded cache of aggregates.
pub(crate) struct Hot(Option<Cache<StreamId, Held>>);

impl Hot {
    pub(crate) fn new(most: u64) -> Self {
        Self((most > 0).then(|| Cache::new(usize::try_from(most).unwrap_or(usize::MAX))))
    }

    pub(crate) fn get(&self, stream: StreamId) -> Option<Held> {
        self.0.as_ref()?.get(&stream).filter(Held::is_fresh)
    }

    /// Keeps an aggregate, unless a later version of it is kept. What does not exist yet is not kept: an append whose
    /// outcome nobody heard may have begun it.
    pub(crate) fn keep(&self, stream: StreamId, held: &Held) {
        let Some(cache) = &self.0 else { return };
        let later = |kept: Held| kept.version > held.version && kept.is_fresh();
        if held.version > 0 && !cache.get(&stream).is_some_and(later) {
            cache.insert(stream, held.clone());
        }
    }

    pub(crate) fn forget(&self, stream: StreamId) {
        if let Some(cache) = &self.0 {
            cache.remove(&stream);
        }
    }

    /// Forgets an aggregate that is known to have moved on.
    fn outdate(&self, stream: StreamId, version: Version) {
        if let Some(cache) = &self.0
            && cache.get(&stream).is_some_and(|kept| kept.version < version)
        {
            cache.remove(&stream);
        }
    }

    pub(crate) fn forget_all(&self) {
        if let Some(cache) = &self.0 {
            cache.clear();
        }
    }

    /// Lets go of what is no longer given out.
    fn sweep(&self) {
        if let Some(cache) = &self.0 {
            cache.retain(|_, held| held.is_fresh());
        }
    }
}

/// Sweeps what is remembered for as long as the log is open.
pub(crate) fn sweep_hot(core: &Arc<Core>) {
    let core = Arc::downgrade(core);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(KEY_CACHE / 4).await;
            let Some(core) = Weak::upgrade(&core) else { return };
            core.hot.sweep();
            core.ring.sweep();
            core.recent.sweep();
        }
    });
}

/// A command's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredCommand {
    pub(crate) fingerprint: Vec<u8>,
    pub(crate) result: String,
    pub(crate) positions: PositionToken,
    pub(crate) recorded_at: Instant,
}

impl StoredCommand {
    pub(crate) fn new(
        partition: Partition,
        fingerprint: Vec<u8>,
        result: String,
        position: i64,
        positions: Option<&str>,
        recorded_at: Instant,
    ) -> Result<Self, LogError> {
        let number = from_big(position);
        let positions = match positions {
            Some(token) => token.parse().map_err(|_| LogError::StoredAnswer)?,
            None if number == 0 => PositionToken::default(),
            None => [Position { partition, number }].into_iter().collect(),
        };
        Ok(Self { fingerprint, result, positions, recorded_at })
    }
}

/// What is to be read in one snapshot.
#[derive(Default)]
pub(crate) struct Ask {
    pub(crate) command: Option<Uuid>,
    pub(crate) claims: Vec<ClaimKey>,
    /// Each stream with what is already known of it.
    pub(crate) streams: Vec<(StreamId, Option<Held>)>,
}

/// What was read, in the order it was asked for.
pub(crate) struct Answer {
    pub(crate) command: Option<StoredCommand>,
    pub(crate) claims: Vec<(ClaimKey, Option<Uuid>)>,
    pub(crate) streams: Vec<(StreamId, Held)>,
    /// Whether it all stems from one snapshot; a very long stream takes several reads.
    pub(crate) joint: bool,
}

/// One stream of a read under way.
struct Wanted {
    stream: StreamId,
    held: Held,
    from_snapshot: bool,
    /// How many events were applied that no snapshot holds.
    unsaved: u64,
    done: bool,
}

impl Core {
    /// Reads what a decision needs.
    pub(crate) async fn read(&self, ask: Ask) -> Result<Answer, LogError> {
        let mut wanted: Vec<Wanted> = ask
            .streams
            .into_iter()
            .map(|(stream, held)| Wanted {
                from_snapshot: held.is_none() && self.options.snapshot_every > 0,
                held: held.unwrap_or_else(|| Held::fresh(stream)),
                stream,
                unsaved: 0,
                done: false,
            })
            .collect();
        let mut claims: Vec<_> = ask.claims.iter().map(|key| (*key, None)).collect();
        let slot = ask.command.map(RoutingSlot::of);
        let home = slot.map_or(Partition(0), |slot| self.partition_of(slot));
        let mut command = None;
        let mut reads = 0;
        while reads == 0 || wanted.iter().any(|w| !w.done) {
            let first = reads == 0;
            let open: Vec<usize> = (0..wanted.len()).filter(|i| !wanted[*i].done).collect();
            let rows = self
                .read_once(
                    ask.command.filter(|_| first),
                    if first { &ask.claims } else { &[] },
                    open.iter().map(|i| {
                        let w = &wanted[*i];
                        (w.stream, w.held.version, w.from_snapshot)
                    }),
                    PAGE,
                    false,
                )
                .await?;
            reads += 1;
            let mut found: Vec<Vec<&PgRow>> = vec![Vec::new(); open.len()];
            for row in &rows {
                let ordinal = usize::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default();
                match row.try_get::<i16, _>(0)? {
                    1 => command = Some(stored_command(row, home)?),
                    2 => claims[ordinal - 1].1 = row.try_get(2)?,
                    _ => found[ordinal - 1].push(row),
                }
            }
            let keys = self.keys_for(&rows).await?;
            for (i, rows) in open.into_iter().zip(found) {
                self.apply(&mut wanted[i], &rows, &keys)?;
            }
        }
        for w in &wanted {
            self.maybe_snapshot(w);
        }
        let streams = wanted.into_iter().map(|w| (w.stream, w.held)).collect();
        Ok(Answer { command, claims, streams, joint: reads == 1 })
    }

    async fn read_once(
        &self,
        command: Option<Uuid>,
        claims: &[ClaimKey],
        streams: impl Iterator<Item = (StreamId, Version, bool)>,
        page: i32,
        with_metadata: bool,
    ) -> Result<Vec<PgRow>, LogError> {
        let (mut at, mut ids, mut after, mut forms) = (vec![], vec![], vec![], vec![]);
        for (stream, version, from_snapshot) in streams {
            at.push(small(self.partition_of(stream.slot())));
            ids.push(stream.id);
            after.push(big(version));
            forms.push(from_snapshot.then_some(SNAPSHOT_FORM));
        }
        let slot = |id| small(self.partition_of(RoutingSlot::of(id)));
        let claimed: Vec<_> = claims.iter().map(|k| small(self.partition_of(k.slot()))).collect();
        let kinds: Vec<_> = claims.iter().map(|k| k.kind.as_str()).collect();
        let hashes: Vec<_> = claims.iter().map(|k| k.hash.as_slice()).collect();
        let query = || {
            sqlx::query("SELECT * FROM log_read($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
                .bind(command.map(slot))
                .bind(command)
                .bind(&claimed)
                .bind(&kinds)
                .bind(&hashes)
                .bind(&at)
                .bind(&ids)
                .bind(&after)
                .bind(&forms)
                .bind(page)
                .bind(with_metadata)
        };
        self.bounded(self.loaders.fetch_all(query)).await
    }

    /// Everything that happened to these streams after these versions, with metadata: what stood in the way
    /// of an append.
    pub(crate) async fn rows_after(
        &self,
        streams: &[(StreamId, Version)],
    ) -> Result<Vec<PgRow>, LogError> {
        let streams = streams.iter().map(|(stream, after)| (*stream, *after, false));
        self.read_once(None, &[], streams, PAGE, true).await
    }

    /// The data keys needed to open these rows.
    async fn keys_for(&self, rows: &[PgRow]) -> Result<SubjectKeys, LogError> {
        let mut payloads = Vec::with_capacity(rows.len());
        for row in rows {
            if let Some(payload) = row.try_get_unchecked::<Option<&str>, _>(11)? {
                payloads.push(payload);
            }
        }
        self.keys_of(payloads.into_iter()).await
    }

    async fn keys_of(&self, payloads: impl Iterator<Item = &str>) -> Result<SubjectKeys, LogError> {
        let subjects = codec::subjects_of(payloads)?;
        if subjects.is_empty() {
            return Ok(SubjectKeys::new());
        }
        self.keys_of_subjects(&subjects).await
    }

    /// The data keys of these people, within the time any query has.
    pub(crate) async fn keys_of_subjects(
        &self,
        subjects: &BTreeSet<SubjectId>,
    ) -> Result<SubjectKeys, LogError> {
        let keys = self.ring.keys(&self.readers, self.options.partitions, subjects);
        match tokio::time::timeout(self.options.statement_timeout, keys).await {
            Ok(keys) => keys,
            Err(_) => Err(LogError::TimedOut),
        }
    }

    /// Applies what a read found of one stream: perhaps a snapshot, then events.
    fn apply(&self, w: &mut Wanted, rows: &[&PgRow], keys: &SubjectKeys) -> Result<(), LogError> {
        let partition = self.partition_of(w.stream.slot());
        // Somebody asked for a thing of this kind with the id of another: there is no such thing.
        if let Some(first) = rows.first()
            && w.held.version == 0
            && first.try_get::<&str, _>(7)? != w.stream.kind.as_str()
        {
            w.from_snapshot = false;
            w.done = true;
            return Ok(());
        }
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            if row.try_get::<i16, _>(0)? == 3 {
                if let Some(held) = snapshot(row, w.stream, partition, keys)? {
                    w.held = held;
                    continue;
                }
                // Of a form we do not read after all: from the first event, then.
                w.from_snapshot = false;
                return Ok(());
            }
            let raw = raw_read_row(row, w.stream, partition)?;
            let event = self.decode(&raw, keys)?;
            events.push((raw.sequence, raw.at, raw.recorded_at, event));
        }
        let count = events.len();
        let follow =
            events.iter().map(|(sequence, at, when, event)| (*sequence, *at, *when, event));
        if !w.held.extend(w.stream, follow) {
            return Err(LogError::BrokenStream(w.stream));
        }
        w.unsaved += count as u64;
        w.from_snapshot = false;
        w.done = count < usize::try_from(PAGE).unwrap_or_default();
        Ok(())
    }

    fn decode(&self, raw: &RawEvent<'_>, keys: &SubjectKeys) -> Result<Event, LogError> {
        codec::decode(raw, keys, &self.upcasters)
            .map_err(|source| LogError::Unreadable { at: raw.at, source })
    }

    /// The events in the way of a request, whose checks these are.
    pub(crate) async fn recorded_after(
        &self,
        checks: &[(StreamId, Version)],
        in_the_way: &InTheWay,
    ) -> Result<Vec<Recorded>, LogError> {
        let keys = self.keys_for(&in_the_way.rows).await?;
        let mut all = Vec::with_capacity(in_the_way.rows.len());
        for row in &in_the_way.rows {
            let ordinal = usize::try_from(row.try_get::<i32, _>(1)?).unwrap_or_default();
            let (stream, _) = checks[ordinal - 1 - in_the_way.first];
            let raw = raw_read_row(row, stream, self.partition_of(stream.slot()))?;
            all.push(codec::recorded(&raw, self.decode(&raw, &keys)?)?);
        }
        Ok(all)
    }

    /// Rows of the events table, decoded. What is read of an account makes an older one in memory be forgotten:
    /// whoever was deactivated elsewhere gets nothing done here either, as soon as any follower of this
    /// process has come that far, and not only when memory fades.
    pub(crate) async fn recorded(&self, rows: &[PgRow]) -> Result<Vec<Recorded>, LogError> {
        let raws = rows.iter().map(codec::raw_event).collect::<Result<Vec<_>, _>>()?;
        let keys = self.keys_of(raws.iter().map(|raw| raw.payload)).await?;
        for raw in raws.iter().filter(|raw| raw.stream.kind == StreamKind::Account) {
            self.hot.outdate(raw.stream, raw.sequence);
        }
        raws.iter().map(|raw| Ok(codec::recorded(raw, self.decode(raw, &keys)?)?)).collect()
    }

    /// Takes a snapshot in the background, if it is worth it and nobody is at it.
    fn maybe_snapshot(&self, w: &Wanted) {
        let every = self.options.snapshot_every;
        let (Some(last), Some(recorded_at)) = (w.held.last, w.held.recorded_at) else { return };
        if every == 0 || w.unsaved < every {
            return;
        }
        let Ok(permit) = Arc::clone(&self.snapshots).try_acquire_owned() else { return };
        let Ok(json) = kinds::to_json(w.stream.kind, &w.held.state) else { return };
        let (pool, stream, version) = (self.pool.clone(), w.stream, w.held.version);
        // Sealed with the keys that opened it, which are cached; if one is gone, there is no snapshot.
        let mut subjects = std::collections::BTreeSet::new();
        if sealing::personal_subjects(&json, &mut subjects).is_err() {
            return;
        }
        let keys = self.ring.cached(&subjects);
        let Ok(sealed) = sealing::seal(json, stream, &keys, true) else { return };
        tokio::spawn(async move {
            let _permit = permit;
            let stored = sqlx::query(
                "INSERT INTO snapshots AS s (partition, aggregate_id, aggregate_type, form, sequence,
                                             position, recorded_at, payload)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8::json)
                 ON CONFLICT (partition, aggregate_id) DO UPDATE
                 SET form = excluded.form, sequence = excluded.sequence, position = excluded.position,
                     recorded_at = excluded.recorded_at, payload = excluded.payload
                 WHERE s.sequence < excluded.sequence OR s.form <> excluded.form",
            )
            .bind(small(last.partition))
            .bind(stream.id)
            .bind(stream.kind.as_str())
            .bind(SNAPSHOT_FORM)
            .bind(big(version))
            .bind(big(last.number))
            .bind(recorded_at)
            .bind(sealed)
            .execute(&pool)
            .await;
            if let Err(error) = stored {
                tracing::debug!(%stream, %error, "a snapshot was not stored");
            }
        });
    }

    /// An aggregate, at most as old as the last read of it.
    pub(crate) async fn held(
        &self,
        stream: StreamId,
        known: Option<Held>,
    ) -> Result<Held, LogError> {
        let ask = Ask { streams: vec![(stream, known)], ..Ask::default() };
        let (_, held) = self.read(ask).await?.streams.pop().expect("one was asked for");
        self.hot.keep(stream, &held);
        Ok(held)
    }
}

impl EventLog {
    /// An aggregate, from memory if it is there: it may lack what other servers just appended.
    pub async fn load<A: Aggregate>(&self, id: A::Id) -> Result<LoadedAggregate<A>, LogError> {
        let stream = StreamId::of::<A>(id);
        let held = match self.core.hot.get(stream) {
            Some(held) => held,
            None => self.core.held(stream, None).await?,
        };
        Ok(held.into_loaded())
    }

    /// An aggregate, never older than this position of its partition.
    pub async fn load_at_least<A: Aggregate>(
        &self,
        id: A::Id,
        position: Position,
    ) -> Result<LoadedAggregate<A>, LogError> {
        let stream = StreamId::of::<A>(id);
        let known = self.core.hot.get(stream);
        let held = match known {
            Some(held) if held.last.is_some_and(|last| last.number >= position.number) => held,
            known => self.core.held(stream, known).await?,
        };
        Ok(held.into_loaded())
    }

    /// Events of a stream after a version, in order.
    pub async fn stream(
        &self,
        stream: StreamId,
        after: Version,
        limit: u32,
    ) -> Result<Vec<Recorded>, LogError> {
        let sql = format!("SELECT {} FROM log_stream($1, $2, $3, $4)", codec::EVENT_COLUMNS);
        let query = sqlx::query(&sql)
            .bind(small(self.core.partition_of(stream.slot())))
            .bind(stream.id)
            .bind(big(after))
            .bind(i32::try_from(limit).unwrap_or(i32::MAX));
        let rows = self.core.bounded(query.fetch_all(&self.core.readers)).await?;
        self.core.recorded(&rows).await
    }

    /// Events of streams of these kinds after a position of a partition, in order; others are not even decoded.
    pub async fn tail_of(
        &self,
        kinds: &[StreamKind],
        partition: Partition,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Recorded>, LogError> {
        let sql = format!(
            "SELECT {} FROM events WHERE partition = $1 AND position > $2 AND aggregate_type = ANY ($3) \
             ORDER BY position LIMIT $4",
            codec::EVENT_COLUMNS
        );
        let query = sqlx::query(&sql)
            .bind(small(partition))
            .bind(big(after))
            .bind(kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>())
            .bind(i64::from(limit));
        let rows = self.core.bounded(query.fetch_all(&self.core.readers)).await?;
        self.core.recorded(&rows).await
    }

    /// Events of a partition after a position, in order and without gaps.
    pub async fn tail(
        &self,
        partition: Partition,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Recorded>, LogError> {
        let sql = format!("SELECT {} FROM log_tail($1, $2, $3)", codec::EVENT_COLUMNS);
        let query = sqlx::query(&sql)
            .bind(small(partition))
            .bind(big(after))
            .bind(i32::try_from(limit).unwrap_or(i32::MAX));
        let rows = self.core.bounded(query.fetch_all(&self.core.readers)).await?;
        self.core.recorded(&rows).await
    }
}

fn stored_command(row: &PgRow, partition: Partition) -> Result<StoredCommand, LogError> {
    StoredCommand::new(
        partition,
        row.try_get(3)?,
        row.try_get(7)?,
        row.try_get(5)?,
        row.try_get(4)?,
        row.try_get(10)?,
    )
}

/// A stream's snapshot; `None` if its state does not read.
fn snapshot(
    row: &PgRow,
    stream: StreamId,
    partition: Partition,
    keys: &SubjectKeys,
) -> Result<Option<Held>, LogError> {
    if row.try_get::<&str, _>(7)? != stream.kind.as_str() {
        return Err(LogError::BrokenStream(stream));
    }
    let payload: &str = row.try_get_unchecked(11)?;
    let opened = sealing::open(payload, stream, keys, true)?;
    let Ok(state) = kinds::from_json(stream.kind, &opened) else {
        tracing::warn!(%stream, "a snapshot does not read; raise SNAPSHOT_FORM when a state changes");
        return Ok(None);
    };
    Ok(Some(Held {
        version: from_big(row.try_get(6)?),
        state,
        last: Some(Position { partition, number: from_big(row.try_get(5)?) }),
        recorded_at: Some(row.try_get(10)?),
        opened: Monotonic::now(),
    }))
}

/// An event as `log_read` returns it.
fn raw_read_row(
    row: &PgRow,
    stream: StreamId,
    partition: Partition,
) -> Result<RawEvent<'_>, LogError> {
    if row.try_get::<&str, _>(7)? != stream.kind.as_str() {
        return Err(LogError::BrokenStream(stream));
    }
    Ok(RawEvent {
        at: Position { partition, number: from_big(row.try_get(5)?) },
        stream,
        sequence: from_big(row.try_get(6)?),
        event_type: row.try_get(8)?,
        event_version: row.try_get(9)?,
        recorded_at: row.try_get(10)?,
        payload: row.try_get_unchecked(11)?,
        metadata: row.try_get_unchecked::<Option<&str>, _>(12)?.unwrap_or_default(),
    })
}
