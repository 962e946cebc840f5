//! What the program is told: defaults, then `pontual.toml` (or `--config`), then the environment.
//!
//! Every setting is one line of [`KEYS`]: its variable, its default, its kind. `PONTUAL_LISTEN=0.0.0.0:80`, for
//! example, is `listen = "0.0.0.0:80"` in the file; a secret may also come from a file, by `PONTUAL_MASTER_KEY_FILE`.
//! A `PONTUAL_…` variable that is no setting is an error that names the nearest one, so a typo cannot go unheard.
//!
//! In development missing keys are made once, in `<data_dir>/keys/`. A crash while they are made leaves a temporary file,
//! never half a key: a key appears under its name complete, and of two programs that make it at once both read the first.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use domain::position::PartitionCount;
use event_log::MasterKey;
use figment::Figment;
use figment::providers::{Format as _, Toml};
use figment::value::{Dict, Map, Value};
use http::HeaderValue;
use http_kit::auth::PublicKey;
use http_kit::files::Credentials;
use http_kit::limits::{InvalidQuota, Quotas};
use http_kit::origin::{Network, TrustedProxies};
use projectors::mail::ses::{InvalidSes, SesSettings};
use projectors::mail::smtp::{InvalidSmtpUrl, SmtpServer};
use projectors::mail::{InvalidSender, Sender};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;

/// A setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its environment variable. The name in `pontual.toml` is the same in small letters, without `PONTUAL_`.
    pub variable: &'static str,
    /// What it is when nobody says.
    pub default: Option<&'static str>,
    /// How its text is read.
    pub kind: Kind,
}

/// How a setting's text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it is.
    Text,
    /// A whole number.
    Number,
    /// Parts between commas.
    List,
    /// As it is, never shown; `<variable>_FILE` may name a file that holds it.
    Secret,
}

/// Every setting there is.
pub const KEYS: &[Key] = &[
    key("DATABASE_URL", None, Kind::Secret),
    key("REDIS_URL", None, Kind::Secret),
    key("MONGODB_URL", None, Kind::Secret),
    key("PONTUAL_ENV", Some("development"), Kind::Text),
    key("PONTUAL_DATA_DIR", Some("./data"), Kind::Text),
    key("PONTUAL_LISTEN", Some("127.0.0.1:8080"), Kind::Text),
    key("PONTUAL_METRICS_LISTEN", Some("127.0.0.1:9090"), Kind::Text),
    key("PONTUAL_PUBLIC_URL", None, Kind::Text),
    key("PONTUAL_MASTER_KEY", None, Kind::Secret),
    key("PONTUAL_SIGNING_KEY", None, Kind::Secret),
    key("PONTUAL_VERIFYING_KEYS", None, Kind::Text),
    key("PONTUAL_ADMIN_PASSWORD", None, Kind::Secret),
    key("PONTUAL_PARTITIONS", Some("4"), Kind::Number),
    key("PONTUAL_HOT_AGGREGATES", Some("10000"), Kind::Number),
    key("PONTUAL_DATABASE_POOL", Some("20"), Kind::Number),
    key("PONTUAL_MAIL_DIR", None, Kind::Text),
    key("PONTUAL_S3_BUCKET", None, Kind::Text),
    key("PONTUAL_S3_REGION", None, Kind::Text),
    key("PONTUAL_S3_ENDPOINT", None, Kind::Text),
    key("PONTUAL_AUDIT_DAYS", Some("365"), Kind::Number),
    key("PONTUAL_MAIL_FROM", None, Kind::Text),
    key("SMTP_URL", None, Kind::Secret),
    key("PONTUAL_SES_REGION", None, Kind::Text),
    key("PONTUAL_SES_ENDPOINT", None, Kind::Text),
    key("AWS_ACCESS_KEY_ID", None, Kind::Text),
    key("AWS_SECRET_ACCESS_KEY", None, Kind::Secret),
    key("AWS_SESSION_TOKEN", None, Kind::Secret),
    key("PONTUAL_REDIS_PREFIX", Some(""), Kind::Text),
    key("PONTUAL_CORS_ORIGINS", Some(""), Kind::List),
    key("PONTUAL_TRUSTED_PROXIES", Some(""), Kind::List),
    key("PONTUAL_RATE_LIMITS", Some("on"), Kind::Text),
    key("PONTUAL_LIMIT_GENERAL", Some("100/min"), Kind::Text),
    key("PONTUAL_LIMIT_ACCOUNT", Some("300/min"), Kind::Text),
    key("PONTUAL_LIMIT_SIGN_IN", Some("5/min"), Kind::Text),
    key("PONTUAL_LIMIT_REGISTRATION", Some("3/h"), Kind::Text),
    key("PONTUAL_LIMIT_PASSWORD_RESET", Some("3/h"), Kind::Text),
    key("PONTUAL_LIMIT_REFRESH", Some("60/min"), Kind::Text),
    key("PONTUAL_LIMIT_GUEST_BOOKING", Some("10/h"), Kind::Text),
    key("PONTUAL_LIMIT_SERIES", Some("20/h"), Kind::Text),
    key("PONTUAL_LOG", Some("info"), Kind::Text),
    key("PONTUAL_LOG_FORMAT", Some("text"), Kind::Text),
];

const fn key(variable: &'static str, default: Option<&'static str>, kind: Kind) -> Key {
    Key { variable, default, kind }
}

impl Key {
    /// The name in `pontual.toml`.
    pub fn field(&self) -> String {
        self.variable.strip_prefix("PONTUAL_").unwrap_or(self.variable).to_ascii_lowercase()
    }

    fn value(&self, text: &str) -> Result<Value, ConfigError> {
        Ok(match self.kind {
            Kind::Text | Kind::Secret => Value::from(text),
            Kind::Number => Value::from(
                text.parse::<u64>()
                    .map_err(|_| ConfigError::invalid(self.variable, "is not a whole number"))?,
            ),
            Kind::List => Value::from(
                text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>(),
            ),
        })
    }
}

