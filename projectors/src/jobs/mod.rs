//! Durable jobs: a table, not a crate (design.md §7), with three priorities, retries and dead letters.
//!
//! A reactor inserts a job in the transaction that moves its checkpoint; the [`worker`] takes it, runs it
//! and deletes it. For example `AccountRegistered` at 2:17 becomes the job `ConfirmEmailMail`, which is
//! rendered from the log when it is sent.
//!
//! A job that fails comes back later and later, and is given up after twelve attempts, or at once if another could not
//! help: a dead letter. `pontual jobs list --dead` shows them ([`list`]), `pontual jobs retry` lets them begin anew
//! ([`retry`]).
//!
//! A crash while a job runs leaves it locked until its lock expires; then it runs again. The one window
//! in which something can happen twice is between the effect and the delete: a mail's Message-ID is the
//! job's id, so the second copy is recognisable.

use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use domain::Instant;
use domain::ids::{
    AccountId, AppointmentId, ChangeId, GuestId, HoldId, PhotoId, ProviderId, ResetId,
};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool, Row};
use uuid::Uuid;

use self::guests::GuestNews;

pub mod erasure;
pub mod expiry;
pub mod guests;
mod holds;
mod housekeeping;
pub mod photos;
mod waitlist;
pub mod worker;

/// What there is to do. Ids only: everything else is looked up when it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "payload")]
pub enum Task {
    /// Send an account the link that confirms its address.
    ConfirmEmailMail {
        /// Whose.
        account: AccountId,
    },
    /// Tell an account that somebody tried to register with its address.
    RegistrationAttemptMail {
        /// Whose.
        account: AccountId,
    },
    /// Send the link that confirms the address an account means to change to, to that address.
    ConfirmNewEmailMail {
        /// Whose.
        account: AccountId,
        /// Which request.
        change: ChangeId,
    },
    /// Tell the old address of an account that another one is used now.
    EmailChangedMail {
        /// Whose.
        account: AccountId,
        /// The number of the event that holds the old address, in the account's partition.
        number: u64,
    },
    /// Send an account the link that sets a new password.
    ResetPasswordMail {
        /// Whose.
        account: AccountId,
        /// Which request.
        reset: ResetId,
    },
    /// Tell an account that its password was changed.
    PasswordChangedMail {
        /// Whose.
        account: AccountId,
    },
    /// Tell an account that it was deactivated.
    AccountDeactivatedMail {
        /// Whose.
        account: AccountId,
    },
    /// Delete the files of a photo that is shown no longer.
    DeletePhoto {
        /// Whose it was.
        account: AccountId,
        /// Which.
        photo: PhotoId,
    },
    /// Tell a guest what became of their appointment, with the link that manages it.
    GuestMail {
        /// Whom.
        guest: GuestId,
        /// Which.
        appointment: AppointmentId,
        /// What.
        news: GuestNews,
    },
    /// Take an erased guest out of what their appointment's events do not empty by themselves.
    PurgeGuest {
        /// Whom.
        guest: GuestId,
        /// Which was theirs.
        appointment: AppointmentId,
        /// The number of the event that erased them, in the appointment's partition.
        number: u64,
    },
    /// Take an erased person out of everything that was made of the log.
    PurgeAccount {
        /// Whom.
        account: AccountId,
    },
    /// Say that a hold's time is over, so that those who wait for the slot hear of it.
    ExpireHold {
        /// Which.
        hold: HoldId,
        /// When its time is over.
        due: Instant,
    },
    /// Offer what is free of a provider's day to who waits for it.
    OfferFreedSlot {
        /// Whose.
        provider: ProviderId,
        /// Which UTC day.
        day: NaiveDate,
    },
}

/// How urgent a job is (S4-37).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Somebody waits for it.
    High = 1,
    /// Most of them.
    Normal = 2,
    /// When there is time.
    Low = 3,
}

/// A job to be inserted.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Derived from the event that caused it.
    pub id: Uuid,
    /// What to do.
    pub task: Task,
    /// How urgent.
    pub priority: Priority,
    /// Not before.
    pub run_at: Instant,
}

