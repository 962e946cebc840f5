//! Photos that are shown no longer: their files go.
//!
//! `PhotoChanged` at 2:17 that replaced another photo, `PhotoRemoved` and `AccountErased` order the job `DeletePhoto`, in the
//! transaction that moves this reactor's checkpoint. A crash before the commit orders it again, after it not: the job's id
//! is made of the event's place.

use async_trait::async_trait;
use domain::account::AccountEvent;
use domain::event::Event;
use domain::ids::{AccountId, Id, PhotoId, RoutingSlot, shape};
use domain::position::Partition;
use event_log::{EventLog, Recorded, checkpoints};

use crate::jobs::{self, NewJob, Priority, Task};
use crate::runner::{ApplyError, Batch, Projector};

/// The reactor.
pub struct PhotoFiles {
    log: EventLog,
}

impl PhotoFiles {
    /// Its name.
    pub const NAME: &'static str = "files";

    /// Jobs go into the log's database.
    pub fn new(log: EventLog) -> Self {
        Self { log }
    }
}

#[async_trait]
impl Projector for PhotoFiles {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn document(&self, event: &Recorded) -> Option<String> {
        gone(event).map(|_| event.stream.to_string())
    }

    async fn position(&self, partition: Partition) -> Result<u64, ApplyError> {
        Ok(checkpoints::get(self.log.pool(), Self::NAME, partition).await?)
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        let jobs: Vec<NewJob> = batch
            .events
            .iter()
            .filter_map(|event| {
                let account = AccountId::trusted(event.stream.id);
                let task = Task::DeletePhoto { account, photo: gone(event)? };
                let id = job_id(event);
                Some(NewJob { id, task, priority: Priority::Low, run_at: event.recorded_at })
            })
            .collect();
        let mut transaction = self.log.pool().begin().await?;
        jobs::insert(&mut transaction, &jobs, self.log.clock().now()).await?;
        if let Some(to) = batch.checkpoint {
            let name = Self::NAME;
            checkpoints::advance(
                &mut transaction,
                name,
                batch.partition,
                to.from,
                to.to,
                batch.lease,
            )
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// The photo that is shown no longer.
fn gone(event: &Recorded) -> Option<PhotoId> {
    let Event::Account(event) = &event.event else { return None };
    match event {
        AccountEvent::PhotoChanged { photo: _, replaced } => *replaced,
        AccountEvent::PhotoRemoved { photo } => Some(*photo),
        AccountEvent::AccountErased { photo } => *photo,
        AccountEvent::AccountRegistered { .. }
        | AccountEvent::RegistrationAttempted {}
        | AccountEvent::EmailConfirmed {}
        | AccountEvent::ProfileChanged { .. }
        | AccountEvent::EmailChangeRequested { .. }
        | AccountEvent::EmailChanged { .. }
        | AccountEvent::PasswordResetRequested { .. }
        | AccountEvent::PasswordReset {}
        | AccountEvent::PasswordChanged {}
        | AccountEvent::RoleGranted { .. }
        | AccountEvent::RoleRevoked { .. }
        | AccountEvent::SessionsEnded {}
        | AccountEvent::AccountDeactivated { .. }
        | AccountEvent::AccountReactivated {} => None,
    }
}

/// The same event always orders the same job, and another reactor's job of that event is another.
fn job_id(event: &Recorded) -> uuid::Uuid {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&event.stream.id.as_bytes()[..6]);
    bytes[0] ^= 0xff;
    bytes[8..].copy_from_slice(&event.at.number.to_be_bytes());
    shape(bytes, RoutingSlot::of(event.stream.id))
}
