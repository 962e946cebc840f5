//! Appointments and providers' days as they were, and what happened to them.

use std::collections::BTreeMap;

use end_to_end::{Answer, Api, Person, Pontual, Profile, Shop, in_days};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

/// What was answered after some command.
struct Seen {
    /// The command's position, and when it was recorded.
    position: String,
    at: String,
    /// The appointments there were, by id, and the days.
    appointments: BTreeMap<String, Value>,
    days: Vec<Value>,
}

const DAYS: [u64; 3] = [20, 21, 22];

fn day_path(shop: &Shop, day: u64) -> String {
    format!("/api/appointments/provider/{}?limit=100&day={}", shop.id, &in_days(day, "")[..10])
}

fn appointment_path(id: &str) -> String {
    format!("/api/appointments/{id}")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// Some command; `None` where it was refused or is not about an appointment.
async fn something(
    rng: &mut StdRng,
    shop: &Shop,
    clients: &[Person],
    known: &[(String, usize)],
) -> Option<Answer> {
    let start = |rng: &mut StdRng| {
        let day = DAYS[rng.random_range(0..DAYS.len())];
        in_days(day, &format!("{:02}:00:00Z", rng.random_range(11..21)))
    };
    let owner = &shop.owner.api;
    let some = (!known.is_empty()).then(|| known[rng.random_range(0..known.len())].clone());
    let answer = match (rng.random_range(0..10), some) {
        (0..=3, _) | (_, None) => {
            let client = &clients[rng.random_range(0..clients.len())];
            let body =
                json!({ "provider_id": shop.id, "start": start(rng), "notes": "ring twice" });
            client.api.post("/api/appointments", body).await
        }
        (4 | 5, Some((id, client))) => {
            let api = if rng.random_bool(0.5) { owner } else { &clients[client].api };
            let path = format!("{}/reschedule", appointment_path(&id));
            api.post(&path, json!({ "start": start(rng) })).await
        }
        (6 | 7, Some((id, _))) => {
            let wanted = if rng.random_bool(0.5) {
                json!({ "status": "confirmed" })
            } else {
                json!({ "status": "declined", "reason": "so it is" })
            };
            owner.put(&format!("{}/status", appointment_path(&id)), wanted).await
        }
        (8, Some((id, client))) => {
            let api = if rng.random_bool(0.5) { owner } else { &clients[client].api };
            let request = api.request("DELETE", &appointment_path(&id));
            api.send(request.json(&json!({ "reason": "I am ill" }))).await
        }
        (_, Some(_)) => {
            // The shop moves: the same instants are of other days.
            let zones = ["America/Sao_Paulo", "Pacific/Kiritimati", "Pacific/Pago_Pago"];
            let window = json!([{ "from": "00:00", "to": "24:00" }]);
            let week: Value =
                ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
                    .into_iter()
                    .map(|day| (day.to_owned(), window.clone()))
                    .collect::<serde_json::Map<_, _>>()
                    .into();
            let zone = zones[rng.random_range(0..zones.len())];
            let body = json!({ "time_zone": zone, "weekly": week });
            owner.put("/api/providers/hours", body).await
        }
    };
    assert!(answer.status < 500, "{} {}", answer.status, answer.body);
    (200..300).contains(&answer.status).then_some(answer)
}

#[tokio::test]
async fn whatever_was_answered_at_some_time_is_answered_as_of_it_for_ever() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let clients = [pontual.client("Bia").await, pontual.client("Caio").await];
        let owner = &ana.owner.api;
        let mut rng = StdRng::seed_from_u64(44);
        let (mut known, mut seen) = (Vec::new(), Vec::<Seen>::new());
        while seen.len() < 40 {
            let Some(answer) = something(&mut rng, &ana, &clients, &known).await else { continue };
            // What changes nothing is recorded nowhere.
            let Some(position) = answer.header("pontual-position").map(str::to_owned) else {
                continue;
            };
            let id = answer.body["id"].as_str().filter(|_| answer.body["status"].is_string());
            if let Some(id) = id.filter(|id| known.iter().all(|(known, _)| known != id)) {
                let one = owner.get_after(&appointment_path(id), &position).await.expect(200);
                let client = clients.iter().position(|c| one.body["client_id"] == *c.account);
                known.push((id.to_owned(), client.expect("one of them booked")));
            }
            let Some(id) = id else { continue };
            let mut now = Seen {
                at: String::new(),
                appointments: BTreeMap::new(),
                days: Vec::new(),
                position: position.clone(),
            };
            for (id, _) in &known {
                let one = owner.get_after(&appointment_path(id), &position).await.expect(200);
                now.appointments.insert(id.clone(), one.body);
            }
            now.at = text(&now.appointments[id]["updated_at"]);
            for day in DAYS {
                now.days
                    .push(owner.get_after(&day_path(&ana, day), &position).await.expect(200).body);
            }
            seen.push(now);
        }
        for status in ["pending", "confirmed", "declined", "cancelled"] {
            let there = seen.iter().any(|s| s.appointments.values().any(|a| a["status"] == status));
            assert!(there, "nothing was ever {status}");
        }
        for then in &seen {
            for point in [format!("as_of={}", then.at), format!("as_of_position={}", then.position)]
            {
                for (id, client) in &known {
                    if rng.random_bool(0.5) {
                        continue;
                    }
                    let path = format!("{}?{point}", appointment_path(id));
                    // Either party is told the same.
                    let api = if rng.random_bool(0.5) { owner } else { &clients[*client].api };
                    let answer = api.get(&path).await;
                    match then.appointments.get(id) {
                        Some(was) => {
                            assert_eq!((answer.status, &answer.body), (200, was), "{path}");
                            assert_eq!(answer.position(), then.position, "{path}");
                        }
                        None => assert_eq!(answer.status, 404, "{path}"),
                    }
                }
                for (day, was) in DAYS.into_iter().zip(&then.days) {
                    let path = format!("{}&{point}", day_path(&ana, day));
                    let answer = owner.get(&path).await.expect(200);
                    assert_eq!(&answer.body, was, "{profile:?} {path}");
                }
            }
        }
        pages_join(owner, &ana, &seen).await;
        histories_lead_here(&seen, owner).await;
    }
}

