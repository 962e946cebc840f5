//! Upcasting: an event of an older version becomes one of the version this program writes, on the one path
//! that loads and tails. An event this program does not know at all stops the reader; it is never skipped.
//!
//! The upcasters are cqrs-es's. To change an event's meaning: write the new version in `domain`, add an
//! upcaster from the old one to [`Upcasters::current`], and keep the old golden file (house style 15). An upcaster
//! sees the payload opened: what was sealed is `$personal`, or `$erased`.
//!
//! For example `ServiceAdded` 1 has the service's name in the clear, and version 2 says whose it is. What was written
//! in the clear stays in the log as it is, so it reads as known even after an erasure; only that of version 2 is gone.

use std::collections::HashSet;
use std::sync::LazyLock;

use cqrs_es::persist::{EventUpcaster, SerializedEvent};
use domain::aggregate::{StreamId, StreamKind, Version};
use domain::event::Event;
use serde_json::{Value, json};

/// What a shop says of a service. The event does not name the owner: the shop's id stands in, and whoever folds the
/// shop's events knows better.
fn service_of_the_stream(changed: &mut Value, stream: &str) {
    let Some(service) = changed.get_mut("service") else { return };
    for text in ["name", "description"] {
        personal(service, text, Some(stream.into()));
    }
}

/// Says whose a text is that was written in the clear.
fn personal(object: &mut Value, field: &str, subject: Option<Value>) {
    if let Some(text) = object.get_mut(field).filter(|text| !text.is_null()) {
        *text = json!({ "$personal": { "subject": subject, "value": text.take() } });
    }
}

/// An event of version 1 becomes one of version 2.
struct From1 {
    event: &'static str,
    /// Changes what stands under the event's name; the second is its stream's id.
    change: fn(&mut Value, &str),
}

impl EventUpcaster for From1 {
    fn can_upcast(&self, event_type: &str, event_version: &str) -> bool {
        event_type == self.event && event_version == "1"
    }

    fn upcast(&self, mut event: SerializedEvent) -> SerializedEvent {
        if let Some(facts) = event.payload.get_mut(self.event) {
            (self.change)(facts, &event.aggregate_id);
        }
        "2".clone_into(&mut event.event_version);
        event
    }
}

/// A chain of upcasters.
pub struct Upcasters(Vec<Box<dyn EventUpcaster>>);

impl Upcasters {
    /// Those this program knows, in the order they are applied.
    pub fn current() -> Self {
        Self(vec![
            Box::new(From1 {
                event: "ProviderOpened",
                change: |opened, _| {
                    let owner = opened.get("account").cloned();
                    personal(opened, "slug", owner);
                },
            }),
            Box::new(From1 { event: "ServiceAdded", change: service_of_the_stream }),
            Box::new(From1 { event: "ServiceChanged", change: service_of_the_stream }),
            Box::new(From1 {
                event: "AppointmentBooked",
                change: |booked, _| {
                    let Some(terms) = booked.get_mut("terms") else { return };
                    let owner = terms.get("provider_account").cloned();
                    personal(terms, "service_name", owner);
                },
            }),
        ])
    }

    /// For tests of the path itself.
    #[cfg(any(test, feature = "testing"))]
    pub fn of(upcasters: Vec<Box<dyn EventUpcaster>>) -> Self {
        Self(upcasters)
    }

    /// The payload in the version this program writes; `None` where it already is.
    pub fn upcast(
        &self,
        stream: StreamId,
        sequence: Version,
        event_type: &str,
        event_version: &str,
        payload: &str,
    ) -> Result<Option<String>, UpcastError> {
        if self.0.iter().any(|u| u.can_upcast(event_type, event_version)) {
            let value = serde_json::from_str(payload).map_err(|_| UpcastError::NotJson)?;
            let mut event = SerializedEvent::new(
                stream.id.to_string(),
                usize::try_from(sequence).unwrap_or(usize::MAX),
                stream.kind.as_str().to_owned(),
                event_type.to_owned(),
                event_version.to_owned(),
                value,
                serde_json::Value::Null,
            );
            for upcaster in &self.0 {
                if upcaster.can_upcast(&event.event_type, &event.event_version) {
                    event = upcaster.upcast(event);
                }
            }
            // cqrs-es writes the version it upcast to with three parts: 2.0.0 is our 2.
            known(stream.kind, &event.event_type, event.event_version.trim_end_matches(".0"))?;
            return Ok(Some(event.payload.to_string()));
        }
        known(stream.kind, event_type, event_version)?;
        Ok(None)
    }
}

/// Why an event could not be brought to the present.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpcastError {
    /// A newer program wrote it, or an upcaster is missing.
    #[error("this program does not know the event {kind} {event_type} version {version}", kind = .kind.as_str())]
    Unknown {
        /// Of which kind of stream.
        kind: StreamKind,
        /// Its type.
        event_type: String,
        /// Its version.
        version: String,
    },
    /// The payload is not JSON.
    #[error("the payload is not JSON")]
    NotJson,
}

static KNOWN: LazyLock<HashSet<(StreamKind, &'static str, &'static str)>> =
    LazyLock::new(|| Event::all_kinds().into_iter().collect());

fn known(kind: StreamKind, event_type: &str, version: &str) -> Result<(), UpcastError> {
    if KNOWN.contains(&(kind, event_type, version)) {
        return Ok(());
    }
    let (event_type, version) = (event_type.to_owned(), version.to_owned());
    Err(UpcastError::Unknown { kind, event_type, version })
}
