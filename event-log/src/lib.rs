//! The log: append, load, tail, checkpoints, leases, sealing, upcasting. Postgres.
//!
//! The log is a few partitions; an id's routing slot says in which one its stream lives. Within a partition
//! the order of positions is the order of commits, without gaps, because every append takes its numbers
//! under the lock of the partition's head row and a rollback gives them back.
//!
//! A booking, for example: the [`Executor`] runs `BookAppointment` over the aggregates it names, and hands
//! one [`Append`] (two events on two streams, the provider's version required, the command's row) to
//! [`EventLog::append`]. It is encoded, its personal data sealed ([`sealing`]), and joins the next batch of
//! its partition ([`lane`]); one call of the SQL function `log_append` checks, numbers, hashes and writes the
//! whole batch and commits. The answer names the positions, readers in this process are woken, and
//! projectors read on with [`EventLog::tail`].
//!
//! A crash before the commit leaves nothing. A crash after it, before the answer, leaves the command's row:
//! the retry is answered from it. Nothing else is kept anywhere: hot aggregates and data keys are caches.

use std::sync::Arc;
use std::time::Duration;

use domain::Instant;
use domain::command::{ClaimHasher, ClaimKey, ClaimKind, SecretKey, SecretKind};
use domain::ids::RoutingSlot;
use domain::position::{Partition, PartitionCount, Position, PositionToken};
use sqlx::{PgPool, Row as _};
use thiserror::Error;
use uuid::Uuid;

use crate::connections::Connections;

pub mod append;
mod as_of;
pub mod checkpoints;
mod clock;
mod codec;
mod connections;
pub mod erasure;
pub mod executor;
mod keys;
mod kinds;
mod lane;
pub mod leases;
mod load;
pub mod parked;
mod recent;
mod recorded;
mod sealing;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod turnstile;
mod upcast;
pub mod verify;
mod wake;

pub use append::{Append, AppendError, Appended, CommandRow, StreamAppend};
pub use as_of::AsOf;
pub use clock::{Clock, SystemClock};
pub use codec::CodecError;
pub use executor::{ExecuteError, Executed, Executor, Idempotency, Origin};
pub use keys::{InvalidMasterKey, MasterKey};
pub use load::LoadedAggregate;
pub use recorded::{Metadata, OpenedOrigin, Recorded};
pub use sealing::SealError;
pub use upcast::{UpcastError, Upcasters};

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
    /// How many calls of one partition may be under way at once.
    pub in_flight: usize,
    /// The most requests that wait for one partition; more are refused.
    pub queue_max: usize,
    /// The most commands that wait for one `queue()` stream; more are refused.
    pub waiters_max: usize,
    /// How many connections append. As many as there are cores to work on it: with more, batches are smaller
    /// and cost more; with fewer, a head that somebody holds keeps other partitions waiting.
    pub writers: usize,
    /// How many connections load what commands are decided on, and how many read the log and serve what follows it. Like
    /// those that append, hardly more than there are cores: each more is another process of Postgres that finds the caches
    /// cold, and a call takes up to half as long again.
    pub readers: usize,
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
    /// The most events one reading of the past goes through.
    pub replay_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            partitions: PartitionCount::new(4).expect("4 is in range"),
            hot_aggregates: 10_000,
            coalesce_max: 512,
            in_flight: 1,
            queue_max: 4096,
            waiters_max: 256,
            writers: std::thread::available_parallelism().map_or(4, usize::from).clamp(2, 16),
            readers: std::thread::available_parallelism().map_or(4, usize::from).clamp(2, 16) + 1,
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(2),
            decide_deadline: Duration::from_secs(2),
            poll: Duration::from_millis(250),
            snapshot_every: 100,
            replay_max: 50_000,
        }
    }
}

