//! The query side in process: how fresh its answers are, and how its sockets behave. The read models are real
//! stores; what a projector would write the tests write themselves, so that they can be late, early or wrong.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod as_of;
mod audit;
mod common;
mod files;
mod freshness;
mod socket;
