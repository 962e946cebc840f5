//! A booking, end to end, in both profiles.

use end_to_end::{Pontual, Profile, in_days};
use serde_json::json;

#[tokio::test]
async fn a_client_that_books_and_at_once_asks_sees_its_booking_everywhere() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;

        let day = &in_days(10, "")[..10];
        let path = format!("/api/providers/available-times?provider_id={}&day={day}", ana.id);
        let before = bia.api.get_after(&path, &ana.position).await.expect(200);
        let starts: Vec<&str> = before.body["slots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|slot| slot["local_start"].as_str().unwrap())
            .collect();
        assert_eq!(starts.len(), 10, "the classic profile: {starts:?}");
        assert_eq!(
            (starts[0], starts[9]),
            (&*format!("{day}T08:00:00-03:00"), &*format!("{day}T17:00:00-03:00"))
        );

        // 09:00 in São Paulo.
        let booked = bia.book(&ana, &in_days(10, "12:00:00Z")).await.expect(201);
        assert_eq!(booked.body["status"], "pending");
        let id = booked.body["id"].as_str().unwrap();
        assert_eq!(booked.header("location"), Some(format!("/api/appointments/{id}").as_str()));
        let position = booked.position();

        let one =
            bia.api.get_after(&format!("/api/appointments/{id}"), &position).await.expect(200);
        assert_eq!(one.body["local_start"], format!("{day}T09:00:00-03:00"));
        assert_eq!(one.body["time_zone"], "America/Sao_Paulo");

        let mine =
            bia.api.get_after("/api/users/appointments?when=upcoming", &position).await.expect(200);
        assert_eq!(mine.body["items"][0]["id"], id);
        let past =
            bia.api.get_after("/api/users/appointments?when=past", &position).await.expect(200);
        assert_eq!(past.body["items"], json!([]));

        let day_path = format!("/api/appointments/provider/{}?day={day}", ana.id);
        for _ in 0..2 {
            let day = ana.owner.api.get_after(&day_path, &position).await.expect(200);
            assert_eq!(day.body["items"][0]["id"], id, "{profile:?}");
            assert_eq!(day.body["items"][0]["client_name"], "Bia Test");
        }

        let after = bia.api.get_after(&path, &position).await.expect(200);
        let free: Vec<_> = after.body["slots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|slot| &slot["local_start"])
            .collect();
        assert_eq!(free.len(), 9);
        assert!(!free.contains(&&json!(format!("{day}T09:00:00-03:00"))));

        let unread = ana
            .owner
            .api
            .get_after("/api/notifications?status=unread", &position)
            .await
            .expect(200);
        assert_eq!(unread.body["items"][0]["kind"], "new_booking");
        assert_eq!(unread.body["items"][0]["appointment_id"], id);

        // The same slot again, by somebody else.
        let caio = pontual.client("Caio").await;
        let taken = caio.book(&ana, &in_days(10, "12:00:00Z")).await.expect(409);
        assert_eq!(taken.problem(), "slot-taken");
        assert_eq!(
            taken.body["alternatives"],
            json!([11, 13, 14, 15, 16].map(|hour| in_days(10, &format!("{hour}:00:00Z"))))
        );
    }
}

#[tokio::test]
async fn taken_past_own_and_out_of_hours_slots_are_each_refused_by_name() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;
    for (start, problem) in [
        ("2031-03-03T10:00:00Z", "outside-hours"),
        ("2031-03-03T20:30:00Z", "outside-hours"),
        ("2031-03-03T21:00:00Z", "outside-hours"),
        ("2020-03-03T12:00:00Z", "slot-in-past"),
        ("2061-03-03T12:00:00Z", "beyond-horizon"),
    ] {
        let start = if problem == "outside-hours" { soon(start) } else { start.to_owned() };
        let refused = bia.book(&ana, &start).await.expect(422);
        assert_eq!(refused.problem(), problem, "{start}");
    }
    let own = ana.owner.book(&ana, &soon("2031-03-03T12:00:00Z")).await.expect(422);
    assert_eq!(own.problem(), "own-appointment");
    let nobody = pontual.nobody();
    nobody
        .post(
            "/api/appointments",
            json!({ "provider_id": ana.id, "start": soon("2031-03-03T12:00:00Z") }),
        )
        .await
        .expect(401);
}

/// The same time of day, 30 days from now: the classic horizon is a year.
fn soon(start: &str) -> String {
    in_days(30, &start[11..])
}

