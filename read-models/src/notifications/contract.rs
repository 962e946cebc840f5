//! What every notification feed must do, run against both: in a real Postgres, and in a real server that
//! speaks MongoDB's protocol.

use std::sync::Arc;
use std::time::{Duration, Instant as Timer};

use chrono::TimeDelta;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::testing::{at, id, partitions, position, server, unique, with_database};

const COUNT: u16 = 5;

type Feed = Arc<dyn NotificationFeed>;

/// Runs each of these against both feeds, under its own name.
macro_rules! contract {
    ($($name:ident;)*) => {
        mod postgres {
            $(#[tokio::test] async fn $name() {
                super::in_postgres(|feed| super::$name(feed)).await;
            })*
        }
        mod mongo {
            $(#[tokio::test] async fn $name() {
                super::in_mongo(|feed| super::$name(feed)).await;
            })*
        }
    };
}

contract! {
    what_was_stored_is_listed_as_it_was;
    the_newest_comes_first_and_pages_neither_repeat_nor_skip;
    twice_equals_once_and_nothing_unsets_a_mark;
    a_mark_may_come_before_its_notification;
    all_read_covers_what_was_recorded_until_then_whenever_it_arrives;
    the_order_of_batches_does_not_matter;
    a_socket_that_comes_back_gets_all_it_missed_and_nothing_else;
    counts_are_exact_when_small_and_bounded_when_large;
    a_batch_beyond_the_checkpoint_is_refused;
    what_was_applied_never_sinks;
    racing_writers_lose_nothing;
    a_purged_account_is_gone_and_nameless_elsewhere;
    a_cursor_of_anything_else_is_refused;
}

async fn in_postgres<F>(test: impl FnOnce(Feed) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let partitions = partitions(COUNT);
    with_database(|pool| test(Arc::new(PostgresFeed::new(pool, partitions)))).await;
}

async fn in_mongo<F>(test: impl FnOnce(Feed) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let options = MongoOptions { database: unique("test"), ..MongoOptions::default() };
    let url = server("TEST_MONGODB_URL");
    let feed = Arc::new(MongoFeed::new(&url, partitions(COUNT), options).await.unwrap());
    let outcome = tokio::spawn(test(Arc::clone(&feed) as Feed)).await;
    feed.drop_database().await;
    if let Err(failed) = outcome {
        std::panic::resume_unwind(failed.into_panic());
    }
}

fn ana() -> AccountId {
    id(1)
}

/// A notification to Ana of event `number`, recorded so many seconds after noon.
fn new(partition: u16, number: u64, second: i64) -> NewNotification {
    NewNotification {
        recipient: ana(),
        at: position(partition, number),
        recorded_at: at("2026-03-01T12:00:00.000001Z") + TimeDelta::seconds(second),
        kind: NotificationKind::NewBooking,
        appointment: Some(id(9)),
        hold: None,
        provider: id(2),
        other: id(7),
        other_name: Some(PartyName("Bia".to_owned())),
        service_name: Some("Corte".parse().unwrap()),
        start: at("2026-03-10T13:00:00Z"),
        old_start: None,
        zone: Zone::SAO_PAULO,
    }
}

fn one(notification: Position) -> ReadMark {
    ReadMark::One { recipient: ana(), notification, at: at("2026-03-02T08:00:00Z") }
}

fn all_until(second: i64) -> ReadMark {
    ReadMark::All { recipient: ana(), until: new(0, 1, second).recorded_at }
}

/// A batch of partition `partition` up to `to`, from the start: always allowed.
fn batch(
    partition: u16,
    to: u64,
    notifications: Vec<NewNotification>,
    marks: Vec<ReadMark>,
) -> FeedBatch {
    FeedBatch { partition: Partition(partition), from: 0, to, notifications, marks }
}

async fn list(feed: &Feed, filter: Filter) -> Vec<(Position, bool)> {
    let limit = PageLimit::new(100).unwrap();
    let page = feed.list(ana(), filter, None, limit).await.unwrap();
    page.items.iter().map(|item| (item.content.at, item.read)).collect()
}

