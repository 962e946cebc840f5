//! For tests: a database of one's own, a clock that stands still, a log to try things on.
//!
//! Every test gets a database cloned from a template that holds the migrations; the template is made once,
//! by whoever comes first. The server is named by `TEST_DATABASE_URL`; `scripts/test.sh` starts one.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::Instant;
use domain::position::PartitionCount;
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::clock::{Clock, SystemClock, to_micros};
use crate::{EventLog, LogOptions, MIGRATOR, MasterKey};

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct FrozenClock(Mutex<Instant>);

impl FrozenClock {
    /// Stands at this instant.
    pub fn at(instant: Instant) -> Self {
        Self(Mutex::new(to_micros(instant)))
    }

    /// Stands at an RFC 3339 instant.
    pub fn at_text(instant: &str) -> Self {
        Self::at(instant.parse().expect("an RFC 3339 instant"))
    }

    /// Moves it.
    pub fn set(&self, instant: Instant) {
        *self.0.lock().expect("nobody panics holding the clock") = to_micros(instant);
    }

    /// Moves it forward.
    pub fn advance(&self, by: chrono::TimeDelta) {
        let mut now = self.0.lock().expect("nobody panics holding the clock");
        *now += by;
    }
}

impl Clock for FrozenClock {
    fn now(&self) -> Instant {
        *self.0.lock().expect("nobody panics holding the clock")
    }
}

/// The master key of test logs.
pub fn master_key() -> MasterKey {
    MasterKey::from_bytes([42; 32])
}

/// The numbers of partitions everything is tested with.
pub const PARTITIONS: [u16; 2] = [1, 7];

/// Options for a log of this many partitions.
pub fn options(partitions: u16) -> LogOptions {
    LogOptions {
        partitions: PartitionCount::new(partitions).expect("a test asks for 1 to 4096"),
        poll: Duration::from_millis(50),
        ..LogOptions::default()
    }
}

/// A database of one's own, migrated, dropped at the end.
pub struct TestDatabase {
    pool: PgPool,
    url: String,
    name: String,
    server: PgConnectOptions,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Serialises making the template among all test processes.
const TEMPLATE_LOCK: i64 = 0x706f_6e74_7561_6c00;

impl TestDatabase {
    /// Clones the migrated template.
    pub async fn create() -> Self {
        let server_url = std::env::var("TEST_DATABASE_URL")
            .expect("TEST_DATABASE_URL is not set: run scripts/test.sh");
        let server: PgConnectOptions = server_url.parse().expect("TEST_DATABASE_URL is a URL");
        let mut admin = PgConnection::connect_with(&server).await.expect("the test server answers");
        let template = template(&mut admin, &server).await;
        let random = u32::from_be_bytes(crate::keys::random_bytes());
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pontual_test_{}_{nth}_{random:08x}", std::process::id());
        execute(&mut admin, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        admin.close().await.expect("the connection closes");
        let pool = PgPoolOptions::new()
            .max_connections(10)
            .acquire_timeout(Duration::from_secs(20))
            .connect_lazy_with(server.clone().database(&name));
        let (base, query) = match server_url.split_once('?') {
            Some((base, query)) => (base, format!("?{query}")),
            None => (server_url.as_str(), String::new()),
        };
        let base = base.rsplit_once('/').map_or(base, |(base, _)| base);
        Self { pool, url: format!("{base}/{name}{query}"), name, server }
    }

    /// Its pool.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Another pool on it, as another server process would have.
    pub fn another_pool(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(10)
            .acquire_timeout(Duration::from_secs(20))
            .connect_lazy_with(self.server.clone().database(&self.name))
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A log of this many partitions on it, with the machine's clock.
    pub async fn log(&self, partitions: u16) -> EventLog {
        self.log_with(Arc::new(SystemClock), options(partitions)).await
    }

    /// A log on it.
    pub async fn log_with(&self, clock: Arc<dyn Clock>, options: LogOptions) -> EventLog {
        EventLog::open(self.pool.clone(), master_key(), clock, options)
            .await
            .expect("a log opens on a migrated database")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's runtime may be going down: a thread of its own, and whatever fails, fails.
        let dropping = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let mut admin = PgConnection::connect_with(&server).await.ok()?;
                let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                sqlx::raw_sql(&sql).execute(&mut admin).await.ok()
            })
        });
        let _ = dropping.join();
    }
}

/// The template's name; it is made if it is not there. Its name tells the migrations it holds.
async fn template(admin: &mut PgConnection, server: &PgConnectOptions) -> String {
    let mut sha = Sha256::new();
    for migration in MIGRATOR.iter() {
        sha.update(&migration.checksum);
    }
    let name = format!("pontual_template_{}", &hex::encode(sha.finalize())[..16]);
    execute(admin, &format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await;
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(&name)
            .fetch_one(&mut *admin)
            .await
            .expect("the catalogue can be read");
    if !exists {
        // Made under another name first: a process killed half-way leaves no half template.
        let making = format!("{name}_making");
        execute(admin, &format!("DROP DATABASE IF EXISTS {making} WITH (FORCE)")).await;
        execute(admin, &format!("CREATE DATABASE {making}")).await;
        let mut inside = PgConnection::connect_with(&server.clone().database(&making))
            .await
            .expect("the new template answers");
        MIGRATOR.run(&mut inside).await.expect("the migrations apply");
        inside.close().await.expect("the connection closes");
        execute(admin, &format!("ALTER DATABASE {making} RENAME TO {name}")).await;
    }
    execute(admin, &format!("SELECT pg_advisory_unlock({TEMPLATE_LOCK})")).await;
    name
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(sql).execute(connection).await.expect("the statement runs");
}
