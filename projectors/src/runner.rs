//! The runner: gives projectors the log, batch by batch, and keeps them going.
//!
//! A shared projector (its read model lives in Postgres, Redis or MongoDB) takes each partition by an
//! expiring lease with a fencing epoch, so that many processes can run it and one works. A local one (its
//! read model lives in this process) has no lease and starts at the head. Either way: tail, apply, move
//! the checkpoint, wait.
//!
//! A batch that fails because something is away is tried again, later each time. A batch that fails for
//! another reason is taken apart; the event that cannot be applied parks its document, with all later
//! events of that document, and the others flow. [`retry`] applies what is parked again, in order.
//!
//! A crash between data and checkpoint means that a batch is applied again; every projector's writes are
//! guarded so that twice equals once.

use std::collections::HashSet;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use domain::position::{Partition, Position};
use event_log::checkpoints::CheckpointError;
use event_log::leases::{self, Lease};
use event_log::{LogError, Recorded, parked};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::tail::SharedTail;

/// The most events of one batch.
pub const BATCH: u32 = 500;
/// A lease lasts this long without renewal; a killed process' partitions move on after it.
pub const LEASE: Duration = Duration::from_secs(6);
/// How long an idle projector sleeps when no hint wakes it.
const POLL: Duration = Duration::from_millis(250);
/// How often a poisonous event is tried before its document is parked.
const TRIES: u32 = 3;
/// The longest pause between two tries of a batch that fails because something is away.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// How often an idle projector is told so.
const IDLE: Duration = Duration::from_secs(1);
/// How often parked documents are looked at for a retry.
const PARKED_POLL: Duration = Duration::from_secs(1);

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Something is away; the same batch may work later.
    #[error("a store is away")]
    Away(#[source] Box<dyn Error + Send + Sync>),
    /// Another process took the lease, or the checkpoint moved: stop working on this partition.
    #[error("the partition is somebody else's now")]
    Lost,
    /// The batch holds an event that cannot be applied.
    #[error("an event cannot be applied")]
    Poison(#[source] Box<dyn Error + Send + Sync>),
}

impl From<LogError> for ApplyError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Database(error) => error.into(),
            error => Self::Poison(error.into()),
        }
    }
}

impl From<CheckpointError> for ApplyError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Moved => Self::Lost,
            CheckpointError::Database(error) => error.into(),
        }
    }
}

impl From<sqlx::Error> for ApplyError {
    fn from(error: sqlx::Error) -> Self {
        if crate::is_away(&error) { Self::Away(error.into()) } else { Self::Poison(error.into()) }
    }
}

/// Consecutive events of one partition, less those the projector does not care for or that are parked.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Which partition.
    pub partition: Partition,
    /// What to apply, in order.
    pub events: Vec<&'a Recorded>,
    /// The checkpoint to move; `None` when parked events are applied again.
    pub checkpoint: Option<Move>,
    /// The lease, for projectors that share a store.
    pub lease: Option<&'a Lease>,
}

/// A checkpoint's move.
#[derive(Debug, Clone, Copy)]
pub struct Move {
    /// Where it stood.
    pub from: u64,
    /// Where it stands once the batch is applied.
    pub to: u64,
}

/// A read model or a reactor, fed from the log.
#[async_trait]
pub trait Projector: Send + Sync + 'static {
    /// Its name: in checkpoints, leases, metrics and on the command line.
    fn name(&self) -> &'static str;

    /// The document an event changes, such as `appointment/<id>`; `None` if it changes none.
    fn document(&self, event: &Recorded) -> Option<String>;

    /// Up to where a partition has been applied.
    async fn position(&self, partition: Partition) -> Result<u64, ApplyError>;

    /// Applies a batch and moves its checkpoint. Twice equals once.
    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError>;

    /// Called when it starts on a partition, and about once a second while there is nothing to apply.
    async fn idle(&self, _partition: Partition, _at: u64) -> Result<(), ApplyError> {
        Ok(())
    }
}

/// Whether a projector's store is shared between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One process works on a partition at a time, by lease.
    Leased,
    /// Every process feeds its own copy.
    Local,
}

