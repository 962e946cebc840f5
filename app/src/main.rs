//! The `pontual` program: reads the command line and the settings, and leads to what does the work.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use app::cli::{AdminCommand, Cli, Command};
use app::config::Config;
use app::database::{Database, Tenancy};
use app::serve::Role;
use app::{admin, doctor, health, jobs, log, openapi, serve, telemetry};
use clap::Parser as _;

/// A booking allocates some hundred small things in several threads, which is what this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("this is the first and only provider");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(error).context("the threads cannot be started"),
    };
    result.unwrap_or_else(|error| {
        eprintln!("✗ {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = Config::load(cli.config.as_deref());
    if let Command::Doctor { json } = cli.command {
        return report(&doctor::examine(config).await, json);
    }
    let config = config?;
    telemetry::log(&config)?;
    match cli.command {
        Command::Health => {
            let status = health::get(config.listen, "/health/ready").await?;
            anyhow::ensure!(status.is_success(), "not ready: {status}");
        }
        Command::Migrate => {
            let database = Database::open(&config, Tenancy::Guest).await?;
            let migrated = serve::migrate(&database).await;
            database.close().await?;
            migrated?;
        }
        Command::Doctor { .. } => {
            unreachable!("it was handled above, as it judges the settings, too")
        }
        Command::Serve { demo } => serve::run(&config, Role::Serve { demo }).await?,
        Command::CommandApi => serve::run(&config, Role::CommandApi).await?,
        Command::QueryApi => serve::run(&config, Role::QueryApi).await?,
        Command::Projector { names } => serve::run(&config, Role::Projectors(names)).await?,
        Command::Worker => serve::run(&config, Role::Worker).await?,
        Command::Demo => serve::demo(&config).await?,
        Command::Retry { name } => serve::retry(&config, &name).await?,
        Command::Jobs { command } => jobs::run(&config, &command).await?,
        Command::Admin { command: AdminCommand::Create { email, name, locale } } => {
            admin::create(&config, &email, &name, locale).await?;
        }
        Command::Log { command } => log::run(&config, &command).await?,
        Command::Openapi => {
            let document = openapi::document().to_pretty_json()?;
            writeln!(std::io::stdout().lock(), "{document}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn report(checks: &[doctor::Check], json: bool) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, checks)?;
        writeln!(out)?;
    } else {
        for check in checks {
            writeln!(out, "{check}")?;
        }
    }
    Ok(if checks.iter().all(|check| check.good) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
