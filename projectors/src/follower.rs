//! One projector on one partition: takes the lease, reads, applies, waits, and starts over.
//!
//! For example `notifications` on partition 3 holds the lease with epoch 12 and stands at 3:17. MongoDB goes away: 3:18
//! is tried again after 50 ms, 100 ms, … 5 s; after the tenth time the lease is given back. Another process takes it
//! with epoch 13, reads the checkpoint, and goes on.
//!
//! A crash gives back nothing: the lease expires, and the batch in between is applied again.

use std::collections::HashSet;
use std::error::Error;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::position::Partition;
use event_log::leases::{self, Lease};
use event_log::{Recorded, parked};
use futures_util::FutureExt;
use metrics::{Counter, Gauge, Histogram};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::failure::ApplyError;
use crate::runner::{BATCH, Batch, Move, Projector, Sharing};
use crate::tail::SharedTail;

/// How long an idle projector sleeps when no hint wakes it.
const POLL: Duration = Duration::from_millis(250);
/// How often a poisonous event is tried before its document is parked.
const TRIES: u32 = 3;
/// The longest pause between two tries of a batch that fails because something is away.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// After so many failures in a row, some 15 s, the lease is given back.
const GIVE_BACK: u32 = 10;
/// How often an idle projector is told so.
const IDLE: Duration = Duration::from_secs(1);
/// How long a projector that keeps up lets the next batch gather, at least and at most: in between, three times as long
/// as its last batch took. So the busier the machine, the larger the batches; what comes after a pause is applied at once.
const GATHER: Range<Duration> = Duration::from_millis(15)..Duration::from_millis(200);
/// How long a checkpoint that nobody waits for may stay behind events that change nothing.
const LAZY: Duration = Duration::from_millis(500);
/// How often parked documents are looked at, as long as there are any: a retry may have freed them.
const PARKED_POLL: Duration = Duration::from_secs(1);

/// One projector on one partition.
pub(crate) struct Follower {
    tail: Arc<SharedTail>,
    projector: Arc<dyn Projector>,
    partition: Partition,
    owner: String,
    lease: Duration,
    stop: CancellationToken,
    /// The documents that are parked. Only whoever holds the lease parks, so an empty set stays true.
    parked: HashSet<String>,
    parked_seen: Instant,
    /// When the first event that is not applied was recorded, or when it was first seen that there is one.
    waiting_since: Option<domain::Instant>,
    /// Whether it stands before an event that cannot be applied or read: then it must not say that all is well.
    stuck: bool,
    gauges: Gauges,
}

/// Where a follower stands on its partition.
struct Progress {
    at: u64,
    /// Where the checkpoint stands, and since when it has been behind.
    saved: u64,
    saved_at: Instant,
    /// Whether there may be something behind `at`.
    news: bool,
    /// When the projector was last told that it idles, or applied something.
    told: Option<Instant>,
}

impl Follower {
    pub(crate) fn new(
        tail: Arc<SharedTail>,
        projector: Arc<dyn Projector>,
        partition: Partition,
        owner: String,
        lease: Duration,
        stop: CancellationToken,
    ) -> Self {
        let gauges = Gauges::of(projector.name(), partition);
        let (parked, parked_seen) = (HashSet::new(), Instant::now());
        Self {
            tail,
            projector,
            partition,
            owner,
            lease,
            stop,
            parked,
            parked_seen,
            waiting_since: None,
            stuck: false,
            gauges,
        }
    }

    /// Runs until told to stop.
    pub(crate) async fn run(mut self, sharing: Sharing) {
        let mut pause = Pause::default();
        while !self.stop.is_cancelled() {
            let started = Instant::now();
            let ended = match sharing {
                Sharing::Local => self.follow(None, &self.stop.clone()).await,
                Sharing::Leased => self.lead().await,
            };
            if started.elapsed() > MAX_PAUSE {
                pause = Pause::default();
            }
            match ended {
                Ok(()) => pause = Pause::default(),
                Err(error) => {
                    self.complain(&error);
                    pause.wait(&self.stop).await;
                }
            }
        }
        self.gauges.stand_by();
    }

