//! The executor: load, authorize, decide, append, and again if something moved.
//!
//! A command is a pure function over what is loaded (`domain::command`). When it asks for what is not there,
//! the executor loads all it asked for in one round trip and runs it again. `BookAppointment` with a hot
//! provider and a hot agenda runs once and needs one round trip in all: the append.
//!
//! If a stream it read has moved, the append says so and brings the events that were in the way; they are
//! applied and the command runs again, until the deadline. Commands that name the same `queue()` stream go
//! one at a time within the process.
//!
//! **No refusal and no empty outcome is answered from cached state.** Before either is answered, the command's
//! row and the tails of all streams are read in one snapshot: if the row is there, an earlier attempt
//! succeeded and its answer is given again (its own success may be the very reason for the refusal);
//! otherwise the command is decided again on what was read.
//!
//! On a crash before the append nothing has happened; after it, the command's row answers the retry. If the
//! caller goes away, an append that was handed in is completed all the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use domain::actor::Actor;
use domain::aggregate::{StreamId, StreamKind, Version};
use domain::command::{self, Changes, ClaimKey, Command, Facts, Loaded, Stop, Target, View};
use domain::ids::Mint;
use domain::position::PositionToken;
use domain::{Instant, Refusal};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::Instant as Deadline;
use uuid::Uuid;

use crate::append::{self, Append, AppendError, CommandRow, StreamAppend};
use crate::load::{Answer, Ask, Held, StoredCommand};
use crate::turnstile::Turnstile;
use crate::{EventLog, LogError, Metadata, OpenedOrigin, Recorded};

/// How often a command may ask for more before it is taken for a bug.
const ROUNDS: usize = 16;

/// Runs commands against a log. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    log: EventLog,
    turnstile: Turnstile,
}

/// Where a command comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who asks.
    pub actor: Actor,
    /// The client's key for retries.
    pub idempotency: Option<Idempotency>,
    /// The version the target must have (`If-Match`). A retry of what was done by then is answered all the same.
    pub if_match: Option<Version>,
    /// What all commands and events of one cause share; the trace if `None`.
    pub correlation: Option<String>,
    /// The event that caused this command, if a reactor sends it.
    pub causation: Option<String>,
    /// The trace id of the request.
    pub trace: String,
    /// The client's address. Sealed before it is stored.
    pub ip: Option<IpAddr>,
    /// What the client calls itself. Sealed before it is stored.
    pub user_agent: Option<String>,
}

impl Origin {
    /// Of this actor and trace, with nothing else known.
    pub fn of(actor: Actor, trace: impl Into<String>) -> Self {
        Self {
            actor,
            idempotency: None,
            if_match: None,
            correlation: None,
            causation: None,
            trace: trace.into(),
            ip: None,
            user_agent: None,
        }
    }
}

/// A client's key for retries, and what was asked with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The `Idempotency-Key`.
    pub key: String,
    /// SHA-256 of method, path and body. It is keyed again before it is stored.
    pub fingerprint: [u8; 32],
}

/// A command that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed<O> {
    /// The command's answer.
    pub outcome: O,
    /// Where its events are; empty if there was nothing to do.
    pub positions: PositionToken,
    /// The versions of the streams it wrote to.
    pub versions: BTreeMap<StreamId, Version>,
    /// Whether this is the stored answer of an earlier attempt.
    pub replayed: bool,
}

/// Why a command has no outcome.
#[derive(Debug, Error)]
pub enum ExecuteError {
    /// It may not, or cannot, be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The idempotency key was used for something else.
    #[error("the idempotency key was used for another command")]
    KeyReused,
    /// Too many want the same thing at once, or it did not settle in time. Try again later.
    #[error("too busy")]
    Busy,
    /// Postgres does not answer. Try again later, with the same key.
    #[error("the log cannot be reached")]
    Unavailable(#[source] LogError),
    /// A bug, or a broken database.
    #[error("the command failed")]
    Internal(#[source] LogError),
}

impl From<LogError> for ExecuteError {
    fn from(error: LogError) -> Self {
        AppendError::from(error).into()
    }
}

impl From<AppendError> for ExecuteError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::KeyReused => Self::KeyReused,
            AppendError::SubjectErased => Self::Refused(Refusal::NotFound("account")),
            AppendError::Busy | AppendError::Conflict { .. } | AppendError::ClaimTaken => {
                Self::Busy
            }
            AppendError::Unavailable(error) => Self::Unavailable(error),
            AppendError::Failed(error) => Self::Internal(error),
        }
    }
}