async fn what_was_stored_is_listed_as_it_was(feed: Feed) {
    let mut moved = new(3, 8, 2);
    moved.kind = NotificationKind::BookingRescheduled;
    moved.old_start = Some(at("2026-03-09T13:00:00.123456Z"));
    moved.other_name = None;
    (moved.appointment, moved.hold) = (None, Some(id(11)));
    moved.zone = "Asia/Kathmandu".parse().unwrap();
    let mut foreign = new(3, 8, 2);
    foreign.recipient = id(99);
    let stored = vec![new(3, 7, 1), moved.clone(), foreign.clone()];
    feed.apply(batch(3, 10, stored, vec![])).await.unwrap();
    let page = feed.list(ana(), Filter::All, None, PageLimit::default()).await.unwrap();
    let expected = [moved, new(3, 7, 1)].map(|content| Notification { content, read: false });
    assert_eq!((page.items.as_slice(), page.next_cursor), (expected.as_slice(), None));
    let page = feed.list(id(99), Filter::Unread, None, PageLimit::default()).await.unwrap();
    assert_eq!(page.items, [Notification { content: foreign, read: false }]);
    let page = feed.list(id(98), Filter::All, None, PageLimit::default()).await.unwrap();
    assert!(page.items.is_empty());
    for kind in NotificationKind::ALL {
        let json = serde_json::to_string(&kind).unwrap();
        assert_eq!(json, format!("\"{}\"", kind.as_str()));
    }
}

async fn the_newest_comes_first_and_pages_neither_repeat_nor_skip(feed: Feed) {
    // Many of one instant, in all partitions.
    for partition in 0..COUNT {
        let stored = (1..=6)
            .map(|number| new(partition, number, i64::try_from(number / 4).unwrap()))
            .collect();
        feed.apply(batch(partition, 6, stored, vec![one(position(partition, 2))])).await.unwrap();
    }
    for (filter, expected) in [(Filter::All, 30), (Filter::Unread, 25)] {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let limit = PageLimit::new(7).unwrap();
            let page = feed.list(ana(), filter, cursor.as_deref(), limit).await.unwrap();
            assert!(page.items.len() == 7 || page.next_cursor.is_none());
            all.extend(page.items);
            cursor = page.next_cursor;
            // What arrives meanwhile is newer than all pages to come.
            feed.apply(batch(0, 9, vec![new(0, 9, 50)], vec![])).await.unwrap();
            if cursor.is_none() {
                break;
            }
        }
        let keys: Vec<FeedKey> = all.iter().map(|item| item.content.key()).collect();
        let keys: Vec<&FeedKey> =
            keys.iter().filter(|(_, partition, number)| (partition.0, *number) != (0, 9)).collect();
        assert_eq!(keys.len(), expected);
        assert!(keys.windows(2).all(|pair| pair[0] > pair[1]));
    }
}

async fn twice_equals_once_and_nothing_unsets_a_mark(feed: Feed) {
    let batch = batch(3, 9, vec![new(3, 7, 1), new(3, 7, 1), new(3, 9, 2)], vec![]);
    feed.apply(batch.clone()).await.unwrap();
    let marks = vec![one(position(3, 7)), one(position(3, 7))];
    let marks = FeedBatch { partition: Partition(1), from: 0, to: 4, notifications: vec![], marks };
    feed.apply(marks.clone()).await.unwrap();
    let expected = [(position(3, 9), false), (position(3, 7), true)];
    for _ in 0..2 {
        assert_eq!(list(&feed, Filter::All).await, expected);
        assert_eq!(list(&feed, Filter::Unread).await, expected[..1]);
        assert_eq!(feed.counts(ana()).await.unwrap(), Counts { unread: 1, total: 2 });
        feed.apply(batch.clone()).await.unwrap();
        feed.apply(marks.clone()).await.unwrap();
    }
}

async fn a_mark_may_come_before_its_notification(feed: Feed) {
    feed.apply(batch(1, 4, vec![], vec![one(position(3, 7))])).await.unwrap();
    assert_eq!(list(&feed, Filter::All).await, []);
    assert_eq!(feed.counts(ana()).await.unwrap(), Counts { unread: 0, total: 0 });
    let missed = feed.after(ana(), &PositionToken::default(), PageLimit::default()).await.unwrap();
    assert_eq!(missed, []);
    feed.apply(batch(3, 8, vec![new(3, 7, 1), new(3, 8, 1)], vec![])).await.unwrap();
    assert_eq!(list(&feed, Filter::All).await, [(position(3, 8), false), (position(3, 7), true)]);
    // Both at once.
    feed.apply(batch(3, 9, vec![new(3, 9, 2)], vec![one(position(3, 9))])).await.unwrap();
    assert_eq!(list(&feed, Filter::Unread).await, [(position(3, 8), false)]);
}

