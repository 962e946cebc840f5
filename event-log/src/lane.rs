//! Lanes: one per partition, in which requests wait to be appended together.
//!
//! While one batch commits, the next gathers; one call of `log_append` carries them all. A request that
//! touches the same stream, claim, secret, subject or command as an earlier one of the batch rides the next
//! one, so that a batch can be judged as sets. A request that spans partitions travels alone; as heads are
//! locked in ascending order, it cannot deadlock with anybody.
//!
//! For example, 200 bookings arrive while a batch of 30 commits. The lane takes them all but three that want
//! an agenda another one wants, and sends them in one statement. The answer says of each what came of it:
//! 195 are appended at their positions, two met a version conflict; those two get the events that were in
//! their way, fetched with one query for both.
//!
//! On a crash of this process a batch has committed or not, as a whole; the command rows tell. If the
//! connection is lost, the batch is sent again: what had been committed is recognised by its command rows.
//! A batch that dies of another cause is retried one by one, so that one poisoned request fails alone.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::Instant;
use domain::aggregate::{StreamId, Version};
use domain::command::ClaimKey;
use domain::command::SecretKey;
use domain::ids::{Id, RoutingSlot, SubjectId};
use domain::position::{Partition, Position, PositionToken};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::append::CommandRow;
use crate::codec::EncodedEvent;
use crate::connections::Taken;
use crate::load::StoredCommand;
use crate::sealing::SubjectKey;
use crate::{Core, LogError, Metadata, Recorded, big, from_big, small, unavailable};

/// The most events one call carries, unless a single request has more.
const EVENTS_MAX: usize = 4096;

/// How many requests that span partitions may be under way.
const SPANNING: usize = 4;

/// How long to wait before a batch whose connection was lost is sent again.
const AGAIN: [Duration; 3] =
    [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(250)];

/// A request as the SQL function takes it.
#[derive(Clone)]
pub(crate) struct Encoded {
    pub(crate) command: CommandRow,
    /// Everything it touches: written, required, claimed; ascending.
    pub(crate) partitions: Vec<Partition>,
    /// The metadata of all its events, as JSON and as it is.
    pub(crate) metadata: String,
    pub(crate) circumstances: Metadata,
    pub(crate) events: Vec<EncodedEvent>,
    pub(crate) checks: Vec<(StreamId, Version)>,
    /// Those of the checked that need no look.
    pub(crate) drawn: BTreeSet<StreamId>,
    /// With their owner; `true` takes, `false` releases.
    pub(crate) claims: Vec<(ClaimKey, Uuid, bool)>,
    /// `None` drops.
    pub(crate) secrets: Vec<(SecretKey, Option<Vec<u8>>)>,
    /// `None` erases.
    pub(crate) data_keys: Vec<(SubjectId, Option<Vec<u8>>)>,
    /// The new data keys, to be remembered once they are stored.
    pub(crate) made: Vec<(SubjectId, SubjectKey)>,
}

impl Encoded {
    /// The slots of everything it touches.
    pub(crate) fn slots(&self) -> impl Iterator<Item = RoutingSlot> + '_ {
        let command = std::iter::once(RoutingSlot::of(self.command.id));
        command
            .chain(self.checks.iter().map(|(stream, _)| stream.slot()))
            .chain(self.claims.iter().map(|(key, ..)| key.slot()))
            .chain(self.secrets.iter().map(|(key, _)| RoutingSlot::of(key.owner)))
            .chain(self.data_keys.iter().map(|(subject, _)| subject.slot()))
    }

    /// What no other request of the same batch may touch, each as one number. Two different things that
    /// happen to share a number only ride in different batches.
    fn touches(&self) -> impl Iterator<Item = u128> + '_ {
        let claims = self.claims.iter().map(|(key, ..)| {
            let mut first = [0; 16];
            first.copy_from_slice(&key.hash[..16]);
            u128::from_be_bytes(first)
        });
        std::iter::once(self.command.id.as_u128())
            .chain(self.checks.iter().map(|(stream, _)| stream.id.as_u128()))
            .chain(claims)
            .chain(self.secrets.iter().map(|(key, _)| !key.owner.as_u128()))
            .chain(
                self.data_keys.iter().map(|(subject, _)| subject.uuid().as_u128().rotate_left(64)),
            )
    }
}

