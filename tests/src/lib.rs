//! Drives a whole Pontual: real processes over a real Postgres, Redis and MongoDB-protocol server.
//!
//! ```no_run
//! # async fn example() {
//! use end_to_end::{Pontual, Profile};
//! let pontual = Pontual::start(Profile::SingleNode).await;
//! let ana = pontual.provider("Ana").await;
//! let bia = pontual.client("Bia").await;
//! let booked = bia.book(&ana, "2031-03-03T12:00:00Z").await;
//! assert_eq!(booked.status, 201);
//! # }
//! ```
//!
//! Every test has its own database, its own MongoDB database and, by the log's id, its own Redis keys. People
//! are made through the public API, and confirm their address with the link from the mail folder.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Connection;
use tokio::process::{Child, Command};
use tokio::time::Instant;

pub mod race;
pub mod registrar;
pub mod socket;

/// What a Pontual runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Postgres only.
    SingleNode,
    /// Postgres, Redis and MongoDB.
    Full,
}

impl Profile {
    /// Both.
    pub const ALL: [Self; 2] = [Self::SingleNode, Self::Full];
}

/// What a Pontual under test takes for its public URL.
pub const PUBLIC_URL: &str = "http://pontual.localhost";

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running Pontual and what it runs on.
pub struct Pontual {
    /// Where it listens, as in `http://127.0.0.1:41234`.
    pub url: String,
    /// The database it runs on.
    pub database_url: String,
    profile: Profile,
    partitions: u16,
    folder: tempfile::TempDir,
    extra: Vec<(String, String)>,
    database: String,
    processes: Vec<Child>,
}

/// An answer: status, headers and JSON body.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body; `Null` when it is empty or not JSON.
    pub body: Value,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The position token of a command's answer.
    pub fn position(&self) -> String {
        self.header("pontual-position").expect("a command answers with its position").to_owned()
    }

    /// The problem's type, less its directory.
    pub fn problem(&self) -> &str {
        self.body["type"]
            .as_str()
            .and_then(|kind| kind.rsplit('/').next())
            .unwrap_or("(no problem)")
    }

    /// Fails the test unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

/// A variable the tests need, such as `TEST_DATABASE_URL`.
pub fn required(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test.sh"))
}