/// What the program is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it runs: in production, what must be chosen is not made up.
    pub environment: Environment,
    /// The main store. `None`: a private cluster under `data_dir`.
    pub database_url: Option<SecretString>,
    /// The cache. `None`: in process.
    pub redis_url: Option<SecretString>,
    /// The notification feed's store. `None`: Postgres.
    pub mongodb_url: Option<SecretString>,
    /// Where files are kept.
    pub data_dir: PathBuf,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Where metrics are served; `None` (`off`): nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// How the outside reaches it: the start of links in mails. No slash at its end.
    pub public_url: String,
    /// How many partitions a new log gets.
    pub partitions: PartitionCount,
    /// How many aggregates are kept in memory; 0 keeps none.
    pub hot_aggregates: u64,
    /// The most connections to Postgres (S3-70).
    pub database_pool: u32,
    /// Where mails go.
    pub mail: Mail,
    /// Whom they are from.
    pub mail_from: Sender,
    /// The bucket that holds files. `None`: `files` in `data_dir`.
    pub bucket: Option<Bucket>,
    /// How many days the audit trail is kept.
    pub audit_days: u32,
    /// What every key in Redis begins with, where several Pontuals share one.
    pub redis_prefix: String,
    /// Whether requests are limited (S3-52 to S3-54).
    pub rate_limits: bool,
    /// How many requests of what kind.
    pub limits: Quotas,
    /// The first administrator's password, for `pontual admin create`.
    pub admin_password: Option<SecretString>,
    /// Whose pages may call the API from a browser.
    pub cors_origins: Vec<HeaderValue>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// Which log lines are written, as `tracing` filters are: `info,event_log=debug`.
    pub log: String,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// The file that was read.
    pub file: Option<PathBuf>,
    master_key: Option<SecretString>,
    signing_key: Option<SecretString>,
    verifying_keys: Option<String>,
}

/// Where mails go (K30).
#[derive(Debug, Clone)]
pub enum Mail {
    /// Into this folder.
    Folder(PathBuf),
    /// To an SMTP server.
    Smtp(SmtpServer),
    /// To Amazon SES.
    Ses(SesSettings),
}

/// Where the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// On a developer's machine: keys are made when missing.
    Development,
    /// For real.
    Production,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A bucket for files, and the keys to it.
pub use http_kit::files::Bucket;

/// The two keys everything secret depends on.
#[derive(Debug)]
pub struct Keys {
    /// Seals personal data. Lost with it: everything personal.
    pub master: MasterKey,
    /// Signs access tokens: an Ed25519 private key, PKCS#8, PEM.
    pub signing_pem: SecretString,
}

/// What is wrong with what the program was told.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A `PONTUAL_…` variable that is no setting.
    #[error("{name} is not a setting; did you mean {nearest}?")]
    UnknownVariable {
        /// As it was set.
        name: String,
        /// The setting most like it.
        nearest: String,
    },
    /// A setting that cannot be read.
    #[error("{variable}{}{problem}", if problem.starts_with(':') { "" } else { " " })]
    Invalid {
        /// Which.
        variable: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// `pontual.toml` cannot be read, or has an unknown or mistyped setting.
    #[error("the configuration cannot be read")]
    File(#[source] Box<figment::Error>),
    /// The file of a `…_FILE` variable cannot be read.
    #[error("{variable} names {path}, which cannot be read")]
    SecretFile {
        /// Which.
        variable: String,
        /// What it names.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Production does not make keys up.
    #[error(
        "{variable} must be set in production ({how}), or {variable}_FILE name a file that holds it"
    )]
    MissingKey {
        /// Which.
        variable: &'static str,
        /// How to make one.
        how: &'static str,
    },
    /// A key of development cannot be read or made.
    #[error("the key {path} cannot be read or made")]
    KeyFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl ConfigError {
    fn invalid(variable: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { variable, problem: problem.into() }
    }
}

/// As figment hands it over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    database_url: Option<SecretString>,
    redis_url: Option<SecretString>,
    mongodb_url: Option<SecretString>,
    env: String,
    data_dir: PathBuf,
    listen: String,
    metrics_listen: String,
    public_url: Option<String>,
    master_key: Option<SecretString>,
    signing_key: Option<SecretString>,
    partitions: u64,
    hot_aggregates: u64,
    database_pool: u64,
    mail_dir: Option<PathBuf>,
    s3_bucket: Option<String>,
    s3_region: Option<String>,
    s3_endpoint: Option<String>,
    audit_days: u64,
    mail_from: Option<String>,
    smtp_url: Option<SecretString>,
    ses_region: Option<String>,
    ses_endpoint: Option<String>,
    aws_access_key_id: Option<String>,
    aws_secret_access_key: Option<SecretString>,
    aws_session_token: Option<SecretString>,
    redis_prefix: String,
    cors_origins: Vec<String>,
    trusted_proxies: Vec<String>,
    rate_limits: String,
    limit_general: String,
    limit_account: String,
    limit_sign_in: String,
    limit_registration: String,
    limit_password_reset: String,
    limit_refresh: String,
    limit_guest_booking: String,
    limit_series: String,
    verifying_keys: Option<String>,
    admin_password: Option<SecretString>,
    log: String,
    log_format: String,
}

/// Settings out of one place, for figment.
struct Settings {
    name: &'static str,
    dict: Dict,
}

impl figment::Provider for Settings {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<figment::Profile, Dict>, figment::Error> {
        Ok(figment::Profile::Default.collect(self.dict.clone()))
    }
}

