//! What is true in Pontual: ids, commands, events, aggregates, slot arithmetic.
//!
//! No I/O, no clock, no randomness: time and ids come in as values, so every decision can be replayed.
//! A booking, for example: [`appointment::BookAppointment`] reads the [`provider::Provider`], asks
//! [`slots`] whether a slot starts then, lets the [`agenda::Agenda`] of each UTC day it touches decide on
//! overlap, and emits to the agendas and to the new [`appointment::Appointment`].

pub mod account;
pub mod actor;
pub mod agenda;
pub mod aggregate;
pub mod appointment;
pub mod bookable;
pub mod category;
pub mod command;
pub mod event;
pub mod hold;
pub mod holidays;
pub mod hours;
pub mod ids;
pub mod locale;
pub mod money;
pub mod notification_feed;
pub mod personal;
pub mod position;
pub mod provider;
pub mod recurrence;
mod refusal;
pub mod series;
pub mod session;
pub mod slots;
pub mod taking;
pub mod text;
pub mod time_off;
pub mod waitlist;

pub use refusal::Refusal;

/// An instant in UTC, to the microsecond that Postgres keeps.
pub type Instant = chrono::DateTime<chrono::Utc>;
