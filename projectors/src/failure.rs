//! Why a batch was not applied, and whose fault that was.
//!
//! The one question is: would another event have fared better? A document that MongoDB finds too large
//! (code 10334) is the event's own fault: it is parked and the others flow. A server that is away, a table that
//! is not there yet, a full disk are nobody's: the same batch is tried again until it works. When in doubt it is
//! the second, because a projector that stands still is seen (`pontual_projector_behind_events`), and one
//! that parks everything it meets leaves a heap to clear away.

use std::error::Error;

use event_log::LogError;
use event_log::checkpoints::CheckpointError;
use read_models::availability::CacheUnavailable;
use read_models::notifications::FeedError;
use read_models::table::TableError;

/// Why a batch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Something is away or in the way; the same batch may work later.
    #[error("a store is away")]
    Away(#[source] Box<dyn Error + Send + Sync>),
    /// Another process took the lease, or the checkpoint moved: begin again from where it stands now.
    #[error("the partition is somebody else's now")]
    Lost,
    /// The log itself does not read, as when a data key is missing that was not destroyed. Readers stop there:
    /// it must never look like erasure.
    #[error("the log cannot be read")]
    Unreadable(#[source] LogError),
    /// The batch holds an event that cannot be applied.
    #[error("an event cannot be applied")]
    Poison(#[source] Box<dyn Error + Send + Sync>),
}

impl From<LogError> for ApplyError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Database(_) | LogError::Batch(_) | LogError::TimedOut => {
                Self::Away(error.into())
            }
            LogError::Shared(ref cause) if cause.is_unavailable() => Self::Away(error.into()),
            LogError::Shared(_)
            | LogError::Partitions { .. }
            | LogError::WrongMasterKey
            | LogError::Setting { .. }
            | LogError::Unreadable { .. }
            | LogError::Codec(_)
            | LogError::BrokenStream(_)
            | LogError::Malformed(_)
            | LogError::StoredAnswer
            | LogError::TooLong { .. }
            | LogError::TooManyRounds(_) => Self::Unreadable(error),
        }
    }
}

impl From<CheckpointError> for ApplyError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Moved => Self::Lost,
            CheckpointError::Database(error) => Self::Away(error.into()),
        }
    }
}

impl From<sqlx::Error> for ApplyError {
    fn from(error: sqlx::Error) -> Self {
        if is_the_events_fault(&error) {
            Self::Poison(error.into())
        } else {
            Self::Away(error.into())
        }
    }
}

impl From<TableError> for ApplyError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Database { table: _, source } => source.into(),
            error @ (TableError::Corrupt { .. }
            | TableError::NoRow { .. }
            | TableError::Cursor(_)) => Self::Poison(error.into()),
        }
    }
}

impl From<CacheUnavailable> for ApplyError {
    fn from(error: CacheUnavailable) -> Self {
        Self::Away(error.into())
    }
}

impl From<FeedError> for ApplyError {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Unavailable(source) => match source.downcast::<sqlx::Error>() {
                Ok(error) => (*error).into(),
                Err(source) => Self::Away(source),
            },
            // The feed says where it is; whoever begins again asks it.
            FeedError::Gap { .. } => Self::Lost,
            FeedError::Refused { code } if MONGODB_DATA.contains(&code) => {
                Self::Poison(error.into())
            }
            // A collision (11000) is over when the batch is repeated, a stepdown when there is a primary again.
            error @ (FeedError::Refused { .. }
            | FeedError::Corrupt { .. }
            | FeedError::Cursor(_)) => Self::Away(error.into()),
        }
    }
}

/// What MongoDB says of a document it will never take, whichever server is asked: bad values, types, field
/// names, sizes, failed validation.
const MONGODB_DATA: [i32; 14] = [2, 9, 14, 22, 28, 52, 56, 57, 66, 121, 10334, 17280, 17419, 17420];

/// Whether Postgres refused what it was given: bad data (class 22), a violated constraint (23), too much of it
/// (54); or a row does not read. Anything else is the server, the schema or the network.
fn is_the_events_fault(error: &sqlx::Error) -> bool {
    match error.as_database_error() {
        Some(error) => error
            .code()
            .is_some_and(|code| matches!(code.get(..2).unwrap_or_default(), "22" | "23" | "54")),
        None => matches!(
            error,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_)
        ),
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: impl Into<ApplyError>) -> &'static str {
        match error.into() {
            ApplyError::Away(_) => "away",
            ApplyError::Lost => "lost",
            ApplyError::Unreadable(_) => "unreadable",
            ApplyError::Poison(_) => "poison",
        }
    }

    #[test]
    fn a_server_that_does_not_answer_is_away_and_parks_nothing() {
        let io = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(kind(sqlx::Error::Io(io())), "away");
        assert_eq!(kind(sqlx::Error::PoolTimedOut), "away");
        assert_eq!(kind(LogError::TimedOut), "away");
        assert_eq!(kind(LogError::Database(sqlx::Error::PoolClosed)), "away");
        assert_eq!(kind(CheckpointError::Database(sqlx::Error::PoolTimedOut)), "away");
        assert_eq!(kind(FeedError::Unavailable(Box::new(io()))), "away");
        assert_eq!(kind(FeedError::Unavailable(Box::new(sqlx::Error::PoolTimedOut))), "away");
        let source = sqlx::Error::WorkerCrashed;
        assert_eq!(kind(TableError::Database { table: "accounts", source }), "away");
    }

    #[test]
    fn a_collision_a_stepdown_or_a_full_disk_in_mongodb_is_tried_again_and_bad_data_is_parked() {
        for code in [11000, 189, 91, 64, 13, 14031, 0] {
            assert_eq!(kind(FeedError::Refused { code }), "away", "{code}");
        }
        for code in [121, 10334] {
            assert_eq!(kind(FeedError::Refused { code }), "poison", "{code}");
        }
    }

    #[test]
    fn whoever_finds_the_partition_elsewhere_begins_again_from_there() {
        assert_eq!(kind(CheckpointError::Moved), "lost");
        let partition = domain::position::Partition(3);
        assert_eq!(kind(FeedError::Gap { partition, applied: 4 }), "lost");
    }

    #[test]
    fn an_event_that_does_not_read_stops_the_reader() {
        let stream = domain::aggregate::StreamId {
            kind: domain::aggregate::StreamKind::Agenda,
            id: uuid::Uuid::nil(),
        };
        assert_eq!(kind(LogError::BrokenStream(stream)), "unreadable");
    }

    #[test]
    fn a_row_that_does_not_read_or_is_not_there_is_the_events_own_fault() {
        assert_eq!(kind(sqlx::Error::Decode("no".into())), "poison");
        assert_eq!(kind(TableError::Corrupt { table: "accounts", column: "roles" }), "poison");
    }
}