/// What is stored with a command and given again to a retry.
#[derive(Serialize, Deserialize)]
struct StoredAnswer<O> {
    outcome: O,
    versions: BTreeMap<String, Version>,
}

impl Executor {
    /// Runs commands against this log.
    pub fn new(log: EventLog) -> Self {
        Self { log, turnstile: Turnstile::default() }
    }

    /// The log.
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// Runs a command. Once its append is under way it is finished even if the caller goes away.
    pub async fn execute<C: Command>(
        &self,
        command: C,
        origin: Origin,
    ) -> Result<Executed<C::Outcome>, ExecuteError> {
        let started = std::time::Instant::now();
        let deadline = Deadline::now() + self.log.options().decide_deadline;
        let turn = match command.queue() {
            None => None,
            Some(stream) => {
                let most = self.log.options().waiters_max;
                match tokio::time::timeout_at(deadline, self.turnstile.turn(stream, most)).await {
                    Ok(Some(turn)) => Some(turn),
                    Ok(None) | Err(_) => return Err(ExecuteError::Busy),
                }
            }
        };
        let mut run = Run::new(&self.log, &command, &origin, deadline);
        let result = run.finish().await;
        drop(turn);
        let outcome = match &result {
            Ok(Executed { replayed: true, .. }) => "replayed",
            Ok(_) => "accepted",
            Err(ExecuteError::Refused(_)) => "refused",
            Err(ExecuteError::KeyReused) => "key-reused",
            Err(ExecuteError::Busy) => "busy",
            Err(ExecuteError::Unavailable(_)) => "unavailable",
            Err(ExecuteError::Internal(_)) => "failed",
        };
        metrics::histogram!("pontual_command_seconds", "command" => C::NAME, "outcome" => outcome)
            .record(started.elapsed().as_secs_f64());
        result
    }
}

/// One command on its way.
struct Run<'a, C> {
    log: &'a EventLog,
    command: &'a C,
    origin: &'a Origin,
    deadline: Deadline,
    id: Uuid,
    fingerprint: [u8; 32],
    mint: Mint,
    world: World,
}

/// What was loaded so far.
#[derive(Default)]
struct World {
    streams: HashMap<StreamId, Loaded>,
    held: HashMap<StreamId, Held>,
    claims: HashMap<ClaimKey, Option<Uuid>>,
    /// Streams this command begins.
    begun: BTreeSet<StreamId>,
    /// Whether a refusal may be answered from it: see the module's documentation.
    settled: bool,
}

impl World {
    fn put(&mut self, stream: StreamId, held: Held) {
        let loaded = Loaded { version: held.version, state: std::sync::Arc::clone(&held.state) };
        self.streams.insert(stream, loaded);
        self.held.insert(stream, held);
    }

    fn take_in(&mut self, answer: Answer) {
        for (stream, held) in answer.streams {
            self.put(stream, held);
        }
        self.claims.extend(answer.claims);
    }

    fn forget(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
        self.held.remove(&stream);
    }

    fn last_recorded(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.recorded_at).max()
    }
}

impl<'a, C: Command> Run<'a, C> {
    fn new(log: &'a EventLog, command: &'a C, origin: &'a Origin, deadline: Deadline) -> Self {
        let keys = &log.core.keys;
        let now = log.clock().now();
        let nothing = World::default();
        // The target is needed for the command's id, and that for its mint: nothing of this mint is kept.
        let target = |mint| {
            let facts = facts(log, origin, mint, now, &nothing);
            command.target(&View::new(&facts))
        };
        let Target { slot, name, stream: _ } = target(Mint::new(crate::keys::random_bytes()));
        let (id, fingerprint) = match &origin.idempotency {
            None => (append::fresh_command_id(slot, now), CommandRow::NO_KEY),
            Some(Idempotency { key, fingerprint }) => {
                let id = keys.command_id([&origin.actor.label(), C::NAME, &name, key]);
                (domain::ids::shape(id, slot), keys.fingerprint(fingerprint))
            }
        };
        let mint = Mint::new(keys.mint_seed(id));
        let world = World::default();
        Self { log, command, origin, deadline, id, fingerprint, mint, world }
    }

