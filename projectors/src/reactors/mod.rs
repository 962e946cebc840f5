//! The reactor: events that order a job. A rebuild never runs it again; its checkpoint only moves forward.
//!
//! For example `PasswordResetRequested` at 2:17 orders the job `ResetPasswordMail` with the ids of account and request, in
//! the transaction that moves the checkpoint; the worker does it. A crash before the commit orders it again, after it not:
//! the job's id is made of the event's place.

mod account_mails;
mod erasures;
mod guests;
mod holds;
mod photo_files;
mod waitlist;

use async_trait::async_trait;
use domain::ids::{AccountId, AppointmentId, Id, RoutingSlot, shape};
use domain::position::Partition;
use event_log::{EventLog, Recorded, checkpoints};
use uuid::Uuid;

use crate::jobs::{self, NewJob, Priority, Task};
use crate::runner::{ApplyError, Batch, Projector};

/// What an event orders, if anything.
type Reaction = fn(&Recorded) -> Option<(Task, Priority)>;

/// Each orders at most one job of an event. Its place in the list is in the ids of its jobs: add at the end.
const REACTIONS: [Reaction; 6] = [
    account_mails::order,
    photo_files::order,
    erasures::order,
    guests::order,
    holds::order,
    waitlist::order,
];
/// Where mails to guests stand in that list.
const GUESTS: u8 = 3;

/// The reactor.
pub struct JobOrders {
    log: EventLog,
}

impl JobOrders {
    /// Its name.
    pub const NAME: &'static str = "job-orders";

    /// Jobs go into the log's database.
    pub fn new(log: EventLog) -> Self {
        Self { log }
    }
}

#[async_trait]
impl Projector for JobOrders {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn document(&self, event: &Recorded) -> Option<String> {
        orders(event).next().map(|_| event.stream.to_string())
    }

    fn is_awaited(&self) -> bool {
        false
    }

    async fn position(&self, partition: Partition) -> Result<u64, ApplyError> {
        Ok(checkpoints::get(self.log.pool(), Self::NAME, partition).await?)
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        let orders: Vec<NewJob> = batch.events.iter().flat_map(|event| orders(event)).collect();
        let mut transaction = Batch::begin(&self.log).await?;
        erasures::begin(&mut transaction, &orders).await?;
        jobs::insert(&mut transaction, &orders, self.log.clock().now()).await?;
        batch.advance(&mut transaction, Self::NAME).await?;
        transaction.commit().await?;
        Ok(())
    }
}

fn orders(event: &Recorded) -> impl Iterator<Item = NewJob> + '_ {
    (0..).zip(REACTIONS).filter_map(|(nth, reaction)| {
        let (task, priority) = reaction(event)?;
        let run_at = task.due().unwrap_or(event.recorded_at);
        Some(NewJob { id: job_id(event, nth), task, priority, run_at })
    })
}

/// The same event always orders the same job: its place in the log is in the id.
fn job_id(event: &Recorded, nth: u8) -> Uuid {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&event.stream.id.as_bytes()[..6]);
    bytes[0] ^= nth;
    bytes[8..].copy_from_slice(&event.at.number.to_be_bytes());
    // The top two bits of byte 8 are the variant; no log has 2^62 events in a partition.
    shape(bytes, RoutingSlot::of(event.stream.id))
}

/// Whether a job is a mail that was ordered by an event of this account: 48 random bits and the slot say so.
pub(crate) fn mail_is_of(job: Uuid, account: AccountId) -> bool {
    is_ordered_by(job, account.uuid(), 0)
}

/// The same of a guest, whose one appointment's events order them.
pub(crate) fn guests_mail_is_of(job: Uuid, appointment: AppointmentId) -> bool {
    is_ordered_by(job, appointment.uuid(), GUESTS)
}

fn is_ordered_by(job: Uuid, stream: Uuid, nth: u8) -> bool {
    let (job_bytes, stream_bytes) = (job.as_bytes(), stream.as_bytes());
    job_bytes[0] == stream_bytes[0] ^ nth
        && job_bytes[1..6] == stream_bytes[1..6]
        && RoutingSlot::of(job) == RoutingSlot::of(stream)
}