impl Config {
    /// Reads this process's settings. `file` is `--config`; without it, `pontual.toml` is read if it is there.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        Self::from_parts(file, std::env::vars_os())
    }

    /// Reads settings from these variables.
    pub fn from_parts(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut defaults = Dict::new();
        for key in KEYS {
            if let Some(default) = key.default {
                defaults.insert(key.field(), key.value(default)?);
            }
        }
        let mut figment = Figment::from(Settings { name: "defaults", dict: defaults });
        let file = match file {
            Some(file) => Some(file.to_owned()),
            None => Some(PathBuf::from("pontual.toml")).filter(|default| default.exists()),
        };
        if let Some(file) = &file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let dict = from_environment(variables)?;
        let raw = figment
            .merge(Settings { name: "environment", dict })
            .extract::<Raw>()
            .map_err(|error| ConfigError::File(Box::new(error)))?;
        Self::from_raw(raw, file)
    }

    fn from_raw(raw: Raw, file: Option<PathBuf>) -> Result<Self, ConfigError> {
        let invalid = ConfigError::invalid;
        let environment = match raw.env.as_str() {
            "development" => Environment::Development,
            "production" => Environment::Production,
            _ => return Err(invalid("PONTUAL_ENV", "is neither development nor production")),
        };
        let log_format = match raw.log_format.as_str() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err(invalid("PONTUAL_LOG_FORMAT", "is neither text nor json")),
        };
        let address = |variable, text: &str| {
            SocketAddr::from_str(text)
                .map_err(|_| invalid(variable, "is not an address and port, as 127.0.0.1:8080 is"))
        };
        let listen = address("PONTUAL_LISTEN", &raw.listen)?;
        let metrics_listen = match raw.metrics_listen.as_str() {
            "off" => None,
            text => Some(address("PONTUAL_METRICS_LISTEN", text)?),
        };
        let public_url =
            raw.public_url.clone().unwrap_or_else(|| format!("http://{}", reachable(listen)));
        if !public_url.starts_with("http://") && !public_url.starts_with("https://") {
            return Err(invalid("PONTUAL_PUBLIC_URL", "must start with https:// or http://"));
        }
        if let Some(url) = &raw.database_url {
            // The parser's own error would repeat what may be a password.
            PgConnectOptions::from_str(url.expose_secret())
                .map_err(|_| invalid("DATABASE_URL", "is not a postgres:// URL"))?;
        }
        scheme("DATABASE_URL", raw.database_url.as_ref(), &["postgres://", "postgresql://"])?;
        scheme("REDIS_URL", raw.redis_url.as_ref(), &["redis://", "rediss://", "unix://"])?;
        scheme("MONGODB_URL", raw.mongodb_url.as_ref(), &["mongodb://", "mongodb+srv://"])?;
        let (mail, mail_from) = mail(&raw, environment)?;
        let bucket = bucket(&raw)?;
        let limits = limits(&raw)?;
        Ok(Self {
            environment,
            database_url: raw.database_url,
            redis_url: raw.redis_url,
            mongodb_url: raw.mongodb_url,
            listen,
            metrics_listen,
            public_url: public_url.trim_end_matches('/').to_owned(),
            partitions: u16::try_from(raw.partitions)
                .ok()
                .and_then(PartitionCount::new)
                .ok_or_else(|| invalid("PONTUAL_PARTITIONS", "is not between 1 and 4096"))?,
            hot_aggregates: raw.hot_aggregates,
            redis_prefix: raw.redis_prefix,
            database_pool: u32::try_from(raw.database_pool)
                .ok()
                .filter(|size| (2..=1000).contains(size))
                .ok_or_else(|| invalid("PONTUAL_DATABASE_POOL", "is not between 2 and 1000"))?,
            mail,
            mail_from,
            bucket,
            audit_days: u32::try_from(raw.audit_days)
                .ok()
                .filter(|days| (1..=3650).contains(days))
                .ok_or_else(|| invalid("PONTUAL_AUDIT_DAYS", "is not between 1 and 3650"))?,
            data_dir: raw.data_dir,
            cors_origins: raw.cors_origins.iter().map(|o| origin(o)).collect::<Result<_, _>>()?,
            trusted_proxies: raw
                .trusted_proxies
                .iter()
                .map(|network| Network::from_str(network))
                .collect::<Result<_, _>>()
                .map(TrustedProxies)
                .map_err(|error| {
                    ConfigError::invalid("PONTUAL_TRUSTED_PROXIES", format!(": {error}"))
                })?,
            rate_limits: match raw.rate_limits.as_str() {
                "on" => true,
                "off" => false,
                _ => return Err(invalid("PONTUAL_RATE_LIMITS", "is neither on nor off")),
            },
            limits,
            admin_password: raw.admin_password,
            verifying_keys: raw.verifying_keys,
            log: raw.log,
            log_format,
            file,
            master_key: raw.master_key,
            signing_key: raw.signing_key,
        })
    }

    /// The master and the signing key: those that were set or, in development, those in `<data_dir>/keys/`, made there
    /// if they are missing.
    pub fn keys(&self) -> Result<Keys, ConfigError> {
        let master = self.one_key(
            self.master_key.as_ref(),
            "PONTUAL_MASTER_KEY",
            "openssl rand -hex 32",
            &self.master_key_file(),
            || MasterKey::generate().to_hex().to_string(),
        )?;
        let signing = self.one_key(
            self.signing_key.as_ref(),
            "PONTUAL_SIGNING_KEY",
            "openssl genpkey -algorithm ed25519",
            &self.signing_key_file(),
            new_signing_key,
        )?;
        let master = MasterKey::parse(master.expose_secret())
            .map_err(|error| ConfigError::invalid("PONTUAL_MASTER_KEY", format!(": {error}")))?;
        // An environment file holds one line: there the line breaks of the PEM are written `\n`.
        let signing_pem = signing.expose_secret().replace("\\n", "\n");
        if !signing_pem.contains("-----BEGIN PRIVATE KEY-----") {
            let problem = "is not a private key in PEM (PKCS#8), as `openssl genpkey -algorithm ed25519` prints it";
            return Err(ConfigError::invalid("PONTUAL_SIGNING_KEY", problem));
        }
        Ok(Keys { master, signing_pem: signing_pem.into() })
    }

    fn one_key(
        &self,
        set: Option<&SecretString>,
        variable: &'static str,
        how: &'static str,
        file: &Path,
        make: impl FnOnce() -> String,
    ) -> Result<SecretString, ConfigError> {
        match (set, self.environment) {
            (Some(key), _) => Ok(key.clone()),
            (None, Environment::Production) => Err(ConfigError::MissingKey { variable, how }),
            (None, Environment::Development) => read_or_make(file, make)
                .map_err(|source| ConfigError::KeyFile { path: file.to_owned(), source }),
        }
    }

    /// The public keys of before a rotation: tokens they signed are good until they expire.
    pub fn verifying_keys(&self) -> Result<Vec<PublicKey>, ConfigError> {
        let Some(text) = &self.verifying_keys else { return Ok(Vec::new()) };
        let invalid = |problem: String| ConfigError::invalid("PONTUAL_VERIFYING_KEYS", problem);
        let pems = if text.contains("-----BEGIN") {
            text.replace("\\n", "\n")
        } else {
            let files = text.split(',').map(str::trim).filter(|file| !file.is_empty());
            let read = files.map(|file| {
                fs::read_to_string(file).map_err(|source| ConfigError::SecretFile {
                    variable: "PONTUAL_VERIFYING_KEYS".to_owned(),
                    path: PathBuf::from(file),
                    source,
                })
            });
            read.collect::<Result<Vec<_>, _>>()?.join("\n")
        };
        if pems.contains("PRIVATE KEY") {
            return Err(invalid(
                "holds a private key; `openssl pkey -pubout` makes it a public one".to_owned(),
            ));
        }
        PublicKey::all_from_pem(&pems).map_err(|_| {
            invalid("are not public Ed25519 keys in PEM, nor files of such".to_owned())
        })
    }

    /// The master and the signing key, as far as they were set.
    pub(crate) fn set_keys(&self) -> (Option<&SecretString>, Option<&SecretString>) {
        (self.master_key.as_ref(), self.signing_key.as_ref())
    }

    /// Where development keeps the master key; `None` of it matters when one was set.
    pub fn master_key_file(&self) -> PathBuf {
        self.data_dir.join("keys/master.key")
    }

    /// Where development keeps the signing key.
    pub fn signing_key_file(&self) -> PathBuf {
        self.data_dir.join("keys/signing.pem")
    }

    /// Where files are kept without a bucket.
    pub fn files_dir(&self) -> PathBuf {
        self.data_dir.join("files")
    }

    /// Whether the master key, and the signing key, were set rather than made.
    pub fn keys_are_set(&self) -> (bool, bool) {
        (self.master_key.is_some(), self.signing_key.is_some())
    }

    /// What the program uses, a line for each part: printed at its start.
    pub fn describe(&self) -> Vec<String> {
        let data = self.data_dir.display();
        let at = |url: &Option<SecretString>| url.as_ref().map(|u| address_of(u.expose_secret()));
        let or = |found: Option<String>, otherwise: String| found.unwrap_or(otherwise);
        let keys = match (self.keys_are_set(), self.environment) {
            ((true, true), _) => "as set".to_owned(),
            (_, Environment::Production) => "missing".to_owned(),
            (_, Environment::Development) => {
                format!("made once, in {data}/keys (keep them: without them personal data is lost)")
            }
        };
        let mut lines = vec![
            format!(
                "Postgres: {}",
                or(at(&self.database_url), format!("private cluster in {data}/postgres"))
            ),
            format!("Redis: {}", or(at(&self.redis_url), "none, in process".to_owned())),
            format!(
                "MongoDB: {}",
                or(at(&self.mongodb_url), "none, notifications in Postgres".to_owned())
            ),
            match &self.mail {
                Mail::Folder(folder) => format!("Mail: files in {}", folder.display()),
                Mail::Smtp(server) => format!("Mail: SMTP, {server}"),
                Mail::Ses(ses) => format!("Mail: Amazon SES, {}", ses.region),
            },
            match &self.bucket {
                Some(bucket) => format!("Files: the bucket {} in {}", bucket.name, bucket.region),
                None => format!("Files: {}", self.files_dir().display()),
            },
            format!("Keys: {keys}"),
            match self.metrics_listen {
                Some(address) => format!("Metrics: http://{}/metrics", reachable(address)),
                None => "Metrics: off".to_owned(),
            },
        ];
        if let Some(file) = &self.file {
            lines.push(format!("Configuration: {}", file.display()));
        }
        lines
    }
}

