//! Bad input at every edge: the right problem, never a 500, and nothing changes.

use end_to_end::{Pontual, Profile, in_days};
use serde_json::json;

#[tokio::test]
async fn bad_bodies_are_problems_and_change_nothing() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider("Ana").await;
    let bia = pontual.client("Bia").await;
    let start = in_days(3, "12:00:00Z");
    let before = events(&pontual).await;
    let good = json!({ "provider_id": ana.id, "start": start });
    let huge = format!("{{\"notes\":\"{}\"}}", "x".repeat(10 << 20));
    let bodies: Vec<(String, &[u16])> = vec![
        (String::new(), &[400]),
        ("{".into(), &[400]),
        ("[]".into(), &[422]),
        ("null".into(), &[422]),
        ("{\"provider_id\":1}".into(), &[422]),
        (good.to_string().replace(&ana.id, "not-an-id"), &[422]),
        (good.to_string().replace(&ana.id, "00000000-0000-7000-8000-000000000000"), &[404]),
        (json!({ "provider_id": ana.id, "start": start, "price": 1 }).to_string(), &[422]),
        (json!({ "provider_id": ana.id, "start": 5 }).to_string(), &[422]),
        (json!({ "provider_id": ana.id, "start": "tomorrow" }).to_string(), &[422]),
        (json!({ "provider_id": ana.id, "start": "2026-02-30T12:00:00Z" }).to_string(), &[422]),
        (json!({ "provider_id": ana.id, "start": "9999-12-31T23:59:59Z" }).to_string(), &[422]),
        (json!({ "provider_id": ana.id, "start": "+262142-12-31T23:59:59Z" }).to_string(), &[422]),
        (json!({ "provider_id": ana.id, "start": "-262143-01-01T00:00:00Z" }).to_string(), &[422]),
        (json!({ "provider_id": ana.id, "start": "0001-01-01T00:00:00Z" }).to_string(), &[422]),
        (
            json!({ "provider_id": ana.id, "start": start.replace(":00:00", ":59:60") })
                .to_string(),
            &[422],
        ),
        (json!({ "provider_id": ana.id, "start": start, "notes": "\u{0}" }).to_string(), &[422]),
        (
            json!({ "provider_id": ana.id, "start": start, "notes": "x".repeat(2001) }).to_string(),
            &[422],
        ),
        ("[".repeat(60_000), &[400, 422]),
        (huge, &[413]),
    ];
    for (body, statuses) in bodies {
        let request = bia
            .api
            .request("POST", "/api/appointments")
            .header("content-type", "application/json")
            .body(body.clone());
        let answer = bia.api.send(request).await;
        let shown: String = body.chars().take(120).collect();
        assert!(statuses.contains(&answer.status), "{shown}: {} {}", answer.status, answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
        assert!(answer.body["type"].is_string(), "{shown}");
    }
    let form = bia
        .api
        .request("POST", "/api/appointments")
        .header("content-type", "text/plain")
        .body(good.to_string());
    bia.api.send(form).await.expect(415);
    assert_eq!(events(&pontual).await, before);
    // The good one was good all along.
    bia.api.post("/api/appointments", good).await.expect(201);
}

