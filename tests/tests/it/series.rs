//! Series through HTTP: booked whole or as far as can be had, listed, called off; one notification; races.

use std::collections::BTreeSet;

use end_to_end::{Answer, Api, Person, Pontual, Profile, Shop, in_days};
use serde_json::{Value, json};

#[expect(clippy::unwrap_used, reason = "a test may panic")]
fn texts<'a>(items: &'a Value, field: &str) -> Vec<&'a str> {
    items.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect()
}

async fn series(person: &Person, shop: &Shop, start: &str, rule: &str, mode: &str) -> Answer {
    let body = json!({ "provider_id": shop.id, "start": start, "rrule": rule, "mode": mode, "notes": "Curto" });
    person.api.post("/api/series", body).await
}

/// A person's notifications.
#[expect(clippy::unwrap_used, reason = "a test may panic")]
async fn told(api: &Api, position: &str) -> Vec<Value> {
    let feed = api.get_after("/api/notifications", position).await.expect(200);
    feed.body["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_series_is_booked_listed_and_called_off_and_told_once() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let (ana, bia) = (pontual.provider("Ana").await, pontual.client("Bia").await);
        let start = in_days(3, "12:00:00Z");
        let booked =
            series(&bia, &ana, &start, "RRULE:FREQ=WEEKLY;COUNT=4", "all-or-nothing").await;
        let booked = booked.expect(201);
        assert_eq!(booked.header("etag"), Some("\"v1\""));
        let path = booked.header("location").unwrap().to_owned();
        let position = booked.position();
        assert_eq!(path, format!("/api/series/{}", booked.body["id"].as_str().unwrap()));
        assert_eq!(booked.body["refused"], json!([]));
        assert_eq!(booked.body["status"], "pending");
        let starts = texts(&booked.body["booked"], "start");
        assert_eq!(starts, [3, 10, 17, 24].map(|day| in_days(day, "12:00:00Z")));
        let ids: BTreeSet<&str> =
            texts(&booked.body["booked"], "appointment_id").into_iter().collect();
        assert_eq!(ids.len(), 4);

        // Both sides see it, each appointment says which of it it is.
        for api in [&bia.api, &ana.owner.api] {
            let seen = api.get_after(&path, &position).await.expect(200);
            assert_eq!(seen.body["rrule"], "FREQ=WEEKLY;COUNT=4");
            assert_eq!(seen.body["mode"], "all-or-nothing");
            let numbers: Vec<_> = seen.body["appointments"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["series_number"].as_u64().unwrap())
                .collect();
            assert_eq!(numbers, [1, 2, 3, 4]);
            assert_eq!(seen.body["appointments"][0]["client_notes"], "Curto");
        }
        let mine = bia.api.get("/api/users/appointments").await.expect(200).body;
        assert_eq!(
            texts(&mine["items"], "series_id"),
            vec![booked.body["id"].as_str().unwrap(); 4]
        );

        // The provider hears of it once, by its first appointment.
        let feed = told(&ana.owner.api, &position).await;
        assert_eq!(feed.len(), 1, "{profile:?} {feed:?}");
        assert_eq!(feed[0]["kind"], "new_series");
        assert_eq!(feed[0]["appointment_id"], booked.body["booked"][0]["appointment_id"]);
        assert_eq!(feed[0]["start"], json!(start));

        // One is called off by itself, then what is left.
        let second = booked.body["booked"][1]["appointment_id"].as_str().unwrap().to_owned();
        bia.api.delete(&format!("/api/appointments/{second}")).await.expect(200);
        let cancel = format!("{path}/cancel");
        let off =
            ana.owner.api.post(&cancel, json!({ "reason": "I move away." })).await.expect(200);
        assert_eq!(off.header("etag"), Some("\"v2\""));
        assert_eq!(off.body["cancelled"].as_array().unwrap().len(), 3);
        assert_eq!(off.body["kept"].as_array().unwrap().len(), 1);
        assert_eq!(off.body["kept"][0]["appointment_id"], json!(second));
        assert_eq!(off.body["kept"][0]["reason"], "wrong-status");
        let seen = bia.api.get_after(&path, &off.position()).await.expect(200).body;
        assert_eq!(texts(&seen["appointments"], "status"), ["cancelled"; 4]);
        assert_eq!(seen["appointments"][0]["status_reason"], "I move away.");
        let feed = told(&bia.api, &off.position()).await;
        assert_eq!(feed.len(), 1, "{profile:?} {feed:?}");
        assert_eq!(feed[0]["kind"], "series_cancelled");
        // And all of it is free again.
        let again = series(&bia, &ana, &start, "FREQ=WEEKLY;COUNT=4", "all-or-nothing").await;
        again.expect(201);
        let nothing = bia.api.post(&cancel, json!({})).await.expect(200);
        assert_eq!(nothing.body["cancelled"], json!([]));
        pontual.client("Caio").await.api.post(&cancel, json!({})).await.expect(404);
    }
}