/// What came of a request.
pub(crate) enum Verdict {
    Appended {
        /// The number before the request's first event, per partition.
        before: BTreeMap<Partition, u64>,
        positions: PositionToken,
        recorded_at: Instant,
    },
    Known(StoredCommand),
    Conflict(InTheWay),
    ClaimTaken,
    SubjectKnown,
    SubjectErased,
}

/// The events in a request's way: rows of `log_read` over the checks of several requests, of which its own
/// begin at `first`.
pub(crate) struct InTheWay {
    pub(crate) rows: Vec<PgRow>,
    pub(crate) first: usize,
}

/// Why nothing can be said of a request. Told without the details Postgres adds, which quote rows.
#[derive(Debug, Clone, Error)]
pub(crate) enum Fault {
    #[error("too busy")]
    Busy,
    #[error("Postgres did not answer in time")]
    TimedOut,
    #[error("{0}")]
    Error(Arc<sqlx::Error>),
    #[error("{0}")]
    Query(Arc<LogError>),
    #[error("the log is closed")]
    Closed,
}

type Reply = Result<Verdict, Fault>;

struct Ticket {
    request: Encoded,
    deadline: tokio::time::Instant,
    reply: oneshot::Sender<Reply>,
}

/// The lanes of a log. Their tasks end when this is dropped.
pub(crate) struct Lanes {
    lanes: Vec<mpsc::Sender<Ticket>>,
    spanning: Arc<Semaphore>,
    spanning_waiting: Arc<AtomicUsize>,
    core: Arc<Core>,
}

impl Lanes {
    pub(crate) fn start(core: &Arc<Core>) -> Self {
        let lane = |partition| {
            let (sender, inbox) = mpsc::channel(core.options.queue_max.max(1));
            tokio::spawn(run(Arc::clone(core), partition, inbox));
            sender
        };
        Self {
            lanes: core.options.partitions.all().map(lane).collect(),
            spanning: Arc::new(Semaphore::new(SPANNING)),
            spanning_waiting: Arc::default(),
            core: Arc::clone(core),
        }
    }

    /// Hands a request in and waits for what comes of it.
    pub(crate) async fn submit(&self, request: Encoded, deadline: tokio::time::Instant) -> Reply {
        let started = std::time::Instant::now();
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket { request, deadline, reply };
        match ticket.request.partitions.as_slice() {
            [one] => {
                let lane = &self.lanes[usize::from(one.0)];
                lane.try_send(ticket).map_err(|refused| match refused {
                    mpsc::error::TrySendError::Full(_) => Fault::Busy,
                    mpsc::error::TrySendError::Closed(_) => Fault::Closed,
                })?;
            }
            _ => self.span(ticket)?,
        }
        let answer = answer.await.unwrap_or(Err(Fault::Closed));
        metrics::histogram!("pontual_append_seconds").record(started.elapsed().as_secs_f64());
        answer
    }

    fn span(&self, ticket: Ticket) -> Result<(), Fault> {
        if self.spanning_waiting.fetch_add(1, Ordering::Relaxed) >= self.core.options.queue_max {
            self.spanning_waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Fault::Busy);
        }
        let (core, permits) = (Arc::clone(&self.core), Arc::clone(&self.spanning));
        let waiting = Arc::clone(&self.spanning_waiting);
        tokio::spawn(async move {
            let permit = permits.acquire_owned().await;
            waiting.fetch_sub(1, Ordering::Relaxed);
            let writer = core.writers.take().await;
            send(&core, writer, vec![ticket]).await;
            drop(permit);
        });
        Ok(())
    }
}

/// A partition's lane.
async fn run(core: Arc<Core>, partition: Partition, mut inbox: mpsc::Receiver<Ticket>) {
    let most = core.options.coalesce_max.max(1);
    let mut waiting: VecDeque<Ticket> = VecDeque::new();
    let mut under_way = JoinSet::new();
    loop {
        if waiting.is_empty() {
            match inbox.recv().await {
                Some(ticket) => waiting.push_back(ticket),
                None => break,
            }
        }
        while under_way.len() >= core.options.in_flight.max(1) {
            if let Some(Err(error)) = under_way.join_next().await {
                tracing::error!(%partition, %error, "a batch of appends panicked");
            }
        }
        // While we wait for a connection, more gather.
        let writer = core.writers.take().await;
        // Twice a batch: some of it may have to wait for the next one.
        while waiting.len() < 2 * most
            && let Ok(ticket) = inbox.try_recv()
        {
            waiting.push_back(ticket);
        }
        let batch = next_batch(&mut waiting, most);
        let core = Arc::clone(&core);
        under_way.spawn(async move { send(&core, writer, batch).await });
    }
    while under_way.join_next().await.is_some() {}
}

