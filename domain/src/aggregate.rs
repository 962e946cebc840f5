//! What every aggregate is: pure `decide` and `evolve`, a stream kind, and cqrs-es's `Aggregate`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Instant;
use crate::ids::{Id, RoutingSlot};

/// The kinds of streams. The names are stored; they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StreamKind {
    /// [`crate::account::Account`]
    Account,
    /// [`crate::provider::Provider`]
    Provider,
    /// [`crate::agenda::Agenda`]
    Agenda,
    /// [`crate::appointment::Appointment`]
    Appointment,
    /// [`crate::notification_feed::NotificationFeed`]
    NotificationFeed,
    /// [`crate::session::Session`]
    Session,
    /// [`crate::category::Category`]
    Category,
    /// [`crate::hold::Hold`]
    Hold,
    /// [`crate::series::Series`]
    Series,
    /// [`crate::waitlist::Waitlist`]
    Waitlist,
}

impl StreamKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Account,
        Self::Provider,
        Self::Agenda,
        Self::Appointment,
        Self::NotificationFeed,
        Self::Session,
        Self::Category,
        Self::Hold,
        Self::Series,
        Self::Waitlist,
    ];

    /// As stored in `aggregate_type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "Account",
            Self::Provider => "Provider",
            Self::Agenda => "Agenda",
            Self::Appointment => "Appointment",
            Self::NotificationFeed => "NotificationFeed",
            Self::Session => "Session",
            Self::Category => "Category",
            Self::Hold => "Hold",
            Self::Series => "Series",
            Self::Waitlist => "Waitlist",
        }
    }
}

/// A kind of stream this program does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown stream kind {0:?}")]
pub struct UnknownStreamKind(pub String);

impl FromStr for StreamKind {
    type Err = UnknownStreamKind;
    fn from_str(text: &str) -> Result<Self, UnknownStreamKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownStreamKind(text.to_owned()))
    }
}

/// One stream of the log: the history of one aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId {
    /// What kind of aggregate.
    pub kind: StreamKind,
    /// Which one.
    pub id: Uuid,
}

impl StreamId {
    /// The stream of the aggregate `A` with this id.
    pub fn of<A: Aggregate>(id: A::Id) -> Self {
        Self { kind: A::KIND, id: id.uuid() }
    }

    /// Where it is routed.
    pub fn slot(self) -> RoutingSlot {
        RoutingSlot::of(self.id)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.as_str(), self.id)
    }
}

/// How many events a stream has; 0 is a stream that does not exist.
pub type Version = u64;

/// What an aggregate's `decide` may know besides its own state.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The instant of the decision, at least the last `recorded_at` that was read.
    pub now: Instant,
}

/// An aggregate: a state, commands decided against it, events that change it.
///
/// `decide` is pure: guards first, each a named refusal, then the events. `evolve` trusts events: it never
/// fails and never checks. Asking for what is already true yields no events.
pub trait Aggregate:
    cqrs_es::Aggregate<Error = crate::Refusal, Services = Context> + Clone + 'static
{
    /// Its id.
    type Id: Id;
    /// Its stream kind.
    const KIND: StreamKind;

    /// The events this command leads to, or why it is refused.
    fn decide(
        &self,
        command: Self::Command,
        context: &Context,
    ) -> Result<Vec<Self::Event>, crate::Refusal>;

    /// Applies one event.
    fn evolve(&mut self, event: &Self::Event);
}

/// Implements cqrs-es's `Aggregate` over `decide` and `evolve`, and `DomainEvent` for its events.
macro_rules! aggregate {
    ($aggregate:ident($id:ty), $command:ident => $event:ident { $($variant:ident = $version:literal),* $(,)? }) => {
        impl cqrs_es::Aggregate for $aggregate {
            const TYPE: &'static str = stringify!($aggregate);
            type Command = $command;
            type Event = $event;
            type Error = $crate::Refusal;
            type Services = $crate::aggregate::Context;

            async fn handle(
                &mut self,
                command: $command,
                context: &$crate::aggregate::Context,
                sink: &cqrs_es::event_sink::EventSink<Self>,
            ) -> Result<(), $crate::Refusal> {
                for event in $crate::aggregate::Aggregate::decide(self, command, context)? {
                    sink.write(event, self).await;
                }
                Ok(())
            }

            fn apply(&mut self, event: $event) {
                $crate::aggregate::Aggregate::evolve(self, &event);
            }
        }

        impl cqrs_es::DomainEvent for $event {
            fn event_type(&self) -> String {
                self.kind().0.to_owned()
            }

            fn event_version(&self) -> String {
                self.kind().1.to_owned()
            }
        }

        impl $event {
            /// The event's stored type and version.
            pub const fn kind(&self) -> (&'static str, &'static str) {
                match self {
                    $(Self::$variant { .. } => (stringify!($variant), $version),)*
                }
            }

            /// Every (type, version) this program writes.
            pub const KINDS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($variant), $version)),*];
        }
    };
}
pub(crate) use aggregate;