/// A day in pages is the day.
async fn pages_join(owner: &Api, shop: &Shop, seen: &[Seen]) {
    let last = seen.last().expect("something was done");
    for (day, was) in DAYS.into_iter().zip(&last.days) {
        let path = day_path(shop, day).replace("limit=100", "limit=2");
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("{path}&as_of_position={}{cursor}", last.position);
            let page = owner.get(&path).await.expect(200).body;
            all.extend(page["items"].as_array().expect("items").clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(json!(all), was["items"]);
    }
}

/// Every entry of a history says what the appointment was after it.
async fn histories_lead_here(seen: &[Seen], owner: &Api) {
    let last = seen.last().expect("something was done");
    for (id, now) in &last.appointments {
        let history =
            owner.get(&format!("{}/history?limit=100", appointment_path(id))).await.expect(200);
        let mut state: BTreeMap<String, Value> = BTreeMap::new();
        for (n, entry) in history.body["items"].as_array().expect("items").iter().enumerate() {
            assert_eq!(entry["version"], n + 1);
            for change in entry["changes"].as_array().expect("changes") {
                let field = text(&change["field"]);
                let before = state.insert(field, change["to"].clone()).unwrap_or_default();
                assert_eq!(before, change["from"], "{entry}");
            }
            let path =
                format!("{}?as_of_position={}", appointment_path(id), text(&entry["position"]));
            let then = owner.get(&path).await.expect(200).body;
            assert_eq!(then["updated_at"], entry["at"]);
            for (field, value) in &state {
                assert_eq!(&then[field], value, "{path}");
            }
            if entry["what"] == "cancelled" || entry["what"] == "declined" {
                assert_eq!(entry["reason"], then["status_reason"]);
            }
        }
        for (field, value) in &state {
            assert_eq!(&now[field], value, "{id}");
        }
    }
}

#[tokio::test]
async fn a_history_says_who_when_what_and_why_to_each_as_far_as_they_may_know() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let (bia, caio) = (pontual.client("Bia").await, pontual.client("Caio").await);
        let booked = bia.book(&ana, &in_days(20, "12:00:00Z")).await.expect(201);
        let path = appointment_path(&text(&booked.body["id"]));
        let moved = json!({ "start": in_days(21, "13:00:00Z") });
        ana.owner.api.post(&format!("{path}/reschedule"), moved).await.expect(200);
        let request = bia.api.request("DELETE", &path).json(&json!({ "reason": "I am ill" }));
        let cancelled = bia.api.send(request).await.expect(200);
        let path = format!("{path}/history");
        let read = async |api: &Api| {
            let request = api.request("GET", &path).header("accept-language", "en");
            let request = request.header("pontual-after", cancelled.position());
            api.send(request).await.expect(200).body["items"].clone()
        };

        let to_ana = read(&ana.owner.api).await;
        let by = |items: &Value, n: usize, key: &str| items[n]["by"][key].clone();
        let told = |items: &Value, key: &str| [0, 1, 2].map(|n| by(items, n, key));
        assert_eq!(told(&to_ana, "side"), ["client", "provider", "client"]);
        assert_eq!(told(&to_ana, "label"), ["the client", "you", "the client"]);
        assert_eq!(told(&to_ana, "you"), [false, true, false]);
        assert_eq!(told(&to_ana, "name"), [json!("Bia Test"), Value::Null, json!("Bia Test")]);
        let what: Vec<_> = to_ana.as_array().unwrap().iter().map(|e| e["what"].clone()).collect();
        assert_eq!(what, ["booked", "rescheduled", "cancelled"]);
        assert_eq!(
            to_ana[1]["changes"][0],
            json!({ "field": "start", "from": in_days(20, "12:00:00Z"), "to": in_days(21, "13:00:00Z") })
        );
        assert_eq!(to_ana[2]["reason"], "I am ill");
        assert_eq!(to_ana[0]["reason"], Value::Null);

        let to_bia = read(&bia.api).await;
        assert_eq!(told(&to_bia, "label"), ["you", "the provider", "you"]);
        assert_eq!(told(&to_bia, "name"), [Value::Null, Value::Null, Value::Null]);
        for items in [&to_ana, &to_bia] {
            assert!(!items.to_string().contains("127.0.0.1") && items[0].get("audit").is_none());
        }
        let portuguese = bia.api.request("GET", &path).header("accept-language", "pt-BR");
        let portuguese = bia.api.send(portuguese).await.expect(200);
        assert_eq!(portuguese.body["items"][0]["by"]["label"], "você");

        caio.api.get(&path).await.expect(404);
        let create = ["admin", "create", "--email", "admin@example.com", "--name", "Adm Test"];
        let (made, said) = pontual.run(&create, "correct horse battery\n", &[]).await;
        assert!(made, "{said}");
        let admin = pontual.sign_in("admin@example.com", "correct horse battery").await;
        admin.api.get(&path).await.expect(404);
        let role = format!("/api/users/{}/roles/auditor", caio.account);
        admin.api.send(admin.api.request("PUT", &role)).await.expect(200);
        let auditor = pontual.sign_in(&caio.email, "correct horse battery").await;
        let audited = read(&auditor.api).await;
        assert_eq!(told(&audited, "label"), ["the client", "the provider", "the client"]);
        assert!(!audited.to_string().contains("Bia Test"));
        assert_eq!(audited[2]["reason"], Value::Null, "reasons are between the parties");
        assert_eq!(audited[0]["audit"]["ip"], "127.0.0.1");
        assert_eq!(audited[0]["audit"]["operation"], "BookAppointment");
        assert_eq!(audited[0]["audit"]["actor"], format!("account:{}", bia.account));

        let first = bia.api.get(&format!("{path}?limit=2")).await.expect(200).body;
        let cursor = first["next_cursor"].as_str().unwrap();
        let rest = bia.api.get(&format!("{path}?limit=2&cursor={cursor}")).await.expect(200).body;
        assert_eq!(
            (rest["items"][0]["version"].clone(), rest["next_cursor"].clone()),
            (json!(3), Value::Null)
        );
    }
}