#[tokio::test]
async fn an_appointment_is_confirmed_moved_and_cancelled_with_one_id_and_freed_slots() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let (first, second) = (in_days(7, "12:00:00Z"), in_days(8, "15:00:00Z"));
        let booked = bia.book(&ana, &first).await.expect(201);
        let path = format!("/api/appointments/{}", booked.body["id"].as_str().unwrap());

        bia.api.put(&format!("{path}/status"), json!({ "status": "confirmed" })).await.expect(403);
        let confirmed = ana
            .owner
            .api
            .put(&format!("{path}/status"), json!({ "status": "confirmed" }))
            .await
            .expect(200);
        assert_eq!(confirmed.body["status"], "confirmed");

        let moved = ana
            .owner
            .api
            .post(&format!("{path}/reschedule"), json!({ "start": second }))
            .await
            .expect(200);
        assert_eq!(moved.body["id"], booked.body["id"]);
        assert_eq!(moved.body["start"], second);
        assert_eq!(moved.body["status"], "confirmed");

        // The old slot is free again, for anybody.
        let caio = pontual.client("Caio").await;
        caio.book(&ana, &first).await.expect(201);

        let cancelled = bia.api.delete(&path).await.expect(200);
        assert_eq!(cancelled.body["status"], "cancelled");
        let seen = bia.api.get_after(&path, &cancelled.position()).await.expect(200);
        assert_eq!(seen.body["status"], "cancelled");
        caio.book(&ana, &second).await.expect(201);

        // Cancelling again changes nothing and is no error; confirming is refused.
        bia.api.delete(&path).await.expect(200);
        let late = ana
            .owner
            .api
            .put(&format!("{path}/status"), json!({ "status": "confirmed" }))
            .await
            .expect(409);
        assert_eq!(late.problem(), "wrong-status");
    }
}

#[tokio::test]
async fn sixty_four_racers_for_one_slot_have_one_winner_and_losers_hear_of_alternatives() {
    let mut pontual = Pontual::start(Profile::SingleNode).await;
    let second = pontual.spawn(&["serve"]).await;
    let ana = pontual.provider("Ana").await;
    let mut racers = Vec::new();
    for n in 0..8 {
        racers.push(pontual.client(&format!("Racer{n}")).await);
    }
    let start = in_days(9, "13:00:00Z");
    let mut attempts = tokio::task::JoinSet::new();
    for n in 0..64 {
        let mut racer = racers[n % racers.len()].clone();
        let (ana, start) = (ana.clone(), start.clone());
        if n % 2 == 1 {
            racer.api = racer.api.at(&second);
        }
        attempts.spawn(async move { racer.book(&ana, &start).await });
    }
    let answers = attempts.join_all().await;
    let winners = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(winners, 1);
    for loser in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((loser.status, loser.problem()), (409, "slot-taken"), "{}", loser.body);
        assert!(!loser.body["alternatives"].as_array().unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_same_key_gives_the_first_answer_again_and_another_body_is_refused() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;
    let body = json!({ "provider_id": ana.id, "start": in_days(5, "14:00:00Z") });
    let first = bia.api.post_once("/api/appointments", "key-1", body.clone()).await.expect(201);
    let again = bia.api.post_once("/api/appointments", "key-1", body.clone()).await.expect(201);
    assert_eq!(first.body, again.body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let other = json!({ "provider_id": ana.id, "start": in_days(5, "15:00:00Z") });
    let reused = bia.api.post_once("/api/appointments", "key-1", other).await.expect(422);
    assert_eq!(reused.problem(), "idempotency-key-reused");
    // Without the key it is a second booking of a taken slot.
    bia.api.post("/api/appointments", body).await.expect(409);
}

#[tokio::test]
async fn an_unconfirmed_account_can_sign_in_but_not_book() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider("Ana").await;
    let email = "unconfirmed@example.com";
    let password = "correct horse battery";
    pontual
        .nobody()
        .post("/api/auth/register", json!({ "name": "Una", "email": email, "password": password }))
        .await
        .expect(202);
    let una = pontual.sign_in(email, password).await;
    let refused = una.book(&ana, &in_days(5, "14:00:00Z")).await.expect(403);
    assert_eq!(refused.problem(), "email-not-confirmed");
}

#[tokio::test]
async fn a_providers_own_hours_services_and_days_off_decide_what_is_free() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let day = in_days(14, "")[..10].to_owned();
        let times = format!("/api/providers/available-times?provider_id={}&day={day}", ana.id);
        let api = &ana.owner.api;

        let off = api
            .put(&format!("/api/providers/overrides/{day}"), json!({ "windows": [] }))
            .await
            .expect(200);
        let none = api.get_after(&times, &off.position()).await.expect(200);
        assert_eq!(none.body["slots"], json!([]), "{profile:?}");

        let short = json!({ "windows": [{ "from": "09:00", "to": "10:30" }] });
        let changed = api.put(&format!("/api/providers/overrides/{day}"), short).await.expect(200);
        let some = api.get_after(&times, &changed.position()).await.expect(200);
        assert_eq!(some.body["slots"].as_array().unwrap().len(), 1);

        let added = api
            .post("/api/services", json!({ "name": "Corte", "duration_minutes": 30, "price": { "amount_minor": 5000, "currency": "BRL" } }))
            .await
            .expect(201);
        let service = added.body["id"].as_str().unwrap();
        let cut = api
            .get_after(&format!("{times}&service_id={service}"), &added.position())
            .await
            .expect(200);
        assert_eq!(cut.body["slots"].as_array().unwrap().len(), 3);

        let services = api
            .get_after(&format!("/api/services/provider/{}", ana.id), &added.position())
            .await
            .expect(200);
        assert_eq!(services.body["items"].as_array().unwrap().len(), 2);

        let month = format!(
            "/api/providers/available-days?provider_id={}&month={}&service_id={service}",
            ana.id,
            &day[..7]
        );
        let days = api.get_after(&month, &added.position()).await.expect(200);
        assert!(days.body["days"].as_array().unwrap().contains(&json!(day)));
        let off = api
            .put(&format!("/api/providers/overrides/{day}"), json!({ "windows": [] }))
            .await
            .expect(200);
        let days = api.get_after(&month, &off.position()).await.expect(200);
        assert!(!days.body["days"].as_array().unwrap().contains(&json!(day)));

        let back = api.delete(&format!("/api/providers/overrides/{day}")).await.expect(204);
        let all = api.get_after(&times, &back.position()).await;
        assert_eq!(all.status, 400, "two services: one must be named");
    }
}