/// What can go wrong with the log.
#[derive(Debug, Error)]
pub enum LogError {
    /// Postgres failed.
    #[error("a query of the log failed")]
    Database(#[from] sqlx::Error),
    /// Postgres failed a batch of several requests.
    #[error("a batch of appends failed")]
    Batch(#[source] Arc<sqlx::Error>),
    /// What several requests needed could not be read.
    #[error("what a batch of appends needed could not be read")]
    Shared(#[source] Arc<LogError>),
    /// Postgres did not answer in time.
    #[error("Postgres did not answer in time")]
    TimedOut,
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
    /// The server is set up in a way that would lose or garble events.
    #[error("Postgres has {setting} = {value}, the log needs {needed}")]
    Setting {
        /// Which setting.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        needed: &'static str,
    },
    /// An event cannot be read. Readers stop here.
    #[error("the event at {at} cannot be read")]
    Unreadable {
        /// Which.
        at: Position,
        /// Why.
        #[source]
        source: CodecError,
    },
    /// Something else cannot be read or written.
    #[error("an event cannot be encoded or decoded")]
    Codec(#[from] CodecError),
    /// A stream's events are not numbered 1, 2, 3, … or are of several kinds.
    #[error("the stream {0} is not in order")]
    BrokenStream(domain::aggregate::StreamId),
    /// A request that no caller should make.
    #[error("a malformed append: {0}")]
    Malformed(&'static str),
    /// A stored answer that does not read.
    #[error("a command's stored answer does not read")]
    StoredAnswer,
    /// More events than one reading of the past goes through.
    #[error("more than {most} events would have to be replayed")]
    TooLong {
        /// How many those are.
        most: usize,
    },
    /// A command asked for more and more streams.
    #[error("the command {0} asked for more streams in every round")]
    TooManyRounds(&'static str),
}

impl From<SealError> for LogError {
    fn from(error: SealError) -> Self {
        Self::Codec(error.into())
    }
}

impl LogError {
    /// Whether it is Postgres that cannot be reached, so that trying again later makes sense.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(error) => unavailable(error),
            Self::Batch(error) => unavailable(error),
            Self::Shared(error) => error.is_unavailable(),
            Self::TimedOut => true,
            Self::Partitions { .. }
            | Self::WrongMasterKey
            | Self::Setting { .. }
            | Self::Unreadable { .. }
            | Self::Codec(_)
            | Self::BrokenStream(_)
            | Self::Malformed(_)
            | Self::StoredAnswer
            | Self::TooLong { .. }
            | Self::TooManyRounds(_) => false,
        }
    }
}

/// Whether the connection or the server is at fault, and not what was asked.
pub(crate) fn unavailable(error: &sqlx::Error) -> bool {
    if let sqlx::Error::Database(error) = error {
        // Connection exceptions, shutdown and start-up, too many connections, a standby, and what took too long or
        // was in the way of another transaction.
        return error.code().is_some_and(|code| {
            code.starts_with("08")
                || code.starts_with("57")
                || ["53300", "25006", "55P03", "40001", "40P01"].contains(&&*code)
        });
    }
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
    )
}

/// The log. Cheap to clone; its tasks end when the last clone is dropped.
#[derive(Clone)]
pub struct EventLog {
    core: Arc<Core>,
    lanes: Arc<lane::Lanes>,
}

/// What the log's tasks share.
pub(crate) struct Core {
    pub(crate) pool: PgPool,
    pub(crate) readers: PgPool,
    pub(crate) writers: Connections,
    pub(crate) loaders: Connections,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keys: keys::Keys,
    pub(crate) ring: sealing::KeyRing,
    pub(crate) upcasters: Upcasters,
    pub(crate) hot: load::Hot,
    pub(crate) wake: wake::Wake,
    pub(crate) recent: recent::Recent,
    pub(crate) snapshots: Arc<tokio::sync::Semaphore>,
    pub(crate) id: Uuid,
    pub(crate) options: LogOptions,
}

impl EventLog {
    /// Opens the log, and creates its partitions at first. Refuses another number of partitions or another
    /// master key than it was created with. The migrations must have run.
    pub async fn open(
        pool: PgPool,
        master: MasterKey,
        clock: Arc<dyn Clock>,
        options: LogOptions,
    ) -> Result<Self, LogError> {
        Self::open_with(pool, master, clock, options, Upcasters::current()).await
    }

    /// As [`EventLog::open`], with upcasters of the caller's.
    pub async fn open_with(
        pool: PgPool,
        master: MasterKey,
        clock: Arc<dyn Clock>,
        options: LogOptions,
        upcasters: Upcasters,
    ) -> Result<Self, LogError> {
        check_settings(&pool).await?;
        let ring = sealing::KeyRing::new(&master);
        let keys = keys::Keys::new(master);
        let id = create_or_check(&pool, &keys, options.partitions).await?;
        let core = Arc::new(Core {
            writers: Connections::new(&pool, &options, "pontual-append", options.writers),
            loaders: Connections::new(&pool, &options, "pontual-load", options.readers),
            hot: load::Hot::new(options.hot_aggregates),
            wake: wake::Wake::new(options.partitions),
            recent: recent::Recent::new(options.partitions),
            snapshots: Arc::new(tokio::sync::Semaphore::new(2)),
            readers: readers(&pool, options.readers),
            pool,
            clock,
            keys,
            ring,
            upcasters,
            id,
            options,
        });
        let lanes = Arc::new(lane::Lanes::start(&core));
        wake::watch_heads(&core);
        load::sweep_hot(&core);
        Ok(Self { core, lanes })
    }

    /// How many partitions it has.
    pub fn partitions(&self) -> PartitionCount {
        self.core.options.partitions
    }

    /// The partition a slot's things live in.
    pub fn partition_of(&self, slot: RoutingSlot) -> Partition {
        self.core.partition_of(slot)
    }

    /// The few connections that read the log, for what follows it. Whoever holds one must not wait for another.
    pub fn readers(&self) -> &PgPool {
        &self.core.readers
    }

    /// The pool it was opened with.
    pub fn pool(&self) -> &PgPool {
        &self.core.pool
    }

    /// The clock it was opened with.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.core.clock
    }

    /// How it is run.
    pub fn options(&self) -> &LogOptions {
        &self.core.options
    }

    /// The log's own id, drawn when it was created.
    pub fn id(&self) -> Uuid {
        self.core.id
    }

    /// A key for one use, derived from the master key.
    pub fn derive_key(&self, label: &str) -> [u8; 32] {
        self.core.keys.derive(label)
    }

    /// The position of a partition's last event; 0 when it has none.
    pub async fn head(&self, partition: Partition) -> Result<u64, LogError> {
        let query = sqlx::query_scalar("SELECT position FROM heads WHERE partition = $1")
            .bind(small(partition));
        let head = from_big(self.core.bounded(query.fetch_one(&self.core.readers)).await?);
        self.core.wake.grown(partition, head);
        Ok(head)
    }

    /// The heads of all partitions that have events.
    pub async fn heads(&self) -> Result<PositionToken, LogError> {
        Self::heads_of(&self.core).await
    }

    /// When the last event of all was recorded, by the log's own clock: whatever is appended after this call was asked
    /// is recorded later. An append that is under way, its instant taken and not committed, is waited for.
    pub async fn recorded_until(&self) -> Result<Instant, LogError> {
        let asked = self.recording_now().await?;
        let mut until = Instant::UNIX_EPOCH;
        // One after another: a head that somebody holds must not make this one hold others. So the others go on meanwhile,
        // and what they append then is not meant.
        for partition in self.partitions().all() {
            until = until.max(self.settled_head(partition).await?.1);
        }
        Ok(until.min(asked))
    }

    pub(crate) async fn heads_of(core: &Core) -> Result<PositionToken, LogError> {
        let query = sqlx::query_as("SELECT partition, position FROM heads WHERE position > 0");
        let rows: Vec<(i16, i64)> = core.bounded(query.fetch_all(&core.readers)).await?;
        Ok(positions(rows))
    }

    /// Waits until a partition has grown beyond a position, or the time is over; says which. Woken by
    /// appends of this process and by [`EventLog::hint`], and looks by itself every `options.poll`.
    pub async fn wait_beyond(
        &self,
        partition: Partition,
        number: u64,
        at_most: Duration,
    ) -> Result<bool, LogError> {
        let deadline = tokio::time::Instant::now() + at_most;
        let mut watch = self.core.wake.watch(partition);
        loop {
            let wake::Seen { head, nudged } = *watch.borrow_and_update();
            if head > number {
                return Ok(true);
            }
            if nudged {
                // Before the look, so that who says it during the look is not forgotten.
                self.core.wake.heard(partition);
                if self.head(partition).await? > number {
                    return Ok(true);
                }
                if tokio::time::Instant::now() >= deadline {
                    return Ok(false);
                }
                continue;
            }
            let woken = watch.wait_for(|seen| seen.head > number || seen.nudged);
            if tokio::time::timeout_at(deadline, woken).await.is_err() {
                return Ok(false);
            }
        }
    }

    /// Says that a partition may have grown, as another server told us. Only a hint: readers look.
    pub fn hint(&self, position: Position) {
        self.core.wake.nudge(position.partition);
    }

    /// Who holds a claim.
    pub async fn claim_owner(&self, key: ClaimKey) -> Result<Option<Uuid>, LogError> {
        let query = sqlx::query_scalar(
            "SELECT owner FROM claims WHERE partition = $1 AND kind = $2 AND hash = $3",
        )
        .bind(small(self.core.partition_of(key.slot())))
        .bind(key.kind.as_str())
        .bind(key.hash);
        self.core.bounded(query.fetch_optional(&self.core.readers)).await
    }

    /// A secret.
    pub async fn secret(&self, key: SecretKey) -> Result<Option<Vec<u8>>, LogError> {
        let query = sqlx::query_scalar(
            "SELECT value FROM secrets WHERE partition = $1 AND owner = $2 AND kind = $3",
        )
        .bind(small(self.core.partition_of(RoutingSlot::of(key.owner))))
        .bind(key.owner)
        .bind(key.kind.as_str());
        self.core.bounded(query.fetch_optional(&self.core.readers)).await
    }

    /// Replaces a secret if it is what the caller believes; says whether it was. Secrets that rotate, such
    /// as refresh tokens, change by this, without an event.
    pub async fn swap_secret(
        &self,
        key: SecretKey,
        old: &[u8],
        new: &[u8],
    ) -> Result<bool, LogError> {
        let query = sqlx::query(
            "UPDATE secrets SET value = $5 WHERE partition = $1 AND owner = $2 AND kind = $3 AND value = $4",
        )
        .bind(small(self.core.partition_of(RoutingSlot::of(key.owner))))
        .bind(key.owner)
        .bind(key.kind.as_str())
        .bind(old)
        .bind(new);
        Ok(self.core.bounded(query.execute(&self.core.readers)).await?.rows_affected() == 1)
    }

    /// Forgets commands that were accepted longer ago than this; a retry of one is a new command. Says how
    /// many. Works in slices, so that it holds no lock for long.
    pub async fn purge_commands(&self, older_than: Duration) -> Result<u64, LogError> {
        const SLICE: i64 = 5_000;
        let age = chrono::TimeDelta::from_std(older_than).unwrap_or(chrono::TimeDelta::MAX);
        let Some(before) = self.core.clock.now().checked_sub_signed(age) else { return Ok(0) };
        let mut purged = 0;
        for partition in self.partitions().all() {
            loop {
                let slice = sqlx::query(
                    "DELETE FROM commands WHERE ctid = ANY (ARRAY(
                        SELECT ctid FROM commands WHERE partition = $1 AND recorded_at < $2 LIMIT $3))",
                )
                .bind(small(partition))
                .bind(before)
                .bind(SLICE)
                .execute(&self.core.pool)
                .await?
                .rows_affected();
                purged += slice;
                if slice == 0 {
                    break;
                }
            }
        }
        Ok(purged)
    }

