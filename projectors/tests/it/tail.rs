//! The shared tail: whoever reads how ever, nobody skips a position and nobody sees one twice.

use std::sync::Arc;
use std::time::Duration;

use domain::position::Partition;
use event_log::testing::TestDatabase;
use projectors::tail::SharedTail;

use crate::common::*;

const P: Partition = Partition(0);

/// More events than the ring keeps.
const EVENTS: u64 = 9_000;

/// Reads everything from a position on, so many at a time, and checks what it sees.
async fn reader(tail: Arc<SharedTail>, from: u64, limits: Vec<u32>, every: Duration) -> u64 {
    let (mut at, mut n) = (from, 0);
    while at < EVENTS {
        let limit = limits[n % limits.len()];
        n += 1;
        let events = tail.read(P, at, limit).await.unwrap();
        assert!(events.len() <= usize::try_from(limit).unwrap());
        for event in &events {
            at += 1;
            assert_eq!((event.at.partition, event.at.number), (P, at));
        }
        if events.is_empty() {
            tail.wait(P, at, Duration::from_millis(50)).await.unwrap();
        }
        if !every.is_zero() {
            // A slow one: what is under test is falling behind, not being woken.
            tokio::time::sleep(every).await;
        }
    }
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_of_any_pace_see_every_position_once_while_others_append() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let tail = SharedTail::new(log.clone());
    let mut readers = tokio::task::JoinSet::new();
    for (limits, every_ms) in
        [(vec![500], 0), (vec![1, 7, 500], 0), (vec![3, 64], 0), (vec![500], 40), (vec![100], 5)]
    {
        let every = Duration::from_millis(every_ms);
        readers.spawn(reader(tail.clone(), 0, limits, every));
    }
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..3 {
        let log = log.clone();
        writers.spawn(async move {
            for i in 0..EVENTS / 3 / 50 {
                append(&log, agenda(n, 0), i * 50, 50).await;
            }
        });
    }
    // One that begins in the middle, ahead of all others for a while or not; and one far behind at the end.
    readers.spawn(reader(tail.clone(), EVENTS / 2, vec![500, 2], Duration::ZERO));
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    readers.spawn(reader(tail.clone(), 0, vec![500], Duration::ZERO));
    while let Some(read) = readers.join_next().await {
        assert_eq!(read.unwrap(), EVENTS);
    }
    assert_eq!(tail.head(P).await, EVENTS);
}

#[tokio::test]
async fn a_reader_ahead_of_the_ring_and_one_behind_it_both_read_on_without_a_gap() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    append(&log, agenda(0, 0), 0, 100).await;
    let tail = SharedTail::new(log.clone());
    let numbers = async |after, limit| -> Vec<u64> {
        let events = tail.read(P, after, limit).await.unwrap();
        events.iter().map(|event| event.at.number).collect()
    };
    // The ring holds 11 to 20, begins anew at 61, and again at 81; who is behind it reads past it.
    for (after, limit, expected) in [
        (10, 10, 11..=20),
        (12, 3, 13..=15),
        (60, 10, 61..=70),
        (15, 10, 16..=25),
        (30, 50, 31..=80),
        (60, 30, 61..=70),
        (80, 50, 81..=100),
        (0, 5, 1..=5),
        (79, 3, 80..=82),
    ] {
        assert_eq!(numbers(after, limit).await, expected.collect::<Vec<_>>(), "after {after}");
    }
    assert!(numbers(100, 10).await.is_empty());
}
