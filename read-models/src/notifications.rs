//! The notification feed: one document per recipient and event (`S0-14`, `S0-17`), read or unread (`S0-19`).
//!
//! For example `AppointmentBooked` at `3:1042` becomes a [`NewNotification`] for the provider's account. When
//! its owner marks it, `NotificationRead` reaches the feed from the account's own partition, which may be
//! ahead of or behind partition 3: marks and content are separate fields and commute, whichever comes first.
//! "All read" is an instant that only rises; a notification recorded until then is read, even if it
//! arrives later.
//!
//! A notification's content never changes, so twice equals once without comparing positions, and nothing
//! unsets a mark. A batch's checkpoint is stored after its data, in the same store: a crash in between
//! repeats the batch. A batch that begins beyond the checkpoint is refused ([`FeedError::Gap`]), so a store
//! that lost its last writes gets them again.

#[cfg(test)]
mod contract;
mod mongo;
mod postgres;

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use domain::Instant;
use domain::hours::Zone;
use domain::ids::{AccountId, AppointmentId, HoldId, ProviderId, SubjectId};
use domain::position::{Partition, Position, PositionToken};
use domain::text::{BusinessName, PersonName, ServiceName};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::mongo::{MongoFeed, MongoOptions};
pub use self::postgres::PostgresFeed;
use crate::paging::{InvalidCursor, Page, PageLimit};

/// What a notification says. The names are stored and are what clients see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    /// To the provider: somebody booked.
    NewBooking,
    /// To the client: the provider said yes.
    BookingConfirmed,
    /// To the client: the provider said no.
    BookingDeclined,
    /// To the other side: it was called off.
    BookingCancelled,
    /// To the other side: it was moved.
    BookingRescheduled,
    /// To both: the provider did not answer in time.
    BookingExpired,
    /// To the client: it took place.
    BookingCompleted,
    /// To the client: the provider says that they did not come.
    BookingMissed,
    /// To the provider: somebody booked a series; the appointment is its first.
    NewSeries,
    /// To the client: all of their series is confirmed.
    SeriesConfirmed,
    /// To the other side: what was to come of a series was called off; the appointment is the next that will not be.
    SeriesCancelled,
    /// To who waits: a slot is held for them, for some time.
    WaitlistOffer,
}

impl NotificationKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::NewBooking,
        Self::BookingConfirmed,
        Self::BookingDeclined,
        Self::BookingCancelled,
        Self::BookingRescheduled,
        Self::BookingExpired,
        Self::BookingCompleted,
        Self::BookingMissed,
        Self::NewSeries,
        Self::SeriesConfirmed,
        Self::SeriesCancelled,
        Self::WaitlistOffer,
    ];

    /// As stored and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewBooking => "new_booking",
            Self::BookingConfirmed => "booking_confirmed",
            Self::BookingDeclined => "booking_declined",
            Self::BookingCancelled => "booking_cancelled",
            Self::BookingRescheduled => "booking_rescheduled",
            Self::BookingExpired => "booking_expired",
            Self::BookingCompleted => "booking_completed",
            Self::BookingMissed => "booking_missed",
            Self::NewSeries => "new_series",
            Self::SeriesConfirmed => "series_confirmed",
            Self::SeriesCancelled => "series_cancelled",
            Self::WaitlistOffer => "waitlist_offer",
        }
    }

    fn parse(text: &str) -> Result<Self, FeedError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or(FeedError::Corrupt { field: "kind" })
    }
}

/// What the other party is called: a person's or a shop's name. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartyName(String);

impl PartyName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&PersonName> for PartyName {
    fn from(name: &PersonName) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl From<&BusinessName> for PartyName {
    fn from(name: &BusinessName) -> Self {
        Self(name.as_str().to_owned())
    }
}

impl fmt::Debug for PartyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartyName(…)")
    }
}

/// A notification to store. All of it comes from one event, and never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewNotification {
    /// Whom it is for.
    pub recipient: AccountId,
    /// The event it is of: with the recipient, its id.
    pub at: Position,
    /// When the event was recorded.
    pub recorded_at: Instant,
    /// What it says.
    pub kind: NotificationKind,
    /// About which appointment; `None` for an offer, which is none yet.
    pub appointment: Option<AppointmentId>,
    /// Of an offer, the hold that keeps the slot.
    pub hold: Option<HoldId>,
    /// At which provider.
    pub provider: ProviderId,
    /// The other side of the appointment: an account or a guest.
    pub other: SubjectId,
    /// What they are called; `None` once erased.
    pub other_name: Option<PartyName>,
    /// What was booked; `None` once the shop's owner was erased.
    pub service_name: Option<ServiceName>,
    /// When it starts, or would have.
    pub start: Instant,
    /// When it was to start before it was moved.
    pub old_start: Option<Instant>,
    /// The provider's zone, for local times.
    pub zone: Zone,
}

