//! kill -9, and stores that go away: no acknowledged command is lost or applied twice, and every read
//! model converges.

use std::time::Duration;

use end_to_end::{Pontual, Profile, free_port, in_days, required};
use serde_json::{Value, json};

#[tokio::test]
async fn kill_9_under_load_loses_no_acknowledged_booking_and_doubles_none() {
    for profile in Profile::ALL {
        let mut pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let starts: Vec<String> = (5..25)
            .flat_map(|day| (11..21).map(move |hour| in_days(day, &format!("{hour}:00:00Z"))))
            .collect();

        // Book everything, a few at a time, and kill the server in the middle of it.
        let mut attempts = tokio::task::JoinSet::new();
        let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(8));
        for (n, start) in starts.iter().cloned().enumerate() {
            let (bia, ana, gate) = (bia.clone(), ana.clone(), gate.clone());
            attempts.spawn(async move {
                let _turn = gate.acquire_owned().await.unwrap();
                let request = bia
                    .api
                    .request("POST", "/api/appointments")
                    .header("idempotency-key", format!("book-{n}"))
                    .json(&json!({ "provider_id": ana.id, "start": start }));
                let status = request.send().await.ok().map(|answer| answer.status().as_u16());
                (n, status)
            });
        }
        let mut outcomes = vec![None; starts.len()];
        let mut done = 0;
        while let Some(outcome) = attempts.join_next().await {
            let (n, status) = outcome.unwrap();
            outcomes[n] = status;
            done += 1;
            if done == 40 {
                pontual.kill(0).await;
            }
        }
        let acknowledged = outcomes.iter().filter(|status| **status == Some(201)).count();
        assert!(acknowledged >= 30, "some were booked before the kill");
        assert!(acknowledged < starts.len(), "some were not");

        // Again, all of it, with the same keys: each is answered as if it were the first time.
        let url = pontual.spawn(&["serve"]).await;
        let api = bia.api.at(&url);
        let mut position = String::new();
        for (n, start) in starts.iter().enumerate() {
            let body = json!({ "provider_id": ana.id, "start": start });
            let answer =
                api.post_once("/api/appointments", &format!("book-{n}"), body).await.expect(201);
            if outcomes[n] == Some(201) {
                assert_eq!(answer.header("idempotent-replayed"), Some("true"), "{start}");
            }
            position = answer.position();
        }

        // In the log once, and in every read model once.
        let booked: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM events WHERE event_type = 'AppointmentBooked'",
        )
        .fetch_one(&pontual.pool().await)
        .await
        .unwrap();
        assert_eq!(booked, 200);
        let owner = ana.owner.api.at(&url);
        // The killed process' leases expire first.
        let counts = eventually(async || {
            let answer = owner.get_after("/api/notifications/counts", &position).await;
            (answer.status == 200).then_some(answer.body)
        })
        .await;
        assert_eq!(counts["total"], 200, "{profile:?}");
        eventually(async || {
            let answer = owner.get_after(&format!("/api/providers/{}", ana.slug), &position).await;
            (answer.status == 200).then_some(answer.body)
        })
        .await;
        let mut seen = 0;
        for day in 5..25 {
            let day = &in_days(day, "")[..10];
            let list = owner
                .get_after(&format!("/api/appointments/provider/{}?day={day}", ana.id), &position)
                .await
                .expect(200);
            seen += list.body["items"].as_array().unwrap().len();
            let free = owner
                .get_after(
                    &format!("/api/providers/available-times?provider_id={}&day={day}", ana.id),
                    &position,
                )
                .await
                .expect(200);
            assert_eq!(free.body["slots"], json!([]));
        }
        assert_eq!(seen, 200);
    }
}

#[tokio::test]
async fn bookings_go_on_without_redis_and_availability_is_right_when_it_is_back() {
    let redis = Redis::start().await;
    let pontual = Pontual::start_with(Profile::Full, 4, &[("REDIS_URL", &redis.url)]).await;
    let ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;
    let times = format!(
        "/api/providers/available-times?provider_id={}&day={}",
        ana.id,
        &in_days(3, "")[..10]
    );
    bia.api.get_after(&times, &ana.position).await.expect(200);

    let port = redis.port;
    drop(redis);
    let booked = bia.book(&ana, &in_days(3, "12:00:00Z")).await.expect(201);
    let without = bia.api.get(&times).await.expect(200);
    assert_eq!(without.body["slots"].as_array().unwrap().len(), 9, "answered from the log");
    pontual.nobody().get("/health/ready").await.expect(200);

    let _redis = Redis::start_on(port).await;
    eventually(async || {
        let answer = bia.api.get_after(&times, &booked.position()).await;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    let after = bia.api.get_after(&times, &booked.position()).await.expect(200);
    assert_eq!(after.body["slots"].as_array().unwrap().len(), 9);
    let booked = bia.book(&ana, &in_days(3, "13:00:00Z")).await.expect(201);
    let again = bia.api.get_after(&times, &booked.position()).await.expect(200);
    assert_eq!(again.body["slots"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn a_flushed_redis_is_cold_not_wrong() {
    let redis = Redis::start().await;
    let pontual = Pontual::start_with(Profile::Full, 4, &[("REDIS_URL", &redis.url)]).await;
    let ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;
    let times = format!(
        "/api/providers/available-times?provider_id={}&day={}",
        ana.id,
        &in_days(3, "")[..10]
    );
    let booked = bia.book(&ana, &in_days(3, "12:00:00Z")).await.expect(201);
    bia.api.get_after(&times, &booked.position()).await.expect(200);

    let mut connection = redis::Client::open(redis.url.clone())
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
    let cold = bia.api.get(&times).await.expect(200);
    assert_eq!(cold.body["slots"].as_array().unwrap().len(), 9);
    let booked = bia.book(&ana, &in_days(3, "13:00:00Z")).await.expect(201);
    let after = eventually(async || {
        let answer = bia.api.get_after(&times, &booked.position()).await;
        (answer.status == 200).then_some(answer.body)
    })
    .await;
    assert_eq!(after["slots"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn without_mongodb_bookings_go_on_and_the_feed_says_so() {
    // Nothing listens there; MongoDB may come later than Pontual.
    let nowhere = format!("mongodb://127.0.0.1:{}/none", free_port());
    let pontual = Pontual::start_with(Profile::Full, 4, &[("MONGODB_URL", &nowhere)]).await;
    let ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;
    let booked = bia.book(&ana, &in_days(3, "12:00:00Z")).await.expect(201);
    bia.api
        .get_after("/api/users/appointments?when=upcoming", &booked.position())
        .await
        .expect(200);
    let feed = ana.owner.api.get("/api/notifications").await.expect(503);
    assert!(feed.header("retry-after").is_some());
    let _ = required("TEST_MONGODB_URL");
}

/// Asks until there is an answer.
async fn eventually(mut ask: impl AsyncFnMut() -> Option<Value>) -> Value {
    let deadline = tokio::time::Instant::now() + end_to_end::PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "it never came right");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A Redis of this test's own, that can be killed.
struct Redis {
    url: String,
    port: u16,
    process: std::process::Child,
}

impl Redis {
    async fn start() -> Self {
        Self::start_on(free_port()).await
    }

    async fn start_on(port: u16) -> Self {
        let process = std::process::Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("redis-server starts");
        let deadline = tokio::time::Instant::now() + end_to_end::PATIENCE;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "redis-server is not there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { url: format!("redis://127.0.0.1:{port}"), port, process }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