/// Our variables, as figment wants them. An empty one is as good as none: compose files pass on what is not set.
fn from_environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Dict, ConfigError> {
    let mut dict = Dict::new();
    for (name, text) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some((key, by_file)) = known(name) else {
            if name.starts_with("PONTUAL_") && name != "PONTUAL_CONFIG" && !from_kubernetes(name) {
                return Err(ConfigError::UnknownVariable {
                    name: name.to_owned(),
                    nearest: nearest(name),
                });
            }
            continue;
        };
        if text.is_empty() {
            continue;
        }
        let value = if by_file {
            let secret = fs::read_to_string(&text).map_err(|source| ConfigError::SecretFile {
                variable: name.to_owned(),
                path: PathBuf::from(&text),
                source,
            })?;
            let secret = secret.trim_end_matches(['\r', '\n']);
            if secret.is_empty() {
                return Err(ConfigError::invalid(
                    key.variable,
                    format!("is to be read from {}, which is empty", text.display()),
                ));
            }
            key.value(secret)?
        } else {
            let text =
                text.to_str().ok_or_else(|| ConfigError::invalid(key.variable, "is not UTF-8"))?;
            key.value(text)?
        };
        if dict.insert(key.field(), value).is_some() {
            let problem = format!("and {}_FILE are both set; one is enough", key.variable);
            return Err(ConfigError::invalid(key.variable, problem));
        }
    }
    Ok(dict)
}

/// The setting of a variable, and whether the variable names a file that holds it.
fn known(name: &str) -> Option<(&'static Key, bool)> {
    let by_name = |name: &str| KEYS.iter().find(|key| key.variable == name);
    by_name(name).map(|key| (key, false)).or_else(|| {
        let key = by_name(name.strip_suffix("_FILE")?)?;
        (key.kind == Kind::Secret).then_some((key, true))
    })
}

fn nearest(name: &str) -> String {
    let files = KEYS.iter().filter(|key| key.kind == Kind::Secret);
    KEYS.iter()
        .map(|key| key.variable.to_owned())
        .chain(files.map(|key| format!("{}_FILE", key.variable)))
        .min_by_key(|known| strsim::damerau_levenshtein(name, known))
        .expect("there are settings")
}

/// Kubernetes gives every container `PONTUAL_SERVICE_HOST`, `PONTUAL_PORT_8080_TCP`, … when a service is called
/// `pontual` (`PONTUAL_QUERY_API_PORT` when it is called `pontual-query-api`). Nobody set those on purpose.
fn from_kubernetes(name: &str) -> bool {
    let after = |mark: &str| name.find(mark).map(|at| &name[at + mark.len()..]);
    name.ends_with("_SERVICE_HOST")
        || after("_SERVICE_PORT").is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        || after("_PORT").is_some_and(|rest| {
            rest.is_empty()
                || (rest.starts_with('_') && (rest.contains("_TCP") || rest.contains("_UDP")))
        })
}

