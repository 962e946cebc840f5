//! The roles, wired: what runs in a process, on what, and how it ends.
//!
//! `pontual serve` is all of it on one port: both APIs, every projector, the worker. The same parts run as
//! processes of their own: `command-api`, `query-api`, `projector …`, `worker`. A cache, a feed or a fan-out that
//! is shared (Redis, MongoDB) is fed by the projector that holds the lease; one that is in process is fed by
//! every process that reads it, from its own tail of the log.
//!
//! On SIGTERM: not ready, no new connections, sockets closed with 1012, requests and jobs drained, leases given
//! back, all within 25 s. On kill -9: leases expire after 6 s, everything else is in Postgres.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::serve::ListenerExt as _;
use command_api::{CommandState, Passwords};
use event_log::{Clock as _, EventLog, Executor, LogOptions, SystemClock};
use http_kit::audit::AuditSink;
use http_kit::auth::{Names, Signer, Verifier};
use http_kit::files::Files;
use http_kit::front::Front;
use http_kit::limits::{InProcess, InRedis, Limits, RATE_LIMITS, RateLimiter, RedisLimiterOptions};
use projectors::forgetting::forget_lists;
use projectors::jobs::erasure::Eraser;
use projectors::jobs::worker::Worker;
use projectors::mail::ses::SesMailer;
use projectors::mail::smtp::SmtpMailer;
use projectors::mail::{FolderMailer, Mailer};
use projectors::push::NotificationPush;
use projectors::reactors::JobOrders;
use projectors::read_models::audit::AuditTrail;
use projectors::read_models::availability::AvailabilityProjector;
use projectors::read_models::notifications::NotificationsProjector;
use projectors::read_models::read_tables::ReadTables;
use projectors::revocations::RevocationFollower;
use projectors::runner::{Projector, Runner, Sharing};
use projectors::tail::SharedTail;
use query_api::QueryState;
use query_api::ws::hub::Hub;
use read_models::availability::{AvailabilityCache, InProcessCache, RedisCache, RedisOptions};
use read_models::fanout::{Fanout, InProcessFanout, RedisFanout};
use read_models::freshness::TablesFreshness;
use read_models::notifications::{MongoFeed, MongoOptions, NotificationFeed, PostgresFeed};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Environment, Mail};
use crate::database::{Database, Tenancy};
use crate::probes::Health;
use crate::{audit, demo, openapi, production, telemetry};

/// How long requests, sockets, projectors and jobs may take to come to their end, all in all. What is left of the 25 s of a
/// stop is for the database.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// The most open websockets of one process.
const SOCKETS: usize = 10_000;
/// How many jobs a worker runs at a time.
const JOBS: usize = 4;

/// What a process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// All of it.
    Serve {
        /// Make demo data first.
        demo: bool,
    },
    /// Routes that change something.
    CommandApi,
    /// Routes that read, and websockets.
    QueryApi,
    /// These projectors.
    Projectors(Vec<String>),
    /// Jobs.
    Worker,
}

/// The projectors that work on shared stores, by name.
pub const PROJECTORS: [&str; 5] = [
    ReadTables::NAME,
    AvailabilityProjector::NAME,
    NotificationsProjector::NAME,
    AuditTrail::NAME,
    JobOrders::NAME,
];

/// The stores a process reads and writes.
struct Stores {
    log: EventLog,
    availability: Arc<dyn AvailabilityCache>,
    feed: Arc<dyn NotificationFeed>,
    fanout: Arc<dyn Fanout>,
    files: Files,
    /// The availability cache, where it is this process' own.
    in_process: Option<Arc<InProcessCache>>,
    /// Whether availability and fan-out are shared with other processes.
    redis: Option<redis::Client>,
    mongodb: bool,
}

