//! What a process appended, taken without reading it back.

use domain::account::EraseAccount;
use domain::actor::Actor;
use domain::position::Partition;
use event_log::{EventLog, Executor, Recorded};

use crate::common::*;

fn taken(log: &EventLog, partition: Partition, after: u64) -> Vec<Recorded> {
    log.take_appended(partition, after, 100).iter().map(|event| (**event).clone()).collect()
}

on_1_and_7_partitions! {
    async fn it_is_what_the_log_says_and_is_taken_once(database, partitions) {
        let log = database.log(partitions).await;
        let executor = Executor::new(log.clone());
        let nobody = person(&executor, "nobody").await;
        assert!(log.partitions().all().all(|partition| taken(&log, partition, 0).is_empty()), "nobody follows yet");
        log.keep_appended();
        let before = log.heads().await.unwrap();
        let (ana, bia) = (person(&executor, "ana").await, person(&executor, "bia").await);
        let shop = shop(&executor, &ana, "shop").await;
        for (client, hour) in [(&bia, 9), (&nobody, 10)] {
            let mut from = origin(client);
            from.ip = Some("203.0.113.9".parse().unwrap());
            executor.execute(booking(&log, shop.provider, hour), from).await.unwrap();
        }
        let mut events = 0;
        for partition in log.partitions().all() {
            let after = before.number(partition);
            let read = log.tail(partition, after, 100).await.unwrap();
            assert_eq!(taken(&log, partition, after), read);
            assert!(taken(&log, partition, after).is_empty(), "taken once");
            events += read.len();
        }
        assert!(events > 8, "accounts, a shop, bookings: {events}");
    }

    async fn what_came_from_elsewhere_leaves_a_gap_and_is_read(database, partitions) {
        let (here, there) = (database.log(partitions).await, database.log(partitions).await);
        here.keep_appended();
        let stream = agenda(10, 0);
        let partition = here.partition_of(stream.slot());
        for (version, log) in [(0, &here), (1, &here), (2, &there), (3, &here)] {
            log.append(one(stream, version, 7)).await.unwrap();
        }
        let numbers = |events: &[Recorded]| events.iter().map(|event| event.at.number).collect::<Vec<_>>();
        assert_eq!(numbers(&taken(&here, partition, 0)), [1, 2]);
        assert_eq!(numbers(&taken(&here, partition, 2)), [0; 0]);
        assert_eq!(numbers(&here.tail(partition, 2, 100).await.unwrap()), [3, 4]);
        assert_eq!(numbers(&taken(&here, partition, 3)), [4]);
    }

    async fn nothing_stays_of_whoever_is_erased(database, partitions) {
        let log = database.log(partitions).await;
        let executor = Executor::new(log.clone());
        log.keep_appended();
        let ana = person(&executor, "ana").await;
        let erase = EraseAccount { account: ana.account().unwrap(), proven_under: None };
        executor.execute(erase, origin(&Actor::System("test"))).await.unwrap();
        assert!(log.partitions().all().all(|partition| taken(&log, partition, 0).is_empty()));
    }
}
