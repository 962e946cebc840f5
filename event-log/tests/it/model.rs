//! The log against a model of it in memory: whatever is asked, in whatever order and company, both say the
//! same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use domain::aggregate::StreamId;
use domain::command::{ClaimKey, ClaimKind, SecretKey, SecretKind};
use domain::event::Event;
use domain::ids::Mint;
use event_log::{Append, AppendError, Appended, EventLog};
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use crate::common::*;

/// What a generated request asks for, small enough to collide often.
#[derive(Debug, Clone)]
struct Asked {
    command: u8,
    fingerprint: u8,
    /// Stream, how far its expected version is off, how many events.
    writes: BTreeMap<u8, (i8, u8)>,
    /// Stream, how far its required version is off.
    reads: BTreeMap<u8, i8>,
    takes: BTreeMap<u8, u8>,
    releases: BTreeMap<u8, u8>,
    puts: BTreeMap<u8, Option<u8>>,
}

fn asked() -> impl Strategy<Value = Asked> {
    use proptest::collection::btree_map;
    let off = prop_oneof![8 => Just(0_i8), 1 => Just(1_i8), 1 => Just(-1_i8)];
    (
        0..40_u8,
        0..8_u8,
        btree_map(0..6_u8, (off.clone(), 1..4_u8), 0..3),
        btree_map(0..6_u8, off, 0..2),
        btree_map(0..3_u8, 0..3_u8, 0..2),
        btree_map(0..3_u8, 0..3_u8, 0..2),
        btree_map(0..3_u8, proptest::option::of(0..9_u8), 0..2),
    )
        .prop_map(|(command, fingerprint, writes, mut reads, takes, mut releases, puts)| {
            reads.retain(|stream, _| !writes.contains_key(stream));
            releases.retain(|claim, _| !takes.contains_key(claim));
            // Mostly the same question under the same id.
            let fingerprint = 1 + u8::from(fingerprint == 0);
            Asked { command, fingerprint, writes, reads, takes, releases, puts }
        })
}

/// The log as it should be.
#[derive(Default)]
struct Model {
    streams: BTreeMap<u8, Vec<Event>>,
    claims: BTreeMap<u8, u8>,
    secrets: BTreeMap<u8, u8>,
    commands: BTreeMap<u8, (u8, String)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    Appended,
    Already(String),
    Conflict(BTreeSet<(u8, u64)>),
    ClaimTaken,
    KeyReused,
}

impl Model {
    fn version(&self, stream: u8) -> u64 {
        self.streams.get(&stream).map_or(0, |events| events.len() as u64)
    }

    fn append(&mut self, asked: &Asked, request: &Request) -> Said {
        if let Some((fingerprint, result)) = self.commands.get(&asked.command) {
            return match *fingerprint == asked.fingerprint {
                true => Said::Already(result.clone()),
                false => Said::KeyReused,
            };
        }
        let checks: Vec<(u8, u64)> = request.expected.iter().map(|(s, v)| (*s, *v)).collect();
        if checks.iter().any(|(stream, expected)| self.version(*stream) != *expected) {
            let in_the_way = checks
                .iter()
                .flat_map(|(s, expected)| (expected + 1..=self.version(*s)).map(|n| (*s, n)));
            return Said::Conflict(in_the_way.collect());
        }
        if asked.takes.iter().any(|(c, owner)| self.claims.get(c).is_some_and(|o| o != owner)) {
            return Said::ClaimTaken;
        }
        for (stream, events) in &request.events {
            self.streams.entry(*stream).or_default().extend(events.iter().cloned());
        }
        for (claim, owner) in &asked.releases {
            if self.claims.get(claim) == Some(owner) {
                self.claims.remove(claim);
            }
        }
        self.claims.extend(&asked.takes);
        for (secret, value) in &asked.puts {
            match value {
                Some(value) => drop(self.secrets.insert(*secret, *value)),
                None => drop(self.secrets.remove(secret)),
            }
        }
        let result = request.append.command.result.clone();
        self.commands.insert(asked.command, (asked.fingerprint, result));
        Said::Appended
    }
}

/// A request made concrete against the model's present versions.
struct Request {
    append: Append,
    expected: BTreeMap<u8, u64>,
    events: BTreeMap<u8, Vec<Event>>,
}

