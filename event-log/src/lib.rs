//! The log: append, load, tail, checkpoints, leases, sealing, upcasting. Postgres.

use std::sync::Arc;
use std::time::Duration;

use domain::aggregate::{Aggregate, StreamId, Version};
use domain::command::{ClaimHasher, ClaimKey, ClaimKind, SecretKey};
use domain::position::{Partition, PartitionCount, Position, PositionToken};
use sqlx::PgPool;
use thiserror::Error;
use uuid::Uuid;

pub mod append;
pub mod checkpoints;
mod clock;
pub mod executor;
mod keys;
pub mod leases;
pub mod parked;
mod recorded;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use append::{Append, AppendError, Appended, CommandRow, StreamAppend};
pub use clock::{Clock, SystemClock};
pub use executor::{ExecuteError, Executed, Executor, Idempotency, Origin};
pub use keys::{InvalidMasterKey, MasterKey};
pub use recorded::{Metadata, OpenedOrigin, Recorded};

/// Every migration of the program, in `migrations/`.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// How a log is run.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// How many partitions; fixed when the log is created.
    pub partitions: PartitionCount,
    /// How many aggregates are kept in memory; 0 switches the cache off.
    pub hot_aggregates: u64,
    /// The most requests one call carries.
    pub coalesce_max: usize,
    /// The most requests that wait for one partition; more are refused.
    pub queue_max: usize,
    /// The most commands that wait for one `queue()` stream; more are refused.
    pub waiters_max: usize,
    /// The longest a statement of an append may take.
    pub statement_timeout: Duration,
    /// The longest an append waits for a partition's head.
    pub lock_timeout: Duration,
    /// How long a command is decided again on conflicts.
    pub decide_deadline: Duration,
    /// How often a waiting reader looks without having been woken.
    pub poll: Duration,
    /// After how many events of a stream a snapshot is taken; 0 takes none.
    pub snapshot_every: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            partitions: PartitionCount::new(4).expect("4 is in range"),
            hot_aggregates: 10_000,
            coalesce_max: 512,
            queue_max: 4096,
            waiters_max: 256,
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(2),
            decide_deadline: Duration::from_secs(2),
            poll: Duration::from_millis(250),
            snapshot_every: 100,
        }
    }
}

/// What can go wrong with the log.
#[derive(Debug, Error)]
pub enum LogError {
    /// Postgres failed.
    #[error("a query of the log failed")]
    Database(#[from] sqlx::Error),
    /// The log was created with another number of partitions.
    #[error(
        "the log has {stored} partitions, not {wanted}; their number is fixed when it is created"
    )]
    Partitions {
        /// How many it has.
        stored: u16,
        /// How many were asked for.
        wanted: u16,
    },
    /// The log was created with another master key.
    #[error("this is not the master key the log was created with")]
    WrongMasterKey,
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct EventLog(#[expect(dead_code, reason = "skeleton")] Arc<()>);

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

impl EventLog {
    /// Opens the log, and creates it at first.
    pub async fn open(
        _pool: PgPool,
        _master: MasterKey,
        _clock: Arc<dyn Clock>,
        _options: LogOptions,
    ) -> Result<Self, LogError> {
        todo!()
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> PartitionCount {
        todo!()
    }

    /// The pool it was opened with.
    pub fn pool(&self) -> &PgPool {
        todo!()
    }

    /// The clock it was opened with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        todo!()
    }

    /// A key for one use, derived from the master key.
    pub fn derive_key(&self, _label: &str) -> [u8; 32] {
        todo!()
    }

    /// Appends a request, all or nothing.
    pub async fn append(&self, _request: Append) -> Result<Appended, AppendError> {
        todo!()
    }

    /// An aggregate, from memory if it is there: it may lack what other servers just appended.
    pub async fn load<A: Aggregate>(&self, _id: A::Id) -> Result<LoadedAggregate<A>, LogError> {
        todo!()
    }

    /// An aggregate, never older than this position of its partition.
    pub async fn load_at_least<A: Aggregate>(
        &self,
        _id: A::Id,
        _position: Position,
    ) -> Result<LoadedAggregate<A>, LogError> {
        todo!()
    }

    /// Events of a stream after a version, in order.
    pub async fn stream(
        &self,
        _stream: StreamId,
        _after: Version,
        _limit: u32,
    ) -> Result<Vec<Recorded>, LogError> {
        todo!()
    }

    /// Events of a partition after a position, in order.
    pub async fn tail(
        &self,
        _partition: Partition,
        _after: u64,
        _limit: u32,
    ) -> Result<Vec<Recorded>, LogError> {
        todo!()
    }

    /// The position of a partition's last event; 0 when it has none.
    pub async fn head(&self, _partition: Partition) -> Result<u64, LogError> {
        todo!()
    }

    /// The heads of all partitions.
    pub async fn heads(&self) -> Result<PositionToken, LogError> {
        todo!()
    }

    /// Waits until a partition has grown beyond a position, or the time is over; says which.
    pub async fn wait_beyond(
        &self,
        _partition: Partition,
        _number: u64,
        _at_most: Duration,
    ) -> Result<bool, LogError> {
        todo!()
    }

    /// Says that a partition may have grown, as another server told us.
    pub fn hint(&self, _position: Position) {
        todo!()
    }

    /// Who holds a claim.
    pub async fn claim_owner(&self, _key: ClaimKey) -> Result<Option<Uuid>, LogError> {
        todo!()
    }

    /// A secret.
    pub async fn secret(&self, _key: SecretKey) -> Result<Option<Vec<u8>>, LogError> {
        todo!()
    }
}

impl ClaimHasher for EventLog {
    fn claim_key(&self, _kind: ClaimKind, _value: &str) -> ClaimKey {
        todo!()
    }
}