/// A notification as its recipient sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// What it says.
    pub content: NewNotification,
    /// Whether its recipient has read it.
    pub read: bool,
}

/// What an account marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMark {
    /// One notification.
    One {
        /// Whose.
        recipient: AccountId,
        /// Which.
        notification: Position,
        /// When.
        at: Instant,
    },
    /// All that were recorded until then.
    All {
        /// Whose.
        recipient: AccountId,
        /// Until when, included.
        until: Instant,
    },
}

/// What one batch of events does to the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedBatch {
    /// Whose events.
    pub partition: Partition,
    /// After which event it begins: at most what the feed has applied.
    pub from: u64,
    /// Its last event.
    pub to: u64,
    /// New notifications.
    pub notifications: Vec<NewNotification>,
    /// New marks.
    pub marks: Vec<ReadMark>,
}

/// Which notifications of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    All,
    /// Those that were not read (`S0-15`).
    Unread,
}

/// How many notifications an account has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Not read; [`Counts::MOST`] means that many or more.
    pub unread: u64,
    /// Altogether; [`Counts::MOST`] means that many or more.
    pub total: u64,
}

impl Counts {
    /// Counting ends here.
    pub const MOST: u64 = 1000;
}

/// Why the feed could not be read or written.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The store cannot be reached, does not answer in time, or did not do it.
    #[error("the notification feed is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store refused some of the writes.
    #[error("the notification feed's store refused a write with code {code}")]
    Refused {
        /// The store's own code.
        code: i32,
    },
    /// A document holds what this program cannot have written.
    #[error("the field {field} of a notification holds an invalid value")]
    Corrupt {
        /// Which field.
        field: &'static str,
    },
    /// The batch begins beyond what the feed has applied: go on from there.
    #[error("the notification feed has applied {partition}:{applied} only")]
    Gap {
        /// Of which partition.
        partition: Partition,
        /// How far it is.
        applied: u64,
    },
    /// A cursor of another list, or no cursor at all.
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
}

/// Where notifications are kept: [`MongoFeed`], or [`PostgresFeed`] without MongoDB (K7).
#[async_trait]
pub trait NotificationFeed: Send + Sync + 'static {
    /// Applies a batch of the log: its data, then its checkpoint.
    async fn apply(&self, batch: FeedBatch) -> Result<(), FeedError>;

    /// Up to which event of a partition it is applied; 0 before the first.
    async fn applied(&self, partition: Partition) -> Result<u64, FeedError>;

    /// Up to which event of every partition.
    async fn applied_all(&self) -> Result<PositionToken, FeedError>;

    /// An account's notifications, the newest first: by instant, partition and number.
    async fn list(
        &self,
        recipient: AccountId,
        filter: Filter,
        cursor: Option<&str>,
        limit: PageLimit,
    ) -> Result<Page<Notification>, FeedError>;

    /// An account's notifications that a token does not cover, the oldest first: what a socket that comes back
    /// has missed. To go on, raise the token by what was given; within a partition nothing is skipped.
    async fn after(
        &self,
        recipient: AccountId,
        seen: &PositionToken,
        limit: PageLimit,
    ) -> Result<Vec<Notification>, FeedError>;

    /// How many there are.
    async fn counts(&self, recipient: AccountId) -> Result<Counts, FeedError>;

    /// Removes an account or a guest that was erased: its feed, and from the feeds of others its name and what its shops called
    /// what was booked. To be called once the feed has passed the heads recorded at the erasure, so that nothing
    /// brings them back.
    async fn purge(&self, person: SubjectId, shops: &[ProviderId]) -> Result<(), FeedError>;
}

/// The sort key of a feed, and what its cursors hold.
type FeedKey = (Instant, Partition, u64);

impl NewNotification {
    fn key(&self) -> FeedKey {
        (self.recorded_at, self.at.partition, self.at.number)
    }
}

/// A batch, one entry per document and in the documents' order, so that concurrent batches lock alike.
#[derive(Default)]
struct Folded<'b> {
    documents: BTreeMap<(AccountId, Position), Entry<'b>>,
    all_read: BTreeMap<AccountId, Instant>,
}

#[derive(Default)]
struct Entry<'b> {
    content: Option<&'b NewNotification>,
    read_at: Option<Instant>,
}

impl FeedBatch {
    fn fold(&self) -> Folded<'_> {
        let mut folded = Folded::default();
        for new in &self.notifications {
            folded.documents.entry((new.recipient, new.at)).or_default().content = Some(new);
        }
        for mark in &self.marks {
            match *mark {
                ReadMark::One { recipient, notification, at } => {
                    let entry = folded.documents.entry((recipient, notification)).or_default();
                    entry.read_at = Some(entry.read_at.map_or(at, |there| there.min(at)));
                }
                ReadMark::All { recipient, until } => {
                    let there = folded.all_read.entry(recipient).or_insert(until);
                    *there = until.max(*there);
                }
            }
        }
        folded
    }
}
