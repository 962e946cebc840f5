//! What projectors keep: checkpoints, leases, parked events.

use std::time::Duration;

use domain::position::{Partition, Position};
use event_log::checkpoints::{self, CheckpointError};
use event_log::testing::TestDatabase;
use event_log::{leases, parked};

use crate::common::*;

const P: Partition = Partition(3);
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_checkpoint_moves_only_from_where_it_stands_and_with_its_transaction() {
    let database = TestDatabase::create().await;
    let pool = database.pool();
    assert_eq!(checkpoints::get(pool, "x", P).await.unwrap(), 0);
    let mut tx = pool.begin().await.unwrap();
    checkpoints::advance(&mut tx, "x", P, 0, 10, None).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(checkpoints::get(pool, "x", P).await.unwrap(), 0);
    for (from, to) in [(0, 10), (10, 15)] {
        let mut tx = pool.begin().await.unwrap();
        checkpoints::advance(&mut tx, "x", P, from, to, None).await.unwrap();
        tx.commit().await.unwrap();
    }
    for from in [0, 10, 14, 16] {
        let mut tx = pool.begin().await.unwrap();
        let moved = checkpoints::advance(&mut tx, "x", P, from, 20, None).await;
        assert!(matches!(moved, Err(CheckpointError::Moved)), "from {from}");
    }
    assert_eq!(checkpoints::all(pool, "x").await.unwrap().to_string(), "3:15");
    assert!(checkpoints::all(pool, "y").await.unwrap().is_empty());
    let mut tx = pool.begin().await.unwrap();
    checkpoints::reset(&mut tx, "x").await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(checkpoints::get(pool, "x", P).await.unwrap(), 0);
}

#[tokio::test]
async fn of_two_who_apply_the_same_batch_one_rolls_back() {
    let database = TestDatabase::create().await;
    let pool = database.pool();
    for from in [0, 10] {
        let mut first = pool.begin().await.unwrap();
        checkpoints::advance(&mut first, "x", P, from, from + 10, None).await.unwrap();
        let second = tokio::spawn({
            let pool = pool.clone();
            async move {
                let mut second = pool.begin().await.unwrap();
                checkpoints::advance(&mut second, "x", P, from, from + 10, None).await
            }
        });
        until("the second waits", async || somebody_waits(pool).await).await;
        first.commit().await.unwrap();
        assert!(matches!(second.await.unwrap(), Err(CheckpointError::Moved)));
    }
    assert_eq!(checkpoints::get(pool, "x", P).await.unwrap(), 20);
}

#[tokio::test]
async fn a_lease_has_one_holder_and_a_holder_that_lost_it_cannot_move_the_checkpoint() {
    let database = TestDatabase::create().await;
    let pool = database.pool();
    let first = leases::acquire(pool, "x", P, "a", LONG).await.unwrap().unwrap();
    assert_eq!(leases::acquire(pool, "x", P, "b", LONG).await.unwrap(), None);
    assert!(leases::renew(pool, &first).await.unwrap());
    // It sleeps through its expiry.
    sqlx::query("UPDATE leases SET expires_at = clock_timestamp()").execute(pool).await.unwrap();
    let second = leases::acquire(pool, "x", P, "b", LONG).await.unwrap().unwrap();
    assert_eq!(second.epoch, first.epoch + 1);
    assert!(!leases::renew(pool, &first).await.unwrap());
    leases::release(pool, &first).await.unwrap();
    assert_eq!(leases::acquire(pool, "x", P, "c", LONG).await.unwrap(), None, "b still holds it");
    let mut tx = pool.begin().await.unwrap();
    let stale = checkpoints::advance(&mut tx, "x", P, 0, 5, Some(&first)).await;
    assert!(matches!(stale, Err(CheckpointError::Moved)));
    tx.rollback().await.unwrap();
    let mut tx = pool.begin().await.unwrap();
    checkpoints::advance(&mut tx, "x", P, 0, 5, Some(&second)).await.unwrap();
    tx.commit().await.unwrap();
    leases::release(pool, &second).await.unwrap();
    let third = leases::acquire(pool, "x", P, "c", LONG).await.unwrap().unwrap();
    assert_eq!(third.epoch, second.epoch + 1);
}

#[tokio::test]
async fn nobody_takes_a_lease_over_while_its_holder_commits() {
    let database = TestDatabase::create().await;
    let pool = database.pool();
    let first = leases::acquire(pool, "x", P, "a", LONG).await.unwrap().unwrap();
    let mut tx = pool.begin().await.unwrap();
    checkpoints::advance(&mut tx, "x", P, 0, 5, Some(&first)).await.unwrap();
    let taking = tokio::spawn({
        let pool = pool.clone();
        async move {
            // Even if it has expired by the clock.
            leases::acquire(&pool, "x", P, "a", LONG).await.unwrap()
        }
    });
    until("the other waits", async || somebody_waits(pool).await).await;
    tx.commit().await.unwrap();
    assert_eq!(taking.await.unwrap().unwrap().epoch, 2);
    assert_eq!(checkpoints::get(pool, "x", P).await.unwrap(), 5);
}

#[tokio::test]
async fn parked_events_are_listed_retried_in_order_by_one_and_removed() {
    let database = TestDatabase::create().await;
    let pool = database.pool();
    let at = |number| Position { partition: P, number };
    let mut tx = pool.begin().await.unwrap();
    for (document, number, error) in
        [("d", 7, "no"), ("d", 9, "parked"), ("e", 8, "no"), ("d", 7, "no!")]
    {
        parked::park(&mut tx, "x", document, at(number), error).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let documents = parked::documents(&mut connection, "x", P).await.unwrap();
    assert_eq!(documents.into_iter().collect::<Vec<_>>(), ["d", "e"]);
    assert!(parked::documents(&mut connection, "x", Partition(0)).await.unwrap().is_empty());
    let all = parked::list(pool, None, 10).await.unwrap();
    assert_eq!(all.len(), 3);
    let first = all.iter().find(|p| p.at == at(7)).unwrap();
    assert_eq!((first.attempts, first.error.as_str()), (2, "no!"));
    assert_eq!(parked::list(pool, Some("y"), 10).await.unwrap(), []);

    let mut one = pool.begin().await.unwrap();
    let taken = parked::take_for_retry(&mut one, "x", P, "d").await.unwrap();
    assert_eq!(taken.iter().map(|p| p.at.number).collect::<Vec<_>>(), [7, 9]);
    let mut two = pool.begin().await.unwrap();
    assert_eq!(parked::take_for_retry(&mut two, "x", P, "d").await.unwrap(), []);
    parked::remove(&mut one, "x", "d", at(7)).await.unwrap();
    one.commit().await.unwrap();
    let left = parked::take_for_retry(&mut two, "x", P, "d").await.unwrap();
    assert_eq!(left.iter().map(|p| p.at.number).collect::<Vec<_>>(), [9]);
    parked::remove(&mut two, "x", "d", at(9)).await.unwrap();
    parked::reset(&mut two, "x").await.unwrap();
    two.commit().await.unwrap();
    assert_eq!(parked::list(pool, None, 10).await.unwrap(), []);
}
