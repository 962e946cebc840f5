//! What nobody asked for and must be done now and then: counting the queue, forgetting what is long over.
//!
//! Every worker does all of it. That is harmless: each chore deletes what is older than it may be, some at a time, so a
//! second worker finds nothing left, and one that crashes in the middle leaves the rest to the next hour.

use std::time::Duration;

use chrono::TimeDelta;
use event_log::{EventLog, LogError};
use tokio_util::sync::CancellationToken;

/// How often the queue is counted.
const COUNT: Duration = Duration::from_secs(15);
/// How often what is over is forgotten.
const FORGET: Duration = Duration::from_secs(60 * 60);
/// How long a command's answer, and that a job was done, are remembered (the same, so that a retry of either is known).
const REMEMBER: TimeDelta = TimeDelta::days(30);
/// No chore may take longer; it is taken up again an hour later.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Why a chore was not done.
#[derive(Debug, thiserror::Error)]
enum ChoreError {
    #[error("the log could not be used")]
    Log(#[from] LogError),
    #[error("the database could not be used")]
    Database(#[from] sqlx::Error),
    #[error("it took too long")]
    TimedOut(#[from] tokio::time::error::Elapsed),
}

/// Keeps house until told to stop.
pub(super) async fn keep(log: EventLog, stop: CancellationToken) {
    let counting = async {
        loop {
            chore("counting jobs", count(&log)).await;
            tokio::time::sleep(COUNT).await;
        }
    };
    let forgetting = async {
        loop {
            chore("forgetting jobs that were done", forget_jobs(&log)).await;
            chore("forgetting commands", forget_commands(&log)).await;
            chore("forgetting sessions", forget_sessions(&log)).await;
            tokio::time::sleep(FORGET).await;
        }
    };
    // Every chore can be left at any point.
    tokio::select! {
        () = counting => {}
        () = forgetting => {}
        () = stop.cancelled() => {}
    }
}

async fn chore(name: &str, chore: impl Future<Output = Result<(), ChoreError>>) {
    let done = async { tokio::time::timeout(PATIENCE, chore).await? };
    if let Err(error) = done.await {
        tracing::warn!(chore = name, error = %crate::causes(&error), "{name} was not done; trying again later");
    }
}

async fn count(log: &EventLog) -> Result<(), ChoreError> {
    // Those whose time has not come are not waited for.
    let waiting = super::due(log.pool(), log.clock().now()).await?;
    let (_, dead) = super::counts(log.pool()).await?;
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    {
        metrics::gauge!("pontual_jobs_waiting").set(waiting as f64);
        metrics::gauge!("pontual_jobs_dead").set(dead as f64);
    }
    Ok(())
}

async fn forget_jobs(log: &EventLog) -> Result<(), ChoreError> {
    let before = log.clock().now() - REMEMBER;
    while super::forget_done(log.pool(), before).await? > 0 {}
    Ok(())
}

async fn forget_commands(log: &EventLog) -> Result<(), ChoreError> {
    let age = REMEMBER.to_std().expect("thirty days are a duration");
    let forgotten = log.purge_commands(age).await?;
    if forgotten > 0 {
        tracing::info!(forgotten, "{forgotten} commands of more than 30 days ago were forgotten");
    }
    Ok(())
}

/// Of sessions nobody signed out of.
async fn forget_sessions(log: &EventLog) -> Result<(), ChoreError> {
    let forgotten = log.purge_refresh_records(log.clock().now()).await?;
    if forgotten > 0 {
        tracing::info!(
            forgotten,
            "the refresh records of {forgotten} expired sessions were dropped"
        );
    }
    Ok(())
}
