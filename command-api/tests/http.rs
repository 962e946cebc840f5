//! The command API against a real Postgres, in process.

mod accounts;
mod common;

use common::{Answer, Api, TOMORROW_10, bearer};
use domain::event::Event;
use domain::notification_feed::NotificationFeedEvent;
use domain::position::PositionToken;
use event_log::Clock as _;
use http::StatusCode;
use serde_json::{Value, json};

#[tokio::test]
async fn a_provider_opens_shop_and_a_client_books() {
    let api = Api::start().await;
    let email = "ana@example.com";
    let registration = json!({"name": "Ana Souza", "email": email, "password": "correct horse", "role": "provider"});
    let answer = api.post("/api/auth/register", None, registration).await;
    assert_eq!(
        (answer.status, &answer.body),
        (StatusCode::ACCEPTED, &json!({"status": "accepted"}))
    );
    assert!(!answer.headers.contains_key("pontual-position"), "it would tell new from old");

    let token = api.confirmation(email).await;
    let answer = api.post("/api/auth/confirm", None, json!({"token": token})).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body["email_confirmed"], true);

    let answer = api
        .post("/api/auth/login", None, json!({"email": email, "password": "correct horse"}))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body["token_type"], "Bearer");
    assert_eq!(answer.body["expires_in"], 900);
    assert_eq!(answer.body["account"]["roles"], json!(["client", "provider"]));
    let ana = answer.body["access_token"].as_str().unwrap().to_owned();

    let shop = api
        .post(
            "/api/providers",
            Some(&ana),
            json!({"business_name": "Salão da Ana", "slug": "salao-da-ana"}),
        )
        .await;
    assert_eq!(shop.status, StatusCode::CREATED, "{}", shop.body);
    assert_eq!(shop.headers["location"], "/api/providers/salao-da-ana");
    assert_eq!(shop.headers["etag"], "\"v2\"");

    let eva = api.client("eva@example.com").await;
    let booking = json!({"provider_id": shop.body["id"], "start": TOMORROW_10, "notes": "Franja, por favor."});
    let booked = api.post("/api/appointments", Some(&eva), booking).await;
    assert_eq!(booked.status, StatusCode::CREATED, "{}", booked.body);
    let id = booked.body["id"].as_str().unwrap();
    assert_eq!(booked.headers["location"], format!("/api/appointments/{id}"));
    assert_eq!(booked.headers["etag"], "\"v1\"");
    assert!(booked.headers.contains_key("pontual-position"));
    assert_eq!(
        booked.body,
        json!({
            "id": id, "status": "pending", "provider_id": shop.body["id"],
            "service": {"id": shop.body["service_id"], "name": "Appointment"},
            "start": "2026-03-03T13:00:00Z", "end": "2026-03-03T14:00:00Z",
            "local_start": "2026-03-03T10:00:00-03:00", "time_zone": "America/Sao_Paulo",
            "price": null,
        })
    );
}

#[tokio::test]
async fn an_appointment_is_confirmed_moved_and_called_off_by_whom_it_concerns() {
    let api = Api::start().await;
    let (ana, shop) = api.shop("ana").await;
    let eva = api.client("eva@example.com").await;
    let stranger = api.client("zoe@example.com").await;
    let id = api.book(&eva, &shop, TOMORROW_10).await.body["id"].as_str().unwrap().to_owned();
    let status = format!("/api/appointments/{id}/status");
    let confirmed = json!({"status": "confirmed"});

    api.put(&status, Some(&eva), confirmed.clone()).await.is(403, "forbidden");
    api.put(&status, Some(&stranger), confirmed.clone()).await.is(404, "not-found");
    api.put(&status, None, confirmed.clone()).await.is(401, "sign-in-required");
    let answer = api.put(&status, Some(&ana), confirmed.clone()).await;
    assert_eq!((answer.status, &answer.body["status"]), (StatusCode::OK, &json!("confirmed")));
    assert_eq!(answer.headers["etag"], "\"v2\"");
    api.put(&status, Some(&ana), json!({"status": "declined"})).await.is(409, "wrong-status");

    let moving = format!("/api/appointments/{id}/reschedule");
    let at = "2026-03-04T11:00:00-03:00";
    api.post(&moving, Some(&stranger), json!({"start": at})).await.is(404, "not-found");
    let answer = api.post(&moving, Some(&eva), json!({"start": at})).await;
    assert_eq!(
        (answer.status, &answer.body["start"]),
        (StatusCode::OK, &json!("2026-03-04T14:00:00Z"))
    );
    assert_eq!(answer.body["status"], "pending", "a client's move waits for the provider again");
    let other = api.book(&stranger, &shop, TOMORROW_10).await;
    assert_eq!(other.status, StatusCode::CREATED, "the old slot is free: {}", other.body);

    let path = format!("/api/appointments/{id}");
    api.delete(&path, Some(&stranger)).await.is(404, "not-found");
    let answer = api.delete_with(&path, Some(&eva), json!({"reason": "Estou doente."})).await;
    assert_eq!((answer.status, &answer.body["status"]), (StatusCode::OK, &json!("cancelled")));
    let again = api.delete(&path, Some(&eva)).await;
    assert_eq!((again.status, &again.body["status"]), (StatusCode::OK, &json!("cancelled")));
    api.put(&status, Some(&ana), confirmed).await.is(409, "wrong-status");
}