#[tokio::test]
async fn bad_paths_and_queries_are_problems() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let bia = pontual.client("Bia").await;
    let ana = pontual.provider("Ana").await;
    for (method, path, status) in [
        ("GET", "/api/nothing".to_owned(), 404),
        ("GET", "/api/appointments/x".to_owned(), 400),
        ("GET", "/api/appointments/00000000-0000-7000-8000-000000000000".to_owned(), 404),
        ("PATCH", "/api/appointments".to_owned(), 405),
        ("GET", "/api/providers?limit=0".to_owned(), 400),
        ("GET", "/api/providers?limit=1000000".to_owned(), 400),
        ("GET", "/api/providers?limit=-1".to_owned(), 400),
        ("GET", "/api/providers?cursor=garbage".to_owned(), 400),
        ("GET", "/api/providers?colour=red".to_owned(), 400),
        ("GET", format!("/api/providers?q={}", "x".repeat(201)), 400),
        ("GET", "/api/providers?near=here".to_owned(), 400),
        ("GET", "/api/providers?near=91,0".to_owned(), 400),
        ("GET", "/api/providers?near=NaN,0".to_owned(), 400),
        ("GET", "/api/providers?near=0,0&radius_km=0".to_owned(), 400),
        ("GET", "/api/providers?near=0,0&radius_km=501".to_owned(), 400),
        ("GET", "/api/providers?radius_km=5".to_owned(), 400),
        ("GET", "/api/providers?sort=distance".to_owned(), 400),
        ("GET", "/api/providers?sort=price".to_owned(), 400),
        ("GET", "/api/providers?category=a--b".to_owned(), 400),
        ("GET", "/api/providers?min_price_minor=2&max_price_minor=1".to_owned(), 400),
        ("GET", "/api/providers?min_price_minor=1&currency=brl".to_owned(), 400),
        ("GET", "/api/providers?verified=perhaps".to_owned(), 400),
        ("GET", "/api/providers/a--b/page".to_owned(), 404),
        ("GET", "/api/categories?limit=101".to_owned(), 400),
        ("GET", "/api/categories?cursor=garbage".to_owned(), 400),
        ("GET", "/api/categories?inactive=true".to_owned(), 403),
        ("GET", "/api/categories/x".to_owned(), 400),
        ("GET", "/api/categories/00000000-0000-7000-8000-000000000000".to_owned(), 404),
        ("GET", "/api/users/appointments?when=whenever".to_owned(), 400),
        (
            "GET",
            format!("/api/providers/available-times?provider_id={}&day=2026-02-30", ana.id),
            400,
        ),
        (
            "GET",
            format!("/api/providers/available-times?provider_id={}&day=99999-01-01", ana.id),
            400,
        ),
        (
            "GET",
            format!("/api/providers/available-times?provider_id={}&day=-0001-01-01", ana.id),
            400,
        ),
        ("GET", format!("/api/providers/available-days?provider_id={}&month=2026-13", ana.id), 400),
        ("GET", "/api/providers/available-times?day=2026-01-01".to_owned(), 400),
        ("GET", "/api/series/x".to_owned(), 400),
        ("GET", "/api/waitlist?cursor=garbage".to_owned(), 400),
        ("GET", "/api/waitlist/provider/x".to_owned(), 400),
        ("GET", "/api/series/00000000-0000-7000-8000-000000000000".to_owned(), 404),
        ("GET", "/api/appointments/x/history".to_owned(), 400),
        ("GET", "/api/appointments/00000000-0000-7000-8000-000000000000/history".to_owned(), 404),
        (
            "GET",
            "/api/appointments/00000000-0000-7000-8000-000000000000?as_of=2026-02-30T12:00:00Z"
                .to_owned(),
            400,
        ),
        (
            "GET",
            "/api/appointments/00000000-0000-7000-8000-000000000000?as_of_position=nonsense"
                .to_owned(),
            400,
        ),
        ("GET", format!("/api/appointments/calendar/{}", ana.id), 400),
        (
            "GET",
            format!("/api/appointments/calendar/{}?from=2026-01-01&to=2199-12-31", ana.id),
            400,
        ),
        ("GET", "/api/providers/dashboard?week_start=yesterday".to_owned(), 400),
        (
            "GET",
            format!("/api/providers/available-slots?provider_id={}&from=2026-12-01", ana.id),
            400,
        ),
        (
            "GET",
            format!("/api/providers/available-times/why?provider_id={}&start=noon", ana.id),
            400,
        ),
        ("GET", "/api/holds/x".to_owned(), 400),
        ("GET", "/api/holds/00000000-0000-7000-8000-000000000000".to_owned(), 404),
        ("DELETE", "/api/holds/00000000-0000-7000-8000-000000000000".to_owned(), 404),
        ("GET", "/api/appointments/outside-hours?cursor=garbage".to_owned(), 404),
        ("DELETE", format!("/api/providers/{}/time-off/x", ana.id), 400),
        ("GET", "/api/notifications?status=eaten".to_owned(), 400),
        ("POST", "/api/notifications/x/read".to_owned(), 400),
    ] {
        let answer = bia.api.send(bia.api.request(method, &path)).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    }
    for token in ["0:1x", "a", "1:99999999999999999999", "-1:1"] {
        bia.api.get_after("/api/providers", token).await.expect(400);
    }
    // A position that nobody has reached is waited for, and then said so.
    let far = bia.api.get_after("/api/providers", "0:999999999").await.expect(503);
    assert_eq!(far.problem(), "not-caught-up");
    assert!(far.header("retry-after").is_some());
}

