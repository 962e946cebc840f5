//! What a provider sees first: today, what comes next, what waits for an answer, and how business goes.
//!
//! All of it is read from the appointments, as they stand; nothing is kept for it. For example `no_show` counts the rows of
//! that status over ninety days, which the index `appointments_by_provider` begins at. Four statements of one provider,
//! each of a stretch of time; who is new is looked up in the history of each client of the last two months.

use domain::Instant;
use domain::ids::{Id as _, ProviderId};
use domain::money::Currency;
use domain::slots::Span;
use sqlx::PgPool;

use crate::appointments::{AppointmentRow, Raw, select};
use crate::table::{Columns, TableError, database};

const TABLE: &str = "appointments";

/// The most appointments of today that are listed.
pub const TODAY: i64 = 100;
/// How many of the next ones are.
pub const NEXT: i64 = 5;
/// How many of those that wait for an answer are.
pub const PENDING: i64 = 20;
/// The most different times of a week that are looked at: every five minutes of it.
const WEEK: i64 = 7 * 24 * 12;

/// Statuses of what takes time of a provider's: of what was not called off.
macro_rules! stands {
    () => {
        "('pending', 'confirmed', 'completed', 'no_show')"
    };
}

/// Which stretches of time are meant, in the provider's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The present.
    pub now: Instant,
    /// The local day.
    pub today: Span,
    /// The local week.
    pub week: Span,
    /// Where the last month begins.
    pub last_month: Instant,
    /// Where this one begins.
    pub this_month: Instant,
    /// Where the next one begins.
    pub next_month: Instant,
    /// Since when no-shows are counted.
    pub no_shows_since: Instant,
}

/// What a dashboard shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dashboard {
    /// Today's, less what was called off: the first [`TODAY`].
    pub today: Vec<AppointmentRow>,
    /// The next that begin: [`NEXT`] at most.
    pub next: Vec<AppointmentRow>,
    /// Those to come that wait for the provider: the first [`PENDING`].
    pub pending: Vec<AppointmentRow>,
    /// How many there are of each.
    pub figures: Figures,
    /// The times of the week's appointments that are pending, confirmed, completed or missed, in order; those of a group
    /// once.
    pub week: Vec<Span>,
    /// What came in, or will.
    pub revenue: Vec<Revenue>,
}

/// Numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Figures {
    /// How many wait for the provider.
    pub pending: i64,
    /// How many there are today.
    pub today: i64,
    /// How many did not come, since [`Times::no_shows_since`].
    pub no_shows: i64,
    /// How many came.
    pub completed: i64,
    /// Who booked for the first time this month, what was called off left out.
    pub new_this_month: i64,
    /// Who did the month before.
    pub new_last_month: i64,
}

/// The prices of confirmed and completed appointments of one month in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revenue {
    /// Whether it is this month's, or the last one's.
    pub this_month: bool,
    /// The currency.
    pub currency: Currency,
    /// Their sum, in minor units.
    pub amount_minor: i64,
    /// How many they are.
    pub appointments: i64,
}

#[derive(sqlx::FromRow)]
struct Listed {
    list: String,
    #[sqlx(flatten)]
    row: Raw,
}

/// A provider's dashboard.
pub async fn of_provider(
    pool: &PgPool,
    provider: ProviderId,
    times: &Times,
) -> Result<Dashboard, TableError> {
    let (mut today, mut next, mut pending) = (Vec::new(), Vec::new(), Vec::new());
    for Listed { list, row } in lists(pool, provider, times).await? {
        let row = AppointmentRow::try_from(row)?;
        match list.as_str() {
            "today" => today.push(row),
            "next" => next.push(row),
            _ => pending.push(row),
        }
    }
    Ok(Dashboard {
        today,
        next,
        pending,
        figures: figures(pool, provider, times).await?,
        week: week(pool, provider, times.week).await?,
        revenue: revenue(pool, provider, times).await?,
    })
}

const LISTS: &str = concat!(
    "(SELECT 'today' AS list, t.* FROM (",
    select!("WHERE provider_id = $1 AND starts_at >= $2 AND starts_at < $3 AND status IN "),
    stands!(),
    " ORDER BY starts_at, id LIMIT $5) t) UNION ALL (SELECT 'next' AS list, t.* FROM (",
    select!(
        "WHERE provider_id = $1 AND starts_at > $4 AND status IN ('pending', 'confirmed') \
         ORDER BY starts_at, id LIMIT $6"
    ),
    ") t) UNION ALL (SELECT 'pending' AS list, t.* FROM (",
    select!(
        "WHERE provider_id = $1 AND starts_at > $4 AND status = 'pending' \
         ORDER BY starts_at, id LIMIT $7"
    ),
    ") t) ORDER BY list, starts_at, id"
);

