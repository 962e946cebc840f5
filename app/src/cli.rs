//! The command line: `pontual <role or command>`. What each does is where it is done; `main.rs` leads there.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// The booking backend that cannot double-book and never forgets why.
#[derive(Debug, Parser)]
#[command(name = "pontual", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Read settings from this file instead of `pontual.toml`
    #[arg(long, global = true, env = "PONTUAL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Everything in one process, on one port
    Serve {
        /// Fill an empty log with demo data first
        #[arg(long)]
        demo: bool,
    },
    /// Serve what changes something
    CommandApi,
    /// Serve what reads, and the websockets
    QueryApi,
    /// Feed read models from the log
    Projector {
        /// Which: all of them run in one process
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Do the jobs: send mail, and the like
    Worker,
    /// Bring the database to this version
    Migrate,
    /// Fill the log with demo data, through commands
    Demo,
    /// Say what is wrong, and what to do next
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Apply again what a projector has parked
    Retry {
        /// Which projector
        name: String,
    },
    /// Look into the log
    Log {
        /// What to look for.
        #[command(subcommand)]
        command: LogCommand,
    },
    /// Print the OpenAPI document
    Openapi,
    /// Ask the program on this machine whether it is ready: exits with 0 if it is (for container health checks)
    Health,
}

/// What to look for in the log.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum LogCommand {
    /// Print each partition's last position
    Head,
    /// Recompute every hash and the chains
    Verify,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_read() {
        assert_eq!(parse("pontual serve --demo").unwrap().command, Command::Serve { demo: true });
        let projector = Command::Projector { names: vec!["availability".into(), "feed".into()] };
        assert_eq!(parse("pontual projector availability feed").unwrap().command, projector);
        let verify = Command::Log { command: LogCommand::Verify };
        assert_eq!(parse("pontual log verify").unwrap().command, verify);
        assert_eq!(parse("pontual migrate --config a.toml").unwrap().config, Some("a.toml".into()));
    }

    #[test]
    fn a_projector_without_a_name_and_an_unknown_command_are_refused() {
        assert!(parse("pontual projector").is_err());
        assert!(parse("pontual dance").is_err());
        assert!(parse("pontual").is_err());
    }
}
