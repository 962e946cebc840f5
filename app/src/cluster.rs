//! The single-node profile's own Postgres: a private cluster under the data folder, on a Unix socket, of the Postgres
//! programs that are found on the machine.
//!
//! `pontual serve` without `DATABASE_URL`, for example: [`Cluster::start`] locks `data/pontual.lock`, finds
//! `/usr/lib/postgresql/17/bin`, makes `data/postgres/data` with `initdb` (as the user `postgres`, if we are root),
//! starts it with `pg_ctl`, makes the database `pontual`, and hands out [`Cluster::options`]. [`Cluster::stop`] stops it
//! after the last connection is closed.
//!
//! # On a crash
//! - While the cluster is made: it is made under another name and then renamed, so half a cluster is never started.
//! - Pontual dies (`kill -9`): the lock goes with it, Postgres stays, and the next start adopts it.
//! - Both die, or the machine: Postgres recovers from its own log at the next start; a `postmaster.pid` whose number now
//!   belongs to somebody else is removed.
//! - Postgres dies alone: it is noticed within half a second and started again ([`Cluster::keep_running`]), with growing
//!   pauses if it does not stay; meanwhile commands are answered 503.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use thiserror::Error;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The oldest Postgres that will do.
pub const OLDEST_POSTGRES: u32 = 15;

/// The database and its superuser, in a cluster of our own.
const NAME: &str = "pontual";

/// A port is part of the socket's name, even where there is no network.
const PORT: u16 = 5432;

/// `sockaddr_un` holds 108 bytes, the last of them a zero.
const LONGEST_SOCKET_PATH: usize = 107;

/// Recovery after a crash can take its time; so can a disk.
const START_WITHIN: Duration = Duration::from_secs(120);

/// How often it is looked whether Postgres still runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The pause after it was started again, and the longest one: each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// One that ran for so long is not taken to die of the same cause again.
const STEADY: Duration = Duration::from_secs(120);

/// What is wrong with the private cluster.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// There is no Postgres to run.
    #[error(
        "no Postgres of at least 15 was found (in PATH, /usr/lib/postgresql, by pg_config): install it \
         (apt install postgresql), or set DATABASE_URL"
    )]
    NoPostgres,
    /// The cluster was made by another major version.
    #[error(
        "the cluster in {folder} was made by Postgres {version}, which was not found: install it, or upgrade the \
         cluster with pg_upgrade"
    )]
    OtherVersion {
        /// Where it is.
        folder: PathBuf,
        /// What made it.
        version: u32,
    },
    /// Another program has the data folder.
    #[error(
        "another pontual ({holder}) is running on {folder}; stop it, or choose another PONTUAL_DATA_DIR"
    )]
    Locked {
        /// Who: `process 4711`.
        holder: String,
        /// Whose folder.
        folder: PathBuf,
    },
    /// The cluster belongs to somebody else.
    #[error("{folder} belongs to user {owner}; run pontual as that user")]
    NotOurs {
        /// Where it is.
        folder: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// We are root, Postgres refuses to be, and nobody else is there.
    #[error(
        "Postgres does not run as root, and there is no user `postgres` or `nobody` to run it as"
    )]
    NoUser,
    /// A file or folder cannot be used.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// One of Postgres's programs failed.
    #[error("{program} failed; it said:\n{said}")]
    Program {
        /// Which.
        program: &'static str,
        /// The end of its output, or of the server's log.
        said: String,
    },
    /// It started, and does not answer.
    #[error("Postgres in {folder} does not answer")]
    NoAnswer {
        /// Where it is.
        folder: PathBuf,
        /// What became of the last attempt.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// The database cannot be made.
    #[error("the database cannot be made")]
    Database(#[source] sqlx::Error),
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    let path = path.to_owned();
    move |source| ClusterError::Io { what, path, source }
}

/// The folder of Postgres's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// Where `initdb`, `pg_ctl` and `postgres` are.
    pub folder: PathBuf,
    /// The major version.
    pub version: u32,
}