#[tokio::test]
async fn each_refusal_of_a_booking_has_its_own_type() {
    let api = Api::start().await;
    let (ana, shop) = api.shop("ana").await;
    let eva = api.client("eva@example.com").await;
    let late = api.registered("late@example.com").await;

    api.book(&ana, &shop, TOMORROW_10).await.is(422, "own-appointment");
    api.book(&late, &shop, TOMORROW_10).await.is(403, "email-not-confirmed");
    api.book(&eva, &shop, "2026-03-01T13:00:00Z").await.is(422, "slot-in-past");
    api.book(&eva, &shop, "2028-03-01T13:00:00Z").await.is(422, "beyond-horizon");
    for outside in [
        "2026-03-03T10:00:00Z",
        "2026-03-03T13:30:00Z",
        "2026-03-03T21:00:00Z",
        "2026-03-03T13:00:00.0000001Z",
    ] {
        api.book(&eva, &shop, outside).await.is(422, "outside-hours");
    }
    for nobody in [common::an_id(), api.account("eva@example.com").await] {
        api.book(&eva, &nobody, TOMORROW_10).await.is(404, "not-found");
    }
    let unknown = json!({"provider_id": shop, "service_id": common::an_id(), "start": TOMORROW_10});
    api.post("/api/appointments", Some(&eva), unknown).await.is(404, "not-found");

    assert_eq!(api.book(&eva, &shop, TOMORROW_10).await.status, StatusCode::CREATED);
    let taken = api.book(&eva, &shop, TOMORROW_10).await;
    taken.is(409, "slot-taken");
    let nearest = ["2026-03-03T12:00:00Z", "2026-03-03T14:00:00Z", "2026-03-03T11:00:00Z"];
    assert_eq!(taken.body["alternatives"].as_array().unwrap()[..3], nearest.map(Value::from));

    let policy = |notice: u32, window: u32| {
        json!({"minimum_notice_minutes": notice, "horizon_days": 30,
               "cancellation_window_minutes": window, "confirmation": "automatic"})
    };
    let answer = api.put("/api/providers/policy", Some(&ana), policy(3 * 1440, 3 * 1440)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let soon = api.book(&eva, &shop, "2026-03-04T13:00:00Z").await;
    soon.is(422, "notice-too-short");
    assert_eq!(soon.body["notice_minutes"], 3 * 1440);
    api.put("/api/providers/policy", Some(&ana), policy(0, 3 * 1440)).await;
    let booked = api.book(&eva, &shop, "2026-03-04T13:00:00Z").await;
    assert_eq!(booked.body["status"], "confirmed");
    let path = format!("/api/appointments/{}", booked.body["id"].as_str().unwrap());
    api.delete(&path, Some(&eva)).await.is(409, "too-late");
    assert_eq!(api.delete(&path, Some(&ana)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_owner_sets_hours_overrides_and_services_of_their_own_shop_alone() {
    let api = Api::start().await;
    let (ana, shop) = api.shop("ana").await;
    let (bia, _) = api.shop("bia").await;
    let eva = api.client("eva@example.com").await;

    let day = "/api/providers/overrides/2026-03-03";
    let answer = api.put(day, Some(&ana), json!({"windows": []})).await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &json!({"id": shop})));
    api.book(&eva, &shop, TOMORROW_10).await.is(422, "day-off");
    let answer = api.delete(day, Some(&ana)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.headers["etag"], "\"v4\"");
    let again = api.delete(day, Some(&ana)).await;
    assert_eq!(again.status, StatusCode::NO_CONTENT, "asking for what is true is no error");

    let hours = json!({"time_zone": "Europe/Lisbon", "weekly": {"tuesday": [{"from": "09:00", "to": "10:00"}]}});
    assert_eq!(api.put("/api/providers/hours", Some(&ana), hours).await.status, StatusCode::OK);
    let profile = json!({"business_name": "Ana & Cia", "hourly_rate": {"amount_minor": 12000}});
    assert_eq!(api.put("/api/providers/profile", Some(&ana), profile).await.status, StatusCode::OK);

    let offer = json!({"name": "Corte", "duration_minutes": 30, "price": {"amount_minor": 8000}});
    let added = api.post("/api/services", Some(&ana), offer.clone()).await;
    assert_eq!(added.status, StatusCode::CREATED, "{}", added.body);
    let service = added.body["id"].as_str().unwrap().to_owned();
    let path = format!("/api/services/{service}");
    api.put(&path, Some(&bia), offer.clone()).await.is(404, "not-found");
    let longer = json!({"name": "Corte", "duration_minutes": 60, "price": {"amount_minor": 9000}});
    assert_eq!(api.put(&path, Some(&ana), longer).await.status, StatusCode::OK);
    let booking =
        json!({"provider_id": shop, "service_id": service, "start": "2026-03-03T09:00:00Z"});
    let booked = api.post("/api/appointments", Some(&eva), booking).await;
    assert_eq!(booked.status, StatusCode::CREATED, "{}", booked.body);
    assert_eq!(booked.body["price"], json!({"amount_minor": 9000, "currency": "BRL"}));
    assert_eq!(booked.body["end"], "2026-03-03T10:00:00Z");

    api.delete(&path, Some(&bia)).await.is(404, "not-found");
    assert_eq!(
        api.put(&path, Some(&ana), offer.clone()).await.status,
        StatusCode::OK,
        "bia's delete did nothing"
    );
    assert_eq!(api.delete(&path, Some(&ana)).await.status, StatusCode::NO_CONTENT);
    api.put(&path, Some(&ana), offer.clone()).await.is(404, "not-found");
    api.delete(&path, Some(&ana)).await.is(404, "not-found");
    api.post("/api/services", Some(&eva), offer).await.is(404, "not-found");

    let second = json!({"business_name": "Outra", "slug": "outra-da-ana"});
    api.post("/api/providers", Some(&ana), second).await.is(409, "shop-exists");
    let same_slug = json!({"business_name": "Eva", "slug": "ana"});
    api.post("/api/providers", Some(&eva), same_slug).await.is(409, "slug-taken");
}

#[tokio::test]
async fn if_match_changes_the_version_it_names_or_nothing() {
    let api = Api::start().await;
    let (ana, _) = api.shop("ana").await;
    let eva = api.client("eva@example.com").await;
    let profile = |name: &str| json!({"business_name": name});
    let put = async |token: &str, tag: &str, name: &str| {
        let request = api.request("PUT", "/api/providers/profile").header("if-match", tag);
        request.header("authorization", bearer(token)).json(profile(name)).send().await
    };
    let first = put(&ana, "*", "Ana 1").await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.body);
    let tag = first.headers["etag"].to_str().unwrap().to_owned();
    let second = put(&ana, &tag, "Ana 2").await;
    assert_eq!(second.status, StatusCode::OK, "{}", second.body);
    let current = second.headers["etag"].clone();
    assert_ne!(current, tag);
    // Somebody who still looks at the first one.
    let before = api.heads().await;
    let late = put(&ana, &tag, "Ana 3").await;
    late.is(412, "precondition-failed");
    assert_eq!(late.headers["etag"], current);
    for wrong in ["v1", "W/\"v1\"", "\"v1\", \"v2\"", ""] {
        put(&ana, wrong, "Ana 3").await.is(400, "invalid-header");
    }
    put(&eva, &tag, "Eva").await.is(404, "not-found");
    assert_eq!(api.heads().await, before);
    assert_eq!(put(&ana, current.to_str().unwrap(), "Ana 3").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_taken_address_and_wrong_credentials_tell_nothing() {
    let api = Api::start().await;
    let registration =
        |password: &str| json!({"name": "Eva", "email": "Eva@Example.com", "password": password});
    let first = api.post("/api/auth/register", None, registration("correct horse")).await;
    let second = api.post("/api/auth/register", None, registration("another horse")).await;
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    let names =
        |answer: &Answer| answer.headers.keys().map(|name| name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&first), names(&second));

    let login = |email: &str, password: &str| json!({"email": email, "password": password});
    let answer = api.post("/api/auth/login", None, login("eva@example.com", "correct horse")).await;
    assert_eq!(answer.status, StatusCode::OK, "unconfirmed, but may sign in: {}", answer.body);
    for (email, password) in [
        ("eva@example.com", "another horse"),
        ("eva@example.com", ""),
        ("nobody@example.com", "correct horse"),
        ("not an address", "correct horse"),
        ("eva@example.com", &"x".repeat(10_000)),
    ] {
        let answer = api.post("/api/auth/login", None, login(email, password)).await;
        answer.is(401, "invalid-credentials");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
    }
    // An old token in the header does not keep anybody from signing in.
    let stale =
        api.post("/api/auth/login", Some("stale"), login("eva@example.com", "correct horse")).await;
    assert_eq!(stale.status, StatusCode::OK);
}

#[tokio::test]
async fn a_forged_confirmation_link_confirms_nobody() {
    let api = Api::start().await;
    api.registered("eva@example.com").await;
    let good = api.confirmation("eva@example.com").await;
    let before = api.heads().await;
    let (id, tag) = good.split_once('.').unwrap();
    for forged in
        ["", "x", id, &format!("{id}."), &format!(".{tag}"), &format!("{tag}.{id}"), &good[1..]]
    {
        let answer = api.post("/api/auth/confirm", None, json!({"token": forged})).await;
        answer.is(422, "invalid-link");
    }
    assert_eq!(api.heads().await, before);
    for _ in 0..2 {
        let answer = api.post("/api/auth/confirm", None, json!({"token": good})).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn the_same_key_and_body_get_the_first_answer_again() {
    let api = Api::start().await;
    let (ana, shop) = api.shop("ana").await;
    let eva = api.client("eva@example.com").await;
    let booking = json!({"provider_id": shop, "start": TOMORROW_10});
    let keyed = |body: Value, token: &str| {
        api.request("POST", "/api/appointments")
            .header("authorization", bearer(token))
            .header("idempotency-key", "booking-1")
            .json(body)
    };
    let first = keyed(booking.clone(), &eva).send().await;
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.body);
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let head = api.heads().await;
    for _ in 0..3 {
        let again = keyed(booking.clone(), &eva).send().await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        assert_eq!(again.headers["idempotent-replayed"], "true");
        for name in ["location", "pontual-position", "etag"] {
            assert_eq!(again.headers.get(name), first.headers.get(name), "{name}");
        }
    }
    assert_eq!(api.heads().await, head, "a replay writes nothing");

    let other = json!({"provider_id": shop, "start": "2026-03-03T14:00:00Z"});
    keyed(other.clone(), &eva).send().await.is(422, "idempotency-key-reused");
    let zoe = api.client("zoe@example.com").await;
    let hers = keyed(other, &zoe).send().await;
    assert_eq!(hers.status, StatusCode::CREATED, "another person's key is another key");

    // A refusal is not kept: once the slot is free, the same key books it.
    let path = format!("/api/appointments/{}", first.body["id"].as_str().unwrap());
    let retry = |key: &'static str| {
        api.request("POST", "/api/appointments")
            .header("authorization", bearer(&zoe))
            .header("idempotency-key", key)
            .json(booking.clone())
    };
    retry("zoe-1").send().await.is(409, "slot-taken");
    assert_eq!(api.delete(&path, Some(&ana)).await.status, StatusCode::OK);
    assert_eq!(retry("zoe-1").send().await.status, StatusCode::CREATED);
    // And the first answer stands, although the appointment has been called off since.
    assert_eq!(keyed(booking, &eva).send().await.body, first.body);
}

#[tokio::test]
async fn two_who_race_for_a_slot_are_one_booked_and_one_refused() {
    let api = Api::start().await;
    let (_, shop) = api.shop("ana").await;
    let (eva, zoe) = (api.client("eva@example.com").await, api.client("zoe@example.com").await);
    for hour in 11..16 {
        let start = format!("2026-03-03T{hour}:00:00Z");
        let (one, two) = tokio::join!(api.book(&eva, &shop, &start), api.book(&zoe, &shop, &start));
        let mut statuses = [one.status.as_u16(), two.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409]);
    }
}

#[tokio::test]
async fn notifications_are_marked_once_they_exist() {
    let api = Api::start().await;
    let (ana, shop) = api.shop("ana").await;
    let eva = api.client("eva@example.com").await;
    let booked = api.book(&eva, &shop, TOMORROW_10).await;
    let position = booked.headers["pontual-position"].to_str().unwrap().to_owned();
    let read = |id: &str| format!("/api/notifications/{id}/read");
    let marked = api.post_empty(&read(&position), Some(&ana)).await;
    assert_eq!(marked.status, StatusCode::NO_CONTENT);
    assert!(marked.headers.contains_key("pontual-position"));
    let again = api.post_empty(&read(&position), Some(&ana)).await;
    assert_eq!(again.status, StatusCode::NO_CONTENT);
    let caio = api.client("caio@example.com").await;
    let before = api.heads().await;
    for absent in ["0:0", "4095:1", "0:9223372036854775807", "60000:1"] {
        api.post_empty(&read(absent), Some(&ana)).await.is(404, "not-found");
    }
    for wrong in ["x", "1", "1:-1", "1:9223372036854775808"] {
        api.post_empty(&read(wrong), Some(&ana)).await.is(400, "invalid-path");
    }
    api.post_empty(&read(&position), None).await.is(401, "sign-in-required");
    api.post_empty(&read(&position), Some(&caio)).await.is(404, "not-found");
    assert_eq!(api.heads().await, before);
}

#[tokio::test]
async fn marking_all_goes_by_the_logs_clock_whatever_the_programs_says() {
    let api = Api::start().await;
    let (ana, shop) = api.shop("ana").await;
    let eva = api.client("eva@example.com").await;
    let booked = api.book(&eva, &shop, TOMORROW_10).await;
    let recorded = api.clock.now();
    // What is booked meanwhile would be taken for read, if this program's word went for it.
    api.clock.advance(chrono::TimeDelta::minutes(10));
    let all = api.post_empty("/api/notifications/read-all", Some(&ana)).await;
    assert_eq!(all.status, StatusCode::NO_CONTENT);
    let position: PositionToken =
        all.headers["pontual-position"].to_str().unwrap().parse().unwrap();
    let at = position.positions().next().unwrap();
    let marked = api.log.tail(at.partition, at.number - 1, 1).await.unwrap();
    let Event::NotificationFeed(NotificationFeedEvent::AllNotificationsRead { until, .. }) =
        &marked[0].event
    else {
        panic!("{:?}", marked[0].event)
    };
    assert_eq!(*until, recorded, "{:?}", booked.status);
}

#[tokio::test]
async fn bad_input_gets_a_problem_never_a_500_and_changes_nothing() {
    let api = Api::start().await;
    let (ana, shop) = api.shop("ana").await;
    let eva = api.client("eva@example.com").await;
    let booked = api.book(&eva, &shop, TOMORROW_10).await.body["id"].as_str().unwrap().to_owned();
    let before = api.heads().await;

    let book = |start: Value| json!({"provider_id": shop, "start": start});
    let register = |name: &str, value: Value| {
        let mut body =
            json!({"name": "Zoe", "email": "zoe@example.com", "password": "correct horse"});
        body[name] = value;
        body
    };
    let appointments = "/api/appointments".to_owned();
    let mut cases: Vec<(&str, String, Value, u16)> = Vec::new();
    for start in [
        json!("9999-12-31T23:59:59Z"),
        json!("0001-01-01T00:00:00Z"),
        json!("-0001-01-01T00:00:00Z"),
        json!("+262142-12-31T23:59:59Z"),
        json!("2026-06-30T23:59:60Z"),
        json!("2026-02-30T10:00:00Z"),
        json!("2026-03-03"),
        json!("2026-03-03T10:00:00"),
        json!("tomorrow"),
        json!(""),
        json!(0),
        json!(null),
        json!(["2026-03-03T13:00:00Z"]),
        json!({"$date": "2026-03-03"}),
        json!("2026-03-03T13:00:00+99:99"),
    ] {
        cases.push(("POST", appointments.clone(), book(start.clone()), 422));
        cases.push((
            "POST",
            format!("/api/appointments/{booked}/reschedule"),
            json!({"start": start}),
            422,
        ));
    }
    for (name, value) in [
        ("name", json!("Z")),
        ("name", json!("Z\u{0}e")),
        ("name", json!("x".repeat(256))),
        ("name", json!(1)),
        ("name", json!(null)),
        ("email", json!("zoe")),
        ("email", json!("zoe@example.com\r\nBcc: a@b.c")),
        ("email", json!("x".repeat(300))),
        ("password", json!("short")),
        ("password", json!("x".repeat(129))),
        ("password", json!(12345678)),
        ("phone", json!("call me")),
        ("role", json!("admin")),
        ("locale", json!("tlh")),
        ("is_admin", json!(true)),
        ("password_confirmation", json!("correct horse")),
    ] {
        cases.push(("POST", "/api/auth/register".to_owned(), register(name, value), 422));
    }
    for body in [json!({}), json!([]), json!("x"), json!(null), json!(7)] {
        for (method, path) in [
            ("POST", "/api/auth/register"),
            ("POST", "/api/auth/login"),
            ("POST", "/api/auth/confirm"),
            ("POST", "/api/providers"),
            ("PUT", "/api/providers/profile"),
            ("PUT", "/api/providers/hours"),
            ("PUT", "/api/providers/policy"),
            ("PUT", "/api/providers/overrides/2026-05-01"),
            ("POST", "/api/services"),
            ("POST", "/api/appointments"),
        ] {
            cases.push((method, path.to_owned(), body.clone(), 422));
        }
    }
    let long = "x".repeat(3000);
    for (method, path, body, status) in [
        ("PUT", "/api/providers/hours", json!({"time_zone": "Mars/Base", "weekly": {}}), 422),
        (
            "PUT",
            "/api/providers/hours",
            json!({"time_zone": "America/Sao_Paulo", "weekly": {"funday": []}}),
            422,
        ),
        (
            "PUT",
            "/api/providers/hours",
            json!({"time_zone": "America/Sao_Paulo", "weekly": {"monday": [{"from": "10:00", "to": "09:00"}]}}),
            422,
        ),
        ("PUT", "/api/providers/overrides/9999-01-01", json!({"windows": []}), 400),
        ("PUT", "/api/providers/overrides/0001-01-01", json!({"windows": []}), 400),
        ("PUT", "/api/providers/overrides/2026-02-30", json!({"windows": []}), 400),
        ("PUT", "/api/providers/overrides/tomorrow", json!({"windows": []}), 400),
        (
            "PUT",
            "/api/providers/overrides/2026-05-01",
            json!({"windows": [{"from": "9:00", "to": "10:00"}]}),
            422,
        ),
        (
            "PUT",
            "/api/providers/policy",
            json!({"minimum_notice_minutes": -1, "horizon_days": 1, "cancellation_window_minutes": 0, "confirmation": "manual"}),
            422,
        ),
        (
            "PUT",
            "/api/providers/policy",
            json!({"minimum_notice_minutes": 0, "horizon_days": 4_000_000_000_u32, "cancellation_window_minutes": 0, "confirmation": "manual"}),
            422,
        ),
        (
            "PUT",
            "/api/providers/profile",
            json!({"business_name": "Ana", "hourly_rate": {"amount_minor": -1}}),
            422,
        ),
        (
            "PUT",
            "/api/providers/profile",
            json!({"business_name": "Ana", "hourly_rate": {"amount_minor": 1e30}}),
            422,
        ),
        ("POST", "/api/providers", json!({"business_name": "Ana", "slug": "admin"}), 422),
        ("POST", "/api/providers", json!({"business_name": "Ana", "slug": "../etc"}), 422),
        ("POST", "/api/services", json!({"name": "Corte", "duration_minutes": 0}), 422),
        ("POST", "/api/services", json!({"name": "Corte", "duration_minutes": 70000}), 422),
        (
            "PUT",
            "/api/providers/profile",
            json!({"business_name": "Ana", "hourly_rate": {"amount_minor": 416_666_667}}),
            422,
        ),
        (
            "PUT",
            "/api/providers/profile",
            json!({"business_name": "Ana", "hourly_rate": {"amount_minor": 1, "currency": "XXX"}}),
            422,
        ),
        (
            "POST",
            "/api/services",
            json!({"name": "Corte", "duration_minutes": 60, "capacity": 0}),
            422,
        ),
        (
            "POST",
            "/api/services",
            json!({"name": "Corte", "duration_minutes": 60, "price": 12.5}),
            422,
        ),
        ("PUT", "/api/services/1", json!({"name": "Corte", "duration_minutes": 60}), 400),
        ("POST", "/api/appointments", json!({"provider_id": "1", "start": TOMORROW_10}), 422),
        (
            "POST",
            "/api/appointments",
            json!({"provider_id": "6f1c2b1e-8f0b-4c59-9f5e-2d3c4b5a6978", "start": TOMORROW_10}),
            422,
        ),
        (
            "POST",
            "/api/appointments",
            json!({"provider_id": shop, "start": TOMORROW_10, "notes": long}),
            422,
        ),
        (
            "POST",
            "/api/appointments",
            json!({"provider_id": shop, "start": TOMORROW_10, "client_id": shop}),
            422,
        ),
        (
            "POST",
            "/api/appointments",
            json!({"provider_id": shop, "start": TOMORROW_10, "contact": {"name": "Gil Guest"}}),
            422,
        ),
        ("DELETE", "/api/guest/appointment", json!({}), 401),
        ("PUT", "/api/appointments/x/status", json!({"status": "confirmed"}), 400),
        ("DELETE", "/api/appointments/%00", json!({}), 400),
    ] {
        cases.push((method, path.to_owned(), body, status));
    }
    let status = format!("/api/appointments/{booked}/status");
    for body in [
        json!({"status": "expired"}),
        json!({"status": "no_show", "reason": "because"}),
        json!({"status": "pending"}),
        json!({"status": 1}),
        json!({"status": "confirmed", "reason": "because"}),
        json!({"status": "declined", "reason": ""}),
    ] {
        cases.push(("PUT", status.clone(), body, 422));
    }
    for (method, path, body, status) in cases {
        let request = api.request(method, &path).header("authorization", bearer(&ana));
        let answer = request.json(body.clone()).send().await;
        let shown: String = body.to_string().chars().take(200).collect();
        assert_eq!(answer.status, status, "{method} {path} {shown}: {}", answer.body);
        assert_eq!(
            answer.headers["content-type"], "application/problem+json",
            "{method} {path} {shown}"
        );
        assert!(answer.body["trace_id"].is_string());
    }

    for raw in ["", "{", "{\"a\":1", "\u{feff}{}", "\0", "undefined"] {
        let request =
            api.request("POST", "/api/appointments").header("authorization", bearer(&eva));
        request.raw("application/json", raw).send().await.is(400, "malformed-json");
    }
    let request = api.request("POST", "/api/appointments").header("authorization", bearer(&eva));
    request
        .raw("application/x-www-form-urlencoded", "a=b")
        .send()
        .await
        .is(415, "unsupported-media-type");
    let request = api.request("POST", "/api/auth/register");
    let ten_megabytes = format!("{{\"name\":\"{}\"}}", "x".repeat(10 << 20));
    request.raw("application/json", &ten_megabytes).send().await.is(413, "payload-too-large");
    api.request("POST", "/api/nowhere").send().await.is(404, "not-found");
    api.request("PATCH", "/api/appointments").send().await.is(405, "method-not-allowed");

    assert_eq!(api.heads().await, before, "nothing of all this changed anything");
}

#[tokio::test]
async fn forged_and_expired_tokens_are_refused_at_every_route() {
    let api = Api::start().await;
    let (ana, shop) = api.shop("ana").await;
    let before = api.heads().await;
    let forged = common::forged(&api).await;
    let routes = [
        ("POST", "/api/providers".to_owned(), json!({"business_name": "Ana", "slug": "forged"})),
        ("PUT", "/api/providers/profile".to_owned(), json!({"business_name": "Forged"})),
        (
            "PUT",
            "/api/providers/hours".to_owned(),
            json!({"time_zone": "America/Sao_Paulo", "weekly": {}}),
        ),
        ("PUT", "/api/providers/overrides/2026-05-01".to_owned(), json!({"windows": []})),
        ("DELETE", "/api/providers/overrides/2026-05-01".to_owned(), json!({})),
        ("PUT", "/api/providers/policy".to_owned(), json!({})),
        ("POST", "/api/services".to_owned(), json!({"name": "Corte", "duration_minutes": 60})),
        (
            "PUT",
            format!("/api/services/{}", common::an_id()),
            json!({"name": "Corte", "duration_minutes": 60}),
        ),
        ("DELETE", format!("/api/services/{}", common::an_id()), json!({})),
        (
            "POST",
            "/api/appointments".to_owned(),
            json!({"provider_id": shop, "start": TOMORROW_10}),
        ),
        (
            "PUT",
            format!("/api/appointments/{}/status", common::an_id()),
            json!({"status": "confirmed"}),
        ),
        (
            "POST",
            format!("/api/appointments/{}/reschedule", common::an_id()),
            json!({"start": TOMORROW_10}),
        ),
        ("DELETE", format!("/api/appointments/{}", common::an_id()), json!({})),
        ("POST", "/api/notifications/0:1/read".to_owned(), json!({})),
        ("POST", "/api/notifications/read-all".to_owned(), json!({})),
    ];
    let mut tokens =
        vec!["".to_owned(), "x".to_owned(), forged, format!("{ana}x"), ana.replace('.', "")];
    api.clock.advance(chrono::TimeDelta::minutes(16));
    tokens.push(ana);
    for (method, path, body) in routes {
        for token in &tokens {
            let request = api.request(method, &path).header("authorization", bearer(token));
            let answer = request.json(body.clone()).send().await;
            answer.is(401, "invalid-token");
            assert_eq!(answer.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
        }
        api.request(method, &path).json(body).send().await.is(401, "sign-in-required");
    }
    assert_eq!(api.heads().await, before);
}

#[tokio::test]
async fn signing_in_and_registering_are_limited_by_address() {
    let api = Api::limited().await;
    let login = json!({"email": "eva@example.com", "password": "correct horse"});
    for _ in 0..5 {
        api.post("/api/auth/login", None, login.clone()).await.is(401, "invalid-credentials");
    }
    let limited = api.post("/api/auth/login", None, login).await;
    limited.is(429, "too-many-requests");
    assert_eq!(limited.headers["retry-after"], "12");
    let registration = |n: u32| json!({"name": "Eva", "email": format!("eva{n}@example.com"), "password": "correct horse"});
    for n in 0..3 {
        let answer = api.post("/api/auth/register", None, registration(n)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }
    api.post("/api/auth/register", None, registration(3)).await.is(429, "too-many-requests");
}

#[tokio::test]
async fn the_provider_says_whether_the_client_came_and_sets_it_right_for_a_week() {
    let api = Api::start().await;
    let (ana, shop) = api.shop("ana").await;
    let eva = api.client("eva@example.com").await;
    let booked = api.book(&eva, &shop, TOMORROW_10).await;
    let path = format!("/api/appointments/{}/status", booked.body["id"].as_str().unwrap());
    let confirmed = api.put(&path, Some(&ana), json!({"status": "confirmed"})).await;
    assert_eq!(confirmed.status, StatusCode::OK, "{}", confirmed.body);
    // Signed in anew each time: tokens live for minutes.
    let said = async |now: &str, status: &str| {
        api.clock.set(now.parse().unwrap());
        let credentials = json!({"email": "ana@example.com", "password": "correct horse"});
        let session = api.post("/api/auth/login", None, credentials).await;
        let token = session.body["access_token"].as_str().unwrap();
        api.put(&path, Some(token), json!({"status": status})).await
    };
    said("2026-03-03T12:59:59Z", "no_show").await.is(409, "not-yet");
    let missed = said("2026-03-03T13:00:00Z", "no_show").await;
    assert_eq!((missed.status, &missed.body["status"]), (StatusCode::OK, &json!("no_show")));
    let early = said("2026-03-03T13:30:00Z", "completed").await;
    early.is(409, "not-yet");
    assert_eq!(early.body["from"], "2026-03-03T14:00:00Z");
    let came = said("2026-03-03T14:00:00Z", "completed").await;
    assert_eq!((came.status, &came.body["status"]), (StatusCode::OK, &json!("completed")));
    assert_eq!(came.headers["etag"], "\"v4\"");
    said("2026-03-04T14:00:00Z", "cancelled").await.is(409, "wrong-status");
    let over = said("2026-03-10T13:00:00Z", "no_show").await;
    over.is(409, "correction-over");
    assert_eq!(over.body["until"], "2026-03-10T13:00:00Z");
}

#[tokio::test]
async fn a_confirmed_appointment_that_has_ended_is_not_called_off() {
    let api = Api::start().await;
    let (ana, shop) = api.shop("ana").await;
    let eva = api.client("eva@example.com").await;
    let booked = api.book(&eva, &shop, TOMORROW_10).await;
    let path = format!("/api/appointments/{}/status", booked.body["id"].as_str().unwrap());
    let confirmed = api.put(&path, Some(&ana), json!({"status": "confirmed"})).await;
    assert_eq!(confirmed.status, StatusCode::OK, "{}", confirmed.body);
    api.clock.set("2026-03-03T14:00:00Z".parse().unwrap());
    let credentials = json!({"email": "ana@example.com", "password": "correct horse"});
    let session = api.post("/api/auth/login", None, credentials).await;
    let token = session.body["access_token"].as_str().unwrap();
    let dodged = api.put(&path, Some(token), json!({"status": "cancelled"})).await;
    dodged.is(409, "already-ended");
    assert_eq!(dodged.body["ended_at"], "2026-03-03T14:00:00Z");
}

#[tokio::test]
async fn what_nobody_answered_in_time_cannot_be_answered_later() {
    let api = Api::start().await;
    let (ana, shop) = api.shop("ana").await;
    let eva = api.client("eva@example.com").await;
    let policy = |minutes: u32| {
        json!({"minimum_notice_minutes": 0, "horizon_days": 30, "cancellation_window_minutes": 0,
               "confirmation": "manual", "answer_within_minutes": minutes})
    };
    for wrong in [0, 4, 43_201] {
        api.put("/api/providers/policy", Some(&ana), policy(wrong)).await.is(422, "invalid-input");
    }
    let set = api.put("/api/providers/policy", Some(&ana), policy(5)).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.body);
    let booked = api.book(&eva, &shop, TOMORROW_10).await;
    let path = format!("/api/appointments/{}/status", booked.body["id"].as_str().unwrap());
    api.clock.set("2026-03-02T12:05:00Z".parse().unwrap());
    let late = api.put(&path, Some(&ana), json!({ "status": "confirmed" })).await;
    late.is(409, "wrong-status");
    assert_eq!(late.body["current_status"], "expired");
}
