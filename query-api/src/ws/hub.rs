//! The hub: from hints to the sockets that watch.
//!
//! Each socket has a [`Mailbox`]: not a queue of messages but the set of its topics that have news. A topic
//! that gets a thousand hints while the socket is busy is there once, so a mailbox is bounded by the number
//! of the socket's subscriptions. The session empties it and reads what is new from its own offset.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use domain::ids::AccountId;
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

/// The most open sockets of one account in one process: many tabs and devices, and no more than one person has.
pub const MOST_PER_ACCOUNT: usize = 32;

/// All sockets of this process.
pub struct Hub {
    watchers: Mutex<HashMap<Topic, HashMap<u64, Arc<Mailbox>>>>,
    /// How many sockets each account has; those that have none are not in it.
    accounts: Mutex<HashMap<AccountId, usize>>,
    next: AtomicU64,
    open: AtomicUsize,
    /// Rung when the last one has left.
    emptied: Notify,
    most: usize,
}

impl Hub {
    /// A hub for at most so many sockets.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            watchers: Mutex::default(),
            accounts: Mutex::default(),
            next: AtomicU64::new(1),
            open: AtomicUsize::new(0),
            emptied: Notify::new(),
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
            account: None,
        })
    }

    /// Waits until no socket is open: each has been told goodbye, or is gone.
    pub async fn emptied(&self) {
        loop {
            // Before the look, so that a ring in between is heard.
            let rung = self.emptied.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            rung.await;
        }
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
    account: Option<AccountId>,
}

impl Seat {
    /// Counts the socket as this account's; `false` if that has [`MOST_PER_ACCOUNT`] already. A socket changes its account
    /// never, and is counted once.
    pub fn belongs_to(&mut self, account: AccountId) -> bool {
        if self.account.is_some() {
            return true;
        }
        let mut accounts = self.hub.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let open = accounts.entry(account).or_default();
        if *open >= MOST_PER_ACCOUNT {
            return false;
        }
        *open += 1;
        self.account = Some(account);
        true
    }

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
        drop(watchers);
        if let Some(account) = self.account {
            let mut accounts = self.hub.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(open) = accounts.get_mut(&account) {
                *open -= 1;
                if *open == 0 {
                    accounts.remove(&account);
                }
            }
        }
        metrics::gauge!("pontual_sockets_open").decrement(1.0);
        if self.hub.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.hub.emptied.notify_waiters();
        }
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

    #[tokio::test]
    async fn an_account_has_so_many_sockets_and_a_place_that_is_left_is_free_again() {
        let hub = Hub::new(1000);
        let account = |n| Mint::new([n; 32]).id::<AccountId>(RoutingSlot::from_bits(1), 0);
        let enter = |n| {
            let mut seat = hub.enter().unwrap();
            seat.belongs_to(account(n)).then_some(seat)
        };
        let mut seats: Vec<_> = (0..MOST_PER_ACCOUNT).map(|_| enter(1).unwrap()).collect();
        assert!(enter(1).is_none());
        assert!(enter(2).is_some(), "one account's sockets are no other's");
        assert!(seats[0].belongs_to(account(1)), "it is counted already");
        seats.pop();
        seats.push(enter(1).unwrap());
        assert!(enter(1).is_none());
        drop(seats);
        assert!(hub.accounts.lock().unwrap().is_empty());
        hub.emptied().await;
    }

    #[tokio::test]
    async fn the_hub_is_empty_once_the_last_socket_has_left() {
        let hub = Hub::new(2);
        let (first, second) = (hub.enter().unwrap(), hub.enter().unwrap());
        let waiting = tokio::spawn({
            let hub = hub.clone();
            async move { hub.emptied().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        tokio::time::timeout(std::time::Duration::from_secs(5), waiting).await.unwrap().unwrap();
    }
}