async fn all_read_covers_what_was_recorded_until_then_whenever_it_arrives(feed: Feed) {
    feed.apply(batch(3, 2, vec![new(3, 1, 1), new(3, 2, 5)], vec![])).await.unwrap();
    feed.apply(batch(1, 2, vec![], vec![all_until(3), all_until(5), all_until(4)])).await.unwrap();
    feed.apply(batch(1, 3, vec![], vec![all_until(2)])).await.unwrap();
    feed.apply(batch(4, 9, vec![new(4, 8, 4), new(4, 9, 6)], vec![])).await.unwrap();
    let expected = [
        (position(4, 9), false),
        (position(3, 2), true),
        (position(4, 8), true),
        (position(3, 1), true),
    ];
    assert_eq!(list(&feed, Filter::All).await, expected);
    assert_eq!(list(&feed, Filter::Unread).await, expected[..1]);
    assert_eq!(feed.counts(ana()).await.unwrap(), Counts { unread: 1, total: 4 });
    let missed = feed.after(ana(), &PositionToken::default(), PageLimit::default()).await.unwrap();
    let read: Vec<bool> = missed.iter().map(|item| item.read).collect();
    assert_eq!(read, [true, true, true, false]);
}

async fn the_order_of_batches_does_not_matter(feed: Feed) {
    let mut random = StdRng::seed_from_u64(11);
    let mut batches = Vec::new();
    for number in 1..=30 {
        let partition = random.random_range(0..COUNT);
        let second = random.random_range(0..20);
        batches.push(batch(partition, number, vec![new(partition, number, second)], vec![]));
        if random.random_bool(0.4) {
            batches.push(batch(0, number, vec![], vec![one(position(partition, number))]));
        }
        if random.random_bool(0.1) {
            batches.push(batch(1, number, vec![], vec![all_until(second / 2)]));
        }
    }
    let mut lists = Vec::new();
    for round in 0..3_u16 {
        // A recipient each round, so that each begins with nothing.
        let recipient: AccountId = id(100 + round);
        for batch in &batches {
            let mut batch = batch.clone();
            batch.notifications.iter_mut().for_each(|new| new.recipient = recipient);
            for mark in &mut batch.marks {
                match mark {
                    ReadMark::One { recipient: whose, .. }
                    | ReadMark::All { recipient: whose, .. } => *whose = recipient,
                }
            }
            feed.apply(batch).await.unwrap();
        }
        let limit = PageLimit::new(100).unwrap();
        let page = feed.list(recipient, Filter::All, None, limit).await.unwrap();
        let items: Vec<(Position, bool)> =
            page.items.iter().map(|item| (item.content.at, item.read)).collect();
        let unread = items.iter().filter(|(_, read)| !read).count();
        let counts = feed.counts(recipient).await.unwrap();
        assert_eq!((counts.unread, counts.total), (u64::try_from(unread).unwrap(), 30));
        assert!(unread > 3 && unread < 27, "{unread}");
        lists.push(items);
        batches.shuffle(&mut random);
    }
    assert_eq!(lists[0], lists[1]);
    assert_eq!(lists[0], lists[2]);
}

async fn a_socket_that_comes_back_gets_all_it_missed_and_nothing_else(feed: Feed) {
    for partition in 0..COUNT {
        // Within a partition recorded_at never sinks; between partitions it is anything.
        let stored = (1..=8)
            .map(|number| {
                let second = i64::try_from(number).unwrap() / 2 + i64::from(partition % 3);
                new(partition, number, second)
            })
            .collect();
        feed.apply(batch(partition, 8, stored, vec![])).await.unwrap();
    }
    let mut seen: PositionToken = "0:8,1:3,2:0,4:7".parse().unwrap();
    let mut missed = Vec::new();
    loop {
        let limit = PageLimit::new(3).unwrap();
        let next = feed.after(ana(), &seen, limit).await.unwrap();
        if next.is_empty() {
            break;
        }
        next.iter().for_each(|item| seen.raise(item.content.at));
        missed.extend(next);
    }
    assert!(missed.is_sorted_by_key(|item| item.content.key()));
    let mut positions: Vec<Position> = missed.iter().map(|item| item.content.at).collect();
    positions.sort_unstable();
    let expected: Vec<Position> = [(1, 4..=8), (2, 1..=8), (3, 1..=8), (4, 8..=8)]
        .into_iter()
        .flat_map(|(partition, numbers)| numbers.map(move |number| position(partition, number)))
        .collect();
    assert_eq!(positions, expected);
    assert_eq!(seen.to_string(), "0:8,1:8,2:8,3:8,4:8");
}

