//! Proving that the log is what it was: every event's hash, and the chain of batches.
//!
//! Each event's row carries SHA-256 over its partition, position, stream, sequence, type, version,
//! recorded_at and the exact bytes of payload and metadata, each with its length before it. Each batch adds
//! a link: SHA-256 over the link before it, the partition, its first and last position, and the hashes of
//! its events. Sealed data stays sealed in the hash, so an erasure breaks nothing.
//!
//! [`Verifier`] needs no database: whoever has an export (lines of [`ExportedBatch`] as JSON) and a head they
//! trust can verify it. [`EventLog::verify`] does the same over the tables.

use domain::Instant;
use domain::aggregate::Version;
use domain::position::{Partition, Position};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::{PgPool, Row as _};
use thiserror::Error;
use uuid::Uuid;

use crate::{EventLog, LogError, big, from_big, small};

/// An event as it is exported: the very text of the row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedEvent {
    /// Its number within the partition.
    pub position: u64,
    /// The kind of its stream.
    pub aggregate_type: String,
    /// Its stream.
    pub aggregate_id: Uuid,
    /// Its number within the stream.
    pub sequence: Version,
    /// Its type.
    pub event_type: String,
    /// Its version.
    pub event_version: String,
    /// When it was recorded.
    pub recorded_at: Instant,
    /// The stored JSON, byte for byte.
    pub payload: String,
    /// The stored JSON, byte for byte.
    pub metadata: String,
    /// The hash that was stored with it.
    #[serde(with = "hex_bytes")]
    pub hash: Vec<u8>,
}

/// A batch of events and the link that was appended with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedBatch {
    /// Which partition.
    pub partition: Partition,
    /// The position of its last event.
    pub position: u64,
    /// The link.
    #[serde(with = "hex_bytes")]
    pub chain: Vec<u8>,
    /// Its events, in order.
    pub events: Vec<ExportedEvent>,
}

/// What is wrong with the log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Tampered {
    /// A position is missing, twice, or out of order.
    #[error("after {after} comes position {found}")]
    Gap {
        /// The last position that was right.
        after: Position,
        /// What came instead of the next.
        found: u64,
    },
    /// An event is not what it was.
    #[error("the event at {0} does not have its hash")]
    Event(Position),
    /// Time runs backwards.
    #[error("the event at {0} was recorded before the one before it")]
    Time(Position),
    /// A batch is not what it was.
    #[error("the batch that ends at {0} does not continue the chain")]
    Link(Position),
    /// The head is not where the chain ends.
    #[error("the head of partition {0} is not where its chain ends")]
    Head(Partition),
}

/// Why a verification ended without a proof.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The log was changed.
    #[error(transparent)]
    Tampered(#[from] Tampered),
    /// It could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What was proven of a partition: publish it, and compare later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// Which partition.
    pub partition: Partition,
    /// Up to where.
    pub position: u64,
    /// The link there.
    #[serde(with = "hex_bytes")]
    pub chain: Vec<u8>,
}

/// Checks a partition's batches one by one, without a database.
#[derive(Debug, Clone)]
pub struct Verifier {
    proven: Proven,
    recorded_at: Option<Instant>,
}

impl Verifier {
    /// From the beginning of a partition of this log.
    pub fn new(log: Uuid, partition: Partition) -> Self {
        let chain = genesis(log, partition).to_vec();
        Self::after(Proven { partition, position: 0, chain })
    }

    /// From where an earlier verification ended.
    pub fn after(proven: Proven) -> Self {
        Self { proven, recorded_at: None }
    }

    /// What is proven so far.
    pub fn proven(&self) -> &Proven {
        &self.proven
    }

    /// Checks the next batch.
    pub fn batch(&mut self, batch: &ExportedBatch) -> Result<(), Tampered> {
        let partition = self.proven.partition;
        let at = |number| Position { partition, number };
        let mut last = self.proven.position;
        let mut hashes = Vec::with_capacity(32 * batch.events.len());
        for event in &batch.events {
            if event.position != last + 1 {
                return Err(Tampered::Gap { after: at(last), found: event.position });
            }
            last = event.position;
            let hash = event_hash(partition, event);
            if event.hash != hash {
                return Err(Tampered::Event(at(last)));
            }
            if self.recorded_at.is_some_and(|before| event.recorded_at < before) {
                return Err(Tampered::Time(at(last)));
            }
            self.recorded_at = Some(event.recorded_at);
            hashes.extend_from_slice(&hash);
        }
        let first = self.proven.position + 1;
        let chain = link(&self.proven.chain, partition, first, last, &hashes);
        if batch.partition != partition
            || batch.position != last
            || batch.events.is_empty()
            || batch.chain != chain
        {
            return Err(Tampered::Link(at(batch.position)));
        }
        self.proven.position = last;
        self.proven.chain = chain.to_vec();
        Ok(())
    }
}

impl EventLog {
    /// Verifies a partition from where an earlier verification ended, or from the beginning, up to its head.
    pub async fn verify(
        &self,
        partition: Partition,
        from: Option<Proven>,
    ) -> Result<Proven, VerifyError> {
        let mut verifier = match from {
            Some(proven) => Verifier::after(proven),
            None => Verifier::new(self.id(), partition),
        };
        // The head first: what is appended meanwhile may be verified too, but need not.
        let (head, chain) = stored_head(self.pool(), partition).await?;
        loop {
            let after = verifier.proven().position;
            let batches = self.export(partition, after, 1000).await?;
            if batches.is_empty() {
                break;
            }
            for batch in &batches {
                verifier.batch(batch)?;
                if verifier.proven().position == head {
                    return match verifier.proven().chain == chain {
                        true => Ok(verifier.proven().clone()),
                        false => Err(Tampered::Head(partition).into()),
                    };
                }
            }
        }
        let proven = verifier.proven().clone();
        if proven.position != head || proven.chain != chain {
            return Err(Tampered::Head(partition).into());
        }
        Ok(proven)
    }