    async fn finish(&mut self) -> Result<Executed<C::Outcome>, ExecuteError> {
        // With everything in one read, and the command's row, a refusal would be settled already.
        let reads = command::first_reads(self.command, &self.origin.actor);
        self.world.settled = !self.has_key();
        if let Some(stored) = self.load(reads, BTreeSet::new(), self.has_key()).await? {
            return self.replay(stored);
        }
        let mut rounds = 0;
        loop {
            let (verdict, changes) = self.decide();
            match verdict {
                Err(Stop::Missing) => {
                    rounds += 1;
                    if rounds > ROUNDS {
                        return Err(ExecuteError::Internal(LogError::TooManyRounds(C::NAME)));
                    }
                    let Changes { missing_streams, begun, missing_claims, .. } = changes;
                    // What an earlier attempt began is found at append; until then nothing is settled.
                    self.world.settled &= begun.is_empty() || !self.has_key();
                    for stream in begun {
                        self.world.put(stream, Held::fresh(stream));
                        self.world.begun.insert(stream);
                    }
                    self.load(missing_streams, missing_claims, false).await?;
                }
                Err(Stop::Refused(refusal)) if self.world.settled => return Err(refusal.into()),
                Err(Stop::Refused(_)) => {
                    if let Some(stored) = self.refresh().await? {
                        return self.replay(stored);
                    }
                }
                Ok(outcome) if is_empty(&changes) && !self.has_key() && self.world.settled => {
                    let versions = changes.required;
                    let positions = PositionToken::default();
                    return Ok(Executed { outcome, positions, versions, replayed: false });
                }
                Ok(_) if is_empty(&changes) && !self.world.settled => {
                    if let Some(stored) = self.refresh().await? {
                        return self.replay(stored);
                    }
                }
                Ok(outcome) => match self.append(outcome, changes).await? {
                    Some(executed) => return Ok(executed),
                    None if Deadline::now() >= self.deadline => return Err(ExecuteError::Busy),
                    None => {}
                },
            }
        }
    }

    fn has_key(&self) -> bool {
        self.origin.idempotency.is_some()
    }

    fn decide(&self) -> (Result<C::Outcome, Stop>, Changes) {
        let now = self.log.clock().now();
        let now = self.world.last_recorded().map_or(now, |last| now.max(last));
        let facts = facts(self.log, self.origin, self.mint.clone(), now, &self.world);
        let view = View::new(&facts);
        let verdict = command::run(self.command, &view);
        (verdict, view.into_changes())
    }

    /// Loads streams, from memory where they are, and claims. The first load of a command with a key looks
    /// for the command's row in the same read.
    async fn load(
        &mut self,
        streams: BTreeSet<StreamId>,
        claims: BTreeSet<ClaimKey>,
        with_row: bool,
    ) -> Result<Option<StoredCommand>, LogError> {
        let mut ask = Ask { claims: claims.into_iter().collect(), ..Ask::default() };
        let before = self.world.held.len() + self.world.claims.len();
        let mut from_memory = false;
        for stream in streams {
            match self.log.core.hot.get(stream) {
                Some(held) => {
                    from_memory = true;
                    self.world.put(stream, held);
                }
                None => ask.streams.push((stream, None)),
            }
        }
        if from_memory {
            self.world.settled = false;
        }
        if ask.streams.is_empty() && ask.claims.is_empty() {
            return Ok(None);
        }
        ask.command = with_row.then_some(self.id);
        let answer = self.log.core.read(ask).await?;
        for (stream, held) in &answer.streams {
            self.log.core.hot.keep(*stream, held);
        }
        let stored = answer.command.clone();
        // With a key, all must stem from the one read that looked for the row.
        if self.has_key() {
            self.world.settled = with_row && !from_memory && before == 0 && answer.joint;
        }
        self.world.take_in(answer);
        Ok(stored)
    }

