//! Reactors: events that order a job. A rebuild never runs them again; their checkpoints only move forward.

mod account_mails;
mod photo_files;

pub use account_mails::AccountMails;
pub use photo_files::PhotoFiles;