impl Binaries {
    /// Every Postgres on this machine, the newest first; of two of one version, the one in `PATH`.
    pub async fn all() -> Vec<Self> {
        let mut folders: Vec<PathBuf> =
            std::env::var_os("PATH").iter().flat_map(|path| std::env::split_paths(path)).collect();
        for (parent, below) in [
            ("/usr/lib/postgresql", "bin"),
            ("/usr", "bin"), // /usr/pgsql-17/bin, of the RPM packages
            ("/opt/homebrew/opt", "bin"),
            ("/usr/local/opt", "bin"),
        ] {
            let children = fs::read_dir(parent).into_iter().flatten().flatten();
            folders.extend(children.map(|child| child.path().join(below)));
        }
        if let Ok(said) = run(Command::new("pg_config").arg("--bindir")).await {
            folders.push(String::from_utf8_lossy(&said.stdout).trim().into());
        }
        let mut found: Vec<Self> = Vec::new();
        for folder in folders {
            // Through the link, if it is one: /usr/local/bin/initdb may be all that stands in /usr/local/bin.
            let Ok(initdb) = folder.join("initdb").canonicalize() else { continue };
            let folder = initdb.parent().expect("a file has a folder").to_owned();
            let complete = ["pg_ctl", "postgres"].iter().all(|name| folder.join(name).exists());
            if !complete || found.iter().any(|known| known.folder == folder) {
                continue;
            }
            let said = run(Command::new(folder.join("postgres")).arg("--version")).await;
            if let Some(version) = said.ok().and_then(|said| major_version(&said.stdout)) {
                found.push(Self { folder, version });
            }
        }
        found.sort_by_key(|binaries| std::cmp::Reverse(binaries.version));
        found
    }

    /// Those for a cluster: of the version that made it, or, for a new one, the newest.
    async fn for_cluster(data: &Path) -> Result<Self, ClusterError> {
        let all = Self::all().await;
        match made_by(data) {
            Some(version) => all
                .into_iter()
                .find(|binaries| binaries.version == version)
                .ok_or_else(|| ClusterError::OtherVersion { folder: data.to_owned(), version }),
            None => all
                .into_iter()
                .find(|binaries| binaries.version >= OLDEST_POSTGRES)
                .ok_or(ClusterError::NoPostgres),
        }
    }
}

/// `postgres (PostgreSQL) 15.18 (Debian …)` → 15.
fn major_version(said: &[u8]) -> Option<u32> {
    let said = String::from_utf8_lossy(said);
    let number =
        said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The version that made a cluster; `None` where there is none.
pub fn made_by(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("PG_VERSION")).ok()?.trim().parse().ok()
}

/// Who runs Postgres: we, or, as it refuses to be root, somebody root becomes for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
    /// Whether root has to become that user.
    borrowed: bool,
}

impl User {
    /// The owner of the cluster if there is one, else we, else `postgres`, else `nobody`.
    fn for_cluster(data: &Path) -> Result<Self, ClusterError> {
        let us = rustix::process::geteuid().as_raw();
        if let Ok(found) = fs::metadata(data.join("PG_VERSION")) {
            return match (us, found.uid()) {
                (0, owner) if owner != 0 => {
                    Ok(Self { uid: owner, gid: found.gid(), borrowed: true })
                }
                (us, owner) if us == owner => {
                    Ok(Self { uid: us, gid: found.gid(), borrowed: false })
                }
                (_, owner) => Err(ClusterError::NotOurs { folder: data.to_owned(), owner }),
            };
        }
        if us != 0 {
            return Ok(Self { uid: us, gid: rustix::process::getegid().as_raw(), borrowed: false });
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let by_name = |name| user_in(&users, name);
        let (uid, gid) =
            by_name("postgres").or_else(|| by_name("nobody")).ok_or(ClusterError::NoUser)?;
        Ok(Self { uid, gid, borrowed: true })
    }

    /// A program, run as this user, in a folder that this user can be in.
    fn command(self, program: impl AsRef<OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder);
        if self.borrowed {
            // The standard library drops the supplementary groups, too.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    fn give(self, path: &Path) -> Result<(), ClusterError> {
        if self.borrowed {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
                .map_err(io_error("hand over", path))?;
        }
        Ok(())
    }

    /// Makes a folder that only this user can enter, if it is not there.
    fn private_folder(self, path: &Path) -> Result<(), ClusterError> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.give(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(io_error("make", path)(error)),
        }
    }

