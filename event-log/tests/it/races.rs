//! What many at once must not break.

use std::collections::BTreeSet;
use std::sync::Arc;

use event_log::testing::{master_key, options};
use event_log::{Append, AppendError, EventLog, SystemClock};
use futures_util::future::join_all;

use crate::common::*;

/// Two logs on one database, as two server processes without Redis have.
async fn two_servers(
    database: &event_log::testing::TestDatabase,
    partitions: u16,
) -> [EventLog; 2] {
    let second = EventLog::open(
        database.another_pool(),
        master_key(),
        Arc::new(SystemClock),
        options(partitions),
    );
    [database.log(partitions).await, second.await.unwrap()]
}

on_1_and_7_partitions! {
    async fn a_writer_held_open_holds_up_its_partition_and_nothing_is_skipped_or_inverted(database, partitions) {
        let log = database.log(partitions).await;
        log.append(one(agenda(10, 0), 0, 0)).await.unwrap();
        let here = log.partition_of(slot(10));
        for (n, commits) in [(1, true), (2, false), (3, true)] {
            // Another server takes its position and does not commit.
            let mut writer = log.pool().begin().await.unwrap();
            let taken: i64 = raw_append(n, partitions).fetch_one(&mut *writer).await.unwrap();
            let before = log.head(here).await.unwrap();
            assert_eq!(taken.unsigned_abs(), before + 1);
            let late = tokio::spawn({
                let log = log.clone();
                async move { log.append(one(agenda(10, 10 + n), 0, 10 + n)).await }
            });
            until("the other append waits", async || somebody_waits(log.pool()).await).await;
            // Nobody sees either of them; other partitions go on.
            assert_eq!(log.tail(here, before, 10).await.unwrap(), []);
            if partitions > 1 {
                log.append(one(agenda(11, n), 0, n)).await.unwrap();
            }
            if commits { writer.commit().await.unwrap() } else { writer.rollback().await.unwrap() }
            let late = late.await.unwrap().unwrap();
            let number = before + if commits { 2 } else { 1 };
            assert_eq!(late.positions.number(here), number);
            let seen = log.tail(here, before, 10).await.unwrap();
            assert_eq!(seen.len() as u64, number - before);
            assert_eq!(seen.last().unwrap().event, event(10 + n));
        }
        everything(&log).await;
        log.verify(here, None).await.unwrap();
    }

    async fn of_64_racers_on_one_stream_exactly_one_wins_each_version(database, partitions) {
        let logs = two_servers(database, partitions).await;
        let stream = agenda(10, 0);
        let racers = (0..64).map(|n| {
            let log = logs[n as usize % 2].clone();
            tokio::spawn(async move {
                let (mut version, mut conflicts) = (0, 0);
                loop {
                    match log.append(one(stream, version, n)).await {
                        Ok(_) => return (version + 1, conflicts),
                        Err(AppendError::Conflict { in_the_way }) => {
                            // Exactly what is needed to go on, and nothing before it.
                            assert_eq!(in_the_way.first().unwrap().sequence, version + 1);
                            version = in_the_way.last().unwrap().sequence;
                            conflicts += 1;
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
            })
        });
        let mut won = BTreeSet::new();
        let mut conflicts = 0;
        for racer in join_all(racers).await {
            let (version, lost) = racer.unwrap();
            assert!(won.insert(version), "version {version} was won twice");
            conflicts += lost;
        }
        assert_eq!(won, (1..=64).collect());
        assert!(conflicts > 0);
        assert_eq!(everything(&logs[0]).await.len(), 64);
    }

    async fn the_same_command_64_times_at_once_is_one_event_and_64_equal_answers(database, partitions) {
        let logs = two_servers(database, partitions).await;
        let answers = join_all((0..64).map(|n| {
            let log = logs[n % 2].clone();
            let result = format!(r#"{{"by":{n}}}"#);
            let request = Append { command: keyed_row(10, 1, 1, &result), ..one(agenda(10, 0), 0, 1) };
            tokio::spawn(async move { log.append(request).await.unwrap() })
        }))
        .await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.iter().filter(|a| !a.already).count(), 1);
        let told: BTreeSet<_> = answers.iter().map(|a| (a.positions.to_string(), a.result.clone())).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(everything(&logs[0]).await.len(), 1);
    }

    async fn requests_that_span_the_same_partitions_in_opposite_orders_do_not_deadlock(database, partitions) {
        let logs = two_servers(database, partitions).await;
        let done = join_all((0..80_u32).map(|n| {
            let log = logs[(n % 2) as usize].clone();
            // Slots 3 and 5 are different partitions of seven.
            let (from, to) = if n % 4 < 2 { (3, 5) } else { (5, 3) };
            let request = Append::new(row(from))
                .events(agenda(from, n), 0, vec![event(n)])
                .events(agenda(to, 1000 + n), 0, vec![event(n)]);
            let alone = one(agenda(to, 2000 + n), 0, n);
            tokio::spawn(async move {
                log.append(request).await.unwrap();
                log.append(alone).await.unwrap();
            })
        }))
        .await;
        done.into_iter().for_each(|d| d.unwrap());
        let deadlocks: i64 = sqlx::query_scalar(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(database.pool())
        .await
        .unwrap();
        assert_eq!(deadlocks, 0);
        assert_eq!(everything(&logs[0]).await.len(), 240);
    }

    async fn two_servers_without_redis_write_one_log_without_gaps(database, partitions) {
        let logs = two_servers(database, partitions).await;
        let done = join_all((0..40_u16).map(|n| {
            let log = logs[usize::from(n) % 2].clone();
            tokio::spawn(async move {
                for version in 0..10 {
                    log.append(one(agenda(n, 0), version, n.into())).await.unwrap();
                }
            })
        }))
        .await;
        done.into_iter().for_each(|d| d.unwrap());
        let seen = [everything(&logs[0]).await, everything(&logs[1]).await];
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[0].len(), 400);
        for partition in logs[0].partitions().all() {
            logs[1].verify(partition, None).await.unwrap();
        }
    }

    async fn a_reader_that_follows_while_others_write_misses_nothing(database, partitions) {
        let logs = two_servers(database, partitions).await;
        let reader = tokio::spawn({
            let log = logs[1].clone();
            async move {
                let here = log.partition_of(slot(10));
                let mut seen = Vec::new();
                while seen.len() < 200 {
                    let after = seen.len() as u64;
                    let page = log.tail(here, after, 7).await.unwrap();
                    if page.is_empty() {
                        log.wait_beyond(here, after, std::time::Duration::from_secs(5)).await.unwrap();
                    }
                    seen.extend(page.into_iter().map(|r| r.at.number));
                }
                seen
            }
        });
        join_all((0..8_u32).map(|w| {
            let log = logs[0].clone();
            tokio::spawn(async move {
                for version in 0..25 {
                    log.append(one(agenda(10, w), version, w)).await.unwrap();
                }
            })
        }))
        .await
        .into_iter()
        .for_each(|w| w.unwrap());
        assert_eq!(reader.await.unwrap(), (1..=200).collect::<Vec<_>>());
    }
}

/// The SQL function itself, with one event, answering the position it took.
fn raw_append(
    n: u32,
    partitions: u16,
) -> sqlx::query::QueryScalar<'static, sqlx::Postgres, i64, sqlx::postgres::PgArguments> {
    let stream = agenda(10, 500 + n);
    let partition = i16::try_from(slot(10).bits() % partitions).unwrap();
    sqlx::query_scalar(
        r#"SELECT (log_append(ARRAY[$1::smallint], NULL, '{}',
            ARRAY[gen_random_uuid()], ARRAY[1], ARRAY['\x00'::bytea], ARRAY['{}'], ARRAY[1::bigint], ARRAY[0::bigint],
            ARRAY[1], ARRAY[1], ARRAY[1::bigint], ARRAY['Agenda'], ARRAY[$2::uuid], ARRAY[1::bigint],
            ARRAY['SlotFreed'], ARRAY['1'], ARRAY[$3::text], ARRAY['{}'],
            ARRAY[1], ARRAY[1], ARRAY[$2::uuid], ARRAY[0::bigint],
            '{}','{}','{}','{}','{}','{}', '{}','{}','{}','{}','{}', '{}','{}','{}','{}')).heads[1] + 1"#,
    )
    .bind(partition)
    .bind(stream.id)
    .bind(serde_json::to_string(&event(n)).unwrap())
}
