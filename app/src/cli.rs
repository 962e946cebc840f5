//! The command line: `pontual <role or command>`. What each does is where it is done; `main.rs` leads there.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use domain::locale::Locale;

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
    /// Look after the jobs: mails, and the like
    Jobs {
        /// What to do with them.
        #[command(subcommand)]
        command: JobsCommand,
    },
    /// Look after administrators
    Admin {
        /// What to do.
        #[command(subcommand)]
        command: AdminCommand,
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

/// What to do with jobs.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum JobsCommand {
    /// Print those that wait and those that were given up
    List {
        /// Only those that were given up
        #[arg(long)]
        dead: bool,
    },
    /// Let one, or all of them, run at once that were given up or wait after a failure
    Retry {
        /// Which
        #[arg(value_name = "ID|all", value_parser = Which::read)]
        which: Which,
    },
}

/// Which jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// The one with this id.
    One(uuid::Uuid),
}

impl Which {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            id => id.parse().map(Self::One).map_err(|_| "neither an id nor `all`".to_owned()),
        }
    }
}

/// What to do about administrators.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum AdminCommand {
    /// Make somebody an administrator; the password is asked for, or read from standard input or
    /// `PONTUAL_ADMIN_PASSWORD_FILE`
    Create {
        /// Their email address, which counts as confirmed
        #[arg(long)]
        email: String,
        /// Their name
        #[arg(long)]
        name: String,
        /// The language of their mails
        #[arg(long, value_name = "pt-BR|en", default_value = "pt-BR", value_parser = locale)]
        locale: Locale,
    },
}

fn locale(text: &str) -> Result<Locale, String> {
    let all = [Locale::PtBr, Locale::En];
    let found = all.into_iter().find(|locale| locale.tag().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "neither pt-BR nor en".to_owned())
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
        let list = Command::Jobs { command: JobsCommand::List { dead: true } };
        assert_eq!(parse("pontual jobs list --dead").unwrap().command, list);
        let retry = |which| Command::Jobs { command: JobsCommand::Retry { which } };
        assert_eq!(parse("pontual jobs retry all").unwrap().command, retry(Which::All));
        let one = "pontual jobs retry 01935d2e-7c11-7a3f-9c2b-000000000000";
        assert!(matches!(
            parse(one).unwrap().command,
            Command::Jobs { command: JobsCommand::Retry { which: Which::One(_) } }
        ));
        assert!(parse("pontual jobs retry some").is_err());
        let create = Command::Admin {
            command: AdminCommand::Create {
                email: "ana@example.com".into(),
                name: "Ana".into(),
                locale: Locale::En,
            },
        };
        let line = "pontual admin create --email ana@example.com --name Ana --locale en";
        assert_eq!(parse(line).unwrap().command, create);
        assert!(parse(&format!("{line} --password secret")).is_err(), "never an argument");
        assert_eq!(parse("pontual migrate --config a.toml").unwrap().config, Some("a.toml".into()));
    }

    #[test]
    fn a_projector_without_a_name_and_an_unknown_command_are_refused() {
        assert!(parse("pontual projector").is_err());
        assert!(parse("pontual dance").is_err());
        assert!(parse("pontual").is_err());
    }
}