/// A name no other test uses.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nonce: u64 = rand::random();
    format!("e2e_{:x}_{}", nonce, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// The program under test, built beside the tests.
fn program() -> PathBuf {
    let mut folder = std::env::current_exe().expect("a test knows where it is");
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    let program = folder.join("pontual");
    assert!(program.exists(), "{} is not built: run scripts/test.sh", program.display());
    program
}

/// A client, on the one rustls provider there is.
pub fn http_client() -> reqwest::Client {
    // Whoever came first has installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(PATIENCE).build().expect("a client")
}

impl Pontual {
    /// `pontual serve` in this profile, with the default number of partitions.
    pub async fn start(profile: Profile) -> Self {
        Self::start_with(profile, 4, &[]).await
    }

    /// `pontual serve` with a number of partitions and further environment variables.
    pub async fn start_with(profile: Profile, partitions: u16, extra: &[(&str, &str)]) -> Self {
        let admin_url = required("TEST_DATABASE_URL");
        let database = unique();
        let mut admin = sqlx::PgConnection::connect(&admin_url).await.expect("Postgres answers");
        sqlx::query(&format!("CREATE DATABASE {database}"))
            .execute(&mut admin)
            .await
            .expect("a database");
        let (server, _) = admin_url.rsplit_once('/').expect("a database URL has a path");
        let mut pontual = Self {
            url: String::new(),
            database_url: format!("{server}/{database}"),
            profile,
            partitions,
            folder: tempfile::tempdir().expect("a folder"),
            extra: extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            database,
            processes: Vec::new(),
        };
        pontual.url = pontual.spawn(&["serve"]).await;
        pontual
    }

    /// Starts one more process on the same stores; gives its address once it is ready.
    pub async fn spawn(&mut self, arguments: &[&str]) -> String {
        let (port, metrics_port) = (free_port(), free_port());
        let mut command = self.program(arguments);
        command
            .env("PONTUAL_LISTEN", format!("127.0.0.1:{port}"))
            .env("PONTUAL_METRICS_LISTEN", format!("127.0.0.1:{metrics_port}"))
            .stdin(Stdio::null())
            .stdout(self.log_file())
            .stderr(self.log_file());
        let mut child = command.spawn().expect("pontual starts");
        let url = format!("http://127.0.0.1:{port}");
        let deadline = Instant::now() + PATIENCE;
        let client = http_client();
        loop {
            if let Ok(answer) = client.get(format!("{url}/health/ready")).send().await
                && answer.status().is_success()
            {
                break;
            }
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                panic!("pontual ended with {status}:\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "pontual is not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        self.processes.push(child);
        url
    }

    /// The program on these stores, to be started.
    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .env("PONTUAL_DATA_DIR", self.folder.path())
            .env("PONTUAL_PARTITIONS", self.partitions.to_string())
            .env("PONTUAL_PUBLIC_URL", PUBLIC_URL)
            .env("PONTUAL_DATABASE_POOL", "8")
            .env("PONTUAL_RATE_LIMITS", "off")
            .env("PONTUAL_REDIS_PREFIX", format!("{}:", self.database))
            .env("DATABASE_URL", &self.database_url)
            .kill_on_drop(true);
        if self.profile == Profile::Full {
            command.env("REDIS_URL", required("TEST_REDIS_URL")).env(
                "MONGODB_URL",
                format!("{}/{}", required("TEST_MONGODB_URL").trim_end_matches('/'), self.database),
            );
        }
        for (key, value) in &self.extra {
            command.env(key, value);
        }
        command
    }

    /// Runs a command of the program to its end, with this on its standard input and these variables; gives whether
    /// it succeeded, and all it printed.
    pub async fn run(
        &self,
        arguments: &[&str],
        input: &str,
        variables: &[(&str, &str)],
    ) -> (bool, String) {
        let mut command = self.program(arguments);
        command
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("pontual starts");
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        // A program that does not read its input may be gone by now.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes()).await;
        drop(stdin);
        let ended = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output())
            .await
            .expect("it ends within 60 s")
            .expect("it can be waited for");
        let printed = [ended.stdout, ended.stderr].concat();
        (ended.status.success(), String::from_utf8_lossy(&printed).into_owned())
    }

    /// What the processes have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("pontual.log")).unwrap_or_default()
    }

    fn log_file(&self) -> std::fs::File {
        let path = self.folder.path().join("pontual.log");
        std::fs::OpenOptions::new().create(true).append(true).open(path).expect("a log file")
    }

    /// Ends the `n`-th process as an operating system out of memory would: with SIGKILL.
    pub async fn kill(&mut self, n: usize) {
        self.processes[n].kill().await.expect("a process can be killed");
    }

    /// Asks the `n`-th process to stop (SIGTERM) and gives its exit status.
    pub async fn stop(&mut self, n: usize) -> std::process::ExitStatus {
        let id = self.processes[n].id().expect("the process runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().await.expect("kill runs");
        assert!(sent.success());
        tokio::time::timeout(Duration::from_secs(30), self.processes[n].wait())
            .await
            .expect("it stops within 30 s")
            .expect("it can be waited for")
    }

    /// Somebody who is not signed in.
    pub fn nobody(&self) -> Api {
        Api::new(&self.url)
    }

    /// A pool on the database, to look at what is stored.
    pub async fn pool(&self) -> sqlx::PgPool {
        sqlx::PgPool::connect(&self.database_url).await.expect("Postgres answers")
    }

    /// Registers somebody, confirms their address with the link from the mail folder, and signs them in.
    pub async fn client(&self, name: &str) -> Person {
        let email = format!("{}.{}@example.com", name.to_lowercase(), unique());
        let password = "correct horse battery";
        let api = self.nobody();
        api.post("/api/auth/register", json!({ "name": format!("{name} Test"), "email": email, "password": password, "locale": "en" }))
            .await
            .expect(202);
        let token = self.confirmation_token(&email).await;
        api.post("/api/auth/confirm", json!({ "token": token })).await.expect(200);
        self.sign_in(&email, password).await
    }

    /// Signs somebody in.
    pub async fn sign_in(&self, email: &str, password: &str) -> Person {
        let answer = self
            .nobody()
            .post("/api/auth/login", json!({ "email": email, "password": password }))
            .await
            .expect(200);
        let token = answer.body["access_token"].as_str().expect("a token").to_owned();
        let account = answer.body["account"]["id"].as_str().expect("an id").to_owned();
        Person {
            api: Api { token: Some(token), ..Api::new(&self.url) },
            account,
            email: email.to_owned(),
        }
    }

    /// A person with a shop of the classic profile.
    pub async fn provider(&self, name: &str) -> Shop {
        self.provider_with(name, json!({})).await
    }

    /// A person with a shop; `extra` goes into the request that opens it.
    pub async fn provider_with(&self, name: &str, extra: Value) -> Shop {
        self.client(name).await.opens(name, extra).await
    }

    /// The token of the newest confirmation mail to an address.
    pub async fn confirmation_token(&self, email: &str) -> String {
        let mail = self.mail_to(email).await;
        let (_, rest) = mail.split_once("#token=").expect("the mail has a link");
        rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect()
    }

    /// Where it keeps its files: keys, mails, photos, and what it has logged.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The name of its database, which its Redis keys begin with.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// All mails there are, as they were written.
    pub fn mails(&self) -> Vec<String> {
        std::fs::read_dir(self.folder.path().join("mail"))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "eml"))
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
            .collect()
    }

    /// The texts of all mails to an address that are there; soft line breaks are undone.
    pub fn mails_to(&self, email: &str) -> Vec<String> {
        let to = format!("<{email}>");
        let is_to = |line: &str| {
            line.strip_prefix("To: ")
                .is_some_and(|to_line| to_line.trim() == email || to_line.contains(&to))
        };
        std::fs::read_dir(self.folder.path().join("mail"))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "eml"))
            .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
            .filter(|text| text.lines().any(is_to))
            .map(|text| text.replace("=\r\n", "").replace("=3D", "="))
            .collect()
    }

    /// The text of a mail to an address, once it is there; soft line breaks are undone.
    pub async fn mail_to(&self, email: &str) -> String {
        let folder = self.folder.path().join("mail");
        let deadline = Instant::now() + PATIENCE;
        loop {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
                if entry.path().extension().is_some_and(|e| e == "eml") && text.contains(email) {
                    return text.replace("=\r\n", "").replace("=3D", "=");
                }
            }
            assert!(Instant::now() < deadline, "no mail to {email}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Pontual {
    fn drop(&mut self) {
        // Databases are dropped with their server by scripts/test.sh; the processes end here.
        for process in &mut self.processes {
            let _ = process.start_kill();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the last lines of pontual's log ---");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// A caller of the API.
#[derive(Debug, Clone)]
pub struct Api {
    /// Where it calls.
    pub url: String,
    /// The access token it sends.
    pub token: Option<String>,
    /// What it calls with.
    pub client: reqwest::Client,
}

impl Api {
    /// A caller that is not signed in.
    pub fn new(url: &str) -> Self {
        let client = http_client();
        Self { url: url.to_owned(), token: None, client }
    }

    /// The same caller at another process.
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// A request to be completed by the test.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends what the test completed.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.expect("pontual answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("a whole body");
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status, headers, body }
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path)).await
    }

    /// `GET` that must see everything up to a position.
    pub async fn get_after(&self, path: &str, position: &str) -> Answer {
        self.send(self.request("GET", path).header("pontual-after", position)).await
    }

    /// `POST` of a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request("POST", path).json(&body)).await
    }

    /// `POST` with an idempotency key.
    pub async fn post_once(&self, path: &str, key: &str, body: Value) -> Answer {
        self.send(self.request("POST", path).header("idempotency-key", key).json(&body)).await
    }

    /// `PUT` of a JSON body.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.request("PUT", path).json(&body)).await
    }

    /// `DELETE` with no body.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request("DELETE", path)).await
    }
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their caller.
    pub api: Api,
    /// Their account's id.
    pub account: String,
    /// Their address.
    pub email: String,
}