    /// Whether the user can get there: below `/root`, say, only root can.
    async fn reaches(self, path: &Path) -> bool {
        !self.borrowed
            || run(self
                .command("/bin/sh", Path::new("/"))
                .args(["-c", "cd -- \"$1\"", "sh"])
                .arg(path))
            .await
            .is_ok()
    }
}

/// The user and group id of a name in `/etc/passwd`.
fn user_in(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Where a cluster keeps what: `<data_dir>/postgres/{data,run,start.log}`.
#[derive(Debug, Clone)]
struct Layout {
    /// `<data_dir>/postgres`, links followed.
    base: PathBuf,
    /// PGDATA.
    data: PathBuf,
}

impl Layout {
    fn at(base: PathBuf) -> Self {
        Self { data: base.join("data"), base }
    }
}

/// A Postgres of our own, running.
#[derive(Debug)]
#[must_use = "a cluster that is dropped is stopped"]
pub struct Cluster {
    layout: Layout,
    binaries: Binaries,
    user: User,
    socket: PathBuf,
    /// Held while the cluster is ours to stop; `None` when we only joined another program's.
    lock: Option<File>,
    /// Starts it again when it dies alone.
    keeper: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Cluster {
    /// Starts the cluster under a data folder, and makes it first if need be; one that a crash left running is adopted.
    /// The data folder is then ours until [`Cluster::stop`]: a second program gets [`ClusterError::Locked`].
    pub async fn start(data_dir: &Path) -> Result<Self, ClusterError> {
        let (folder, lock) = lock(data_dir)?;
        match lock {
            Ok(lock) => Self::run(&folder, lock).await,
            Err(holder) => Err(ClusterError::Locked { holder, folder }),
        }
    }

    /// For a command beside a running program (`pontual log verify`, say): uses that program's cluster, which then stays
    /// when we go; with none running, starts it as [`Cluster::start`] does.
    pub async fn join_or_start(data_dir: &Path) -> Result<Self, ClusterError> {
        let until = Instant::now() + START_WITHIN;
        loop {
            let (folder, lock) = lock(data_dir)?;
            match lock {
                Ok(lock) => return Self::run(&folder, lock).await,
                Err(_) => {
                    // That program may be starting its cluster, or stopping it and about to go.
                    if let Some(cluster) = Self::running(&folder).await {
                        return Ok(cluster);
                    }
                }
            }
            if Instant::now() > until {
                return Err(ClusterError::NoAnswer { folder, source: None });
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The cluster of a data folder, if it runs: it stays when we go. Changes nothing.
    pub async fn running(data_dir: &Path) -> Option<Self> {
        let layout = Layout::at(data_dir.join("postgres").canonicalize().ok()?);
        let user = User::for_cluster(&layout.data).ok()?;
        let socket = Postmaster::read(&layout.data)?.socket;
        let binaries = Binaries::for_cluster(&layout.data).await.ok()?;
        let cluster = Self { layout, binaries, user, socket, lock: None, keeper: None };
        cluster.options().connect().await.ok()?.close().await.ok()?;
        Some(cluster)
    }

    async fn run(folder: &Path, lock: File) -> Result<Self, ClusterError> {
        let layout = find_or_make(folder).await?;
        let user = User::for_cluster(&layout.data)?;
        let binaries = Binaries::for_cluster(&layout.data).await?;
        let socket = socket_folder(&layout.base, user)?;
        let mut cluster = Self { layout, binaries, user, socket, lock: None, keeper: None };
        cluster.adopt_or_start().await?;
        // From here on it is ours to stop; one that could not be reached is not ours to touch.
        cluster.lock = Some(lock);
        cluster.make_database().await?;
        Ok(cluster)
    }

    /// From now on Postgres is started again whenever it dies alone, until [`Cluster::stop`].
    pub fn keep_running(&mut self) {
        let twin = Self {
            layout: self.layout.clone(),
            binaries: self.binaries.clone(),
            user: self.user,
            socket: self.socket.clone(),
            lock: None,
            keeper: None,
        };
        let stop = CancellationToken::new();
        self.keeper = Some((stop.clone(), tokio::spawn(twin.keep(stop))));
    }

    async fn keep(mut self, stop: CancellationToken) {
        let (first, longest) = PAUSES;
        let (mut pause, mut started) = (first, Instant::now());
        while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            let postmaster = Postmaster::read(&self.layout.data);
            if postmaster.is_some_and(|postmaster| postmaster.is_alive(&self.layout.data)) {
                continue;
            }
            if started.elapsed() > STEADY {
                pause = first;
            }
            tracing::error!("the private Postgres has died; it is started again");
            match self.adopt_or_start().await {
                Ok(()) => tracing::warn!("the private Postgres runs again"),
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the private Postgres cannot be started; another try follows in {} s",
                    pause.as_secs()
                ),
            }
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
            (pause, started) = ((pause * 2).min(longest), Instant::now());
        }
    }

    /// How to connect.
    pub fn options(&self) -> PgConnectOptions {
        self.options_for(NAME)
    }

    fn options_for(&self, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(&self.socket)
            .port(PORT)
            .username(NAME)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
    }

    /// The same as a URL, for other programs: `psql "$url"`.
    pub fn url(&self) -> String {
        let host: String = self
            .socket
            .to_string_lossy()
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                    char::from(byte).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        format!("postgres:///{NAME}?host={host}&port={PORT}&user={NAME}")
    }

    /// Where the cluster is.
    pub fn folder(&self) -> &Path {
        &self.layout.base
    }

    /// Stops Postgres, unless another program's was joined. Connections that are open are cut.
    pub async fn stop(mut self) -> Result<(), ClusterError> {
        if let Some((stop, mut keeper)) = self.keeper.take() {
            stop.cancel();
            // It may be starting Postgres at this moment: what it has begun is stopped below.
            if tokio::time::timeout(Duration::from_secs(3), &mut keeper).await.is_err() {
                keeper.abort();
            }
        }
        let Some(lock) = self.lock.take() else { return Ok(()) };
        let mut command = self.pg_ctl();
        command.args(["stop", "--mode=fast", "--wait", "--timeout=20", "--silent"]);
        let stopped = run(&mut command).await;
        // One that is gone already is stopped.
        let result = match stopped {
            Err(_) if Postmaster::read(&self.layout.data).is_none() => Ok(()),
            result => result.map(|_| ()).map_err(|failed| failed.of("pg_ctl")),
        };
        drop(lock);
        result
    }

    async fn adopt_or_start(&mut self) -> Result<(), ClusterError> {
        let until = Instant::now() + START_WITHIN;
        let mut failed = None;
        while Instant::now() < until {
            match Postmaster::read(&self.layout.data) {
                Some(postmaster) if postmaster.is_alive(&self.layout.data) => {
                    self.socket = postmaster.socket;
                    // It may be recovering, or be on its way out.
                    match self.options_for("postgres").connect().await {
                        Ok(connection) => {
                            let _ = connection.close().await;
                            return Ok(());
                        }
                        Err(error) => failed = Some(error),
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                stale_or_none => {
                    if stale_or_none.is_some() {
                        let pid = self.layout.data.join("postmaster.pid");
                        fs::remove_file(&pid).map_err(io_error("remove", &pid))?;
                    }
                    self.socket = socket_folder(&self.layout.base, self.user)?;
                    // The socket's lock file names a number, too, and Postgres believes it.
                    for name in [format!(".s.PGSQL.{PORT}"), format!(".s.PGSQL.{PORT}.lock")] {
                        let _ = fs::remove_file(self.socket.join(name));
                    }
                    match self.start_postgres().await {
                        // The last processes of a server that was killed have yet to notice, and hold its memory.
                        Err(ClusterError::Program { said, .. })
                            if said.contains("still in use") =>
                        {
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                        done_or_failed => done_or_failed?,
                    }
                }
            }
        }
        Err(ClusterError::NoAnswer { folder: self.layout.data.clone(), source: failed })
    }

    /// `pg_ctl` makes the server a session of its own, so that a Ctrl-C in our terminal, or our death, does not reach it.
    async fn start_postgres(&self) -> Result<(), ClusterError> {
        self.write_settings()?;
        let log = self.layout.base.join("start.log");
        let _ = fs::remove_file(&log);
        let mut command = self.pg_ctl();
        command.args(["start", "--wait", "--silent"]);
        command.arg(format!("--timeout={}", START_WITHIN.as_secs()));
        command.arg("--log").arg(&log);
        run(&mut command).await.map(|_| ()).map_err(|failed| {
            // The beginning of the server's words, and, once it has its log folder, the rest.
            let begun = fs::read_to_string(&log).unwrap_or_default();
            let rest =
                newest(&self.layout.data.join("log")).and_then(|log| fs::read_to_string(log).ok());
            let rest = rest.unwrap_or_default();
            Failed {
                said: [&failed.said, &tail(&begun), &tail(&rest)].map(String::as_str).join("\n"),
            }
            .of("pg_ctl")
        })
    }

    fn pg_ctl(&self) -> Command {
        let mut command = self.user.command(self.binaries.folder.join("pg_ctl"), &self.layout.base);
        command.arg("--pgdata").arg(&self.layout.data);
        // What it inherits must not steer it elsewhere, nor speak another language.
        for variable in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE", "PGOPTIONS"] {
            command.env_remove(variable);
        }
        command.env("LC_MESSAGES", "C");
        command
    }

    /// The settings (S3-61), written anew at each start; `postgresql.conf` includes them, and may be edited.
    fn write_settings(&self) -> Result<(), ClusterError> {
        let path = self.layout.data.join("pontual.conf");
        let socket = self.socket.to_string_lossy().replace('\'', "''");
        let text = format!(
            "# Written by pontual at each start. To change a setting, add it at the end of postgresql.conf.\n\
             listen_addresses = ''\n\
             port = {PORT}\n\
             unix_socket_directories = '{socket}'\n\
             unix_socket_permissions = 0700\n\
             max_connections = 200\n\
             shared_buffers = 256MB\n\
             effective_cache_size = 1GB\n\
             maintenance_work_mem = 64MB\n\
             checkpoint_completion_target = 0.9\n\
             wal_buffers = 16MB\n\
             max_wal_size = 2GB\n\
             default_statistics_target = 100\n\
             random_page_cost = 1.1\n\
             timezone = 'UTC'\n\
             logging_collector = on\n\
             log_directory = 'log'\n\
             log_filename = 'postgres-%a.log'\n\
             log_truncate_on_rotation = on\n\
             log_rotation_age = 1d\n\
             # No personal data in the log: neither statements with what they carry, nor rows in details.\n\
             log_error_verbosity = terse\n\
             log_min_error_statement = panic\n\
             log_parameter_max_length = 0\n\
             log_parameter_max_length_on_error = 0\n"
        );
        fs::write(&path, text).map_err(io_error("write", &path))?;
        self.user.give(&path)
    }

    async fn make_database(&self) -> Result<(), ClusterError> {
        let make = async {
            let mut connection = PgConnection::connect_with(&self.options_for("postgres")).await?;
            let there: bool =
                sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
                    .bind(NAME)
                    .fetch_one(&mut connection)
                    .await?;
            if !there {
                sqlx::query("CREATE DATABASE pontual").execute(&mut connection).await?;
            }
            connection.close().await
        };
        make.await.map_err(ClusterError::Database)
    }
}

impl Drop for Cluster {
    /// For those who leave by an error. It cannot wait; a start that comes too early waits for the server to be gone.
    fn drop(&mut self) {
        if let Some((_, keeper)) = &self.keeper {
            keeper.abort();
        }
        if self.lock.is_some()
            && let Some(postmaster) = Postmaster::read(&self.layout.data)
            && postmaster.is_alive(&self.layout.data)
            && let Some(pid) = Pid::from_raw(postmaster.pid)
        {
            // SIGINT is Postgres's fast stop.
            let _ = rustix::process::kill_process(pid, Signal::INT);
        }
    }
}

/// What a running server says of itself in `postmaster.pid`.
#[derive(Debug)]
struct Postmaster {
    pid: i32,
    socket: PathBuf,
}

impl Postmaster {
    fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    /// Its lines: pid, data folder, start time, port, socket folder, …; written from the top while it starts.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok().filter(|pid| *pid > 0)?;
        let socket = lines.nth(3).unwrap_or_default().trim().into();
        Some(Self { pid, socket })
    }

    /// Whether a process has the number and, as numbers are given out again, works in the data folder as a server does.
    fn is_alive(&self, data: &Path) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        if rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            return false;
        }
        match fs::read_link(format!("/proc/{}/cwd", self.pid)) {
            Ok(folder) => data.canonicalize().is_ok_and(|data| data == folder),
            // Dead and not yet buried, or somebody else's; without /proc the number has to do.
            Err(_) => !Path::new("/proc/self").exists(),
        }
    }
}

/// Makes the data folder if need be, and locks it: the lock, or who holds it. The folder comes back absolute.
fn lock(data_dir: &Path) -> Result<(PathBuf, Result<File, String>), ClusterError> {
    fs::create_dir_all(data_dir).map_err(io_error("make", data_dir))?;
    let folder = data_dir.canonicalize().map_err(io_error("find", data_dir))?;
    let path = folder.join("pontual.lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => {
            let written =
                file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
            written.map_err(io_error("write", &path))?;
            Ok((folder, Ok(file)))
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            Ok((folder, Err(holder)))
        }
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

/// `<data_dir>/postgres`; with a new cluster in it, if there was none.
async fn find_or_make(folder: &Path) -> Result<Layout, ClusterError> {
    let link = folder.join("postgres");
    if let Ok(base) = link.canonicalize() {
        let layout = Layout::at(base);
        if made_by(&layout.data).is_none() {
            initialize(&layout).await?;
        }
        return Ok(layout);
    }
    let user = User::for_cluster(&link.join("data"))?;
    let layout = if user.reaches(folder).await {
        user.private_folder(&link)?;
        Layout::at(link)
    } else {
        // Root works where the borrowed user cannot follow: the cluster lives outside, and a link leads there. Its name
        // is random, so that a data folder made anew, with new keys, does not find the cluster of the old one.
        let outside = Path::new("/var/lib/pontual");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(outside)
            .map_err(io_error("make", outside))?;
        let base = outside.join(format!("{:016x}", rand::random::<u64>()));
        user.private_folder(&base)?;
        std::os::unix::fs::symlink(&base, &link).map_err(io_error("link", &link))?;
        Layout::at(base)
    };
    initialize(&layout).await?;
    Ok(layout)
}

/// Makes a cluster under another name and moves it into place, so that a crash leaves none or a whole one.
async fn initialize(layout: &Layout) -> Result<(), ClusterError> {
    let user = User::for_cluster(&layout.data)?;
    let binaries = Binaries::for_cluster(&layout.data).await?;
    user.give(&layout.base)?;
    let unfinished = layout.base.join("data.new");
    let mut failed = None;
    // C.UTF-8 knows letters beyond ASCII and sorts the same on every machine; where it is missing, C will do.
    for locale in ["C.UTF-8", "C"] {
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &unfinished)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut command = user.command(binaries.folder.join("initdb"), &layout.base);
        command.arg("--pgdata").arg(&unfinished);
        command.args(["--username", NAME, "--auth-local=trust", "--auth-host=reject"]);
        command.args(["--encoding=UTF8", "--data-checksums", "--locale", locale]);
        // initdb looks for its neighbours and may read these.
        command.env_remove("PGDATA").env_remove("PGOPTIONS");
        match run(&mut command).await {
            Ok(_) => {
                failed = None;
                break;
            }
            Err(error) => failed = Some(error),
        }
    }
    if let Some(failed) = failed {
        return Err(failed.of("initdb"));
    }
    let settings = unfinished.join("postgresql.conf");
    let own = "\n# pontual's settings; what stands below overrides them.\ninclude_if_exists = 'pontual.conf'\n";
    File::options()
        .append(true)
        .open(&settings)
        .and_then(|mut file| file.write_all(own.as_bytes()).and_then(|()| file.sync_all()))
        .map_err(io_error("write", &settings))?;
    fs::rename(&unfinished, &layout.data).map_err(io_error("move", &unfinished))?;
    File::open(&layout.base)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error("sync", &layout.base))
}

/// Where the socket goes: beside the data or, where its path would be too long for the kernel, somewhere short.
fn socket_folder(base: &Path, user: User) -> Result<PathBuf, ClusterError> {
    let beside = base.join("run");
    let longest = beside.as_os_str().len() + format!("/.s.PGSQL.{PORT}").len();
    if longest <= LONGEST_SOCKET_PATH {
        user.private_folder(&beside)?;
        return Ok(beside);
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime =
        runtime.filter(|folder| !user.borrowed && folder.is_dir() && folder.as_os_str().len() < 60);
    let parent = runtime.unwrap_or_else(|| PathBuf::from("/tmp"));
    let folder = parent.join(format!("pontual-{}-{:016x}", user.uid, fingerprint(base)));
    user.private_folder(&folder)?;
    // /tmp is everybody's: a folder of that name that somebody else made is not to be trusted.
    let found = fs::symlink_metadata(&folder).map_err(io_error("look at", &folder))?;
    if !found.is_dir() || found.uid() != user.uid || found.permissions().mode() & 0o077 != 0 {
        return Err(ClusterError::NotOurs { folder, owner: found.uid() });
    }
    Ok(folder)
}

/// FNV-1a: tells one cluster's socket folder from another's.
fn fingerprint(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What a program that failed said.
struct Failed {
    said: String,
}

impl Failed {
    fn of(self, program: &'static str) -> ClusterError {
        ClusterError::Program { program, said: self.said }
    }
}

/// Runs a program to its end, its output caught. The server that `pg_ctl` leaves behind does not hold the pipes: its own
/// output goes to `--log`.
async fn run(command: &mut Command) -> Result<Output, Failed> {
    let output = command.stdin(Stdio::null()).output().await;
    let output = output.map_err(|error| Failed { said: error.to_string() })?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    Err(Failed { said: tail(&String::from_utf8_lossy(&said)) })
}

/// The file that was written to last.
fn newest(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.flatten();
    let file = files.max_by_key(|file| file.metadata().and_then(|m| m.modified()).ok())?;
    Some(file.path())
}

/// The last lines of a text.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_postgres_says() {
        assert_eq!(
            major_version(b"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some(15)
        );
        assert_eq!(major_version(b"postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_version(b"nonsense"), None);
    }

    #[test]
    fn a_pid_file_is_read_whole_or_half_written() {
        let whole =
            Postmaster::parse("4711\n/data\n1700000000\n5432\n/run/x\n\n  123 4\nready   \n")
                .unwrap();
        assert_eq!((whole.pid, whole.socket), (4711, PathBuf::from("/run/x")));
        assert_eq!(Postmaster::parse("4711\n/data\n").unwrap().socket, PathBuf::new());
        assert!(Postmaster::parse("").is_none());
        assert!(Postmaster::parse("-4711\n/data\n").is_none(), "a standalone backend is no server");
    }

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users =
            "root:x:0:0::/root:/bin/sh\npostgresql:x:1:1:::\npostgres:x:114:120::/:/bin/sh\n";
        assert_eq!(user_in(users, "postgres"), Some((114, 120)));
        assert_eq!(user_in(users, "nobody"), None);
    }
}
