//! The worker: takes due jobs, runs them, a few at a time, and drains gracefully (S4-36).
//!
//! For example one of its hands takes the job `ConfirmEmailMail`, loads the account, mails its link and marks the
//! job done; told to stop, it ends that and takes no other. A crash in between leaves the job locked, and it is
//! begun again when the lock has expired.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use domain::account::Account;
use domain::ids::AccountId;
use event_log::EventLog;
use futures_util::FutureExt;
use http_kit::links::{EMAIL_CONFIRM, confirm_token};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{TakenJob, Task};
use crate::mail::{MailError, Mailer, templates};

/// How often an idle worker looks for due jobs.
const POLL: Duration = Duration::from_millis(500);
/// No task may take longer; well under the lock of a taken job.
const TASK_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the table is counted and swept.
const SWEEP: Duration = Duration::from_secs(15);
/// How long it is remembered that a job was done: as long as commands are.
const REMEMBER: TimeDelta = TimeDelta::days(30);

/// What a worker needs.
pub struct Worker {
    /// Jobs are rendered from the log.
    pub log: EventLog,
    /// Where mail goes.
    pub mailer: Arc<dyn Mailer>,
    /// The front end's address, with no slash at the end.
    pub public_url: String,
    /// How many jobs run at a time.
    pub concurrency: usize,
}

/// Why a task failed. The texts hold nothing personal.
#[derive(Debug, thiserror::Error)]
enum TaskError {
    #[error("the log could not be read")]
    Log(#[from] event_log::LogError),
    #[error("the mail could not be sent")]
    Mail(#[from] MailError),
    #[error("it took longer than {} s", TASK_TIMEOUT.as_secs())]
    TimedOut,
    #[error("it panicked")]
    Panicked,
}

impl Worker {
    /// Runs until told to stop, then finishes what it has begun.
    pub async fn run(self, stop: CancellationToken) {
        let worker = Arc::new(self);
        let mut running = JoinSet::new();
        for _ in 0..worker.concurrency.max(1) {
            running.spawn(work(worker.clone(), stop.clone()));
        }
        running.spawn(sweep(worker.log.clone(), stop));
        while running.join_next().await.is_some() {}
    }

    async fn execute(&self, job: &TakenJob) -> Result<(), TaskError> {
        match &job.task {
            Task::ConfirmEmailMail { account } => {
                let key = self.log.derive_key(EMAIL_CONFIRM);
                let token = confirm_token(&key, *account);
                let link = format!("{}/confirm#token={token}", self.public_url);
                self.mail(job, *account, |recipient| templates::confirm_email(recipient, &link))
                    .await
            }
            Task::RegistrationAttemptMail { account } => {
                let link = format!("{}/forgot", self.public_url);
                self.mail(job, *account, |recipient| {
                    templates::registration_attempt(recipient, &link)
                })
                .await
            }
        }
    }

    /// Mails an account; one that does not exist any more gets nothing.
    async fn mail(
        &self,
        job: &TakenJob,
        account: AccountId,
        render: impl FnOnce(&templates::Recipient) -> templates::Rendered,
    ) -> Result<(), TaskError> {
        let loaded = self.log.load::<Account>(account).await?;
        let recipient = loaded.state.profile.as_ref().and_then(|profile| {
            Some(templates::Recipient {
                name: profile.name.known()?.clone(),
                email: profile.email.known()?.clone(),
                locale: profile.locale,
            })
        });
        let Some(recipient) = recipient else {
            tracing::info!(job = %job.id, "job {} has nobody to write to any more", job.id);
            return Ok(());
        };
        let rendered = render(&recipient);
        self.mailer.send(job.id, &recipient, &rendered).await?;
        Ok(())
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
            Ok(()) => {
                metrics::counter!("pontual_jobs_done_total").increment(1);
                super::complete(&pool, job.id, now).await
            }
            Err(error) => {
                metrics::counter!("pontual_jobs_failed_total").increment(1);
                let causes = crate::causes(&error);
                tracing::warn!(job = %job.id, attempt = job.attempt, error = %causes, "job {} failed", job.id);
                super::fail(&pool, &job, &causes, now, rand::random()).await
            }
        };
        if let Err(error) = recorded {
            tracing::warn!(job = %job.id, %error, "the end of job {} was not recorded; it will run again", job.id);
        }
    }
}

/// Says how long the queue is, and forgets what was done long ago.
async fn sweep(log: EventLog, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let swept = async {
            let (waiting, dead) = super::counts(log.pool()).await?;
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            {
                metrics::gauge!("pontual_jobs_waiting").set(waiting as f64);
                metrics::gauge!("pontual_jobs_dead").set(dead as f64);
            }
            super::forget_done(log.pool(), log.clock().now() - REMEMBER).await
        };
        if let Err(error) = swept.await {
            tracing::debug!(%error, "the jobs were not counted");
        }
        let _ = tokio::time::timeout(SWEEP, stop.cancelled()).await;
    }
}

async fn pause(stop: &CancellationToken) {
    let _ = tokio::time::timeout(POLL, stop.cancelled()).await;
}
