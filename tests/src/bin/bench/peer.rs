//! The limits we stand beside: pgbench inserting one bare event row per transaction, and a bare handler.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use sqlx::Connection;
use tokio::process::Command;

/// A new database on the server `DATABASE_URL` names; its URL.
pub(crate) async fn database(prefix: &str) -> anyhow::Result<String> {
    let admin_url =
        std::env::var("DATABASE_URL").context("DATABASE_URL is not set: run scripts/bench.sh")?;
    let name = format!("{prefix}_{:x}", rand::random::<u64>());
    let mut admin = sqlx::PgConnection::connect(&admin_url).await?;
    sqlx::query(&format!("CREATE DATABASE {name}")).execute(&mut admin).await?;
    let (server, _) = admin_url.rsplit_once('/').context("DATABASE_URL has no path")?;
    Ok(format!("{server}/{name}"))
}

/// How many bare event rows a second pgbench inserts, one per transaction, with 32 clients.
pub(crate) async fn pgbench(seconds: u32) -> anyhow::Result<f64> {
    let url = database("pgbench").await?;
    let mut connection = sqlx::PgConnection::connect(&url).await?;
    sqlx::raw_sql(
        "CREATE TABLE bare (position bigserial PRIMARY KEY, aggregate_type text NOT NULL, aggregate_id uuid NOT NULL,
             sequence bigint NOT NULL, event_type text NOT NULL, event_version text NOT NULL,
             payload json NOT NULL, metadata json NOT NULL)",
    )
    .execute(&mut connection)
    .await?;
    drop(connection);
    let script =
        std::env::temp_dir().join(format!("pontual-pgbench-{:x}.sql", rand::random::<u64>()));
    tokio::fs::write(&script, BARE_INSERT).await?;
    let output = Command::new("pgbench")
        .args(["-n", "-M", "prepared", "-c", "32", "-j", "2", "-T", &seconds.to_string(), "-f"])
        .arg(&script)
        .arg(&url)
        .stdin(Stdio::null())
        .output()
        .await
        .context("pgbench could not be run")?;
    tokio::fs::remove_file(&script).await?;
    anyhow::ensure!(
        output.status.success(),
        "pgbench: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    let line =
        text.lines().find(|line| line.starts_with("tps = ")).context("pgbench printed no rate")?;
    let rate = line.trim_start_matches("tps = ").split(' ').next().unwrap_or_default();
    rate.parse().context("pgbench printed no number")
}

/// One event like ours: an agenda's.
const BARE_INSERT: &str = r#"
INSERT INTO bare (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata) VALUES (
  'Agenda', gen_random_uuid(), 1, 'SlotTaken', '1',
  '{"SlotTaken":{"provider":"01935d2e-7c11-7a3f-9c2b-3f1a52c0d9e1","day":"2026-12-01","appointment":"01935d2e-7c11-7a3f-9c2b-3f1a52c0d9e2","slot":{"start":"2026-12-01T12:00:00Z","end":"2026-12-01T13:00:00Z"},"span":{"start":"2026-12-01T12:00:00Z","end":"2026-12-01T13:00:00Z"},"service":"01935d2e-7c11-7a3f-9c2b-3f1a52c0d9e3","capacity":1}}',
  '{"command":"01935d2e-7c11-7a3f-9c2b-3f1a52c0d9e4","operation":"BookAppointment","correlation":"4bf92f3577b34da6a3ce929d0e0e4736","causation":"01935d2e-7c11-7a3f-9c2b-3f1a52c0d9e4","trace":"4bf92f3577b34da6a3ce929d0e0e4736","actor":"account:01935d2e-7c11-7a3f-9c2b-3f1a52c0d9e5","roles":"client"}');
"#;

/// The program to measure.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::var_os("BENCH_PONTUAL")
        .context("BENCH_PONTUAL is not set: run scripts/bench.sh")?;
    Ok(program.into())
}

/// A handler that answers with one Redis GET of so many bytes; its address. A program of its own, this one started again as
/// `bench bare-get`, would share nothing with the load; a runtime of its own in this process shares the allocator only.
pub(crate) async fn bare_handler(bytes: usize) -> anyhow::Result<String> {
    let url = std::env::var("REDIS_URL").context("REDIS_URL is not set")?;
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async move {
            let redis = redis::Client::open(url)?;
            let mut connection = ConnectionManager::new(redis).await?;
            let _: () = connection.set("bench:bare", "x".repeat(bytes)).await?;
            let app = Router::new().route("/", get(handle)).with_state(connection);
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            let _ = tell.send(listener.local_addr()?.to_string());
            axum::serve(listener, app).await?;
            anyhow::Ok(())
        })
    });
    told.await.context("the bare handler did not start")
}

async fn handle(State(mut redis): State<ConnectionManager>) -> Result<String, String> {
    redis.get("bench:bare").await.map_err(|error| error.to_string())
}
