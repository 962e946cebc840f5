//! The seal: what is changed behind the log's back does not verify.

use event_log::verify::{ExportedBatch, Proven, Tampered, Verifier, VerifyError};
use event_log::{Append, EventLog};
use proptest::prelude::*;

use crate::common::*;

async fn some_events(log: &EventLog) {
    for n in 0..6 {
        let stream = agenda(10, n);
        log.append(Append::new(row(10)).events(stream, 0, vec![event(n), event(100 + n)]))
            .await
            .unwrap();
    }
}

/// Runs this against a fresh copy of the events, and says what the verification found.
async fn after(log: &EventLog, sql: &str) -> Result<Proven, VerifyError> {
    let here = log.partition_of(slot(10));
    sqlx::raw_sql(
        "CREATE TABLE e AS TABLE events; CREATE TABLE l AS TABLE links; CREATE TABLE h AS TABLE heads",
    )
    .execute(log.pool())
    .await
    .unwrap();
    sqlx::raw_sql(sql).execute(log.pool()).await.unwrap();
    let found = log.verify(here, None).await;
    sqlx::raw_sql(
        "TRUNCATE events, links, heads; INSERT INTO events TABLE e; INSERT INTO links TABLE l;
         INSERT INTO heads TABLE h; DROP TABLE e, l, h",
    )
    .execute(log.pool())
    .await
    .unwrap();
    log.verify(here, None).await.unwrap();
    found
}

on_1_and_7_partitions! {
    async fn whatever_is_changed_added_removed_or_moved_is_found(database, partitions) {
        let log = database.log(partitions).await;
        some_events(&log).await;
        let here = log.partition_of(slot(10));
        assert_eq!(log.verify(here, None).await.unwrap().position, 12);
        for sql in [
            "UPDATE events SET payload = replace(payload::text, '2026-03-03', '2026-03-04')::json WHERE position = 3",
            // The same JSON, another text.
            "UPDATE events SET payload = (payload::text || ' ')::json WHERE position = 3",
            "UPDATE events SET metadata = '{}' WHERE position = 3",
            "UPDATE events SET aggregate_id = gen_random_uuid() WHERE position = 3",
            "UPDATE events SET aggregate_type = 'Account' WHERE position = 3",
            "UPDATE events SET event_type = 'SlotTaken' WHERE position = 3",
            "UPDATE events SET event_version = '2' WHERE position = 3",
            "UPDATE events SET sequence = 9 WHERE position = 3",
            "UPDATE events SET recorded_at = recorded_at - interval '1 microsecond' WHERE position = 3",
            "UPDATE events SET hash = sha256('x') WHERE position = 3",
        ] {
            let found = after(&log, sql).await;
            assert!(matches!(found, Err(VerifyError::Tampered(Tampered::Event(_)))), "{sql}: {found:?}");
        }
        for sql in [
            "DELETE FROM events WHERE position = 3",
            "DELETE FROM events WHERE position = 12",
            "DELETE FROM events WHERE position > 10; DELETE FROM links WHERE position > 10",
            "DELETE FROM links WHERE position = 4",
            "DELETE FROM links WHERE position = 12",
            "UPDATE links SET chain = sha256('x') WHERE position = 4",
            "UPDATE heads SET chain = sha256('x')",
            "UPDATE heads SET position = position - 2",
            // A whole event, with a hash that is right for it: the chain tells.
            "UPDATE events SET metadata = '{}', hash = log_event_hash(partition, position, aggregate_type,
                aggregate_id, sequence, event_type, event_version, recorded_at, payload::text, '{}')
             WHERE position = 3",
            "DELETE FROM events; DELETE FROM links",
            "INSERT INTO events SELECT 13, 1, recorded_at, gen_random_uuid(), partition, aggregate_type,
                event_type, event_version, payload, metadata, hash FROM events WHERE position = 12",
        ] {
            let found = after(&log, sql).await;
            assert!(matches!(found, Err(VerifyError::Tampered(_))), "{sql}: {found:?}");
        }
    }

    async fn an_export_is_verified_without_the_database(database, partitions) {
        let log = database.log(partitions).await;
        some_events(&log).await;
        let here = log.partition_of(slot(10));
        let mut lines = Vec::new();
        let mut after = 0;
        loop {
            let batches = log.export(here, after, 5).await.unwrap();
            let Some(last) = batches.last() else { break };
            after = last.position;
            lines.extend(batches.iter().map(|batch| serde_json::to_string(batch).unwrap()));
        }
        let batches: Vec<ExportedBatch> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut verifier = Verifier::new(log.id(), here);
        batches.iter().for_each(|batch| verifier.batch(batch).unwrap());
        assert_eq!(*verifier.proven(), log.verify(here, None).await.unwrap());
        // From the middle, for whoever kept an earlier proof.
        let mut half = Verifier::new(log.id(), here);
        half.batch(&batches[0]).unwrap();
        assert_eq!(log.verify(here, Some(half.proven().clone())).await.unwrap(), *verifier.proven());
        // Another log's, or another partition's, do not pass.
        assert!(Verifier::new(uuid::Uuid::nil(), here).batch(&batches[0]).is_err());
        assert!(Verifier::new(log.id(), domain::position::Partition(6)).batch(&batches[0]).is_err()
            || here.0 == 6);
    }
}

#[tokio::test]
async fn postgres_and_rust_agree_on_the_hash_of_any_event() {
    let database = event_log::testing::TestDatabase::create().await;
    let text = "[\\PC\"\\\\{}:, ]{0,40}";
    let any =
        (any::<(u16, u64, u128, u64)>(), text, text, text, text, 0..4_000_000_000_000_000_i64);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..200 {
        use proptest::strategy::ValueTree as _;
        let ((partition, position, id, sequence), kind, event_type, payload, metadata, micros) =
            any.new_tree(&mut runner).unwrap().current();
        let partition = domain::position::Partition(partition % 4096);
        let event = event_log::verify::ExportedEvent {
            position: position >> 1,
            aggregate_type: kind.replace('\0', ""),
            aggregate_id: uuid::Uuid::from_u128(id),
            sequence: sequence >> 1,
            event_type: event_type.replace('\0', ""),
            event_version: "1".to_owned(),
            recorded_at: chrono::DateTime::from_timestamp_micros(micros).unwrap(),
            payload: payload.replace('\0', ""),
            metadata: metadata.replace('\0', ""),
            hash: Vec::new(),
        };
        let stored: Vec<u8> =
            sqlx::query_scalar("SELECT log_event_hash($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)")
                .bind(i16::try_from(partition.0).unwrap())
                .bind(event.position.cast_signed())
                .bind(&event.aggregate_type)
                .bind(event.aggregate_id)
                .bind(event.sequence.cast_signed())
                .bind(&event.event_type)
                .bind(&event.event_version)
                .bind(event.recorded_at)
                .bind(&event.payload)
                .bind(&event.metadata)
                .fetch_one(database.pool())
                .await
                .unwrap();
        assert_eq!(stored, event_log::verify::event_hash(partition, &event), "{event:?}");
    }
}