    /// Drops the records of refresh tokens that can no longer be used, of sessions nobody signed out of: they
    /// expired before this. Says how many. Works in slices, so that it holds no lock for long.
    pub async fn purge_refresh_records(&self, before: Instant) -> Result<u64, LogError> {
        const SLICE: i64 = 5_000;
        let mut purged = 0;
        for partition in self.partitions().all() {
            loop {
                let slice = sqlx::query(
                    // CASE, so that no other secret is read as a record. One that is rotated meanwhile has
                    // another ctid, and stays.
                    "DELETE FROM secrets WHERE ctid = ANY (ARRAY(
                        SELECT ctid FROM secrets WHERE partition = $1 AND CASE WHEN kind = $2 THEN
                            (convert_from(value, 'UTF8')::json ->> 'expires_at')::timestamptz < $3
                        END LIMIT $4))",
                )
                .bind(small(partition))
                .bind(SecretKind::Refresh.as_str())
                .bind(before)
                .bind(SLICE)
                .execute(&self.core.pool)
                .await?
                .rows_affected();
                purged += slice;
                if slice == 0 {
                    break;
                }
            }
        }
        Ok(purged)
    }

    /// Waits for the appends under way, for a moment, and takes no more: later ones are refused as unavailable.
    pub async fn close(&self) {
        self.core.writers.close().await;
        self.core.loaders.close().await;
        self.core.readers.close().await;
    }
}

