//! The worker: takes due jobs, runs them, a few at a time, and drains gracefully (S4-36).
//!
//! For example one of its hands takes the job `ResetPasswordMail`, loads the account, mails the link, if that request still
//! stands, and marks the job done; told to stop, it ends that and takes no other. A crash in between leaves the job
//! locked, and it is begun again when the lock has expired.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use domain::account::{Account, AccountEvent, DeactivatedBy, PendingReset, ResetKey, Status};
use domain::event::Event;
use domain::ids::{AccountId, Id as _};
use domain::personal::Personal;
use domain::position::Position;
use domain::text::EmailAddress;
use event_log::EventLog;
use futures_util::FutureExt;
use http_kit::files::Files;
use http_kit::links;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::erasure::{EraseError, Eraser, Outcome};
use super::guests::{self, GuestLetter};
use super::{TakenJob, Task, expiry, holds, housekeeping, photos, waitlist};
use crate::mail::templates::{Letter, Recipient};
use crate::mail::{MailError, Mailer};

/// How often an idle worker looks for due jobs.
const POLL: Duration = Duration::from_millis(500);
/// No task may take longer; well under the lock of a taken job.
const TASK_TIMEOUT: Duration = Duration::from_secs(60);

/// What a worker needs.
pub struct Worker {
    /// Jobs are rendered from the log.
    pub log: EventLog,
    /// Where mail goes.
    pub mailer: Arc<dyn Mailer>,
    /// Where photos are.
    pub files: Files,
    /// Takes erased people out of the stores.
    pub eraser: Eraser,
    /// The front end's address, with no slash at the end.
    pub public_url: String,
    /// How many jobs run at a time.
    pub concurrency: usize,
}