#[tokio::test]
async fn points_that_are_no_past_are_refused_and_before_the_beginning_there_is_nothing() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider("Ana").await;
    let (bia, caio) = (pontual.client("Bia").await, pontual.client("Caio").await);
    let booked = bia.book(&ana, &in_days(20, "12:00:00Z")).await.expect(201);
    let position = booked.position();
    let (partition, number) = position.split_once(':').unwrap();
    let beyond = format!("as_of_position={partition}:{}", number.parse::<u64>().unwrap() + 1);
    let elsewhere = format!("as_of_position={}:1", (partition.parse::<u16>().unwrap() + 1) % 4);
    let one = format!("{}?", appointment_path(&text(&booked.body["id"])));
    let day = format!("{}&", day_path(&ana, 20));
    for path in [&one, &day] {
        let future = format!("as_of={}", in_days(1, "12:00:00Z"));
        let both = format!("as_of=2026-01-01T00:00:00Z&as_of_position={position}");
        for wrong in
            [&*future, &*beyond, &*elsewhere, &*both, "as_of=yesterday", "as_of_position=x"]
        {
            let refused = ana.owner.api.get(&format!("{path}{wrong}")).await.expect(400);
            assert_eq!(refused.problem(), "invalid-query", "{wrong}");
        }
        for early in
            ["as_of=2020-01-01T00:00:00Z".to_owned(), format!("as_of_position={partition}:1")]
        {
            // The first event of a partition may be the shop's opening.
            let answer = ana.owner.api.get(&format!("{path}{early}")).await;
            let nothing = answer.status == 404 || answer.body["items"] == json!([]);
            assert!(nothing, "{early}: {} {}", answer.status, answer.body);
        }
        let then = format!("{path}as_of_position={position}");
        ana.owner.api.get(&then).await.expect(200);
        pontual.nobody().get(&then).await.expect(401);
        let refused = caio.api.get(&then).await;
        assert_eq!(refused.status, if path == &one { 404 } else { 403 });
    }
}