fn scheme(
    variable: &'static str,
    url: Option<&SecretString>,
    schemes: &[&str],
) -> Result<(), ConfigError> {
    let good = url.is_none_or(|u| schemes.iter().any(|s| u.expose_secret().starts_with(s)));
    if good {
        Ok(())
    } else {
        Err(ConfigError::invalid(variable, format!("must start with {}", schemes.join(" or "))))
    }
}

/// Where mails go and whom they are from.
fn mail(raw: &Raw, environment: Environment) -> Result<(Mail, Sender), ConfigError> {
    let invalid = |variable, problem: &str| ConfigError::invalid(variable, problem);
    let mail = match (&raw.smtp_url, &raw.ses_region) {
        (Some(_), Some(_)) => {
            return Err(invalid("SMTP_URL", "and PONTUAL_SES_REGION are both set; one is enough"));
        }
        (Some(url), None) => Mail::Smtp(
            url.expose_secret()
                .parse()
                .map_err(|error: InvalidSmtpUrl| invalid("SMTP_URL", &error.to_string()))?,
        ),
        (None, Some(region)) => {
            let needed = |variable| invalid(variable, "is needed for PONTUAL_SES_REGION");
            Mail::Ses(SesSettings {
                region: region.clone(),
                access_key_id: raw
                    .aws_access_key_id
                    .clone()
                    .ok_or_else(|| needed("AWS_ACCESS_KEY_ID"))?,
                secret_access_key: raw
                    .aws_secret_access_key
                    .clone()
                    .ok_or_else(|| needed("AWS_SECRET_ACCESS_KEY"))?,
                session_token: raw.aws_session_token.clone(),
                endpoint: raw.ses_endpoint.clone(),
            })
        }
        (None, None) => {
            Mail::Folder(raw.mail_dir.clone().unwrap_or_else(|| raw.data_dir.join("mail")))
        }
    };
    if let Mail::Ses(settings) = &mail {
        settings.check().map_err(|error| {
            let variable = match error {
                InvalidSes::Region => "PONTUAL_SES_REGION",
                InvalidSes::Endpoint => "PONTUAL_SES_ENDPOINT",
            };
            invalid(variable, &error.to_string())
        })?;
    }
    let leaves = matches!(mail, Mail::Smtp(_) | Mail::Ses(_));
    let from = match &raw.mail_from {
        Some(from) => from
            .parse()
            .map_err(|error: InvalidSender| invalid("PONTUAL_MAIL_FROM", &error.to_string()))?,
        None if leaves && environment == Environment::Production => {
            let problem = "must be set in production, where mails leave this machine";
            return Err(invalid("PONTUAL_MAIL_FROM", problem));
        }
        None => Sender::default(),
    };
    Ok((mail, from))
}

/// Where files go, unless it is the data folder.
fn bucket(raw: &Raw) -> Result<Option<Bucket>, ConfigError> {
    let invalid = ConfigError::invalid;
    let Some(name) = raw.s3_bucket.clone() else {
        return match (&raw.s3_region, &raw.s3_endpoint) {
            (None, None) => Ok(None),
            _ => Err(invalid("PONTUAL_S3_BUCKET", "is missing beside what else is said of S3")),
        };
    };
    let region = raw.s3_region.clone().ok_or_else(|| {
        invalid("PONTUAL_S3_REGION", "is missing: the region of the bucket, as sa-east-1")
    })?;
    let endpoint =
        raw.s3_endpoint.as_ref().map(|endpoint| endpoint.trim_end_matches('/').to_owned());
    if endpoint.as_ref().is_some_and(|e| !e.starts_with("https://") && !e.starts_with("http://")) {
        return Err(invalid("PONTUAL_S3_ENDPOINT", "must start with https:// or http://"));
    }
    let expose = |secret: &SecretString| secret.expose_secret().to_owned();
    let credentials = match (&raw.aws_access_key_id, &raw.aws_secret_access_key) {
        (None, None) => None,
        (Some(_), None) => {
            return Err(invalid("AWS_SECRET_ACCESS_KEY", "is missing beside AWS_ACCESS_KEY_ID"));
        }
        (None, Some(_)) => {
            return Err(invalid("AWS_ACCESS_KEY_ID", "is missing beside AWS_SECRET_ACCESS_KEY"));
        }
        (Some(key_id), Some(secret)) => Some(Credentials {
            key_id: key_id.clone(),
            secret: expose(secret),
            token: raw.aws_session_token.as_ref().map(expose),
        }),
    };
    Ok(Some(Bucket { name, region, endpoint, credentials }))
}

/// How many requests of what kind.
fn limits(raw: &Raw) -> Result<Quotas, ConfigError> {
    let quota = |variable, text: &str| {
        text.parse()
            .map_err(|error: InvalidQuota| ConfigError::invalid(variable, format!(": {error}")))
    };
    Ok(Quotas {
        general: quota("PONTUAL_LIMIT_GENERAL", &raw.limit_general)?,
        account: quota("PONTUAL_LIMIT_ACCOUNT", &raw.limit_account)?,
        sign_in: quota("PONTUAL_LIMIT_SIGN_IN", &raw.limit_sign_in)?,
        registration: quota("PONTUAL_LIMIT_REGISTRATION", &raw.limit_registration)?,
        password_reset: quota("PONTUAL_LIMIT_PASSWORD_RESET", &raw.limit_password_reset)?,
        refresh: quota("PONTUAL_LIMIT_REFRESH", &raw.limit_refresh)?,
        guest_booking: quota("PONTUAL_LIMIT_GUEST_BOOKING", &raw.limit_guest_booking)?,
        series: quota("PONTUAL_LIMIT_SERIES", &raw.limit_series)?,
    })
}

/// An origin as browsers send it: scheme, host, perhaps a port, nothing after.
fn origin(text: &str) -> Result<HeaderValue, ConfigError> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let good =
        host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', '?', '#', '@']));
    let value = HeaderValue::from_str(text).ok().filter(|_| good);
    value.ok_or_else(|| {
        let problem = format!("has `{text}`, which is not an origin, as https://example.com is");
        ConfigError::invalid("PONTUAL_CORS_ORIGINS", problem)
    })
}