    /// Takes the lease if it is free, follows while it holds, gives it back.
    async fn lead(&mut self) -> Result<(), ApplyError> {
        let pool = self.tail.log().pool().clone();
        let name = self.projector.name();
        let lease = leases::acquire(&pool, name, self.partition, &self.owner, self.lease).await?;
        let Some(lease) = lease else {
            (self.waiting_since, self.stuck) = (None, false);
            self.gauges.stand_by();
            // Not all at once: the others wait for the same instant.
            let nap = (self.lease / 5).mul_f64(0.5 + rand::random::<f64>() / 2.0);
            let _ = tokio::time::timeout(nap, self.stop.cancelled()).await;
            return Ok(());
        };
        tracing::debug!(projector = name, partition = %self.partition, epoch = lease.epoch, "lease taken");
        self.gauges.leading.set(1.0);
        // Renewed beside the work, for a batch may take longer than a lease. The work is never cut off in the
        // middle of a transaction: it looks between two batches, and its checkpoint is guarded by the epoch.
        let halt = self.stop.child_token();
        let keeper =
            AbortOnDropHandle::new(tokio::spawn(keep(pool.clone(), lease.clone(), halt.clone())));
        let ended = self.follow(Some(&lease), &halt).await;
        drop(keeper);
        if let Err(error) = leases::release(&pool, &lease).await {
            tracing::debug!(%error, "a lease was not given back; it expires");
        }
        if ended.is_ok() && !self.stop.is_cancelled() { Err(ApplyError::Lost) } else { ended }
    }

    async fn follow(
        &mut self,
        lease: Option<&Lease>,
        halt: &CancellationToken,
    ) -> Result<(), ApplyError> {
        let at = self.projector.position(self.partition).await?;
        let mut progress =
            Progress { at, saved: at, saved_at: Instant::now(), news: true, told: None };
        let mut pause = Pause::default();
        if lease.is_some() {
            self.look_at_parked().await?;
        }
        while !halt.is_cancelled() {
            let error = match self.step(&mut progress, lease, halt).await {
                Ok(()) => {
                    pause = Pause::default();
                    continue;
                }
                Err(ApplyError::Lost) => return Err(ApplyError::Lost),
                Err(error) => error,
            };
            self.stuck = match error {
                ApplyError::Away(_) | ApplyError::Lost => false,
                ApplyError::Unreadable(_) | ApplyError::Poison(_) => true,
            };
            self.report_lag(progress.at).await;
            if pause.tries >= GIVE_BACK {
                return Err(error);
            }
            self.complain(&error);
            progress.news = true;
            pause.wait(halt).await;
        }
        Ok(())
    }

