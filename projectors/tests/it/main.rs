//! Runner, projectors, jobs and mail on real stores.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
mod jobs;
mod mails;
mod parking;
mod replay;
mod runner;
mod tail;