    /// Reads the command's row and what happened to everything loaded, in one snapshot.
    async fn refresh(&mut self) -> Result<Option<StoredCommand>, LogError> {
        let streams = self.world.held.drain().map(|(stream, held)| (stream, Some(held))).collect();
        let ask = Ask {
            command: self.has_key().then_some(self.id),
            claims: self.world.claims.keys().copied().collect(),
            streams,
        };
        let answer = self.log.core.read(ask).await?;
        for (stream, held) in &answer.streams {
            self.log.core.hot.keep(*stream, held);
        }
        let stored = answer.command.clone();
        self.world.settled = answer.joint || !self.has_key();
        self.world.take_in(answer);
        Ok(stored)
    }

    /// The first answer again.
    fn replay(&self, stored: StoredCommand) -> Result<Executed<C::Outcome>, ExecuteError> {
        let appended = append::replay(stored, &self.fingerprint)?;
        self.answer_of(appended.positions, &appended.result)
    }

    fn answer_of(
        &self,
        positions: PositionToken,
        result: &str,
    ) -> Result<Executed<C::Outcome>, ExecuteError> {
        // Stored answers hold nothing personal, but neither does an error here say what was stored.
        let unreadable = || ExecuteError::Internal(LogError::StoredAnswer);
        let StoredAnswer { outcome, versions } =
            serde_json::from_str(result).map_err(|_| unreadable())?;
        let versions = versions
            .into_iter()
            .map(|(stream, version)| Some((parse_stream(&stream)?, version)))
            .collect::<Option<_>>()
            .ok_or_else(unreadable)?;
        Ok(Executed { outcome, positions, versions, replayed: true })
    }

    /// Appends what was decided. `None` if something moved: then it has been taken in.
    async fn append(
        &mut self,
        outcome: C::Outcome,
        changes: Changes,
    ) -> Result<Option<Executed<C::Outcome>>, ExecuteError> {
        let empty = is_empty(&changes);
        let mut versions: BTreeMap<StreamId, Version> = changes
            .appends
            .iter()
            .map(|(stream, (version, events))| (*stream, version + events.len() as u64))
            .collect();
        if empty {
            // What it found to be so already.
            versions.extend(&changes.required);
        }
        let answer = StoredAnswer {
            outcome,
            versions: versions.iter().map(|(s, version)| (s.to_string(), *version)).collect(),
        };
        let result = serde_json::to_string(&answer)
            .map_err(|_| ExecuteError::Internal(LogError::StoredAnswer))?;
        let request = self.request(changes, result);
        match self.log.append_request(&request, self.deadline).await {
            Ok(fresh) if fresh.appended.already => {
                // What is in memory lacks what the first attempt wrote.
                for stream in self.world.held.keys() {
                    self.log.core.hot.forget(*stream);
                }
                self.answer_of(fresh.appended.positions, &fresh.appended.result).map(Some)
            }
            Ok(fresh) => {
                let recorded_at = fresh.appended.recorded_at;
                for (stream, events) in append::place(&self.log.core, &request, &fresh.before) {
                    // What was only just begun is seldom asked for within the minute it would be kept.
                    if self.world.begun.contains(&stream) {
                        continue;
                    }
                    let Some(mut held) = self.world.held.remove(&stream) else { continue };
                    // Else the state is shared with the facts, and copied needlessly.
                    self.world.streams.remove(&stream);
                    let follow = events.iter().map(|(n, at, event)| (*n, *at, recorded_at, *event));
                    // Whoever was just erased must not stay readable in memory.
                    if request.erase.is_empty() && held.extend(stream, follow) {
                        self.log.core.hot.keep(stream, &held);
                    }
                }
                let StoredAnswer { outcome, versions: _ } = answer;
                let positions = fresh.appended.positions;
                Ok(Some(Executed { outcome, positions, versions, replayed: false }))
            }
            Err(AppendError::Conflict { in_the_way }) => {
                self.take_in_the_way(&request, &in_the_way);
                Ok(None)
            }
            Err(AppendError::ClaimTaken) => match self.refresh().await? {
                Some(stored) => self.replay(stored).map(Some),
                None => Ok(None),
            },
            // A person may have been erased since an earlier attempt succeeded.
            Err(AppendError::SubjectErased) => match self.refresh().await? {
                Some(stored) => self.replay(stored).map(Some),
                None => Err(AppendError::SubjectErased.into()),
            },
            Err(error) => Err(error.into()),
        }
    }

