//! Aggregates behind one type: what the log must do with a stream whose kind it only knows at run time.

use std::any::Any;
use std::sync::Arc;

use domain::account::Account;
use domain::agenda::Agenda;
use domain::aggregate::{Aggregate, StreamKind};
use domain::appointment::Appointment;
use domain::event::Event;
use domain::notification_feed::NotificationFeed;
use domain::provider::Provider;
use domain::session::Session;

/// An aggregate of the type its stream's kind says.
pub(crate) type State = Arc<dyn Any + Send + Sync>;

/// The form snapshots are written in. Raise it whenever an aggregate's fields change: snapshots of another
/// form are not read, and replaced when their stream is next loaded.
pub(crate) const SNAPSHOT_FORM: &str = "2";

macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// The state of a stream without events.
        pub(crate) fn fresh(kind: StreamKind) -> State {
            match kind { $(StreamKind::$kind => Arc::new($kind::default()),)* }
        }

        /// Applies events; the state is copied unless nobody else holds it.
        pub(crate) fn fold<'a>(
            kind: StreamKind,
            state: State,
            events: impl Iterator<Item = &'a Event>,
        ) -> State {
            match kind { $(StreamKind::$kind => {
                let mut aggregate = Arc::unwrap_or_clone(downcast::<$kind>(state));
                for event in events {
                    if let Event::$kind(event) = event {
                        Aggregate::evolve(&mut aggregate, event);
                    }
                }
                Arc::new(aggregate)
            })* }
        }

        /// The state as JSON, personal data in the clear: seal it before it is stored.
        pub(crate) fn to_json(kind: StreamKind, state: &State) -> serde_json::Result<String> {
            match kind { $(StreamKind::$kind => {
                serde_json::to_string(state.downcast_ref::<$kind>().expect(KIND_DECIDES))
            })* }
        }

        /// The state from JSON, opened.
        pub(crate) fn from_json(kind: StreamKind, json: &str) -> serde_json::Result<State> {
            match kind { $(StreamKind::$kind => Ok(Arc::new(serde_json::from_str::<$kind>(json)?)),)* }
        }
    };
}

kinds!(Account, Provider, Agenda, Appointment, NotificationFeed, Session);

const KIND_DECIDES: &str = "a stream's kind decides its aggregate's type";

/// The aggregate in a state.
pub(crate) fn downcast<A: Aggregate>(state: State) -> Arc<A> {
    state.downcast::<A>().expect(KIND_DECIDES)
}
