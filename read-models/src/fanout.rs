//! Fan-out: telling every serving process that something its sockets watch has changed.
//!
//! A [`Hint`] says "topic T has news up to position p:n" and nothing else. It is published after the read
//! model has committed, so whoever reads because of it sees the news. Hints may be lost or doubled: sessions
//! keep their own offset and read from it, and a subscriber that lagged or reconnected is told
//! [`Wake::Everything`]. For example a booking yields `Notifications(provider's account)` and
//! `Availability(provider, day)`.
//!
//! A subscription that is silent may be dead: a firewall forgets a connection without telling either end. So it is
//! asked for a sign of life now and then, on the very connection the hints come over.
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
use thiserror::Error;
use tokio::sync::broadcast;
use tokio::time::timeout;

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
/// How long to wait before subscribing to Redis again, more or less.
const RECONNECT: Duration = Duration::from_millis(500);

/// How a subscription is kept alive.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// How long connecting and subscribing may take, each.
    connect: Duration,
    /// Between two questions for a sign of life.
    beat: Duration,
    /// How long the answer may take: with [`Self::beat`] a dead connection is noticed within 30 s.
    answer: Duration,
}

const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(2),
    beat: Duration::from_secs(10),
    answer: Duration::from_secs(20),
};

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
        Self::start_with(client, channel, PATIENCE)
    }

    fn start_with(
        client: redis::Client,
        channel: &str,
        patience: Patience,
    ) -> redis::RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT))
            .set_number_of_retries(1);
        let publisher = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        let fanout =
            Self { publisher, channel: channel.into(), wakes: broadcast::channel(BACKLOG).0 };
        tokio::spawn(listen(client, fanout.channel.clone(), fanout.wakes.downgrade(), patience));
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
async fn listen(
    client: redis::Client,
    channel: Arc<str>,
    wakes: broadcast::WeakSender<Wake>,
    patience: Patience,
) {
    loop {
        if let Err(error) = listen_once(&client, &channel, &wakes, patience).await {
            tracing::warn!(%error, "the fan-out subscription was lost; trying again");
        }
        if wakes.upgrade().is_none() {
            return;
        }
        // Not all processes at once.
        tokio::time::sleep(RECONNECT.mul_f64(0.5 + rand::random::<f64>())).await;
    }
}

/// Why a subscription ended.
#[derive(Debug, Error)]
enum Lost {
    #[error("Redis cannot be subscribed to: {0}")]
    Redis(#[from] redis::RedisError),
    #[error("Redis does not answer")]
    Silent(#[from] tokio::time::error::Elapsed),
}

async fn listen_once(
    client: &redis::Client,
    channel: &str,
    wakes: &broadcast::WeakSender<Wake>,
    patience: Patience,
) -> Result<(), Lost> {
    let mut subscription = timeout(patience.connect, client.get_async_pubsub()).await??;
    timeout(patience.connect, subscription.subscribe(channel)).await??;
    if let Some(wakes) = wakes.upgrade() {
        let _ = wakes.send(Wake::Everything);
    }
    let (mut sink, mut messages) = subscription.split();
    let hear = async {
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
    };
    let beat = async {
        while wakes.strong_count() > 0 {
            tokio::time::sleep(patience.beat).await;
            let _: redis::Value = timeout(patience.answer, sink.ping()).await??;
        }
        Ok(())
    };
    tokio::select! {
        ended = hear => ended,
        ended = beat => ended,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::testing::{id, position, server, unique};

    const QUICK: Patience = Patience {
        connect: Duration::from_millis(500),
        beat: Duration::from_millis(100),
        answer: Duration::from_millis(500),
    };

    /// A way to Redis on which connections can die without a word.
    #[derive(Default)]
    struct Way {
        opened: AtomicUsize,
        /// Whether connections are let in and never heard of again.
        swallows: AtomicBool,
    }

    async fn lay(way: Arc<Way>) -> SocketAddr {
        let url = server("TEST_REDIS_URL");
        let redis = url.trim_start_matches("redis://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (here, _) = listener.accept().await.unwrap();
                way.opened.fetch_add(1, Ordering::SeqCst);
                let there = TcpStream::connect(&redis).await.unwrap();
                let (read_here, write_here) = here.into_split();
                let (read_there, write_there) = there.into_split();
                tokio::spawn(carry(read_here, write_there, way.clone()));
                tokio::spawn(carry(read_there, write_here, way.clone()));
            }
        });
        address
    }

    /// Carries bytes; one that has begun to swallow goes on swallowing.
    async fn carry(
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
        way: Arc<Way>,
    ) {
        let (mut buffer, mut dead) = ([0; 4096], false);
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            dead |= way.swallows.load(Ordering::SeqCst);
            if !dead && to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }

    async fn next(wakes: &mut broadcast::Receiver<Wake>) -> Wake {
        timeout(Duration::from_secs(20), wakes.recv()).await.expect("a wake in time").unwrap()
    }

    #[tokio::test]
    async fn a_subscription_that_died_without_a_word_is_noticed_and_everybody_looks() {
        let way = Arc::new(Way::default());
        let client = redis::Client::open(format!("redis://{}", lay(way.clone()).await)).unwrap();
        let fanout = RedisFanout::start_with(client, &unique("hints"), QUICK).unwrap();
        let mut wakes = fanout.subscribe();
        assert_eq!(next(&mut wakes).await, Wake::Everything, "it has just subscribed");
        // As long as it answers it is left alone, for however many beats.
        tokio::time::sleep(QUICK.beat * 10).await;
        let hint = Hint { topic: Topic::Notifications { account: id(7) }, at: position(3, 18) };
        fanout.publish(&[hint]).await;
        assert_eq!(next(&mut wakes).await, Wake::Hint(hint));

        way.swallows.store(true, Ordering::SeqCst);
        let opened = way.opened.load(Ordering::SeqCst);
        // It tries anew, is let in and not answered, and tries again.
        while way.opened.load(Ordering::SeqCst) < opened + 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        way.swallows.store(false, Ordering::SeqCst);
        assert_eq!(next(&mut wakes).await, Wake::Everything);
    }
}