#[tokio::test]
async fn what_cannot_be_had_is_named_with_what_is_free_near_it() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let (ana, bia) = (pontual.provider("Ana").await, pontual.client("Bia").await);
        let caio = pontual.client("Caio").await;
        let start = in_days(3, "12:00:00Z");
        bia.book(&ana, &in_days(10, "12:00:00Z")).await.expect(201);
        let rule = "FREQ=WEEKLY;COUNT=3";
        let refused = series(&caio, &ana, &start, rule, "all-or-nothing").await.expect(409);
        assert_eq!(refused.problem(), "series-not-bookable");
        let occurrences = refused.body["occurrences"].as_array().unwrap();
        assert_eq!(occurrences.len(), 1);
        assert_eq!(
            (&occurrences[0]["number"], &occurrences[0]["reason"]),
            (&json!(2), &json!("slot-taken"))
        );
        assert_eq!(occurrences[0]["start"], json!(in_days(10, "12:00:00Z")));
        let near = occurrences[0]["alternatives"].as_array().unwrap();
        assert_eq!(near.len(), 3);
        assert!(near.contains(&json!(in_days(10, "13:00:00Z"))), "{near:?}");
        let mine = caio.api.get("/api/users/appointments").await.expect(200);
        assert_eq!(mine.body["items"], json!([]), "nothing of it was booked");

        // As far as can be had; and once more with the same key it is the same answer.
        let body =
            json!({ "provider_id": ana.id, "start": start, "rrule": rule, "mode": "best-effort" });
        let first = caio.api.post_once("/api/series", "again", body.clone()).await.expect(201);
        assert_eq!(first.body["booked"].as_array().unwrap().len(), 2);
        assert_eq!(first.body["refused"][0]["reason"], "slot-taken");
        let again = caio.api.post_once("/api/series", "again", body.clone()).await.expect(201);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.body, first.body);
        assert_eq!(told(&ana.owner.api, &first.position()).await.len(), 2, "{profile:?}");
        // With another key none of it is free any more.
        let none = caio.api.post_once("/api/series", "other", body).await.expect(409);
        assert_eq!(none.body["occurrences"].as_array().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn rules_that_are_unbounded_absurd_or_none_are_refused_and_write_nothing() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let (ana, bia) = (pontual.provider("Ana").await, pontual.client("Bia").await);
    let start = in_days(3, "12:00:00Z");
    let long = format!("FREQ=DAILY;COUNT=2;BYMONTHDAY={}", vec!["1"; 2000].join(","));
    for (rule, field) in [
        ("", "/rrule"),
        ("FREQ=DAILY", "/rrule"),
        ("FREQ=DAILY;COUNT=61", "/rrule"),
        ("FREQ=DAILY;COUNT=4294967297", "/rrule"),
        ("FREQ=SECONDLY;COUNT=2", "/rrule"),
        ("FREQ=DAILY;INTERVAL=366;COUNT=60", "/rrule"),
        ("FREQ=DAILY;UNTIL=99991231", "/rrule"),
        ("FREQ=DAILY;UNTIL=19700101", "/rrule"),
        ("FREQ=MONTHLY;BYMONTHDAY=31;BYDAY=5MO;COUNT=60", "/start"),
        (&long, "/rrule"),
    ] {
        let answer = series(&bia, &ana, &start, rule, "best-effort").await.expect(422);
        assert_eq!(answer.problem(), "invalid-input", "{rule}");
        let at = answer.body["errors"][0]["pointer"].as_str().unwrap();
        assert!(at == field || field == "/start" && at == "/rrule", "{rule}: {}", answer.body);
    }
    let good = json!({ "provider_id": ana.id, "start": start, "rrule": "FREQ=DAILY;COUNT=2" });
    bia.api.post("/api/series", good.clone()).await.expect(422);
    for (field, value) in [("mode", json!("some")), ("until", json!(1)), ("rrule", json!(7))] {
        let mut body = good.clone();
        body["mode"] = json!("best-effort");
        body[field] = value;
        bia.api.post("/api/series", body).await.expect(422);
    }
    let count =
        "SELECT count(*) FROM events WHERE aggregate_type IN ('Agenda', 'Series', 'Appointment')";
    let events: i64 = sqlx::query_scalar(count).fetch_one(&pontual.pool().await).await.unwrap();
    assert_eq!(events, 0);
}

