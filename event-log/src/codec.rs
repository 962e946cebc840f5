//! Between an event in memory and its row: JSON, sealing, upcasting. There is one way in and one way out.
//!
//! `AppointmentBooked`, for example, is written as JSON, its two personal values are sealed with the
//! client's data key, and the text is stored as it is; read back, the boxes are opened (or marked erased)
//! and the text is parsed.

use std::collections::BTreeSet;

use domain::Instant;
use domain::aggregate::{StreamId, StreamKind, Version};
use domain::event::Event;
use domain::position::{Partition, Position};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use thiserror::Error;
use uuid::Uuid;

use crate::sealing::{self, SealError, SubjectKeys};
use crate::upcast::{UpcastError, Upcasters};
use crate::{LogError, Metadata, Recorded};

/// Why an event could not be read or written. Says nothing of its contents.
#[derive(Debug, Error)]
pub enum CodecError {
    /// Its personal data could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// Its version is unknown.
    #[error(transparent)]
    Upcast(#[from] UpcastError),
    /// It does not have the form its type has. serde's own message might quote the data.
    #[error("the JSON of an event does not fit its type (column {column})")]
    Json {
        /// Where in the text.
        column: usize,
    },
    /// Its stream's kind is unknown.
    #[error(transparent)]
    Kind(#[from] domain::aggregate::UnknownStreamKind),
}

impl From<serde_json::Error> for CodecError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json { column: error.column() }
    }
}

/// An event's row, borrowed from the wire.
pub(crate) struct RawEvent<'a> {
    pub(crate) at: Position,
    pub(crate) stream: StreamId,
    pub(crate) sequence: Version,
    pub(crate) recorded_at: Instant,
    pub(crate) event_type: &'a str,
    pub(crate) event_version: &'a str,
    pub(crate) payload: &'a str,
    /// Empty where it was not asked for.
    pub(crate) metadata: &'a str,
}

/// The columns [`raw_event`] reads, in its order.
pub(crate) const EVENT_COLUMNS: &str = "position, sequence, recorded_at, aggregate_id, partition, \
     aggregate_type, event_type, event_version, payload, metadata";

/// A row of [`EVENT_COLUMNS`].
pub(crate) fn raw_event(row: &PgRow) -> Result<RawEvent<'_>, LogError> {
    let kind: StreamKind = row.try_get::<&str, _>(5)?.parse().map_err(CodecError::from)?;
    Ok(RawEvent {
        at: Position {
            partition: Partition(crate::from_small(row.try_get(4)?)),
            number: crate::from_big(row.try_get(0)?),
        },
        stream: StreamId { kind, id: row.try_get::<Uuid, _>(3)? },
        sequence: crate::from_big(row.try_get(1)?),
        recorded_at: row.try_get(2)?,
        event_type: row.try_get(6)?,
        event_version: row.try_get(7)?,
        // A json column's wire format is its text.
        payload: row.try_get_unchecked(8)?,
        metadata: row.try_get_unchecked(9)?,
    })
}

/// An event ready to be appended.
#[derive(Debug, Clone)]
pub(crate) struct EncodedEvent {
    pub(crate) stream: StreamId,
    pub(crate) sequence: Version,
    pub(crate) event_type: &'static str,
    pub(crate) event_version: &'static str,
    pub(crate) payload: String,
    /// As it is, for followers in this process.
    pub(crate) event: Option<Event>,
}

/// The event's JSON, personal data still in the clear.
pub(crate) fn to_json(event: &Event) -> Result<String, CodecError> {
    Ok(serde_json::to_string(event)?)
}

/// Reads events whose subjects' keys are at hand.
pub(crate) fn decode(
    raw: &RawEvent<'_>,
    keys: &SubjectKeys,
    upcasters: &Upcasters,
) -> Result<Event, CodecError> {
    let RawEvent { stream, sequence, event_type, event_version, payload, .. } = raw;
    let opened;
    let mut payload = *payload;
    if sealing::has_marker(payload) {
        opened = sealing::open(payload, *stream, keys, false)?;
        payload = &opened;
    }
    let upcast = upcasters.upcast(*stream, *sequence, event_type, event_version, payload)?;
    Ok(Event::from_payload_str(stream.kind, upcast.as_deref().unwrap_or(payload))?)
}

/// The subjects whose keys are needed to read these payloads.
pub(crate) fn subjects_of<'a>(
    payloads: impl Iterator<Item = &'a str>,
) -> Result<BTreeSet<domain::ids::SubjectId>, CodecError> {
    let mut subjects = BTreeSet::new();
    for payload in payloads {
        if sealing::has_marker(payload) {
            sealing::sealed_subjects(payload, &mut subjects)?;
        }
    }
    Ok(subjects)
}

/// The whole event, with its metadata.
pub(crate) fn recorded(raw: &RawEvent<'_>, event: Event) -> Result<Recorded, CodecError> {
    Ok(Recorded {
        at: raw.at,
        stream: raw.stream,
        sequence: raw.sequence,
        recorded_at: raw.recorded_at,
        metadata: serde_json::from_str::<Metadata>(raw.metadata)?,
        event,
    })
}
