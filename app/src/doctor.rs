//! `pontual doctor`: what is wrong, and what to do next.
//!
//! It looks, and changes nothing: a private cluster that is stopped stays stopped. Each [`Check`] is a line, `✓` or `✗`;
//! one `✗` makes the exit code 1.

use std::fmt;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::str::FromStr as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mongodb::bson::{Document, doc};
use projectors::mail::smtp::SmtpMailer;
use projectors::read_models::availability::AvailabilityProjector;
use projectors::read_models::notifications::NotificationsProjector;
use read_models::notifications::{MongoFeed, MongoOptions, NotificationFeed as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};

use crate::cluster::{Binaries, Cluster, OLDEST_POSTGRES};
use crate::config::{Config, ConfigError, Environment, Mail, reachable};
use crate::serve::PROJECTORS;
use crate::{health, production};

/// No server is waited for longer.
const WITHIN: Duration = Duration::from_secs(3);

/// How far the clocks may be apart: positions do not depend on them, "in the past" and tokens do.
const WORST_SKEW: Duration = Duration::from_secs(1);

/// A projector that is further behind has trouble, or nobody runs it.
const WORST_LAG: i64 = 1000;

/// How many sockets and files a server should be able to open.
const OPEN_FILES: u64 = 4096;

/// How long an erasure may take before somebody should look.
const ERASED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// Whether it is as it should be.
    pub good: bool,
    /// How it is.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Check {
    fn good(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, good: true, found: found.into(), next: None }
    }

    /// Good, but worth a word.
    fn remark(what: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { good: true, ..Self::bad(what, found, next) }
    }

    fn bad(what: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what, good: false, found: found.into(), next: Some(next.into()) }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match (self.good, &self.next) {
            (true, None) => '✓',
            (true, Some(_)) => '!',
            (false, _) => '✗',
        };
        write!(f, "{mark} {:<18} {}", self.what, self.found)?;
        match &self.next {
            Some(next) => write!(f, "\n  {:<18} → {next}", ""),
            None => Ok(()),
        }
    }
}

/// Looks at everything.
pub async fn examine(config: Result<Config, ConfigError>) -> Vec<Check> {
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let next = "correct it; .env.example has every setting";
            return vec![Check::bad("settings", causes(&error), next)];
        }
    };
    let found =
        config.file.as_ref().map_or("the environment and the defaults".to_owned(), |file| {
            format!("{}, the environment and the defaults", file.display())
        });
    let mut checks = vec![Check::good("settings", found)];
    checks.push(writable("data folder", &config.data_dir, "PONTUAL_DATA_DIR"));
    checks.push(mail(&config).await);
    checks.push(keys(&config));
    checks.push(verifying_keys(&config));
    checks.extend(production(&config));
    checks.extend(postgres(&config).await);
    checks.push(redis(config.redis_url.as_ref()).await);
    checks.push(mongodb(config.mongodb_url.as_ref()).await);
    checks.push(port("HTTP port", config.listen, "PONTUAL_LISTEN").await);
    checks.push(match config.metrics_listen {
        Some(address) => port("metrics port", address, "PONTUAL_METRICS_LISTEN").await,
        None => Check::good("metrics port", "off"),
    });
    checks.push(open_files());
    checks
}

/// Whether mails can be handed over. SES is not asked: each call there is one that was signed and counted.
async fn mail(config: &Config) -> Check {
    match &config.mail {
        Mail::Folder(folder) => writable("mail folder", folder, "PONTUAL_MAIL_DIR"),
        Mail::Smtp(server) => {
            let mailer = SmtpMailer::new(server.clone(), config.mail_from.clone());
            match mailer.with_patience(Duration::from_secs(10)).check().await {
                Ok(()) => Check::good("mail", format!("SMTP, {server}")),
                Err(error) => {
                    let found = format!("{server}: {}", causes(&error));
                    Check::bad("mail", found, "start it, or correct SMTP_URL")
                }
            }
        }
        Mail::Ses(ses) => Check::good("mail", format!("Amazon SES, {} (not asked)", ses.region)),
    }
}

/// An error with everything that caused it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut all = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Some libraries print the cause within the error.
        if !all.contains(&text) {
            all = format!("{all}: {text}");
        }
        cause = error.source();
    }
    all.replace('\n', " ")
}