/// What overlaps in a shop whose services all last an hour.
#[expect(clippy::unwrap_used, reason = "a test may panic")]
async fn overlaps(pontual: &Pontual) -> i64 {
    let sql = "SELECT count(*) FROM appointments a JOIN appointments b ON a.provider_id = b.provider_id AND a.id < b.id
        AND a.starts_at < b.ends_at AND b.starts_at < a.ends_at
        WHERE a.status IN ('pending', 'confirmed') AND b.status IN ('pending', 'confirmed')";
    sqlx::query_scalar(sql).fetch_one(&pontual.pool().await).await.unwrap()
}

/// Series, whole and in part, against single bookings of their occurrences, on two processes.
#[tokio::test]
async fn series_and_bookings_race_and_nobody_is_booked_twice() {
    const SERIES: usize = 16;
    const SINGLE: usize = 48;
    for profile in Profile::ALL {
        let mut pontual = Pontual::start(profile).await;
        let second = pontual.spawn(&["serve"]).await;
        let ana = pontual.provider("Ana").await;
        // Few people, many requests: each is its own command.
        let mut people = Vec::new();
        for name in ["Bia", "Caio", "Davi", "Eva"] {
            people.push(pontual.client(name).await);
        }
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(SERIES + SINGLE));
        let mut racers = tokio::task::JoinSet::new();
        for n in 0..SERIES + SINGLE {
            let mut api = people[n % people.len()].api.clone();
            if n % 2 == 1 {
                api = api.at(&second);
            }
            let (shop, barrier) = (ana.id.clone(), barrier.clone());
            racers.spawn(async move {
                barrier.wait().await;
                if n < SERIES {
                    let mode = if n % 4 < 2 { "all-or-nothing" } else { "best-effort" };
                    let body = json!({
                        "provider_id": shop, "start": in_days(3, "12:00:00Z"),
                        "rrule": "FREQ=DAILY;COUNT=10", "mode": mode,
                    });
                    (true, api.post("/api/series", body).await)
                } else {
                    let start = in_days(3 + (n as u64 % 12), "12:00:00Z");
                    let body = json!({ "provider_id": shop, "start": start });
                    (false, api.post("/api/appointments", body).await)
                }
            });
        }
        let (mut seats, mut last, mut tally) = (0, Vec::new(), Vec::new());
        while let Some(racer) = racers.join_next().await {
            let (is_series, answer) = racer.unwrap();
            tally.push((is_series, answer.status, answer.problem().to_owned()));
            match (answer.status, is_series) {
                (201, true) => seats += answer.body["booked"].as_array().unwrap().len(),
                (201, false) => seats += 1,
                (409, true) => assert_eq!(answer.problem(), "series-not-bookable"),
                (409, false) => {
                    assert_eq!(answer.problem(), "slot-taken");
                    assert!(!answer.body["alternatives"].as_array().unwrap().is_empty());
                }
                _ => panic!("{profile:?}: {answer:?}"),
            }
            if answer.status == 201 {
                last.push(answer.position());
            }
        }
        // Every one of the twelve days was wanted by somebody: each was given once.
        assert_eq!(seats, 12, "{profile:?}: {tally:?}");
        for position in &last {
            people[0].api.get_after("/api/users/appointments", position).await.expect(200);
        }
        assert_eq!(overlaps(&pontual).await, 0, "{profile:?}");
        let standing = "SELECT count(*) FROM appointments WHERE status = 'pending'";
        let standing: i64 =
            sqlx::query_scalar(standing).fetch_one(&pontual.pool().await).await.unwrap();
        assert_eq!(standing, 12);
    }
}