    /// A partition's batches after a position, for an export. At least one, if there is one; about as many
    /// events as asked for.
    pub async fn export(
        &self,
        partition: Partition,
        after: u64,
        events: u32,
    ) -> Result<Vec<ExportedBatch>, LogError> {
        let links = sqlx::query(
            "SELECT position, chain FROM links WHERE partition = $1 AND position > $2
             ORDER BY position LIMIT $3",
        )
        .bind(small(partition))
        .bind(big(after))
        .bind(i64::from(events))
        .fetch_all(self.pool())
        .await?;
        let mut batches = Vec::new();
        for row in links {
            let position = from_big(row.try_get(0)?);
            if !batches.is_empty() && position > after + u64::from(events) {
                break;
            }
            let chain = row.try_get(1)?;
            batches.push(ExportedBatch { partition, position, chain, events: Vec::new() });
        }
        let Some(last) = batches.last().map(|b| b.position) else { return Ok(batches) };
        let mut batch = 0;
        for event in rows(self.pool(), partition, after, last).await? {
            while event.position > batches[batch].position {
                batch += 1;
            }
            batches[batch].events.push(event);
        }
        Ok(batches)
    }
}

/// A partition's head, which must be at its last event.
async fn stored_head(pool: &PgPool, partition: Partition) -> Result<(u64, Vec<u8>), VerifyError> {
    let (position, chain, last): (i64, Vec<u8>, i64) = sqlx::query_as(
        "SELECT h.position, h.chain, coalesce(
            (SELECT max(e.position) FROM events e WHERE e.partition = h.partition), 0)
         FROM heads h WHERE h.partition = $1",
    )
    .bind(small(partition))
    .fetch_one(pool)
    .await
    .map_err(LogError::from)?;
    if position != last {
        return Err(Tampered::Head(partition).into());
    }
    Ok((from_big(position), chain))
}

async fn rows(
    pool: &PgPool,
    partition: Partition,
    after: u64,
    up_to: u64,
) -> Result<Vec<ExportedEvent>, LogError> {
    let rows = sqlx::query(
        "SELECT position, aggregate_type, aggregate_id, sequence, event_type, event_version, recorded_at,
                payload::text, metadata::text, hash
         FROM events WHERE partition = $1 AND position > $2 AND position <= $3
         ORDER BY position",
    )
    .bind(small(partition))
    .bind(big(after))
    .bind(big(up_to))
    .fetch_all(pool)
    .await?;
    let event = |row: &sqlx::postgres::PgRow| -> Result<ExportedEvent, LogError> {
        Ok(ExportedEvent {
            position: from_big(row.try_get(0)?),
            aggregate_type: row.try_get(1)?,
            aggregate_id: row.try_get(2)?,
            sequence: from_big(row.try_get(3)?),
            event_type: row.try_get(4)?,
            event_version: row.try_get(5)?,
            recorded_at: row.try_get(6)?,
            payload: row.try_get(7)?,
            metadata: row.try_get(8)?,
            hash: row.try_get(9)?,
        })
    };
    rows.iter().map(event).collect()
}

/// What the chain of a partition begins with.
pub fn genesis(log: Uuid, partition: Partition) -> [u8; 32] {
    let mut sha = Sha256::new();
    part(&mut sha, b"pontual-log");
    part(&mut sha, log.as_bytes());
    part(&mut sha, &small(partition).to_be_bytes());
    sha.finalize().into()
}

/// The hash of an event.
pub fn event_hash(partition: Partition, event: &ExportedEvent) -> [u8; 32] {
    let mut sha = Sha256::new();
    part(&mut sha, &small(partition).to_be_bytes());
    part(&mut sha, &event.position.to_be_bytes());
    part(&mut sha, event.aggregate_type.as_bytes());
    part(&mut sha, event.aggregate_id.as_bytes());
    part(&mut sha, &event.sequence.to_be_bytes());
    part(&mut sha, event.event_type.as_bytes());
    part(&mut sha, event.event_version.as_bytes());
    part(&mut sha, &postgres_micros(event.recorded_at).to_be_bytes());
    part(&mut sha, event.payload.as_bytes());
    part(&mut sha, event.metadata.as_bytes());
    sha.finalize().into()
}

/// The link of a batch.
fn link(before: &[u8], partition: Partition, first: u64, last: u64, hashes: &[u8]) -> [u8; 32] {
    let mut sha = Sha256::new();
    part(&mut sha, before);
    part(&mut sha, &small(partition).to_be_bytes());
    part(&mut sha, &first.to_be_bytes());
    part(&mut sha, &last.to_be_bytes());
    part(&mut sha, hashes);
    sha.finalize().into()
}

fn part(sha: &mut Sha256, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("Postgres holds no value of 4 GiB");
    sha.update(length.to_be_bytes());
    sha.update(bytes);
}

/// An instant as Postgres sends it: microseconds since 2000.
fn postgres_micros(instant: Instant) -> i64 {
    const SINCE_1970: i64 = 946_684_800_000_000;
    instant.timestamp_micros() - SINCE_1970
}

/// Bytes as hexadecimal digits in JSON.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}
