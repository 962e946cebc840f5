//! What goes into the log at once, and what came of it.
//!
//! A request is encoded and sealed by whoever sends it, then waits in the lane of its partition
//! ([`crate::lane`]) for the next batch. From there on it no longer depends on the caller: if the request's
//! future is dropped, it is appended all the same.

use std::collections::{BTreeMap, BTreeSet};

use domain::Instant;
use domain::aggregate::{StreamId, StreamKind, Version};
use domain::command::{ClaimKey, SecretKey};
use domain::event::Event;
use domain::ids::{Id as _, RoutingSlot, SubjectId};
use domain::position::{Partition, Position, PositionToken};
use thiserror::Error;
use tokio::time::Instant as Deadline;
use uuid::Uuid;

use crate::codec::{self, CodecError, EncodedEvent};
use crate::lane::{Encoded, Fault, Verdict};
use crate::load::StoredCommand;
use crate::sealing::{self, SealError, SubjectKey};
use crate::{Core, EventLog, LogError, Metadata, OpenedOrigin, Recorded};

/// One request: everything or nothing, in one round trip.
#[derive(Debug, Clone)]
pub struct Append {
    /// The command's row.
    pub command: CommandRow,
    /// What is written beside each event. `command` and `origin` are filled in.
    pub metadata: Metadata,
    /// Where the command came from; sealed into the metadata.
    pub origin: OpenedOrigin,
    /// Whose data the origin is; if `None`, the first new subject's, the first of the events' subjects', the account's
    /// that the events are of, or nobody's.
    pub origin_of: Option<SubjectId>,
    /// Events per stream, with the version the stream must have. A stream stands here once.
    pub streams: Vec<StreamAppend>,
    /// Those of them whose ids were drawn at random for this very request: nobody else can have begun them, and they are
    /// not looked up.
    pub drawn: BTreeSet<StreamId>,
    /// Streams that were only read, with the version they must still have.
    pub required: Vec<(StreamId, Version)>,
    /// Claims to take, with their owner. One the owner already holds stays his.
    pub take: Vec<(ClaimKey, Uuid)>,
    /// Claims to release; nothing happens unless the owner holds them.
    pub release: Vec<(ClaimKey, Uuid)>,
    /// Secrets to put.
    pub put: Vec<(SecretKey, Vec<u8>)>,
    /// Secrets to drop.
    pub drop: Vec<SecretKey>,
    /// Subjects whose data key is made in this append, unless they have one.
    pub new_subjects: BTreeSet<SubjectId>,
    /// Subjects whose data key is destroyed in this append; a tombstone stays.
    pub erase: BTreeSet<SubjectId>,
}

impl Append {
    /// A request of this command that changes nothing yet.
    pub fn new(command: CommandRow) -> Self {
        Self {
            command,
            metadata: Metadata::default(),
            origin: OpenedOrigin::default(),
            origin_of: None,
            streams: Vec::new(),
            drawn: BTreeSet::new(),
            required: Vec::new(),
            take: Vec::new(),
            release: Vec::new(),
            put: Vec::new(),
            drop: Vec::new(),
            new_subjects: BTreeSet::new(),
            erase: BTreeSet::new(),
        }
    }

    /// Adds events to a stream that must have this version.
    #[must_use]
    pub fn events(mut self, stream: StreamId, expected: Version, events: Vec<Event>) -> Self {
        self.streams.push(StreamAppend { stream, expected, events });
        self
    }

    /// Requires a stream to still have this version.
    #[must_use]
    pub fn requires(mut self, stream: StreamId, version: Version) -> Self {
        self.required.push((stream, version));
        self
    }
}

/// Events for one stream.
#[derive(Debug, Clone)]
pub struct StreamAppend {
    /// Which.
    pub stream: StreamId,
    /// The version it must have.
    pub expected: Version,
    /// What happened, in order. Never empty.
    pub events: Vec<Event>,
}

/// The command's own row: kept 30 days, so that a retry finds its first answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRow {
    /// Shaped as an id in the slot of the command's target.
    pub id: Uuid,
    /// A keyed hash of what was asked; the same id with another one is another command.
    pub fingerprint: [u8; 32],
    /// What a retry is answered: ids and versions, as JSON. No token, nothing personal.
    pub result: String,
}

impl CommandRow {
    /// The fingerprint of a command without key.
    pub const NO_KEY: [u8; 32] = [0; 32];

    /// The row of a command that has no key: nobody will ask for it again but we ourselves, if the
    /// connection is lost. So it is not looked up before it is written.
    pub fn without_key(slot: RoutingSlot, now: Instant, result: impl Into<String>) -> Self {
        Self { id: fresh_command_id(slot, now), fingerprint: Self::NO_KEY, result: result.into() }
    }

