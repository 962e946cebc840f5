//! From the log to everything that follows it: read models, notifications, jobs, mails.
//!
//! The [`runner`] feeds [`runner::Projector`]s from one shared [`tail`] of the log. [`read_models`] turn events
//! into calls on the `read-models` crate; [`reactors`] turn them into [`jobs`], which a worker runs;
//! [`push`] tells open sockets. For example `AppointmentBooked` at 3:18 is a row in `appointments`, a taken
//! interval in the availability cache, a notification for the provider, and a hint to the provider's socket.
//!
//! A crash anywhere repeats at most a batch, and every write is guarded so that twice equals once.

use std::error::Error;

pub mod jobs;
pub mod mail;
pub mod push;
pub mod reactors;
pub mod read_models;
pub mod runner;
pub mod tail;

/// An error and its causes in one line.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Whether a database error means "later" rather than "never": the server is away, busy or shutting down,
/// or another transaction was in the way.
pub(crate) fn is_away(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        Some(error) => error.code().is_some_and(|code| {
            let class = code.get(..2).unwrap_or_default();
            matches!(class, "08" | "40" | "53" | "55" | "57")
        }),
        None => !matches!(
            error,
            sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::RowNotFound
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::TypeNotFound { .. }
        ),
    }
}