impl Person {
    /// Opens a shop; `extra` goes into the request.
    pub async fn opens(self, name: &str, extra: Value) -> Shop {
        let slug = format!("{}-{}", name.to_lowercase(), unique().replace('_', "-"));
        let mut request = json!({ "business_name": format!("{name}'s"), "slug": slug, "time_zone": "America/Sao_Paulo" });
        for (key, value) in extra.as_object().into_iter().flatten() {
            request[key] = value.clone();
        }
        let opened = self.api.post("/api/providers", request).await.expect(201);
        let id = opened.body["id"].as_str().expect("an id").to_owned();
        let position = opened.position();
        Shop { owner: self, id, slug, position }
    }

    /// Books the shop's only service.
    pub async fn book(&self, shop: &Shop, start: &str) -> Answer {
        self.api.post("/api/appointments", json!({ "provider_id": shop.id, "start": start })).await
    }
}

/// A provider and their shop.
#[derive(Debug, Clone)]
pub struct Shop {
    /// Who owns it.
    pub owner: Person,
    /// The provider's id.
    pub id: String,
    /// Its name in URLs.
    pub slug: String,
    /// The position of its opening.
    pub position: String,
}

/// An instant so many days from today, at a time of day in UTC such as `12:00:00Z`.
pub fn in_days(days: u64, time: &str) -> String {
    #[expect(clippy::disallowed_methods, reason = "the processes under test use the real clock")]
    let today = chrono::Utc::now().date_naive();
    let day = today.checked_add_days(chrono::Days::new(days)).expect("the calendar goes on");
    format!("{day}T{time}")
}
