//! Time off, holidays, own windows, full days and why a slot is not free, end to end, in both profiles.

use end_to_end::{Answer, Person, Pontual, Profile, Shop, in_days};
use serde_json::{Value, json};

async fn starts(who: &Person, shop: &Shop, day: &str, position: &str) -> Vec<String> {
    let path = format!("/api/providers/available-times?provider_id={}&day={day}", shop.id);
    let times = who.api.get_after(&path, position).await.expect(200);
    let local = |slot: &Value| slot["local_start"].as_str().expect("a time")[11..16].to_owned();
    times.body["slots"].as_array().expect("a list").iter().map(local).collect()
}

/// What a booking is refused with is what is said beforehand.
async fn refused_alike(who: &Person, shop: &Shop, start: &str, position: &str, problem: &str) {
    let path = format!("/api/providers/available-times/why?provider_id={}&start={start}", shop.id);
    let why = who.api.get_after(&path, position).await.expect(200);
    assert_eq!(why.body["rule"], format!("/problems/{problem}"), "{}", why.body);
    assert_eq!(why.body["free"], false);
    let refused: Answer = who.book(shop, start).await;
    assert_eq!(refused.problem(), problem, "{}", refused.body);
    for words in ["title", "detail"] {
        assert_eq!(why.body[words], refused.body[words]);
    }
}

#[tokio::test]
async fn every_rule_shows_at_once_in_what_is_free_and_in_why_it_is_not() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let owner = &ana.owner.api;
        let day = &in_days(10, "")[..10];
        let at = |utc: &str| in_days(10, utc);
        assert_eq!(starts(&bia, &ana, day, &ana.position).await.len(), 10);
        let standing = bia.book(&ana, &at("12:00:00Z")).await.expect(201);

        // 09:30 to 11:00 local: 12:30Z to 14:00Z.
        let path = format!("/api/providers/{}/time-off", ana.id);
        let (from, until) = (format!("{day}T09:30"), format!("{day}T11:00"));
        let off = json!({ "from": from, "until": until, "reason": "Dentista" });
        bia.api.post(&path, off.clone()).await.expect(403);
        let taken = owner.post(&path, off).await.expect(201);
        let position = taken.position();
        assert_eq!(
            starts(&bia, &ana, day, &position).await,
            ["08:00", "11:00", "12:00", "13:00", "14:00", "15:00", "16:00", "17:00"],
            "{profile:?}"
        );
        refused_alike(&bia, &ana, &at("13:00:00Z"), &position, "time-off").await;
        refused_alike(&bia, &ana, &at("14:10:00Z"), &position, "outside-hours").await;
        refused_alike(&bia, &ana, &at("23:00:00Z"), &position, "outside-hours").await;
        refused_alike(&bia, &ana, "2020-01-01T12:00:00Z", &position, "slot-in-past").await;
        let listed = owner.get_after(&path, &position).await.expect(200);
        let item = &listed.body["items"][0];
        assert_eq!((&item["from"], &item["reason"]), (&json!(from), &json!("Dentista")));
        bia.api.get(&path).await.expect(403);
        // The appointment that stands there is listed, and untouched.
        let outside = "/api/appointments/outside-hours";
        let out = owner.get_after(outside, &position).await.expect(200);
        assert_eq!(out.body["items"][0]["id"], standing.body["id"]);
        assert_eq!(out.body["items"][0]["reason"], "time_off");
        bia.api.get(outside).await.expect(404);
        let gone = format!("{path}/{}", taken.body["id"].as_str().unwrap());
        let position = owner.delete(&gone).await.expect(204).position();
        assert_eq!(starts(&bia, &ana, day, &position).await.len(), 9);
        let out = owner.get_after(outside, &position).await.expect(200);
        assert_eq!(out.body["items"], json!([]));

        // A day of two: one stands.
        let policy = json!({
            "minimum_notice_minutes": 0, "horizon_days": 365, "cancellation_window_minutes": 0,
            "confirmation": "manual", "max_per_day": 2,
        });
        owner.put("/api/providers/policy", policy).await.expect(200);
        let second = bia.book(&ana, &at("14:00:00Z")).await.expect(201);
        let position = second.position();
        assert_eq!(starts(&bia, &ana, day, &position).await, [""; 0]);
        refused_alike(&bia, &ana, &at("15:00:00Z"), &position, "day-full").await;
        refused_alike(&bia, &ana, &at("14:00:00Z"), &position, "slot-taken").await;

        // Own windows of the service: 10:30 to 12:00.
        let services = owner.get("/api/services/my-services").await.expect(200);
        let service = services.body["items"][0]["id"].as_str().unwrap().to_owned();
        let morning = json!([{ "from": "10:30", "to": "12:00" }]);
        let weekly: Value =
            ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
                .into_iter()
                .map(|day| (day.to_owned(), morning.clone()))
                .collect::<serde_json::Map<_, _>>()
                .into();
        let body = json!({ "name": "Corte", "duration_minutes": 30, "weekly": weekly });
        let changed = owner.put(&format!("/api/services/{service}"), body).await.expect(200);
        let position = changed.position();
        let next = &in_days(11, "")[..10];
        assert_eq!(starts(&bia, &ana, next, &position).await, ["10:30", "11:00", "11:30"]);
        refused_alike(&bia, &ana, &in_days(11, "12:00:00Z"), &position, "outside-service-hours")
            .await;
        let shown = bia.api.get_after(&format!("/api/services/{service}"), &position).await;
        assert_eq!(shown.expect(200).body["weekly"]["monday"], morning);

        // A move to another zone changes clocks, not instants.
        let all_day = json!([{ "from": "00:00", "to": "24:00" }]);
        let body = json!({ "name": "Corte", "duration_minutes": 60 });
        owner.put(&format!("/api/services/{service}"), body).await.expect(200);
        let weekly: Value =
            ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
                .into_iter()
                .map(|day| (day.to_owned(), all_day.clone()))
                .collect::<serde_json::Map<_, _>>()
                .into();
        let hours = json!({ "time_zone": "Europe/Lisbon", "weekly": weekly });
        let moved = owner.put("/api/providers/hours", hours).await.expect(200);
        let out = owner.get_after(outside, &moved.position()).await.expect(200);
        let items = out.body["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        assert!(items.iter().all(|item| item["reason"] == "local_time_changed"), "{}", out.body);
    }
}

