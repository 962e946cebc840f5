//! Runner, projectors, jobs and mail on real stores.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod audit;
mod common;
mod jobs;
mod life;
mod mailers;
mod mails;
mod parking;
mod photos;
mod replay;
mod runner;
mod tail;
