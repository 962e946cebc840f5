//! What a single append promises.

use std::time::Duration;

use domain::command::{ClaimHasher as _, ClaimKind, SecretKey, SecretKind};
use domain::position::PositionToken;
use event_log::testing::{TestDatabase, master_key, options};
use event_log::{Append, AppendError, EventLog, LogError, MasterKey, SystemClock};
use std::sync::Arc;

use crate::common::*;

on_1_and_7_partitions! {
    async fn events_stand_in_their_stream_and_partition_as_they_were_appended(database, partitions) {
        let log = database.log(partitions).await;
        let stream = agenda(10, 0);
        let first = log.append(one(stream, 0, 1)).await.unwrap();
        let request = Append::new(row(10)).events(stream, 1, vec![event(2), event(3)]);
        let second = log.append(request).await.unwrap();
        assert!(second.recorded_at >= first.recorded_at && !second.already);
        let read = log.stream(stream, 0, 10).await.unwrap();
        assert_eq!(read.iter().map(|r| r.sequence).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(read.iter().map(|r| r.event.clone()).collect::<Vec<_>>(), [event(1), event(2), event(3)]);
        assert_eq!(second.positions, [read[2].at].into_iter().collect());
        assert_eq!(log.stream(stream, 1, 1).await.unwrap(), read[1..2]);
        assert_eq!(everything(&log).await, read);
    }

    async fn a_conflict_brings_the_events_that_were_in_the_way(database, partitions) {
        let log = database.log(partitions).await;
        let (a, b) = (agenda(10, 0), agenda(10, 1));
        log.append(one(a, 0, 1)).await.unwrap();
        log.append(one(a, 1, 2)).await.unwrap();
        log.append(one(b, 0, 3)).await.unwrap();
        // Decided when a had one event and b none.
        let late = Append::new(row(10)).events(a, 1, vec![event(9)]).requires(b, 0);
        let Err(AppendError::Conflict { in_the_way }) = log.append(late).await else { panic!() };
        let seen: Vec<_> = in_the_way.iter().map(|r| (r.stream, r.sequence, r.event.clone())).collect();
        assert_eq!(seen, [(a, 2, event(2)), (b, 1, event(3))]);
        // Ahead of the log, as memory is after a backup was restored: nothing is in the way, and yet.
        let Err(AppendError::Conflict { in_the_way }) = log.append(one(a, 7, 9)).await else { panic!() };
        assert_eq!(in_the_way, []);
        assert_eq!(everything(&log).await.len(), 3);
    }

    async fn a_stream_that_was_only_read_must_not_have_moved(database, partitions) {
        let log = database.log(partitions).await;
        // In another partition, when there are several.
        let (read, written) = (agenda(10, 0), agenda(11, 0));
        log.append(one(read, 0, 1)).await.unwrap();
        let decide = |version| Append::new(row(11)).events(written, 0, vec![event(2)]).requires(read, version);
        assert!(matches!(log.append(decide(0)).await, Err(AppendError::Conflict { .. })));
        log.append(decide(1)).await.unwrap();
    }

    async fn a_claim_has_one_owner_until_it_is_released(database, partitions) {
        let log = database.log(partitions).await;
        let key = log.claim_key(ClaimKind::Email, "ana@example.com");
        let (ana, bia) = (agenda(1, 0).id, agenda(2, 0).id);
        let take = |owner| { let mut a = Append::new(row(1)); a.take.push((key, owner)); a };
        let release = |owner| { let mut a = Append::new(row(1)); a.release.push((key, owner)); a };
        log.append(take(ana)).await.unwrap();
        log.append(take(ana)).await.unwrap();
        assert!(matches!(log.append(take(bia)).await, Err(AppendError::ClaimTaken)));
        log.append(release(bia)).await.unwrap();
        assert_eq!(log.claim_owner(key).await.unwrap(), Some(ana));
        log.append(release(ana)).await.unwrap();
        assert_eq!(log.claim_owner(key).await.unwrap(), None);
        log.append(take(bia)).await.unwrap();
        assert_eq!(log.claim_owner(key).await.unwrap(), Some(bia));
    }

    async fn secrets_commit_with_the_events_or_not_at_all(database, partitions) {
        let log = database.log(partitions).await;
        let stream = agenda(10, 0);
        let key = SecretKey { owner: stream.id, kind: SecretKind::PasswordHash };
        let put = |expected, value: &[u8]| {
            let mut request = one(stream, expected, 1);
            request.put.push((key, value.to_vec()));
            request
        };
        log.append(put(0, b"first")).await.unwrap();
        assert!(matches!(log.append(put(0, b"second")).await, Err(AppendError::Conflict { .. })));
        assert_eq!(log.secret(key).await.unwrap().as_deref(), Some(b"first".as_slice()));
        log.append(put(1, b"third")).await.unwrap();
        assert!(!log.swap_secret(key, b"first", b"x").await.unwrap());
        assert!(log.swap_secret(key, b"third", b"fourth").await.unwrap());
        assert_eq!(log.secret(key).await.unwrap().as_deref(), Some(b"fourth".as_slice()));
        let mut drop = Append::new(row(10));
        drop.drop.push(key);
        log.append(drop).await.unwrap();
        assert_eq!(log.secret(key).await.unwrap(), None);
    }

    async fn a_request_that_spans_partitions_is_all_or_nothing(database, partitions) {
        let log = database.log(partitions).await;
        let (a, b, c) = (agenda(3, 0), agenda(4, 0), agenda(5, 0));
        let spanning = |c_version| Append::new(row(4))
            .events(b, 0, vec![event(1), event(2)])
            .events(a, 0, vec![event(3)])
            .requires(c, c_version);
        assert!(matches!(log.append(spanning(1)).await, Err(AppendError::Conflict { .. })));
        assert_eq!(everything(&log).await, []);
        let keyed = Append { command: keyed_row(4, 1, 1, r#"{"n":1}"#), ..spanning(0) };
        let done = log.append(keyed.clone()).await.unwrap();
        let all = everything(&log).await;
        assert_eq!(done.positions, all.iter().map(|r| r.at).collect::<PositionToken>());
        assert_eq!(done.positions.positions().count(), if partitions == 1 { 1 } else { 2 });
        let again = log.append(keyed).await.unwrap();
        assert!(again.already);
        assert_eq!((again.positions, again.result), (done.positions, done.result));
        assert_eq!(everything(&log).await, all);
    }

    async fn a_known_command_gets_its_first_answer_and_another_body_is_refused(database, partitions) {
        let log = database.log(partitions).await;
        let stream = agenda(10, 0);
        let request = |n, fingerprint, result| {
            Append { command: keyed_row(10, n, fingerprint, result), ..one(stream, 0, 1) }
        };
        let first = log.append(request(1, 1, r#"{"a":1}"#)).await.unwrap();
        let again = log.append(request(1, 1, r#"{"a":2}"#)).await.unwrap();
        assert!(again.already && !first.already);
        assert_eq!((&again.result, &again.positions), (&first.result, &first.positions));
        assert_eq!(again.recorded_at, first.recorded_at);
        assert!(matches!(log.append(request(1, 2, "{}")).await, Err(AppendError::KeyReused)));
        assert!(matches!(log.append(request(2, 1, "{}")).await, Err(AppendError::Conflict { .. })));
        // An accepted command without events is kept too, at no position.
        let empty = || Append::new(keyed_row(10, 3, 1, r#"{"none":true}"#));
        assert!(log.append(empty()).await.unwrap().positions.is_empty());
        let again = log.append(empty()).await.unwrap();
        assert!(again.already && again.positions.is_empty());
        assert_eq!(again.result, r#"{"none":true}"#);
    }

    async fn commands_are_purged_when_they_are_old_and_not_before(database, partitions) {
        let log = database.log(partitions).await;
        let request = || Append { command: keyed_row(10, 1, 1, "{}"), ..one(agenda(10, 0), 0, 1) };
        log.append(request()).await.unwrap();
        log.append(one(agenda(11, 0), 0, 1)).await.unwrap();
        assert_eq!(log.purge_commands(Duration::from_secs(3600)).await.unwrap(), 0);
        assert!(log.append(request()).await.unwrap().already);
        assert_eq!(log.purge_commands(Duration::ZERO).await.unwrap(), 2);
        assert!(matches!(log.append(request()).await, Err(AppendError::Conflict { .. })));
    }

    async fn one_bad_request_of_a_batch_does_not_fail_its_neighbours(database, partitions) {
        let log = database.log(partitions).await;
        let first = agenda(10, 999);
        log.append(one(first, 0, 0)).await.unwrap();
        // While the head is held, all of these gather; then they go as one batch, or two.
        let mut holder = log.pool().begin().await.unwrap();
        sqlx::query("SELECT FROM heads FOR UPDATE").execute(&mut *holder).await.unwrap();
        let mut tasks = Vec::new();
        for n in 0..60 {
            let request = match n % 6 {
                // A conflict, a claim that is taken by the one before, a payload Postgres cannot store.
                3 => one(first, 0, n),
                _ => one(agenda(10, n), 0, n),
            };
            let log = log.clone();
            tasks.push((n, tokio::spawn(async move { log.append(request).await })));
            tokio::task::yield_now().await;
        }
        until("an append waits for the head", async || somebody_waits(log.pool()).await).await;
        holder.rollback().await.unwrap();
        for (n, task) in tasks {
            match task.await.unwrap() {
                Ok(_) => assert_ne!(n % 6, 3, "request {n}"),
                Err(AppendError::Conflict { in_the_way }) => {
                    assert_eq!(n % 6, 3, "request {n}");
                    assert_eq!(in_the_way[0].event, event(0));
                }
                Err(other) => panic!("request {n}: {other:?}"),
            }
        }
        assert_eq!(everything(&log).await.len(), 51);
    }

    async fn a_request_that_kills_its_batch_fails_alone(database, partitions) {
        let log = database.log(partitions).await;
        // No column of the log refuses what the codec lets through, so a trigger plays the part.
        sqlx::raw_sql(
            "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN IF new.result = 'poison' THEN RAISE EXCEPTION 'poisoned'; END IF; RETURN new; END$$;
             CREATE TRIGGER poison BEFORE INSERT ON commands FOR EACH ROW EXECUTE FUNCTION poison()",
        )
        .execute(log.pool())
        .await
        .unwrap();
        let mut holder = log.pool().begin().await.unwrap();
        sqlx::query("SELECT FROM heads FOR UPDATE").execute(&mut *holder).await.unwrap();
        let tasks: Vec<_> = (0..20)
            .map(|n| {
                let mut request = one(agenda(10, n), 0, n);
                if n == 7 {
                    request.command.result = "poison".to_owned();
                }
                let log = log.clone();
                tokio::spawn(async move { log.append(request).await })
            })
            .collect();
        until("an append waits for the head", async || somebody_waits(log.pool()).await).await;
        holder.rollback().await.unwrap();
        for (n, task) in tasks.into_iter().enumerate() {
            match task.await.unwrap() {
                Ok(_) => assert_ne!(n, 7),
                Err(AppendError::Failed(_)) => assert_eq!(n, 7),
                Err(other) => panic!("request {n}: {other:?}"),
            }
        }
        assert_eq!(everything(&log).await.len(), 19);
    }

    async fn a_caller_who_goes_away_does_not_stop_an_append(database, partitions) {
        let log = database.log(partitions).await;
        let mut holder = log.pool().begin().await.unwrap();
        sqlx::query("SELECT FROM heads FOR UPDATE").execute(&mut *holder).await.unwrap();
        let gone = tokio::spawn({
            let log = log.clone();
            async move { log.append(one(agenda(10, 0), 0, 1)).await }
        });
        until("the append waits for the head", async || somebody_waits(log.pool()).await).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        holder.rollback().await.unwrap();
        until("it is appended", async || !log.heads().await.unwrap().is_empty()).await;
        // And the log goes on.
        log.append(one(agenda(10, 0), 1, 2)).await.unwrap();
    }

    async fn how_far_the_log_is_recorded_includes_what_is_about_to_be_committed(database, partitions) {
        let log = database.log_with(Arc::new(SystemClock), options(partitions)).await;
        log.append(one(agenda(10, 0), 0, 1)).await.unwrap();
        let before = log.recorded_until().await.unwrap();
        // An append that has taken its instant, and is slow to commit.
        let mut writer = log.pool().begin().await.unwrap();
        let instant: domain::Instant = sqlx::query_scalar(
            "UPDATE heads SET recorded_at = clock_timestamp() WHERE partition = $1 RETURNING recorded_at",
        )
        .bind(i16::try_from(partitions - 1).unwrap())
        .fetch_one(&mut *writer)
        .await
        .unwrap();
        let asked = tokio::spawn({
            let log = log.clone();
            async move { log.recorded_until().await }
        });
        until("it waits for the writer", async || somebody_waits(log.pool()).await).await;
        writer.commit().await.unwrap();
        let until = asked.await.unwrap().unwrap();
        assert_eq!(until, instant);
        assert!(until > before);
        let after = log.append(one(agenda(10, 0), 1, 2)).await.unwrap();
        assert!(after.recorded_at > until);
    }

    async fn what_other_partitions_append_while_one_is_waited_for_is_not_covered(database, partitions) {
        let log = database.log_with(Arc::new(SystemClock), options(partitions)).await;
        let last = domain::position::Partition(partitions - 1);
        let mut writer = log.pool().begin().await.unwrap();
        let touch = "UPDATE heads SET recorded_at = clock_timestamp() WHERE partition = $1";
        let touch = || sqlx::query(touch).bind(i16::try_from(last.0).unwrap());
        touch().execute(&mut *writer).await.unwrap();
        let asked = tokio::spawn({
            let log = log.clone();
            async move { log.recorded_until().await }
        });
        until("it waits for the writer", async || somebody_waits(log.pool()).await).await;
        // With one partition there is no other; what the writer itself records last is not covered either.
        let other = (0..4096).find(|bits| log.partition_of(slot(*bits)) != last);
        let meanwhile = match other {
            Some(bits) => Some(log.append(one(agenda(bits, 0), 0, 1)).await.unwrap().recorded_at),
            None => None,
        };
        touch().execute(&mut *writer).await.unwrap();
        let end = "SELECT recorded_at FROM heads WHERE partition = $1";
        let end: domain::Instant = sqlx::query_scalar(end).bind(i16::try_from(last.0).unwrap()).fetch_one(&mut *writer).await.unwrap();
        writer.commit().await.unwrap();
        let until = asked.await.unwrap().unwrap();
        assert!(until < meanwhile.unwrap_or(end), "{until} {meanwhile:?} {end}");
    }

    async fn a_head_that_is_held_for_long_is_answered_busy_in_time(database, partitions) {
        let mut options = options(partitions);
        options.lock_timeout = Duration::from_millis(100);
        let log = database.log_with(Arc::new(SystemClock), options).await;
        let mut holder = log.pool().begin().await.unwrap();
        sqlx::query("SELECT FROM heads FOR UPDATE").execute(&mut *holder).await.unwrap();
        let refused = log.append(one(agenda(10, 0), 0, 1)).await;
        assert!(matches!(refused, Err(AppendError::Busy)), "{refused:?}");
        holder.rollback().await.unwrap();
        log.append(one(agenda(10, 0), 0, 1)).await.unwrap();
    }

    async fn more_than_a_lane_holds_is_refused_as_busy(database, partitions) {
        let mut options = options(partitions);
        (options.queue_max, options.coalesce_max) = (4, 4);
        let log = database.log_with(Arc::new(SystemClock), options).await;
        let mut holder = log.pool().begin().await.unwrap();
        sqlx::query("SELECT FROM heads FOR UPDATE").execute(&mut *holder).await.unwrap();
        let tasks: Vec<_> = (0..64)
            .map(|n| {
                let log = log.clone();
                tokio::spawn(async move { log.append(one(agenda(10, n), 0, n)).await })
            })
            .collect();
        let mut refused = 0;
        until("somebody is refused", async || {
            refused = tasks.iter().filter(|t| t.is_finished()).count();
            refused > 0
        })
        .await;
        holder.rollback().await.unwrap();
        let (mut done, mut busy) = (0, 0);
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => done += 1,
                Err(AppendError::Busy) => busy += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(busy > 0 && done >= 4, "{done} done, {busy} busy");
        assert_eq!(everything(&log).await.len(), done);
    }
}

#[tokio::test]
async fn what_no_caller_should_ask_for_is_refused_before_it_is_sent() {
    let database = TestDatabase::create().await;
    let log = database.log(4).await;
    let (a, b) = (agenda(1, 0), agenda(1, 1));
    let twice = one(a, 0, 1).events(a, 1, vec![event(2)]);
    let both = one(a, 0, 1).requires(a, 0);
    let none = Append::new(row(1)).events(b, 0, Vec::new());
    let mut other_kind = a;
    other_kind.kind = domain::aggregate::StreamKind::Account;
    let foreign = Append::new(row(1)).events(other_kind, 0, vec![event(1)]);
    for request in [twice, both, none, foreign] {
        let refused = log.append(request).await;
        assert!(matches!(refused, Err(AppendError::Failed(LogError::Malformed(_)))), "{refused:?}");
    }
    assert_eq!(everything(&log).await, []);
}

#[tokio::test]
async fn a_log_opens_only_as_it_was_created() {
    let database = TestDatabase::create().await;
    let open = |key: MasterKey, partitions| {
        EventLog::open(database.pool().clone(), key, Arc::new(SystemClock), options(partitions))
    };
    let log = open(master_key(), 4).await.unwrap();
    let other = open(master_key(), 5).await;
    assert!(matches!(other.err(), Some(LogError::Partitions { stored: 4, wanted: 5 })));
    let other = open(MasterKey::from_bytes([1; 32]), 4).await;
    assert!(matches!(other.err(), Some(LogError::WrongMasterKey)));
    assert_eq!(open(master_key(), 4).await.unwrap().id(), log.id());
}

#[tokio::test]
async fn servers_that_start_at_once_create_one_log() {
    let database = TestDatabase::create().await;
    let opened = (0..8).map(|_| {
        let pool = database.pool().clone();
        tokio::spawn(EventLog::open(pool, master_key(), Arc::new(SystemClock), options(7)))
    });
    let mut ids = Vec::new();
    for log in opened.collect::<Vec<_>>() {
        ids.push(log.await.unwrap().unwrap().id());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    assert!(database.log(7).await.heads().await.unwrap().is_empty());
}

#[tokio::test]
async fn recorded_at_is_the_clocks_and_never_goes_back() {
    let database = TestDatabase::create().await;
    let clock = Arc::new(event_log::testing::FrozenClock::at_text("2031-05-01T10:00:00.000001Z"));
    let log = database.log_with(clock.clone(), options(1)).await;
    let first = log.append(one(agenda(1, 0), 0, 1)).await.unwrap();
    assert_eq!(first.recorded_at.to_rfc3339(), "2031-05-01T10:00:00.000001+00:00");
    clock.advance(chrono::TimeDelta::hours(-1));
    let second = log.append(one(agenda(1, 0), 1, 2)).await.unwrap();
    assert_eq!(second.recorded_at, first.recorded_at);
    everything(&log).await;
}