/// A listening address as one would call it: every interface is called as this machine.
pub fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(a) if a.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, a.port()).into(),
        SocketAddr::V6(a) if a.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, a.port()).into(),
        SocketAddr::V4(_) | SocketAddr::V6(_) => address,
    }
}

/// Where a URL leads, without user, password and parameters.
fn address_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    // A password may hold an @ of its own.
    rest.rsplit_once('@').map_or(rest, |(_, rest)| rest).to_owned()
}

fn read_or_make(file: &Path, make: impl FnOnce() -> String) -> std::io::Result<SecretString> {
    let read = || fs::read_to_string(file).map(SecretString::from);
    match read() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        found_or_failed => return found_or_failed,
    }
    let folder = file.parent().expect("a key's file is in a folder");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let unfinished = file.with_extension(format!("{:016x}.tmp", rand::random::<u64>()));
    let mut options = fs::OpenOptions::new();
    let mut out = options.write(true).create_new(true).mode(0o600).open(&unfinished)?;
    out.write_all(make().as_bytes())?;
    out.sync_all()?;
    // Unlike a rename, a link does not replace what another program put there first.
    let linked = fs::hard_link(&unfinished, file);
    fs::remove_file(&unfinished)?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::File::open(folder)?.sync_all()?;
    read()
}

