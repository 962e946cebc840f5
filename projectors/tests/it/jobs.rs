//! Jobs: ordered once, taken once, tried again, given up, drained.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use chrono::TimeDelta;
use domain::Instant;
use domain::agenda::Agenda;
use domain::hold::{Ended, Held, Hold, HoldSlot, SlotIsHeld};
use domain::ids::{AccountId, AgendaId, Id as _, Mint, RoutingSlot};
use event_log::testing::{FrozenClock, TestDatabase};
use event_log::{Clock as _, EventLog, Executor};
use projectors::jobs::worker::Worker;
use projectors::jobs::{self, NewJob, Priority, Task};
use projectors::mail::templates::{Recipient, Rendered};
use projectors::mail::{FolderMailer, MailError, Mailer};
use projectors::reactors::JobOrders;
use projectors::runner::{Batch, Move, Projector as _};
use sqlx::PgPool;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::common::*;

fn now() -> Instant {
    "2026-03-02T12:00:00Z".parse().unwrap()
}

fn account(n: u32) -> AccountId {
    Mint::new([9; 32]).id(RoutingSlot::from_bits(1), n)
}

fn job(n: u32, priority: Priority, run_at: Instant) -> NewJob {
    let task = Task::ConfirmEmailMail { account: account(n) };
    NewJob { id: Uuid::from_u128(n.into()), task, priority, run_at }
}

async fn insert(pool: &PgPool, new: &[NewJob]) {
    jobs::insert(&mut pool.acquire().await.unwrap(), new, now()).await.unwrap();
}

