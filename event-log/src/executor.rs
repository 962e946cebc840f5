//! Runs commands.

use std::collections::BTreeMap;
use std::net::IpAddr;

use domain::Refusal;
use domain::actor::Actor;
use domain::aggregate::{StreamId, Version};
use domain::command::Command;
use domain::position::PositionToken;
use thiserror::Error;

use crate::{EventLog, LogError};

/// Runs commands: load, authorize, decide, append, and again if something moved.
#[derive(Clone)]
pub struct Executor {
    log: EventLog,
}

/// Where a command comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who asks.
    pub actor: Actor,
    /// The client's key for retries.
    pub idempotency: Option<Idempotency>,
    /// What all commands and events of one cause share; the trace if `None`.
    pub correlation: Option<String>,
    /// The event that caused this command, if a reactor sends it.
    pub causation: Option<String>,
    /// The trace id of the request.
    pub trace: String,
    /// The client's address. Sealed before it is stored.
    pub ip: Option<IpAddr>,
    /// What the client calls itself. Sealed before it is stored.
    pub user_agent: Option<String>,
}

impl Origin {
    /// Of this actor and trace, with nothing else known.
    pub fn of(actor: Actor, trace: impl Into<String>) -> Self {
        Self {
            actor,
            idempotency: None,
            correlation: None,
            causation: None,
            trace: trace.into(),
            ip: None,
            user_agent: None,
        }
    }
}

/// A client's key for retries, and what was asked with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// The `Idempotency-Key`.
    pub key: String,
    /// SHA-256 of method, path and body. It is keyed again before it is stored.
    pub fingerprint: [u8; 32],
}

/// A command that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed<O> {
    /// The command's answer.
    pub outcome: O,
    /// Where its events are; empty if there was nothing to do.
    pub positions: PositionToken,
    /// The versions of the streams it wrote to.
    pub versions: BTreeMap<StreamId, Version>,
    /// Whether this is the stored answer of an earlier attempt.
    pub replayed: bool,
}

/// Why a command has no outcome.
#[derive(Debug, Error)]
pub enum ExecuteError {
    /// It may not, or cannot, be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The idempotency key was used for something else.
    #[error("the idempotency key was used for another command")]
    KeyReused,
    /// Too many want the same thing at once, or it did not settle in time. Try again later.
    #[error("too busy")]
    Busy,
    /// Postgres does not answer. Try again later, with the same key.
    #[error("the log cannot be reached")]
    Unavailable(#[source] LogError),
    /// A bug, or a broken database.
    #[error("the command failed")]
    Internal(#[source] LogError),
}

impl Executor {
    /// Runs commands against this log.
    pub fn new(log: EventLog) -> Self {
        Self { log }
    }

    /// The log.
    pub fn log(&self) -> &EventLog {
        &self.log
    }

    /// Runs a command. Once its append is under way it is finished even if the caller goes away.
    pub async fn execute<C: Command>(
        &self,
        _command: C,
        _origin: Origin,
    ) -> Result<Executed<C::Outcome>, ExecuteError> {
        todo!()
    }
}
