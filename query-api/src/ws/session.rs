//! One socket, from handshake to close.
//!
//! A session authenticates, subscribes, and then sends what is new: it keeps an offset per subscription,
//! and whenever its mailbox rings it reads what lies behind that offset. Hints may be lost or doubled
//! without harm; a slow beat looks at everything anyway. For example a provider's session hears
//! `Notifications(account) up to 3:18`, reads the feed behind 3:17, sends one notification, and keeps 3:18.
//!
//! A crash loses the socket, never a message: the client comes back with its last offset.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use chrono::NaiveDate;
use domain::Instant;
use domain::ids::{AccountId, ProviderId, SessionId};
use domain::position::PositionToken;
use domain::provider::Provider;
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use http_kit::auth::Verified;
use read_models::fanout::Topic;
use read_models::notifications::FeedError;
use read_models::paging::PageLimit;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::budget::Budget;
use super::hub::{News, Seat};
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
/// The most subscriptions of one socket.
const MAX_SUBSCRIPTIONS: usize = 32;
/// Notifications read at a time.
const PAGE: u16 = 100;

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

/// A running session.
pub(super) struct Session {
    state: QueryState,
    seat: Seat,
    out: SplitSink<WebSocket, Message>,
    identity: Option<Identity>,
    /// The offset of the notifications, once subscribed.
    notifications: Option<PositionToken>,
    /// The days watched: their topics and the offset of each.
    days: HashMap<Day, (Vec<Topic>, PositionToken)>,
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
            budget: Budget::default(),
        };
        let closing = tokio::select! {
            closing = session.serve(&mut incoming) => closing,
            () = stop.cancelled() => Some(Closing::Restart),
        };
        if let Some(closing) = closing {
            let (code, reason) = closing.code();
            let frame = CloseFrame { code, reason: reason.into() };
            let _ = timeout(CLOSE_WITHIN, session.out.send(Message::Close(Some(frame)))).await;
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
            let ended = tokio::select! {
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
                () = mailbox.rung() => {
                    let news = mailbox.take();
                    self.catch_up(&news).await
                }
                _ = ask.tick() => self.still_signed_in(),
                _ = beat.tick() => self.look_at_everything().await,
                _ = ping.tick() => {
                    if heard.elapsed() > SILENCE {
                        Err(Closing::Silent)
                    } else if self.identity.is_none() && opened.elapsed() > AUTHENTICATE_WITHIN {
                        Err(Closing::Unauthenticated)
                    } else {
                        self.push(Message::Ping(Vec::new().into())).await
                    }
                }
                () = self.expiry(opened) => Err(Closing::Unauthenticated),
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
                let topic = Topic::Notifications { account: identity.account };
                self.seat.unwatch(&topic);
                self.seat.watch(topic);
                let offset = match after {
                    Some(offset) => self.known(&offset),
                    None => match self.state.feed.applied_all().await {
                        Ok(offset) => offset,
                        Err(_) => {
                            return self
                                .refuse("unavailable", "notifications are away; try again")
                                .await;
                        }
                    },
                };
                self.send(&ServerMessage::Subscribed {
                    topic: "notifications",
                    provider: None,
                    day: None,
                    offset: &offset,
                })
                .await?;
                self.notifications = Some(offset);
                self.catch_up_notifications().await
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
                let Some(span) = domain::slots::local_day_span(loaded.state.schedule.zone, day)
                else {
                    return self
                        .refuse("not-found", "the provider's time zone has no such day")
                        .await;
                };
                let watched = Day { provider, day };
                self.forget(watched);
                let days = span.utc_days().into_iter().map(Some).chain([None]);
                let topics: Vec<_> =
                    days.map(|day| Topic::Availability { provider, day }).collect();
                topics.iter().for_each(|topic| self.seat.watch(*topic));
                let now = self.state.newest_change(&topics).await;
                let offset = after.map_or_else(|| now.clone(), |after| self.known(&after));
                self.send(&ServerMessage::Subscribed {
                    topic: "availability",
                    provider: Some(provider),
                    day: Some(day),
                    offset: &offset,
                })
                .await?;
                let missed = now.positions().any(|at| at.number > offset.number(at.partition));
                self.days.insert(watched, (topics, offset));
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
        let Some((topics, _)) = self.days.remove(&day) else { return };
        for topic in topics {
            if !self.days.values().any(|(others, _)| others.contains(&topic)) {
                self.seat.unwatch(&topic);
            }
        }
    }

    /// Sends what is new on the topics that have news.
    async fn catch_up(&mut self, news: &HashMap<Topic, News>) -> Result<(), Closing> {
        if news.keys().any(|topic| matches!(topic, Topic::Notifications { .. })) {
            self.catch_up_notifications().await?;
        }
        let mut changed: HashMap<Day, PositionToken> = HashMap::new();
        for (day, (topics, offset)) in &self.days {
            for topic in topics {
                let up_to: PositionToken = match news.get(topic) {
                    None => continue,
                    Some(News::UpTo(position)) => PositionToken::from_iter([*position]),
                    Some(News::Perhaps) => {
                        self.state.newest_change(std::slice::from_ref(topic)).await
                    }
                };
                for position in
                    up_to.positions().filter(|at| at.number > offset.number(at.partition))
                {
                    changed.entry(*day).or_default().raise(position);
                }
            }
        }
        for (day, up_to) in changed {
            self.tell_changed(day, up_to).await?;
        }
        Ok(())
    }

    async fn look_at_everything(&mut self) -> Result<(), Closing> {
        let topics = self.days.values().flat_map(|(topics, _)| topics.iter().copied());
        let mut news: HashMap<Topic, News> = topics.map(|topic| (topic, News::Perhaps)).collect();
        if let Some(Identity { account, .. }) = self.identity {
            news.insert(Topic::Notifications { account }, News::Perhaps);
        }
        self.catch_up(&news).await
    }

    async fn catch_up_notifications(&mut self) -> Result<(), Closing> {
        let (Some(identity), Some(mut offset)) = (self.identity, self.notifications.take()) else {
            return Ok(());
        };
        let sent = self.send_notifications(identity.account, &mut offset).await;
        self.notifications = Some(offset);
        sent
    }

    async fn send_notifications(
        &mut self,
        account: AccountId,
        offset: &mut PositionToken,
    ) -> Result<(), Closing> {
        let limit = PageLimit::new(PAGE).unwrap_or_default();
        loop {
            // A batch that is being written may show its later notifications first. What is applied is whole, and
            // an offset must not pass what is not there yet; so this is read before, and nothing beyond it sent.
            let read = async {
                let applied = self.state.feed.applied_all().await?;
                Ok::<_, FeedError>((applied, self.state.feed.after(account, offset, limit).await?))
            };
            let (applied, page) = match read.await {
                Ok(read) => read,
                Err(error) => {
                    // The beat comes back to it.
                    tracing::debug!(%error, "notifications could not be read for a socket");
                    return Ok(());
                }
            };
            let mut sent = false;
            for notification in &page {
                let at = notification.content.at;
                if at.number > applied.number(at.partition) {
                    continue;
                }
                offset.raise(at);
                sent = true;
                let body = NotificationBody::from(notification);
                self.send(&ServerMessage::Notification { offset, notification: &body }).await?;
            }
            if !sent || page.len() < usize::from(PAGE) {
                return Ok(());
            }
        }
    }

    async fn tell_changed(&mut self, day: Day, up_to: PositionToken) -> Result<(), Closing> {
        let Some((_, offset)) = self.days.get_mut(&day) else { return Ok(()) };
        up_to.positions().for_each(|position| offset.raise(position));
        let offset = offset.clone();
        let Day { provider, day } = day;
        self.send(&ServerMessage::AvailabilityChanged { provider, day, offset: &offset }).await
    }

    /// A client's offset, less what the log has no partition for.
    fn known(&self, offset: &PositionToken) -> PositionToken {
        let count = self.state.log.partitions().get();
        offset.positions().filter(|at| at.partition.0 < count).collect()
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