#[tokio::test]
async fn a_shop_says_nothing_that_is_not_of_its_form() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let api = pontual.provider("Ana").await.owner.api;
    let before = events(&pontual).await;
    for wrong in [
        json!({ "latitude": 1.0 }),
        json!({ "latitude": 90.1, "longitude": 0.0 }),
        json!({ "latitude": "1", "longitude": 0.0 }),
        json!({ "website": "javascript:alert(1)" }),
        json!({ "website": "https://ana:secret@a.example" }),
        json!({ "instagram": "a b" }),
        json!({ "phone": "call me" }),
        json!({ "city": "x".repeat(101) }),
        json!({ "state": "x".repeat(51) }),
        json!({ "postal_code": "x".repeat(21) }),
        json!({ "description": "x".repeat(4001) }),
        json!({ "specializations": ["a", "a"] }),
        json!({ "specializations": (0..21).map(|n| n.to_string()).collect::<Vec<_>>() }),
        json!({ "slug": "another" }),
        json!({ "is_verified": true }),
    ] {
        let mut body = json!({ "business_name": "Ana's" });
        for (key, value) in wrong.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let answer = api.put("/api/providers/profile", body).await.expect(422);
        assert_eq!(answer.problem(), "invalid-input", "{wrong}");
    }
    for slug in ["profile", "available-times", "slug", "Ana", "a--b", "x"] {
        api.put("/api/providers/profile/slug", json!({ "slug": slug })).await.expect(422);
    }
    let nowhere = "00000000-0000-7000-8000-000000000000";
    let service = json!({ "name": "Cut", "duration_minutes": 30, "category_id": nowhere });
    api.post("/api/services", service).await.expect(404);
    for services in [json!([]), json!([nowhere]), json!(vec![nowhere; 201])] {
        let order = json!({ "services": services });
        api.post("/api/services/reorder", order).await.expect(422);
    }
    assert_eq!(events(&pontual).await, before);
}

#[tokio::test]
async fn other_peoples_things_are_not_found_and_forged_tokens_are_not_believed() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider("Ana").await;
    let eva = pontual.provider("Eva").await;
    let bia = pontual.client("Bia").await;
    let caio = pontual.client("Caio").await;
    let booked = bia.book(&ana, &in_days(3, "12:00:00Z")).await.expect(201);
    let (position, path) =
        (booked.position(), format!("/api/appointments/{}", booked.body["id"].as_str().unwrap()));
    let before = events(&pontual).await;
    for stranger in [&caio, &eva.owner] {
        stranger.api.get_after(&path, &position).await.expect(404);
        stranger.api.get_after(&format!("{path}/history"), &position).await.expect(404);
        stranger.api.get(&format!("{path}?as_of_position={position}")).await.expect(404);
        stranger.api.delete(&path).await.expect(404);
        stranger
            .api
            .put(&format!("{path}/status"), json!({ "status": "confirmed" }))
            .await
            .expect(404);
        stranger
            .api
            .post(&format!("{path}/reschedule"), json!({ "start": in_days(3, "13:00:00Z") }))
            .await
            .expect(404);
        // The booking is Ana's notification, and nobody else's to mark.
        let read = format!("/api/notifications/{position}/read");
        stranger.api.post(&read, json!({})).await.expect(404);
        let day = format!("/api/appointments/provider/{}?day={}", ana.id, &in_days(3, "")[..10]);
        stranger.api.get_after(&day, &position).await.expect(403);
        stranger.api.get(&format!("{day}&as_of_position={position}")).await.expect(403);
    }
    caio.api.put("/api/providers/policy", json!({ "minimum_notice_minutes": 0, "horizon_days": 1, "cancellation_window_minutes": 0, "confirmation": "manual" })).await.expect(404);

    let token = bia.api.token.clone().unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0";
    let forged = [
        String::new(),
        "x".to_owned(),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{none}.{}.", parts[1]),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(parts[2].len())),
        format!("{}.{}.{}", none, parts[1], parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{token}.{token}"),
        "A".repeat(100_000),
    ];
    for token in forged {
        let request = pontual
            .nobody()
            .request("GET", "/api/auth/me")
            .header("authorization", format!("Bearer {token}"));
        let answer = bia.api.send(request).await;
        assert!([401, 431].contains(&answer.status), "{}: {}", answer.status, answer.body);
    }
    assert_eq!(events(&pontual).await, before);
}

async fn events(pontual: &Pontual) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM events")
        .fetch_one(&pontual.pool().await)
        .await
        .expect("the log can be counted")
}
