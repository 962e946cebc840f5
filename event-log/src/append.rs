//! What goes into the log at once, and what came of it.

use std::collections::BTreeSet;

use domain::Instant;
use domain::aggregate::{StreamId, Version};
use domain::command::{ClaimKey, SecretKey};
use domain::event::Event;
use domain::ids::SubjectId;
use domain::position::PositionToken;
use thiserror::Error;
use uuid::Uuid;

use crate::{LogError, Metadata, Recorded};

/// One request: everything or nothing, in one round trip.
#[derive(Debug, Clone)]
pub struct Append {
    /// The command's row.
    pub command: CommandRow,
    /// What is written beside each event. `command` is filled in from the row.
    pub metadata: Metadata,
    /// Events per stream, with the version the stream must have. A stream stands here once.
    pub streams: Vec<StreamAppend>,
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
    /// Subjects whose data key is made in this append.
    pub new_subjects: BTreeSet<SubjectId>,
}

impl Append {
    /// A request of this command that changes nothing yet.
    pub fn new(command: CommandRow) -> Self {
        Self {
            command,
            metadata: Metadata::default(),
            streams: Vec::new(),
            required: Vec::new(),
            take: Vec::new(),
            release: Vec::new(),
            put: Vec::new(),
            drop: Vec::new(),
            new_subjects: BTreeSet::new(),
        }
    }

    /// Adds events to a stream that must have this version.
    #[must_use]
    pub fn events(mut self, stream: StreamId, expected: Version, events: Vec<Event>) -> Self {
        self.streams.push(StreamAppend { stream, expected, events });
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
    /// A new data key was asked for a subject that has one. Load it and try again.
    #[error("the subject already has a data key")]
    SubjectKnown,
    /// The subject was erased and never gets a key again.
    #[error("the subject was erased")]
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
