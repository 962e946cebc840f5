//! The worker: takes due jobs, runs them, a few at a time, and drains gracefully (S4-36).

use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::ids::AccountId;
use event_log::EventLog;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{TakenJob, Task};
use crate::mail::{MailError, Mailer, templates};

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
}

impl Worker {
    /// Runs until told to stop, then finishes what it has begun.
    pub async fn run(self, stop: CancellationToken) {
        let worker = Arc::new(self);
        let mut running = JoinSet::new();
        for _ in 0..worker.concurrency.max(1) {
            running.spawn(work(worker.clone(), stop.clone()));
        }
        while running.join_next().await.is_some() {}
    }

    async fn execute(&self, job: &TakenJob) -> Result<(), TaskError> {
        match &job.task {
            Task::ConfirmEmailMail { account } => {
                let token =
                    http_kit::links::confirm_token(&self.log.derive_key("email-confirm"), *account);
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
        let done = match tokio::time::timeout(TASK_TIMEOUT, worker.execute(&job)).await {
            Ok(done) => done,
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

async fn pause(stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(POLL) => {}
    }
}