/// Runs a role until it is told to stop.
pub async fn run(config: &Config, role: Role) -> anyhow::Result<()> {
    production::insist(config, role == Role::Serve { demo: true })?;
    telemetry::metrics(config)?;
    crate::doctor::raise_open_files();
    let tenancy = if matches!(role, Role::Serve { .. }) { Tenancy::Owner } else { Tenancy::Guest };
    let database = Database::open(config, tenancy).await?;
    let ended = run_on(config, role, &database).await;
    database.close().await?;
    ended
}

async fn run_on(config: &Config, role: Role, database: &Database) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    tokio::spawn(on_signal(stop.clone()));
    if matches!(role, Role::Serve { .. }) {
        migrate(database).await?;
    }
    let log = open_log(config, database).await?;
    if config.environment == Environment::Production && demo::present(&log).await? {
        return Err(production::Unfit(vec![production::DEMO]).into());
    }
    let stores = Stores::open(config, log).await?;

    let mut runner = Runner::new(SharedTail::new(stores.log.clone()), stop.clone());
    let (mut commands, mut queries, mut work) = (false, false, false);
    match &role {
        Role::Serve { .. } => {
            (commands, queries, work) = (true, true, true);
            for projector in PROJECTORS.iter().filter_map(|name| stores.shared(name)) {
                runner.start(projector, Sharing::Leased);
            }
        }
        Role::CommandApi => commands = true,
        Role::QueryApi => queries = true,
        Role::Projectors(names) => {
            for name in names.iter().collect::<std::collections::BTreeSet<_>>() {
                anyhow::ensure!(
                    name != AvailabilityProjector::NAME || stores.redis.is_some(),
                    "without REDIS_URL every process that serves feeds its own availability cache"
                );
                let projector = stores.shared(name).with_context(|| no_projector(name))?;
                runner.start(projector, Sharing::Leased);
            }
        }
        Role::Worker => work = true,
    }
    if queries {
        stores.start_local(&mut runner, stop.clone()).await?;
    }
    let worker = work.then(|| worker_of(config, &stores)).transpose()?;
    let worker = worker.map(|worker| tokio::spawn(worker.run(stop.clone())));
    let keeper = work
        .then(|| tokio::spawn(audit::keep(stores.log.clone(), config.audit_days, stop.clone())));
    let (noted, notes) = AuditSink::new();
    let writer =
        commands.then(|| tokio::spawn(audit::write(stores.log.clone(), notes, stop.clone())));
    let tokens = tokens(config)?;
    if commands || queries {
        // Before anybody is served: a token that was revoked before this process started is void here, too.
        let (_, verifier) = &tokens;
        let follower = RevocationFollower::new(&stores.log, verifier.revocations().clone()).await?;
        runner.start(Arc::new(follower), Sharing::Local);
    }
    let noted = commands.then_some(noted);
    let server = Server::bind(config, &stores, tokens, noted, queries, stop.clone()).await?;
    if let Role::Serve { demo: true } = role {
        demo::make(&Executor::new(stores.log.clone())).await?;
    }
    if let Role::Serve { demo } = role {
        announce(config, demo);
    }
    let drained = async {
        let served = server.run(stop.clone()).await;
        stop.cancel();
        runner.join().await;
        for task in [worker, keeper, writer].into_iter().flatten() {
            let _ = task.await;
        }
        served
    };
    // One deadline for all of it: it is told to everybody at the same moment.
    let out_of_time = async {
        stop.cancelled().await;
        tokio::time::sleep(STOP_WITHIN).await;
    };
    let result = tokio::select! {
        served = drained => served,
        () = out_of_time => {
            tracing::warn!(
                "not everything was drained in time; it is taken up again at the next start"
            );
            Ok(())
        }
    };
    tracing::info!("stopped");
    result
}

/// Brings the database to this version.
pub async fn migrate(database: &Database) -> anyhow::Result<()> {
    event_log::MIGRATOR
        .run(&database.pool)
        .await
        .context("the database cannot be brought to this version")
}