/// A folder that is not there yet is judged by the nearest one above it that is.
fn writable(what: &'static str, folder: &Path, variable: &str) -> Check {
    let shown = folder.display();
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let Some(there) = absolute.ancestors().find(|above| above.exists()) else {
        return Check::bad(
            what,
            format!("{shown}: there is no such place"),
            format!("choose another {variable}"),
        );
    };
    match tempfile_in(there) {
        Ok(()) if there == absolute => Check::good(what, shown.to_string()),
        Ok(()) => Check::good(what, format!("{shown}, made when it is needed")),
        Err(error) => {
            let next = format!("make {} writable, or choose another {variable}", there.display());
            Check::bad(what, format!("{shown} cannot be written to: {error}"), next)
        }
    }
}

fn tempfile_in(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".pontual-doctor-{}", std::process::id()));
    fs::File::options().write(true).create_new(true).open(&path)?;
    fs::remove_file(path)
}

fn keys(config: &Config) -> Check {
    let what = "keys";
    let (master, signing) = config.keys_are_set();
    let files = [(master, config.master_key_file()), (signing, config.signing_key_file())];
    let missing = files.iter().any(|(set, file)| !set && !file.exists());
    if missing && config.environment == Environment::Development {
        let place = config.data_dir.join("keys");
        return Check::good(
            what,
            format!("not made yet: the first start makes them in {}", place.display()),
        );
    }
    if let Err(error) = config.keys() {
        return Check::bad(
            what,
            causes(&error),
            "set PONTUAL_MASTER_KEY and PONTUAL_SIGNING_KEY, or their _FILE",
        );
    }
    for (_, file) in files.iter().filter(|(set, _)| !set) {
        let mode = fs::metadata(file).map_or(0, |found| found.permissions().mode());
        if mode & 0o077 != 0 {
            let shown = file.display();
            return Check::bad(
                what,
                format!("others can read {shown}"),
                format!("chmod 600 {shown}"),
            );
        }
    }
    Check::good(
        what,
        if master && signing { "set" } else { "in the data folder: keep a copy elsewhere" },
    )
}

fn verifying_keys(config: &Config) -> Check {
    let what = "earlier keys";
    match config.verifying_keys() {
        Ok(keys) if keys.is_empty() => Check::good(what, "none"),
        Ok(keys) => Check::good(what, format!("{} of before a rotation", keys.len())),
        Err(error) => {
            let next = "openssl pkey -in old.pem -pubout prints the public key of a signing key";
            Check::bad(what, causes(&error), next)
        }
    }
}

/// What production refuses; in development what it would.
fn production(config: &Config) -> Vec<Check> {
    let what = "production";
    let refused = production::refused(config);
    if refused.is_empty() {
        return vec![Check::good(what, "nothing to refuse")];
    }
    let check = |refused: production::Refused| {
        let found = format!("{} {}", refused.variable, refused.problem);
        match config.environment {
            Environment::Production => Check::bad(what, format!("refused: {found}"), refused.next),
            Environment::Development => {
                Check::remark(what, format!("would refuse: {found}"), refused.next)
            }
        }
    };
    refused.into_iter().map(check).collect()
}

async fn postgres(config: &Config) -> Vec<Check> {
    let what = "Postgres";
    let Some(url) = &config.database_url else { return private_cluster(config).await };
    let Ok(options) = PgConnectOptions::from_str(url.expose_secret()) else {
        return vec![Check::bad(
            what,
            "DATABASE_URL cannot be read",
            "postgres://user:password@host/database",
        )];
    };
    match tokio::time::timeout(WITHIN, options.connect()).await {
        Ok(Ok(mut connection)) => database(&mut connection, config).await,
        Ok(Err(error)) => {
            let next = "start it, or correct DATABASE_URL (host, user, password, database)";
            vec![Check::bad(what, causes(&error), next)]
        }
        Err(_) => vec![Check::bad(
            what,
            "no answer within 3 s",
            "see that its host can be reached from here",
        )],
    }
}

