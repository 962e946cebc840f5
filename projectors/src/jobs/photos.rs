//! Deletes photos nobody shows: those whose event said so, and those whose event never came.
//!
//! The job `DeletePhoto` deletes a photo's files, unless the account shows that very photo again. [`keep`] looks now and
//! then at photos that were marked pending an hour ago (`http-kit/src/files/photos.rs`): the account that was about to show
//! one is asked whether it does, and if not, its files go; then the mark goes. Twice equals once; a crash leaves the job, or
//! the mark, and the next one does it.

use std::time::Duration;

use chrono::TimeDelta;
use domain::account::Account;
use domain::ids::{AccountId, Id as _, PhotoId};
use domain::position::Position;
use event_log::{EventLog, LogError};
use http_kit::files::photos::{self, PENDING};
use http_kit::files::{FileError, Files};
use tokio_util::sync::CancellationToken;

/// How old a mark must be: far older than any request that may still append.
const PENDING_FOR: TimeDelta = TimeDelta::hours(1);
/// How often marks are looked at.
const SWEEP: Duration = Duration::from_secs(600);
/// The most marks of one look.
const MARKS: usize = 1_000;

/// Why photos were not deleted.
#[derive(Debug, thiserror::Error)]
pub enum PhotoError {
    /// The account could not be asked.
    #[error("the log could not be read")]
    Log(#[from] LogError),
    /// The files could not be deleted.
    #[error("the file store cannot be used")]
    Files(#[from] FileError),
}

/// Deletes a photo's files, unless its account shows it.
pub async fn delete(
    log: &EventLog,
    files: &Files,
    account: AccountId,
    photo: PhotoId,
) -> Result<(), PhotoError> {
    unless_shown(log, files, account, photo).await.map(drop)
}

/// Says whether they were deleted.
async fn unless_shown(
    log: &EventLog,
    files: &Files,
    account: AccountId,
    photo: PhotoId,
) -> Result<bool, PhotoError> {
    // Of the log as it is now: what is in memory may be older than the photo.
    let partition = log.partition_of(account.slot());
    let number = log.head(partition).await?;
    let now = log.load_at_least::<Account>(account, Position { partition, number }).await?;
    let shown = now.state.photo == Some(photo);
    if !shown {
        files.delete_folder(&photos::folder(photo)).await?;
    }
    Ok(!shown)
}

/// Looks after photos whose event may never have come; says how many were deleted.
pub async fn sweep(log: &EventLog, files: &Files) -> Result<usize, PhotoError> {
    let before = log.clock().now() - PENDING_FOR;
    let mut deleted = 0;
    for (mark, written) in files.list(PENDING, MARKS).await? {
        if written >= before {
            continue;
        }
        if let Some((account, photo)) = photos::read_pending(&mark)
            && unless_shown(log, files, account, photo).await?
        {
            deleted += 1;
        }
        files.delete(&mark).await?;
    }
    Ok(deleted)
}

/// Sweeps now and then, until told to stop.
pub async fn keep(log: EventLog, files: Files, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match sweep(&log, &files).await {
            Ok(0) => {}
            Ok(photos) => tracing::info!(photos, "photos nobody shows were deleted"),
            Err(error) => {
                let error = crate::causes(&error);
                tracing::warn!(%error, "pending photos were not looked after; trying again later");
            }
        }
        let _ = tokio::time::timeout(SWEEP, stop.cancelled()).await;
    }
}
