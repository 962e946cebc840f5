//! Looking after jobs: `pontual jobs list [--dead]` and `pontual jobs retry ID|all`.
//!
//! For example mails that an SMTP server refused while its password was wrong wait for their next try, or were given up:
//! `pontual jobs retry all` sends them now. A worker takes them within half a second; interrupted, it changes nothing.

use projectors::jobs;
use sqlx::PgPool;

use crate::cli::{JobsCommand, Which};
use crate::config::Config;
use crate::database::{Database, Tenancy};
use crate::serve::open_log;

/// No more are printed.
const LIMIT: u32 = 1000;

/// Runs `pontual jobs …`.
pub async fn run(config: &Config, command: &JobsCommand) -> anyhow::Result<()> {
    let database = Database::open(config, Tenancy::Guest).await?;
    let done = async {
        let log = open_log(config, &database).await?;
        match command {
            JobsCommand::List { dead } => list(log.pool(), *dead).await,
            JobsCommand::Retry { which } => {
                let id = match which {
                    Which::All => None,
                    Which::One(id) => Some(*id),
                };
                retry(log.pool(), id, log.clock().now()).await
            }
        }
    };
    let done = done.await;
    database.close().await?;
    done
}

#[expect(clippy::print_stdout, reason = "the operator reads this")]
async fn list(pool: &PgPool, dead: bool) -> anyhow::Result<()> {
    for job in jobs::list(pool, dead, LIMIT).await? {
        let (what, when) = match job.dead_at {
            Some(at) => ("given up", at),
            None => ("due", job.run_at),
        };
        let when = when.format("%Y-%m-%dT%H:%M:%SZ");
        let error = job.error.map(|error| format!(": {error}")).unwrap_or_default();
        println!("{}  {}  {what} {when}, {} tries{error}", job.id, job.kind, job.attempts);
    }
    let (waiting, dead) = jobs::counts(pool).await?;
    println!("{waiting} wait, {dead} were given up");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the operator reads this")]
async fn retry(pool: &PgPool, id: Option<uuid::Uuid>, now: domain::Instant) -> anyhow::Result<()> {
    let retried = jobs::retry(pool, id, now).await?;
    if let (0, Some(id)) = (retried, id) {
        anyhow::bail!("no job {id} was given up or waits after a failure");
    }
    println!("{retried} are due now");
    Ok(())
}