#[tokio::test]
async fn the_most_urgent_job_that_is_due_comes_first() {
    let database = TestDatabase::create().await;
    let pool = database.pool();
    let minute = TimeDelta::minutes(1);
    insert(
        pool,
        &[
            job(1, Priority::Low, now() - minute),
            job(2, Priority::High, now() + minute),
            job(3, Priority::Normal, now() - minute),
            job(4, Priority::High, now()),
            job(5, Priority::Normal, now() - minute * 2),
        ],
    )
    .await;
    let mut taken = Vec::new();
    while let Some(job) = jobs::take(pool, now()).await.unwrap() {
        taken.push(job.id.as_u128());
    }
    assert_eq!(taken, [4, 5, 3, 1]);
    assert_eq!(jobs::take(pool, now() + minute).await.unwrap().unwrap().id.as_u128(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_workers_do_every_job_once() {
    let database = TestDatabase::create().await;
    let new: Vec<NewJob> = (0..200).map(|n| job(n, Priority::Normal, now())).collect();
    insert(database.pool(), &new).await;
    let done: Arc<Mutex<HashMap<Uuid, u32>>> = Arc::default();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (pool, done) = (database.pool().clone(), done.clone());
        workers.spawn(async move {
            while let Some(job) = jobs::take(&pool, now()).await.unwrap() {
                *done.lock().await.entry(job.id).or_default() += 1;
                tokio::task::yield_now().await;
                jobs::complete(&pool, job.id, now()).await.unwrap();
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    let done = done.lock().await;
    assert_eq!(done.len(), 200);
    assert!(done.values().all(|times| *times == 1));
    assert_eq!(jobs::counts(database.pool()).await.unwrap(), (0, 0));
    // What is done is not ordered again.
    insert(database.pool(), &new).await;
    assert_eq!(jobs::counts(database.pool()).await.unwrap(), (0, 0));
    assert_eq!(jobs::forget_done(database.pool(), now()).await.unwrap(), 0);
    let later = now() + TimeDelta::seconds(1);
    assert_eq!(jobs::forget_done(database.pool(), later).await.unwrap(), 200);
}

#[tokio::test]
async fn a_job_that_fails_comes_back_later_and_later_and_is_given_up_after_twelve_times() {
    let database = TestDatabase::create().await;
    let pool = database.pool();
    insert(pool, &[job(1, Priority::High, now())]).await;
    let (mut clock, mut waits) = (now(), Vec::new());
    for attempt in 1..=12 {
        let job = jobs::take(pool, clock).await.unwrap().expect("it is due");
        assert_eq!((job.attempt, job.max_attempts), (attempt, 12));
        assert!(jobs::take(pool, clock).await.unwrap().is_none(), "it is locked");
        jobs::fail(pool, &job, "no", false, clock, 0.5).await.unwrap();
        let run_at: Instant =
            sqlx::query_scalar("SELECT run_at FROM jobs").fetch_one(pool).await.unwrap();
        waits.push((run_at - clock).num_seconds());
        assert!(jobs::take(pool, run_at - TimeDelta::seconds(1)).await.unwrap().is_none());
        clock = run_at;
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600]);
    assert!(jobs::take(pool, clock + TimeDelta::days(1)).await.unwrap().is_none());
    assert_eq!(jobs::counts(pool).await.unwrap(), (0, 1));
    let dead = jobs::list(pool, true, 10).await.unwrap();
    let [dead] = dead.as_slice() else { panic!("{dead:?}") };
    assert_eq!(
        (dead.kind.as_str(), dead.attempts, dead.error.as_deref()),
        ("ConfirmEmailMail", 12, Some("no"))
    );

    assert_eq!(jobs::retry(pool, Some(dead.id), clock).await.unwrap(), 1);
    assert_eq!(jobs::retry(pool, Some(dead.id), clock).await.unwrap(), 0);
    assert_eq!(jobs::take(pool, clock).await.unwrap().unwrap().attempt, 1);
}

#[tokio::test]
async fn a_job_whose_every_attempt_ends_with_its_process_is_given_up_too() {
    let database = TestDatabase::create().await;
    let pool = database.pool();
    insert(pool, &[job(1, Priority::High, now())]).await;
    let mut clock = now();
    for _ in 1..=12 {
        let job = jobs::take(pool, clock).await.unwrap().expect("its lock has expired");
        assert!(jobs::take(pool, clock + TimeDelta::seconds(89)).await.unwrap().is_none());
        // The process ends. A late word of an earlier attempt changes nothing.
        let earlier = jobs::TakenJob { attempt: job.attempt - 1, ..job };
        jobs::fail(pool, &earlier, "late", false, clock, 0.0).await.unwrap();
        clock += TimeDelta::seconds(90);
    }
    assert!(jobs::take(pool, clock).await.unwrap().is_none());
    let dead = jobs::list(pool, true, 10).await.unwrap();
    assert_eq!(
        dead[0].error.as_deref().unwrap(),
        "it was begun as often as it may be, and never ended"
    );
}

#[tokio::test]
async fn who_retries_all_jobs_gets_those_that_failed_and_no_others() {
    let database = TestDatabase::create().await;
    let pool = database.pool();
    let hour = TimeDelta::hours(1);
    let jobs_of_all_sorts = [
        job(1, Priority::High, now()),
        job(2, Priority::High, now()),
        job(3, Priority::High, now()),
        job(4, Priority::High, now() + hour),
    ];
    insert(pool, &jobs_of_all_sorts).await;
    let taken = [
        jobs::take(pool, now()).await.unwrap().unwrap(),
        jobs::take(pool, now()).await.unwrap().unwrap(),
        jobs::take(pool, now()).await.unwrap().unwrap(),
    ];
    // One is given up at once, one waits for its next try, one still runs; the fourth's time has not come.
    jobs::fail(pool, &taken[0], "the mail was refused for good", true, now(), 0.5).await.unwrap();
    jobs::fail(pool, &taken[1], "the server is away", false, now(), 0.5).await.unwrap();
    assert_eq!(jobs::counts(pool).await.unwrap(), (3, 1));
    let ids = |jobs: Vec<jobs::ListedJob>| jobs.iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(ids(jobs::list(pool, true, 10).await.unwrap()), [taken[0].id]);
    assert_eq!(ids(jobs::list(pool, false, 10).await.unwrap()).len(), 4);

    assert_eq!(jobs::retry(pool, None, now()).await.unwrap(), 2);
    let mut again = [
        jobs::take(pool, now()).await.unwrap().unwrap(),
        jobs::take(pool, now()).await.unwrap().unwrap(),
    ];
    again.sort_by_key(|job| job.attempt);
    assert_eq!((again[0].id, again[0].attempt), (taken[0].id, 1), "it begins anew");
    assert_eq!((again[1].id, again[1].attempt), (taken[1].id, 2));
    assert!(jobs::take(pool, now()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_job_of_a_kind_this_version_does_not_know_waits_for_one_that_does() {
    let database = TestDatabase::create().await;
    let pool = database.pool();
    insert(pool, &[job(1, Priority::High, now()), job(2, Priority::Low, now())]).await;
    sqlx::query("UPDATE jobs SET kind = 'PolishTheSilver' WHERE priority = 1")
        .execute(pool)
        .await
        .unwrap();
    assert_eq!(jobs::take(pool, now()).await.unwrap().unwrap().id.as_u128(), 2);
    assert_eq!(jobs::counts(pool).await.unwrap(), (2, 0));
    assert!(jobs::take(pool, now()).await.unwrap().is_none(), "put back for later");
}

/// A mailer that waits at a gate, and counts.
#[derive(Default)]
struct SlowMailer {
    begun: Notify,
    gate: Notify,
    sent: AtomicU32,
}

#[async_trait]
impl Mailer for SlowMailer {
    async fn send(&self, _: Uuid, _: &Recipient, _: &Rendered) -> Result<(), MailError> {
        self.begun.notify_one();
        self.gate.notified().await;
        self.sent.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn worker(log: &EventLog, mailer: Arc<dyn Mailer>) -> Worker {
    let public_url = "http://pontual.test".to_owned();
    let files = http_kit::files::Files::in_memory();
    Worker { log: log.clone(), mailer, files, eraser: eraser(log), public_url, concurrency: 1 }
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_ends_what_it_began_and_begins_nothing() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let executor = Executor::new(log.clone());
    let recipient = register(&executor, "Ana").await;
    let task = Task::ConfirmEmailMail { account: recipient };
    let new: Vec<NewJob> =
        (1..=2).map(|n| NewJob { task: task.clone(), ..job(n, Priority::High, now()) }).collect();
    insert(log.pool(), &new).await;
    let (mailer, stop) = (Arc::new(SlowMailer::default()), CancellationToken::new());
    let running = tokio::spawn(worker(&log, mailer.clone()).run(stop.clone()));
    mailer.begun.notified().await;
    stop.cancel();
    tokio::task::yield_now().await;
    assert!(!running.is_finished());
    mailer.gate.notify_one();
    running.await.unwrap();
    assert_eq!(mailer.sent.load(Ordering::SeqCst), 1);
    assert_eq!(
        jobs::counts(log.pool()).await.unwrap(),
        (1, 0),
        "the other waits for the next start"
    );
}

#[tokio::test]
async fn a_mail_that_cannot_be_sent_is_put_back_with_the_reason_and_without_the_address() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let recipient = register(&Executor::new(log.clone()), "Ana").await;
    let task = Task::ConfirmEmailMail { account: recipient };
    insert(log.pool(), &[NewJob { task, ..job(1, Priority::High, now()) }]).await;
    // Where the folder should be there is a file.
    let file = tempfile::NamedTempFile::new().unwrap();
    let stop = CancellationToken::new();
    let mailer = Arc::new(FolderMailer::new(file.path()));
    let running = tokio::spawn(worker(&log, mailer).run(stop.clone()));
    let mut error: Option<String> = None;
    until("it has failed", async || {
        error =
            sqlx::query_scalar("SELECT last_error FROM jobs").fetch_one(log.pool()).await.unwrap();
        error.is_some()
    })
    .await;
    stop.cancel();
    running.await.unwrap();
    let error = error.unwrap();
    assert!(error.starts_with("the mail could not be sent: the mail folder could not be written"));
    assert!(!error.contains("ana@") && !error.contains("Ana"), "{error}");
}

/// A mailer that knows of no such address.
struct Refusing;

#[async_trait]
impl Mailer for Refusing {
    async fn send(&self, _: Uuid, _: &Recipient, _: &Rendered) -> Result<(), MailError> {
        Err(MailError::Refused("it answered 550".to_owned()))
    }
}

#[tokio::test]
async fn a_mail_that_is_refused_for_good_is_given_up_at_once() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let recipient = register(&Executor::new(log.clone()), "Ana").await;
    let task = Task::ConfirmEmailMail { account: recipient };
    insert(log.pool(), &[NewJob { task, ..job(1, Priority::High, now()) }]).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(worker(&log, Arc::new(Refusing)).run(stop.clone()));
    until("it was given up", async || jobs::counts(log.pool()).await.unwrap() == (0, 1)).await;
    stop.cancel();
    running.await.unwrap();
    let dead = jobs::list(log.pool(), true, 10).await.unwrap().remove(0);
    let error = "the mail could not be sent: the mail was refused for good: it answered 550";
    assert_eq!((dead.attempts, dead.error.as_deref()), (1, Some(error)));
}

#[tokio::test]
async fn a_worker_forgets_commands_and_jobs_of_long_ago() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    register(&Executor::new(log.clone()), "Ana").await;
    for (table, column) in [("commands", "recorded_at"), ("jobs_done", "done_at")] {
        if table == "jobs_done" {
            jobs::complete(log.pool(), Uuid::from_u128(7), log.clock().now()).await.unwrap();
        }
        let age = format!("UPDATE {table} SET {column} = {column} - interval '31 days'");
        sqlx::query(&age).execute(log.pool()).await.unwrap();
    }
    jobs::complete(log.pool(), Uuid::from_u128(8), log.clock().now()).await.unwrap();
    register(&Executor::new(log.clone()), "Bia").await;
    let count = async |table: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {table}");
        sqlx::query_scalar(&count).fetch_one(log.pool()).await.unwrap()
    };
    assert_eq!((count("commands").await, count("jobs_done").await), (2, 2));
    let stop = CancellationToken::new();
    let running = tokio::spawn(worker(&log, Arc::new(Refusing)).run(stop.clone()));
    until("the old ones are forgotten", async || {
        (count("commands").await, count("jobs_done").await) == (1, 1)
    })
    .await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn the_same_events_order_the_same_jobs_once_whether_these_wait_or_are_done() {
    let database = TestDatabase::create().await;
    let log = database.log(7).await;
    let executor = Executor::new(log.clone());
    for name in ["Ana", "Bia", "Caio", "Ana"] {
        register(&executor, name).await;
    }
    let reactor = JobOrders::new(log.clone());
    let order_all = async |first: bool| {
        for partition in log.partitions().all() {
            let events = log.tail(partition, 0, 100).await.unwrap();
            let Some(last) = events.last() else { continue };
            let checkpoint = first.then_some(Move { from: 0, to: last.at.number });
            let events = events.iter().filter(|e| reactor.document(e).is_some()).collect();
            let batch = Batch { partition, events, checkpoint, lease: None };
            reactor.apply(&batch).await.unwrap();
        }
    };
    order_all(true).await;
    order_all(false).await;
    assert_eq!(jobs::counts(log.pool()).await.unwrap(), (4, 0));
    let far = log.clock().now() + TimeDelta::days(1);
    while let Some(job) = jobs::take(log.pool(), far).await.unwrap() {
        jobs::complete(log.pool(), job.id, far).await.unwrap();
    }
    order_all(false).await;
    assert_eq!(jobs::counts(log.pool()).await.unwrap(), (0, 0));
}

#[tokio::test]
async fn a_hold_is_expired_when_its_time_is_over_and_not_before() {
    let database = TestDatabase::create().await;
    let clock = Arc::new(FrozenClock::at_text("2026-03-02T12:00:00Z"));
    let log = database.log_with(clock.clone(), Default::default()).await;
    let executor = Executor::new(log.clone());
    let (ana, bia) = (person(&executor, "Ana").await, person(&executor, "Bia").await);
    let provider = shop(&executor, &ana, "salao-da-ana", None).await.provider;
    let start: Instant = "2026-03-03T13:00:00Z".parse().unwrap();
    let hold = HoldSlot { provider, service: None, start };
    let held = executor.execute(hold, origin(&bia)).await.unwrap();
    let SlotIsHeld { hold: id, held: Held { expires_at, .. } } = held.outcome;

    // Ordered with the event, for when it is over.
    let reactor = JobOrders::new(log.clone());
    let partition = log.partition_of(id.slot());
    let events = log.tail(partition, 0, 1000).await.unwrap();
    let to = log.head(partition).await.unwrap();
    let batch = Batch {
        partition,
        events: events.iter().collect(),
        checkpoint: Some(Move { from: 0, to }),
        lease: None,
    };
    reactor.apply(&batch).await.unwrap();
    let (mailer, stop) = (Arc::new(SlowMailer::default()), CancellationToken::new());
    let waiting = |pool: PgPool| async move {
        let listed = jobs::list(&pool, false, 100).await.unwrap();
        listed.into_iter().find(|job| job.kind == "ExpireHold").map(|job| job.run_at)
    };
    assert_eq!(waiting(log.pool().clone()).await, Some(expires_at));
    for _ in 0..8 {
        mailer.gate.notify_one();
    }
    sqlx::query("DELETE FROM jobs WHERE kind <> 'ExpireHold'").execute(log.pool()).await.unwrap();
    let running = tokio::spawn(worker(&log, mailer).run(stop.clone()));
    let state = async || log.load::<Hold>(id).await.unwrap().state.placed.unwrap().ended;
    assert_eq!(state().await, None);
    clock.advance(expires_at - clock.now());
    until("the hold is expired", async || state().await == Some(Ended::Expired)).await;
    until("the job is done", async || waiting(log.pool().clone()).await.is_none()).await;
    let day = AgendaId::of(provider, start.date_naive());
    assert!(log.load::<Agenda>(day).await.unwrap().state.occupations.is_empty());
    stop.cancel();
    running.await.unwrap();
}