#[tokio::test]
async fn providers_are_listed_in_pages_and_found_by_slug() {
    for profile in Profile::ALL {
        let pontual = Pontual::start_with(profile, 7, &[]).await;
        let mut last = String::new();
        for name in ["Zoe", "Ana", "Max"] {
            last = pontual.provider(name).await.position;
            pontual.nobody().get_after("/api/providers", &last).await.expect(200);
        }
        let first = pontual.nobody().get_after("/api/providers?limit=2", &last).await.expect(200);
        let names = |page: &end_to_end::Answer| -> Vec<String> {
            page.body["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| p["business_name"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names(&first), ["Ana's", "Max's"]);
        let cursor = first.body["next_cursor"].as_str().unwrap();
        let second = pontual
            .nobody()
            .get(&format!("/api/providers?limit=2&cursor={cursor}"))
            .await
            .expect(200);
        assert_eq!(names(&second), ["Zoe's"]);
        assert!(second.body["next_cursor"].is_null());
        let slug = first.body["items"][0]["slug"].as_str().unwrap();
        let one = pontual.nobody().get(&format!("/api/providers/{slug}")).await.expect(200);
        assert_eq!(one.body["services"].as_array().unwrap().len(), 1);
        pontual.nobody().get("/api/providers/nobody-at-all").await.expect(404);
    }
}

#[tokio::test]
async fn where_a_location_leads_the_new_thing_is() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;
    let offer = json!({ "name": "Corte", "duration_minutes": 60 });
    let service = ana.owner.api.post("/api/services", offer).await.expect(201);
    let body = json!({ "provider_id": ana.id, "service_id": service.body["id"],
        "start": in_days(3, "12:00:00Z") });
    let booked = bia.api.post("/api/appointments", body).await.expect(201);
    let opening = json!({ "business_name": "Bia", "slug": ana.slug.replace("ana", "bia") + "-2" });
    let opened = bia.api.post("/api/providers", opening).await.expect(201);
    for made in [service, booked, opened] {
        let location = made.header("location").unwrap().to_owned();
        let found = bia.api.get_after(&location, &made.position()).await.expect(200);
        assert_eq!(found.body["id"], made.body["id"], "{location}");
    }
    let removed = ana.owner.api.get("/api/services/my-services").await.expect(200);
    let id = removed.body["items"][1]["id"].as_str().unwrap().to_owned();
    let path = format!("/api/services/{id}");
    let removed = ana.owner.api.delete(&path).await.expect(204);
    bia.api.get_after(&path, &removed.position()).await.expect(404);
}

#[tokio::test]
async fn what_was_read_is_changed_only_while_it_is_as_it_was_read() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider("Ana").await;
    let api = &ana.owner.api;
    let read = api.get_after("/api/providers/profile", &ana.position).await.expect(200);
    let tag = read.header("etag").unwrap().to_owned();
    let put = async |tag: &str, name: &str| {
        let request = api.request("PUT", "/api/providers/profile").header("if-match", tag);
        api.send(request.json(&json!({ "business_name": name }))).await
    };
    let changed = put(&tag, "Ana & Cia").await.expect(200);
    let late = put(&tag, "Ana Ltda").await.expect(412);
    assert_eq!(late.problem(), "precondition-failed");
    assert_eq!(late.header("etag"), changed.header("etag"));
    let read = api.get_after("/api/providers/profile", &changed.position()).await.expect(200);
    assert_eq!(read.body["business_name"], "Ana & Cia");
    assert_eq!(read.header("etag"), changed.header("etag"), "what a command says, a query says");
}
