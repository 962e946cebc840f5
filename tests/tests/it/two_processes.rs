//! Two server processes over one Postgres, without Redis: as right as one.

use end_to_end::socket::Socket;
use end_to_end::{Pontual, Profile, in_days};
use serde_json::json;

#[tokio::test]
async fn what_is_booked_at_one_process_is_seen_and_heard_at_the_other_with_1_partition() {
    seen_and_heard_at_the_other(1).await;
}

#[tokio::test]
async fn what_is_booked_at_one_process_is_seen_and_heard_at_the_other_with_7_partitions() {
    seen_and_heard_at_the_other(7).await;
}

#[expect(clippy::unwrap_used, reason = "a test may panic")]
async fn seen_and_heard_at_the_other(partitions: u16) {
    let mut pontual = Pontual::start_with(Profile::SingleNode, partitions, &[]).await;
    let second = pontual.spawn(&["serve"]).await;
    let ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;

    let mut there = ana.owner.clone();
    there.api = there.api.at(&second);
    let mut socket = Socket::of(&there).await;
    socket.send(json!({ "type": "subscribe", "topic": "notifications" })).await;
    assert_eq!(socket.next().await["type"], "subscribed");
    // Warm the other process' caches, so that they have something to get wrong.
    let times = format!(
        "/api/providers/available-times?provider_id={}&day={}",
        ana.id,
        &in_days(3, "")[..10]
    );
    let list = format!("/api/appointments/provider/{}?day={}", ana.id, &in_days(3, "")[..10]);
    there.api.get_after(&times, &ana.position).await.expect(200);
    there.api.get_after(&list, &ana.position).await.expect(200);

    for hour in 12..16 {
        let start = in_days(3, &format!("{hour}:00:00Z"));
        let booked = bia.book(&ana, &start).await.expect(201);
        assert_eq!(socket.next().await["notification"]["appointment_id"], booked.body["id"]);
        let position = booked.position();
        let free = there.api.get_after(&times, &position).await.expect(200);
        let starts: Vec<_> = free.body["slots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|slot| slot["start"].clone())
            .collect();
        assert!(!starts.contains(&json!(start)), "{start} is still shown as free");
        let day = there.api.get_after(&list, &position).await.expect(200);
        let ids: Vec<_> =
            day.body["items"].as_array().unwrap().iter().map(|item| item["id"].clone()).collect();
        assert!(ids.contains(&booked.body["id"]));
    }
}

#[tokio::test]
async fn each_role_runs_as_a_process_of_its_own_with_1_partition() {
    each_role_alone(1).await;
}

#[tokio::test]
async fn each_role_runs_as_a_process_of_its_own_with_7_partitions() {
    each_role_alone(7).await;
}

#[expect(clippy::unwrap_used, reason = "a test may panic")]
async fn each_role_alone(partitions: u16) {
    let mut pontual = Pontual::start_with(Profile::Full, partitions, &[]).await;
    // From here on the roles do it alone.
    let command_api = pontual.spawn(&["command-api"]).await;
    let query_api = pontual.spawn(&["query-api"]).await;
    pontual.spawn(&["projector", "read-tables"]).await;
    pontual.spawn(&["projector", "availability", "notifications", "job-orders"]).await;
    pontual.spawn(&["worker"]).await;
    assert!(pontual.stop(0).await.success());
    pontual.url = command_api.clone();

    let mut ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;
    let mut reader = ana.owner.clone();
    reader.api = reader.api.at(&query_api);
    let mut socket = Socket::of(&reader).await;
    socket.send(json!({ "type": "subscribe", "topic": "notifications" })).await;
    assert_eq!(socket.next().await["type"], "subscribed");

    let booked = bia.book(&ana, &in_days(3, "12:00:00Z")).await.expect(201);
    assert_eq!(socket.next().await["notification"]["appointment_id"], booked.body["id"]);
    ana.owner.api = ana.owner.api.at(&query_api);
    let times = format!(
        "/api/providers/available-times?provider_id={}&day={}",
        ana.id,
        &in_days(3, "")[..10]
    );
    let free = ana.owner.api.get_after(&times, &booked.position()).await.expect(200);
    assert_eq!(free.body["slots"].as_array().unwrap().len(), 9);
    let day = format!("/api/appointments/provider/{}?day={}", ana.id, &in_days(3, "")[..10]);
    let day = ana.owner.api.get_after(&day, &booked.position()).await.expect(200);
    assert_eq!(day.body["items"].as_array().unwrap().len(), 1);
}
