//! What the log does not tell: refused sign-ins, refused refreshes, forbidden commands, on their way to the audit trail.
//!
//! Whatever happened is an event, and the projector `audit` takes it from the log. What was refused leaves no event, so
//! the handler that refuses it notes it here. For example a wrong password:
//!
//! ```
//! # use http_kit::audit::{AuditSink, Noted};
//! # use http_kit::origin::{RequestOrigin, TraceId};
//! # let (audit, _notes) = AuditSink::new();
//! # let origin = RequestOrigin { trace: TraceId::mint(), ip: None, user_agent: None, locale: Default::default() };
//! # let account = None;
//! audit.note(Noted::refused("SignIn", &origin).of(account).because("invalid-credentials"));
//! ```
//!
//! Noting never waits and never fails: notes stand in a bounded queue until the writer (`app/src/audit.rs`) puts them
//! into Postgres. When the queue is full, notes are dropped and counted in `pontual_audit_dropped_total`: an attacker
//! can neither slow a request down nor fill the memory. A crash loses what stands in the queue, which is a second's worth.

use std::fmt;
use std::net::IpAddr;

use domain::actor::Actor;
use domain::ids::AccountId;
use tokio::sync::mpsc;

use crate::origin::RequestOrigin;

/// The most notes that wait to be written.
pub const QUEUE: usize = 4096;

/// Something worth an auditor's look that left no event.
#[derive(Clone, PartialEq, Eq)]
pub struct Noted {
    /// Who did it, or whose account it was tried on.
    pub account: Option<AccountId>,
    /// Who asked: `anonymous`, or `account:<id>` once [`Noted::by`] said so.
    pub actor: String,
    /// The command's name: `SignIn`.
    pub action: &'static str,
    /// On what: `account/<id>`, `session/<id>`, or a route such as `PUT /api/users/{id}/roles/{role}`.
    pub resource: Option<String>,
    /// From where.
    pub ip: Option<IpAddr>,
    /// By which program.
    pub user_agent: Option<String>,
    /// The request's trace, as in `Pontual-Trace`.
    pub trace: String,
    /// Whether it was done.
    pub success: bool,
    /// Why not: a problem's slug, such as `invalid-credentials`. Never what somebody sent.
    pub reason: &'static str,
}

impl Noted {
    /// An action that was refused. `action` is the command's name, its operationId.
    pub fn refused(action: &'static str, origin: &RequestOrigin) -> Self {
        Self {
            account: None,
            actor: Actor::Anonymous.label(),
            action,
            resource: None,
            ip: origin.ip,
            user_agent: origin.user_agent.clone(),
            trace: origin.trace.to_string(),
            success: false,
            reason: "",
        }
    }

    /// Who tried, or whose account it was tried on; `None` if nobody has it.
    #[must_use]
    pub fn of(mut self, account: impl Into<Option<AccountId>>) -> Self {
        self.account = account.into();
        self
    }

    /// Who tried, signed in.
    #[must_use]
    pub fn by(mut self, actor: &Actor) -> Self {
        self.actor = actor.label();
        let account = actor.account();
        self.of(account)
    }

    /// On what it was tried. Ids and routes only: nothing personal, no token.
    #[must_use]
    pub fn on(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Why it was refused: a problem's slug. Never what somebody sent.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Self {
        self.reason = reason;
        self
    }
}

/// Addresses and programs are personal, and are not printed.
impl fmt::Debug for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noted")
            .field("account", &self.account)
            .field("action", &self.action)
            .field("resource", &self.resource)
            .field("success", &self.success)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// Where handlers note things. Cheap to clone.
#[derive(Clone)]
pub struct AuditSink(Option<mpsc::Sender<Noted>>);

impl AuditSink {
    /// A sink, and what takes the notes out of it.
    pub fn new() -> (Self, Notes) {
        Self::with_room_for(QUEUE)
    }

    /// A sink with room for so many notes.
    pub fn with_room_for(notes: usize) -> (Self, Notes) {
        let (sender, receiver) = mpsc::channel(notes);
        (Self(Some(sender)), Notes(receiver))
    }

    /// A sink that keeps nothing.
    pub const fn nowhere() -> Self {
        Self(None)
    }

    /// Notes something. Returns at once; a note for which there is no room is dropped and counted.
    pub fn note(&self, noted: Noted) {
        let Some(sender) = &self.0 else { return };
        if sender.try_send(noted).is_err() {
            dropped(1);
        }
    }
}

impl fmt::Debug for AuditSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditSink(…)")
    }
}

/// Counts notes that were lost.
pub fn dropped(notes: u64) {
    metrics::counter!("pontual_audit_dropped_total").increment(notes);
}

/// The other end of an [`AuditSink`].
#[derive(Debug)]
pub struct Notes(mpsc::Receiver<Noted>);

impl Notes {
    /// Waits for notes and gives all there are, at most so many. Empty when every sink is gone.
    pub async fn next(&mut self, at_most: usize) -> Vec<Noted> {
        let mut batch = Vec::new();
        self.0.recv_many(&mut batch, at_most).await;
        batch
    }

    /// What is there now, without waiting; at most so many.
    pub fn rest(&mut self, at_most: usize) -> Vec<Noted> {
        std::iter::from_fn(|| self.0.try_recv().ok()).take(at_most).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::TraceId;

    fn origin() -> RequestOrigin {
        RequestOrigin {
            trace: TraceId::mint(),
            ip: Some("203.0.113.9".parse().unwrap()),
            user_agent: Some("a browser".to_owned()),
            locale: Default::default(),
        }
    }

    #[tokio::test]
    async fn a_full_queue_drops_notes_and_never_waits() {
        let (sink, mut notes) = AuditSink::with_room_for(2);
        for _ in 0..5 {
            sink.note(Noted::refused("SignIn", &origin()).because("invalid-credentials"));
        }
        assert_eq!(notes.next(10).await.len(), 2);
        sink.note(Noted::refused("SignIn", &origin()));
        assert_eq!(notes.rest(10).len(), 1);
        drop(sink);
        assert_eq!(notes.next(10).await, []);
    }

    #[test]
    fn a_note_is_printed_without_address_and_program() {
        let text = format!("{:?}", Noted::refused("SignIn", &origin()).on("account/1"));
        assert!(text.contains("SignIn") && text.contains("account/1"), "{text}");
        assert!(!text.contains("203.0.113.9") && !text.contains("browser"), "{text}");
    }
}