/// Runs projectors until told to stop.
pub struct Runner {
    tail: Arc<SharedTail>,
    owner: String,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Runner {
    /// A runner of this process.
    pub fn new(tail: Arc<SharedTail>, stop: CancellationToken) -> Self {
        Self { tail, owner: Uuid::now_v7().to_string(), stop, tasks: JoinSet::new() }
    }

    /// Starts a projector on every partition.
    pub fn start(&mut self, projector: Arc<dyn Projector>, sharing: Sharing) {
        for partition in self.tail.log().partitions().all() {
            let follower = Follower {
                tail: self.tail.clone(),
                projector: projector.clone(),
                partition,
                owner: self.owner.clone(),
                stop: self.stop.clone(),
                parked: HashSet::new(),
                parked_seen: None,
            };
            self.tasks.spawn(follower.run(sharing));
        }
    }

    /// Waits until every projector has stopped and given back its leases.
    pub async fn join(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// One projector on one partition.
struct Follower {
    tail: Arc<SharedTail>,
    projector: Arc<dyn Projector>,
    partition: Partition,
    owner: String,
    stop: CancellationToken,
    parked: HashSet<String>,
    parked_seen: Option<Instant>,
}

impl Follower {
    async fn run(mut self, sharing: Sharing) {
        let mut pause = Pause::default();
        while !self.stop.is_cancelled() {
            let ended = match sharing {
                Sharing::Local => self.follow(None).await,
                Sharing::Leased => self.lead().await,
            };
            match ended {
                Ok(()) | Err(ApplyError::Lost) => {}
                Err(error) => {
                    let causes = crate::causes(&error);
                    tracing::warn!(projector = self.projector.name(), partition = %self.partition, error = %causes,
                        "projector {} stopped on partition {}; trying again", self.projector.name(), self.partition);
                }
            }
            pause.wait(&self.stop).await;
        }
    }

    /// Takes the lease if it is free, follows while it holds, gives it back.
    async fn lead(&mut self) -> Result<(), ApplyError> {
        let pool = self.tail.log().pool();
        let name = self.projector.name();
        let Some(lease) = leases::acquire(pool, name, self.partition, &self.owner, LEASE).await?
        else {
            self.sleep(LEASE / 5).await;
            return Ok(());
        };
        tracing::debug!(projector = name, partition = %self.partition, epoch = lease.epoch, "lease taken");
        let ended = self.follow(Some(&lease)).await;
        if let Err(error) = leases::release(self.tail.log().pool(), &lease).await {
            tracing::debug!(%error, "a lease was not given back; it expires");
        }
        ended
    }

    async fn follow(&mut self, lease: Option<&Lease>) -> Result<(), ApplyError> {
        let mut at = self.projector.position(self.partition).await?;
        let mut renewed = Instant::now();
        let mut pause = Pause::default();
        let mut idle: Option<Instant> = None;
        self.parked_seen = None;
        while !self.stop.is_cancelled() {
            if let Some(lease) = lease
                && renewed.elapsed() > LEASE / 3
            {
                if !leases::renew(self.tail.log().pool(), lease).await? {
                    return Err(ApplyError::Lost);
                }
                renewed = Instant::now();
            }
            self.look_at_parked().await?;
            if idle.is_none_or(|last| last.elapsed() > IDLE) {
                self.projector.idle(self.partition, at).await?;
                idle = Some(Instant::now());
            }
            let events = self.tail.read(self.partition, at, BATCH).await?;
            let Some(last) = events.last() else {
                self.report_lag(0, None);
                let stop = self.stop.clone();
                tokio::select! {
                    () = stop.cancelled() => {}
                    waited = self.tail.wait(self.partition, at, POLL) => waited?,
                }
                continue;
            };
            let to = last.at.number;
            match self.apply(&events, at, to, lease).await {
                Ok(()) => {
                    at = to;
                    idle = Some(Instant::now());
                    pause = Pause::default();
                    self.report_lag(0, Some(last));
                }
                Err(ApplyError::Away(error)) => {
                    let causes = crate::causes(&*error);
                    tracing::warn!(projector = self.projector.name(), partition = %self.partition, error = %causes,
                        "projector {} waits on partition {}: a store is away", self.projector.name(), self.partition);
                    self.report_lag(to - at, None);
                    pause.wait(&self.stop).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Applies a batch; one that holds poison is taken apart, and the poison parked.
    async fn apply(
        &mut self,
        events: &[Arc<Recorded>],
        from: u64,
        to: u64,
        lease: Option<&Lease>,
    ) -> Result<(), ApplyError> {
        let started = Instant::now();
        let applied = self.try_apply(events, Move { from, to }, lease).await;
        metrics::histogram!("pontual_projector_batch_seconds", "projector" => self.projector.name())
            .record(started.elapsed().as_secs_f64());
        let Err(ApplyError::Poison(_)) = applied else { return applied };
        let mut from = from;
        for event in events {
            let step = Move { from, to: event.at.number };
            let mut tries = 0;
            loop {
                match self.try_apply(std::slice::from_ref(event), step, lease).await {
                    Err(ApplyError::Poison(error)) if tries + 1 >= TRIES => {
                        self.park(event, &*error).await?;
                    }
                    Err(ApplyError::Poison(_)) => tries += 1,
                    other => {
                        other?;
                        break;
                    }
                }
            }
            from = event.at.number;
        }
        Ok(())
    }

    /// Applies a batch as it is, but for documents that are parked, whose events are parked behind them.
    async fn try_apply(
        &mut self,
        events: &[Arc<Recorded>],
        checkpoint: Move,
        lease: Option<&Lease>,
    ) -> Result<(), ApplyError> {
        let mut batch = Batch {
            partition: self.partition,
            events: Vec::with_capacity(events.len()),
            checkpoint: Some(checkpoint),
            lease,
        };
        for event in events {
            match self.projector.document(event) {
                None => {}
                Some(document) => {
                    let parked = self.parked.contains(&document)
                        && self.park_behind(&document, event.at).await?;
                    if !parked {
                        batch.events.push(event);
                    }
                }
            }
        }
        self.projector.apply(&batch).await
    }

    async fn park(
        &mut self,
        event: &Recorded,
        error: &(dyn Error + Send + Sync + 'static),
    ) -> Result<(), ApplyError> {
        let name = self.projector.name();
        let document = self.projector.document(event).unwrap_or_else(|| event.stream.to_string());
        let causes = crate::causes(error);
        tracing::error!(projector = name, position = %event.at, %document, error = %causes,
            "event {} cannot be applied by {name}; its document is parked", event.at);
        metrics::counter!("pontual_projector_parked_total", "projector" => name).increment(1);
        let mut connection = self.tail.log().pool().acquire().await?;
        parked::park(&mut connection, name, &document, event.at, &causes).await?;
        self.parked.insert(document);
        Ok(())
    }

    /// Parks an event behind an earlier one of its document; `false` if the document was freed meanwhile.
    async fn park_behind(&self, document: &str, at: Position) -> Result<bool, ApplyError> {
        let pool = self.tail.log().pool();
        Ok(parked::park_behind(pool, self.projector.name(), document, at).await?)
    }

    /// Once a second: which documents are parked.
    async fn look_at_parked(&mut self) -> Result<(), ApplyError> {
        if self.parked_seen.is_some_and(|seen| seen.elapsed() < PARKED_POLL) {
            return Ok(());
        }
        let mut connection = self.tail.log().pool().acquire().await?;
        let documents =
            parked::documents(&mut connection, self.projector.name(), self.partition).await?;
        self.parked = documents.into_iter().collect();
        self.parked_seen = Some(Instant::now());
        Ok(())
    }

    fn report_lag(&self, behind: u64, last: Option<&Arc<Recorded>>) {
        let labels = [
            ("projector", self.projector.name().to_owned()),
            ("partition", self.partition.to_string()),
        ];
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        metrics::gauge!("pontual_projector_behind_events", &labels).set(behind as f64);
        let seconds = last.map_or(0.0, |event| {
            let lag = self.tail.log().clock().now() - event.recorded_at;
            lag.to_std().unwrap_or_default().as_secs_f64()
        });
        metrics::gauge!("pontual_projector_lag_seconds", &labels).set(seconds);
    }

    async fn sleep(&self, time: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(time) => {}
        }
    }
}

/// What a retry of parked events did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retried {
    /// Events that were applied.
    pub applied: u64,
    /// Documents that are still parked.
    pub still_parked: u64,
}

/// Applies parked events again, document by document, in order; what fails again stays parked.
///
/// A document's rows are locked meanwhile, so the running projector waits with the document's next event
/// and then finds it free, or parks the event behind.
pub async fn retry(tail: &SharedTail, projector: &dyn Projector) -> Result<Retried, ApplyError> {
    let (log, name) = (tail.log(), projector.name());
    let mut retried = Retried::default();
    for partition in log.partitions().all() {
        let mut connection = log.pool().acquire().await?;
        let documents = parked::documents(&mut connection, name, partition).await?;
        drop(connection);
        for document in documents {
            let mut transaction = log.pool().begin().await?;
            let rows = parked::take_for_retry(&mut transaction, name, partition, &document).await?;
            for row in rows {
                let events = log.tail(partition, row.at.number - 1, 1).await?;
                let batch = Batch {
                    partition,
                    events: events.iter().collect(),
                    checkpoint: None,
                    lease: None,
                };
                match projector.apply(&batch).await {
                    Ok(()) => {
                        parked::remove(&mut transaction, name, &document, row.at).await?;
                        retried.applied += 1;
                    }
                    Err(ApplyError::Poison(error)) => {
                        let causes = crate::causes(&*error);
                        parked::park(&mut transaction, name, &document, row.at, &causes).await?;
                        retried.still_parked += 1;
                        break;
                    }
                    Err(other) => return Err(other),
                }
            }
            transaction.commit().await?;
        }
    }
    Ok(retried)
}

/// Pauses between tries: 50 ms, doubling, with jitter, at most [`MAX_PAUSE`].
#[derive(Default)]
struct Pause {
    tries: u32,
}

impl Pause {
    async fn wait(&mut self, stop: &CancellationToken) {
        let doubled = Duration::from_millis(50).saturating_mul(1 << self.tries.min(8));
        self.tries += 1;
        let time = doubled.min(MAX_PAUSE).mul_f64(0.5 + rand::random::<f64>() / 2.0);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(time) => {}
        }
    }
}
