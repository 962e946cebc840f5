//! Waitlists through HTTP: joined where nothing is free, offered what is given back, taken by booking with the hold.

use std::time::Duration;

use end_to_end::{Api, PATIENCE, Person, Pontual, Profile, Shop, in_days};
use serde_json::{Value, json};
use tokio::time::Instant;

/// A shop with one slot a day: 12:00 UTC.
async fn small_shop(pontual: &Pontual) -> Shop {
    let day = json!([{ "from": "09:00", "to": "10:00" }]);
    let mut weekly = json!({});
    for name in ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] {
        weekly[name] = day.clone();
    }
    pontual.provider_with("Ana", json!({ "weekly": weekly })).await
}

async fn join(person: &Person, shop: &Shop) -> Value {
    let body = json!({ "provider_id": shop.id, "from": in_days(7, "03:00:00Z"), "to": in_days(8, "03:00:00Z") });
    person.api.post("/api/waitlist", body).await.expect(201).body
}

/// A person's only place in line, once it stands so.
async fn once(api: &Api, status: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let waits = api.get("/api/waitlist").await.expect(200).body;
        if waits["items"][0]["status"] == status {
            return waits["items"][0].clone();
        }
        assert!(Instant::now() < deadline, "not {status}: {waits}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_called_off_is_offered_to_the_first_in_line_then_to_the_next() {
    for profile in Profile::ALL {
        let mut pontual = Pontual::start(profile).await;
        let second = pontual.spawn(&["serve"]).await;
        let ana = small_shop(&pontual).await;
        let (bia, caio) = (pontual.client("Bia").await, pontual.client("Caio").await);
        let (mut dora, eva) = (pontual.client("Dora").await, pontual.client("Eva").await);
        dora.api = dora.api.at(&second);
        let start = in_days(7, "12:00:00Z");
        let booked = bia.book(&ana, &start).await.expect(201);
        assert_eq!(join(&caio, &ana).await["place"], 1);
        let place = join(&dora, &ana).await;
        assert_eq!(place["place"], 2);
        assert_eq!(once(&dora.api, "waiting").await["place"], 2);
        let line = format!("/api/waitlist/provider/{}", ana.id);
        let length = ana.owner.api.get(&line).await.expect(200).body;
        assert_eq!(length["items"][0]["waiting"], 2);
        caio.api.get(&line).await.expect(403);

        let path = format!("/api/appointments/{}", booked.body["id"].as_str().unwrap());
        bia.api.delete(&path).await.expect(200);
        let offered = once(&caio.api, "offered").await;
        assert_eq!(offered["offer"]["start"], json!(start), "{profile:?}");
        let hold = offered["offer"]["hold_id"].as_str().unwrap();
        // It is his alone, and he was told.
        let refused = eva.book(&ana, &start).await.expect(409);
        assert_eq!(refused.problem(), "slot-held");
        let deadline = Instant::now() + PATIENCE;
        let told = loop {
            let feed = caio.api.get("/api/notifications").await.expect(200).body;
            if let Some(told) = feed["items"].as_array().unwrap().first() {
                break told.clone();
            }
            assert!(Instant::now() < deadline, "he was not told");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!((&told["kind"], &told["hold_id"]), (&json!("waitlist_offer"), &json!(hold)));
        assert_eq!(
            (&told["appointment_id"], &told["other_party"]),
            (&Value::Null, &json!("Ana's"))
        );
        assert_eq!(told["start"], json!(start));

        // He lets go: it goes to the next, who takes it.
        caio.api.delete(&format!("/api/holds/{hold}")).await.expect(204);
        once(&caio.api, "declined").await;
        let offered = once(&dora.api, "offered").await;
        let taking =
            json!({ "provider_id": ana.id, "start": start, "hold": offered["offer"]["hold_id"] });
        eva.api.post("/api/appointments", taking.clone()).await.expect(404);
        dora.api.post("/api/appointments", taking).await.expect(201);
        assert_eq!(once(&dora.api, "taken").await["place"], Value::Null);
    }
}

#[tokio::test]
async fn a_place_in_line_outlives_its_processes_and_ends_when_it_is_left() {
    let mut pontual = Pontual::start(Profile::SingleNode).await;
    let ana = small_shop(&pontual).await;
    let (bia, caio) = (pontual.client("Bia").await, pontual.client("Caio").await);
    let start = in_days(7, "12:00:00Z");
    let booked = bia.book(&ana, &start).await.expect(201);
    let place = join(&caio, &ana).await;
    // Something else is free, so nobody waits for that.
    let free = json!({ "provider_id": ana.id, "from": in_days(9, "03:00:00Z"), "to": in_days(10, "03:00:00Z") });
    let refused = caio.api.post("/api/waitlist", free).await.expect(409);
    assert_eq!(refused.problem(), "nothing-to-wait-for");
    assert_eq!(refused.body["alternatives"], json!([in_days(9, "12:00:00Z")]));
    for body in [
        json!({ "provider_id": ana.id, "from": start, "to": start }),
        json!({ "provider_id": ana.id, "from": start, "to": in_days(22, "12:00:00Z") }),
        json!({ "provider_id": ana.id, "from": start }),
    ] {
        caio.api.post("/api/waitlist", body).await.expect(422);
    }
    let leave = format!("/api/waitlist/provider/{}/{}", ana.id, place["id"].as_str().unwrap());
    bia.api.delete(&leave).await.expect(404);

    let there = pontual.spawn(&["serve"]).await;
    pontual.kill(0).await;
    let (bia, caio) = (bia.api.at(&there), caio.api.at(&there));
    bia.delete(&format!("/api/appointments/{}", booked.body["id"].as_str().unwrap()))
        .await
        .expect(200);
    once(&caio, "offered").await;
    caio.delete(&leave).await.expect(204);
    once(&caio, "declined").await;
    caio.delete(&leave).await.expect(404);
}
