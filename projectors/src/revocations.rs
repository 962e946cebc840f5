//! Revocations: from sessions that ended, and credentials that were replaced, to the access tokens that are void.
//!
//! Every process that serves has this stage beside its verifier. For example Ana changes her password in one
//! process, at 3:21; the others read `PasswordChanged` from their own tail of the log, see that her account is of
//! generation 2, and refuse her tokens of generation 1; her open sockets close when they next ask.
//!
//! What is known lives and dies with the process. One that starts reads what happened within the last
//! [`KEEP`] before it serves anybody: a token that was revoked before then has expired.

use async_trait::async_trait;
use chrono::TimeDelta;
use domain::account::{Account, AccountEvent};
use domain::aggregate::StreamKind;
use domain::event::Event;
use domain::ids::{AccountId, Id, SessionId};
use domain::position::Partition;
use domain::session::SessionEvent;
use event_log::{EventLog, LogError, Recorded};
use http_kit::revocations::{KEEP, Revocations};

use crate::push::LocalPositions;
use crate::runner::{ApplyError, Batch, Projector};

/// How many events are read at a time at the start.
const PAGE: u32 = 1000;

/// Tells a process's verifier what is void.
pub struct RevocationFollower {
    log: EventLog,
    revocations: Revocations,
    positions: LocalPositions,
}

impl RevocationFollower {
    /// Starts with what was revoked within the last [`KEEP`], all of which is known when this returns.
    pub async fn new(log: &EventLog, revocations: Revocations) -> Result<Self, LogError> {
        let positions = LocalPositions::at_heads(log).await?;
        let follower = Self { log: log.clone(), revocations, positions };
        let since = TimeDelta::from_std(KEEP)
            .ok()
            .and_then(|keep| log.clock().now().checked_sub_signed(keep))
            .unwrap_or(chrono::DateTime::UNIX_EPOCH);
        for partition in log.partitions().all() {
            let mut at = log.position_before(partition, since).await?;
            let kinds = [StreamKind::Account, StreamKind::Session];
            while at < follower.positions.get(partition) {
                let events = log.tail_of(&kinds, partition, at, PAGE).await?;
                let Some(last) = events.last() else { break };
                at = last.at.number;
                for event in &events {
                    follower.note(event).await?;
                }
            }
        }
        Ok(follower)
    }

    async fn note(&self, recorded: &Recorded) -> Result<(), LogError> {
        match revoked(&recorded.event) {
            None => {}
            Some(Revoked::Session) => self.revocations.end(SessionId::trusted(recorded.stream.id)),
            Some(Revoked::Generation) => {
                let account = AccountId::trusted(recorded.stream.id);
                let loaded = self.log.load_at_least::<Account>(account, recorded.at).await?;
                self.revocations.require(account, loaded.state.generation);
            }
        }
        Ok(())
    }
}

/// What an event makes void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Revoked {
    /// The tokens of its session.
    Session,
    /// The tokens of earlier generations of its account.
    Generation,
}

fn revoked(event: &Event) -> Option<Revoked> {
    match event {
        Event::Session(SessionEvent::SessionEnded { .. }) => Some(Revoked::Session),
        Event::Account(
            AccountEvent::PasswordReset {}
            | AccountEvent::PasswordChanged {}
            | AccountEvent::RoleRevoked { .. }
            | AccountEvent::SessionsEnded {}
            | AccountEvent::AccountDeactivated { .. }
            | AccountEvent::AccountErased { .. },
        ) => Some(Revoked::Generation),
        Event::Session(SessionEvent::SessionStarted { .. })
        | Event::Account(
            AccountEvent::AccountRegistered { .. }
            | AccountEvent::RegistrationAttempted {}
            | AccountEvent::EmailConfirmed {}
            | AccountEvent::ProfileChanged { .. }
            | AccountEvent::EmailChangeRequested { .. }
            | AccountEvent::EmailChanged { .. }
            | AccountEvent::PasswordResetRequested { .. }
            | AccountEvent::PhotoChanged { .. }
            | AccountEvent::PhotoRemoved { .. }
            | AccountEvent::RoleGranted { .. }
            | AccountEvent::AccountReactivated {},
        )
        | Event::Provider(_)
        | Event::Agenda(_)
        | Event::Hold(_)
        | Event::Appointment(_)
        | Event::NotificationFeed(_)
        | Event::Category(_)
        | Event::Series(_)
        | Event::Waitlist(_) => None,
    }
}

#[async_trait]
impl Projector for RevocationFollower {
    fn name(&self) -> &'static str {
        "revocations"
    }

    fn document(&self, event: &Recorded) -> Option<String> {
        revoked(&event.event).map(|_| event.stream.to_string())
    }

    /// Nobody could tell that a revocation is missing: it is tried until it is known.
    fn parks(&self) -> bool {
        false
    }

    async fn position(&self, partition: Partition) -> Result<u64, ApplyError> {
        Ok(self.positions.get(partition))
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        for event in &batch.events {
            self.note(event).await?;
        }
        if let Some(to) = batch.checkpoint {
            self.positions.set(batch.partition, to.to);
        }
        Ok(())
    }
}
