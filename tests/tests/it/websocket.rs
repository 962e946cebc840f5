//! `/ws`: authentication, pushes, resuming, garbage.

use std::time::Duration;

use end_to_end::socket::Socket;
use end_to_end::{Pontual, Profile, in_days};
use serde_json::json;

#[tokio::test]
async fn a_providers_open_socket_hears_of_a_booking_and_resumes_without_loss() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;

        let mut socket = Socket::of(&ana.owner).await;
        socket.send(json!({ "type": "subscribe", "topic": "notifications" })).await;
        assert_eq!(socket.next().await["type"], "subscribed");

        let booked = bia.book(&ana, &in_days(4, "12:00:00Z")).await.expect(201);
        let heard = socket.next().await;
        assert_eq!(heard["type"], "notification");
        assert_eq!(heard["notification"]["appointment_id"], booked.body["id"]);
        // Whoever refetches because of a push sees what it told.
        let counts = ana.owner.api.get("/api/notifications/counts").await.expect(200);
        assert_eq!(counts.body["unread"], 1);
        let offset = heard["offset"].clone();
        drop(socket);

        let missed: Vec<_> = [
            bia.book(&ana, &in_days(4, "13:00:00Z")).await.expect(201),
            bia.book(&ana, &in_days(4, "14:00:00Z")).await.expect(201),
        ]
        .into_iter()
        .map(|answer| answer.body["id"].clone())
        .collect();
        let mut socket = Socket::of(&ana.owner).await;
        socket
            .send(json!({ "type": "subscribe", "topic": "notifications", "after": offset }))
            .await;
        assert_eq!(socket.next().await["type"], "subscribed");
        for id in &missed {
            assert_eq!(socket.next().await["notification"]["appointment_id"], *id, "{profile:?}");
        }
        assert!(socket.is_silent(Duration::from_millis(300)).await, "nothing is told twice");
    }
}

#[tokio::test]
async fn whoever_watches_a_providers_day_hears_when_it_changes() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let day = &in_days(4, "12:00:00Z")[..10];
        let mut socket = Socket::of(&bia).await;
        socket.send(json!({ "type": "subscribe", "topic": "availability", "provider": ana.id, "day": day })).await;
        assert_eq!(socket.next().await["type"], "subscribed");

        let caio = pontual.client("Caio").await;
        caio.book(&ana, &in_days(4, "12:00:00Z")).await.expect(201);
        let heard = socket.next().await;
        assert_eq!((&heard["type"], &heard["day"]), (&json!("availability_changed"), &json!(day)));
        let offset = heard["offset"].as_str().unwrap();
        let path = format!("/api/providers/available-times?provider_id={}&day={day}", ana.id);
        let times = bia.api.get_after(&path, offset).await.expect(200);
        assert_eq!(times.body["slots"].as_array().unwrap().len(), 9);

        // Another day is none of this socket's business; a change of hours is.
        caio.book(&ana, &in_days(9, "12:00:00Z")).await.expect(201);
        assert!(socket.is_silent(Duration::from_millis(300)).await);
        ana.owner
            .api
            .put(&format!("/api/providers/overrides/{day}"), json!({ "windows": [] }))
            .await
            .expect(200);
        assert_eq!(socket.next().await["type"], "availability_changed");
    }
}

#[tokio::test]
async fn sockets_without_a_good_token_or_with_garbage_are_closed() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let bia = pontual.client("Bia").await;

    let mut socket = Socket::connect(&pontual.url).await;
    socket.send(json!({ "type": "subscribe", "topic": "notifications" })).await;
    assert_eq!(socket.closed().await, Some(4401));

    let mut socket = Socket::connect(&pontual.url).await;
    socket.send(json!({ "type": "authenticate", "token": "not.a.token" })).await;
    assert_eq!(socket.closed().await, Some(4401));

    for garbage in [
        "",
        "x",
        "[]",
        "{\"type\":\"explode\"}",
        "{\"type\":\"subscribe\",\"topic\":\"availability\",\"provider\":\"x\",\"day\":\"2031-13-01\"}",
    ] {
        let mut socket = Socket::of(&bia).await;
        socket.send_text(garbage).await;
        assert_eq!(socket.closed().await, Some(1008), "{garbage:?}");
    }

    let mut socket = Socket::of(&bia).await;
    socket.send_too_much(&"x".repeat(1 << 20)).await;
    let code = socket.closed().await;
    assert!(matches!(code, Some(1009) | None), "{code:?}");
    // The server is none the worse for it.
    pontual.nobody().get("/health/ready").await.expect(200);
}

#[tokio::test]
async fn a_stopping_query_api_waits_until_every_socket_was_told() {
    let mut pontual = Pontual::start(Profile::Full).await;
    let query_api = pontual.spawn(&["query-api"]).await;
    let bia = pontual.client("Bia").await;
    let mut there = bia.clone();
    there.api = there.api.at(&query_api);
    let mut sockets = Vec::new();
    for _ in 0..30 {
        sockets.push(Socket::of(&there).await);
    }
    let began = std::time::Instant::now();
    let told = futures_util::future::join_all(sockets.iter_mut().map(Socket::closed));
    let (status, codes) = tokio::join!(pontual.stop(1), told);
    assert!(status.success());
    assert_eq!(codes, [Some(1012); 30]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stopping_server_says_so_to_its_sockets() {
    let mut pontual = Pontual::start(Profile::SingleNode).await;
    let bia = pontual.client("Bia").await;
    let mut socket = Socket::of(&bia).await;
    let stopped = pontual.stop(0);
    let (status, code) = tokio::join!(stopped, socket.closed());
    assert!(status.success());
    assert_eq!(code, Some(1012));
}