async fn private_cluster(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    let all = Binaries::all().await;
    checks.push(match all.iter().find(|found| found.version >= OLDEST_POSTGRES) {
        Some(found) => Check::good(
            "Postgres binaries",
            format!("{} in {}", found.version, found.folder.display()),
        ),
        None => Check::bad(
            "Postgres binaries",
            match all.first() {
                Some(found) => format!("only {}, in {}", found.version, found.folder.display()),
                None => "none".to_owned(),
            },
            "apt install postgresql (15 or newer), or set DATABASE_URL",
        ),
    });
    let place = config.data_dir.join("postgres");
    match tokio::time::timeout(WITHIN, Cluster::running(&config.data_dir)).await {
        Ok(Some(cluster)) => match cluster.options().connect().await {
            Ok(mut connection) => checks.extend(database(&mut connection, config).await),
            Err(error) => {
                let next = format!("see the newest file in {}/data/log", place.display());
                checks.push(Check::bad("Postgres", causes(&error), next));
            }
        },
        Ok(None) | Err(_) => {
            let found = format!(
                "private cluster in {}, not running: `pontual serve` starts it",
                place.display()
            );
            checks.push(Check::good("Postgres", found));
        }
    }
    checks
}

async fn database(connection: &mut PgConnection, config: &Config) -> Vec<Check> {
    match tokio::time::timeout(WITHIN * 2, look_at_database(connection, config)).await {
        Ok(Ok(checks)) => checks,
        Ok(Err(error)) => {
            let next = "see its log; the user of DATABASE_URL must own the database";
            vec![Check::bad("Postgres", causes(&error), next)]
        }
        Err(_) => {
            let next = "see what it is busy with: SELECT * FROM pg_stat_activity";
            vec![Check::bad("Postgres", "it lets us in and answers too slowly", next)]
        }
    }
}

async fn look_at_database(
    connection: &mut PgConnection,
    config: &Config,
) -> Result<Vec<Check>, sqlx::Error> {
    let (number, version): (i32, String) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version')",
    )
    .fetch_one(&mut *connection)
    .await?;
    let mut checks = vec![if number >= 150_000 {
        Check::good("Postgres", version)
    } else {
        Check::bad("Postgres", version, "upgrade it to 15 or newer")
    }];

    // The answer was made somewhere between question and arrival: half the way is the best guess.
    let asked = SystemTime::now();
    let theirs: f64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
        .fetch_one(&mut *connection)
        .await?;
    let ours = asked + asked.elapsed().unwrap_or_default() / 2;
    let ours = ours.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let skew = (ours - theirs).abs();
    checks.push(if skew <= WORST_SKEW.as_secs_f64() {
        Check::good("clock", format!("{:.0} ms from the database's", skew * 1000.0))
    } else {
        let found = format!("{skew:.1} s from the database's");
        Check::bad("clock", found, "run an NTP client (chrony, systemd-timesyncd) on both machines")
    });

    checks.push(migrations(connection).await?);
    checks.push(erasures(connection).await?);
    let there: bool = sqlx::query_scalar("SELECT to_regclass('log_settings') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    let stored: Option<i16> = if there {
        sqlx::query_scalar("SELECT partitions FROM log_settings")
            .fetch_optional(&mut *connection)
            .await?
    } else {
        None
    };
    let wanted = config.partitions.get();
    checks.push(match stored {
        None => Check::good("partitions", format!("none yet: the first start makes {wanted}")),
        Some(stored) if i32::from(stored) == i32::from(wanted) => {
            Check::good("partitions", stored.to_string())
        }
        Some(stored) => Check::bad(
            "partitions",
            format!("the log has {stored}, the settings say {wanted}"),
            format!("set PONTUAL_PARTITIONS={stored}: their number is fixed when the log is made"),
        ),
    });
    if stored.is_some() && checks.iter().all(|check| check.what != "migrations" || check.good) {
        checks.push(jobs(connection).await?);
        checks.extend(parked(connection).await?);
        checks.extend(lag(connection, config).await?);
    }
    Ok(checks)
}

/// Those whose time has not come are not counted; those that wait to be tried again are.
async fn jobs(connection: &mut PgConnection) -> Result<Check, sqlx::Error> {
    let (waiting, dead): (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE dead_at IS NULL AND (run_at <= now() OR attempts > 0)),
                count(*) FILTER (WHERE dead_at IS NOT NULL) FROM jobs",
    )
    .fetch_one(connection)
    .await?;
    let found = format!("{waiting} wait, {dead} were given up");
    Ok(match dead {
        0 => Check::good("jobs", found),
        _ => Check::remark("jobs", found, "pontual jobs list --dead, and pontual jobs retry all"),
    })
}