/// A job that was taken to be run.
#[derive(Debug, Clone)]
pub struct TakenJob {
    /// Its id.
    pub id: Uuid,
    /// What to do.
    pub task: Task,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// After how many it is given up.
    pub max_attempts: u32,
}

/// How often a job is tried before it is a dead letter.
const MAX_ATTEMPTS: i32 = 12;
/// How long a taken job is locked; longer than any task may take.
const LOCK: TimeDelta = TimeDelta::seconds(90);
/// The first retry comes after this long, each later one after twice as long, with jitter.
const FIRST_BACKOFF: Duration = Duration::from_secs(2);
/// No retry waits longer.
const MAX_BACKOFF: Duration = Duration::from_secs(60 * 60);

/// Inserts jobs that are neither waiting nor done yet.
pub async fn insert(
    connection: &mut PgConnection,
    jobs: &[NewJob],
    now: Instant,
) -> sqlx::Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let (kinds, payloads): (Vec<_>, Vec<_>) = jobs.iter().map(|job| job.task.columns()).unzip();
    sqlx::query(
        "INSERT INTO jobs (id, kind, payload, priority, run_at, max_attempts, created_at)
         SELECT id, kind, payload::json, priority, run_at, $6, $7
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::timestamptz[])
              AS new (id, kind, payload, priority, run_at)
         WHERE NOT EXISTS (SELECT 1 FROM jobs_done WHERE jobs_done.id = new.id)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(jobs.iter().map(|job| job.id).collect::<Vec<_>>())
    .bind(kinds)
    .bind(payloads)
    .bind(jobs.iter().map(|job| job.priority as i16).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.run_at).collect::<Vec<_>>())
    .bind(MAX_ATTEMPTS)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes the most urgent job that is due, if there is one. Nobody else gets it while its lock holds.
///
/// A job that cannot even be begun is put back as if it had failed: one whose kind only a newer version of this
/// program knows, or whose every attempt ended with its process.
pub async fn take(pool: &PgPool, now: Instant) -> sqlx::Result<Option<TakenJob>> {
    loop {
        let row = sqlx::query(
            "UPDATE jobs SET attempts = attempts + 1, locked_until = $2
             WHERE id = (
                 SELECT id FROM jobs
                 WHERE dead_at IS NULL AND run_at <= $1
                   AND (locked_until IS NULL OR locked_until <= $1)
                 ORDER BY priority, run_at
                 FOR UPDATE SKIP LOCKED
                 LIMIT 1)
             RETURNING id, kind, payload::text AS payload, attempts, max_attempts",
        )
        .bind(now)
        .bind(now + LOCK)
        .fetch_optional(pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let id: Uuid = row.try_get("id")?;
        let count = |column| {
            row.try_get::<i32, _>(column).map(|count| u32::try_from(count).unwrap_or_default())
        };
        let (attempt, max_attempts) = (count("attempts")?, count("max_attempts")?);
        let error = match Task::read(row.try_get("kind")?, row.try_get("payload")?) {
            Ok(task) if attempt <= max_attempts => {
                return Ok(Some(TakenJob { id, task, attempt, max_attempts }));
            }
            Ok(_) => "it was begun as often as it may be, and never ended",
            Err(_) => "its kind or payload is unknown to this version",
        };
        put_back(pool, id, attempt, attempt >= max_attempts, error, now, 0.5).await?;
    }
}

/// Marks a job done.
pub async fn complete(pool: &PgPool, id: Uuid, now: Instant) -> sqlx::Result<()> {
    sqlx::query(
        "WITH gone AS (DELETE FROM jobs WHERE id = $1)
         INSERT INTO jobs_done (id, done_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
    )
    .bind(id)
    .bind(now)
    .execute(pool)
    .await?;
    Ok(())
}

/// Puts a failed job back, later each time, or gives it up: after its last attempt, or at once if another cannot help.
/// `error` must hold nothing personal.
pub async fn fail(
    pool: &PgPool,
    job: &TakenJob,
    error: &str,
    permanent: bool,
    now: Instant,
    jitter: f64,
) -> sqlx::Result<()> {
    let dead = permanent || job.attempt >= job.max_attempts;
    put_back(pool, job.id, job.attempt, dead, error, now, jitter).await
}

/// Puts a job back whose time has not come; that is no failure, and no attempt.
pub async fn postpone(pool: &PgPool, job: &TakenJob, until: Instant) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE jobs SET locked_until = NULL, last_error = NULL, run_at = $3, attempts = 0
         WHERE id = $1 AND attempts = $2",
    )
    .bind(job.id)
    .bind(i32::try_from(job.attempt).unwrap_or(i32::MAX))
    .bind(until)
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes the mails to an account that wait or were given up: it was erased, and nobody can be written to.
pub async fn forget_mails(pool: &PgPool, account: AccountId) -> sqlx::Result<u64> {
    let forgotten = sqlx::query(
        "DELETE FROM jobs WHERE payload->>'account' = $1 AND kind LIKE '%Mail'
           AND (locked_until IS NULL OR locked_until <= now())",
    )
    .bind(account.to_string())
    .execute(pool)
    .await?;
    Ok(forgotten.rows_affected())
}

/// How many jobs about an account wait, run or were given up, but for one.
pub async fn count_others(pool: &PgPool, account: AccountId, but: Uuid) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT count(*) FROM jobs WHERE payload->>'account' = $1 AND id <> $2")
        .bind(account.to_string())
        .bind(but)
        .fetch_one(pool)
        .await
}

