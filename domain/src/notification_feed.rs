//! NotificationFeed: which of their notifications an account has read (`S0-19`).
//!
//! The notifications themselves are read models of other streams; this one only records what its owner
//! marked. Marks are set union and a rising instant, so they commute with the notifications they are about.

use serde::{Deserialize, Serialize};

use crate::account::signed_in;
use crate::aggregate::{Aggregate, Context, StreamKind, aggregate};
use crate::appointment::Parties;
use crate::command::{Command, Stop, Target, View};
use crate::ids::{AccountId, NotificationFeedId};
use crate::position::Position;
use crate::{Instant, Refusal};

/// What an account has read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NotificationFeed {
    /// Marked one by one, the latest [`NotificationFeed::REMEMBERED`]; so that marking twice adds no event.
    pub read: Vec<Position>,
    /// Everything recorded up to here is read.
    pub all_read_until: Option<Instant>,
}

impl NotificationFeed {
    /// How many single marks are remembered.
    pub const REMEMBERED: usize = 200;
}

/// What can be asked of a feed.
#[derive(Debug, Clone, PartialEq)]
pub enum NotificationFeedCommand {
    /// Mark one notification.
    MarkRead(Position),
    /// Mark all that were recorded until then.
    MarkAllRead(Instant),
}

/// What happened to a feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum NotificationFeedEvent {
    /// One was read.
    NotificationRead {
        /// Whose feed.
        account: AccountId,
        /// The position of the event the notification is of.
        notification: Position,
    },
    /// All up to an instant were read.
    AllNotificationsRead {
        /// Whose feed.
        account: AccountId,
        /// Everything recorded until then.
        until: Instant,
    },
}

aggregate!(NotificationFeed(NotificationFeedId), AddressedFeedCommand => NotificationFeedEvent {
    NotificationRead = "1",
    AllNotificationsRead = "1",
});

/// A command and whose feed it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct AddressedFeedCommand {
    /// Whose feed.
    pub account: AccountId,
    /// What to do.
    pub command: NotificationFeedCommand,
}

impl Aggregate for NotificationFeed {
    type Id = NotificationFeedId;
    const KIND: StreamKind = StreamKind::NotificationFeed;

    fn decide(
        &self,
        AddressedFeedCommand { account, command }: AddressedFeedCommand,
        _: &Context,
    ) -> Result<Vec<NotificationFeedEvent>, Refusal> {
        Ok(match command {
            NotificationFeedCommand::MarkRead(notification)
                if self.read.contains(&notification) =>
            {
                vec![]
            }
            NotificationFeedCommand::MarkRead(notification) => {
                vec![NotificationFeedEvent::NotificationRead { account, notification }]
            }
            NotificationFeedCommand::MarkAllRead(until) if self.all_read_until >= Some(until) => {
                vec![]
            }
            NotificationFeedCommand::MarkAllRead(until) => {
                vec![NotificationFeedEvent::AllNotificationsRead { account, until }]
            }
        })
    }

    fn evolve(&mut self, event: &NotificationFeedEvent) {
        match event {
            NotificationFeedEvent::NotificationRead { account: _, notification } => {
                if self.read.len() == Self::REMEMBERED {
                    self.read.remove(0);
                }
                self.read.push(*notification);
            }
            NotificationFeedEvent::AllNotificationsRead { account: _, until } => {
                self.all_read_until = self.all_read_until.max(Some(*until));
            }
        }
    }
}

/// Mark one of the actor's own notifications as read.
#[derive(Debug, Clone)]
pub struct MarkNotificationRead {
    /// The notification: the position of the event it is of.
    pub notification: Position,
    /// Whom that event concerns; `None` if the log has no such event, or it concerns nobody. A mark must not lie in
    /// wait for what is not written yet.
    pub concerns: Option<Parties>,
}

/// Mark all of the actor's notifications as read.
#[derive(Debug, Clone)]
pub struct MarkAllNotificationsRead {
    /// How far the log had come when it was asked for, by the log's own clock: what is recorded later was not seen.
    pub until: Instant,
}

/// The marks are made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Marked {}

impl Command for MarkNotificationRead {
    const NAME: &'static str = "MarkNotificationRead";
    type Outcome = Marked;

    fn target(&self, view: &View<'_>) -> Target {
        own_feed(view)
    }

    /// Whom the event concerns; to everybody else there is no such notification.
    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        let account = signed_in(view.actor())?;
        match self.concerns {
            Some(parties) if parties.include(account) => Ok(()),
            Some(_) | None => Err(Refusal::NotFound("notification").into()),
        }
    }

    fn decide(&self, view: &View<'_>) -> Result<Marked, Stop> {
        mark(view, NotificationFeedCommand::MarkRead(self.notification))
    }
}

impl Command for MarkAllNotificationsRead {
    const NAME: &'static str = "MarkAllNotificationsRead";
    type Outcome = Marked;

    fn target(&self, view: &View<'_>) -> Target {
        own_feed(view)
    }

    fn authorize(&self, view: &View<'_>) -> Result<(), Stop> {
        signed_in(view.actor())?;
        Ok(())
    }

    fn decide(&self, view: &View<'_>) -> Result<Marked, Stop> {
        mark(view, NotificationFeedCommand::MarkAllRead(self.until))
    }
}

/// An anonymous actor is refused by `authorize`; its target is never stored.
fn own_feed(view: &View<'_>) -> Target {
    match view.actor().account() {
        Some(account) => Target::stream::<NotificationFeed>(NotificationFeedId::of(account)),
        None => Target::named(view.mint().slot(), "nobody".to_owned()),
    }
}

fn mark(view: &View<'_>, command: NotificationFeedCommand) -> Result<Marked, Stop> {
    let account = signed_in(view.actor())?;
    view.decide::<NotificationFeed>(
        NotificationFeedId::of(account),
        AddressedFeedCommand { account, command },
    )?;
    Ok(Marked {})
}