impl Core {
    pub(crate) fn partition_of(&self, slot: RoutingSlot) -> Partition {
        self.options.partitions.partition_of(slot)
    }

    /// No query waits longer than the statement timeout allows, whatever happens to the network.
    pub(crate) async fn bounded<T>(
        &self,
        query: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, LogError> {
        match tokio::time::timeout(self.options.statement_timeout, query).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(LogError::TimedOut),
        }
    }
}

impl ClaimHasher for EventLog {
    fn claim_key(&self, kind: ClaimKind, value: &str) -> ClaimKey {
        self.core.keys.claim_key(kind, value)
    }
}

/// A pool like this one, but smaller.
fn readers(pool: &PgPool, most: usize) -> PgPool {
    let connect = (*pool.connect_options()).clone().options(connections::BY_INDEX);
    let connect = connect.application_name("pontual-log");
    let options = pool.options().clone().min_connections(0);
    options.max_connections(u32::try_from(most.max(2)).unwrap_or(16)).connect_lazy_with(connect)
}

/// What the log relies on and cannot set itself.
async fn check_settings(pool: &PgPool) -> Result<(), LogError> {
    let row = sqlx::query(
        "SELECT current_setting('server_encoding'), current_setting('synchronous_commit')",
    )
    .fetch_one(pool)
    .await?;
    let (encoding, commit): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    if encoding != "UTF8" {
        let setting = "server_encoding";
        return Err(LogError::Setting { setting, value: encoding, needed: "UTF8" });
    }
    if commit == "off" {
        let setting = "synchronous_commit";
        return Err(LogError::Setting { setting, value: commit, needed: "on" });
    }
    Ok(())
}

