//! An event as it stands in the log.

use domain::Instant;
use domain::aggregate::{StreamId, Version};
use domain::event::Event;
use domain::position::Position;
use serde::{Deserialize, Serialize};

/// An event with its place and circumstances.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Where it stands.
    pub at: Position,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its number within the stream, from 1.
    pub sequence: Version,
    /// When it was recorded. Never decreases within a partition.
    pub recorded_at: Instant,
    /// Who, why, from where.
    pub metadata: Metadata,
    /// What happened.
    pub event: Event,
}

/// The circumstances of an event. Stored as a flat map of strings, as postgres-es wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The command that led to it.
    pub command: String,
    /// The command's name: `BookAppointment`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operation: String,
    /// What all commands and events of one cause share.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub correlation: String,
    /// The event or command that caused the command, if it was not a person.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub causation: String,
    /// The trace of the request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub trace: String,
    /// Who asked: `account:<id>`, `system:<name>` or `anonymous`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub actor: String,
    /// The roles the actor's token carried, with commas between.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub roles: String,
    /// IP address and user agent, sealed; [`crate::EventLog::open_origin`] opens it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub origin: String,
}

/// Where a command came from, opened for an auditor.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpenedOrigin {
    /// The address it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<std::net::IpAddr>,
    /// What the client called itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

impl std::fmt::Debug for OpenedOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OpenedOrigin(…)")
    }
}
