//! Events → the audit trail, in the transaction that moves the checkpoint.
//!
//! Every event of an account or a session is a line: `SessionStarted` at 3:18, caused by `SignIn`, becomes the row `3:18`
//! with the address and program its command came from. Bookings and shops are no security events; the log tells theirs.
//! What was refused leaves no event and is noted by the command side (`http-kit/src/audit.rs`).
//!
//! Addresses are sealed in the log. An erased person's cannot be opened any more, so a rebuild does not bring them back.
//! A crash leaves neither rows nor checkpoint.

use async_trait::async_trait;
use domain::account::AccountEvent;
use domain::actor::Role;
use domain::aggregate::StreamKind;
use domain::event::Event;
use domain::ids::{AccountId, Id};
use domain::position::Partition;
use domain::session::SessionEvent;
use event_log::{EventLog, Recorded, checkpoints};
use read_models::audit::{self, AuditRow};
use serde_json::{Map, Value};

use crate::runner::{ApplyError, Batch, Projector};

/// The projector.
pub struct AuditTrail {
    log: EventLog,
}

impl AuditTrail {
    /// Its name, and that of its checkpoint.
    pub const NAME: &'static str = "audit";

    /// The trail is in the log's database.
    pub fn new(log: EventLog) -> Self {
        Self { log }
    }

    async fn row(&self, recorded: &Recorded) -> Result<AuditRow, ApplyError> {
        let origin = self.log.open_origin(recorded).await?.unwrap_or_default();
        let metadata = &recorded.metadata;
        let (event, _) = recorded.event.kind();
        let mut details = Map::from_iter([("event".to_owned(), Value::from(event))]);
        details.extend(more(&recorded.event).map(|(name, value)| (name.to_owned(), value.into())));
        if !metadata.trace.is_empty() {
            details.insert("trace".to_owned(), metadata.trace.clone().into());
        }
        let or = |text: &str, otherwise: &str| {
            if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
        };
        Ok(AuditRow {
            id: recorded.at.to_string(),
            at: recorded.recorded_at,
            account: who(recorded),
            actor: or(&metadata.actor, "anonymous"),
            action: or(&metadata.operation, event),
            resource: Some(resource(recorded)),
            ip: origin.ip,
            user_agent: origin.user_agent,
            success: done(&recorded.event),
            details,
        })
    }
}

#[async_trait]
impl Projector for AuditTrail {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn document(&self, event: &Recorded) -> Option<String> {
        is_audited(event).then(|| event.at.to_string())
    }

    fn is_awaited(&self) -> bool {
        false
    }

    async fn position(&self, partition: Partition) -> Result<u64, ApplyError> {
        Ok(checkpoints::get(self.log.pool(), Self::NAME, partition).await?)
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        let mut rows = Vec::new();
        for event in batch.events.iter().filter(|event| is_audited(event)) {
            rows.push(self.row(event).await?);
        }
        let mut transaction = Batch::begin(&self.log).await?;
        audit::insert(&mut transaction, &rows).await?;
        batch.advance(&mut transaction, Self::NAME).await?;
        transaction.commit().await?;
        Ok(())
    }
}

fn is_audited(event: &Recorded) -> bool {
    matches!(event.stream.kind, StreamKind::Account | StreamKind::Session)
}

/// `account/<id>` or `session/<id>`.
fn resource(recorded: &Recorded) -> String {
    let kind = recorded.stream.kind.as_str().to_ascii_lowercase();
    format!("{kind}/{}", recorded.stream.id)
}

/// Who did it; where nobody was signed in, the account it was done on. Somebody who tries to register with another's
/// address is not that other person.
fn who(recorded: &Recorded) -> Option<AccountId> {
    if let Some(id) = recorded.metadata.actor.strip_prefix("account:") {
        return id.parse().ok();
    }
    if recorded.metadata.actor.starts_with("system:") || !done(&recorded.event) {
        return None;
    }
    if let Event::Session(
        SessionEvent::SessionStarted { account, .. } | SessionEvent::SessionEnded { account, .. },
    ) = &recorded.event
    {
        return Some(*account);
    }
    (recorded.stream.kind == StreamKind::Account).then(|| AccountId::trusted(recorded.stream.id))
}

/// Whether what was asked for was done.
fn done(event: &Event) -> bool {
    !matches!(event, Event::Account(AccountEvent::RegistrationAttempted {}))
}

/// What else an auditor asks for. Nothing personal.
fn more(event: &Event) -> impl Iterator<Item = (&'static str, &'static str)> {
    let role = |role: &Role| Some(("role", role.as_str()));
    let found = if let Event::Account(
        AccountEvent::RoleGranted { role: changed } | AccountEvent::RoleRevoked { role: changed },
    ) = event
    {
        role(changed)
    } else if let Event::Session(SessionEvent::SessionEnded { account: _, reason }) = event {
        Some(("reason", reason.as_str()))
    } else {
        None
    };
    found.into_iter()
}
