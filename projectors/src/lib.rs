//! From the log to everything that follows it: read models, notifications, jobs, mails.
//!
//! The [`runner`] feeds [`runner::Projector`]s from one shared [`tail`] of the log. [`read_models`] turn events
//! into calls on the `read-models` crate; [`reactors`] turn them into [`jobs`], which a worker runs;
//! [`push`] tells open sockets, [`revocations`] which tokens are void, [`forgetting`] a cache that
//! somebody was erased. For example `AppointmentBooked` at 3:18 is a row in `appointments`, a taken
//! interval in the availability cache, a notification for the provider, and a hint to the provider's socket.
//!
//! A crash anywhere repeats at most a batch, and every write is guarded so that twice equals once.

pub mod failure;
mod follower;
pub mod forgetting;
pub mod jobs;
pub mod mail;
pub mod push;
pub mod reactors;
pub mod read_models;
pub mod retry;
pub mod revocations;
pub mod runner;
pub mod tail;

pub(crate) use failure::causes;
