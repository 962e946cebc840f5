//! Takes an erased person out of everything that was made of the log, and says when nothing is left.
//!
//! With `AccountErased` the log forgot the person at once: their key, secrets and claims went in that append. The rest is
//! this job's, one step after another, each written down in `erasures` (`read-models/src/erasures.rs`) once it is done:
//!
//! 1. when every projector has passed the heads of the erasure, standing appointments are called off, so that the other
//!    side is told;
//! 2. when every projector has passed that, read tables, feed, caches, mail folder and jobs lose what they had;
//! 3. two minutes after the erasure no process remembers the key any more (a minute), nor serves a request that began
//!    before: both are done once more, and the erasure is complete.
//!
//! A step whose time has not come puts the job back, which is no failure. A crash in a step does that step again: each
//! does to what is left what it did before. A projector that stands still keeps the erasure open, and the log says so.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use domain::actor::Actor;
use domain::appointment::CancelAppointment;
use domain::ids::AccountId;
use domain::position::PositionToken;
use domain::waitlist::LeaveWaitlist;
use domain::{Instant, Refusal};
use event_log::{EventLog, ExecuteError, Executor, LogError, Origin, checkpoints};
use http_kit::files::photos::{self, PENDING};
use http_kit::files::{FileError, Files};
use read_models::appointments;
use read_models::availability::{AvailabilityCache, CacheUnavailable};
use read_models::erasures::{self, ErasureRow, Stage};
use read_models::notifications::{FeedError, NotificationFeed};
use read_models::table::TableError;
use read_models::waits;
use uuid::Uuid;

use crate::mail::{MailError, Mailer};
use crate::reactors::{JobOrders, mail_is_of};
use crate::read_models::audit::AuditTrail;
use crate::read_models::availability::local_days;
use crate::read_models::read_tables::ReadTables;

/// Longer than any process remembers a destroyed key, and than any request runs.
const SETTLE: TimeDelta = TimeDelta::seconds(120);
/// How many appointments are looked at together.
const SLICE: i64 = 200;
/// How long one run calls off appointments; the next goes on.
const CANCEL_FOR: Duration = Duration::from_secs(30);
/// How often it is looked whether the projectors have come so far: at first, and when it takes long.
const LOOK: (TimeDelta, TimeDelta) = (TimeDelta::milliseconds(500), TimeDelta::seconds(60));
/// Who calls appointments off.
const ACTOR: Actor = Actor::System("erasure");

/// What is purged, and who must have come how far before.
#[derive(Clone)]
pub struct Eraser {
    /// Calls appointments off.
    pub executor: Executor,
    /// Notifications.
    pub feed: Arc<dyn NotificationFeed>,
    /// Cached lists.
    pub availability: Arc<dyn AvailabilityCache>,
    /// The projectors whose checkpoints are in Postgres; the feed has its own.
    pub projectors: Vec<&'static str>,
}