    /// Applies what is next, or waits for it.
    async fn step(
        &mut self,
        progress: &mut Progress,
        lease: Option<&Lease>,
        halt: &CancellationToken,
    ) -> Result<(), ApplyError> {
        if !self.parked.is_empty() && self.parked_seen.elapsed() > PARKED_POLL {
            self.look_at_parked().await?;
        }
        if !self.stuck && progress.told.is_none_or(|told| told.elapsed() > IDLE) {
            self.projector.idle(self.partition, progress.at).await?;
            progress.told = Some(Instant::now());
        }
        if progress.saved < progress.at && progress.saved_at.elapsed() > LAZY {
            self.apply(&[], progress, lease).await?;
        }
        let events = if progress.news {
            self.tail.read(self.partition, progress.at, BATCH).await?
        } else {
            Vec::new()
        };
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            (self.waiting_since, self.stuck) = (None, false);
            self.gauges.caught_up();
            tokio::select! {
                () = halt.cancelled() => {}
                news = self.tail.wait(self.partition, progress.at, POLL) => progress.news = news?,
            }
            return Ok(());
        };
        let started = Instant::now();
        self.waiting_since = Some(first.recorded_at);
        self.apply(&events, progress, lease).await?;
        progress.told = Some(Instant::now());
        // What comes next was recorded after this; if it is not there yet, nothing is behind.
        (self.waiting_since, self.stuck) = (Some(last.recorded_at), false);
        self.report_lag(progress.at).await;
        if events.len() < BATCH as usize {
            // Whoever appends here says so; to look into the log now would find what they are about to hand over.
            progress.news = false;
            let gather = (started.elapsed() * 3).clamp(GATHER.start, GATHER.end);
            let _ = tokio::time::timeout(gather, halt.cancelled()).await;
        }
        Ok(())
    }

    /// Applies a batch; one that holds poison is taken apart, and the poison parked. `progress` moves as far as
    /// it came.
    async fn apply(
        &mut self,
        events: &[Arc<Recorded>],
        progress: &mut Progress,
        lease: Option<&Lease>,
    ) -> Result<(), ApplyError> {
        let started = Instant::now();
        let applied = self.try_apply(events, progress, lease).await;
        self.gauges.batch_seconds.record(started.elapsed().as_secs_f64());
        let Err(ApplyError::Poison(poison)) = applied else { return applied };
        if lease.is_none() || !self.projector.parks() || events.is_empty() {
            return Err(ApplyError::Poison(poison));
        }
        for event in events {
            let mut tries = 1;
            loop {
                match self.try_apply(std::slice::from_ref(event), progress, lease).await {
                    Err(ApplyError::Poison(error)) if tries >= TRIES => {
                        // Without a document it is not the event that is poisonous.
                        let Some(document) = self.projector.document(event) else {
                            return Err(ApplyError::Poison(error));
                        };
                        self.park(event, document, &*error, lease).await?;
                    }
                    Err(ApplyError::Poison(_)) => tries += 1,
                    other => {
                        other?;
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Applies a batch as it is, but for documents that are parked, whose events are parked behind them. One that changes
    /// nothing, and nobody waits for, is passed in memory alone; an empty one saves how far that came.
    async fn try_apply(
        &mut self,
        events: &[Arc<Recorded>],
        progress: &mut Progress,
        lease: Option<&Lease>,
    ) -> Result<(), ApplyError> {
        let to = events.last().map_or(progress.at, |last| last.at.number);
        let mut batch = Batch {
            partition: self.partition,
            events: Vec::with_capacity(events.len()),
            checkpoint: Some(Move { from: progress.saved, to }),
            lease,
        };
        let mut changes_nothing = !events.is_empty();
        for event in events {
            let Some(document) = self.projector.document(event) else { continue };
            changes_nothing = false;
            if !self.parked.contains(&document)
                || !self.park_behind(event, &document, lease).await?
            {
                batch.events.push(event);
            }
        }
        if changes_nothing && !self.projector.is_awaited() {
            if progress.saved == progress.at {
                progress.saved_at = Instant::now();
            }
            progress.at = to;
            return Ok(());
        }
        // A panic is this batch's: caught here it parks one document, and not the whole partition.
        match AssertUnwindSafe(self.projector.apply(&batch)).catch_unwind().await {
            Ok(applied) => applied?,
            Err(_) => return Err(ApplyError::Poison("the projector panicked".into())),
        }
        (progress.at, progress.saved) = (to, to);
        Ok(())
    }

    async fn park(
        &mut self,
        event: &Recorded,
        document: String,
        error: &(dyn Error + Send + Sync + 'static),
        lease: Option<&Lease>,
    ) -> Result<(), ApplyError> {
        let name = self.projector.name();
        let causes = crate::causes(error);
        let mut transaction = self.tail.log().pool().begin().await?;
        parked::park(&mut transaction, name, &document, event.at, &causes).await?;
        commit_as_holder(transaction, lease).await?;
        tracing::error!(projector = name, position = %event.at, %document, error = %causes,
            "event {} cannot be applied by {name}; its document is parked", event.at);
        self.gauges.parked.increment(1);
        self.parked.insert(document);
        Ok(())
    }

    /// Parks an event behind an earlier one of its document; `false` if the document was freed meanwhile.
    async fn park_behind(
        &self,
        event: &Recorded,
        document: &str,
        lease: Option<&Lease>,
    ) -> Result<bool, ApplyError> {
        let mut transaction = self.tail.log().pool().begin().await?;
        let name = self.projector.name();
        let behind = parked::park_behind(&mut *transaction, name, document, event.at).await?;
        commit_as_holder(transaction, lease).await?;
        Ok(behind)
    }

    async fn look_at_parked(&mut self) -> Result<(), ApplyError> {
        let mut connection = self.tail.log().pool().acquire().await?;
        let documents =
            parked::documents(&mut connection, self.projector.name(), self.partition).await?;
        self.parked = documents.into_iter().collect();
        self.parked_seen = Instant::now();
        Ok(())
    }

    fn complain(&self, error: &ApplyError) {
        let (name, partition) = (self.projector.name(), self.partition);
        let causes = crate::causes(error);
        if matches!(error, ApplyError::Lost) {
            tracing::info!(projector = name, %partition, "projector {name} begins again on partition {partition}");
        } else {
            self.gauges.failures.increment(1);
            tracing::warn!(projector = name, %partition, error = %causes,
                "projector {name} waits on partition {partition}: {causes}");
        }
    }

    /// How far behind it is: in events, and by the age of the oldest that is not applied. Where that was not read, as
    /// when the log is away, it is as old as the one before, or as the knowledge that it is there.
    async fn report_lag(&mut self, at: u64) {
        let head = self.tail.head(self.partition).await;
        let Some(behind) = head.checked_sub(at).filter(|behind| *behind > 0) else {
            self.waiting_since = None;
            return self.gauges.caught_up();
        };
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.gauges.behind_events.set(behind as f64);
        let now = self.tail.log().clock().now();
        let lag = now - *self.waiting_since.get_or_insert(now);
        self.gauges.lag_seconds.set(lag.to_std().unwrap_or_default().as_secs_f64());
    }
}

/// Commits what was parked. Whoever lost the lease parks nothing: the next holder may have applied it. Looked at last,
/// for parking may have waited for a retry; from then on the lease cannot be lost before the transaction ends.
async fn commit_as_holder(
    mut transaction: sqlx::Transaction<'_, sqlx::Postgres>,
    lease: Option<&Lease>,
) -> Result<(), ApplyError> {
    if let Some(lease) = lease
        && !leases::still_held(&mut transaction, lease).await?
    {
        return Err(ApplyError::Lost);
    }
    transaction.commit().await?;
    Ok(())
}

/// Renews a lease until it is lost, and then says so.
async fn keep(pool: PgPool, lease: Lease, halt: CancellationToken) {
    loop {
        tokio::time::sleep(lease.ttl / 3).await;
        match leases::renew(&pool, &lease).await {
            Ok(true) => {}
            Ok(false) => return halt.cancel(),
            // Perhaps the next time; if not, somebody else finds the lease expired.
            Err(error) => tracing::debug!(%error, "a lease was not renewed"),
        }
    }
}

/// What a follower says of itself. A process that does not hold the lease reports nothing behind, so that the
/// sum over all processes is the truth.
struct Gauges {
    leading: Gauge,
    behind_events: Gauge,
    lag_seconds: Gauge,
    batch_seconds: Histogram,
    failures: Counter,
    parked: Counter,
}

impl Gauges {
    fn of(projector: &'static str, partition: Partition) -> Self {
        let labels = [("projector", projector.to_owned()), ("partition", partition.to_string())];
        Self {
            leading: metrics::gauge!("pontual_projector_leading", &labels),
            behind_events: metrics::gauge!("pontual_projector_behind_events", &labels),
            lag_seconds: metrics::gauge!("pontual_projector_lag_seconds", &labels),
            batch_seconds: metrics::histogram!("pontual_projector_batch_seconds", "projector" => projector),
            failures: metrics::counter!("pontual_projector_failures_total", "projector" => projector),
            parked: metrics::counter!("pontual_projector_parked_total", "projector" => projector),
        }
    }

    fn caught_up(&self) {
        self.behind_events.set(0.0);
        self.lag_seconds.set(0.0);
    }

    fn stand_by(&self) {
        self.leading.set(0.0);
        self.caught_up();
    }
}

/// Pauses between tries: 50 ms, doubling, with jitter, at most [`MAX_PAUSE`].
#[derive(Default)]
struct Pause {
    tries: u32,
}

impl Pause {
    async fn wait(&mut self, stop: &CancellationToken) {
        let doubled = Duration::from_millis(50).saturating_mul(1 << self.tries.min(8));
        self.tries = self.tries.saturating_add(1);
        let time = doubled.min(MAX_PAUSE).mul_f64(0.5 + rand::random::<f64>() / 2.0);
        let _ = tokio::time::timeout(time, stop.cancelled()).await;
    }
}