/// Makes the demo data, beside a running program or alone.
pub async fn demo(config: &Config) -> anyhow::Result<()> {
    production::insist(config, true)?;
    let database = Database::open(config, Tenancy::Guest).await?;
    let made = async {
        migrate(&database).await?;
        demo::make(&Executor::new(open_log(config, &database).await?)).await
    };
    let made = made.await;
    database.close().await?;
    made
}

/// Applies again what a projector has parked, and says what became of it.
#[expect(clippy::print_stdout, reason = "the operator reads this")]
pub async fn retry(config: &Config, name: &str) -> anyhow::Result<()> {
    let database = Database::open(config, Tenancy::Guest).await?;
    let retried = async {
        let stores = Stores::open(config, open_log(config, &database).await?).await?;
        let projector = stores.shared(name).with_context(|| no_projector(name))?;
        let tail = SharedTail::new(stores.log.clone());
        Ok::<_, anyhow::Error>(projectors::runner::retry(&tail, &*projector).await?)
    };
    let retried = retried.await;
    database.close().await?;
    let retried = retried?;
    println!("{} events applied, {} documents still parked", retried.applied, retried.still_parked);
    Ok(())
}

fn no_projector(name: &str) -> String {
    format!("there is no projector {name:?} on shared stores: {}", PROJECTORS.join(", "))
}

/// Opens the log with the configuration's keys.
pub async fn open_log(config: &Config, database: &Database) -> anyhow::Result<EventLog> {
    let keys = config.keys()?;
    let options = LogOptions {
        partitions: config.partitions,
        hot_aggregates: config.hot_aggregates,
        ..LogOptions::default()
    };
    EventLog::open(database.pool.clone(), keys.master, Arc::new(SystemClock), options)
        .await
        .context("the log cannot be opened (was `pontual migrate` run?)")
}

impl Stores {
    /// Whatever is not there yet is connected when it is first used: only Postgres is needed to start.
    async fn open(config: &Config, log: EventLog) -> anyhow::Result<Self> {
        let partitions = log.partitions();
        let mut in_process = None;
        let (availability, fanout, redis): (Arc<dyn AvailabilityCache>, Arc<dyn Fanout>, _) =
            match &config.redis_url {
                None => {
                    let cache = Arc::new(InProcessCache::new(partitions, Default::default()));
                    (in_process.insert(cache).clone(), Arc::new(InProcessFanout::default()), None)
                }
                Some(url) => {
                    let url = url.expose_secret();
                    let client =
                        redis::Client::open(url).context("REDIS_URL is not a Redis URL")?;
                    let options = RedisOptions {
                        namespace: config.redis_prefix.clone(),
                        ..Default::default()
                    };
                    let cache = RedisCache::new(url, partitions, options)?;
                    let channel = format!("{}hints", config.redis_prefix);
                    let fanout = RedisFanout::start(client.clone(), &channel)?;
                    (Arc::new(cache), Arc::new(fanout), Some(client))
                }
            };
        let feed: Arc<dyn NotificationFeed> = match &config.mongodb_url {
            None => {
                let feed = PostgresFeed::new(log.pool().clone(), partitions);
                Arc::new(feed.writing_with(log.readers().clone()))
            }
            Some(url) => {
                let feed = MongoFeed::new(url.expose_secret(), partitions, MongoOptions::default());
                Arc::new(feed.await.context("MONGODB_URL is not a MongoDB URL")?)
            }
        };
        let files = match &config.bucket {
            None => Files::on_disk(&config.files_dir()),
            Some(bucket) => Files::in_bucket(bucket.clone()),
        };
        let files = files.context("the file store cannot be opened")?;
        let mongodb = config.mongodb_url.is_some();
        Ok(Self { log, availability, feed, fanout, files, in_process, redis, mongodb })
    }

