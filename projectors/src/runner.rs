//! The runner: gives projectors the log, batch by batch, and keeps them going.
//!
//! A shared projector (its read model lives in Postgres, Redis or MongoDB) takes each partition by an
//! expiring lease with a fencing epoch, so that many processes can run it and one works. A local one (its
//! read model lives in this process) has no lease and starts at the head. Either way: tail, apply, move
//! the checkpoint, wait. For example `read-tables` stands at 3:17 and is woken: it reads 3:18 to 3:30, writes
//! thirteen rows and its checkpoint 3:30 in one transaction, and waits again.
//!
//! A batch that fails because something is away is tried again, later each time; one that fails for long
//! gives back the lease, in case another process fares better. A batch that holds a poisonous event is taken
//! apart; the event that cannot be applied parks its document, with all later events of that document, and
//! the others flow. [`retry`] applies what is parked again, in order.
//!
//! A crash between data and checkpoint means that a batch is applied again; every projector's writes are
//! guarded so that twice equals once. A parked event is noted before the checkpoint passes it, so it is either
//! parked or not yet passed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::position::Partition;
use event_log::leases::Lease;
use event_log::{EventLog, Recorded, checkpoints};
use sqlx::{PgConnection, Postgres, Transaction};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use crate::failure::ApplyError;
use crate::follower::Follower;
pub use crate::retry::{Retried, retry};
use crate::tail::SharedTail;

/// The most events of one batch.
pub const BATCH: u32 = 500;
/// A lease lasts this long without renewal; a killed process' partitions move on after it.
pub const LEASE: Duration = Duration::from_secs(6);

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

impl Batch<'_> {
    /// Begins the transaction of a projector whose checkpoint is beside its data. Its commit does not wait for the disk:
    /// a crash of Postgres may take away the last ones, data and checkpoint alike, and they are applied again. A table that
    /// somebody locks is waited for without one of the few connections.
    pub async fn begin(log: &EventLog) -> sqlx::Result<Transaction<'static, Postgres>> {
        let begin = "BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL lock_timeout = '1s'";
        log.readers().begin_with(begin).await
    }

    /// Moves the projector's checkpoint, within the transaction that writes what it stands for.
    pub async fn advance(
        &self,
        transaction: &mut PgConnection,
        projector: &str,
    ) -> Result<(), ApplyError> {
        if let Some(Move { from, to }) = self.checkpoint {
            checkpoints::advance(transaction, projector, self.partition, from, to, self.lease)
                .await?;
        }
        Ok(())
    }
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

    /// Whether an event that cannot be applied parks its document. A projector whose readers could not tell
    /// that something is missing stops instead, and tries again.
    fn parks(&self) -> bool {
        true
    }

    /// Whether somebody waits until an event is passed that changes no document. Else the checkpoint passes such events
    /// with the next that does, or half a second later; a crash in between passes them again.
    fn is_awaited(&self) -> bool {
        true
    }

    /// Up to where a partition has been applied.
    async fn position(&self, partition: Partition) -> Result<u64, ApplyError>;

    /// Applies a batch and moves its checkpoint. Twice equals once.
    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError>;

    /// Called when it starts on a partition, and about once a second while there is nothing to apply, or nothing it can
    /// be applied to; but not while it stands before an event that cannot be applied or read.
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

/// Runs projectors until told to stop. Dropping it ends them at once, as a crash would.
pub struct Runner {
    tail: Arc<SharedTail>,
    owner: String,
    lease: Duration,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Runner {
    /// A runner of this process.
    pub fn new(tail: Arc<SharedTail>, stop: CancellationToken) -> Self {
        let owner = Uuid::now_v7().to_string();
        Self { tail, owner, lease: LEASE, stop, tasks: JoinSet::new() }
    }

    /// Takes leases for this long instead of [`LEASE`].
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Starts a projector on every partition.
    pub fn start(&mut self, projector: Arc<dyn Projector>, sharing: Sharing) {
        self.tail.log().keep_appended();
        for partition in self.tail.log().partitions().all() {
            let (tail, projector) = (self.tail.clone(), projector.clone());
            let (owner, lease, stop) = (self.owner.clone(), self.lease, self.stop.clone());
            let follower = Follower::new(tail, projector, partition, owner, lease, stop);
            self.tasks.spawn(follower.run(sharing));
        }
    }

    /// Waits until every projector has stopped and given back its leases.
    pub async fn join(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