    /// Whether somebody may ask for it again.
    pub(crate) fn has_key(&self) -> bool {
        self.fingerprint != Self::NO_KEY
    }
}

/// A random id in this slot, beginning with the time, so that rows of one time lie side by side.
pub(crate) fn fresh_command_id(slot: RoutingSlot, now: Instant) -> Uuid {
    let mut bytes = crate::keys::random_bytes::<16>();
    bytes[..6].copy_from_slice(&now.timestamp_millis().to_be_bytes()[2..]);
    domain::ids::shape(bytes, slot)
}

/// An appended request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The position of the request's last event in each partition it wrote to.
    pub positions: PositionToken,
    /// When it was recorded.
    pub recorded_at: Instant,
    /// The result stored with the command; the first one, if this is a retry.
    pub result: String,
    /// Whether it had been appended before and nothing was written now.
    pub already: bool,
}

/// Why nothing was appended.
#[derive(Debug, Error)]
pub enum AppendError {
    /// A stream has another version than expected.
    #[error("a stream moved on")]
    Conflict {
        /// The events in the way, so that a retry needs no reload: per stream in order, beginning after the
        /// expected version. Empty if a stream has fewer events than expected.
        in_the_way: Vec<Recorded>,
    },
    /// Somebody else holds a claim.
    #[error("a claim is taken")]
    ClaimTaken,
    /// The command id belongs to another command.
    #[error("the idempotency key was used for another command")]
    KeyReused,
    /// It writes about somebody who was erased and never gets a key again.
    #[error("a subject was erased")]
    SubjectErased,
    /// Too much waits for the partition already, or it did not get its turn in time.
    #[error("the log is busy")]
    Busy,
    /// Postgres does not answer. Whether it was appended is unknown; the same command id finds out.
    #[error("the log cannot be reached")]
    Unavailable(#[source] LogError),
    /// Anything else: a bug, or a broken database.
    #[error("the append failed")]
    Failed(#[source] LogError),
}

impl From<LogError> for AppendError {
    fn from(error: LogError) -> Self {
        if let LogError::Codec(CodecError::Seal(SealError::Erased(_))) = error {
            Self::SubjectErased
        } else if error.is_unavailable() {
            Self::Unavailable(error)
        } else {
            Self::Failed(error)
        }
    }
}

/// An append that went through just now, with what the hot cache needs.
pub(crate) struct Fresh {
    pub(crate) appended: Appended,
    /// The number before the request's first event, per partition it touched.
    pub(crate) before: BTreeMap<Partition, u64>,
}

impl EventLog {
    /// Appends a request, all or nothing. Once it waits for its turn, dropping the future does not stop it.
    pub async fn append(&self, request: Append) -> Result<Appended, AppendError> {
        let deadline = Deadline::now() + self.core.options.decide_deadline;
        Ok(self.append_request(&request, deadline).await?.appended)
    }

    pub(crate) async fn append_request(
        &self,
        request: &Append,
        deadline: Deadline,
    ) -> Result<Fresh, AppendError> {
        let mut look_first = false;
        loop {
            let encoded = self.core.encode(request, look_first).await?;
            let (made, checks) = (encoded.made.clone(), encoded.checks.clone());
            match self.lanes.submit(encoded, deadline).await.map_err(AppendError::from)? {
                Verdict::Appended { before, positions, recorded_at } => {
                    for (subject, key) in made {
                        self.core.ring.remember(subject, key);
                    }
                    if !request.erase.is_empty() {
                        request.erase.iter().for_each(|subject| self.core.ring.forget(*subject));
                        self.core.hot.forget_all();
                        self.core.recent.forget_all();
                    }
                    let result = request.command.result.clone();
                    let appended = Appended { positions, recorded_at, result, already: false };
                    return Ok(Fresh { appended, before });
                }
                Verdict::Known(stored) => {
                    let appended = replay(stored, &request.command.fingerprint)?;
                    return Ok(Fresh { appended, before: BTreeMap::new() });
                }
                Verdict::Conflict(rows) => {
                    let in_the_way = self.core.recorded_after(&checks, &rows).await?;
                    return Err(AppendError::Conflict { in_the_way });
                }
                Verdict::ClaimTaken => return Err(AppendError::ClaimTaken),
                Verdict::SubjectErased => return Err(AppendError::SubjectErased),
                // Somebody made the subject's key before us: seal with that one.
                Verdict::SubjectKnown if !look_first => look_first = true,
                Verdict::SubjectKnown => {
                    return Err(AppendError::Failed(LogError::Malformed(
                        "a subject's key changes",
                    )));
                }
            }
        }
    }

    /// Opens the origin of an event, for an auditor. `None` if it has none or its subject was erased.
    pub async fn open_origin(&self, event: &Recorded) -> Result<Option<OpenedOrigin>, LogError> {
        let Some((whose, sealed)) = event.metadata.origin.split_once('.') else { return Ok(None) };
        let aad = origin_aad(&event.metadata.command);
        let plain = if whose == NOBODY {
            sealing::open_bytes(&self.core.ring.nobody, sealed, &aad)
        } else {
            let subject: SubjectId = whose.parse().map_err(|_| SealError::Malformed)?;
            let subjects = BTreeSet::from([subject]);
            let keys = self.core.keys_of_subjects(&subjects).await?;
            match keys.get(&subject) {
                None => return Err(SealError::KeyMissing(subject).into()),
                Some(SubjectKey::Erased) => return Ok(None),
                Some(SubjectKey::Live(key)) => sealing::open_bytes(key, sealed, &aad),
            }
        };
        let plain = plain.ok_or(SealError::Malformed)?;
        Ok(Some(serde_json::from_slice(&plain).map_err(CodecError::from)?))
    }
}

/// The first answer again, if it was to the same question.
pub(crate) fn replay(
    stored: StoredCommand,
    fingerprint: &[u8; 32],
) -> Result<Appended, AppendError> {
    if !bool::from(subtle::ConstantTimeEq::ct_eq(stored.fingerprint.as_slice(), fingerprint)) {
        return Err(AppendError::KeyReused);
    }
    let StoredCommand { fingerprint: _, result, positions, recorded_at } = stored;
    Ok(Appended { positions, recorded_at, result, already: true })
}

impl From<Fault> for AppendError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Busy => Self::Busy,
            Fault::Error(error) if crate::unavailable(&error) => {
                Self::Unavailable(LogError::Batch(error))
            }
            Fault::Error(error) => Self::Failed(LogError::Batch(error)),
            Fault::TimedOut => Self::Unavailable(LogError::TimedOut),
            Fault::Query(error) => Self::from(LogError::Shared(error)),
            Fault::Closed => Self::Unavailable(LogError::Database(sqlx::Error::PoolClosed)),
        }
    }
}

