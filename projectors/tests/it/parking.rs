//! Poison: parked with all that follows it, while the others flow; and let go again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use domain::position::Partition;
use event_log::testing::TestDatabase;
use event_log::{EventLog, checkpoints, parked};
use projectors::runner::{Retried, Runner, Sharing, retry};
use projectors::tail::SharedTail;
use tokio_util::sync::CancellationToken;

use crate::common::*;

/// A running projector and what it runs on.
struct Running {
    log: EventLog,
    tail: Arc<SharedTail>,
    projector: Arc<Obedient>,
    _runner: Runner,
    _database: TestDatabase,
}

async fn running(parks: bool) -> Running {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let projector = Obedient::new(&log, parks);
    let tail = SharedTail::new(log.clone());
    let mut runner = Runner::new(tail.clone(), CancellationToken::new()).with_lease(LEASE);
    runner.start(projector.clone(), Sharing::Leased);
    Running { log, tail, projector, _runner: runner, _database: database }
}

impl Running {
    async fn parked(&self) -> Vec<u64> {
        let mut all = parked::list(self.log.pool(), Some(Obedient::NAME), 100).await.unwrap();
        all.sort_by_key(|parked| parked.at);
        all.into_iter().map(|parked| parked.at.number).collect()
    }

    async fn waits_for_a_lock(&self) -> bool {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock')",
        )
        .fetch_one(self.log.pool())
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn a_poisonous_event_parks_its_document_and_a_retry_applies_it_all_in_order() {
    let it = running(true).await;
    let (bad, good) = (agenda(5, 0), agenda(5, 1));
    it.projector.order(bad, Order::BePoisoned);
    append(&it.log, good, 0, 2).await; // 1, 2
    append(&it.log, bad, 0, 2).await; // 3, 4
    append(&it.log, good, 2, 1).await; // 5
    caught_up(&it.log, Obedient::NAME).await;
    append(&it.log, bad, 2, 1).await; // 6
    append(&it.log, good, 3, 1).await; // 7
    caught_up(&it.log, Obedient::NAME).await;
    assert_eq!(it.projector.of(good), [1, 2, 5, 7]);
    assert!(it.projector.of(bad).is_empty());
    assert_eq!(it.parked().await, [3, 4, 6]);
    let first = &parked::list(it.log.pool(), None, 1).await.unwrap()[0];
    assert_eq!(first.error, "told to be poisoned");

    // As long as it is poisoned, a retry says so and changes nothing.
    let again = retry(&it.tail, &*it.projector).await.unwrap();
    assert_eq!(again, Retried { applied: 0, still_parked: 1 });
    assert_eq!(it.parked().await, [3, 4, 6]);

    it.projector.order(bad, Order::Apply);
    let mended = retry(&it.tail, &*it.projector).await.unwrap();
    assert_eq!(mended, Retried { applied: 3, still_parked: 0 });
    assert_eq!(it.projector.of(bad), [3, 4, 6]);
    // The runner still takes the document for parked, and finds that it is not.
    append(&it.log, bad, 3, 1).await;
    caught_up(&it.log, Obedient::NAME).await;
    assert_eq!(it.projector.of(bad), [3, 4, 6, 8]);
    assert!(it.parked().await.is_empty());
}

#[tokio::test]
async fn an_event_that_comes_during_a_retry_is_neither_lost_nor_early() {
    let it = running(true).await;
    let bad = agenda(5, 1);
    it.projector.order(bad, Order::BePoisoned);
    append(&it.log, bad, 0, 2).await;
    caught_up(&it.log, Obedient::NAME).await;
    assert_eq!(it.parked().await, [1, 2]);

    it.projector.order(bad, Order::Wait);
    let retrying = tokio::spawn({
        let (tail, projector) = (it.tail.clone(), it.projector.clone());
        async move { retry(&tail, &*projector).await.unwrap() }
    });
    it.projector.waits.notified().await;
    // While the retry holds 1, the runner meets 3, and waits.
    append(&it.log, bad, 2, 1).await;
    until("the runner waits for the retry", async || it.waits_for_a_lock().await).await;
    // 1 goes through, 2 is still poisonous: 3 must wait behind it.
    it.projector.order(bad, Order::BePoisoned);
    it.projector.gate.notify_one();
    assert_eq!(retrying.await.unwrap(), Retried { applied: 1, still_parked: 1 });
    caught_up(&it.log, Obedient::NAME).await;
    assert_eq!((it.projector.of(bad), it.parked().await), (vec![1], vec![2, 3]));
    it.projector.order(bad, Order::Apply);
    retry(&it.tail, &*it.projector).await.unwrap();
    assert_eq!(it.projector.of(bad), [1, 2, 3]);
    assert!(it.parked().await.is_empty());
}

#[tokio::test]
async fn who_loses_the_lease_while_it_parks_an_event_parks_nothing() {
    let it = running(true).await;
    let bad = agenda(5, 0);
    it.projector.order(bad, Order::BePoisoned);
    let mut delay = it.log.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE parked IN SHARE MODE").execute(&mut *delay).await.unwrap();
    append(&it.log, bad, 0, 1).await;
    until("it is about to park", async || it.waits_for_a_lock().await).await;
    // Meanwhile its lease ran out and somebody else took it.
    let steal = "UPDATE leases SET owner = 'somebody', epoch = epoch + 1, expires_at = 'infinity'";
    sqlx::query(steal).execute(it.log.pool()).await.unwrap();
    it.projector.order(bad, Order::Apply);
    delay.commit().await.unwrap();
    // And gave it back, with the event not applied.
    let give_back = "UPDATE leases SET expires_at = '-infinity' WHERE owner = 'somebody'";
    sqlx::query(give_back).execute(it.log.pool()).await.unwrap();
    caught_up(&it.log, Obedient::NAME).await;
    assert_eq!((it.projector.of(bad), it.parked().await), (vec![1], vec![]));
}

#[tokio::test]
async fn a_projector_that_is_stuck_does_not_say_that_all_is_well() {
    let it = running(false).await;
    let bad = agenda(5, 0);
    append(&it.log, bad, 0, 1).await;
    caught_up(&it.log, Obedient::NAME).await;
    let idled = || it.projector.idled.load(Ordering::SeqCst);
    until("it idles", async || idled() > 0).await;
    it.projector.order(bad, Order::BePoisoned);
    append(&it.log, bad, 1, 1).await;
    let tried = || it.projector.tries.lock().unwrap().len();
    let (before, tries) = (idled(), tried());
    // Some 5 s with ever longer pauses: an idle one would have said so several times.
    until("it has tried a few times", async || tried() > tries + 7).await;
    assert!(idled() <= before + 1, "{} > {before}", idled());
    it.projector.order(bad, Order::Apply);
    caught_up(&it.log, Obedient::NAME).await;
    let before = idled();
    until("it idles again", async || idled() > before).await;
}

#[tokio::test]
async fn a_projector_that_panics_parks_one_document_and_lives_on() {
    let it = running(true).await;
    let (bad, good) = (agenda(5, 0), agenda(5, 1));
    it.projector.order(bad, Order::Panic);
    append(&it.log, bad, 0, 1).await;
    append(&it.log, good, 0, 1).await;
    caught_up(&it.log, Obedient::NAME).await;
    assert_eq!(it.projector.of(good), [2]);
    assert_eq!(it.parked().await, [1]);
}

#[tokio::test]
async fn a_projector_that_parks_nothing_stands_still_until_the_cause_is_mended() {
    let it = running(false).await;
    let (bad, good) = (agenda(5, 0), agenda(5, 1));
    it.projector.order(bad, Order::BePoisoned);
    append(&it.log, bad, 0, 1).await;
    append(&it.log, good, 0, 1).await;
    until("it has tried a few times", async || it.projector.tries.lock().unwrap().len() > 3).await;
    let at = checkpoints::get(it.log.pool(), Obedient::NAME, Partition(0)).await.unwrap();
    assert_eq!((at, it.parked().await), (0, vec![]));
    it.projector.order(bad, Order::Apply);
    caught_up(&it.log, Obedient::NAME).await;
    assert_eq!((it.projector.of(bad), it.projector.of(good)), (vec![1], vec![2]));
}