async fn lists(
    pool: &PgPool,
    provider: ProviderId,
    times: &Times,
) -> Result<Vec<Listed>, TableError> {
    let query = sqlx::query_as(LISTS);
    query
        .bind(provider.uuid())
        .bind(times.today.start)
        .bind(times.today.end)
        .bind(times.now)
        .bind(TODAY)
        .bind(NEXT)
        .bind(PENDING)
        .fetch_all(pool)
        .await
        .map_err(database(TABLE))
}

// Pending ones are counted by a filter: as a condition, Postgres would look for whatever is pending anywhere. Who booked
// since last month has an appointment that starts since then, for none is booked or moved into the past: so the index
// skips the history. Whether they had come before, the index of the client says.
const FIGURES: &str = concat!(
    "SELECT pending.pending, today.today, past.no_shows, past.completed, fresh.new_this_month, fresh.new_last_month
     FROM (SELECT count(*) FILTER (WHERE status = 'pending') AS pending FROM appointments
           WHERE provider_id = $1 AND starts_at > $2) pending,
          (SELECT count(*) AS today FROM appointments
           WHERE provider_id = $1 AND starts_at >= $3 AND starts_at < $4 AND status IN ",
    stands!(),
    ") today,
          (SELECT count(*) FILTER (WHERE status = 'no_show') AS no_shows,
                  count(*) FILTER (WHERE status = 'completed') AS completed
           FROM appointments
           WHERE provider_id = $1 AND starts_at >= $5 AND starts_at < $2) past,
          (SELECT count(*) FILTER (WHERE first >= $7) AS new_this_month,
                  count(*) FILTER (WHERE first < $7) AS new_last_month
           FROM (SELECT client_id, guest_id, min(created_at) AS first FROM appointments
                 WHERE provider_id = $1 AND starts_at >= $6 AND created_at >= $6 AND created_at < $8
                   AND status IN ",
    stands!(),
    " GROUP BY client_id, guest_id) seen
           WHERE NOT EXISTS (SELECT FROM appointments earlier
                             WHERE earlier.client_id = seen.client_id AND earlier.provider_id = $1
                               AND earlier.created_at < $6 AND earlier.status IN ",
    stands!(),
    ")) fresh"
);

async fn figures(
    pool: &PgPool,
    provider: ProviderId,
    times: &Times,
) -> Result<Figures, TableError> {
    let query = sqlx::query_as(FIGURES);
    query
        .bind(provider.uuid())
        .bind(times.now)
        .bind(times.today.start)
        .bind(times.today.end)
        .bind(times.no_shows_since)
        .bind(times.last_month)
        .bind(times.this_month)
        .bind(times.next_month)
        .fetch_one(pool)
        .await
        .map_err(database(TABLE))
}

// No service lasts longer than a day.
const WEEK_TIMES: &str = concat!(
    "SELECT DISTINCT starts_at, ends_at FROM appointments
     WHERE provider_id = $1 AND starts_at > $2 - interval '1 day' AND starts_at < $3 AND ends_at > $2
       AND status IN ",
    stands!(),
    " ORDER BY starts_at, ends_at LIMIT $4"
);

async fn week(pool: &PgPool, provider: ProviderId, week: Span) -> Result<Vec<Span>, TableError> {
    let times: Vec<(Instant, Instant)> = sqlx::query_as(WEEK_TIMES)
        .bind(provider.uuid())
        .bind(week.start)
        .bind(week.end)
        .bind(WEEK)
        .fetch_all(pool)
        .await
        .map_err(database(TABLE))?;
    Ok(times.into_iter().map(|(start, end)| Span { start, end }).collect())
}

const REVENUE: &str = "SELECT starts_at >= $3, price_currency,
            least(sum(price_minor), 9223372036854775807)::bigint, count(*)
     FROM appointments
     WHERE provider_id = $1 AND starts_at >= $2 AND starts_at < $4
       AND status IN ('confirmed', 'completed') AND price_minor IS NOT NULL
     GROUP BY 1, 2 ORDER BY 1, 2";

async fn revenue(
    pool: &PgPool,
    provider: ProviderId,
    times: &Times,
) -> Result<Vec<Revenue>, TableError> {
    let rows: Vec<(bool, String, i64, i64)> = sqlx::query_as(REVENUE)
        .bind(provider.uuid())
        .bind(times.last_month)
        .bind(times.this_month)
        .bind(times.next_month)
        .fetch_all(pool)
        .await
        .map_err(database(TABLE))?;
    rows.into_iter()
        .map(|(this_month, currency, amount_minor, appointments)| {
            let currency = Currency::try_from(currency);
            let currency = currency.map_err(|_| Columns(TABLE).corrupt("price_currency"))?;
            Ok(Revenue { this_month, currency, amount_minor, appointments })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use domain::ids::AppointmentId;
    use sqlx::Row as _;

    use super::*;
    use crate::testing::{at, id, span, with_database};

    /// Many appointments of one provider among those of others: the `n`-th starts `n` × 3 hours after 2025-06-01, is the
    /// `n % 400`-th client's, booked a day before.
    async fn many(pool: &PgPool) {
        sqlx::query(
            "INSERT INTO appointments (id, partition, position, version, provider_id, provider_account_id, client_id,
                 service_id, service_name, starts_at, ends_at, zone, local_start, status, price_minor,
                 price_currency, created_at, updated_at)
             SELECT overlay(gen_random_uuid()::text PLACING '7' FROM 15 FOR 1)::uuid, 0, n, 1, $1[1 + k], $2, ($3::uuid[])[1 + n % 400], $2, 'Corte', t,
                 t + interval '1 hour', 'UTC', t AT TIME ZONE 'UTC',
                 CASE WHEN t < '2026-03-04'
                 THEN (ARRAY['confirmed', 'completed', 'no_show', 'cancelled', 'pending'])[1 + n % 5]
                 ELSE (ARRAY['confirmed', 'confirmed', 'pending', 'cancelled', 'pending'])[1 + n % 5] END,
                 5000, CASE WHEN n % 10 = 0 THEN 'EUR' ELSE 'BRL' END, t - interval '1 day', t
             FROM generate_series(0, 4) k, generate_series(0, 3999) n,
                  LATERAL (SELECT timestamptz '2025-06-01T00:00:00Z' + n * interval '3 hours' AS t) times",
        )
        .bind((0..5).map(|n| id::<ProviderId>(2 + n).uuid()).collect::<Vec<_>>())
        .bind(id::<AppointmentId>(1).uuid())
        .bind((0..400).map(|n| id::<AppointmentId>(100 + n).uuid()).collect::<Vec<_>>())
        .execute(pool)
        .await
        .unwrap();
        sqlx::query("VACUUM ANALYZE appointments").execute(pool).await.unwrap();
    }

    fn times() -> Times {
        Times {
            now: at("2026-03-04T12:30:00Z"),
            today: span("2026-03-04T00:00:00Z", 24 * 60),
            week: span("2026-03-02T00:00:00Z", 7 * 24 * 60),
            last_month: at("2026-02-01T00:00:00Z"),
            this_month: at("2026-03-01T00:00:00Z"),
            next_month: at("2026-04-01T00:00:00Z"),
            no_shows_since: at("2025-12-04T12:30:00Z"),
        }
    }

    #[tokio::test]
    async fn a_dashboard_says_of_thousands_of_appointments_what_is_today_next_and_pending() {
        with_database(|pool| async move {
            many(&pool).await;
            let seen = of_provider(&pool, id(2), &times()).await.unwrap();
            // Eight a day, one in five called off: 2026-03-04 begins with the 2208th.
            assert_eq!(seen.today.len(), 6, "{:?}", seen.today);
            assert_eq!(seen.figures.today, 6);
            assert_eq!(seen.next.len(), 5);
            assert!(seen.next.windows(2).all(|pair| pair[0].slot.start < pair[1].slot.start));
            assert!(seen.next[0].slot.start > times().now);
            assert_eq!(seen.pending.len(), 20);
            let pending = (2213..4000).filter(|n| n % 5 == 4 || n % 5 == 2).count();
            assert_eq!(seen.figures.pending, i64::try_from(pending).unwrap());
            let past = |status| (1493..2208).filter(|n| n % 5 == status).count();
            assert_eq!(seen.figures.completed, i64::try_from(past(1)).unwrap());
            assert_eq!(seen.figures.no_shows, i64::try_from(past(2)).unwrap());
            // Everybody came first long ago.
            assert_eq!((seen.figures.new_this_month, seen.figures.new_last_month), (0, 0));
            let served = (2192..2248).filter(|n| n % 5 != 3).count();
            assert_eq!(seen.week.len(), served);
            let figures: Vec<_> = seen
                .revenue
                .iter()
                .map(|r| (r.this_month, r.currency.as_str(), r.appointments, r.amount_minor))
                .collect();
            let count = |days: std::ops::Range<i64>, euros: bool| {
                let n = (days.start * 8..days.end * 8)
                    .filter(|n| n % 5 < 2 && (n % 10 == 0) == euros)
                    .count();
                i64::try_from(n).unwrap()
            };
            let (last, this) = (245..273, 273..304);
            let mut expected = Vec::new();
            for (this_month, days) in [(false, last), (true, this)] {
                for (currency, euros) in [("BRL", false), ("EUR", true)] {
                    let n = count(days.clone(), euros);
                    expected.push((this_month, currency, n, n * 5000));
                }
            }
            assert_eq!(figures, expected);
            // Whom the provider has had since June 2025: the first eight booked the day before it, and one in five calls off
            // whatever they book.
            let june = at("2025-06-01T00:00:00Z");
            let first = |month: Instant, next: Instant| Times {
                last_month: month,
                this_month: month,
                next_month: next,
                ..times()
            };
            let seen = figures_of(&pool, &first(june, at("2025-07-01T00:00:00Z"))).await;
            let new = (8..248).filter(|n| n % 5 != 3).count();
            assert_eq!(seen.new_this_month, i64::try_from(new).unwrap());
            let seen = figures_of(&pool, &first(at("2025-05-01T00:00:00Z"), june)).await;
            assert_eq!((seen.new_this_month, seen.new_last_month), (8 - 1, 0));
        })
        .await;
    }

    async fn figures_of(pool: &PgPool, times: &Times) -> Figures {
        figures(pool, id(2), times).await.unwrap()
    }

    /// The plan of a statement that is prepared once for whatever provider and time, as a server keeps it.
    async fn generic_plan(pool: &PgPool, sql: &str, types: &str, values: &str) -> String {
        let mut connection = pool.acquire().await.unwrap();
        let prepare = format!("PREPARE looked_at ({types}) AS {sql}");
        for sql in ["SET plan_cache_mode = force_generic_plan", &*prepare] {
            sqlx::query(sql).execute(&mut *connection).await.unwrap();
        }
        let explain = format!("EXPLAIN EXECUTE looked_at ({values})");
        let rows = sqlx::query(&explain).fetch_all(&mut *connection).await.unwrap();
        sqlx::query("DEALLOCATE looked_at").execute(&mut *connection).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
    }

    #[tokio::test]
    async fn a_dashboard_begins_at_the_index_of_its_provider() {
        with_database(|pool| async move {
            many(&pool).await;
            let provider = id::<ProviderId>(2);
            let Times { now, today, week, last_month, this_month, next_month, no_shows_since } =
                times();
            let times = |times: &[Instant]| -> String {
                times.iter().map(|at| format!(", '{}'", at.to_rfc3339())).collect()
            };
            for (sql, instants, limits) in [
                (LISTS, vec![today.start, today.end, now], vec![TODAY, NEXT, PENDING]),
                (
                    FIGURES,
                    vec![
                        now,
                        today.start,
                        today.end,
                        no_shows_since,
                        last_month,
                        this_month,
                        next_month,
                    ],
                    vec![],
                ),
                (WEEK_TIMES, vec![week.start, week.end], vec![WEEK]),
                (REVENUE, vec![last_month, this_month, next_month], vec![]),
            ] {
                let types = format!(
                    "uuid{}{}",
                    ", timestamptz".repeat(instants.len()),
                    ", bigint".repeat(limits.len())
                );
                let limits: String = limits.iter().map(|limit| format!(", {limit}")).collect();
                let values = format!("'{provider}'{}{limits}", times(&instants));
                let plan = generic_plan(&pool, sql, &types, &values).await;
                assert!(plan.contains("appointments_by_provider"), "{plan}");
                assert!(!plan.contains("Seq Scan"), "{plan}");
            }
        })
        .await;
    }
}