const NOBODY: &str = "nobody";

fn origin_aad(command: &str) -> Vec<u8> {
    [b"origin/1", command.as_bytes()].concat()
}

impl Core {
    /// Turns a request into what the SQL function takes: JSON, sealed, with everything it touches.
    async fn encode(&self, request: &Append, look_first: bool) -> Result<Encoded, LogError> {
        check(request)?;
        let mut payloads = Vec::with_capacity(request.streams.len() + 1);
        let mut subjects = BTreeSet::new();
        for stream in &request.streams {
            for event in &stream.events {
                let payload = codec::to_json(event)?;
                if sealing::has_marker(&payload) {
                    sealing::personal_subjects(&payload, &mut subjects)?;
                }
                payloads.push(payload);
            }
        }
        // Who signs in or confirms an address is nobody yet, but it is the account's person as far as anybody can tell.
        let of_account = || {
            let accounts = request.streams.iter().map(|append| append.stream);
            let mut accounts = accounts.filter(|stream| stream.kind == StreamKind::Account);
            accounts.next().map(|stream| SubjectId::trusted(stream.id))
        };
        let whose = request
            .origin_of
            .or_else(|| request.new_subjects.first().copied())
            .or_else(|| subjects.first().copied())
            .or_else(of_account);
        let has_origin = request.origin != OpenedOrigin::default();
        if has_origin {
            subjects.extend(whose);
        }
        let mut new = request.new_subjects.clone();
        let look: BTreeSet<_> = if look_first {
            self.ring.forget_all(&new);
            subjects.union(&new).copied().collect()
        } else {
            subjects.difference(&new).copied().collect()
        };
        let mut keys = if look.is_empty() {
            sealing::SubjectKeys::new()
        } else {
            self.keys_of_subjects(&look).await?
        };
        new.retain(|subject| !keys.contains_key(subject));
        let mut data_keys = Vec::with_capacity(new.len() + request.erase.len());
        let mut made = Vec::with_capacity(new.len());
        for subject in new {
            let fresh = self.ring.make(subject);
            keys.insert(subject, fresh.key.clone());
            made.push((subject, fresh.key));
            data_keys.push((subject, Some(fresh.wrapped)));
        }
        data_keys.extend(request.erase.iter().map(|subject| (*subject, None)));

        let mut metadata = request.metadata.clone();
        metadata.command = request.command.id.to_string();
        if has_origin {
            let plain = serde_json::to_vec(&request.origin).map_err(CodecError::from)?;
            let aad = origin_aad(&metadata.command);
            // Whoever has no key, as Pontual itself has none, is nobody.
            metadata.origin = match whose.and_then(|subject| Some((subject, keys.get(&subject)?))) {
                Some((subject, SubjectKey::Live(key))) => {
                    format!("{subject}.{}", sealing::seal_bytes(key, &plain, &aad))
                }
                Some((_, SubjectKey::Erased)) | None => {
                    let sealed = sealing::seal_bytes(&self.ring.nobody, &plain, &aad);
                    format!("{NOBODY}.{sealed}")
                }
            };
        }
        let metadata_json = serde_json::to_string(&metadata).map_err(CodecError::from)?;
        let followed = self.recent.is_followed();

        let mut payloads = payloads.into_iter();
        let mut events = Vec::with_capacity(payloads.len());
        let mut checks = Vec::with_capacity(request.streams.len() + request.required.len());
        for StreamAppend { stream, expected, events: of_stream } in &request.streams {
            checks.push((*stream, *expected));
            for (sequence, event) in (*expected + 1..).zip(of_stream) {
                let payload = payloads.next().expect("every event was written above");
                let (event_type, event_version) = event.kind();
                events.push(EncodedEvent {
                    stream: *stream,
                    sequence,
                    event_type,
                    event_version,
                    payload: sealing::seal(payload, *stream, &keys, false)?,
                    event: followed.then(|| event.clone()),
                });
            }
        }
        checks.extend(request.required.iter().copied());
        let claims = request.take.iter().map(|(key, owner)| (*key, *owner, true));
        let released = request.release.iter().map(|(key, owner)| (*key, *owner, false));
        let put = request.put.iter().map(|(key, value)| (*key, Some(value.clone())));
        let dropped = request.drop.iter().map(|key| (*key, None));
        let mut encoded = Encoded {
            command: request.command.clone(),
            partitions: Vec::new(),
            drawn: request.drawn.clone(),
            metadata: metadata_json,
            circumstances: metadata,
            events,
            checks,
            claims: claims.chain(released).collect(),
            secrets: put.chain(dropped).collect(),
            data_keys,
            made,
        };
        encoded.partitions = encoded.slots().map(|slot| self.partition_of(slot)).collect();
        encoded.partitions.sort_unstable();
        encoded.partitions.dedup();
        Ok(encoded)
    }
}

