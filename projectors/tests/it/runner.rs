//! Leases, taking over, fencing, patience, and what the runner says of itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::position::Partition;
use event_log::checkpoints;
use event_log::testing::{PARTITIONS, TestDatabase};
use projectors::runner::{Runner, Sharing};
use projectors::tail::SharedTail;
use tokio_util::sync::CancellationToken;

use crate::common::*;

/// A process: a runner with one obedient projector.
struct Process {
    projector: Arc<Obedient>,
    runner: Runner,
    stop: CancellationToken,
}

impl Process {
    async fn start(database: &TestDatabase, partitions: u16) -> Self {
        let log = database.log(partitions).await;
        let projector = Obedient::new(&log, true);
        let stop = CancellationToken::new();
        let mut runner = Runner::new(SharedTail::new(log), stop.clone()).with_lease(LEASE);
        runner.start(projector.clone(), Sharing::Leased);
        Self { projector, runner, stop }
    }

    async fn stop(self) -> Arc<Obedient> {
        self.stop.cancel();
        self.runner.join().await;
        self.projector
    }
}

/// Appends three events to each of so many streams, spread over all partitions.
async fn work(log: &event_log::EventLog, from: u32, streams: u32) {
    for n in from..from + streams {
        let bits = u16::try_from(n * 37).unwrap();
        append(log, agenda(bits, n), 0, 3).await;
    }
}

#[tokio::test]
async fn of_two_processes_one_works_and_when_it_stops_the_other_goes_on_where_it_was() {
    for partitions in PARTITIONS {
        let database = TestDatabase::create().await;
        let log = database.log(partitions).await;
        work(&log, 0, 10).await;
        let first = Process::start(&database, partitions).await;
        caught_up(&log, Obedient::NAME).await;
        let second = Process::start(&database, partitions).await;
        work(&log, 10, 10).await;
        caught_up(&log, Obedient::NAME).await;
        assert_eq!(second.projector.count(), 0, "the first holds every lease");

        let first = first.stop().await;
        assert_eq!(first.count(), 60);
        let stopped = Instant::now();
        work(&log, 20, 10).await;
        caught_up(&log, Obedient::NAME).await;
        assert!(stopped.elapsed() < LEASE * 2, "{:?}", stopped.elapsed());
        let second = second.stop().await;
        assert_eq!((first.count(), second.count()), (60, 30));
        for (partition, mut applied) in first.by_partition() {
            applied.extend(second.by_partition().remove(&partition).unwrap_or_default());
            let head = log.head(partition).await.unwrap();
            assert_eq!(applied, (1..=head).collect::<Vec<_>>(), "each once, in order");
        }
    }
}

#[tokio::test]
async fn when_a_process_is_killed_another_takes_over_once_the_lease_has_expired() {
    for partitions in PARTITIONS {
        let database = TestDatabase::create().await;
        let log = database.log(partitions).await;
        work(&log, 0, 10).await;
        let first = Process::start(&database, partitions).await;
        caught_up(&log, Obedient::NAME).await;
        let second = Process::start(&database, partitions).await;

        // Dropped, it neither finishes nor gives back its leases.
        let Process { projector: first, runner, stop: _ } = first;
        drop(runner);
        let killed = Instant::now();
        work(&log, 10, 10).await;
        caught_up(&log, Obedient::NAME).await;
        assert!(killed.elapsed() < LEASE * 3, "{:?}", killed.elapsed());
        assert_eq!((first.count(), second.stop().await.count()), (30, 30));
    }
}