/// One world of streams, claims and commands, so that cases do not meet.
struct World {
    seed: u8,
    one_partition: bool,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl World {
    /// In one partition, or spread over several.
    fn bits(&self, n: u8) -> u16 {
        if self.one_partition { 7 * u16::from(n) } else { u16::from(n) }
    }

    fn stream(&self, n: u8) -> StreamId {
        agenda(self.bits(n), u32::from(self.seed) * 100 + u32::from(n))
    }

    fn claim(&self, n: u8) -> ClaimKey {
        let mut hash = [self.seed; 32];
        hash[..2].copy_from_slice(&(self.bits(n) << 4).to_be_bytes());
        hash[31] = n;
        ClaimKey { kind: ClaimKind::Slug, hash }
    }

    fn secret(&self, n: u8) -> SecretKey {
        SecretKey { owner: self.stream(n).id, kind: SecretKind::PasswordHash }
    }

    fn owner(&self, n: u8) -> Uuid {
        Mint::new([9; 32]).id::<domain::ids::AccountId>(slot(0), n.into()).into()
    }

    fn request(&self, asked: &Asked, model: &Model) -> Request {
        let off = |stream: u8, by: i8| model.version(stream).saturating_add_signed(by.into());
        let number = || NUMBER.fetch_add(1, Ordering::Relaxed);
        let result = format!(r#"{{"n":{}}}"#, number());
        let id = u32::from(self.seed) * 1000 + u32::from(asked.command);
        let bits = self.bits(asked.command % 6);
        let mut append = Append::new(keyed_row(bits, id, asked.fingerprint, &result));
        let (mut expected, mut all) = (BTreeMap::new(), BTreeMap::new());
        for (stream, (by, count)) in &asked.writes {
            let events: Vec<_> = (0..*count).map(|_| event(number())).collect();
            expected.insert(*stream, off(*stream, *by));
            append = append.events(self.stream(*stream), off(*stream, *by), events.clone());
            all.insert(*stream, events);
        }
        for (stream, by) in &asked.reads {
            expected.insert(*stream, off(*stream, *by));
            append = append.requires(self.stream(*stream), off(*stream, *by));
        }
        append.take = asked.takes.iter().map(|(c, o)| (self.claim(*c), self.owner(*o))).collect();
        append.release =
            asked.releases.iter().map(|(c, o)| (self.claim(*c), self.owner(*o))).collect();
        for (secret, value) in &asked.puts {
            match value {
                Some(value) => append.put.push((self.secret(*secret), vec![*value])),
                None => append.drop.push(self.secret(*secret)),
            }
        }
        Request { append, expected, events: all }
    }

    fn said(&self, answer: &Result<Appended, AppendError>) -> Said {
        match answer {
            Ok(Appended { already: false, .. }) => Said::Appended,
            Ok(Appended { result, .. }) => Said::Already(result.clone()),
            Err(AppendError::Conflict { in_the_way }) => Said::Conflict(
                in_the_way
                    .iter()
                    .map(|r| {
                        let stream = (0..6).find(|n| self.stream(*n) == r.stream).unwrap();
                        (stream, r.sequence)
                    })
                    .collect(),
            ),
            Err(AppendError::ClaimTaken) => Said::ClaimTaken,
            Err(AppendError::KeyReused) => Said::KeyReused,
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Asks both, several at a time where their order is certain, and compares.
    async fn compare(&self, log: &EventLog, asked: &[Asked]) {
        let mut model = Model::default();
        // Requests of one partition keep their order where they touch; others are asked one by one.
        let together = if self.one_partition { 5 } else { 1 };
        for group in asked.chunks(together) {
            // Made before any is asked, as callers do; the model is asked in the same order.
            let requests: Vec<_> = group.iter().map(|a| self.request(a, &model)).collect();
            let answers = join_all(requests.iter().map(|r| log.append(r.append.clone()))).await;
            for ((asked, request), answer) in group.iter().zip(&requests).zip(&answers) {
                match (self.said(answer), model.append(asked, request)) {
                    // The events in the way are fetched after the batch: later ones may be among them.
                    (Said::Conflict(said), Said::Conflict(meant)) => {
                        assert!(said.is_superset(&meant), "{asked:?}: {said:?}, not {meant:?}");
                    }
                    (said, meant) => assert_eq!(said, meant, "{asked:?}"),
                }
                if let Ok(done) = answer
                    && !done.already
                {
                    self.check_positions(log, request, done).await;
                }
            }
        }
        for stream in 0..6 {
            let stored = log.stream(self.stream(stream), 0, 1000).await.unwrap();
            let stored: Vec<_> = stored.into_iter().map(|r| r.event).collect();
            assert_eq!(stored, model.streams.get(&stream).cloned().unwrap_or_default());
        }
        for n in 0..3 {
            let owner = log.claim_owner(self.claim(n)).await.unwrap();
            assert_eq!(owner, model.claims.get(&n).map(|o| self.owner(*o)));
            let secret = log.secret(self.secret(n)).await.unwrap();
            assert_eq!(secret, model.secrets.get(&n).map(|v| vec![*v]));
        }
    }

    /// The positions an answer names are those of the request's last event in each partition.
    async fn check_positions(&self, log: &EventLog, request: &Request, done: &Appended) {
        let mut last = BTreeMap::new();
        for (stream, events) in &request.events {
            let after = request.expected[stream];
            let stored = log.stream(self.stream(*stream), after, 10).await.unwrap();
            let own = &stored[..events.len()];
            assert_eq!(
                own.iter().map(|r| &r.event).collect::<Vec<_>>(),
                events.iter().collect::<Vec<_>>()
            );
            for r in own {
                assert_eq!(r.recorded_at, done.recorded_at);
                let number = last.entry(r.at.partition).or_insert(0);
                *number = r.at.number.max(*number);
            }
        }
        let named: BTreeMap<_, _> =
            done.positions.positions().map(|p| (p.partition, p.number)).collect();
        assert_eq!(named, last);
    }
}

on_1_and_7_partitions! {
    async fn the_log_does_what_a_model_in_memory_does(database, partitions) {
        let log = database.log(partitions).await;
        let mut runner = TestRunner::new_with_rng(
            Config::default(),
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        );
        for case in 0..20_u8 {
            let asked = proptest::collection::vec(asked(), 1..60).new_tree(&mut runner).unwrap().current();
            let world = World { seed: case, one_partition: partitions == 1 || case % 2 == 0 };
            world.compare(&log, &asked).await;
        }
        everything(&log).await;
        for partition in log.partitions().all() {
            log.verify(partition, None).await.unwrap();
        }
    }
}