/// What no caller should ask for.
fn check(request: &Append) -> Result<(), LogError> {
    let mut seen = BTreeSet::new();
    for StreamAppend { stream, events, .. } in &request.streams {
        if events.is_empty() {
            return Err(LogError::Malformed("a stream without events"));
        }
        if events.iter().any(|event| event.stream_kind() != stream.kind) {
            return Err(LogError::Malformed("an event of another kind than its stream"));
        }
        if !seen.insert(stream.id) {
            return Err(LogError::Malformed("a stream twice"));
        }
    }
    if !request.required.iter().all(|(stream, _)| seen.insert(stream.id)) {
        return Err(LogError::Malformed("a required stream twice, or written too"));
    }
    let mut claims = BTreeSet::new();
    let all = request.take.iter().chain(&request.release);
    if !all.clone().all(|(key, _)| claims.insert(*key)) {
        return Err(LogError::Malformed("a claim twice"));
    }
    let mut secrets = BTreeSet::new();
    let all = request.put.iter().map(|(key, _)| key).chain(&request.drop);
    if !all.clone().all(|key| secrets.insert((key.owner, key.kind.as_str()))) {
        return Err(LogError::Malformed("a secret twice"));
    }
    if !request.erase.is_disjoint(&request.new_subjects) {
        return Err(LogError::Malformed("a subject made and erased"));
    }
    Ok(())
}

/// A stream's events with their numbers and places.
pub(crate) type Placed<'a> = (StreamId, Vec<(Version, Position, &'a Event)>);

/// Where each of a request's events stands.
pub(crate) fn place<'a>(
    core: &Core,
    request: &'a Append,
    before: &BTreeMap<Partition, u64>,
) -> Vec<Placed<'a>> {
    let mut next = before.clone();
    let mut placed = Vec::with_capacity(request.streams.len());
    for StreamAppend { stream, expected, events } in &request.streams {
        let partition = core.partition_of(stream.slot());
        let number = next.entry(partition).or_default();
        let mut of_stream = Vec::with_capacity(events.len());
        for (sequence, event) in (*expected + 1..).zip(events) {
            *number += 1;
            of_stream.push((sequence, Position { partition, number: *number }, event));
        }
        placed.push((*stream, of_stream));
    }
    placed
}
