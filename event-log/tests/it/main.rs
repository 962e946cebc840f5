//! The log against a real Postgres. Every fault is tried with 1 and with 7 partitions.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod accounts;
mod append;
mod as_of;
mod common;
mod crash;
mod executor;
mod golden;
mod loading;
mod migrating;
mod model;
mod personal;
mod postgres_es;
mod projecting;
mod races;
mod recent;
mod verifying;
