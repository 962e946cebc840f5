//! Killing processes and connections between the commit and its answer.
//!
//! A proxy stands between the program and Postgres. Once it is told to hold, it passes on what the program
//! sends and keeps what Postgres answers: the commit happens, the answer never arrives.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::actor::Actor;
use domain::aggregate::StreamKind;
use domain::notification_feed::MarkAllNotificationsRead;
use event_log::testing::{TestDatabase, master_key, options};
use event_log::{EventLog, Executor, SystemClock};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::common::*;

/// A proxy to the test server.
struct Proxy {
    port: u16,
    /// Whether answers are kept back.
    holds: Arc<AtomicBool>,
    /// Whether the connection that executes a statement next is cut when the answer comes.
    cuts: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(database: &TestDatabase) -> Self {
        let server: PgConnectOptions = database.url().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (holds, cuts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (hold, cut) = (Arc::clone(&holds), Arc::clone(&cuts));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let address = (server.get_host().to_owned(), server.get_port());
                let server = TcpStream::connect(address).await.unwrap();
                tokio::spawn(pass(client, server, Arc::clone(&hold), Arc::clone(&cut)));
            }
        });
        Self { port, holds, cuts }
    }

    /// The database's URL by way of the proxy.
    fn url(&self, database: &TestDatabase) -> String {
        let server: PgConnectOptions = database.url().parse().unwrap();
        let address = format!("{}:{}", server.get_host(), server.get_port());
        database.url().replace(&address, &format!("127.0.0.1:{}", self.port))
    }
}

async fn pass(client: TcpStream, server: TcpStream, holds: Arc<AtomicBool>, cuts: Arc<AtomicBool>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let cut = Arc::new(AtomicBool::new(false));
    let cut_here = Arc::clone(&cut);
    let asking = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok(read) = from_client.read(&mut buffer).await
            && read > 0
        {
            // A statement is executed by a message that begins with Bind.
            if buffer[0] == b'B' && cuts.swap(false, Ordering::SeqCst) {
                cut.store(true, Ordering::SeqCst);
            }
            if to_server.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    });
    let mut buffer = vec![0; 65_536];
    while let Ok(read) = from_server.read(&mut buffer).await
        && read > 0
        && !cut_here.load(Ordering::SeqCst)
    {
        while holds.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        if to_client.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    asking.abort();
}

async fn open(url: &str, partitions: u16) -> EventLog {
    let pool = PgPoolOptions::new().max_connections(4).connect_lazy(url).unwrap();
    EventLog::open(pool, master_key(), Arc::new(SystemClock), options(partitions)).await.unwrap()
}

/// What the child does: marks all notifications of this account as read, with a key.
fn marking(account: &str) -> (MarkAllNotificationsRead, event_log::Origin) {
    let actor = Actor::Account { id: account.parse().unwrap(), roles: Vec::new() };
    let until = "2026-03-02T12:00:00Z".parse().unwrap();
    (MarkAllNotificationsRead { until }, with_key(&actor, "the-key", 1))
}

/// Not a test by itself: the process that is killed. Says `ready`, waits for a line, sends its command.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_that_is_killed() {
    let Ok(url) = std::env::var("PONTUAL_TEST_CHILD_URL") else { return };
    let partitions = std::env::var("PONTUAL_TEST_CHILD_PARTITIONS").unwrap().parse().unwrap();
    let account = std::env::var("PONTUAL_TEST_CHILD_ACCOUNT").unwrap();
    let executor = Executor::new(open(&url, partitions).await);
    println!("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    let (command, origin) = marking(&account);
    executor.execute(command, origin).await.unwrap();
    println!("answered");
}

on_1_and_7_partitions! {
    async fn a_process_killed_between_commit_and_answer_has_its_retry_answered_from_the_log(database, partitions) {
        let log = database.log(partitions).await;
        let executor = Executor::new(log.clone());
        let account = person(&executor, "ana").await.account().unwrap().to_string();
        let before = log.heads().await.unwrap();
        let proxy = Proxy::start(database).await;
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["crash::the_process_that_is_killed", "--exact", "--nocapture"])
            .env("PONTUAL_TEST_CHILD_URL", proxy.url(database))
            .env("PONTUAL_TEST_CHILD_PARTITIONS", partitions.to_string())
            .env("PONTUAL_TEST_CHILD_ACCOUNT", &account)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut says = BufReader::new(child.stdout.take().unwrap()).lines();
        while !says.next_line().await.unwrap().expect("the child gets ready").ends_with("ready") {}
        // Its append waits for the head until the proxy holds back what will be answered.
        let mut holder = log.pool().begin().await.unwrap();
        sqlx::query("SELECT FROM heads FOR UPDATE").execute(&mut *holder).await.unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
        until("the child's append waits", async || somebody_waits(log.pool()).await).await;
        proxy.holds.store(true, Ordering::SeqCst);
        holder.rollback().await.unwrap();
        until("it is committed", async || log.heads().await.unwrap() != before).await;
        // SIGKILL: committed, and never answered.
        child.kill().await.unwrap();
        while let Ok(Some(line)) = says.next_line().await {
            assert!(!line.contains("answered"));
        }

        let first = everything(&log).await;
        let marked = first.iter().find(|e| e.stream.kind == StreamKind::NotificationFeed).unwrap();
        let (command, origin) = marking(&account);
        let retried = executor.execute(command, origin).await.unwrap();
        assert!(retried.replayed);
        assert_eq!(retried.positions, [marked.at].into_iter().collect());
        assert_eq!(retried.versions, [(marked.stream, 1)].into());
        assert_eq!(everything(&log).await, first);
    }

    async fn a_connection_lost_between_commit_and_answer_is_not_even_noticed(database, partitions) {
        let direct = database.log(partitions).await;
        let proxy = Proxy::start(database).await;
        let log = open(&proxy.url(database), partitions).await;
        log.append(one(agenda(10, 0), 0, 0)).await.unwrap();
        for n in 1..=3 {
            // Postgres answers the commit, and the connection breaks instead of passing that on.
            proxy.cuts.store(true, Ordering::SeqCst);
            let done = log.append(one(agenda(10, n), 0, n)).await.unwrap();
            let here = direct.partition_of(slot(10));
            assert_eq!(done.positions.number(here), u64::from(n) + 1);
            assert!(done.already, "it was recognised by its command's row");
        }
        assert_eq!(everything(&direct).await.len(), 4);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_no_longer_answers_is_unavailable_in_time_and_the_log_recovers() {
    let database = TestDatabase::create().await;
    let direct = database.log(1).await;
    let proxy = Proxy::start(&database).await;
    let pool = PgPoolOptions::new().connect_lazy(&proxy.url(&database)).unwrap();
    let mut options = options(1);
    options.statement_timeout = std::time::Duration::from_millis(200);
    let clock = Arc::new(SystemClock);
    let log = EventLog::open(pool, master_key(), clock, options).await.unwrap();
    log.append(one(agenda(10, 0), 0, 0)).await.unwrap();
    proxy.holds.store(true, Ordering::SeqCst);
    let command = keyed_row(10, 1, 1, "{}");
    let request = || event_log::Append { command: command.clone(), ..one(agenda(10, 1), 0, 1) };
    let unknown = log.append(request()).await;
    assert!(matches!(unknown, Err(event_log::AppendError::Unavailable(_))), "{unknown:?}");
    proxy.holds.store(false, Ordering::SeqCst);
    // It had been appended after all, and the same command id finds out.
    assert!(log.append(request()).await.unwrap().already);
    assert_eq!(everything(&direct).await.len(), 2);
}