#[tokio::test]
async fn holidays_close_a_shop_that_keeps_them() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let owner = &ana.owner.api;
        // The next Christmas that is not today.
        let today: chrono::NaiveDate = in_days(0, "")[..10].parse().unwrap();
        let christmas = (1..=365)
            .map(|days| today + chrono::TimeDelta::days(days))
            .find(|day| day.format("%m-%d").to_string() == "12-25")
            .unwrap();
        let start = format!("{christmas}T13:00:00Z");
        let kept = json!({ "calendar": "brazil" });
        owner.put("/api/providers/holidays", json!({ "calendar": "france" })).await.expect(422);
        let kept = owner.put("/api/providers/holidays", kept).await.expect(200);
        let day = christmas.to_string();
        assert_eq!(starts(&bia, &ana, &day, &kept.position()).await, [""; 0], "{profile:?}");
        refused_alike(&bia, &ana, &start, &kept.position(), "holiday").await;
        let windows = json!({ "windows": [{ "from": "10:00", "to": "12:00" }] });
        let opened =
            owner.put(&format!("/api/providers/overrides/{day}"), windows).await.expect(200);
        assert_eq!(starts(&bia, &ana, &day, &opened.position()).await, ["10:00", "11:00"]);
        let closed = owner
            .put(&format!("/api/providers/overrides/{day}"), json!({ "windows": [] }))
            .await
            .expect(200);
        refused_alike(&bia, &ana, &start, &closed.position(), "day-off").await;
    }
}

