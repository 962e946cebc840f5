//! The life of an appointment through HTTP: what is said of it and when, who notes what, when it expires. What takes days is
//! tried with a clock that can be set: `command-api/tests/http.rs`, `projectors/tests/it/life.rs`.

use end_to_end::{Pontual, Profile, in_days};
use serde_json::{Value, json};

#[tokio::test]
async fn nobody_says_whether_a_client_came_before_it_can_be_known() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let (ana, bia) = (pontual.provider("Ana").await, pontual.client("Bia").await);
        let start = in_days(7, "12:00:00Z");
        let booked = bia.book(&ana, &start).await.expect(201);
        let status = format!("/api/appointments/{}/status", booked.body["id"].as_str().unwrap());
        let completed = json!({ "status": "completed" });
        let early = ana.owner.api.put(&status, completed.clone()).await.expect(409);
        assert_eq!(early.problem(), "wrong-status");
        ana.owner.api.put(&status, json!({ "status": "confirmed" })).await.expect(200);
        bia.api.put(&status, completed.clone()).await.expect(403);
        let early = ana.owner.api.put(&status, completed).await.expect(409);
        assert_eq!(
            (early.problem(), &early.body["from"]),
            ("not-yet", &json!(in_days(7, "13:00:00Z")))
        );
        let early = ana.owner.api.put(&status, json!({ "status": "no_show" })).await.expect(409);
        assert_eq!((early.problem(), &early.body["from"]), ("not-yet", &json!(start)));
        let why = json!({ "status": "no_show", "reason": "She was not there." });
        assert_eq!(ana.owner.api.put(&status, why).await.expect(422).problem(), "invalid-input");
    }
}

#[tokio::test]
async fn a_booking_says_when_it_expires_and_orders_no_job() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let policy = json!({
            "minimum_notice_minutes": 0, "horizon_days": 90, "cancellation_window_minutes": 0,
            "confirmation": "manual", "answer_within_minutes": 60,
        });
        let ana = pontual.provider_with("Ana", json!({ "policy": policy })).await;
        let bia = pontual.client("Bia").await;
        let booked = bia.book(&ana, &in_days(7, "12:00:00Z")).await.expect(201);
        let id = booked.body["id"].as_str().unwrap();
        bia.api.get_after(&format!("/api/appointments/{id}"), &booked.position()).await.expect(200);
        let due = "SELECT answer_by BETWEEN now() + interval '58 minutes' AND now() + interval '60 minutes'
            FROM appointments WHERE id = $1::uuid";
        let pool = pontual.pool().await;
        let well: bool = sqlx::query_scalar(due).bind(id).fetch_one(&pool).await.expect(due);
        assert!(well, "{profile:?}");
        let jobs = "SELECT count(*) FROM jobs WHERE payload->>'appointment' = $1";
        let jobs: i64 = sqlx::query_scalar(jobs).bind(id).fetch_one(&pool).await.expect(jobs);
        assert_eq!(jobs, 0);
    }
}

#[tokio::test]
async fn each_side_reads_its_own_notes_and_never_the_others() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let (ana, bia) = (pontual.provider("Ana").await, pontual.client("Bia").await);
        let start = in_days(7, "12:00:00Z");
        let booked = bia.book(&ana, &start).await.expect(201);
        let path = format!("/api/appointments/{}", booked.body["id"].as_str().unwrap());
        let notes = format!("{path}/notes");
        let changed = async || {
            bia.api.get(&path).await.expect(200).body["updated_at"].as_str().unwrap().to_owned()
        };
        bia.api.get_after(&path, &booked.position()).await.expect(200);
        let before = changed().await;
        let hers = json!({ "notes": "Likes it short." });
        ana.owner.api.put(&notes, hers).await.expect(200);
        let last = bia.api.put(&notes, json!({ "notes": "Bring cash." })).await.expect(200);
        assert_eq!(last.header("etag"), Some("\"v3\""));
        let last = last.position();
        let day = format!("/api/appointments/provider/{}?day={}", ana.id, &start[..10]);
        let listed = |body: &Value| body["items"][0]["own_notes"].clone();
        for _ in 0..2 {
            let seen = ana.owner.api.get_after(&path, &last).await.expect(200).body;
            assert_eq!(seen["own_notes"], "Likes it short.");
            let seen = ana.owner.api.get_after(&day, &last).await.expect(200).body;
            assert_eq!(listed(&seen), "Likes it short.", "{profile:?}");
        }
        assert_eq!(bia.api.get(&path).await.expect(200).body["own_notes"], "Bring cash.");
        let mine = bia.api.get("/api/users/appointments").await.expect(200).body;
        assert_eq!(listed(&mine), "Bring cash.");
        assert_eq!(changed().await, before, "nor does it show that somebody noted something");
        for (api, own, others) in [
            (&ana.owner.api, "Likes it short.", "Bring cash."),
            (&bia.api, "Bring cash.", "Likes it short."),
        ] {
            let export = api.get_after("/api/users/export", &last).await.expect(200).body;
            let export = export.to_string();
            assert!(export.contains(own) && !export.contains(others), "{export}");
        }

        pontual.client("Caio").await.api.put(&notes, json!({ "notes": "x" })).await.expect(404);
        let gone = ana.owner.api.put(&notes, json!({ "notes": null })).await.expect(200);
        let seen = ana.owner.api.get_after(&path, &gone.position()).await.expect(200).body;
        assert_eq!(seen["own_notes"], Value::Null);
        assert_eq!(bia.api.get(&path).await.expect(200).body["own_notes"], "Bring cash.");
    }
}
