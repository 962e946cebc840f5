//! One socket, from handshake to close.
//!
//! A session authenticates, subscribes, and then sends what is new: it keeps an offset per subscription,
//! and whenever its mailbox rings it reads what lies behind that offset. Hints may be lost or doubled
//! without harm; a slow beat looks at everything anyway. For example a provider's session hears
//! `Notifications(account) up to 3:18`, reads the feed behind 3:17, sends one notification, and keeps 3:18.
//!
//! Between any two things it does it hears its client first: whoever has a thousand notifications to catch up with can
//! still renew a token, and is not taken for dead.
//!
//! A crash loses the socket, never a message: the client comes back with its last offset.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use chrono::NaiveDate;
use domain::Instant;
use domain::ids::{AccountId, ProviderId, SessionId};
use domain::position::{Position, PositionToken};
use domain::provider::Provider;
use event_log::LogError;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use http_kit::auth::Verified;
use read_models::fanout::Topic;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::budget::Budget;
use super::changes;
use super::hub::{News, Seat};
use super::notifications::Place;
use super::protocol::{ClientMessage, Closing, ServerMessage, WatchedTopic};
use crate::QueryState;
use crate::notifications::NotificationBody;

/// A socket must authenticate within this time.
const AUTHENTICATE_WITHIN: Duration = Duration::from_secs(10);
/// Between two pings.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Silence after which a socket is taken for dead.
const SILENCE: Duration = Duration::from_secs(60);
/// A client that takes longer to read one message is too slow.
const SEND_WITHIN: Duration = Duration::from_secs(10);
/// How long saying goodbye may take: to one that is too slow it does not get through anyway.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// How often it is asked whether the session still is: with the follower's 250 ms, a socket closes within 5 s.
const ASK: Duration = Duration::from_secs(2);
/// Even without a hint, everything is looked at this often.
const BEAT: Duration = Duration::from_secs(15);
/// When everybody is told to look at everything, not everybody does so at once, but spread over this time.
const SPREAD: Duration = Duration::from_secs(2);
/// The most subscriptions of one socket.
const MAX_SUBSCRIPTIONS: usize = 32;

/// Who a socket is.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// The account.
    pub account: AccountId,
    /// The session its token was issued to.
    pub session: SessionId,
    /// The generation of the account's credentials in its token.
    pub generation: u32,
    /// Until when its token holds.
    pub expires_at: Instant,
}

impl Identity {
    /// Whom a token proves.
    pub(crate) fn of(verified: &Verified) -> Self {
        let Verified { actor: _, account, session, generation, expires_at } = *verified;
        Self { account, session, generation, expires_at }
    }
}

/// A provider's local day that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Day {
    provider: ProviderId,
    day: NaiveDate,
}

/// How a local day is watched.
struct Watch {
    /// What can change it.
    topics: Vec<Topic>,
    /// What the client was told.
    offset: PositionToken,
    /// The provider's last event when the topics were worked out, by its number.
    as_of: u64,
}

/// A running session.
pub(super) struct Session {
    state: QueryState,
    seat: Seat,
    out: SplitSink<WebSocket, Message>,
    identity: Option<Identity>,
    /// The place in the notifications, once subscribed.
    notifications: Option<Place>,
    /// The days watched.
    days: HashMap<Day, Watch>,
    /// When to look at everything, if everybody was told to.
    look: Option<tokio::time::Instant>,
    budget: Budget,
}

