//! The hub: from hints to the sockets that watch.
//!
//! Each socket has a [`Mailbox`]: not a queue of messages but the set of its topics that have news. A topic
//! that gets a thousand hints while the socket is busy is there once, so a mailbox is bounded by the number
//! of the socket's subscriptions. The session empties it and reads what is new from its own offset.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use domain::position::Position;
use read_models::fanout::{Fanout, Topic, Wake};
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;

/// What a mailbox knows of a topic's news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// There is something up to this position.
    UpTo(Position),
    /// There may be something.
    Perhaps,
}

/// A socket's topics that have news.
#[derive(Debug, Default)]
pub struct Mailbox {
    news: Mutex<HashMap<Topic, News>>,
    bell: Notify,
}

impl Mailbox {
    /// Notes news of a topic and rings.
    pub fn note(&self, topic: &Topic, news: News) {
        let mut all = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(*topic)
            .and_modify(|known| {
                if let (News::UpTo(old), News::UpTo(new)) = (*known, news) {
                    *known = News::UpTo(old.max(new));
                } else {
                    *known = News::Perhaps;
                }
            })
            .or_insert(news);
        drop(all);
        self.bell.notify_one();
    }

    /// Waits until there is news.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Takes all there is.
    pub fn take(&self) -> HashMap<Topic, News> {
        std::mem::take(&mut *self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// All sockets of this process.
pub struct Hub {
    watchers: Mutex<HashMap<Topic, HashMap<u64, Arc<Mailbox>>>>,
    next: AtomicU64,
    open: AtomicUsize,
    most: usize,
}

impl Hub {
    /// A hub for at most so many sockets.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            watchers: Mutex::default(),
            next: AtomicU64::new(1),
            open: AtomicUsize::new(0),
            most,
        })
    }

    /// Hands hints to mailboxes for as long as the hub lives.
    pub fn listen(self: &Arc<Self>, fanout: &dyn Fanout) {
        let mut wakes = fanout.subscribe();
        let hub = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                let wake = match wakes.recv().await {
                    Ok(wake) => wake,
                    Err(RecvError::Lagged(_)) => Wake::Everything,
                    Err(RecvError::Closed) => return,
                };
                let Some(hub) = hub.upgrade() else { return };
                hub.wake(wake);
            }
        });
    }

    /// Lets a socket in, unless there are too many.
    pub fn enter(self: &Arc<Self>) -> Option<Seat> {
        let taken = self.open.fetch_add(1, Ordering::Relaxed);
        if taken >= self.most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        metrics::gauge!("pontual_sockets_open").increment(1.0);
        Some(Seat {
            hub: self.clone(),
            id: self.next.fetch_add(1, Ordering::Relaxed),
            mailbox: Arc::default(),
            topics: HashSet::new(),
        })
    }

    fn wake(&self, wake: Wake) {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        match wake {
            Wake::Hint(hint) => {
                for mailbox in watchers.get(&hint.topic).into_iter().flat_map(HashMap::values) {
                    mailbox.note(&hint.topic, News::UpTo(hint.at));
                }
            }
            Wake::Everything => {
                for (topic, sockets) in &*watchers {
                    sockets.values().for_each(|mailbox| mailbox.note(topic, News::Perhaps));
                }
            }
        }
    }
}

/// A socket's place in the hub; leaving gives it back.
pub struct Seat {
    hub: Arc<Hub>,
    id: u64,
    mailbox: Arc<Mailbox>,
    topics: HashSet<Topic>,
}

impl Seat {
    /// How many sockets came before this one: what is not to happen to all at once is spread by it.
    pub fn number(&self) -> u64 {
        self.id
    }

    /// The socket's mailbox.
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Watches a topic from now on.
    pub fn watch(&mut self, topic: Topic) {
        let mut watchers = self.hub.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.entry(topic).or_default().insert(self.id, self.mailbox.clone());
        self.topics.insert(topic);
    }

    /// Watches it no longer.
    pub fn unwatch(&mut self, topic: &Topic) {
        let mut watchers = self.hub.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        remove(&mut watchers, topic, self.id);
        self.topics.remove(topic);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut watchers = self.hub.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        self.topics.iter().for_each(|topic| remove(&mut watchers, topic, self.id));
        self.hub.open.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("pontual_sockets_open").decrement(1.0);
    }
}

fn remove(watchers: &mut HashMap<Topic, HashMap<u64, Arc<Mailbox>>>, topic: &Topic, id: u64) {
    if let Some(sockets) = watchers.get_mut(topic) {
        sockets.remove(&id);
        if sockets.is_empty() {
            watchers.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::{AccountId, Mint, RoutingSlot};

    use super::*;

    #[tokio::test]
    async fn a_topic_that_is_watched_twice_is_watched_once_and_left_at_once() {
        let hub = Hub::new(1);
        let mut seat = hub.enter().unwrap();
        let account: AccountId = Mint::new([1; 32]).id(RoutingSlot::from_bits(1), 0);
        let topic = Topic::Notifications { account };
        for _ in 0..3 {
            seat.watch(topic);
        }
        assert_eq!(seat.topics.len(), 1);
        seat.unwatch(&topic);
        assert!(seat.topics.is_empty() && hub.watchers.lock().unwrap().is_empty());
        seat.watch(topic);
        drop(seat);
        assert!(hub.watchers.lock().unwrap().is_empty());
    }
}
