//! Free days of a month over HTTP, of a provider with 20 services and 300 appointments in it, cache warm, full profile:
//! first as fast as it can be answered, then at half of that rate; each beside a bare axum handler that does one Redis GET.

use std::time::Duration;

use anyhow::Context;
use chrono::{Datelike, Days, Months, NaiveDate, NaiveTime, TimeDelta};
use serde_json::{Value, json};

use crate::town::Town;
use crate::{load, peer};

const CLIENTS: usize = 64;
const SERVICES: usize = 20;
const APPOINTMENTS: u64 = 300;
const WARM_UP: Duration = Duration::from_secs(3);
const TURNS: usize = 3;
/// Of a turn at half of the rate. Answers hold for a minute: together, the turns see one end.
const SECONDS: u64 = 22;

/// Runs it, with so many seconds per turn.
pub(crate) async fn run(seconds: Option<String>) -> anyhow::Result<()> {
    let seconds = seconds.map_or(Ok(SECONDS), |seconds| seconds.parse())?;
    let turn = Duration::from_secs(seconds);
    println!(
        "month: {CLIENTS} clients, a provider with {SERVICES} services and {APPOINTMENTS} appointments, full profile, cache warm"
    );
    let town = Town::found(0, CLIENTS + 1, true).await?;
    let today = event_log::Clock::now(&event_log::SystemClock).date_naive();
    let first = (today - Days::new(today.day0().into())) + Months::new(2);
    let shop = Shop::open(&town, first).await?;
    let paths = shop.services.iter().map(|service| {
        let month = first.format("%Y-%m");
        format!(
            "/api/providers/available-days?provider_id={}&service_id={service}&month={month}",
            shop.id
        )
    });
    let paths: Vec<String> = paths.collect();
    let bytes = shop.look(&town, &paths).await?;
    let ask = move |n: u64| {
        let n = usize::try_from(n).ok()?;
        Some(load::get(&paths[n % paths.len()]))
    };

    let bare = peer::bare_handler(bytes).await?;
    let plain = |_| Some(load::get("/"));
    load::run(&town.address, CLIENTS, WARM_UP, 200, ask.clone()).await?;
    load::run(&bare, CLIENTS, WARM_UP, 200, plain).await?;
    // In turns, so that both see the same machine.
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ours.push(load::run(&town.address, CLIENTS, turn.min(WARM_UP), 200, ask.clone()).await?);
        limit.push(load::run(&bare, CLIENTS, turn.min(WARM_UP), 200, plain).await?);
    }
    let (ours, limit) = (load::median(ours), load::median(limit));
    println!("  a bare handler with one Redis GET   {}", limit.line());
    println!("  free days of a month                {}", ours.line());
    println!("  ratio {:.2}", ours.rate / limit.rate);

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive and far below four billion"
    )]
    let half = ((ours.rate / 2.0) as u32).max(1);
    let (mut ours, mut limit) = (load::Measured::nothing()?, load::Measured::nothing()?);
    for _ in 0..TURNS {
        let at = |time| (half, time);
        ours.add(load::run_at(&town.address, CLIENTS, at(turn), 200, ask.clone()).await?)?;
        limit.add(load::run_at(&bare, CLIENTS, at(turn.min(WARM_UP)), 200, plain).await?)?;
    }
    println!("  at half of that, {half}/s, each latency from when the request was due");
    println!("  a bare handler with one Redis GET   {}", limit.quantiles());
    println!("  free days of a month                {} (p99 under 5)", ours.quantiles());
    anyhow::ensure!(ours.others == 0, "{} answers were not 200", ours.others);
    Ok(())
}

/// The provider that is looked at.
struct Shop {
    id: String,
    services: Vec<String>,
}

impl Shop {
    /// Opens it, offers the services, and books all appointments in the month that begins then.
    async fn open(town: &Town, first: NaiveDate) -> anyhow::Result<Self> {
        let (owner, clients) = town.tokens.split_last().context("a town has people")?;
        let mut http = load::Client::connect(&town.address).await?;
        let mut post = async |path: &str, body: Value| -> anyhow::Result<Value> {
            let answer = http.send(load::post(path, owner, &body.to_string()).as_bytes()).await?;
            let text = String::from_utf8_lossy(&answer.body);
            anyhow::ensure!(answer.status == 201, "{path}: {} {text}", answer.status);
            Ok(serde_json::from_str(&text)?)
        };
        let long = json!([{ "from": "07:00", "to": "21:00" }]);
        let days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
        let weekly: serde_json::Map<String, Value> =
            days.into_iter().map(|day| (day.to_owned(), long.clone())).collect();
        let opened = post(
            "/api/providers",
            json!({
                "business_name": "Bench & Sons", "slug": "bench-and-sons", "weekly": weekly,
                "time_zone": "America/Sao_Paulo", "service": service(0),
            }),
        )
        .await?;
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned).context("not a text");
        let (id, mut services) = (text(&opened["id"])?, vec![text(&opened["service_id"])?]);
        for n in 1..SERVICES {
            services.push(text(&post("/api/services", service(n)).await?["id"])?);
        }

        let (shop, what, clients) = (id.clone(), services[0].clone(), clients.to_vec());
        let days = (first + Months::new(1) - first).num_days().unsigned_abs();
        // Every other slot of the first service, so that there are gaps for some services and for others not.
        let book = move |n: u64| {
            let nth = i64::try_from(n / days).ok().filter(|_| n < APPOINTMENTS)?;
            let seven = (first + Days::new(n % days)).and_time(NaiveTime::from_hms_opt(7, 0, 0)?);
            let start = seven + TimeDelta::minutes(80 * nth);
            let body = json!({ "provider_id": shop, "service_id": what, "start": format!("{}-03:00", start.format("%FT%T")) });
            let token = &clients[usize::try_from(n).ok()? % clients.len()];
            Some(load::booking(token, &body.to_string()))
        };
        let booked = load::run(&town.address, 8, Duration::from_secs(60), 201, book).await?;
        let booked = (booked.latencies.len(), booked.others);
        anyhow::ensure!(booked == (APPOINTMENTS, 0), "booked and refused: {booked:?}");
        Ok(Self { id, services })
    }

    /// Looks at each answer once; gives the bytes of the longest.
    async fn look(&self, town: &Town, paths: &[String]) -> anyhow::Result<usize> {
        let mut http = load::Client::connect(&town.address).await?;
        let (mut longest, mut days) = (0, Vec::new());
        for path in paths {
            let answer = http.send(load::get(path).as_bytes()).await?;
            let body: Value = serde_json::from_slice(&answer.body)?;
            days.push(body["days"].as_array().context("no days")?.len());
            longest = longest.max(answer.body.len());
        }
        println!("  free days by service: {days:?}");
        Ok(longest)
    }
}

/// The `n`-th service. The first is the one that is booked.
fn service(n: usize) -> Value {
    let (duration, interval) = match n {
        0 => (40, 40),
        n => (30 + 15 * (n % 5), [10, 15, 20, 30][n % 4]),
    };
    let buffer = 10 * usize::from(n % 2 == 1);
    json!({
        "name": format!("Service {n}"), "duration_minutes": duration, "interval_minutes": interval,
        "buffer_after_minutes": buffer,
    })
}
