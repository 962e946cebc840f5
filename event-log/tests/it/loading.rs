//! Loading: memory, snapshots, positions, upcasting, waiting.

use std::sync::Arc;
use std::time::Duration;

use cqrs_es::persist::SemanticVersionEventUpcaster;
use domain::agenda::{Agenda, AgendaEvent};
use domain::aggregate::StreamId;
use domain::ids::{AgendaId, AppointmentId, Id, Mint};
use domain::slots::Span;
use event_log::testing::{master_key, options};
use event_log::{Append, EventLog, LogError, SystemClock, Upcasters};

use crate::common::*;

fn taken(n: u32) -> domain::event::Event {
    let start = domain::Instant::UNIX_EPOCH + chrono::TimeDelta::hours(n.into());
    let slot = Span { start, end: start + chrono::TimeDelta::hours(1) };
    let appointment: AppointmentId = Mint::new([5; 32]).id(slot_of(), n);
    let service = Mint::new([6; 32]).id(slot_of(), 0);
    let provider = provider(10);
    let day = start.date_naive();
    AgendaEvent::SlotTaken {
        provider,
        day,
        appointment,
        slot,
        span: slot,
        service,
        capacity: 1,
        hold: None,
    }
    .into()
}

fn slot_of() -> domain::ids::RoutingSlot {
    slot(10)
}

fn the_agenda() -> (AgendaId, StreamId) {
    let stream = agenda(10, 0);
    (AgendaId::trusted(stream.id), stream)
}