async fn counts_are_exact_when_small_and_bounded_when_large(feed: Feed) {
    assert_eq!(feed.counts(ana()).await.unwrap(), Counts { unread: 0, total: 0 });
    let stored = (1..=Counts::MOST + 5).map(|number| new(2, number, 1)).collect();
    let marks = (1..=20).map(|number| one(position(2, number))).collect();
    feed.apply(batch(2, 2000, stored, marks)).await.unwrap();
    let counts = feed.counts(ana()).await.unwrap();
    assert_eq!(counts, Counts { unread: Counts::MOST + 5 - 20, total: Counts::MOST });
}

async fn a_batch_beyond_the_checkpoint_is_refused(feed: Feed) {
    let beyond = |from| FeedBatch {
        partition: Partition(3),
        from,
        to: from + 5,
        notifications: vec![new(3, from + 1, 1)],
        marks: vec![],
    };
    let gap = feed.apply(beyond(7)).await.unwrap_err();
    assert!(matches!(gap, FeedError::Gap { partition: Partition(3), applied: 0 }), "{gap:?}");
    feed.apply(beyond(0)).await.unwrap();
    let gap = feed.apply(beyond(7)).await.unwrap_err();
    assert!(matches!(gap, FeedError::Gap { partition: Partition(3), applied: 5 }), "{gap:?}");
    assert_eq!(feed.applied(Partition(3)).await.unwrap(), 5);
    feed.apply(beyond(5)).await.unwrap();
    assert_eq!(feed.applied(Partition(3)).await.unwrap(), 10);
}

async fn what_was_applied_never_sinks(feed: Feed) {
    assert_eq!(feed.applied(Partition(3)).await.unwrap(), 0);
    assert!(feed.applied_all().await.unwrap().is_empty());
    feed.apply(batch(3, 9, vec![], vec![])).await.unwrap();
    feed.apply(batch(3, 5, vec![new(3, 5, 1)], vec![])).await.unwrap();
    feed.apply(batch(4, 2, vec![], vec![])).await.unwrap();
    let heartbeat = FeedBatch { from: 9, ..batch(3, 9, vec![], vec![]) };
    feed.apply(heartbeat).await.unwrap();
    assert_eq!(feed.applied(Partition(3)).await.unwrap(), 9);
    assert_eq!(feed.applied_all().await.unwrap().to_string(), "3:9,4:2");
    assert_eq!(list(&feed, Filter::All).await.len(), 1, "data is stored whatever the checkpoint");
}

