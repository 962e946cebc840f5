//! Mails about accounts: confirm your address, choose a new password, your password was changed, …
//!
//! For example `PasswordResetRequested` at 2:17 orders the job `ResetPasswordMail` with the ids of account and request,
//! in the transaction that moves this reactor's checkpoint; the worker renders it. A crash before the commit
//! orders it again, after it not: the job's id is made of the event's place.

use async_trait::async_trait;
use domain::account::AccountEvent;
use domain::event::Event;
use domain::ids::{AccountId, Id, RoutingSlot, shape};
use domain::position::Partition;
use event_log::{EventLog, Recorded, checkpoints};

use crate::jobs::{self, NewJob, Priority, Task};
use crate::runner::{ApplyError, Batch, Projector};

/// The reactor.
pub struct AccountMails {
    log: EventLog,
}

impl AccountMails {
    /// Its name.
    pub const NAME: &'static str = "mails";

    /// Jobs go into the log's database.
    pub fn new(log: EventLog) -> Self {
        Self { log }
    }
}

#[async_trait]
impl Projector for AccountMails {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn document(&self, event: &Recorded) -> Option<String> {
        task(event).map(|_| event.stream.to_string())
    }

    async fn position(&self, partition: Partition) -> Result<u64, ApplyError> {
        Ok(checkpoints::get(self.log.pool(), Self::NAME, partition).await?)
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        let jobs: Vec<NewJob> = batch
            .events
            .iter()
            .filter_map(|event| {
                Some(NewJob {
                    id: job_id(event),
                    task: task(event)?,
                    priority: Priority::High,
                    run_at: event.recorded_at,
                })
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

fn task(event: &Recorded) -> Option<Task> {
    let Event::Account(account_event) = &event.event else { return None };
    let account = AccountId::trusted(event.stream.id);
    match account_event {
        AccountEvent::AccountRegistered { .. } => Some(Task::ConfirmEmailMail { account }),
        AccountEvent::RegistrationAttempted {} => Some(Task::RegistrationAttemptMail { account }),
        AccountEvent::EmailChangeRequested { change, .. } => {
            Some(Task::ConfirmNewEmailMail { account, change: *change })
        }
        AccountEvent::EmailChanged { .. } => {
            Some(Task::EmailChangedMail { account, number: event.at.number })
        }
        AccountEvent::PasswordResetRequested { reset, .. } => {
            Some(Task::ResetPasswordMail { account, reset: *reset })
        }
        AccountEvent::PasswordReset {} | AccountEvent::PasswordChanged {} => {
            Some(Task::PasswordChangedMail { account })
        }
        AccountEvent::AccountDeactivated { .. } => Some(Task::AccountDeactivatedMail { account }),
        // Once the key is gone nobody could be written to.
        AccountEvent::AccountErased { .. }
        | AccountEvent::EmailConfirmed {}
        | AccountEvent::ProfileChanged { .. }
        | AccountEvent::PhotoChanged { .. }
        | AccountEvent::PhotoRemoved { .. }
        | AccountEvent::RoleGranted { .. }
        | AccountEvent::RoleRevoked { .. }
        | AccountEvent::SessionsEnded {}
        | AccountEvent::AccountReactivated {} => None,
    }
}

/// The same event always orders the same job: its place in the log is in the id.
fn job_id(event: &Recorded) -> uuid::Uuid {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&event.stream.id.as_bytes()[..6]);
    bytes[8..].copy_from_slice(&event.at.number.to_be_bytes());
    // The top two bits of byte 8 are the variant; no log has 2^62 events in a partition.
    shape(bytes, RoutingSlot::of(event.stream.id))
}

/// Whether a job of this reactor was ordered by an event of this account: 48 random bits and the slot say so.
pub(crate) fn mail_is_of(job: uuid::Uuid, account: AccountId) -> bool {
    job.as_bytes()[..6] == account.uuid().as_bytes()[..6] && RoutingSlot::of(job) == account.slot()
}