/// Takes the next batch: in order, whatever touches nothing that was already taken.
fn next_batch(waiting: &mut VecDeque<Ticket>, most: usize) -> Vec<Ticket> {
    let mut batch: Vec<Ticket> = Vec::with_capacity(waiting.len().min(most));
    let mut touched: HashSet<u128> = HashSet::with_capacity(waiting.len() * 3);
    let mut left = VecDeque::new();
    let mut events = 0;
    while let Some(ticket) = waiting.pop_front() {
        let clash = ticket.request.touches().any(|t| touched.contains(&t));
        // What has to wait is touched too: nobody overtakes on the same stream.
        touched.extend(ticket.request.touches());
        let full = batch.len() == most
            || (events + ticket.request.events.len() > EVENTS_MAX && !batch.is_empty());
        if clash || full {
            left.push_back(ticket);
        } else {
            events += ticket.request.events.len();
            batch.push(ticket);
        }
    }
    *waiting = left;
    batch
}

/// Sends a batch and answers its requests.
async fn send(core: &Arc<Core>, writer: Result<Taken, sqlx::Error>, batch: Vec<Ticket>) {
    let writer = match writer {
        Ok(writer) => writer,
        Err(error) => return answer_all(batch, &lost(error)),
    };
    let now = tokio::time::Instant::now();
    let (batch, late): (Vec<_>, Vec<_>) = batch.into_iter().partition(|t| t.deadline > now);
    answer_all(late, &Fault::Busy);
    if batch.is_empty() {
        return core.writers.give_back(writer);
    }
    metrics::histogram!("pontual_append_batch_requests")
        .record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
    match call_again(core, Some(writer), &batch).await {
        Ok(answer) => settle(core, batch, answer),
        Err(fault) if hopeless(&fault) => {
            tracing::warn!(error = %fault, requests = batch.len(), "a batch of appends failed");
            answer_all(batch, &fault);
        }
        Err(fault) => {
            tracing::warn!(
                error = %fault,
                requests = batch.len(),
                "a batch of appends failed and is retried one by one"
            );
            for ticket in batch {
                if ticket.deadline <= tokio::time::Instant::now() {
                    answer_all(vec![ticket], &Fault::Busy);
                    continue;
                }
                let alone = vec![ticket];
                match call_again(core, None, &alone).await {
                    Ok(answer) => settle(core, alone, answer),
                    Err(fault) => answer_all(alone, &fault),
                }
            }
        }
    }
}

fn lost(error: sqlx::Error) -> Fault {
    Fault::Error(Arc::new(error))
}

/// Whether the fault would meet every request of a batch alone as well.
fn hopeless(fault: &Fault) -> bool {
    match fault {
        Fault::Busy | Fault::TimedOut | Fault::Closed => true,
        Fault::Error(error) => unavailable(error),
        Fault::Query(_) => false,
    }
}

fn answer_all(tickets: Vec<Ticket>, fault: &Fault) {
    for ticket in tickets {
        // Whoever no longer listens needs no answer.
        let _ = ticket.reply.send(Err(fault.clone()));
    }
}

/// Calls, and again if the connection was lost: the command rows say what had been committed. The first
/// call with the given connection looks up only commands that have a key; every other looks up all.
async fn call_again(
    core: &Core,
    mut writer: Option<Taken>,
    batch: &[Ticket],
) -> Result<Called, Fault> {
    let mut fault = Fault::Closed;
    for pause in AGAIN {
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let first = writer.is_some();
        let writer = match writer.take() {
            Some(writer) => writer,
            None => core.writers.take().await.map_err(lost)?,
        };
        fault = match call(core, writer, batch, !first).await {
            Ok(called) => return Ok(called),
            Err(fault) => fault,
        };
        let Fault::Error(error) = &fault else { break };
        if is_code(error, "55P03") {
            // Somebody holds the head: nothing is wrong with the requests.
            return Err(Fault::Busy);
        }
        if !(unavailable(error) || is_deadlock(error)) {
            break;
        }
    }
    Err(fault)
}

fn is_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(|e| e.code()).is_some_and(|c| c == code)
}

fn is_deadlock(error: &sqlx::Error) -> bool {
    is_code(error, "40P01") || is_code(error, "40001")
}

