//! Free slots of a day over HTTP, cache warm, full profile; beside a bare axum handler that does one Redis
//! GET.

use std::time::Duration;

use chrono::Days;

use crate::town::Town;
use crate::{load, peer};

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
    let bare = peer::bare_handler(700).await?;
    let plain = |_| Some(load::get("/"));
    load::run(&town.address, CLIENTS, WARM_UP, 200, ask.clone()).await?;
    load::run(&bare, CLIENTS, WARM_UP, 200, plain).await?;
    // In turns, so that both see the same machine.
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        ours.push(load::run(&town.address, CLIENTS, MEASURE / 2, 200, ask.clone()).await?);
        limit.push(load::run(&bare, CLIENTS, MEASURE / 2, 200, plain).await?);
    }
    let (ours, limit) = (load::median(ours), load::median(limit));
    println!("  a bare handler with one Redis GET   {}", limit.line());
    println!("  free slots of a day                 {}", ours.line());
    println!("  ratio {:.2} (at least 0.70)", ours.rate / limit.rate);
    Ok(())
}