/// Why a step was not done. The texts hold nothing personal.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The log could not be read.
    #[error("the log could not be read")]
    Log(#[from] LogError),
    /// An appointment could not be called off.
    #[error("an appointment could not be called off")]
    Cancel(#[source] ExecuteError),
    /// They could not be taken out of a line.
    #[error("a place in line could not be given up")]
    Leave(#[source] ExecuteError),
    /// A read table could not be used.
    #[error("a read table could not be purged")]
    Table(#[from] TableError),
    /// The feed could not be used.
    #[error("the notification feed could not be purged")]
    Feed(#[from] FeedError),
    /// The cache could not be used.
    #[error("the cached lists could not be purged")]
    Cache(#[from] CacheUnavailable),
    /// The mail folder could not be used.
    #[error("the mails could not be purged")]
    Mail(#[from] MailError),
    /// The file store could not be used.
    #[error("the photos could not be purged")]
    Files(#[from] FileError),
    /// Checkpoints or jobs could not be used.
    #[error("the database could not be used")]
    Database(#[from] sqlx::Error),
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left.
    Complete,
    /// Not before this.
    Later(Instant),
}

impl Eraser {
    /// The projectors that every Pontual has with checkpoints in Postgres.
    pub const PROJECTORS: [&'static str; 3] = [ReadTables::NAME, AuditTrail::NAME, JobOrders::NAME];

    /// Goes as far as it can. `job` is the one that runs.
    pub async fn run(
        &self,
        (log, mailer, files): (&EventLog, &dyn Mailer, &Files),
        account: AccountId,
        job: Uuid,
    ) -> Result<Outcome, EraseError> {
        let pool = log.pool();
        loop {
            let Some(row) = erasures::of_account(pool, account).await? else {
                return Ok(Outcome::Complete);
            };
            let now = log.clock().now();
            let soon = || Ok(Outcome::Later(now + look_again(now - row.erased_at)));
            let (to, heads) = match row.stage {
                Stage::Begun | Stage::Settling => {
                    if !self.passed(log, &wanted(log, &row).await?).await?
                        || !self.cancel_standing(log, account).await?
                    {
                        return soon();
                    }
                    self.leave_lines(log, account).await?;
                    let to = if row.stage == Stage::Begun { Stage::Told } else { Stage::Settled };
                    (to, Some(log.heads().await?))
                }
                Stage::Told | Stage::Settled => {
                    if !self.passed(log, &wanted(log, &row).await?).await? {
                        return soon();
                    }
                    self.purge(log, mailer, files, account).await?;
                    if jobs_left(log, account, job).await? {
                        return soon();
                    }
                    let last = row.stage == Stage::Settled;
                    (if last { Stage::Complete } else { Stage::Purged }, None)
                }
                Stage::Purged if now < row.erased_at + SETTLE => {
                    return Ok(Outcome::Later(row.erased_at + SETTLE));
                }
                Stage::Purged => (Stage::Settling, Some(log.heads().await?)),
                Stage::Complete => {
                    tracing::info!(%account, "the erasure of account {account} is complete");
                    return Ok(Outcome::Complete);
                }
            };
            erasures::advance(pool, &row, to, heads.as_ref(), now).await?;
        }
    }

    /// Whether every projector has passed these heads.
    pub(super) async fn passed(
        &self,
        log: &EventLog,
        heads: &PositionToken,
    ) -> Result<bool, EraseError> {
        let behind =
            |at: &PositionToken| heads.positions().any(|p| at.number(p.partition) < p.number);
        for projector in &self.projectors {
            if behind(&checkpoints::all(log.pool(), projector).await?) {
                return Ok(false);
            }
        }
        Ok(!behind(&self.feed.applied_all().await?))
    }

    /// Calls off what stands, on either side; says whether that was all.
    async fn cancel_standing(
        &self,
        log: &EventLog,
        account: AccountId,
    ) -> Result<bool, EraseError> {
        let (pool, began) = (log.pool(), tokio::time::Instant::now());
        let mut after = None;
        loop {
            let now = log.clock().now();
            let standing =
                appointments::standing_of_party(pool, account, now, after, SLICE).await?;
            for &appointment in &standing {
                let command = CancelAppointment { appointment, reason: None };
                let origin = Origin::of(ACTOR, Uuid::new_v4().simple().to_string());
                match self.executor.execute(command, origin).await {
                    // It was called off or declined in the meantime, or has taken place.
                    Ok(_)
                    | Err(ExecuteError::Refused(
                        Refusal::WrongStatus { .. } | Refusal::Ended { .. },
                    )) => {}
                    Err(error) => return Err(EraseError::Cancel(error)),
                }
                if began.elapsed() > CANCEL_FOR {
                    return Ok(false);
                }
            }
            after = standing.last().copied();
            if after.is_none() {
                return Ok(true);
            }
        }
    }

    /// Takes them out of every line they stand in.
    async fn leave_lines(&self, log: &EventLog, account: AccountId) -> Result<(), EraseError> {
        let mut after = None;
        loop {
            let open = waits::open_of(log.pool(), account, after, SLICE).await?;
            for &(provider, wait) in &open {
                let origin = Origin::of(ACTOR, Uuid::new_v4().simple().to_string());
                match self.executor.execute(LeaveWaitlist { provider, wait }, origin).await {
                    Ok(_) | Err(ExecuteError::Refused(_)) => {}
                    Err(error) => return Err(EraseError::Leave(error)),
                }
            }
            after = open.last().map(|(_, wait)| *wait);
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Does to every store but the log what the log did to itself.
    async fn purge(
        &self,
        log: &EventLog,
        mailer: &dyn Mailer,
        files: &Files,
        account: AccountId,
    ) -> Result<(), EraseError> {
        let pool = log.pool();
        let shops = erasures::purge_tables(pool, account).await?;
        self.feed.purge(account.into(), &shops).await?;
        // After the tables: whoever fills a list from now on reads nothing of the person.
        let mut after = None;
        loop {
            let places = appointments::places_of_party(pool, account, after, SLICE).await?;
            let days: Vec<_> = places
                .iter()
                .flat_map(|(_, provider, start)| {
                    local_days(*start).into_iter().map(|day| (*provider, day))
                })
                .collect();
            self.availability.lose_lists(&days).await?;
            after = places.last().map(|(id, ..)| *id);
            if after.is_none() {
                break;
            }
        }
        super::forget_mails(pool, account).await?;
        mailer.forget(&|mail| mail_is_of(mail, account)).await?;
        // Photos that were never shown; those that were are deleted by jobs of their own.
        for (mark, _) in files.list(PENDING, MARKS).await? {
            if let Some((whose, photo)) = photos::read_pending(&mark)
                && whose == account
            {
                files.delete_folder(&photos::folder(photo)).await?;
                files.delete(&mark).await?;
            }
        }
        Ok(())
    }
}

/// The most marks of photos that are looked at; what is beyond goes within the hour by itself.
const MARKS: usize = 1_000;

/// What must have been passed: at first what the tombstone says.
async fn wanted(log: &EventLog, row: &ErasureRow) -> Result<PositionToken, LogError> {
    if let Some(heads) = &row.heads {
        return Ok(heads.clone());
    }
    let tombstone = log.erasure(row.account.into()).await?;
    Ok(tombstone.ok_or(LogError::Malformed("an erased account has a tombstone"))?.heads)
}

/// Whether another job of theirs, such as the one that deletes their photo, is not done.
async fn jobs_left(log: &EventLog, account: AccountId, but: Uuid) -> Result<bool, EraseError> {
    Ok(super::count_others(log.pool(), account, but).await? > 0)
}

/// The longer it takes, the less often it is looked.
pub(super) fn look_again(since: TimeDelta) -> TimeDelta {
    let (first, last) = LOOK;
    (since / 8).clamp(first, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_often_at_first_and_every_minute_in_the_end() {
        let of = |seconds| look_again(TimeDelta::seconds(seconds));
        assert_eq!(of(-1), TimeDelta::milliseconds(500));
        assert_eq!(of(80), TimeDelta::seconds(10));
        assert_eq!(of(86_400), TimeDelta::seconds(60));
    }
}