/// What the SQL function answers.
struct Called {
    partitions: Vec<Partition>,
    /// `None` if all were appended.
    verdicts: Option<Vec<i16>>,
    heads: Vec<i64>,
    offsets: Vec<i64>,
    recorded_at: Instant,
    known: BTreeMap<usize, StoredCommand>,
}

/// One call of `log_append`: one statement, one round trip, one transaction.
async fn call(
    core: &Core,
    mut writer: Taken,
    batch: &[Ticket],
    look_up_all: bool,
) -> Result<Called, Fault> {
    let arrays = Arrays::of(core, batch, look_up_all);
    // The server cancels sooner; this is for a server or a network that no longer answers at all. Then the
    // connection is closed, as its answer might still come.
    let at_most = core.options.statement_timeout + Duration::from_secs(1);
    let query = arrays.query(core).fetch_one(&mut writer.connection);
    let row = match tokio::time::timeout(at_most, query).await {
        Ok(Ok(row)) => row,
        Ok(Err(error)) if unavailable(&error) => {
            core.writers.forget_idle();
            return Err(lost(error));
        }
        Ok(Err(error)) => {
            core.writers.give_back(writer);
            return Err(lost(error));
        }
        Err(_) => return Err(Fault::TimedOut),
    };
    core.writers.give_back(writer);
    Called::of(core, &row, arrays, batch).map_err(|error| Fault::Query(Arc::new(error)))
}

impl Called {
    fn of(core: &Core, row: &PgRow, sent: Arrays<'_>, batch: &[Ticket]) -> Result<Self, LogError> {
        let mut known = BTreeMap::new();
        if let Some(requests) = row.try_get::<Option<Vec<i32>>, _>("stored_request")? {
            let fingerprints: Vec<Vec<u8>> = row.try_get("stored_fingerprint")?;
            let results: Vec<String> = row.try_get("stored_result")?;
            let positions: Vec<i64> = row.try_get("stored_position")?;
            let tokens: Vec<Option<String>> = row.try_get("stored_positions")?;
            let times: Vec<Instant> = row.try_get("stored_recorded_at")?;
            for (n, (fingerprint, result)) in fingerprints.into_iter().zip(results).enumerate() {
                let request = from_ordinal(requests[n]);
                let home = core.partition_of(RoutingSlot::of(batch[request].request.command.id));
                let token = tokens[n].as_deref();
                let stored =
                    StoredCommand::new(home, fingerprint, result, positions[n], token, times[n])?;
                known.insert(request, stored);
            }
        }
        Ok(Self {
            verdicts: row.try_get("verdicts")?,
            heads: row.try_get("heads")?,
            offsets: row.try_get::<Option<_>, _>("offsets")?.unwrap_or(sent.requests.offset),
            recorded_at: row.try_get("recorded")?,
            partitions: sent
                .partitions
                .into_iter()
                .map(|p| Partition(crate::from_small(p)))
                .collect(),
            known,
        })
    }
}

/// Tells each request of a batch what came of it.
fn settle(core: &Arc<Core>, batch: Vec<Ticket>, mut called: Called) {
    let mut conflicts = Vec::new();
    let mut grown = vec![0; called.partitions.len()];
    for (i, ticket) in batch.into_iter().enumerate() {
        let verdict = match called.verdicts.as_ref().map_or(0, |verdicts| verdicts[i]) {
            0 => {
                let Encoded { events, circumstances, .. } = ticket.request;
                let heads = called.heads.iter().map(|head| from_big(head + called.offsets[i]));
                let before: BTreeMap<_, _> = called.partitions.iter().copied().zip(heads).collect();
                let mut last = before.clone();
                for event in events {
                    let partition = core.partition_of(event.stream.slot());
                    let number = last.get_mut(&partition).expect("every partition it writes to");
                    *number += 1;
                    if let Some(plain) = event.event {
                        core.recent.keep(Recorded {
                            at: Position { partition, number: *number },
                            stream: event.stream,
                            sequence: event.sequence,
                            recorded_at: called.recorded_at,
                            metadata: circumstances.clone(),
                            event: plain,
                        });
                    }
                }
                let mut positions = PositionToken::default();
                for (slot, (partition, number)) in last.into_iter().enumerate() {
                    if number > before[&partition] {
                        positions.raise(Position { partition, number });
                        grown[slot] = grown[slot].max(number);
                    }
                }
                Verdict::Appended { before, positions, recorded_at: called.recorded_at }
            }
            1 => Verdict::Known(called.known.remove(&i).expect("a known command's row came along")),
            2 => {
                conflicts.push(ticket);
                continue;
            }
            3 => Verdict::ClaimTaken,
            4 => Verdict::SubjectKnown,
            _ => Verdict::SubjectErased,
        };
        // Whoever no longer listens needs no answer.
        let _ = ticket.reply.send(Ok(verdict));
    }
    for (partition, head) in called.partitions.iter().zip(grown) {
        core.wake.grown(*partition, head);
    }
    if !conflicts.is_empty() {
        metrics::counter!("pontual_append_conflicts").increment(conflicts.len() as u64);
        tokio::spawn(answer_conflicts(Arc::clone(core), conflicts));
    }
}