impl Session {
    /// Runs a socket to its end.
    pub(super) async fn run(
        state: QueryState,
        socket: WebSocket,
        seat: Seat,
        identity: Option<Identity>,
    ) {
        let (out, mut incoming) = socket.split();
        let stop = state.stop.clone();
        let mut session = Self {
            state,
            seat,
            out,
            identity,
            notifications: None,
            days: HashMap::new(),
            look: None,
            budget: Budget::default(),
        };
        let closing = tokio::select! {
            closing = session.serve(&mut incoming) => closing,
            () = stop.cancelled() => Some(Closing::Restart),
        };
        if let Some(closing) = closing {
            let (code, reason) = closing.code();
            let frame = CloseFrame { code, reason: reason.into() };
            let goodbye = async {
                session.out.send(Message::Close(Some(frame))).await?;
                // Up to the client's own goodbye: what is left unread when a connection is closed resets it, and the
                // client may not get to read why.
                while let Some(Ok(_)) = incoming.next().await {}
                Ok::<(), axum::Error>(())
            };
            let _ = timeout(CLOSE_WITHIN, goodbye).await;
        }
    }

    /// Serves until the client leaves (`None`) or has to.
    async fn serve(
        &mut self,
        incoming: &mut futures_util::stream::SplitStream<WebSocket>,
    ) -> Option<Closing> {
        if let Some(Identity { account, expires_at, session: _, generation: _ }) = self.identity
            && let Err(closing) =
                self.send(&ServerMessage::Authenticated { account, expires_at }).await
        {
            return Some(closing);
        }
        let opened = tokio::time::Instant::now();
        let mut heard = opened;
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.reset();
        let mut ask = interval(ASK);
        ask.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mailbox = self.seat.mailbox().clone();
        loop {
            let (look, behind) =
                (self.look, self.notifications.as_ref().is_some_and(Place::is_behind));
            let ended = tokio::select! {
                // What the client has said comes first, or its pongs would lie unread while it is taken for dead.
                biased;
                message = incoming.next() => {
                    heard = tokio::time::Instant::now();
                    match message {
                        None | Some(Err(_)) | Some(Ok(Message::Close(_))) => return None,
                        Some(Ok(Message::Text(text))) => self.hear(&text).await,
                        Some(Ok(Message::Binary(_))) => Err(Closing::Protocol),
                        // axum answers pings itself; too many of them are too many.
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => self.spend(),
                    }
                }
                () = self.expiry(opened) => Err(Closing::Unauthenticated),
                _ = ask.tick() => self.still_signed_in(),
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE {
                        Err(Closing::Silent)
                    } else if self.identity.is_none() && opened.elapsed() > AUTHENTICATE_WITHIN {
                        Err(Closing::Unauthenticated)
                    } else {
                        self.push(Message::Ping(Vec::new().into())).await
                    }
                }
                _ = beat.tick() => self.look_at_everything().await,
                () = tokio::time::sleep_until(look.unwrap_or(opened)), if look.is_some() => {
                    self.look_at_everything().await
                }
                () = mailbox.rung() => self.hear_news(mailbox.take()).await,
                () = std::future::ready(()), if behind => self.send_page().await,
            };
            if let Err(closing) = ended {
                return Some(closing);
            }
        }
    }

    /// Ends when the token has expired, or when it is time to have sent one.
    async fn expiry(&self, opened: tokio::time::Instant) {
        match self.identity {
            None => tokio::time::sleep_until(opened + AUTHENTICATE_WITHIN).await,
            Some(identity) => {
                let left = identity.expires_at - self.state.log.clock().now();
                tokio::time::sleep(left.to_std().unwrap_or_default()).await;
            }
        }
    }

    /// Whether the session the token belongs to has not ended meanwhile.
    fn still_signed_in(&self) -> Result<(), Closing> {
        match self.identity {
            Some(Identity { account, session, generation, expires_at: _ })
                if self.state.verifier.revocations().void(account, session, generation) =>
            {
                Err(Closing::SignedOut)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Does what the client asks.
    async fn hear(&mut self, text: &str) -> Result<(), Closing> {
        self.spend()?;
        let message: ClientMessage = serde_json::from_str(text).map_err(|_| Closing::Protocol)?;
        match message {
            ClientMessage::Ping {} => self.send(&ServerMessage::Pong {}).await,
            ClientMessage::Authenticate { token } => self.authenticate(&token).await,
            ClientMessage::Subscribe(_) | ClientMessage::Unsubscribe(_)
                if self.identity.is_none() =>
            {
                Err(Closing::Unauthenticated)
            }
            ClientMessage::Subscribe(topic) => self.subscribe(topic).await,
            ClientMessage::Unsubscribe(topic) => self.unsubscribe(topic).await,
        }
    }

    fn spend(&mut self) -> Result<(), Closing> {
        if self.budget.spend() { Ok(()) } else { Err(Closing::Protocol) }
    }

    async fn authenticate(&mut self, token: &str) -> Result<(), Closing> {
        let identity = self.state.identify(token).ok_or(Closing::Unauthenticated)?;
        // A token renews its own account's session; it does not turn the socket into somebody else's.
        if self.identity.is_some_and(|known| known.account != identity.account) {
            return Err(Closing::Unauthenticated);
        }
        if !self.seat.belongs_to(identity.account) {
            return Err(Closing::TooMany);
        }
        self.identity = Some(identity);
        let Identity { account, expires_at, session: _, generation: _ } = identity;
        self.send(&ServerMessage::Authenticated { account, expires_at }).await
    }

    async fn subscribe(&mut self, topic: WatchedTopic) -> Result<(), Closing> {
        let Some(identity) = self.identity else { return Err(Closing::Unauthenticated) };
        let again = match &topic {
            WatchedTopic::Notifications { .. } => self.notifications.is_some(),
            WatchedTopic::Availability { provider, day, .. } => {
                self.days.contains_key(&Day { provider: *provider, day: *day })
            }
        };
        let watched = self.days.len() + usize::from(self.notifications.is_some());
        if !again && watched >= MAX_SUBSCRIPTIONS {
            return self.refuse("too-many-subscriptions", "unsubscribe from something first").await;
        }
        match topic {
            WatchedTopic::Notifications { after } => {
                // Before the offset is read: what comes in between is heard of.
                let topic = Topic::Notifications { account: identity.account };
                self.seat.watch(topic);
                let offset = match &after {
                    Some(offset) => self.known_to_feed(offset).await,
                    None => self.state.feed_now().await.ok(),
                };
                let Some(offset) = offset else {
                    if self.notifications.is_none() {
                        self.seat.unwatch(&topic);
                    }
                    return self.refuse("unavailable", "notifications are away; try again").await;
                };
                self.send(&ServerMessage::Subscribed {
                    topic: "notifications",
                    provider: None,
                    day: None,
                    offset: &offset,
                })
                .await?;
                self.notifications = Some(Place::behind(offset));
                Ok(())
            }
            WatchedTopic::Availability { provider, day, after } => {
                let Ok(loaded) = self.state.log.load::<Provider>(provider).await else {
                    return self
                        .refuse("unavailable", "the provider could not be read; try again")
                        .await;
                };
                if loaded.state.shop.is_none() {
                    return self.refuse("not-found", "there is no such provider").await;
                }
                let Some(topics) = changes::topics(provider, &loaded, day) else {
                    return self
                        .refuse("not-found", "the provider's time zone has no such day")
                        .await;
                };
                let offset = match &after {
                    None => None,
                    Some(after) => match self.known(after).await {
                        Ok(offset) => Some(offset),
                        Err(_) => {
                            return self
                                .refuse("unavailable", "the log could not be read; try again")
                                .await;
                        }
                    },
                };
                let watched = Day { provider, day };
                self.forget(watched);
                topics.iter().for_each(|topic| self.seat.watch(*topic));
                let now = self.state.newest_change(&topics).await;
                let offset = offset.unwrap_or_else(|| now.clone());
                self.send(&ServerMessage::Subscribed {
                    topic: "availability",
                    provider: Some(provider),
                    day: Some(day),
                    offset: &offset,
                })
                .await?;
                let missed = now.positions().any(|at| at.number > offset.number(at.partition));
                let as_of = loaded.last.map_or(0, |last| last.number);
                self.days.insert(watched, Watch { topics, offset, as_of });
                if missed { self.tell_changed(watched, now).await } else { Ok(()) }
            }
        }
    }

    async fn unsubscribe(&mut self, topic: WatchedTopic) -> Result<(), Closing> {
        let name = match topic {
            WatchedTopic::Notifications { .. } => {
                if let Some(identity) = self.identity {
                    self.seat.unwatch(&Topic::Notifications { account: identity.account });
                }
                self.notifications = None;
                "notifications"
            }
            WatchedTopic::Availability { provider, day, .. } => {
                self.forget(Day { provider, day });
                "availability"
            }
        };
        self.send(&ServerMessage::Unsubscribed { topic: name }).await
    }

    /// Stops watching a day; a topic another watched day shares stays.
    fn forget(&mut self, day: Day) {
        if let Some(watch) = self.days.remove(&day) {
            self.unwatch(&watch.topics);
        }
    }

    fn unwatch(&mut self, topics: &[Topic]) {
        for topic in topics {
            if !self.days.values().any(|watch| watch.topics.contains(topic)) {
                self.seat.unwatch(topic);
            }
        }
    }

    /// Does what hints ask for at once, and what everybody is asked for when it is this socket's turn.
    async fn hear_news(&mut self, mut news: HashMap<Topic, News>) -> Result<(), Closing> {
        let all = news.len();
        news.retain(|_, news| *news != News::Perhaps);
        if news.len() < all && self.look.is_none() {
            // One after the other, a prime apart.
            let spread = u64::try_from(SPREAD.as_millis()).unwrap_or(u64::MAX);
            let turn = Duration::from_millis(self.seat.number().wrapping_mul(7919) % spread);
            self.look = Some(tokio::time::Instant::now() + turn);
        }
        self.catch_up(&news).await
    }

    /// Sends what is new on the topics that have news.
    async fn catch_up(&mut self, news: &HashMap<Topic, News>) -> Result<(), Closing> {
        if news.keys().any(|topic| matches!(topic, Topic::Notifications { .. }))
            && let Some(place) = &mut self.notifications
        {
            place.wake();
        }
        let mut changed: HashMap<Day, PositionToken> = HashMap::new();
        let mut moved: HashSet<Day> = HashSet::new();
        for (day, Watch { topics, offset, as_of }) in &self.days {
            for topic in topics {
                let up_to: PositionToken = match news.get(topic) {
                    None => continue,
                    Some(News::UpTo(position)) => PositionToken::from_iter([*position]),
                    Some(News::Perhaps) => {
                        self.state.newest_change(std::slice::from_ref(topic)).await
                    }
                };
                let of_provider = matches!(topic, Topic::Availability { day: None, .. });
                for position in up_to.positions() {
                    if of_provider && position.number > *as_of {
                        moved.insert(*day);
                    }
                    if position.number > offset.number(position.partition) {
                        changed.entry(*day).or_default().raise(position);
                    }
                }
            }
        }
        for day in moved {
            for position in self.watch_again(day).await.positions() {
                changed.entry(day).or_default().raise(position);
            }
        }
        for (day, up_to) in changed {
            self.tell_changed(day, up_to).await?;
        }
        Ok(())
    }

    /// Works out anew what to watch for a day, as its provider's zone or buffers may be others now. What has changed
    /// of it that the client was not told; nothing if the log is away, and then the beat comes back to it.
    async fn watch_again(&mut self, day: Day) -> PositionToken {
        let loaded = match self.state.provider_now(day.provider).await {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::debug!(%error, "a provider could not be read for a socket");
                return PositionToken::default();
            }
        };
        // On a date its zone has skipped there is nothing to be had, until it moves once more.
        let provider = Topic::Availability { provider: day.provider, day: None };
        let topics =
            changes::topics(day.provider, &loaded, day.day).unwrap_or_else(|| vec![provider]);
        topics.iter().for_each(|topic| self.seat.watch(*topic));
        let Some(watch) = self.days.get_mut(&day) else { return PositionToken::default() };
        watch.as_of = loaded.last.map_or(0, |last| last.number);
        let before = std::mem::replace(&mut watch.topics, topics.clone());
        let offset = watch.offset.clone();
        self.unwatch(&before);
        let now = self.state.newest_change(&topics).await;
        now.positions().filter(|at| at.number > offset.number(at.partition)).collect()
    }

    async fn look_at_everything(&mut self) -> Result<(), Closing> {
        self.look = None;
        let topics = self.days.values().flat_map(|watch| watch.topics.iter().copied());
        let mut news: HashMap<Topic, News> = topics.map(|topic| (topic, News::Perhaps)).collect();
        if let Some(Identity { account, .. }) = self.identity {
            news.insert(Topic::Notifications { account }, News::Perhaps);
        }
        self.catch_up(&news).await
    }

    /// Sends the next page of notifications, if the token still holds.
    async fn send_page(&mut self) -> Result<(), Closing> {
        let (Some(identity), Some(mut place)) = (self.identity, self.notifications.take()) else {
            return Ok(());
        };
        if identity.expires_at <= self.state.log.clock().now() {
            return Err(Closing::Unauthenticated);
        }
        let sent = self.send_page_from(identity.account, &mut place).await;
        self.notifications = Some(place);
        sent
    }

    async fn send_page_from(
        &mut self,
        account: AccountId,
        place: &mut Place,
    ) -> Result<(), Closing> {
        let page = match self.state.next_page(account, place).await {
            Ok(page) => page,
            Err(error) => {
                // The beat comes back to it.
                tracing::debug!(%error, "notifications could not be read for a socket");
                place.rest();
                return Ok(());
            }
        };
        for notification in &page.notifications {
            if place.take(notification.content.at, &page) {
                let body = NotificationBody::from(notification);
                let offset = place.offset();
                self.send(&ServerMessage::Notification { offset, notification: &body }).await?;
            }
        }
        place.turn(&page);
        Ok(())
    }

    async fn tell_changed(&mut self, day: Day, up_to: PositionToken) -> Result<(), Closing> {
        let Some(watch) = self.days.get_mut(&day) else { return Ok(()) };
        up_to.positions().for_each(|position| watch.offset.raise(position));
        let offset = watch.offset.clone();
        let Day { provider, day } = day;
        self.send(&ServerMessage::AvailabilityChanged { provider, day, offset: &offset }).await
    }

    /// A client's offset, as far as the log goes: from beyond its head nobody was told anything, unless it was another
    /// log, and whoever waited there would not hear of what comes next.
    async fn known(&self, offset: &PositionToken) -> Result<PositionToken, LogError> {
        Ok(at_most(offset, &self.state.log.heads().await?))
    }

    /// The same of the notifications.
    async fn known_to_feed(&self, offset: &PositionToken) -> Option<PositionToken> {
        let mut ends = self.state.log.heads().await.ok()?;
        self.state.feed.applied_all().await.ok()?.positions().for_each(|at| ends.raise(at));
        Some(at_most(offset, &ends))
    }

    async fn refuse(&mut self, problem: &'static str, detail: &str) -> Result<(), Closing> {
        self.send(&ServerMessage::Error { problem, detail }).await
    }

    async fn send(&mut self, message: &ServerMessage<'_>) -> Result<(), Closing> {
        self.push(Message::Text(message.text().into())).await
    }

    async fn push(&mut self, message: Message) -> Result<(), Closing> {
        match timeout(SEND_WITHIN, self.out.send(message)).await {
            Ok(Ok(())) => Ok(()),
            // The client is gone: the read side ends the session.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(Closing::TooSlow),
        }
    }
}

/// An offset, nowhere beyond these ends.
fn at_most(offset: &PositionToken, ends: &PositionToken) -> PositionToken {
    let known = offset.positions().map(|at| {
        let number = at.number.min(ends.number(at.partition));
        Position { number, ..at }
    });
    known.filter(|at| at.number > 0).collect()
}
