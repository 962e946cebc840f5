//! People who were erased: what was made of the log is to be purged.
//!
//! `AccountErased` at 2:17 begins a row of `erasures` and orders the job `PurgeAccount`, in the transaction that moves this
//! reactor's checkpoint. A crash before the commit orders it again, after it not: the job's id is made of the event's
//! place.

use async_trait::async_trait;
use domain::account::AccountEvent;
use domain::event::Event;
use domain::ids::{AccountId, Id, RoutingSlot, shape};
use domain::position::Partition;
use event_log::{EventLog, Recorded, checkpoints};
use read_models::erasures;

use crate::jobs::{self, NewJob, Priority, Task};
use crate::runner::{ApplyError, Batch, Projector};

/// The reactor.
pub struct Erasures {
    log: EventLog,
}

impl Erasures {
    /// Its name.
    pub const NAME: &'static str = "erasures";

    /// Jobs go into the log's database.
    pub fn new(log: EventLog) -> Self {
        Self { log }
    }
}

#[async_trait]
impl Projector for Erasures {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn document(&self, event: &Recorded) -> Option<String> {
        erased(event).map(|_| event.stream.to_string())
    }

    async fn position(&self, partition: Partition) -> Result<u64, ApplyError> {
        Ok(checkpoints::get(self.log.pool(), Self::NAME, partition).await?)
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        let mut transaction = self.log.pool().begin().await?;
        let mut jobs = Vec::new();
        for event in &batch.events {
            let Some(account) = erased(event) else { continue };
            erasures::begin(&mut transaction, account, event.recorded_at).await?;
            let task = Task::PurgeAccount { account };
            let (id, run_at) = (job_id(event), event.recorded_at);
            jobs.push(NewJob { id, task, priority: Priority::High, run_at });
        }
        jobs::insert(&mut transaction, &jobs, self.log.clock().now()).await?;
        if let Some(to) = batch.checkpoint {
            let (name, partition, lease) = (Self::NAME, batch.partition, batch.lease);
            checkpoints::advance(&mut transaction, name, partition, to.from, to.to, lease).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Who was erased.
fn erased(event: &Recorded) -> Option<AccountId> {
    match &event.event {
        Event::Account(AccountEvent::AccountErased { photo: _ }) => {
            Some(AccountId::trusted(event.stream.id))
        }
        Event::Account(_)
        | Event::Provider(_)
        | Event::Agenda(_)
        | Event::Appointment(_)
        | Event::NotificationFeed(_)
        | Event::Session(_) => None,
    }
}

/// The same event always orders the same job, and another reactor's job of that event is another.
fn job_id(event: &Recorded) -> uuid::Uuid {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&event.stream.id.as_bytes()[..6]);
    bytes[1] ^= 0xff;
    bytes[8..].copy_from_slice(&event.at.number.to_be_bytes());
    shape(bytes, RoutingSlot::of(event.stream.id))
}
