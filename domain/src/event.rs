//! Every event there is, as one type, and the one way between an event and its stored form.

use serde::Serialize;

use crate::account::AccountEvent;
use crate::agenda::AgendaEvent;
use crate::aggregate::StreamKind;
use crate::appointment::AppointmentEvent;
use crate::category::CategoryEvent;
use crate::hold::HoldEvent;
use crate::notification_feed::NotificationFeedEvent;
use crate::provider::ProviderEvent;
use crate::series::SeriesEvent;
use crate::session::SessionEvent;
use crate::waitlist::WaitlistEvent;

macro_rules! events {
    ($($kind:ident($event:ty)),* $(,)?) => {
        /// A fact of any stream.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Event {
            $(#[doc = concat!("Of a ", stringify!($kind), " stream.")] $kind($event),)*
        }

        $(impl From<$event> for Event {
            fn from(event: $event) -> Self { Self::$kind(event) }
        })*

        impl Event {
            /// The kind of stream it belongs to.
            pub const fn stream_kind(&self) -> StreamKind {
                match self { $(Self::$kind(_) => StreamKind::$kind,)* }
            }

            /// Its stored type and version.
            pub const fn kind(&self) -> (&'static str, &'static str) {
                match self { $(Self::$kind(event) => event.kind(),)* }
            }

            /// Reads the payload of an event of this kind of stream, after upcasting.
            pub fn from_payload(kind: StreamKind, payload: serde_json::Value) -> serde_json::Result<Self> {
                match kind { $(StreamKind::$kind => serde_json::from_value::<$event>(payload).map(Self::$kind),)* }
            }

            /// Reads the text of a payload that needs no upcasting and holds nothing sealed.
            pub fn from_payload_str(kind: StreamKind, payload: &str) -> serde_json::Result<Self> {
                match kind { $(StreamKind::$kind => serde_json::from_str::<$event>(payload).map(Self::$kind),)* }
            }

            /// Every (stream kind, event type, version) this program writes.
            pub fn all_kinds() -> Vec<(StreamKind, &'static str, &'static str)> {
                let mut all = Vec::new();
                $(all.extend(<$event>::KINDS.iter().map(|(name, version)| (StreamKind::$kind, *name, *version)));)*
                all
            }
        }

        /// The stored payload: the event as cqrs-es writes it, `{"SlotTaken":{…}}`.
        impl Serialize for Event {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$kind(event) => event.serialize(serializer),)* }
            }
        }
    };
}

events! {
    Account(AccountEvent),
    Provider(ProviderEvent),
    Agenda(AgendaEvent),
    Appointment(AppointmentEvent),
    NotificationFeed(NotificationFeedEvent),
    Session(SessionEvent),
    Category(CategoryEvent),
    Hold(HoldEvent),
    Series(SeriesEvent),
    Waitlist(WaitlistEvent),
}
