//! Reactors: events that order a job. A rebuild never runs them again; their checkpoints only move forward.

mod account_mails;

pub use account_mails::AccountMails;