#[tokio::test]
async fn a_process_that_slept_through_its_lease_moves_no_checkpoint() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let stream = agenda(5, 0);
    let first = Process::start(&database, 1).await;
    first.projector.order(stream, Order::Wait);
    append(&log, stream, 0, 1).await;
    first.projector.waits.notified().await;
    // It stands in the middle of a batch. Its lease runs out, and another process applies the batch.
    let second = Process::start(&database, 1).await;
    sqlx::query("UPDATE leases SET owner = 'nobody', epoch = epoch + 1, expires_at = '-infinity'")
        .execute(log.pool())
        .await
        .unwrap();
    caught_up(&log, Obedient::NAME).await;
    assert_eq!(second.projector.of(stream), [1]);
    first.projector.order(stream, Order::Apply);
    first.projector.gate.notify_one();
    append(&log, stream, 1, 1).await;
    caught_up(&log, Obedient::NAME).await;
    assert_eq!(second.stop().await.of(stream), [1, 2]);
    assert_eq!(first.stop().await.count(), 0, "what it had done was rolled back");
    assert_eq!(checkpoints::get(log.pool(), Obedient::NAME, Partition(0)).await.unwrap(), 2);
}

#[tokio::test]
async fn a_batch_that_takes_longer_than_a_lease_keeps_it() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let stream = agenda(5, 0);
    let first = Process::start(&database, 1).await;
    first.projector.order(stream, Order::Wait);
    append(&log, stream, 0, 1).await;
    first.projector.waits.notified().await;
    let second = Process::start(&database, 1).await;
    let began = Instant::now();
    until("three leases have passed", async || began.elapsed() > LEASE * 3).await;
    assert_eq!(second.projector.tries.lock().unwrap().len(), 0);
    first.projector.gate.notify_one();
    caught_up(&log, Obedient::NAME).await;
    assert_eq!((first.stop().await.count(), second.stop().await.count()), (1, 0));
}

#[tokio::test]
async fn what_fails_because_something_is_away_is_tried_again_later_and_later_and_applied_once() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let (away, other) = (agenda(5, 0), agenda(5, 1));
    let process = Process::start(&database, 1).await;
    process.projector.order(away, Order::BeAway);
    append(&log, away, 0, 2).await;
    append(&log, other, 0, 1).await;
    until("it has tried six times", async || process.projector.tries.lock().unwrap().len() >= 6)
        .await;
    assert_eq!(process.projector.count(), 0, "nobody overtakes");
    process.projector.order(away, Order::Apply);
    caught_up(&log, Obedient::NAME).await;
    let projector = process.stop().await;
    assert_eq!(projector.of(away), [1, 2]);
    assert_eq!(projector.of(other), [3]);
    let tries = projector.tries.lock().unwrap().clone();
    let pause = |n: usize| tries[n + 1] - tries[n];
    // 50 ms doubled each time, halved at most by chance.
    assert!(pause(4) >= Duration::from_millis(400), "{:?}", pause(4));
    assert!(pause(4) > pause(0) * 3, "{:?}, {:?}", pause(0), pause(4));
    let parked: i64 =
        sqlx::query_scalar("SELECT count(*) FROM parked").fetch_one(log.pool()).await.unwrap();
    assert_eq!(parked, 0);
}

#[tokio::test]
async fn the_lag_is_what_the_leader_has_not_applied_and_nothing_elsewhere() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let gauge = |name: &str| -> f64 {
        let text = metrics.render();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{"))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let stream = agenda(5, 0);
    append(&log, stream, 0, 40).await;
    let process = Process::start(&database, 1).await;
    process.projector.order(stream, Order::BeAway);
    until("it says how far behind it is", async || {
        gauge("pontual_projector_behind_events") == 40.0
    })
    .await;
    assert_eq!(gauge("pontual_projector_leading"), 1.0);
    assert!(gauge("pontual_projector_failures_total") >= 1.0);
    // However often it fails, what it has not applied grows older.
    let lag = gauge("pontual_projector_lag_seconds");
    until("it says that it falls behind", async || {
        gauge("pontual_projector_lag_seconds") > lag + 0.2
    })
    .await;
    append(&log, stream, 40, 20).await;
    until("it says so of what came since", async || {
        gauge("pontual_projector_behind_events") == 60.0
    })
    .await;
    process.projector.order(stream, Order::Apply);
    caught_up(&log, Obedient::NAME).await;
    until("it has caught up", async || gauge("pontual_projector_behind_events") == 0.0).await;
    assert_eq!(gauge("pontual_projector_lag_seconds"), 0.0);
    process.stop().await;
    assert_eq!(gauge("pontual_projector_leading"), 0.0);
}