async fn parked(connection: &mut PgConnection) -> Result<Vec<Check>, sqlx::Error> {
    let all: Vec<(String, i64)> = sqlx::query_as(
        "SELECT projector, count(DISTINCT (partition, document)) FROM parked GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(connection)
    .await?;
    if all.is_empty() {
        return Ok(vec![Check::good("parked documents", "none")]);
    }
    let check = |(projector, documents): (String, i64)| {
        let next = format!("mend the cause (its log has it), then pontual retry {projector}");
        Check::remark("parked documents", format!("{projector}: {documents}"), next)
    };
    Ok(all.into_iter().map(check).collect())
}

/// How many events each projector has yet to apply. Those that feed a process of its own have no checkpoint.
async fn lag(connection: &mut PgConnection, config: &Config) -> Result<Vec<Check>, sqlx::Error> {
    let what = "projectors";
    // Read one after the other: a few events more or less say nothing.
    let of_feed: Option<i64> = match &config.mongodb_url {
        None => {
            sqlx::query_scalar("SELECT sum(position)::bigint FROM notification_checkpoints")
                .fetch_one(&mut *connection)
                .await?
        }
        Some(url) => applied_in_mongodb(url, config).await,
    };
    let recorded: i64 = sqlx::query_scalar("SELECT coalesce(sum(position), 0)::bigint FROM heads")
        .fetch_one(&mut *connection)
        .await?;
    let checkpoints: Vec<(String, i64)> =
        sqlx::query_as("SELECT projector, sum(position)::bigint FROM checkpoints GROUP BY 1")
            .fetch_all(connection)
            .await?;
    let mut checks = Vec::new();
    let mut well = Vec::new();
    for name in PROJECTORS {
        let own_store = name == NotificationsProjector::NAME;
        if name == AvailabilityProjector::NAME && config.redis_url.is_none() {
            continue;
        }
        let applied = match checkpoints.iter().find(|(projector, _)| projector == name) {
            _ if own_store && of_feed.is_none() && config.mongodb_url.is_some() => {
                checks.push(Check::remark(what, format!("{name}: unknown"), "see MongoDB below"));
                continue;
            }
            _ if own_store => of_feed.unwrap_or_default(),
            Some((_, applied)) => *applied,
            None => 0,
        };
        let behind = (recorded - applied).max(0);
        if behind > WORST_LAG {
            let found = format!("{name}: {behind} events behind");
            let next =
                format!("see that a process runs it (serve, or projector {name}), and its log");
            checks.push(Check::remark(what, found, next));
        } else {
            well.push(format!("{name} {behind}"));
        }
    }
    if !well.is_empty() {
        checks.push(Check::good(what, format!("events behind: {}", well.join(", "))));
    }
    Ok(checks)
}

/// Up to where the feed in MongoDB is applied, over all partitions; `None` without an answer in time.
async fn applied_in_mongodb(url: &SecretString, config: &Config) -> Option<i64> {
    let options = MongoOptions { timeout: WITHIN / 2, ..MongoOptions::default() };
    let ask = async {
        let feed = MongoFeed::new(url.expose_secret(), config.partitions, options).await.ok()?;
        let applied = feed.applied_all().await.ok()?;
        i64::try_from(applied.positions().map(|at| at.number).sum::<u64>()).ok()
    };
    tokio::time::timeout(WITHIN, ask).await.ok().flatten()
}

/// Whether people who asked to be forgotten are: two minutes is what it takes when nothing stands still.
async fn erasures(connection: &mut PgConnection) -> Result<Check, sqlx::Error> {
    let what = "erasures";
    let there: bool = sqlx::query_scalar("SELECT to_regclass('erasures') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        return Ok(Check::good(what, "none yet"));
    }
    let (open, late): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE erased_at < now() - $1 * interval '1 second')
         FROM erasures WHERE completed_at IS NULL",
    )
    .bind(ERASED_WITHIN.as_secs_f64())
    .fetch_one(&mut *connection)
    .await?;
    if late == 0 {
        return Ok(Check::good(what, format!("{open} under way")));
    }
    let oldest: String = sqlx::query_scalar(
        "SELECT account_id::text || ', ' || stage || ', since ' || to_char(erased_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
         FROM erasures WHERE completed_at IS NULL ORDER BY erased_at LIMIT 1",
    )
    .fetch_one(&mut *connection)
    .await?;
    let found = format!("{late} make no progress, the oldest: account {oldest} UTC");
    let next = "run a worker and every projector (their lag is in /metrics); `pontual jobs list --dead` and \
                `pontual jobs retry` show and repeat what failed";
    Ok(Check::bad(what, found, next))
}

