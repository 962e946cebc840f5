//! What a provider and a client look at: calendar, dashboard, lists.

use end_to_end::{Pontual, Profile, in_days};
use serde_json::{Value, json};

fn starts(list: &Value) -> Vec<&str> {
    let items = list.as_array().expect("a list");
    items.iter().map(|item| item["start"].as_str().expect("a start")).collect()
}

#[tokio::test]
async fn a_calendar_has_the_windows_of_each_day_and_the_appointments_among_them() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let api = &ana.owner.api;
        let (monday, off) = (&in_days(20, "")[..10], &in_days(21, "")[..10]);
        api.put(&format!("/api/providers/overrides/{off}"), json!({ "windows": [] }))
            .await
            .expect(200);
        let times = [in_days(20, "20:00:00Z"), in_days(20, "12:00:00Z"), in_days(22, "12:00:00Z")];
        let mut ids = Vec::new();
        for start in &times {
            let booked = bia.book(&ana, start).await.expect(201);
            ids.push(booked.body["id"].as_str().unwrap().to_owned());
        }
        let cancelled = bia.api.delete(&format!("/api/appointments/{}", ids[1])).await.expect(200);
        let position = cancelled.position();

        let calendar = format!("/api/appointments/calendar/{}", ana.id);
        let range = format!("{calendar}?from={monday}&to={off}");
        let seen = api.get_after(&range, &position).await.expect(200).body;
        assert_eq!(seen["time_zone"], "America/Sao_Paulo");
        assert_eq!(seen["days"].as_array().unwrap().len(), 2);
        assert_eq!(
            seen["days"][0]["windows"],
            json!([{
                "start": in_days(20, "11:00:00Z"), "end": in_days(20, "21:00:00Z"),
                "local_start": format!("{monday}T08:00:00-03:00"), "local_end": format!("{monday}T18:00:00-03:00"),
            }])
        );
        assert_eq!(seen["days"][1], json!({ "date": off, "windows": [] }));
        assert_eq!(starts(&seen["appointments"]), [&*times[1], &*times[0]]);
        let first = &seen["appointments"][0];
        assert_eq!(
            (&first["status"], &first["client_name"]),
            (&json!("cancelled"), &json!("Bia Test"))
        );
        assert_eq!(first["local_start"], format!("{monday}T09:00:00-03:00"));
        assert_eq!(seen["truncated"], false);

        let pending = api.get(&format!("{range}&status=pending,confirmed")).await.expect(200).body;
        assert_eq!(starts(&pending["appointments"]), [&*times[0]]);

        // In Tokyo it is the next day by then: 20:00 UTC is 05:00, and the windows are 20:00–06:00.
        let tokyo = api
            .get(&format!("{calendar}?view=day&date={off}&zone=Asia/Tokyo"))
            .await
            .expect(200)
            .body;
        assert_eq!(starts(&tokyo["appointments"]), [&*times[0]]);
        assert_eq!(tokyo["appointments"][0]["local_start"], format!("{off}T05:00:00+09:00"));
        assert_eq!(tokyo["days"][0]["windows"][0]["local_end"], format!("{off}T06:00:00+09:00"));
        assert_eq!(tokyo["provider_time_zone"], "America/Sao_Paulo");

        for (view, week_start, days) in
            [("week", "monday", 7), ("week", "sunday", 7), ("day", "monday", 1)]
        {
            let path = format!("{calendar}?view={view}&date={monday}&week_start={week_start}");
            let seen = api.get(&path).await.expect(200).body;
            assert_eq!(seen["days"].as_array().unwrap().len(), days);
        }
        let month = api.get(&format!("{calendar}?view=month&date={monday}")).await.expect(200).body;
        assert_eq!(month["from"], format!("{}-01", &monday[..7]));

        let late = &in_days(82, "")[..10];
        for wrong in [
            String::new(),
            format!("?from={monday}"),
            format!("?from={off}&to={monday}"),
            format!("?from={monday}&to={late}"),
            format!("?from={monday}&to={off}&view=week&date={off}"),
            format!("?view=year&date={monday}"),
            format!("?view=week&date={monday}&zone=Mars/Base"),
            format!("?view=week&date={monday}&status=eaten"),
        ] {
            let refused = api.get(&format!("{calendar}{wrong}")).await.expect(400);
            assert_eq!(refused.problem(), "invalid-query", "{wrong}");
        }
        bia.api.get(&range).await.expect(403);
        let nowhere = range.replace(&ana.id, &ids[0]);
        api.get(&nowhere).await.expect(404);
    }
}

