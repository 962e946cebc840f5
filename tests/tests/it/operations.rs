//! What the operator sees: health, metrics, doctor, OpenAPI, a graceful stop.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use end_to_end::{PATIENCE, Pontual, Profile};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn sigterm_stops_it_gracefully_and_a_restart_finds_everything() {
    let mut pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider("Ana").await;
    assert!(pontual.stop(0).await.success());
    pontual.url = pontual.spawn(&["serve"]).await;
    let found = pontual
        .nobody()
        .get_after(&format!("/api/providers/{}", ana.slug), &ana.position)
        .await
        .expect(200);
    assert_eq!(found.body["id"], ana.id);
}

#[tokio::test]
async fn a_stop_has_one_deadline_whatever_hangs() {
    // A mail server that says nothing keeps a job busy; a client that sends nothing, a request.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let smtp = format!("smtp://{}", mute.local_addr().unwrap());
    let mut pontual =
        Pontual::start_with(Profile::SingleNode, 1, &[("SMTP_URL", smtp.as_str())]).await;
    let body =
        json!({ "name": "Ana", "email": "ana@example.com", "password": "correct horse battery" });
    pontual.nobody().post("/api/auth/register", body).await.expect(202);
    let (_mail, _) = tokio::time::timeout(PATIENCE, mute.accept()).await.unwrap().unwrap();
    let mut slow = TcpStream::connect(pontual.url.trim_start_matches("http://")).await.unwrap();
    let head = "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    // It is being served once another request, sent after it, was answered.
    pontual.nobody().get("/health/live").await.expect(200);
    let began = Instant::now();
    assert!(pontual.stop(0).await.success());
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
}

/// The private cluster's Postgres, as its `postmaster.pid` has it; ended at the end, should the test have failed.
struct Postgres(PathBuf);

impl Postgres {
    fn of(pontual: &Pontual) -> Self {
        Self(pontual.folder().join("postgres").canonicalize().expect("a cluster"))
    }

    fn pid(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.0.join("data/postmaster.pid")).ok()?;
        Some(text.lines().next()?.trim().to_owned())
    }

    /// The number it had.
    fn kill(&self) -> String {
        let pid = self.pid().expect("it runs");
        let killed = std::process::Command::new("kill").args(["-9", &pid]).status();
        assert!(killed.expect("kill runs").success());
        pid
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = std::process::Command::new("kill").args(["-9", &pid]).status();
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_private_postgres_that_dies_is_started_again_and_commands_wait_for_it() {
    let mut pontual = Pontual::start_with(Profile::SingleNode, 1, &[("DATABASE_URL", "")]).await;
    let postgres = Postgres::of(&pontual);
    let ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;
    let until = async |status: u16, hour: usize| {
        let start = end_to_end::in_days(3, &format!("{hour}:00:00Z"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = bia.book(&ana, &start).await;
            if answer.status == status {
                return answer;
            }
            assert!(Instant::now() < deadline, "{} {}", answer.status, answer.body);
        }
    };
    until(201, 12).await;
    let killed = postgres.kill();
    // Connections that are open may outlive it for a moment.
    eventually("it is started", || postgres.pid().is_some_and(|pid| pid != killed)).await;
    until(201, 13).await;
    eventually("it says so", || pontual.log().contains("the private Postgres runs again")).await;
    // One that cannot be started is tried again, and nothing is lost meanwhile.
    let settings = postgres.0.join("data/pontual.conf");
    std::fs::remove_file(&settings).unwrap();
    std::fs::create_dir(&settings).unwrap();
    postgres.kill();
    // Of a slot of its own: a connection that outlives the server for a moment may still book it.
    let refused = until(503, 15).await;
    assert_eq!(refused.problem(), "unavailable");
    assert!(refused.header("retry-after").is_some());
    let tried = || pontual.log().contains("the private Postgres cannot be started");
    eventually("it is tried in vain", tried).await;
    std::fs::remove_dir(&settings).unwrap();
    until(201, 14).await;
    let began = Instant::now();
    assert!(pontual.stop(0).await.success());
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(postgres.pid(), None, "it goes with the program");
}

#[tokio::test]
async fn the_api_describes_itself_and_shows_a_page_to_try_it() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let nobody = pontual.nobody();
    let document = nobody.get("/openapi.json").await.expect(200);
    assert_eq!(document.body["openapi"], "3.1.0");
    for operation in ["BookAppointment", "RegisterAccount", "OpenProvider", "AvailableTimes"] {
        assert!(
            document.body.to_string().contains(&format!("\"operationId\":\"{operation}\"")),
            "{operation}"
        );
    }
    let page = nobody.get("/docs/").await.expect(200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'"), "the page may load its own scripts: {policy}");
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    for part in ["swagger-ui-bundle.js", "swagger-initializer.js", "swagger-ui.css"] {
        nobody.get(&format!("/docs/{part}")).await.expect(200);
    }
    let policy = document.header("content-security-policy").unwrap();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    nobody.get("/health/live").await.expect(200);
    nobody.get("/.well-known/jwks.json").await.expect(200);
}

#[tokio::test]
async fn logs_hold_no_personal_data_and_no_secrets() {
    let pontual = Pontual::start_with(Profile::SingleNode, 4, &[("PONTUAL_LOG", "debug")]).await;
    let ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;
    bia.book(&ana, &end_to_end::in_days(3, "12:00:00Z")).await.expect(201);
    let log = pontual.log();
    for secret in
        [bia.email.as_str(), "Bia Test", "correct horse", bia.api.token.as_deref().unwrap()]
    {
        assert!(!log.contains(secret), "the log holds {secret}");
    }
}