/// Fetches what stood in the way of these requests, with one query for all.
async fn answer_conflicts(core: Arc<Core>, conflicts: Vec<Ticket>) {
    let checks: Vec<(StreamId, Version)> =
        conflicts.iter().flat_map(|t| t.request.checks.iter().copied()).collect();
    match core.rows_after(&checks).await {
        Ok(rows) => {
            let mut rows = rows.into_iter().peekable();
            let mut last = 0;
            for ticket in conflicts {
                last += ticket.request.checks.len();
                let mut own = Vec::new();
                // The rows come in the order of the checks.
                while let Some(row) =
                    rows.next_if(|row| row.try_get(1).is_ok_and(|n: i32| from_ordinal(n) < last))
                {
                    own.push(row);
                }
                let first = last - ticket.request.checks.len();
                let _ = ticket.reply.send(Ok(Verdict::Conflict(InTheWay { rows: own, first })));
            }
        }
        Err(LogError::Database(error)) => {
            answer_all(conflicts, &Fault::Error(Arc::new(error)));
        }
        Err(LogError::TimedOut) => answer_all(conflicts, &Fault::TimedOut),
        Err(error) => answer_all(conflicts, &Fault::Query(Arc::new(error))),
    }
}

/// An index from Postgres, which counts from 1.
fn from_ordinal(ordinal: i32) -> usize {
    usize::try_from(ordinal).ok().and_then(|n| n.checked_sub(1)).expect("ordinals begin at 1")
}

/// An index for Postgres, which counts from 1.
fn ordinal(index: usize) -> i32 {
    i32::try_from(index + 1).expect("a batch is small")
}

/// A batch as the arguments of `log_append`, borrowed from its requests.
#[derive(Default)]
struct Arrays<'a> {
    partitions: Vec<i16>,
    requests: Requests<'a>,
    events: Events<'a>,
    checks: Checks,
    claims: Claims<'a>,
    secrets: Secrets<'a>,
    data_keys: DataKeys<'a>,
}

#[derive(Default)]
struct Requests<'a> {
    look_up: Vec<i32>,
    command: Vec<Uuid>,
    slot: Vec<i32>,
    fingerprint: Vec<&'a [u8]>,
    result: Vec<&'a str>,
    events: Vec<i64>,
    offset: Vec<i64>,
}

#[derive(Default)]
struct Events<'a> {
    request: Vec<i32>,
    slot: Vec<i32>,
    nth: Vec<i64>,
    aggregate_type: Vec<&'a str>,
    aggregate_id: Vec<Uuid>,
    sequence: Vec<i64>,
    event_type: Vec<&'a str>,
    event_version: Vec<&'a str>,
    payload: Vec<&'a str>,
    metadata: Vec<&'a str>,
}

#[derive(Default)]
struct Checks {
    request: Vec<i32>,
    slot: Vec<i32>,
    aggregate_id: Vec<Uuid>,
    version: Vec<i64>,
}

#[derive(Default)]
struct Claims<'a> {
    request: Vec<i32>,
    slot: Vec<i32>,
    kind: Vec<&'a str>,
    hash: Vec<&'a [u8]>,
    owner: Vec<Uuid>,
    take: Vec<bool>,
}

#[derive(Default)]
struct Secrets<'a> {
    request: Vec<i32>,
    slot: Vec<i32>,
    owner: Vec<Uuid>,
    kind: Vec<&'a str>,
    value: Vec<Option<&'a [u8]>>,
}

#[derive(Default)]
struct DataKeys<'a> {
    request: Vec<i32>,
    slot: Vec<i32>,
    subject: Vec<Uuid>,
    wrapped: Vec<Option<&'a [u8]>>,
}