    fn request(&self, changes: Changes, result: String) -> Append {
        let empty = is_empty(&changes);
        let Changes {
            appends,
            required,
            take,
            release,
            put,
            drop,
            new_subjects,
            erase,
            origin_of,
            missing_streams: _,
            begun: _,
            missing_claims: _,
        } = changes;
        let Origin {
            actor,
            idempotency: _,
            if_match: _,
            correlation,
            causation,
            trace,
            ip,
            user_agent,
        } = self.origin;
        let roles = match actor {
            Actor::Account { roles, .. } => {
                roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(",")
            }
            Actor::Anonymous | Actor::Guest { .. } | Actor::System(_) => String::new(),
        };
        Append {
            command: CommandRow { id: self.id, fingerprint: self.fingerprint, result },
            metadata: Metadata {
                command: String::new(),
                operation: C::NAME.to_owned(),
                correlation: correlation.clone().unwrap_or_else(|| trace.clone()),
                causation: causation.clone().unwrap_or_default(),
                trace: trace.clone(),
                actor: actor.label(),
                roles,
                origin: String::new(),
            },
            origin: OpenedOrigin { ip: *ip, user_agent: user_agent.clone() },
            origin_of: actor.subject().or(origin_of),
            streams: appends
                .into_iter()
                .map(|(stream, (expected, events))| StreamAppend { stream, expected, events })
                .collect(),
            // With a key, an earlier attempt would have drawn the same ids.
            drawn: if self.has_key() { BTreeSet::new() } else { self.world.begun.clone() },
            // An empty outcome requires nothing: it was true when it was read.
            required: if empty { Vec::new() } else { required.into_iter().collect() },
            take: take.into_iter().collect(),
            release: release.into_iter().collect(),
            put: put.into_iter().collect(),
            drop: drop.into_iter().collect(),
            new_subjects,
            erase,
        }
    }

    /// Applies the events that were in the way. What cannot be explained by them is loaded anew.
    fn take_in_the_way(&mut self, request: &Append, in_the_way: &[Recorded]) {
        self.world.settled = false;
        let mut by_stream: HashMap<StreamId, Vec<&Recorded>> = HashMap::new();
        for recorded in in_the_way {
            by_stream.entry(recorded.stream).or_default().push(recorded);
        }
        let explained = !by_stream.is_empty();
        let touched = request.streams.iter().map(|s| s.stream);
        let touched: Vec<_> = touched.chain(request.required.iter().map(|(s, _)| *s)).collect();
        for (stream, events) in by_stream {
            let Some(mut held) = self.world.held.remove(&stream) else { continue };
            self.world.streams.remove(&stream);
            let follow = events.iter().map(|r| (r.sequence, r.at, r.recorded_at, &r.event));
            if held.extend(stream, follow) {
                self.log.core.hot.keep(stream, &held);
                self.world.put(stream, held);
            } else {
                self.log.core.hot.forget(stream);
            }
        }
        if !explained {
            // Memory is ahead of the log: only a restored backup does that.
            for stream in touched {
                self.log.core.hot.forget(stream);
                self.world.forget(stream);
            }
        }
    }
}

fn facts<'a>(
    log: &'a EventLog,
    origin: &'a Origin,
    mint: Mint,
    now: Instant,
    world: &'a World,
) -> Facts<'a> {
    Facts {
        now,
        actor: &origin.actor,
        if_match: origin.if_match,
        mint,
        claims_by: &log.core.keys,
        streams: &world.streams,
        claims: &world.claims,
    }
}

/// Whether a run changes nothing.
fn is_empty(changes: &Changes) -> bool {
    let Changes {
        appends,
        required: _,
        take,
        release,
        put,
        drop,
        new_subjects,
        erase,
        origin_of: _,
        missing_streams: _,
        begun: _,
        missing_claims: _,
    } = changes;
    appends.is_empty()
        && take.is_empty()
        && release.is_empty()
        && put.is_empty()
        && drop.is_empty()
        && new_subjects.is_empty()
        && erase.is_empty()
}

fn parse_stream(text: &str) -> Option<StreamId> {
    let (kind, id) = text.split_once('/')?;
    Some(StreamId { kind: kind.parse::<StreamKind>().ok()?, id: id.parse().ok()? })
}