async fn migrations(connection: &mut PgConnection) -> Result<Check, sqlx::Error> {
    let what = "migrations";
    let there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    let applied: Vec<(i64, Vec<u8>, bool)> = if there {
        sqlx::query_as("SELECT version, checksum, success FROM _sqlx_migrations")
            .fetch_all(connection)
            .await?
    } else {
        Vec::new()
    };
    let ours: Vec<_> = event_log::MIGRATOR.iter().collect();
    let newest = ours.iter().map(|migration| migration.version).max().unwrap_or_default();
    if let Some((version, ..)) = applied.iter().find(|(version, ..)| *version > newest) {
        let found = format!("the database is at {version}, this program at {newest}");
        return Ok(Check::bad(what, found, "run the newer pontual"));
    }
    for migration in &ours {
        let version = migration.version;
        match applied.iter().find(|(applied, ..)| *applied == version) {
            None => {
                return Ok(Check::bad(what, format!("{version} is missing"), "pontual migrate"));
            }
            Some((_, _, false)) => {
                return Ok(Check::bad(
                    what,
                    format!("{version} failed half-way"),
                    "restore the last backup",
                ));
            }
            Some((_, checksum, true)) if checksum != migration.checksum.as_ref() => {
                let found = format!("{version} is not the one that was applied");
                return Ok(Check::bad(what, found, "run the pontual that was released"));
            }
            Some(_) => {}
        }
    }
    Ok(Check::good(what, format!("current, at {newest}")))
}

async fn redis(url: Option<&SecretString>) -> Check {
    let what = "Redis";
    let Some(url) = url else {
        return Check::good(what, "none: cache, limits and fan-out in process");
    };
    let next = "start it, or correct REDIS_URL (host, password)";
    let ask = async {
        let options = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(WITHIN))
            .set_response_timeout(Some(WITHIN));
        let client = redis::Client::open(url.expose_secret())?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&options).await?;
        redis::cmd("INFO").arg("server").query_async::<String>(&mut connection).await
    };
    match ask.await {
        Ok(info) => {
            let version =
                info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?");
            match leading_number(version) {
                Some(7..) => Check::good(what, version),
                Some(_) | None => Check::bad(what, version, "upgrade it to 7 or newer"),
            }
        }
        Err(error) => Check::bad(what, causes(&error), next),
    }
}

async fn mongodb(url: Option<&SecretString>) -> Check {
    let what = "MongoDB";
    let Some(url) = url else { return Check::good(what, "none: notifications in Postgres") };
    let ask = async {
        let mut options = mongodb::options::ClientOptions::parse(url.expose_secret()).await?;
        options.server_selection_timeout = Some(WITHIN);
        options.connect_timeout = Some(WITHIN);
        let client = mongodb::Client::with_options(options)?;
        let info: Result<Document, _> =
            client.database("admin").run_command(doc! { "buildInfo": 1 }).await;
        client.shutdown().immediate(true).await;
        info
    };
    match tokio::time::timeout(WITHIN * 2, ask).await {
        Ok(Ok(info)) => {
            Check::good(what, info.get_str("version").unwrap_or("of an unknown version"))
        }
        Ok(Err(error)) => {
            // The driver's text ends in the whole topology; its first sentence says what is the matter.
            let error = causes(&error);
            let found = error.split(". ").next().unwrap_or_default();
            Check::bad(what, found, "start it, or correct MONGODB_URL (host, user, password)")
        }
        Err(_) => Check::bad(what, "no answer", "see that its host can be reached from here"),
    }
}

