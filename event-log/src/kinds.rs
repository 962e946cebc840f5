//! Aggregates behind one type: what the log must do with a stream whose kind it only knows at run time.

use std::any::Any;
use std::sync::Arc;

use domain::account::Account;
use domain::agenda::Agenda;
use domain::aggregate::{Aggregate, StreamKind};
use domain::appointment::Appointment;
use domain::category::Category;
use domain::event::Event;
use domain::hold::Hold;
use domain::notification_feed::NotificationFeed;
use domain::provider::Provider;
use domain::series::Series;
use domain::session::Session;
use domain::waitlist::Waitlist;

/// An aggregate of the type its stream's kind says.
pub(crate) type State = Arc<dyn Any + Send + Sync>;

/// The form snapshots are written in. Raise it whenever an aggregate's fields change: snapshots of another
/// form are not read, and replaced when their stream is next loaded.
pub(crate) const SNAPSHOT_FORM: &str = "5";

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

kinds!(
    Account,
    Provider,
    Agenda,
    Appointment,
    NotificationFeed,
    Session,
    Category,
    Hold,
    Series,
    Waitlist
);

const KIND_DECIDES: &str = "a stream's kind decides its aggregate's type";

/// The aggregate in a state.
pub(crate) fn downcast<A: Aggregate>(state: State) -> Arc<A> {
    state.downcast::<A>().expect(KIND_DECIDES)
}

#[cfg(test)]
mod tests {
    //! A snapshot is read by whatever program comes after: what this one writes stands in `event-log/snapshots`, one file
    //! per aggregate, as its state after each of its golden events.

    use std::collections::BTreeMap;
    use std::path::Path;

    use serde::{Deserialize, Serialize};
    use serde_json::Value;

    use super::*;

    /// A file of `event-log/snapshots`.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Golden {
        form: String,
        /// By the event's name.
        after: BTreeMap<String, Value>,
    }

    /// What this program writes, for an aggregate that all its golden events happened to, one after the other.
    fn written(kind: StreamKind, folder: &Path) -> Golden {
        let (mut state, mut after) = (fresh(kind), BTreeMap::new());
        for (_, name, version) in Event::all_kinds().iter().filter(|(of, ..)| *of == kind) {
            let path = folder.join(format!("golden/{}.{name}.{version}.json", kind.as_str()));
            let event = Event::from_payload_str(kind, &std::fs::read_to_string(path).unwrap());
            state = fold(kind, state, [event.unwrap()].iter());
            let json = to_json(kind, &state).unwrap();
            let again = to_json(kind, &from_json(kind, &json).unwrap()).unwrap();
            assert_eq!(again, json, "{name}: a snapshot reads as it was written");
            after.insert((*name).to_owned(), serde_json::from_str(&json).unwrap());
        }
        Golden { form: SNAPSHOT_FORM.to_owned(), after }
    }

    #[test]
    fn a_state_of_another_form_has_another_number() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let write = std::env::var("GOLDEN").is_ok_and(|wanted| wanted == "write");
        for kind in StreamKind::ALL {
            let path = folder.join(format!("snapshots/{}.json", kind.as_str()));
            let now = written(kind, folder);
            let golden = std::fs::read_to_string(&path).ok();
            let golden: Option<Golden> = golden.map(|text| serde_json::from_str(&text).unwrap());
            if let Some(golden) = golden.as_ref().filter(|golden| golden.form == SNAPSHOT_FORM) {
                for (event, state) in &golden.after {
                    let message = "raise SNAPSHOT_FORM in event-log/src/kinds.rs: this program would \
                                   misread what the one before it wrote";
                    assert_eq!(
                        now.after.get(event),
                        Some(state),
                        "{kind:?} after {event}: {message}"
                    );
                }
            }
            if golden.as_ref() != Some(&now) {
                assert!(
                    write,
                    "GOLDEN=write cargo nextest run -p event-log writes {}",
                    path.display()
                );
                let text = serde_json::to_string_pretty(&now).unwrap();
                std::fs::write(&path, text + "\n").unwrap();
            }
        }
    }
}