    /// A projector whose store is shared, by name; availability is shared only with Redis.
    fn shared(&self, name: &str) -> Option<Arc<dyn Projector>> {
        let log = self.log.clone();
        let shared_fanout = self.redis.is_some().then(|| self.fanout.clone());
        match name {
            ReadTables::NAME => Some(Arc::new(ReadTables::new(log))),
            NotificationsProjector::NAME => {
                Some(Arc::new(NotificationsProjector::new(log, self.feed.clone(), shared_fanout)))
            }
            JobOrders::NAME => Some(Arc::new(JobOrders::new(log))),
            AuditTrail::NAME => Some(Arc::new(AuditTrail::new(log))),
            AvailabilityProjector::NAME => {
                let (cache, fanout) = (self.availability.clone(), shared_fanout?);
                Some(Arc::new(AvailabilityProjector::shared(log, cache, fanout)))
            }
            _ => None,
        }
    }

    /// Feeds what lives in this process, where there is no Redis to share it.
    async fn start_local(
        &self,
        runner: &mut Runner,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let Some(cache) = self.in_process.clone() else { return Ok(()) };
        tokio::spawn(forget_lists(self.log.pool().clone(), cache.clone(), stop));
        let fanout = self.fanout.clone();
        let availability = AvailabilityProjector::local(self.log.clone(), cache, fanout).await?;
        runner.start(Arc::new(availability), Sharing::Local);
        let (feed, fanout) = (self.feed.clone(), self.fanout.clone());
        let push = NotificationPush::new(&self.log, feed, fanout).await?;
        runner.start(Arc::new(push), Sharing::Local);
        Ok(())
    }
}

fn worker_of(config: &Config, stores: &Stores) -> anyhow::Result<Worker> {
    let mut projectors = Eraser::PROJECTORS.to_vec();
    if stores.redis.is_some() {
        projectors.push(AvailabilityProjector::NAME);
    }
    let eraser = Eraser {
        executor: Executor::new(stores.log.clone()),
        feed: stores.feed.clone(),
        availability: stores.availability.clone(),
        projectors,
    };
    Ok(Worker {
        eraser,
        log: stores.log.clone(),
        mailer: mailer(config)?,
        files: stores.files.clone(),
        public_url: config.public_url.clone(),
        concurrency: JOBS,
    })
}

fn mailer(config: &Config) -> anyhow::Result<Arc<dyn Mailer>> {
    let from = config.mail_from.clone();
    Ok(match &config.mail {
        Mail::Folder(folder) => Arc::new(FolderMailer::new(folder).from(from)),
        Mail::Smtp(server) => Arc::new(SmtpMailer::new(server.clone(), from)),
        Mail::Ses(settings) => {
            Arc::new(SesMailer::new(settings.clone(), from, Arc::new(SystemClock))?)
        }
    })
}

/// A listening server.
struct Server {
    listener: TcpListener,
    router: Router,
    ready: Arc<AtomicBool>,
    /// The open sockets, where there can be any.
    sockets: Option<Arc<Hub>>,
}

