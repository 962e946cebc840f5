//! The log alone: one event with its command per request, 256 callers, every guarantee on; beside pgbench's
//! bare inserts on the same cluster. Then the same with a million events in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chrono::{Days, NaiveDate, TimeDelta};
use domain::agenda::{Agenda, AgendaEvent};
use domain::aggregate::StreamId;
use domain::event::Event;
use domain::ids::{AgendaId, Mint, ProviderId, RoutingSlot};
use domain::slots::Span;
use event_log::append::{Append, CommandRow};
use event_log::{Clock as _, EventLog, LogOptions, MasterKey, SystemClock};
use hdrhistogram::Histogram;

use crate::peer;

const CALLERS: usize = 256;
const WARM_UP: Duration = Duration::from_secs(2);
const TURNS: usize = 5;
const MEASURE: Duration = Duration::from_secs(4);
const SMALL: u64 = 10_000;
const LARGE: u64 = 1_000_000;
const ROUNDS: usize = 7;
const BURST: u64 = 5_000;

/// Runs it.
pub(crate) async fn run() -> anyhow::Result<()> {
    println!("append: 1 event with its command per request, {CALLERS} callers, every guarantee on");
    let log = open().await?;
    fill(&log, SMALL).await?;
    measure(&log, WARM_UP).await?;
    // In turns, so that both see the same machine.
    let (mut turns, mut latencies) = (Vec::new(), Histogram::<u64>::new(3)?);
    for _ in 0..TURNS {
        let bare = peer::pgbench(4).await?;
        let (rate, took) = measure(&log, MEASURE).await?;
        latencies.add(took)?;
        turns.push((rate / bare, rate, bare));
    }
    turns.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, rate, bare) = turns[TURNS / 2];
    let quantile = |q| micros(latencies.value_at_quantile(q));
    println!("  pgbench, one bare row per transaction, 32 clients   {bare:.0}/s");
    println!(
        "  appends                                             {rate:.0}/s, p50 {} ms, p99 {} ms (under 20)",
        quantile(0.5),
        quantile(0.99)
    );
    println!("  ratio {ratio:.2} (at least 2.00), the median of {TURNS} turns");

    // The same log with a hundred times as much in it. A small log does not stay small while it is measured, so each
    // round has a new one, and both logs get the same number of appends in it, one right after the other.
    let before = events(&log).await?;
    fill(&log, LARGE.saturating_sub(before)).await?;
    let (mut large_rates, mut small_rates) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let small = open().await?;
        fill(&small, SMALL).await?;
        small_rates.push(burst(&small).await?);
        large_rates.push(burst(&log).await?);
    }
    let (small_rate, large_rate) = (median(small_rates), median(large_rates));
    println!(
        "  with {} to {} events                     {small_rate:.0}/s",
        SMALL,
        SMALL + 2 * BURST
    );
    println!("  with {} events                             {large_rate:.0}/s", events(&log).await?);
    println!("  cost ratio {:.2} (at most 1.20)", small_rate / large_rate);
    Ok(())
}

/// A log of its own.
async fn open() -> anyhow::Result<EventLog> {
    let url = peer::database("append").await?;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(12).connect(&url).await?;
    event_log::MIGRATOR.run(&pool).await?;
    let key = MasterKey::from_bytes([7; 32]);
    Ok(EventLog::open(pool, key, Arc::new(SystemClock), LogOptions::default()).await?)
}

/// The rate of [`BURST`] appends by all callers, after as many to warm up.
async fn burst(log: &EventLog) -> anyhow::Result<f64> {
    let mut rate = 0.0;
    for _ in 0..2 {
        let (left, started) = (Arc::new(AtomicU64::new(BURST)), Instant::now());
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            let (log, left) = (log.clone(), left.clone());
            callers.spawn(async move {
                let take = |n: u64| n.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    log.append(request(1)).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        let count = u32::try_from(BURST)?;
        rate = f64::from(count) / started.elapsed().as_secs_f64();
    }
    Ok(rate)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn micros(micros: u64) -> String {
    format!("{}.{:02}", micros / 1000, micros % 1000 / 10)
}

async fn events(log: &EventLog) -> anyhow::Result<u64> {
    Ok(log.heads().await?.positions().map(|at| at.number).sum())
}

/// Appends for so long; the rate and the latencies in microseconds.
async fn measure(log: &EventLog, time: Duration) -> anyhow::Result<(f64, Histogram<u64>)> {
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let started = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (log, stop, count) = (log.clone(), stop.clone(), count.clone());
        callers.spawn(async move {
            let mut latencies = Histogram::<u64>::new(3)?;
            while !stop.load(Ordering::Relaxed) {
                let request = request(1);
                let sent = Instant::now();
                log.append(request).await?;
                latencies.record(u64::try_from(sent.elapsed().as_micros())?)?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(latencies)
        });
    }
    tokio::time::sleep(time).await;
    #[expect(clippy::cast_precision_loss, reason = "a rate is a float")]
    let rate = count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut all = Histogram::new(3)?;
    while let Some(ended) = callers.join_next().await {
        all.add(ended??)?;
    }
    Ok((rate, all))
}

/// Appends so many events, a few hundred per stream, and lets Postgres look at them.
async fn fill(log: &EventLog, events: u64) -> anyhow::Result<()> {
    const AT_ONCE: u64 = 250;
    let mut filling = tokio::task::JoinSet::new();
    for _ in 0..events / AT_ONCE {
        if filling.len() >= 16 {
            filling.join_next().await.transpose()?.transpose()?;
        }
        let log = log.clone();
        filling.spawn(async move { log.append(request(AT_ONCE)).await.map(drop) });
    }
    while let Some(filled) = filling.join_next().await {
        filled??;
    }
    sqlx::raw_sql("ANALYZE").execute(log.pool()).await?;
    Ok(())
}

/// One request: a slot taken in a new agenda, with the command that took it.
fn request(events: u64) -> Append {
    let mint = Mint::new(rand::random());
    let slot = RoutingSlot::from_bits(rand::random::<u16>());
    let provider: ProviderId = mint.id(slot, 0);
    let day = NaiveDate::default() + Days::new(20_000);
    let start = day.and_time(chrono::NaiveTime::MIN).and_utc() + TimeDelta::hours(12);
    let span = Span { start, end: start + TimeDelta::hours(1) };
    let taken = |n: u64| {
        Event::Agenda(AgendaEvent::SlotTaken {
            provider,
            day,
            appointment: mint.id(slot, u32::try_from(n).unwrap_or_default()),
            slot: span,
            span,
            service: mint.id(slot, 0),
            capacity: 1,
            hold: None,
        })
    };
    let stream = StreamId::of::<Agenda>(AgendaId::of(provider, day));
    // As with an Idempotency-Key: its row is looked for.
    let mut command = CommandRow::without_key(slot, SystemClock.now(), r#"{"outcome":{}}"#);
    command.fingerprint = [7; 32];
    let mut append = Append::new(command).events(stream, 0, (0..events).map(taken).collect());
    append.metadata.operation = "BookAppointment".to_owned();
    append.metadata.trace = "4bf92f3577b34da6a3ce929d0e0e4736".to_owned();
    append.metadata.correlation.clone_from(&append.metadata.trace);
    append.metadata.actor = format!("account:{provider}");
    append.metadata.roles = "client".to_owned();
    append
}
