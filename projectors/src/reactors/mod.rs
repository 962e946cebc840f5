//! Reactors: events that order a job. A rebuild never runs them again; their checkpoints only move forward.

mod account_mails;
mod erasures;
mod photo_files;

pub use account_mails::AccountMails;
pub(crate) use account_mails::mail_is_of;
pub use erasures::Erasures;
pub use photo_files::PhotoFiles;