impl Server {
    async fn bind(
        config: &Config,
        stores: &Stores,
        (signer, verifier): (Signer, Verifier),
        commands: Option<AuditSink>,
        queries: bool,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let limits = limits(config, stores)?;
        let front_verifier = verifier.clone();
        let (mut router, mut sockets) = (Router::new(), None);
        if let Some(audit) = commands {
            let executor = Executor::new(stores.log.clone());
            let state = CommandState::new(
                executor,
                signer,
                verifier.clone(),
                Passwords::new(),
                limits.clone(),
            );
            let state = state
                .with_files(stores.files.clone())
                .with_audit(audit)
                .with_origins(&config.public_url, &config.cors_origins);
            router = router.merge(command_api::router(state).0);
        }
        if queries {
            let tables = TablesFreshness::new(stores.log.pool().clone(), ReadTables::NAME);
            let state = QueryState::new(
                stores.log.clone(),
                tables,
                stores.availability.clone(),
                stores.feed.clone(),
                verifier,
                &*stores.fanout,
                SOCKETS,
                stop,
            );
            let state = state.with_files(stores.files.clone());
            sockets = Some(state.hub.clone());
            router = router.merge(query_api::router(state).0).merge(openapi::pages());
        }
        let front = Front {
            trusted_proxies: config.trusted_proxies.clone(),
            cors_origins: config.cors_origins.clone(),
            verifier: Some(front_verifier),
            ..Front::new(limits)
        };
        let ready = Arc::new(AtomicBool::new(true));
        let health = Health {
            ready: ready.clone(),
            log: stores.log.clone(),
            redis: stores.redis.clone(),
            feed: stores.mongodb.then(|| stores.feed.clone()),
            last: Arc::default(),
        };
        // Probes pass no rate limit.
        let router = health.router().fallback_service(front.before(router));
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {} (PONTUAL_LISTEN)", config.listen))?;
        Ok(Self { listener, router, ready, sockets })
    }

    /// Serves until told to stop, then finishes what it has begun: the server waits for requests, but has forgotten what
    /// became a socket.
    async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let ready = self.ready.clone();
        let stopping = stop.clone();
        let until = async move {
            stopping.cancelled().await;
            ready.store(false, Ordering::Relaxed);
        };
        let listener = self.listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "a connection keeps Nagle's algorithm");
            }
        });
        let service = self.router.into_make_service_with_connect_info::<SocketAddr>();
        let serving = axum::serve(listener, service).with_graceful_shutdown(until);
        serving.await.context("the server failed")?;
        if let Some(sockets) = self.sockets {
            sockets.emptied().await;
        }
        Ok(())
    }
}

fn tokens(config: &Config) -> anyhow::Result<(Signer, Verifier)> {
    let keys = config.keys()?;
    let pem = keys.signing_pem.expose_secret().as_bytes();
    let names = Names::of(&config.public_url);
    let signer = Signer::from_pem(pem, names, Arc::new(|| SystemClock.now()))
        .context("PONTUAL_SIGNING_KEY is not an Ed25519 key in PKCS#8 PEM form")?;
    let verifier = signer.verifier(config.verifying_keys()?);
    Ok((signer, verifier))
}

/// Counted in Redis where there is one, so that all processes share them, and in the process where there is none.
fn limits(config: &Config, stores: &Stores) -> anyhow::Result<Limits> {
    if !config.rate_limits {
        return Ok(Limits::off());
    }
    let in_process = InProcess::new(Arc::new(|| SystemClock.now()));
    let limiter: Arc<dyn RateLimiter> = match &stores.redis {
        Some(client) => {
            let options = RedisLimiterOptions {
                prefix: config.redis_prefix.clone(),
                ..RedisLimiterOptions::default()
            };
            Arc::new(InRedis::new(client.clone(), options, in_process)?)
        }
        None => Arc::new(in_process),
    };
    let key = stores.log.derive_key(RATE_LIMITS);
    Ok(Limits::new(limiter).hidden_by(key).with(config.limits))
}

/// Waits for SIGTERM or SIGINT, then tells everybody; a second one ends the process at once.
async fn on_signal(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be heard: only kill -9 stops this process");
        return;
    };
    let mut either =
        async || tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} };
    either().await;
    tracing::info!("stopping");
    stop.cancel();
    either().await;
    tracing::warn!("stopping at once");
    std::process::exit(130);
}

/// Where to look, for whoever started it.
#[expect(clippy::print_stdout, reason = "a person started it and reads this")]
fn announce(config: &Config, demo: bool) {
    let url = &config.public_url;
    println!("\n  Pontual is ready at {url}\n");
    for line in config.describe() {
        println!("    {line}");
    }
    println!("\n    Try it:  {url}/docs/      Ready?  {url}/health/ready");
    if demo {
        println!("{}", demo::hint(url));
    }
}