async fn racing_writers_lose_nothing(feed: Feed) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8_u16 {
        let feed = Arc::clone(&feed);
        tasks.spawn(async move {
            let mut random = StdRng::seed_from_u64(writer.into());
            for _ in 0..6 {
                // The same documents from everywhere: content and marks, in any order.
                let mut numbers: Vec<u64> = (1..=12).collect();
                numbers.shuffle(&mut random);
                let (content, marks) = numbers.split_at(6);
                let stored = content.iter().map(|number| new(2, *number, 1)).collect();
                let marks = marks.iter().filter(|number| *number % 3 == 0);
                let mut marks: Vec<_> = marks.map(|number| one(position(2, *number))).collect();
                marks.push(all_until(-1));
                let batch = batch(writer % COUNT, 12, stored, marks);
                loop {
                    match feed.apply(batch.clone()).await {
                        Ok(()) => break,
                        // Two that insert the same document may collide; the runner repeats the batch.
                        Err(FeedError::Refused { code: 11000 }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    let stored = (1..=12).map(|number| new(2, number, 1)).collect();
    let marks = [3, 6, 9, 12].map(|number| one(position(2, number))).to_vec();
    feed.apply(batch(2, 12, stored, marks)).await.unwrap();
    let listed = list(&feed, Filter::All).await;
    let expected: Vec<_> =
        (1..=12).rev().map(|number| (position(2, number), number % 3 == 0)).collect();
    assert_eq!(listed, expected);
}

async fn a_purged_account_is_gone_and_nameless_elsewhere(feed: Feed) {
    let mut foreign = new(3, 1, 1);
    foreign.recipient = id(7);
    foreign.other = ana().into();
    // At ana's own shop.
    let shop: ProviderId = id(8);
    let mut booked = NewNotification { at: position(3, 4), provider: shop, ..foreign.clone() };
    booked.recorded_at += TimeDelta::seconds(1);
    let stored = vec![foreign, booked, new(3, 2, 1), new(3, 3, 1)];
    let marks = vec![one(position(3, 9)), all_until(1)];
    feed.apply(batch(3, 4, stored.clone(), marks)).await.unwrap();
    feed.purge(ana().into(), &[shop]).await.unwrap();
    assert_eq!(list(&feed, Filter::All).await, []);
    let page = feed.list(id(7), Filter::All, None, PageLimit::default()).await.unwrap();
    let names = |item: &Notification| {
        (item.content.other_name.is_some(), item.content.service_name.is_some())
    };
    let names: Vec<_> = page.items.iter().map(names).collect();
    assert_eq!(names, [(false, false), (false, true)], "what a shop called its services is gone");
    // Its marks are gone too.
    feed.apply(batch(3, 9, vec![new(3, 9, 1)], vec![])).await.unwrap();
    assert_eq!(list(&feed, Filter::All).await, [(position(3, 9), false)]);
}

async fn a_cursor_of_anything_else_is_refused(feed: Feed) {
    let foreign = paging_cursor();
    for cursor in ["", "x", foreign.as_str()] {
        let page = feed.list(ana(), Filter::All, Some(cursor), PageLimit::default()).await;
        assert!(matches!(page, Err(FeedError::Cursor(InvalidCursor))), "{cursor}");
    }
}

fn paging_cursor() -> String {
    crate::paging::encode("providers", &("ana", ana()))
}

#[tokio::test]
async fn a_store_that_is_down_or_hangs_is_unavailable_in_time() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [closed, hanging.local_addr().unwrap()] {
        let url = format!("mongodb://{address}");
        let options = MongoOptions {
            server_selection_timeout: Duration::from_millis(500),
            timeout: Duration::from_millis(800),
            ..MongoOptions::default()
        };
        let feed = MongoFeed::new(&url, partitions(COUNT), options).await.unwrap();
        let begun = Timer::now();
        let listed = feed.list(ana(), Filter::All, None, PageLimit::default()).await;
        assert!(matches!(listed, Err(FeedError::Unavailable(_))), "{listed:?}");
        let applied = feed.apply(batch(3, 5, vec![new(3, 1, 1)], vec![])).await;
        assert!(matches!(applied, Err(FeedError::Unavailable(_))), "{applied:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    assert!(MongoFeed::new("nonsense", partitions(1), MongoOptions::default()).await.is_err());

    let pool = sqlx::postgres::PgPoolOptions::new().acquire_timeout(Duration::from_millis(500));
    let pool = pool.connect_lazy(&format!("postgres://nobody@{closed}/nothing")).unwrap();
    let feed = PostgresFeed::new(pool, partitions(COUNT));
    let listed = feed.list(ana(), Filter::All, None, PageLimit::default()).await;
    assert!(matches!(listed, Err(FeedError::Unavailable(_))), "{listed:?}");
}

#[tokio::test]
async fn a_generation_is_a_feed_of_its_own() {
    let (url, database) = (server("TEST_MONGODB_URL"), unique("test"));
    let generation = async |generation| {
        let database = database.clone();
        let options = MongoOptions { database, generation, ..MongoOptions::default() };
        Arc::new(MongoFeed::new(&url, partitions(COUNT), options).await.unwrap())
    };
    let (old, next) = (generation(1).await, generation(2).await);
    old.apply(batch(3, 5, vec![new(3, 1, 1)], vec![])).await.unwrap();
    assert_eq!(next.applied(Partition(3)).await.unwrap(), 0);
    assert_eq!(list(&(next as Feed), Filter::All).await, []);
    assert_eq!(list(&(Arc::clone(&old) as Feed), Filter::All).await.len(), 1);
    old.drop_database().await;
}

#[test]
fn nothing_personal_is_shown_by_debug() {
    let text = format!("{:?}", new(3, 1, 1));
    assert!(!text.contains("Bia"), "{text}");
}
