//! The private cluster, on the Postgres that this machine has.
#![expect(
    clippy::unwrap_used,
    reason = "in a test a panic is the report, and its line says which step failed"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use app::cluster::{Cluster, ClusterError};
use sqlx::{ConnectOptions as _, Connection as _};

/// A data folder that every user can reach, removed at the end, wherever its cluster went.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn server(&self) -> Option<u32> {
        let text = fs::read_to_string(self.path().join("postgres/data/postmaster.pid")).ok()?;
        text.lines().next()?.parse().ok()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A test that failed half-way left its cluster running, or stopping.
        eventually_or_not(|| {
            self.server().is_none_or(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        });
        if let Ok(outside) = self.path().join("postgres").canonicalize() {
            let _ = fs::remove_dir_all(outside);
        }
    }
}

fn eventually_or_not(condition: impl Fn() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

async fn remember(cluster: &Cluster, what: &str) {
    let mut connection = cluster.options().connect().await.unwrap();
    sqlx::query("CREATE TABLE IF NOT EXISTS memory (what text)")
        .execute(&mut connection)
        .await
        .unwrap();
    sqlx::query("INSERT INTO memory VALUES ($1)")
        .bind(what)
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

async fn remembered(cluster: &Cluster) -> Vec<String> {
    let mut connection = cluster.options().connect().await.unwrap();
    let all =
        sqlx::query_scalar("SELECT what FROM memory").fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    all
}

/// Another process with a cluster on the folder.
fn another_process(folder: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_other_process", "--nocapture"])
        .env("TEST_CLUSTER_FOLDER", folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let started = lines.map_while(Result::ok).any(|line| line.contains("the cluster runs"));
    assert!(started, "the other process did not start its cluster");
    child
}

/// Not a test by itself: what `another_process` runs. It ends by being killed.
#[tokio::test]
async fn the_other_process() {
    let Some(folder) = std::env::var_os("TEST_CLUSTER_FOLDER") else { return };
    let cluster = Cluster::start(Path::new(&folder)).await.unwrap();
    remember(&cluster, "written before the kill").await;
    println!("the cluster runs");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn what_was_written_is_there_after_a_stop_and_a_start() {
    let folder = Folder::new();
    let cluster = Cluster::start(&folder.path()).await.unwrap();
    remember(&cluster, "something").await;
    cluster.stop().await.unwrap();
    assert_eq!(folder.server(), None, "it is stopped");

    let cluster = Cluster::start(&folder.path()).await.unwrap();
    assert_eq!(remembered(&cluster).await, ["something"]);
    let by_url = cluster.url().parse::<sqlx::postgres::PgConnectOptions>().unwrap();
    by_url.connect().await.unwrap().close().await.unwrap();
    let inside = fs::metadata(cluster.folder().join("run")).unwrap();
    assert_eq!(inside.mode() & 0o777, 0o700, "nobody else reaches the socket");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_whose_parent_was_killed_is_adopted_and_then_stopped() {
    let folder = Folder::new();
    let mut parent = another_process(&folder.path());
    let server = folder.server().unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();

    let cluster = Cluster::start(&folder.path()).await.unwrap();
    assert_eq!(folder.server(), Some(server), "the same server goes on");
    assert_eq!(remembered(&cluster).await, ["written before the kill"]);
    cluster.stop().await.unwrap();
    assert_eq!(folder.server(), None);
}

#[tokio::test]
async fn a_server_that_was_killed_with_its_parent_recovers_what_was_committed() {
    let folder = Folder::new();
    let mut parent = another_process(&folder.path());
    let server = folder.server().unwrap();
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(Command::new("kill").args(["-9", &server.to_string()]).status().unwrap().success());

    let cluster = Cluster::start(&folder.path()).await.unwrap();
    assert_ne!(folder.server(), Some(server));
    assert_eq!(remembered(&cluster).await, ["written before the kill"]);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_alone_is_started_again_and_once_stopped_stays_so() {
    let folder = Folder::new();
    let mut cluster = Cluster::start(&folder.path()).await.unwrap();
    cluster.keep_running();
    remember(&cluster, "written before the kill").await;
    for _ in 0..2 {
        let server = folder.server().unwrap();
        assert!(Command::new("kill").args(["-9", &server.to_string()]).status().unwrap().success());
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let anew = folder.server().is_some_and(|now| now != server);
            if anew && Cluster::running(&folder.path()).await.is_some() {
                break;
            }
            assert!(Instant::now() < until, "it was not started again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(remembered(&cluster).await, ["written before the kill"]);
    }
    cluster.stop().await.unwrap();
    assert_eq!(folder.server(), None);
}

#[tokio::test]
async fn a_second_program_on_the_folder_is_told_who_has_it_and_a_command_joins() {
    let folder = Folder::new();
    let mut first = another_process(&folder.path());

    let refused = Cluster::start(&folder.path()).await.unwrap_err();
    let ClusterError::Locked { holder, .. } = refused else { panic!("{refused}") };
    assert_eq!(holder, format!("process {}", first.id()));

    let joined = Cluster::join_or_start(&folder.path()).await.unwrap();
    assert_eq!(remembered(&joined).await, ["written before the kill"]);
    joined.stop().await.unwrap();
    assert!(Cluster::running(&folder.path()).await.is_some(), "it is not the guest who stops it");

    first.kill().unwrap();
    first.wait().unwrap();
    let cluster = Cluster::join_or_start(&folder.path()).await.unwrap();
    cluster.stop().await.unwrap();
    assert!(Cluster::running(&folder.path()).await.is_none());
}

#[tokio::test]
async fn a_cluster_that_is_dropped_stops_and_a_start_at_once_waits_for_that() {
    let folder = Folder::new();
    let cluster = Cluster::start(&folder.path()).await.unwrap();
    remember(&cluster, "something").await;
    drop(cluster);
    let cluster = Cluster::start(&folder.path()).await.unwrap();
    assert_eq!(remembered(&cluster).await, ["something"]);
    drop(cluster);
    assert!(eventually_or_not(|| folder.server().is_none()));
}

#[tokio::test]
async fn a_pid_file_whose_number_is_somebody_elses_by_now_is_no_obstacle() {
    let folder = Folder::new();
    Cluster::start(&folder.path()).await.unwrap().stop().await.unwrap();
    let pid_file = folder.path().join("postgres/data/postmaster.pid");
    let somebody = std::process::id();
    fs::write(&pid_file, format!("{somebody}\n/data\n1700000000\n5432\n/nowhere\n\n")).unwrap();

    let cluster = Cluster::start(&folder.path()).await.unwrap();
    assert_ne!(folder.server(), Some(somebody));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn an_unfinished_cluster_is_made_anew() {
    let folder = Folder::new();
    let unfinished = folder.path().join("postgres/data.new");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15").unwrap();
    let cluster = Cluster::start(&folder.path()).await.unwrap();
    remember(&cluster, "something").await;
    cluster.stop().await.unwrap();
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_folder_with_a_path_too_long_for_a_socket_has_its_socket_elsewhere() {
    let folder = Folder::new();
    let long = folder.path().join("a folder with a 'long' name/".repeat(4));
    let cluster = Cluster::start(&long).await.unwrap();
    remember(&cluster, "something").await;
    let url = cluster.url();
    assert!(!url.contains("long"), "{url}");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn below_a_folder_that_only_root_can_enter_the_cluster_lives_elsewhere() {
    let folder = Folder::new();
    if fs::metadata(folder.0.path()).unwrap().uid() != 0 {
        return; // Only root borrows a user, and only then is there anything to get round.
    }
    fs::set_permissions(folder.0.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let cluster = Cluster::start(&folder.path()).await.unwrap();
    assert!(cluster.folder().starts_with("/var/lib/pontual"));
    remember(&cluster, "something").await;
    cluster.stop().await.unwrap();
    let cluster = Cluster::start(&folder.path()).await.unwrap();
    assert_eq!(remembered(&cluster).await, ["something"]);
    cluster.stop().await.unwrap();
}