#[tokio::test]
async fn a_range_of_days_is_listed_in_the_providers_zone_or_the_askers() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let (from, to) = (&in_days(10, "")[..10], &in_days(71, "")[..10]);
        let path = |rest: &str| {
            let id = &ana.id;
            format!("/api/providers/available-slots?provider_id={id}&from={from}{rest}")
        };
        let booked = bia.book(&ana, &in_days(10, "12:00:00Z")).await.expect(201);
        for _ in 0..2 {
            let all = bia.api.get_after(&path(&format!("&to={to}")), &booked.position()).await;
            let all = all.expect(200).body;
            assert_eq!(all["slots"].as_array().unwrap().len(), 62 * 10 - 1, "{profile:?}");
            assert_eq!(all["slots"][0]["start"], in_days(10, "11:00:00Z"));
            assert_eq!(all["time_zone"], "America/Sao_Paulo");
        }
        // In Tokyo it is twelve hours later: 20:00 to 05:00. The first hours of that date are the day before's.
        let tokyo = bia.api.get(&path(&format!("&to={from}&zone=Asia/Tokyo"))).await.expect(200);
        let local: Vec<&str> = tokyo.body["slots"]
            .as_array()
            .unwrap()
            .iter()
            .map(|slot| &slot["local_start"].as_str().unwrap()[..16])
            .collect();
        let here = |times: &[&str]| -> Vec<String> {
            times.iter().map(|time| format!("{from}T{time}")).collect()
        };
        let expected = here(&[
            "00:00", "01:00", "02:00", "03:00", "04:00", "05:00", "20:00", "22:00", "23:00",
        ]);
        assert_eq!(local, expected, "21:00 is booked");
        for wrong in [
            format!("&to={}", &in_days(72, "")[..10]),
            format!("&to={}", &in_days(9, "")[..10]),
            format!("&to={to}&zone=Mars/Olympus"),
            String::new(),
        ] {
            bia.api.get(&path(&wrong)).await.expect(400);
        }
    }
}

#[tokio::test]
async fn what_could_be_booked_then_is_said_though_everything_changed_since() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let (bia, owner) = (pontual.client("Bia").await, &ana.owner.api);
        let day = &in_days(10, "")[..10];
        let id = &ana.id;
        let path = format!("/api/providers/available-slots?provider_id={id}&from={day}&to={day}");
        let (mut kept, mut count) = (Vec::new(), Vec::new());
        let mut keep = async |position: String| {
            let now = owner.get_after(&path, &position).await.expect(200).body;
            count.push(now["slots"].as_array().unwrap().len());
            kept.push((position, now));
        };
        let held = json!({ "provider_id": id, "start": in_days(10, "17:00:00Z") });
        keep(ana.position.clone()).await;
        let booked = bia.book(&ana, &in_days(10, "12:00:00Z")).await.expect(201);
        keep(booked.position()).await;
        keep(bia.api.post("/api/holds", held).await.expect(201).position()).await;
        let off = json!({ "from": format!("{day}T15:00"), "until": format!("{day}T24:00") });
        let off_path = format!("/api/providers/{id}/time-off");
        owner.post(&off_path, off).await.expect(422);
        let off = json!({ "from": format!("{day}T15:00"), "until": format!("{day}T18:00") });
        keep(owner.post(&off_path, off).await.expect(201).position()).await;
        let gone = format!("/api/appointments/{}", booked.body["id"].as_str().unwrap());
        keep(bia.api.delete(&gone).await.expect(200).position()).await;
        let closed = json!({ "windows": [] });
        let closed = owner.put(&format!("/api/providers/overrides/{day}"), closed).await;
        keep(closed.expect(200).position()).await;
        assert_eq!(count, [10, 9, 8, 5, 6, 0], "{profile:?}");

        for (position, then) in &kept {
            let asked = format!("{path}&as_of_position={position}");
            let answer = owner.get(&asked).await.expect(200);
            assert_eq!(&answer.body, then, "{profile:?}");
            assert!(position.split(',').any(|at| at == answer.position()), "{position}");
            bia.api.get(&asked).await.expect(403);
            pontual.nobody().get(&asked).await.expect(401);
        }
        owner.get(&format!("{path}&as_of=2020-01-01T00:00:00Z")).await.expect(404);
        owner.get(&format!("{path}&as_of={}", in_days(1, "12:00:00Z"))).await.expect(400);
    }
}
