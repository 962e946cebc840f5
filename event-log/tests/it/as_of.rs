//! The log as it stood.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use domain::agenda::Agenda;
use domain::aggregate::{StreamId, StreamKind};
use domain::appointment::Appointment;
use domain::ids::{AgendaId, AppointmentId, Id};
use domain::position::{Partition, Position};
use event_log::testing::{FrozenClock, options};
use event_log::{Append, AsOf, EventLog, LogError, Recorded, SystemClock};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::common::*;

async fn replayed(log: &EventLog, streams: &[StreamId], until: Position) -> Vec<Recorded> {
    let mut all = Vec::new();
    log.replay(streams, until, |recorded| {
        all.push(recorded);
        ControlFlow::Continue(())
    })
    .await
    .unwrap();
    all.sort_by_key(|recorded| recorded.at);
    all
}

on_1_and_7_partitions! {
    async fn whatever_is_asked_as_of_a_point_is_what_stood_there(database, partitions) {
        let clock = Arc::new(FrozenClock::at_text("2026-03-02T12:00:00Z"));
        let log = database.log_with(clock.clone(), options(partitions)).await;
        let streams: Vec<StreamId> = (0..5).map(|n| agenda(10, n)).collect();
        let partition = log.partition_of(slot(10));
        let mut rng = StdRng::seed_from_u64(4);
        let mut versions = [0; 5];
        for n in 0..120_u32 {
            let i = rng.random_range(0..streams.len());
            let many: Vec<_> = (0..rng.random_range(1..40)).map(|m| event(n * 100 + m)).collect();
            let count = many.len() as u64;
            log.append(Append::new(row(10)).events(streams[i], versions[i], many)).await.unwrap();
            versions[i] += count;
            // Now and then several appends have one instant.
            clock.advance(TimeDelta::milliseconds(rng.random_range(0..3)));
        }
        clock.advance(TimeDelta::seconds(1));
        let all: Vec<Recorded> =
            everything(&log).await.into_iter().filter(|r| r.at.partition == partition).collect();
        let last = all.last().unwrap().at.number;
        for _ in 0..30 {
            let until = Position { partition, number: rng.random_range(1..=last) };
            assert_eq!(log.as_of(partition, AsOf::Position(until)).await.unwrap(), Some(until));
            let some = &streams[..rng.random_range(1..=streams.len())];
            let stood = |r: &&Recorded| r.at <= until && some.contains(&r.stream);
            let expected: Vec<Recorded> = all.iter().filter(stood).cloned().collect();
            assert_eq!(replayed(&log, some, until).await, expected, "{until}");

            let instant = all[rng.random_range(0..all.len())].recorded_at
                + TimeDelta::microseconds(rng.random_range(-1..=1));
            let number = all.iter().filter(|r| r.recorded_at <= instant).count() as u64;
            let found = log.as_of(partition, AsOf::Instant(instant)).await.unwrap();
            assert_eq!(found, Some(Position { partition, number }), "{instant}");
        }
        let id = AgendaId::trusted(streams[0].id);
        let loaded = log.load_until::<Agenda>(id, Position { partition, number: last }).await.unwrap();
        assert_eq!(loaded.version, versions[0]);
        let nothing = log.load_until::<Agenda>(id, Position { partition, number: 0 }).await.unwrap();
        assert_eq!((nothing.version, nothing.last), (0, None));
        // The id of an agenda is no appointment's.
        let other = AppointmentId::trusted(streams[0].id);
        let other = log.load_until::<Appointment>(other, Position { partition, number: last }).await;
        assert_eq!(other.unwrap().version, 0);
    }

    async fn a_point_that_has_not_come_is_no_point(database, partitions) {
        let clock = Arc::new(FrozenClock::at_text("2026-03-02T12:00:00Z"));
        let log = database.log_with(clock.clone(), options(partitions)).await;
        let partition = log.partition_of(slot(10));
        let (before, now) = (now_of(&clock) - TimeDelta::microseconds(1), now_of(&clock));
        log.append(one(agenda(10, 0), 0, 1)).await.unwrap();
        let at = |number| AsOf::Position(Position { partition, number });
        for (point, number) in [
            (at(0), None),
            (at(1), Some(1)),
            (at(2), None),
            (AsOf::Position(Position { partition: Partition(partition.0 + 1), number: 1 }), None),
            (AsOf::Instant(before), Some(0)),
            // More may be recorded at this very instant.
            (AsOf::Instant(now), None),
            (AsOf::Instant(now + TimeDelta::days(1)), None),
        ] {
            let found = log.as_of(partition, point).await.unwrap();
            assert_eq!(found.map(|at| at.number), number, "{point:?}");
        }
        clock.advance(TimeDelta::microseconds(1));
        let found = log.as_of(partition, AsOf::Instant(now)).await.unwrap();
        assert_eq!(found.map(|at| at.number), Some(1));
    }

    async fn an_instant_waits_for_the_append_that_is_under_way(database, partitions) {
        let log = database.log_with(Arc::new(SystemClock), options(partitions)).await;
        let partition = log.partition_of(slot(10));
        log.append(one(agenda(10, 0), 0, 1)).await.unwrap();
        let mut writer = log.pool().begin().await.unwrap();
        let taken: domain::Instant = sqlx::query_scalar(
            "UPDATE heads SET recorded_at = clock_timestamp(), position = position WHERE partition = $1
             RETURNING recorded_at",
        )
        .bind(i16::try_from(partition.0).unwrap())
        .fetch_one(&mut *writer)
        .await
        .unwrap();
        let asked = tokio::spawn({
            let log = log.clone();
            async move { log.as_of(partition, AsOf::Instant(taken)).await }
        });
        until("it waits for the writer", async || {
            let waits = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
            sqlx::query_scalar::<_, i64>(waits).fetch_one(log.pool()).await.unwrap() > 0
        })
        .await;
        writer.commit().await.unwrap();
        assert_eq!(asked.await.unwrap().unwrap().map(|at| at.number), Some(1));
    }

    async fn an_instant_long_past_waits_for_nobody(database, partitions) {
        let clock = Arc::new(FrozenClock::at_text("2026-03-02T12:00:00Z"));
        let log = database.log_with(clock.clone(), options(partitions)).await;
        let partition = log.partition_of(slot(10));
        log.append(one(agenda(10, 0), 0, 1)).await.unwrap();
        let then = now_of(&clock);
        clock.advance(TimeDelta::minutes(1));
        let mut writer = log.pool().begin().await.unwrap();
        sqlx::query("UPDATE heads SET position = position").execute(&mut *writer).await.unwrap();
        let found = log.as_of(partition, AsOf::Instant(then)).await.unwrap();
        assert_eq!(found.map(|at| at.number), Some(1));
        writer.rollback().await.unwrap();
    }

    async fn a_reading_of_the_past_ends_when_it_has_enough_or_there_is_too_much(database, partitions) {
        let clock = Arc::new(FrozenClock::at_text("2026-03-02T12:00:00Z"));
        let few = event_log::LogOptions { replay_max: 5, ..options(partitions) };
        let log = database.log_with(clock, few).await;
        let partition = log.partition_of(slot(10));
        let events = (0..6).map(event).collect();
        log.append(Append::new(row(10)).events(agenda(10, 0), 0, events)).await.unwrap();
        let at = |number| Position { partition, number };
        assert_eq!(replayed(&log, &[agenda(10, 0)], at(5)).await.len(), 5);
        let mut given = 0;
        let mut count = |_: Recorded| {
            given += 1;
            if given == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        log.replay(&[agenda(10, 0)], at(6), &mut count).await.unwrap();
        assert_eq!(given, 3);
        let read = log.replay(&[agenda(10, 0)], at(6), |_| ControlFlow::Continue(())).await;
        assert!(matches!(read, Err(LogError::TooLong { most: 5 })), "{read:?}");
    }

    async fn an_event_that_does_not_read_stops_the_reader(database, partitions) {
        let log = database.log(partitions).await;
        let at = log.append(one(agenda(10, 0), 0, 1)).await.unwrap();
        let at = at.positions.positions().next().unwrap();
        sqlx::query("UPDATE events SET event_version = '99'").execute(log.pool()).await.unwrap();
        let read = log.replay(&[agenda(10, 0)], at, |_| ControlFlow::Continue(())).await;
        assert!(matches!(read, Err(LogError::Unreadable { .. })));
        assert_eq!(agenda(10, 0).kind, StreamKind::Agenda);
    }
}

fn now_of(clock: &FrozenClock) -> domain::Instant {
    event_log::Clock::now(clock)
}

#[tokio::test]
async fn a_stream_of_several_pages_is_read_whole_beside_short_ones() {
    let database = event_log::testing::TestDatabase::create().await;
    let log = database.log(1).await;
    let streams = [agenda(10, 0), agenda(10, 1), agenda(10, 2)];
    for (stream, count) in streams.iter().zip([1500_u32, 1, 333]) {
        let events = (0..count).map(event).collect();
        log.append(Append::new(row(10)).events(*stream, 0, events)).await.unwrap();
    }
    let until = Position { partition: Partition(0), number: 1833 };
    let read = tokio::time::timeout(Duration::from_secs(20), replayed(&log, &streams, until));
    let read = read.await.unwrap();
    assert_eq!(read.len(), 1833);
    assert!(read.iter().zip(1..).all(|(recorded, number)| recorded.at.number == number));
}
