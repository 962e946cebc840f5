//! Fan-out: telling every serving process that something its sockets watch has changed.
//!
//! A [`Hint`] says "topic T has news up to position p:n" and nothing else. It is published after the read
//! model has committed, so whoever reads because of it sees the news. Hints may be lost or doubled: sessions
//! keep their own offset and read from it, and a subscriber that lagged or reconnected is told
//! [`Wake::Everything`]. For example a booking yields `Notifications(provider's account)` and
//! `Availability(provider, day)`.
//!
//! A crash loses hints, never news: clients resume from their offset.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::NaiveDate;
use domain::ids::{AccountId, ProviderId};
use domain::position::Position;
use futures_util::StreamExt;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// What a socket may watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "topic", rename_all = "snake_case")]
pub enum Topic {
    /// An account's notifications.
    Notifications {
        /// Whose.
        account: AccountId,
    },
    /// A provider's availability: one UTC day, or all of them when hours or services changed.
    Availability {
        /// Whose.
        provider: ProviderId,
        /// Which UTC day; `None` is every day.
        day: Option<NaiveDate>,
    },
}

/// News on a topic, up to a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// On what.
    #[serde(flatten)]
    pub topic: Topic,
    /// Up to where.
    pub at: Position,
}

/// What a subscriber hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// One topic has news.
    Hint(Hint),
    /// Hints may have been missed: look at everything.
    Everything,
}

/// How many hints a slow subscriber may fall behind before it is told to look at everything.
const BACKLOG: usize = 4096;
/// How long publishing may take.
const TIMEOUT: Duration = Duration::from_millis(800);
/// How long to wait before subscribing to Redis again.
const RECONNECT: Duration = Duration::from_millis(500);

/// The fan-out port.
#[async_trait]
pub trait Fanout: Send + Sync {
    /// Tells every process. Losing a hint is allowed, so this never fails; it is logged.
    async fn publish(&self, hints: &[Hint]);

    /// What this process hears from now on.
    fn subscribe(&self) -> broadcast::Receiver<Wake>;
}

/// Fan-out within this process: fed by the process' own tail of the log.
#[derive(Debug, Clone)]
pub struct InProcessFanout {
    wakes: broadcast::Sender<Wake>,
}

impl Default for InProcessFanout {
    fn default() -> Self {
        Self { wakes: broadcast::channel(BACKLOG).0 }
    }
}

#[async_trait]
impl Fanout for InProcessFanout {
    async fn publish(&self, hints: &[Hint]) {
        for hint in hints {
            // Nobody listening is no error.
            let _ = self.wakes.send(Wake::Hint(*hint));
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }
}

/// Fan-out through a Redis channel.
#[derive(Clone)]
pub struct RedisFanout {
    publisher: ConnectionManager,
    channel: Arc<str>,
    wakes: broadcast::Sender<Wake>,
}

impl RedisFanout {
    /// Publishes to, and listens on, one channel. Connects when it is first used. The listening task ends
    /// when the last clone is dropped.
    pub fn start(client: redis::Client, channel: &str) -> redis::RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT))
            .set_number_of_retries(1);
        let publisher = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        let fanout =
            Self { publisher, channel: channel.into(), wakes: broadcast::channel(BACKLOG).0 };
        tokio::spawn(listen(client, fanout.channel.clone(), fanout.wakes.downgrade()));
        Ok(fanout)
    }
}

#[async_trait]
impl Fanout for RedisFanout {
    async fn publish(&self, hints: &[Hint]) {
        if hints.is_empty() {
            return;
        }
        let mut pipeline = redis::pipe();
        for hint in hints {
            let text = serde_json::to_string(hint).expect("a hint is plain data");
            pipeline.publish(&*self.channel, text).ignore();
        }
        if let Err(error) = pipeline.query_async::<()>(&mut self.publisher.clone()).await {
            tracing::warn!(%error, hints = hints.len(), "hints were not published; sockets catch up when Redis is back");
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<Wake> {
        self.wakes.subscribe()
    }
}

/// Keeps one subscription open; after each (re)connection everybody looks at everything, because what was
/// published meanwhile is gone.
async fn listen(client: redis::Client, channel: Arc<str>, wakes: broadcast::WeakSender<Wake>) {
    loop {
        if let Err(error) = listen_once(&client, &channel, &wakes).await {
            tracing::warn!(%error, "the fan-out subscription was lost; trying again");
        }
        if wakes.upgrade().is_none() {
            return;
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

async fn listen_once(
    client: &redis::Client,
    channel: &str,
    wakes: &broadcast::WeakSender<Wake>,
) -> redis::RedisResult<()> {
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    if let Some(wakes) = wakes.upgrade() {
        let _ = wakes.send(Wake::Everything);
    }
    let mut messages = subscription.on_message();
    while let Some(message) = messages.next().await {
        let Some(wakes) = wakes.upgrade() else { return Ok(()) };
        let wake = match serde_json::from_slice(message.get_payload_bytes()) {
            Ok(hint) => Wake::Hint(hint),
            Err(error) => {
                tracing::warn!(%error, "a message on the fan-out channel is no hint");
                Wake::Everything
            }
        };
        let _ = wakes.send(wake);
    }
    Ok(())
}