/// The log's id. Whoever comes first creates it; the others wait for that and check.
async fn create_or_check(
    pool: &PgPool,
    keys: &keys::Keys,
    partitions: PartitionCount,
) -> Result<Uuid, LogError> {
    let fresh = Uuid::from_bytes(keys::random_bytes());
    let mut transaction = pool.begin().await?;
    let created = sqlx::query(
        "INSERT INTO log_settings (log_id, partitions, key_check) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
    )
    .bind(fresh)
    .bind(i16::try_from(partitions.get()).expect("at most 4096 partitions"))
    .bind(keys.check_value(fresh))
    .execute(&mut *transaction)
    .await?
    .rows_affected()
        == 1;
    if created {
        let (at, chains): (Vec<i16>, Vec<Vec<u8>>) =
            partitions.all().map(|p| (small(p), verify::genesis(fresh, p).to_vec())).unzip();
        sqlx::query(
            "INSERT INTO heads (partition, position, recorded_at, chain)
             SELECT p, 0, 'epoch', c FROM unnest($1::smallint[], $2::bytea[]) AS h(p, c)",
        )
        .bind(at)
        .bind(chains)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    let (id, stored, check): (Uuid, i16, Vec<u8>) =
        sqlx::query_as("SELECT log_id, partitions, key_check FROM log_settings")
            .fetch_one(pool)
            .await?;
    let (stored, wanted) = (from_small(stored), partitions.get());
    if stored != wanted {
        return Err(LogError::Partitions { stored, wanted });
    }
    if !bool::from(subtle::ConstantTimeEq::ct_eq(check.as_slice(), &keys.check_value(id))) {
        return Err(LogError::WrongMasterKey);
    }
    Ok(id)
}

/// A token of rows (partition, position).
pub(crate) fn positions(rows: Vec<(i16, i64)>) -> PositionToken {
    let at = |(partition, number)| Position {
        partition: Partition(from_small(partition)),
        number: from_big(number),
    };
    rows.into_iter().map(at).collect()
}

/// A partition as Postgres' smallint.
pub(crate) fn small(partition: Partition) -> i16 {
    i16::try_from(partition.0).expect("there are at most 4096 partitions")
}

/// A smallint that is never negative.
pub(crate) fn from_small(small: i16) -> u16 {
    u16::try_from(small).expect("no partition is negative")
}

/// A position or version as Postgres' bigint.
pub(crate) fn big(number: u64) -> i64 {
    i64::try_from(number).expect("no log has 2^63 events")
}

/// A bigint that is never negative.
pub(crate) fn from_big(big: i64) -> u64 {
    u64::try_from(big).expect("no position is negative")
}