on_1_and_7_partitions! {
    async fn memory_may_lag_and_a_position_brings_it_up_to_date(database, partitions) {
        let (here, there) = (database.log(partitions).await, database.log(partitions).await);
        let (id, stream) = the_agenda();
        assert_eq!(here.load::<Agenda>(id).await.unwrap().version, 0);
        here.append(Append::new(row(10)).events(stream, 0, vec![taken(1)])).await.unwrap();
        let first = here.load::<Agenda>(id).await.unwrap();
        assert_eq!(first.version, 1, "that there was none is not remembered");
        here.append(Append::new(row(10)).events(stream, 1, vec![taken(2)])).await.unwrap();
        let same = here.load::<Agenda>(id).await.unwrap();
        assert_eq!((same.version, same.last), (1, first.last), "appended by hand, memory was not told");
        let third = there.append(Append::new(row(10)).events(stream, 2, vec![taken(3)])).await.unwrap();
        let at = third.positions.positions().next().unwrap();
        let loaded = here.load_at_least::<Agenda>(id, at).await.unwrap();
        assert_eq!((loaded.version, loaded.last), (3, Some(at)));
        assert_eq!(loaded.state.occupations.len(), 3);
        assert_eq!(here.load::<Agenda>(id).await.unwrap().version, 3, "and memory has it now");
    }

    async fn without_memory_every_load_reads_the_log(database, partitions) {
        let mut cold = options(partitions);
        cold.hot_aggregates = 0;
        let log = database.log_with(Arc::new(SystemClock), cold).await;
        let (id, stream) = the_agenda();
        for version in 0..3 {
            assert_eq!(log.load::<Agenda>(id).await.unwrap().version, version);
            log.append(Append::new(row(10)).events(stream, version, vec![event(1)])).await.unwrap();
        }
    }

    async fn a_long_stream_loads_the_same_with_and_without_its_snapshot(database, partitions) {
        let log = database.log(partitions).await;
        let (id, stream) = the_agenda();
        let all: Vec<_> = (0..2500).map(taken).collect();
        for (n, some) in all.chunks(1250).enumerate() {
            log.append(Append::new(row(10)).events(stream, n as u64 * 1250, some.to_vec())).await.unwrap();
        }
        // More than two pages of events.
        let loaded = log.load::<Agenda>(id).await.unwrap();
        assert_eq!((loaded.version, loaded.state.occupations.len()), (2500, 2500));
        let snapshots = async || {
            sqlx::query_scalar::<_, i64>("SELECT coalesce(max(sequence), 0) FROM snapshots")
                .fetch_one(log.pool()).await.unwrap()
        };
        until("a snapshot is taken", async || snapshots().await == 2500).await;
        let third = log.append(Append::new(row(10)).events(stream, 2500, vec![taken(9999)])).await.unwrap();
        let fresh = database.log(partitions).await;
        let again = fresh.load::<Agenda>(id).await.unwrap();
        assert_eq!((again.version, again.state.occupations.len()), (2501, 2501));
        assert_eq!(again.last, third.positions.positions().next());
        // One that does not read is passed over.
        sqlx::query("UPDATE snapshots SET payload = '{\"occupations\": 7}'").execute(log.pool()).await.unwrap();
        let fresh = database.log(partitions).await;
        assert_eq!(*fresh.load::<Agenda>(id).await.unwrap().state, *again.state);
    }

    async fn a_reader_is_woken_by_an_append_and_by_a_hint_and_looks_by_itself(database, partitions) {
        let mut slow = options(partitions);
        slow.poll = Duration::from_secs(3600);
        let log = database.log_with(Arc::new(SystemClock), slow.clone()).await;
        let other = database.log_with(Arc::new(SystemClock), slow).await;
        let here = log.partition_of(slot(10));
        let wait = |number| {
            let log = log.clone();
            tokio::spawn(async move { log.wait_beyond(here, number, Duration::from_secs(20)).await.unwrap() })
        };
        assert!(!log.wait_beyond(here, 0, Duration::from_millis(10)).await.unwrap());
        let woken = wait(0);
        log.append(one(agenda(10, 0), 0, 1)).await.unwrap();
        assert!(woken.await.unwrap(), "by the append");
        assert!(log.wait_beyond(here, 0, Duration::ZERO).await.unwrap(), "at once, if it is so already");
        let woken = wait(1);
        let done = other.append(one(agenda(10, 1), 0, 1)).await.unwrap();
        // Whether it had begun to wait by then or not.
        log.hint(done.positions.positions().next().unwrap());
        assert!(woken.await.unwrap(), "by the hint");
        // By itself, with nobody to tell it.
        let quick = database.log(partitions).await;
        let waiting = tokio::spawn(async move { quick.wait_beyond(here, 2, Duration::from_secs(20)).await.unwrap() });
        other.append(one(agenda(10, 2), 0, 1)).await.unwrap();
        assert!(waiting.await.unwrap());
    }

    async fn an_old_event_is_upcast_wherever_it_is_read(database, partitions) {
        let log = database.log(partitions).await;
        let (id, stream) = the_agenda();
        log.append(Append::new(row(10)).events(stream, 0, vec![taken(1), taken(2)])).await.unwrap();
        // As an older program would have written it: without capacity.
        sqlx::query(
            "UPDATE events SET event_version = '0.9', payload = replace(payload::text, ',\"capacity\":1', '')::json
             WHERE sequence = 1",
        ).execute(log.pool()).await.unwrap();
        let old = database.log(partitions).await;
        let refused = old.load::<Agenda>(id).await;
        assert!(matches!(refused, Err(LogError::Unreadable { .. })), "an unknown version stops the reader");
        assert!(old.tail(old.partition_of(slot(10)), 0, 10).await.is_err());

        let upcaster = SemanticVersionEventUpcaster::new("SlotTaken", "1", Box::new(|mut payload| {
            payload["SlotTaken"]["capacity"] = 1.into();
            payload
        }));
        let log = EventLog::open_with(
            database.pool().clone(), master_key(), Arc::new(SystemClock), options(partitions),
            Upcasters::of(vec![Box::new(upcaster)]),
        ).await.unwrap();
        assert_eq!(log.load::<Agenda>(id).await.unwrap().state.occupations.len(), 2);
        let events: Vec<_> = everything(&log).await.into_iter().map(|r| r.event).collect();
        assert_eq!(events, [taken(1), taken(2)]);
        assert_eq!(log.stream(stream, 0, 10).await.unwrap()[0].event, taken(1));
    }

    async fn a_stream_with_a_hole_is_not_loaded(database, partitions) {
        let log = database.log(partitions).await;
        let (id, stream) = the_agenda();
        log.append(Append::new(row(10)).events(stream, 0, vec![taken(1), taken(2), taken(3)])).await.unwrap();
        sqlx::query("DELETE FROM events WHERE sequence = 2").execute(log.pool()).await.unwrap();
        assert!(matches!(log.load::<Agenda>(id).await, Err(LogError::BrokenStream(_))));
    }
}