/// Whoever took the job since then has another attempt, and keeps it.
async fn put_back(
    pool: &PgPool,
    id: Uuid,
    attempt: u32,
    dead: bool,
    error: &str,
    now: Instant,
    jitter: f64,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE jobs SET locked_until = NULL, last_error = left($3, 500), run_at = $4,
                dead_at = CASE WHEN $5 THEN $6::timestamptz END
         WHERE id = $1 AND attempts = $2",
    )
    .bind(id)
    .bind(i32::try_from(attempt).unwrap_or(i32::MAX))
    .bind(error)
    .bind(now + backoff(attempt, jitter))
    .bind(dead)
    .bind(now)
    .execute(pool)
    .await?;
    Ok(())
}

/// A job as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedJob {
    /// Its id.
    pub id: Uuid,
    /// What it is to do.
    pub kind: String,
    /// How urgent, from 1.
    pub priority: i16,
    /// How often it was tried.
    pub attempts: u32,
    /// Not before.
    pub run_at: Instant,
    /// Why it failed the last time.
    pub error: Option<String>,
    /// When it was given up.
    pub dead_at: Option<Instant>,
}

/// Jobs that wait, or only those that were given up: these first, then by when they are due.
pub async fn list(pool: &PgPool, only_dead: bool, limit: u32) -> sqlx::Result<Vec<ListedJob>> {
    let rows = sqlx::query(
        "SELECT id, kind, priority, attempts, run_at, last_error, dead_at FROM jobs
         WHERE NOT $1 OR dead_at IS NOT NULL
         ORDER BY dead_at NULLS LAST, run_at, id LIMIT $2",
    )
    .bind(only_dead)
    .bind(i64::from(limit))
    .fetch_all(pool)
    .await?;
    let listed = rows.iter().map(|row| {
        Ok(ListedJob {
            id: row.try_get("id")?,
            kind: row.try_get("kind")?,
            priority: row.try_get("priority")?,
            attempts: row.try_get::<i32, _>("attempts")?.unsigned_abs(),
            run_at: row.try_get("run_at")?,
            error: row.try_get("last_error")?,
            dead_at: row.try_get("dead_at")?,
        })
    });
    listed.collect()
}

