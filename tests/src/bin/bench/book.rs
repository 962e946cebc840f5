//! Bookings over HTTP: 64 keep-alive clients, 200 providers, distinct slots, authenticated, projectors
//! running; beside pgbench on the same cluster.

use std::time::{Duration, Instant};

use chrono::{Days, NaiveDate};
use sqlx::Row;

use crate::town::Town;
use crate::{load, peer};

const CLIENTS: usize = 64;
const PROVIDERS: usize = 200;
/// The classic profile in São Paulo: the first slot starts at 11:00 UTC, ten a day.
const SLOTS_A_DAY: u64 = 10;
const FIRST_HOUR: u64 = 11;
const DAYS: u64 = 700;
const WARM_UP: Duration = Duration::from_secs(3);
const TURNS: usize = 5;
const MEASURE: Duration = Duration::from_secs(5);

/// Runs it.
pub(crate) async fn run() -> anyhow::Result<()> {
    println!("book: {CLIENTS} clients, {PROVIDERS} providers, distinct slots");
    let town = Town::found(PROVIDERS, CLIENTS, false).await?;
    let tomorrow = event_log::Clock::now(&event_log::SystemClock).date_naive() + Days::new(2);
    let bookings = |first: u64, providers: Vec<_>, tokens: Vec<String>| {
        move |n: u64| {
            let n = n + first;
            let provider: &domain::ids::ProviderId =
                &providers[usize::try_from(n).ok()? % providers.len()];
            let slot = n / u64::try_from(providers.len()).ok()?;
            booking(tomorrow, provider, slot, &tokens[usize::try_from(n).ok()? % tokens.len()])
        }
    };
    let warm = bookings(0, town.providers.clone(), town.tokens.clone());
    let warmed = load::run(&town.address, CLIENTS, WARM_UP, 201, warm).await?;
    let done = warmed.latencies.len() + warmed.others + u64::try_from(CLIENTS)?;
    // The warm-up's tables were empty when their plans were made.
    sqlx::raw_sql("ANALYZE").execute(town.log.pool()).await?;
    // In turns, so that both see the same machine.
    let (mut first, mut turns) = (done, Vec::new());
    for _ in 0..TURNS {
        let requests = bookings(first, town.providers.clone(), town.tokens.clone());
        let measured = load::run(&town.address, CLIENTS, MEASURE, 201, requests).await?;
        first += measured.latencies.len() + measured.others + u64::try_from(CLIENTS)?;
        let behind = lag(&town).await?;
        let ended = Instant::now();
        load::until("the projectors have caught up", Duration::from_secs(120), || async {
            lag(&town).await.is_ok_and(|lag| lag.iter().all(|(_, behind)| *behind == 0))
        })
        .await?;
        let caught_up = ended.elapsed();
        let bare = peer::pgbench(5).await?;
        turns.push((measured.rate / bare, measured, bare, behind, caught_up));
    }
    turns.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, measured, bare, behind, caught_up) = turns.swap_remove(TURNS / 2);
    println!("  pgbench, one bare row per transaction, 32 clients   {bare:.0}/s");
    println!("  bookings (201), two events on two streams           {}", measured.line());
    if measured.others > 0 {
        println!("  answers that were not 201                           {}", measured.others);
    }
    let lag: Vec<String> = behind.iter().map(|(name, behind)| format!("{name} {behind}")).collect();
    println!(
        "  events behind at the end: {}; all caught up {:.1} s later",
        lag.join(", "),
        caught_up.as_secs_f64()
    );
    println!("  ratio {ratio:.2} (at least 0.40), the median of {TURNS} turns");
    Ok(())
}

fn booking(
    first: NaiveDate,
    provider: &domain::ids::ProviderId,
    slot: u64,
    token: &str,
) -> Option<String> {
    let (day, hour) = (slot / SLOTS_A_DAY, FIRST_HOUR + slot % SLOTS_A_DAY);
    if day >= DAYS {
        return None;
    }
    let day = first.checked_add_days(Days::new(day))?;
    let body = format!("{{\"provider_id\":\"{provider}\",\"start\":\"{day}T{hour:02}:00:00Z\"}}");
    Some(load::booking(token, &body))
}

/// How many events each projector with a checkpoint has still to apply.
async fn lag(town: &Town) -> anyhow::Result<Vec<(String, i64)>> {
    let rows = sqlx::query(
        "SELECT c.projector, sum(h.position - c.position)::bigint AS behind
         FROM (SELECT projector, partition::integer, position FROM checkpoints
               UNION ALL SELECT 'notifications', partition::integer, position FROM notification_checkpoints) c
         JOIN heads h ON h.partition = c.partition
         GROUP BY c.projector ORDER BY c.projector",
    )
    .fetch_all(town.log.pool())
    .await?;
    Ok(rows.iter().map(|row| (row.get("projector"), row.get("behind"))).collect())
}