/// `7.0.15` → 7.
fn leading_number(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// Free, or taken by a Pontual that runs.
async fn port(what: &'static str, address: SocketAddr, variable: &str) -> Check {
    let error = match TcpListener::bind(address) {
        Ok(_) => return Check::good(what, format!("{address} is free")),
        Err(error) => error,
    };
    let path = if what == "HTTP port" { "/health/live" } else { "/metrics" };
    if health::get(address, path).await.is_ok_and(|status| status.is_success()) {
        return Check::good(what, format!("pontual runs at http://{}", reachable(address)));
    }
    Check::bad(
        what,
        format!("{address}: {error}"),
        format!("stop what has it, or choose another {variable}"),
    )
}

fn open_files() -> Check {
    let what = "open files";
    // The program raises its own limit to the most it may have: that is the one that counts.
    match rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum {
        Some(most) if most < OPEN_FILES => {
            let next =
                "raise the hard limit (ulimit -Hn 65536, LimitNOFILE=65536, --ulimit nofile=65536)";
            Check::bad(what, format!("at most {most}"), next)
        }
        Some(most) => Check::good(what, format!("at most {most}")),
        None => Check::good(what, "unlimited"),
    }
}

/// Raises the number of files this process may open to the most that is allowed: a login shell's 1024 is soon reached by
/// sockets. For the start of a server.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it is refused the old limit stays, and the doctor says what it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_parts(None, variables.iter().map(|(n, v)| (n.into(), v.into())))
    }

    fn server(variable: &str) -> String {
        std::env::var(variable)
            .unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test.sh"))
    }

    fn of<'a>(checks: &'a [Check], what: &str) -> &'a Check {
        checks
            .iter()
            .find(|check| check.what == what)
            .unwrap_or_else(|| panic!("no check of {what}"))
    }

    #[tokio::test]
    async fn real_servers_are_found_and_their_versions_told() {
        let folder = tempfile::tempdir().unwrap();
        let checks = examine(config(&[
            ("PONTUAL_DATA_DIR", folder.path().to_str().unwrap()),
            ("DATABASE_URL", &server("TEST_DATABASE_URL")),
            ("REDIS_URL", &server("TEST_REDIS_URL")),
            ("MONGODB_URL", &server("TEST_MONGODB_URL")),
            ("PONTUAL_LISTEN", "127.0.0.1:0"),
            ("PONTUAL_METRICS_LISTEN", "off"),
        ]))
        .await;
        for what in [
            "settings",
            "data folder",
            "keys",
            "Postgres",
            "clock",
            "Redis",
            "MongoDB",
            "HTTP port",
        ] {
            assert!(of(&checks, what).good, "{checks:#?}");
        }
        // The database of the URL is the server's own: nobody migrates that.
        assert_eq!(of(&checks, "migrations").next.as_deref(), Some("pontual migrate"));
    }

    #[tokio::test]
    async fn what_lies_about_is_a_remark() {
        let database = event_log::testing::TestDatabase::create().await;
        database.log(4).await;
        let folder = tempfile::tempdir().unwrap();
        let examined = async || {
            examine(config(&[
                ("PONTUAL_DATA_DIR", folder.path().to_str().unwrap()),
                ("DATABASE_URL", database.url()),
                ("PONTUAL_LISTEN", "127.0.0.1:0"),
                ("PONTUAL_METRICS_LISTEN", "off"),
            ]))
            .await
        };
        let checks = examined().await;
        for what in ["jobs", "parked documents", "projectors"] {
            assert_eq!(of(&checks, what).next, None, "{checks:#?}");
        }
        for sql in [
            "INSERT INTO jobs (id, kind, payload, priority, run_at, max_attempts, dead_at, created_at)
             VALUES (gen_random_uuid(), 'mail', '{}', 1, now(), 12, now(), now()),
                    (gen_random_uuid(), 'mail', '{}', 1, now(), 12, NULL, now()),
                    (gen_random_uuid(), 'mail', '{}', 1, now() + interval '1 day', 12, NULL, now())",
            "INSERT INTO parked (partition, projector, document, position, error)
             VALUES (1, 'read-tables', 'a', 7, 'x'), (1, 'read-tables', 'a', 8, 'x'),
                    (2, 'read-tables', 'b', 7, 'x'), (2, 'audit', 'c', 7, 'x')",
            "UPDATE heads SET position = 600 WHERE partition IN (1, 2)",
            "INSERT INTO checkpoints (partition, projector, position)
             VALUES (1, 'read-tables', 600), (2, 'read-tables', 595), (1, 'audit', 100)",
        ] {
            sqlx::query(sql).execute(database.pool()).await.unwrap();
        }
        let checks = examined().await;
        let all = |what: &str| {
            let lines = checks.iter().filter(|check| check.what == what);
            lines.map(|check| (check.found.as_str(), check.next.is_some())).collect::<Vec<_>>()
        };
        assert!(checks.iter().all(|check| check.good), "none of it is a fault: {checks:#?}");
        assert_eq!(all("jobs"), [("1 wait, 1 were given up", true)]);
        assert_eq!(all("parked documents"), [("audit: 1", true), ("read-tables: 2", true)]);
        let projectors = all("projectors");
        assert!(projectors.contains(&("audit: 1100 events behind", true)), "{projectors:?}");
        assert!(projectors.contains(&("job-orders: 1200 events behind", true)), "{projectors:?}");
        assert!(projectors.contains(&("events behind: read-tables 5", false)), "{projectors:?}");
    }

    #[tokio::test]
    async fn a_postgres_that_answers_too_slowly_is_not_waited_for() {
        let database = event_log::testing::TestDatabase::create().await;
        database.log(1).await;
        let mut holder = database.pool().begin().await.unwrap();
        sqlx::query("LOCK TABLE jobs").execute(&mut *holder).await.unwrap();
        let began = std::time::Instant::now();
        let folder = tempfile::tempdir().unwrap();
        let checks = postgres(
            &config(&[
                ("PONTUAL_DATA_DIR", folder.path().to_str().unwrap()),
                ("DATABASE_URL", database.url()),
                ("PONTUAL_PARTITIONS", "1"),
            ])
            .unwrap(),
        )
        .await;
        assert!(began.elapsed() < WITHIN * 3, "{:?}", began.elapsed());
        assert!(checks.iter().any(|check| !check.good), "{checks:#?}");
    }

    #[tokio::test]
    async fn what_is_wrong_comes_with_what_to_do_and_without_passwords() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a file");
        fs::write(&data, "").unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        drop(taken.set_nonblocking(true));
        let address = taken.local_addr().unwrap().to_string();
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let checks = examine(config(&[
            ("PONTUAL_ENV", "production"),
            ("PONTUAL_DATA_DIR", data.to_str().unwrap()),
            ("DATABASE_URL", &format!("postgres://ana:hunter2@{nobody}/pontual")),
            ("REDIS_URL", &format!("redis://:hunter2@{nobody}")),
            ("MONGODB_URL", &format!("mongodb://ana:hunter2@{nobody}")),
            ("PONTUAL_LISTEN", &address),
            ("PONTUAL_METRICS_LISTEN", "off"),
        ]))
        .await;
        for what in ["data folder", "keys", "Postgres", "Redis", "MongoDB", "HTTP port"] {
            let check = of(&checks, what);
            assert!(!check.good && check.next.is_some(), "{checks:#?}");
        }
        let shown = serde_json::to_string(&checks).unwrap();
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[tokio::test]
    async fn settings_that_cannot_be_read_are_all_there_is_to_say() {
        let checks = examine(config(&[("PONTUAL_LISTN", "x")])).await;
        assert_eq!(checks.len(), 1);
        assert!(!checks[0].good);
        let shown = checks[0].to_string();
        assert!(
            shown.starts_with("✗ settings") && shown.contains("\n") && shown.contains("→"),
            "{shown}"
        );
    }

    #[test]
    fn what_production_would_refuse_is_a_remark_in_development_and_a_fault_in_production() {
        let lax = ("PONTUAL_RATE_LIMITS", "off");
        let checks = production(&config(&[lax]).unwrap());
        assert_eq!(checks.len(), 3, "two keys and the limits: {checks:#?}");
        assert!(checks.iter().all(|check| check.good && check.next.is_some()));
        let shown = checks[2].to_string();
        assert!(shown.starts_with("! production") && shown.contains("would refuse"), "{shown}");
        assert!(shown.contains("PONTUAL_RATE_LIMITS is off"), "{shown}");
        let checks = production(&config(&[lax, ("PONTUAL_ENV", "production")]).unwrap());
        assert!(checks.len() == 3 && checks.iter().all(|check| !check.good), "{checks:#?}");
    }

    #[test]
    fn a_key_that_others_can_read_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&[("PONTUAL_DATA_DIR", folder.path().to_str().unwrap())]).unwrap();
        assert!(keys(&config).good, "none yet, and the first start makes them");
        config.keys().unwrap();
        assert!(keys(&config).good);
        fs::set_permissions(config.master_key_file(), fs::Permissions::from_mode(0o644)).unwrap();
        let found = keys(&config);
        assert!(!found.good && found.next.unwrap().starts_with("chmod 600 "));
    }
}