/// Why a task failed. The texts hold nothing personal.
#[derive(Debug, thiserror::Error)]
pub(super) enum TaskError {
    #[error("the log could not be read")]
    Log(#[from] event_log::LogError),
    #[error("the mail could not be sent")]
    Mail(#[from] MailError),
    #[error("the photo could not be deleted")]
    Photo(#[from] photos::PhotoError),
    #[error("the person could not be purged")]
    Erase(#[from] EraseError),
    #[error("the hold could not be expired")]
    Hold(#[source] event_log::ExecuteError),
    #[error("nobody could be offered what was given back")]
    Waitlist(#[source] event_log::ExecuteError),
    #[error("it took longer than {} s", TASK_TIMEOUT.as_secs())]
    TimedOut,
    #[error("it panicked")]
    Panicked,
}

impl TaskError {
    /// Whether trying again cannot help.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Mail(error) => error.is_permanent(),
            Self::Log(_)
            | Self::Photo(_)
            | Self::Erase(_)
            | Self::Hold(_)
            | Self::Waitlist(_)
            | Self::TimedOut
            | Self::Panicked => false,
        }
    }
}

impl Worker {
    /// Runs until told to stop, then finishes what it has begun.
    pub async fn run(self, stop: CancellationToken) {
        let worker = Arc::new(self);
        let mut running = JoinSet::new();
        for _ in 0..worker.concurrency.max(1) {
            running.spawn(work(worker.clone(), stop.clone()));
        }
        running.spawn(photos::keep(worker.log.clone(), worker.files.clone(), stop.clone()));
        running.spawn(expiry::keep(worker.eraser.executor.clone(), stop.clone()));
        running.spawn(housekeeping::keep(worker.log.clone(), stop));
        while running.join_next().await.is_some() {}
    }

    async fn execute(&self, job: &TakenJob) -> Result<Outcome, TaskError> {
        match job.task {
            Task::ConfirmEmailMail { account }
            | Task::RegistrationAttemptMail { account }
            | Task::ConfirmNewEmailMail { account, .. }
            | Task::EmailChangedMail { account, .. }
            | Task::ResetPasswordMail { account, .. }
            | Task::PasswordChangedMail { account }
            | Task::AccountDeactivatedMail { account } => {
                let Some((letter, to, link)) = self.letter(&job.task, account).await? else {
                    tracing::debug!(job = %job.id, "job {} has nothing to say to anybody any more", job.id);
                    return Ok(Outcome::Complete);
                };
                let rendered = letter.render(&to, &format!("{}{link}", self.public_url));
                self.mailer.send(job.id, &to, &rendered).await?;
                Ok(Outcome::Complete)
            }
            Task::DeletePhoto { account, photo } => {
                photos::delete(&self.log, &self.files, account, photo).await?;
                Ok(Outcome::Complete)
            }
            Task::GuestMail { guest, appointment, news } => {
                let Some(mail) = guests::letter(&self.log, guest, appointment, news).await? else {
                    tracing::debug!(job = %job.id, "job {} has nothing to say to anybody any more", job.id);
                    return Ok(Outcome::Complete);
                };
                let GuestLetter { letter, to, about, link } = mail;
                let link = format!("{}{link}", self.public_url);
                self.mailer.send(job.id, &to, &letter.render_about(&to, &link, &about)).await?;
                Ok(Outcome::Complete)
            }
            Task::PurgeGuest { guest, appointment, number } => {
                let stores = (&self.log, &*self.mailer);
                let whom = (guest, appointment, number);
                Ok(guests::purge(&self.eraser, stores, whom, job.id).await?)
            }
            Task::PurgeAccount { account } => {
                let stores = (&self.log, &*self.mailer, &self.files);
                Ok(self.eraser.run(stores, account, job.id).await?)
            }
            Task::OfferFreedSlot { provider, day } => {
                waitlist::offer(&self.eraser.executor, provider, day).await
            }
            Task::ExpireHold { hold, due } => {
                holds::expire(&self.log, &self.eraser.executor, hold, due).await
            }
        }
    }

    /// What is to be written to whom, and where its link leads; `None` if there is no reason to (any more).
    async fn letter(
        &self,
        task: &Task,
        account: AccountId,
    ) -> Result<Option<(Letter, Recipient, String)>, TaskError> {
        // Of the log as it is now: what is in memory may be older than the event that ordered the mail.
        let partition = self.log.partition_of(account.slot());
        let number = self.log.head(partition).await?;
        let now =
            self.log.load_at_least::<Account>(account, Position { partition, number }).await?;
        let state = now.state;
        let Some(profile) = &state.profile else { return Ok(None) };
        let to = |email: &Personal<EmailAddress>| {
            let (name, email) = (profile.name.known()?.clone(), email.known()?.clone());
            Some(Recipient { name, email, locale: profile.locale })
        };
        let active = match state.status {
            Status::Active => true,
            Status::Deactivated | Status::Erased => false,
        };
        let own = to(&profile.email);
        let forgot = || "/forgot".to_owned();
        let (letter, to, link) = match task {
            Task::ConfirmEmailMail { .. } if state.email_confirmed || !active => return Ok(None),
            Task::ConfirmEmailMail { .. } => {
                let token =
                    links::confirm_token(&self.log.derive_key(links::EMAIL_CONFIRM), account);
                (Letter::ConfirmEmail, own, format!("/confirm#token={token}"))
            }
            Task::RegistrationAttemptMail { .. } => (Letter::RegistrationAttempt, own, forgot()),
            Task::ConfirmNewEmailMail { change, .. } => {
                let pending = state.pending_email.as_ref();
                let pending = pending.filter(|p| active && p.change == *change);
                let Some(pending) = pending else { return Ok(None) };
                let key = self.log.derive_key(links::EMAIL_CHANGE);
                let token = links::change_token(&key, account, *change);
                let link = format!("/confirm-email-change#token={token}");
                (Letter::ConfirmNewEmail, to(&pending.email), link)
            }
            Task::EmailChangedMail { number, .. } => {
                let event = self.log.tail(partition, number.saturating_sub(1), 1).await?.pop();
                let Some(Event::Account(AccountEvent::EmailChanged { previous, .. })) =
                    event.map(|event| event.event)
                else {
                    return Ok(None);
                };
                (Letter::EmailChanged, to(&previous), String::new())
            }
            Task::ResetPasswordMail { reset, .. } => {
                let clock = self.log.clock().now();
                let stands = |p: &PendingReset| p.reset == *reset && p.expires_at > clock;
                if !active || !state.pending_reset.as_ref().is_some_and(stands) {
                    return Ok(None);
                }
                let key = ResetKey::new(self.log.derive_key(ResetKey::LABEL));
                let token = links::reset_token(&key, account, *reset);
                (Letter::ResetPassword, own, format!("/reset-password#token={token}"))
            }
            Task::PasswordChangedMail { .. } => (Letter::PasswordChanged, own, forgot()),
            Task::AccountDeactivatedMail { .. } => match state.deactivated_by {
                Some(DeactivatedBy::Owner) => (Letter::AccountDeactivated, own, String::new()),
                Some(DeactivatedBy::Admin) => (Letter::AccountClosed, own, String::new()),
                None => return Ok(None),
            },
            Task::DeletePhoto { .. }
            | Task::GuestMail { .. }
            | Task::PurgeGuest { .. }
            | Task::PurgeAccount { .. }
            | Task::ExpireHold { .. }
            | Task::OfferFreedSlot { .. } => return Ok(None),
        };
        Ok(to.map(|to| (letter, to, link)))
    }
}

/// One of the worker's hands.
async fn work(worker: Arc<Worker>, stop: CancellationToken) {
    let pool = worker.log.pool().clone();
    while !stop.is_cancelled() {
        let now = worker.log.clock().now();
        let job = match super::take(&pool, now).await {
            Ok(Some(job)) => job,
            Ok(None) => {
                pause(&stop).await;
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "no job could be taken; trying again");
                pause(&stop).await;
                continue;
            }
        };
        let task = AssertUnwindSafe(worker.execute(&job)).catch_unwind();
        let done = match tokio::time::timeout(TASK_TIMEOUT, task).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(TaskError::Panicked),
            Err(_) => Err(TaskError::TimedOut),
        };
        let now = worker.log.clock().now();
        let recorded = match done {
            Ok(Outcome::Later(until)) => super::postpone(&pool, &job, until).await,
            Ok(Outcome::Complete) => {
                metrics::counter!("pontual_jobs_done_total").increment(1);
                super::complete(&pool, job.id, now).await
            }
            Err(error) => {
                metrics::counter!("pontual_jobs_failed_total").increment(1);
                let (causes, permanent) = (crate::causes(&error), error.is_permanent());
                tracing::warn!(job = %job.id, attempt = job.attempt, permanent, error = %causes, "job {} failed", job.id);
                super::fail(&pool, &job, &causes, permanent, now, rand::random()).await
            }
        };
        if let Err(error) = recorded {
            tracing::warn!(job = %job.id, %error, "the end of job {} was not recorded; it will run again", job.id);
        }
    }
}

async fn pause(stop: &CancellationToken) {
    let _ = tokio::time::timeout(POLL, stop.cancelled()).await;
}