/// Lets a job, or all of them, run at once that were given up or wait after a failure; says how many. Those given up begin
/// anew. Jobs that run just now, or whose time has not come, are left alone.
pub async fn retry(pool: &PgPool, id: Option<Uuid>, now: Instant) -> sqlx::Result<u64> {
    let retried = sqlx::query(
        "UPDATE jobs SET dead_at = NULL, attempts = CASE WHEN dead_at IS NULL THEN attempts ELSE 0 END,
                locked_until = NULL, run_at = $2
         WHERE ($1::uuid IS NULL OR id = $1)
           AND (dead_at IS NOT NULL
                OR (attempts > 0 AND (locked_until IS NULL OR locked_until <= $2)))",
    )
    .bind(id)
    .bind(now)
    .execute(pool)
    .await?;
    Ok(retried.rows_affected())
}

/// Forgets jobs that were done before an instant, some at a time; says how many.
pub async fn forget_done(pool: &PgPool, before: Instant) -> sqlx::Result<u64> {
    let forgotten = sqlx::query(
        "DELETE FROM jobs_done WHERE id IN (
             SELECT id FROM jobs_done WHERE done_at < $1 ORDER BY done_at LIMIT 5000)",
    )
    .bind(before)
    .execute(pool)
    .await?;
    Ok(forgotten.rows_affected())
}

/// How many jobs could be done by now.
pub async fn due(pool: &PgPool, now: Instant) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT count(*) FROM jobs WHERE dead_at IS NULL AND run_at <= $1")
        .bind(now)
        .fetch_one(pool)
        .await
}

/// How many jobs wait, be it for their time, and how many were given up.
pub async fn counts(pool: &PgPool) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "SELECT count(*) FILTER (WHERE dead_at IS NULL), count(*) FILTER (WHERE dead_at IS NOT NULL) FROM jobs",
    )
    .fetch_one(pool)
    .await
}

/// 2 s, 4 s, 8 s … at most an hour, each times 0.5–1.5. `jitter` is from 0 to 1.
fn backoff(attempt: u32, jitter: f64) -> TimeDelta {
    let doubled = FIRST_BACKOFF
        .saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1).min(20)).unwrap_or(u32::MAX));
    let wait = doubled.min(MAX_BACKOFF).mul_f64(0.5 + jitter.clamp(0.0, 1.0));
    TimeDelta::from_std(wait).unwrap_or(TimeDelta::hours(1))
}

impl Task {
    /// Before when it is not to be done, if it has a time.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self {
            Self::ExpireHold { due, hold: _ } => Some(*due),
            Self::ConfirmEmailMail { .. }
            | Self::RegistrationAttemptMail { .. }
            | Self::ConfirmNewEmailMail { .. }
            | Self::EmailChangedMail { .. }
            | Self::ResetPasswordMail { .. }
            | Self::PasswordChangedMail { .. }
            | Self::AccountDeactivatedMail { .. }
            | Self::DeletePhoto { .. }
            | Self::GuestMail { .. }
            | Self::PurgeGuest { .. }
            | Self::PurgeAccount { .. }
            | Self::OfferFreedSlot { .. } => None,
        }
    }

    fn columns(&self) -> (String, String) {
        let value = serde_json::to_value(self).expect("a task is plain data");
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        (kind, value["payload"].to_string())
    }

    fn read(kind: &str, payload: &str) -> serde_json::Result<Self> {
        let payload: serde_json::Value = serde_json::from_str(payload)?;
        serde_json::from_value(serde_json::json!({ "kind": kind, "payload": payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_waits_twice_as_long_each_time_and_never_more_than_an_hour_and_a_half() {
        assert_eq!(backoff(1, 0.5), TimeDelta::seconds(2));
        assert_eq!(backoff(2, 0.5), TimeDelta::seconds(4));
        assert_eq!(backoff(5, 0.0), TimeDelta::seconds(16));
        assert_eq!(backoff(60, 1.0), TimeDelta::minutes(90));
    }

    #[test]
    fn a_task_survives_its_columns() {
        let account = domain::ids::Mint::new([1; 32]).id(domain::ids::RoutingSlot::from_bits(1), 0);
        let task = Task::ConfirmEmailMail { account };
        let (kind, payload) = task.columns();
        assert_eq!(kind, "ConfirmEmailMail");
        assert_eq!(Task::read(&kind, &payload).unwrap(), task);
    }
}