#[tokio::test]
async fn a_dashboard_shows_what_comes_next_waits_and_came_in() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let (bia, caio) = (pontual.client("Bia").await, pontual.client("Caio").await);
        let api = &ana.owner.api;
        let offer = json!({ "name": "Corte", "duration_minutes": 60, "price": { "amount_minor": 5000, "currency": "BRL" } });
        let service = api.post("/api/services", offer).await.expect(201).body["id"].clone();
        let empty = api.get_after("/api/providers/dashboard", &ana.position).await.expect(200).body;
        assert_eq!(empty["no_show"]["rate"], Value::Null);
        assert_eq!(empty["revenue"], json!({ "this_month": [], "last_month": [] }));
        assert_eq!(empty["week"]["open_minutes"], 7 * 600);
        assert_eq!(empty["week"]["booked_minutes"], 0);
        assert_eq!(empty["week"]["load"], 0.0);

        let mut last = String::new();
        // Noon in São Paulo.
        let booked_at = [1, 2, 3].map(|day| in_days(day, "15:00:00Z"));
        for (who, day) in [(&bia, 1), (&bia, 2), (&caio, 3)] {
            let start = &booked_at[day - 1];
            let body = json!({ "provider_id": ana.id, "service_id": service, "start": start });
            let booked = who.api.post("/api/appointments", body).await.expect(201);
            let path = format!("/api/appointments/{}/status", booked.body["id"].as_str().unwrap());
            last = booked.position();
            if day < 3 {
                let confirmed = api.put(&path, json!({ "status": "confirmed" })).await.expect(200);
                last = confirmed.position();
            }
        }
        let waiting = caio.api.get_after("/api/users/appointments", &last).await.expect(200).body;
        let seen = api.get_after("/api/providers/dashboard", &last).await.expect(200).body;
        assert_eq!(seen["next"].as_array().unwrap().len(), 3);
        assert_eq!(starts(&seen["next"]), booked_at.each_ref().map(String::as_str));
        assert_eq!(
            (&seen["pending"]["count"], seen["pending"]["appointments"].clone()),
            (&json!(1), waiting["items"].clone())
        );
        // The month may end between the booking and the dashboard.
        let new = |month: &str| seen["new_clients"][month].as_i64().unwrap();
        assert_eq!(new("this_month") + new("last_month"), 2, "{}", seen["new_clients"]);
        // Two were confirmed; whether they are of this month and week, the dashboard's own today says.
        let today = seen["today"]["date"].as_str().unwrap();
        let this_month = booked_at[..2].iter().filter(|start| start[..7] == today[..7]).count();
        let count = |month: &str| -> i64 {
            let list = seen["revenue"][month].as_array().unwrap();
            list.iter().map(|one| one["amount_minor"].as_i64().unwrap()).sum()
        };
        assert_eq!(count("this_month"), [0, 5000, 10_000][this_month], "{}", seen["revenue"]);
        assert_eq!(count("last_month"), 0);
        let mut booked_minutes = 0;
        for day in seen["week"]["days"].as_array().unwrap() {
            let date = day["date"].as_str().unwrap();
            let minutes = 60 * booked_at.iter().filter(|start| start.starts_with(date)).count();
            assert_eq!(day["booked_minutes"], minutes, "{date}");
            booked_minutes += minutes;
        }
        assert_eq!(seen["week"]["booked_minutes"], booked_minutes);

        bia.api.get("/api/providers/dashboard").await.expect(404);
        pontual.nobody().get("/api/providers/dashboard").await.expect(401);
        api.get("/api/providers/dashboard?week_start=friday").await.expect(400);
    }
}

#[tokio::test]
async fn ones_own_appointments_are_listed_by_side_and_status() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let (ana, eva) = (pontual.provider("Ana").await, pontual.provider("Eva").await);
        let bia = pontual.client("Bia").await;
        // Ana is a client, too: Eva's.
        let hers = ana.owner.book(&eva, &in_days(5, "12:00:00Z")).await.expect(201);
        let first = bia.book(&ana, &in_days(5, "12:00:00Z")).await.expect(201);
        let second = bia.book(&ana, &in_days(6, "12:00:00Z")).await.expect(201);
        let id = |answer: &end_to_end::Answer| answer.body["id"].clone();
        let status = format!("/api/appointments/{}/status", second.body["id"].as_str().unwrap());
        let declined =
            ana.owner.api.put(&status, json!({ "status": "declined" })).await.expect(200);
        let after = format!("{},{}", hers.position(), declined.position());
        let listed = async |person: &end_to_end::Person, query: &str| {
            let path = format!("/api/users/appointments?{query}");
            let items = person.api.get_after(&path, &after).await.expect(200).body["items"].clone();
            items.as_array().unwrap().iter().map(|item| item["id"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(listed(&ana.owner, "").await, [id(&hers)]);
        assert_eq!(listed(&ana.owner, "side=client&when=past").await, Vec::<Value>::new());
        assert_eq!(listed(&ana.owner, "side=provider").await, [id(&first)]);
        assert_eq!(listed(&ana.owner, "side=provider&when=past").await, [id(&second)]);
        assert_eq!(listed(&bia, "side=provider").await, Vec::<Value>::new());
        assert_eq!(listed(&bia, "when=past&status=declined").await, [id(&second)]);
        assert_eq!(listed(&bia, "when=past&status=cancelled").await, Vec::<Value>::new());
        assert_eq!(listed(&bia, "status=confirmed,pending").await, [id(&first)]);
        for wrong in ["side=both", "status=eaten", "status=", "status=pending,"] {
            bia.api.get(&format!("/api/users/appointments?{wrong}")).await.expect(400);
        }
    }
}
