//! Push: from committed read models to open sockets, as hints.
//!
//! A hint is published after the read model it is about has committed, so that a client that refetches
//! sees what it was told. Where fan-out is shared (Redis) the projector that wrote publishes, see
//! [`crate::read_models`]. Where it is in process, every serving process has this stage: it tails the log,
//! waits until the notification feed has come as far, and tells its own sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::event::Event;
use domain::ids::{Id, ProviderId};
use domain::position::Partition;
use event_log::{EventLog, Recorded};
use read_models::fanout::{Fanout, Hint, Topic};
use read_models::notifications::NotificationFeed;

use crate::read_models::notifications::recipients;
use crate::runner::{ApplyError, Batch, Projector};

/// How often the feed's position is looked at while a hint waits for it.
const LOOK: Duration = Duration::from_millis(10);
/// After this long a hint is published anyway: sessions read from their own offset.
const WAIT: Duration = Duration::from_secs(5);

/// The hints about notifications that some events lead to.
pub fn notification_hints(events: &[&Recorded]) -> Vec<Hint> {
    events
        .iter()
        .flat_map(|event| {
            recipients(event)
                .into_iter()
                .map(|account| Hint { topic: Topic::Notifications { account }, at: event.at })
        })
        .collect()
}

/// The hints about availability that some events lead to.
pub fn availability_hints(events: &[&Recorded]) -> Vec<Hint> {
    let topic = |event: &Recorded| match &event.event {
        Event::Agenda(event) => {
            let (provider, day) = event.whose();
            Some(Topic::Availability { provider, day: Some(day) })
        }
        Event::Provider(_) => {
            let provider = ProviderId::trusted(event.stream.id);
            Some(Topic::Availability { provider, day: None })
        }
        Event::Account(_)
        | Event::Appointment(_)
        | Event::NotificationFeed(_)
        | Event::Session(_)
        | Event::Category(_)
        | Event::Hold(_)
        | Event::Series(_)
        | Event::Waitlist(_) => None,
    };
    events.iter().filter_map(|event| Some(Hint { topic: topic(event)?, at: event.at })).collect()
}

/// The push stage of a process whose fan-out is its own.
pub struct NotificationPush {
    feed: Arc<dyn NotificationFeed>,
    fanout: Arc<dyn Fanout>,
    positions: LocalPositions,
}

impl NotificationPush {
    /// Starts at the log's heads: what was before, no socket of this process has to be told.
    pub async fn new(
        log: &EventLog,
        feed: Arc<dyn NotificationFeed>,
        fanout: Arc<dyn Fanout>,
    ) -> Result<Self, event_log::LogError> {
        Ok(Self { feed, fanout, positions: LocalPositions::at_heads(log).await? })
    }
}

#[async_trait]
impl Projector for NotificationPush {
    fn name(&self) -> &'static str {
        "notification-push"
    }

    fn document(&self, event: &Recorded) -> Option<String> {
        (!recipients(event).is_empty()).then(|| event.at.to_string())
    }

    fn parks(&self) -> bool {
        false
    }

    async fn position(&self, partition: Partition) -> Result<u64, ApplyError> {
        Ok(self.positions.get(partition))
    }

    async fn apply(&self, batch: &Batch<'_>) -> Result<(), ApplyError> {
        let hints = notification_hints(&batch.events);
        if let Some(last) = batch.events.last() {
            let deadline = tokio::time::Instant::now() + WAIT;
            while tokio::time::Instant::now() < deadline {
                match self.feed.applied(batch.partition).await {
                    Ok(applied) if applied >= last.at.number => break,
                    Ok(_) | Err(_) => tokio::time::sleep(LOOK).await,
                }
            }
        }
        self.fanout.publish(&hints).await;
        if let Some(to) = batch.checkpoint {
            self.positions.set(batch.partition, to.to);
        }
        Ok(())
    }
}

/// The checkpoints of a projector whose read model lives and dies with the process.
pub struct LocalPositions(Vec<AtomicU64>);

impl LocalPositions {
    /// Every partition at its head.
    pub async fn at_heads(log: &EventLog) -> Result<Self, event_log::LogError> {
        let heads = log.heads().await?;
        Ok(Self(log.partitions().all().map(|p| AtomicU64::new(heads.number(p))).collect()))
    }

    /// Where a partition stands.
    pub fn get(&self, partition: Partition) -> u64 {
        self.0[usize::from(partition.0)].load(Ordering::Acquire)
    }

    /// Moves a partition.
    pub fn set(&self, partition: Partition, number: u64) {
        self.0[usize::from(partition.0)].store(number, Ordering::Release);
    }
}
