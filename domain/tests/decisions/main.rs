//! What every command decides: given what happened, when somebody asks, then these events or this refusal.
//!
//! One aggregate alone is tried with cqrs-es's `TestFramework`; commands that span streams run in a
//! [`world::World`], which is a map of streams and nothing else.

#![expect(clippy::unwrap_used, reason = "a builder that fails is a failed test")]

mod account;
mod agenda;
mod appointment;
mod catalogue;
mod guests;
mod holds;
mod hours;
mod life;
mod never_overlaps;
mod notification_feed;
mod provider;
mod rescheduling;
mod series;
mod session;
mod stored;
mod waitlist;
mod world;
