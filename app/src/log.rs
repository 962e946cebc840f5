//! `pontual log`: looking into the log.

use event_log::EventLog;

use crate::cli::LogCommand;
use crate::config::Config;
use crate::database::{Database, Tenancy};
use crate::serve::open_log;

/// Runs one of the log's commands, beside a running program or alone.
pub async fn run(config: &Config, command: &LogCommand) -> anyhow::Result<()> {
    let database = Database::open(config, Tenancy::Guest).await?;
    let done = async {
        let log = open_log(config, &database).await?;
        match command {
            LogCommand::Head => head(&log).await,
            LogCommand::Verify => verify(&log).await,
        }
    };
    let done = done.await;
    database.close().await?;
    done
}

#[expect(clippy::print_stdout, reason = "the operator reads this")]
async fn head(log: &EventLog) -> anyhow::Result<()> {
    for partition in log.partitions().all() {
        println!("{partition}:{}", log.head(partition).await?);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the operator reads this")]
async fn verify(log: &EventLog) -> anyhow::Result<()> {
    let bar = indicatif::ProgressBar::new(u64::from(log.partitions().get()));
    for partition in log.partitions().all() {
        bar.set_message(format!("partition {partition}"));
        let proven = log.verify(partition, None).await?;
        bar.suspend(|| {
            println!("{partition}:{} {}", proven.position, hex::encode(&proven.chain));
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}
