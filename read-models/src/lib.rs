//! The read side's stores: one file per read model, with its row, its writes and its reads.
//!
//! A projector turns events into calls on what stands here; the query API reads it. For example
//! `AppointmentBooked` becomes one [`appointments::AppointmentRow`] in Postgres, a new list of taken
//! intervals in the [`availability`] cache, and one [`notifications::NewNotification`] for the provider.
//!
//! Nothing here is the truth. All of it can be dropped and rebuilt from the log, and all writes are full
//! values guarded by the position of the event they are of: an older one is ignored, twice equals once.
//! So a crash between any two writes costs nothing but the repetition of a batch.
//!
//! Every read model knows how far it has applied each partition of the log, so that whoever wrote can wait
//! for what they wrote ([`freshness`]).

pub mod accounts;
pub mod appointment_notes;
pub mod appointments;
pub mod audit;
pub mod availability;
pub mod categories;
pub mod dashboard;
pub mod erasures;
pub mod fanout;
pub mod freshness;
pub mod notifications;
pub mod paging;
pub mod provider_search;
pub mod providers;
pub mod services;
pub mod sessions;
pub mod table;
pub mod waits;

#[cfg(test)]
mod catalogue_tests;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod testing;