impl<'a> Arrays<'a> {
    fn of(core: &Core, batch: &'a [Ticket], look_up_all: bool) -> Self {
        let mut arrays = Self::default();
        // Either all of them are of one partition, or there is just one.
        let partitions = &batch[0].request.partitions;
        let slot = |slot: RoutingSlot| match partitions.as_slice() {
            [_] => 1,
            several => {
                let partition = core.partition_of(slot);
                ordinal(several.binary_search(&partition).expect("it is one of them"))
            }
        };
        arrays.partitions = partitions.iter().map(|p| small(*p)).collect();
        let mut offset = 0;
        for (i, Ticket { request, .. }) in batch.iter().enumerate() {
            let i = ordinal(i);
            let mut next = vec![0; partitions.len()];
            for event in &request.events {
                let slot = slot(event.stream.slot());
                let nth = &mut next[from_ordinal(slot)];
                *nth += 1;
                let to = &mut arrays.events;
                to.request.push(i);
                to.slot.push(slot);
                to.nth.push(*nth);
                to.aggregate_type.push(event.stream.kind.as_str());
                to.aggregate_id.push(event.stream.id);
                to.sequence.push(big(event.sequence));
                to.event_type.push(event.event_type);
                to.event_version.push(event.event_version);
                to.payload.push(&event.payload);
                to.metadata.push(&request.metadata);
            }
            let to = &mut arrays.requests;
            if look_up_all || request.command.has_key() {
                to.look_up.push(i);
            }
            to.command.push(request.command.id);
            to.slot.push(slot(RoutingSlot::of(request.command.id)));
            to.fingerprint.push(&request.command.fingerprint);
            to.result.push(&request.command.result);
            to.events.push(next[0]);
            to.offset.push(offset);
            offset += next[0];
            let checks = request.checks.iter().filter(|(id, _)| !request.drawn.contains(id));
            for (stream, version) in checks {
                let to = &mut arrays.checks;
                to.request.push(i);
                to.slot.push(slot(stream.slot()));
                to.aggregate_id.push(stream.id);
                to.version.push(big(*version));
            }
            for (key, owner, take) in &request.claims {
                let to = &mut arrays.claims;
                to.request.push(i);
                to.slot.push(slot(key.slot()));
                to.kind.push(key.kind.as_str());
                to.hash.push(&key.hash);
                to.owner.push(*owner);
                to.take.push(*take);
            }
            for (key, value) in &request.secrets {
                let to = &mut arrays.secrets;
                to.request.push(i);
                to.slot.push(slot(RoutingSlot::of(key.owner)));
                to.owner.push(key.owner);
                to.kind.push(key.kind.as_str());
                to.value.push(value.as_deref());
            }
            for (subject, wrapped) in &request.data_keys {
                let to = &mut arrays.data_keys;
                to.request.push(i);
                to.slot.push(slot(subject.slot()));
                to.subject.push(subject.uuid());
                to.wrapped.push(wrapped.as_deref());
            }
        }
        arrays
    }

    fn query(
        &self,
        core: &Core,
    ) -> sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments> {
        let Self { partitions, requests, events, checks, claims, secrets, data_keys } = self;
        sqlx::query(
            "SELECT * FROM log_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33,
                $34, $35, $36, $37, $38)",
        )
        .bind(partitions)
        .bind(core.clock.recorded_at())
        .bind(&requests.look_up)
        .bind(&requests.command)
        .bind(&requests.slot)
        .bind(&requests.fingerprint)
        .bind(&requests.result)
        .bind(&requests.events)
        .bind(&requests.offset)
        .bind(&events.request)
        .bind(&events.slot)
        .bind(&events.nth)
        .bind(&events.aggregate_type)
        .bind(&events.aggregate_id)
        .bind(&events.sequence)
        .bind(&events.event_type)
        .bind(&events.event_version)
        .bind(&events.payload)
        .bind(&events.metadata)
        .bind(&checks.request)
        .bind(&checks.slot)
        .bind(&checks.aggregate_id)
        .bind(&checks.version)
        .bind(&claims.request)
        .bind(&claims.slot)
        .bind(&claims.kind)
        .bind(&claims.hash)
        .bind(&claims.owner)
        .bind(&claims.take)
        .bind(&secrets.request)
        .bind(&secrets.slot)
        .bind(&secrets.owner)
        .bind(&secrets.kind)
        .bind(&secrets.value)
        .bind(&data_keys.request)
        .bind(&data_keys.slot)
        .bind(&data_keys.subject)
        .bind(&data_keys.wrapped)
    }
}