/// A new Ed25519 private key, PKCS#8, PEM. The structure around the seed is the same for all of them (RFC 8410, 10.3).
fn new_signing_key() -> String {
    const BEFORE_THE_SEED: [u8; 16] =
        [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let seed: [u8; 32] = rand::random();
    let der = [&BEFORE_THE_SEED[..], &seed[..]].concat();
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_parts(None, variables.iter().map(|(n, v)| (n.into(), v.into())))
    }

    fn error(variables: &[(&str, &str)]) -> String {
        let error = with(variables).map(|_| ()).unwrap_err();
        match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    }

    #[test]
    fn nothing_needs_to_be_set() {
        let config = with(&[]).unwrap();
        assert_eq!(config.environment, Environment::Development);
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.partitions.get(), 4);
        assert_eq!(config.database_pool, 20);
        assert_eq!(config.public_url, "http://127.0.0.1:8080");
        assert_eq!(
            config.describe(),
            [
                "Postgres: private cluster in ./data/postgres",
                "Redis: none, in process",
                "MongoDB: none, notifications in Postgres",
                "Mail: files in ./data/mail",
                "Files: ./data/files",
                "Keys: made once, in ./data/keys (keep them: without them personal data is lost)",
                "Metrics: http://127.0.0.1:9090/metrics",
            ]
        );
    }

    #[test]
    fn the_environment_beats_the_file_and_the_file_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pontual.toml");
        fs::write(&file, "partitions = 7\nlisten = '0.0.0.0:80'\ncors_origins = ['https://a.b']")
            .unwrap();
        let variables = [("PONTUAL_PARTITIONS".into(), "1".into())];
        let config = Config::from_parts(Some(&file), variables).unwrap();
        assert_eq!(config.partitions.get(), 1);
        assert_eq!(config.listen.to_string(), "0.0.0.0:80");
        assert_eq!(config.public_url, "http://127.0.0.1:80");
        assert_eq!(config.cors_origins, ["https://a.b"]);
        assert_eq!(config.database_pool, 20);
    }

    #[test]
    fn a_bucket_needs_a_region_and_keys_come_in_pairs() {
        assert!(error(&[("PONTUAL_S3_BUCKET", "files")]).contains("PONTUAL_S3_REGION"));
        assert!(error(&[("PONTUAL_S3_REGION", "sa-east-1")]).contains("PONTUAL_S3_BUCKET"));
        let bucket = [("PONTUAL_S3_BUCKET", "files"), ("PONTUAL_S3_REGION", "sa-east-1")];
        let half = [bucket[0], bucket[1], ("AWS_ACCESS_KEY_ID", "x")];
        assert!(error(&half).contains("AWS_SECRET_ACCESS_KEY"));
        let config = with(&[
            ("PONTUAL_S3_BUCKET", "files"),
            ("PONTUAL_S3_REGION", "sa-east-1"),
            ("PONTUAL_S3_ENDPOINT", "http://127.0.0.1:9000/"),
            ("AWS_ACCESS_KEY_ID", "x"),
            ("AWS_SECRET_ACCESS_KEY", "hush"),
        ]);
        let config = config.unwrap();
        let endpoint = config.bucket.as_ref().unwrap().endpoint.as_deref();
        assert_eq!(endpoint, Some("http://127.0.0.1:9000"));
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn a_mistyped_setting_of_the_file_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pontual.toml");
        fs::write(&file, "listn = '0.0.0.0:80'").unwrap();
        let error = Config::from_parts(Some(&file), []).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("listn"), "{cause}");
        let missing = Config::from_parts(Some(&folder.path().join("other.toml")), []);
        assert!(missing.is_err(), "a file that was named must be there");
    }

    #[test]
    fn a_mistyped_variable_is_an_error_that_names_the_nearest() {
        let unknown = error(&[("PONTUAL_LISTN", "x")]);
        assert_eq!(unknown, "PONTUAL_LISTN is not a setting; did you mean PONTUAL_LISTEN?");
        let unknown = error(&[("PONTUAL_MASTERKEY_FILE", "x")]);
        assert_eq!(
            unknown,
            "PONTUAL_MASTERKEY_FILE is not a setting; did you mean PONTUAL_MASTER_KEY_FILE?"
        );
        error(&[("PONTUAL_LISTEN_FILE", "only secrets come from files")]);
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_of_this_name_is_left_alone() {
        for name in [
            "PONTUAL_SERVICE_HOST",
            "PONTUAL_SERVICE_PORT",
            "PONTUAL_SERVICE_PORT_HTTP",
            "PONTUAL_PORT",
            "PONTUAL_PORT_8080_TCP",
            "PONTUAL_PORT_8080_TCP_ADDR",
            "PONTUAL_QUERY_API_PORT_8080_TCP_PROTO",
        ] {
            assert!(with(&[(name, "tcp://10.0.0.1:8080")]).is_ok(), "{name}");
        }
        assert!(with(&[("PONTUAL_PORTS", "8080")]).is_err());
    }

    #[test]
    fn an_empty_variable_is_as_good_as_none() {
        let config =
            with(&[("REDIS_URL", ""), ("PONTUAL_PARTITIONS", ""), ("DATABASE_URL_FILE", "")]);
        let config = config.unwrap();
        assert!(config.redis_url.is_none());
        assert_eq!(config.partitions.get(), 4);
    }

    #[test]
    fn a_bad_value_is_an_error_that_names_its_variable() {
        for (name, text) in [
            ("PONTUAL_PARTITIONS", "0"),
            ("PONTUAL_PARTITIONS", "4097"),
            ("PONTUAL_PARTITIONS", "four"),
            ("PONTUAL_DATABASE_POOL", "1"),
            ("PONTUAL_LISTEN", "8080"),
            ("PONTUAL_METRICS_LISTEN", "no"),
            ("PONTUAL_ENV", "prod"),
            ("PONTUAL_LOG_FORMAT", "xml"),
            ("PONTUAL_PUBLIC_URL", "example.com"),
            ("PONTUAL_RATE_LIMITS", "yes"),
            ("PONTUAL_LIMIT_GENERAL", "many"),
            ("PONTUAL_LIMIT_SIGN_IN", "5"),
            ("PONTUAL_LIMIT_REFRESH", "0/min"),
            ("PONTUAL_TRUSTED_PROXIES", "10.0.0.0/8,proxy.example.com"),
            ("PONTUAL_CORS_ORIGINS", "*"),
            ("PONTUAL_CORS_ORIGINS", "https://a.b/"),
            ("DATABASE_URL", "mysql:secret@host"),
            ("REDIS_URL", "localhost:secret"),
            ("MONGODB_URL", "localhost:secret"),
            ("SMTP_URL", "smtp://ana:secret@mail.example.com?tls=perhaps"),
            ("PONTUAL_MAIL_FROM", "nobody"),
        ] {
            let error = error(&[(name, text)]);
            assert!(error.starts_with(name), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_secret_is_read_from_a_file_and_shown_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        fs::write(&file, "postgres://ana:hunter2@db:5432/pontual\n").unwrap();
        let file = file.to_str().unwrap();
        let redis = "redis://:hunter2@cache:6379/0?token=hunter2";
        let key = "1234567890".repeat(6) + "1234";
        let config = with(&[
            ("DATABASE_URL_FILE", file),
            ("REDIS_URL", redis),
            ("MONGODB_URL", "mongodb://u:hunt@er2@feed/x"),
            ("PONTUAL_MASTER_KEY", &key),
        ])
        .unwrap();
        let url = config.database_url.as_ref().unwrap().expose_secret();
        assert_eq!(url, "postgres://ana:hunter2@db:5432/pontual");
        let shown = format!("{config:?}{}", config.describe().join("\n"));
        assert!(
            !shown.contains("hunter2") && !shown.contains("er2") && !shown.contains("123456"),
            "{shown}"
        );
        assert!(config.describe().contains(&"Redis: cache:6379/0".to_owned()));
        let twice = error(&[("DATABASE_URL_FILE", file), ("DATABASE_URL", "postgres://db/x")]);
        assert_eq!(twice, "DATABASE_URL and DATABASE_URL_FILE are both set; one is enough");
        error(&[("REDIS_URL_FILE", "/nowhere/at/all")]);
    }

    #[test]
    fn mails_go_to_one_place_and_say_whom_they_are_from_where_they_leave_the_machine() {
        let smtp = ("SMTP_URL", "smtps://ana:hunter2@mail.example.com");
        let shown = |config: Config| format!("{config:?} {}", config.describe().join("; "));
        let config = shown(with(&[smtp]).unwrap());
        assert!(config.contains("Mail: SMTP, mail.example.com:465 (TLS)"), "{config}");
        assert!(!config.contains("hunter2"), "{config}");
        let ses = [
            ("PONTUAL_SES_REGION", "sa-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ];
        let config = shown(with(&ses).unwrap());
        assert!(config.contains("Mail: Amazon SES, sa-east-1"), "{config}");
        assert!(!config.contains("hunter2"), "{config}");
        assert!(error(&ses[..2]).starts_with("AWS_SECRET_ACCESS_KEY is needed"));
        assert!(error(&[ses[0], ses[1], ses[2], smtp]).starts_with("SMTP_URL and"));
        let elsewhere = ("PONTUAL_SES_ENDPOINT", "localhost:4566");
        assert!(error(&[ses[0], ses[1], ses[2], elsewhere]).starts_with("PONTUAL_SES_ENDPOINT is"));
        let production = ("PONTUAL_ENV", "production");
        assert!(error(&[production, smtp]).starts_with("PONTUAL_MAIL_FROM must be set"));
        let from = ("PONTUAL_MAIL_FROM", "Pontual <no-reply@example.com>");
        assert!(with(&[production, smtp, from]).is_ok());
        assert!(with(&[production]).is_ok(), "the folder needs no sender");
    }

    /// Whatever is added to `KEYS` later, too.
    #[test]
    fn every_secret_can_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let secrets: Vec<_> = KEYS.iter().filter(|key| key.kind == Kind::Secret).collect();
        assert!(secrets.len() >= 9);
        for key in secrets {
            let file = folder.path().join(key.variable);
            let read = |name: String, value: OsString| from_environment([(name.into(), value)]);
            let by_file = || read(format!("{}_FILE", key.variable), file.clone().into());
            for content in ["-----BEGIN-----\nxyz\n-----END-----\n", "two = words", "x\r\n"] {
                fs::write(&file, content).unwrap();
                let plain = read(key.variable.to_owned(), content.trim_end().into()).unwrap();
                assert_eq!(by_file().unwrap(), plain, "{}", key.variable);
            }
            fs::write(&file, "\n").unwrap();
            let empty = by_file().unwrap_err().to_string();
            assert!(empty.starts_with(key.variable) && empty.contains("empty"), "{empty}");
            fs::remove_file(&file).unwrap();
            let missing = by_file().unwrap_err().to_string();
            assert!(missing.starts_with(key.variable), "{missing}");
        }
    }

    #[test]
    fn limits_are_settings() {
        assert_eq!(with(&[]).unwrap().limits, Quotas::SEEDS, "the defaults are the seeds'");
        let limits = with(&[("PONTUAL_LIMIT_GENERAL", "7/s"), ("PONTUAL_LIMIT_SIGN_IN", "9 / h")]);
        let limits = limits.unwrap().limits;
        assert_eq!((limits.general.burst, limits.general.period.as_secs()), (7, 1));
        assert_eq!(limits.sign_in, http_kit::limits::Quota::per_hour(9));
    }

    #[test]
    fn tokens_of_before_a_rotation_are_verified_by_keys_in_text_or_in_files() {
        let now: http_kit::auth::Now =
            std::sync::Arc::new(|| event_log::Clock::now(&event_log::SystemClock));
        let signer = |pem: &str| {
            let names = http_kit::auth::Names::of("https://pontual.test");
            http_kit::auth::Signer::from_pem(pem.as_bytes(), names, now.clone()).unwrap()
        };
        let public = |pem: &str| {
            let jwks = serde_json::to_value(signer(pem).verifier([]).jwks()).unwrap();
            let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
            let mut der = vec![0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
            der.extend(engine.decode(jwks["keys"][0]["x"].as_str().unwrap()).unwrap());
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
        };
        let (oldest, old, new) = (new_signing_key(), new_signing_key(), new_signing_key());
        let folder = tempfile::tempdir().unwrap();
        let files = [folder.path().join("oldest.pem"), folder.path().join("old.pem")];
        fs::write(&files[0], public(&oldest)).unwrap();
        fs::write(&files[1], public(&old)).unwrap();
        let by_files = format!("{}, {}", files[0].display(), files[1].display());
        let by_text = format!("{}{}", public(&oldest), public(&old)).replace('\n', "\\n");
        for text in [by_files, by_text] {
            let config = with(&[("PONTUAL_VERIFYING_KEYS", &text)]).unwrap();
            let verifier = signer(&new).verifier(config.verifying_keys().unwrap());
            for earlier in [&oldest, &old, &new] {
                let mint = domain::ids::Mint::new([1; 32]);
                let slot = domain::ids::RoutingSlot::from_bits(1);
                let signer = signer(earlier);
                let token = signer.issue(mint.id(slot, 0), mint.id(slot, 1), 1, &[]).unwrap().token;
                assert!(verifier.verify(&token).is_ok());
            }
        }
        assert!(with(&[]).unwrap().verifying_keys().unwrap().is_empty());
        for wrong in
            ["/nowhere/at/all.pem", "-----BEGIN PUBLIC KEY-----\\nx", &new.replace('\n', "\\n")]
        {
            let config = with(&[("PONTUAL_VERIFYING_KEYS", wrong)]).unwrap();
            let error = config.verifying_keys().unwrap_err().to_string();
            assert!(
                error.starts_with("PONTUAL_VERIFYING_KEYS") && !error.contains("BEGIN"),
                "{error}"
            );
        }
    }

    #[test]
    fn development_makes_keys_once_and_nobody_else_can_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let config = with(&[("PONTUAL_DATA_DIR", data.to_str().unwrap())]).unwrap();
        let first = std::thread::scope(|threads| {
            let racers: Vec<_> = (0..8).map(|_| threads.spawn(|| config.keys())).collect();
            let keys: Vec<_> = racers.into_iter().map(|r| r.join().unwrap().unwrap()).collect();
            let one = keys[0].master.to_hex();
            assert!(keys.iter().all(|k| k.master.to_hex() == one), "all racers got the same key");
            one
        });
        assert_eq!(config.keys().unwrap().master.to_hex(), first);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data.join("keys")), 0o700);
        assert_eq!(mode(&config.master_key_file()), 0o600);
        assert_eq!(mode(&config.signing_key_file()), 0o600);
        assert_eq!(fs::read_dir(data.join("keys")).unwrap().count(), 2, "no leftovers");
    }

    #[test]
    fn production_says_which_key_to_set_and_how_to_make_it() {
        let error = with(&[("PONTUAL_ENV", "production")]).unwrap().keys().unwrap_err().to_string();
        assert!(
            error.contains("PONTUAL_MASTER_KEY") && error.contains("openssl rand -hex 32"),
            "{error}"
        );
        let pem = new_signing_key().replace('\n', "\\n");
        let key = "ab".repeat(32);
        let set = [("PONTUAL_ENV", "production"), ("PONTUAL_MASTER_KEY", &key)];
        let config = with(&set).unwrap();
        assert!(config.keys().unwrap_err().to_string().contains("PONTUAL_SIGNING_KEY"));
        let config = with(&[set[0], set[1], ("PONTUAL_SIGNING_KEY", &pem)]).unwrap();
        let keys = config.keys().unwrap();
        assert_eq!(keys.signing_pem.expose_secret().lines().count(), 3, "one line became three");
    }

    /// `.env.example` is where people look: it must have every setting, with its default, and every variable of
    /// `docker-compose.yml`, and nothing else.
    #[test]
    fn the_example_file_has_exactly_the_settings_there_are() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let example = fs::read_to_string(root.join(".env.example")).unwrap();
        let compose = fs::read_to_string(root.join("docker-compose.yml")).unwrap();
        let mut found: Vec<(String, String)> = example
            .lines()
            .map(|line| line.trim_start_matches("# ").trim_start_matches('#'))
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| {
                name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            })
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        found.sort();
        let mut names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        let mut expected: Vec<&str> = KEYS.iter().map(|key| key.variable).collect();
        let of_compose = compose.split("${").skip(1);
        expected.extend(of_compose.map(|rest| rest.split([':', '}', '?', '-']).next().unwrap()));
        expected.sort_unstable();
        expected.dedup();
        names.dedup();
        assert_eq!(names, expected);
        for key in KEYS {
            let Some(default) = key.default else { continue };
            let shown = &found.iter().find(|(name, _)| name == key.variable).unwrap().1;
            assert_eq!(shown, default, "{}", key.variable);
        }
    }
}
