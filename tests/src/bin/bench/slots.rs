//! Free slots of a day over HTTP, cache warm, full profile; beside a bare axum handler that does one Redis
//! GET.

use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use chrono::Days;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;

use crate::load;
use crate::town::Town;

const CLIENTS: usize = 64;
const PROVIDERS: usize = 200;
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURE: Duration = Duration::from_secs(10);

/// Runs it.
pub(crate) async fn run() -> anyhow::Result<()> {
    println!("slots: {CLIENTS} clients, {PROVIDERS} providers, full profile, cache warm");
    let town = Town::found(PROVIDERS, CLIENTS, true).await?;
    let day = event_log::Clock::now(&event_log::SystemClock).date_naive() + Days::new(7);
    // Every provider has some of the day taken.
    let (providers, tokens) = (town.providers.clone(), town.tokens.clone());
    let booked = load::run(&town.address, 8, Duration::from_secs(30), 201, move |n| {
        let n = usize::try_from(n).ok()?;
        let (provider, hour) = (providers.get(n / 4)?, 11 + 2 * (n % 4));
        let body = format!("{{\"provider_id\":\"{provider}\",\"start\":\"{day}T{hour}:00:00Z\"}}");
        Some(load::booking(&tokens[n % tokens.len()], &body))
    })
    .await?;
    anyhow::ensure!(booked.others == 0, "{} bookings were refused", booked.others);

    let providers = town.providers.clone();
    let ask = move |n: u64| {
        let provider = providers[usize::try_from(n).ok()? % providers.len()];
        let query = format!("provider_id={provider}&day={day}");
        Some(load::get(&format!("/api/providers/available-times?{query}")))
    };
    let bare = bare_handler().await?;
    let plain = |_| Some(load::get("/"));
    load::run(&town.address, CLIENTS, WARM_UP, 200, ask.clone()).await?;
    load::run(&bare, CLIENTS, WARM_UP, 200, plain).await?;
    // In turns, so that both see the same machine.
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        ours.push(load::run(&town.address, CLIENTS, MEASURE / 2, 200, ask.clone()).await?);
        limit.push(load::run(&bare, CLIENTS, MEASURE / 2, 200, plain).await?);
    }
    let median = |mut all: Vec<load::Measured>| {
        all.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        all.swap_remove(1)
    };
    let (ours, limit) = (median(ours), median(limit));
    println!("  a bare handler with one Redis GET   {}", limit.line());
    println!("  free slots of a day                 {}", ours.line());
    println!("  ratio {:.2} (at least 0.70)", ours.rate / limit.rate);
    Ok(())
}

/// A program of its own: this one, started again as `bench bare-get`, would share nothing with the load; a
/// runtime of its own in this process shares the allocator only. Its address.
async fn bare_handler() -> anyhow::Result<String> {
    let url = std::env::var("REDIS_URL").context("REDIS_URL is not set")?;
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async move {
            let redis = redis::Client::open(url)?;
            let mut connection = ConnectionManager::new(redis).await?;
            // As many bytes as an answer of ours.
            let _: () = connection.set("bench:bare", "x".repeat(700)).await?;
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
