//! `pontual admin create`: the first administrator, by whoever runs the installation.
//!
//! The password is asked for without being shown, read from standard input, or taken from `PONTUAL_ADMIN_PASSWORD_FILE`; it
//! is never an argument, which anybody on the machine could read. Somebody who has an account keeps their password and
//! becomes an administrator. It is the command `RegisterAdmin`, decided and appended like any other: a crash leaves the
//! account with its role, or nothing, and running it again changes nothing more.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, bail, ensure};
use command_api::{Password, Passwords};
use domain::account::{AdminRegistered, RegisterAdmin};
use domain::actor::Actor;
use domain::locale::Locale;
use domain::text::{EmailAddress, PersonName};
use event_log::{Executor, Origin};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::ExposeSecret as _;

use crate::config::Config;
use crate::database::{Database, Tenancy};
use crate::{production, serve};

/// The longest line that is read.
const LINE_MAX: u64 = 4096;

/// Makes somebody an administrator, and says what became of it.
#[expect(clippy::print_stdout, reason = "the operator reads this")]
pub async fn create(
    config: &Config,
    email: &str,
    name: &str,
    locale: Locale,
) -> anyhow::Result<()> {
    production::insist(config, false)?;
    let email: EmailAddress = email.parse().context("--email is no email address")?;
    let name: PersonName = name.parse().context("--name is no name")?;
    let password = password(config)?;
    let database = Database::open(config, Tenancy::Guest).await?;
    let registered = async {
        serve::migrate(&database).await?;
        let executor = Executor::new(serve::open_log(config, &database).await?);
        let password_hash = Passwords::new().hash(password).await;
        let password_hash =
            password_hash.map_err(|_| anyhow::anyhow!("the password could not be hashed"))?;
        let command = RegisterAdmin { name, email, locale, password_hash };
        let origin = Origin::of(Actor::System("admin-create"), "admin-create");
        Ok::<_, anyhow::Error>(executor.execute(command, origin).await?.outcome)
    };
    let registered = registered.await;
    database.close().await?;
    let AdminRegistered { account, existed } = registered?;
    if existed {
        println!(
            "account {account} was there already, and is an administrator; its password is what it was"
        );
    } else {
        println!("account {account} is an administrator");
    }
    Ok(())
}

fn password(config: &Config) -> anyhow::Result<Password> {
    let text = match &config.admin_password {
        Some(password) => password.expose_secret().to_owned(),
        None if std::io::stdin().is_terminal() => asked()?,
        None => line().context("standard input cannot be read")?,
    };
    Password::try_from(text).map_err(|error| anyhow::anyhow!("the {error}"))
}

/// A line of standard input, without its end.
fn line() -> std::io::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().take(LINE_MAX).read_line(&mut line)?;
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

/// Asks twice, on a terminal that does not show what is typed.
fn asked() -> anyhow::Result<String> {
    let ask = |question: &str| -> anyhow::Result<String> {
        let mut out = std::io::stderr();
        write!(out, "{question}: ")?;
        out.flush()?;
        let silence = Silence::begin().context("the terminal cannot be kept from showing it")?;
        let answer = line();
        drop(silence);
        writeln!(out)?;
        Ok(answer?)
    };
    let password = ask("Password (8 to 128 characters)")?;
    ensure!(!password.is_empty(), "no password was given");
    if ask("The same again")? != password {
        bail!("the two are not the same");
    }
    Ok(password)
}

/// A terminal that shows nothing, until this is dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> rustix::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}
