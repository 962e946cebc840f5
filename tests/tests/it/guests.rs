//! Guests: people without an account who book by name and address, and manage that by the link that is mailed to them (K18).

use end_to_end::{Answer, Api, PATIENCE, Pontual, Profile, Shop, in_days};
use serde_json::{Value, json};

fn policy(guests: bool) -> Value {
    json!({ "policy": {
        "minimum_notice_minutes": 0, "horizon_days": 90, "cancellation_window_minutes": 60,
        "confirmation": "manual", "guests": guests,
    } })
}

fn booking(shop: &Shop, start: &str, email: &str) -> Value {
    json!({
        "provider_id": shop.id, "start": start, "notes": "First time.",
        "contact": { "name": "Gil Guest", "email": email, "phone": "+55 11 91234-5678", "locale": "en" },
    })
}

/// So many mails to an address, once they are there; in no order.
async fn mails(pontual: &Pontual, email: &str, count: usize) -> Vec<String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mails = pontual.mails_to(email);
        if mails.len() >= count {
            return mails;
        }
        let late = tokio::time::Instant::now() >= deadline;
        assert!(!late, "{} of {count} mails to {email}:\n{}", mails.len(), pontual.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn token(mail: &str) -> String {
    let (_, rest) = mail.split_once("/guest#token=").expect("the mail has a link");
    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect()
}

/// Somebody with a guest's link.
struct Guest {
    api: Api,
    token: String,
}

impl Guest {
    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.api.request(method, path).header("pontual-guest", &self.token)
    }

    async fn see(&self, after: &str) -> Answer {
        let request = self.request("GET", "/api/guest/appointment");
        self.api.send(request.header("pontual-after", after)).await
    }
}

#[tokio::test]
async fn a_guest_books_moves_and_cancels_and_is_told_by_mail() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider_with("Ana", policy(true)).await;
        let (nobody, email) = (pontual.nobody(), "gil.guest@example.com");
        let (first, second) = (in_days(7, "12:00:00Z"), in_days(8, "15:00:00Z"));
        let ask = nobody.request("POST", "/api/appointments").header("idempotency-key", "once");
        let ask = || ask.try_clone().expect("a request").json(&booking(&ana, &first, email));
        let booked = nobody.send(ask()).await.expect(201);
        assert_eq!(
            (booked.body["status"].as_str(), booked.header("location")),
            (Some("pending"), Some("/api/guest/appointment"))
        );
        let again = nobody.send(ask()).await.expect(201);
        assert_eq!(again.body, booked.body, "a retry books once");
        let taken = nobody.post("/api/appointments", booking(&ana, &first, email)).await;
        assert_eq!(taken.expect(409).problem(), "slot-taken");
        let id = booked.body["id"].as_str().unwrap();

        let requested = mails(&pontual, email, 1).await.remove(0);
        assert!(requested.contains("Subject: Your booking request was received"), "{requested}");
        assert!(requested.contains("Hello, Gil Guest!") && requested.contains("Ana's"));
        let guest = Guest { api: nobody.clone(), token: token(&requested) };
        let seen = guest.see(&booked.position()).await.expect(200).body;
        assert_eq!((&seen["id"], &seen["client_id"]), (&json!(id), &Value::Null));
        assert_eq!(
            (&seen["client_email"], &seen["client_notes"]),
            (&json!(email), &json!("First time."))
        );

        // The provider hears of it as of any other.
        let day = format!("/api/appointments/provider/{}?day={}", ana.id, &first[..10]);
        for _ in 0..2 {
            let list = ana.owner.api.get_after(&day, &booked.position()).await.expect(200).body;
            assert_eq!(list["items"][0]["client_name"], "Gil Guest", "{profile:?}");
        }
        let feed = ana.owner.api.get_after("/api/notifications", &booked.position()).await;
        let feed = feed.expect(200).body;
        assert_eq!(
            (&feed["items"][0]["kind"], &feed["items"][0]["other_party"]),
            (&json!("new_booking"), &json!("Gil Guest"))
        );
        let status = format!("/api/appointments/{id}/status");
        ana.owner.api.put(&status, json!({ "status": "confirmed" })).await.expect(200);
        let told = mails(&pontual, email, 2).await;
        assert!(told.iter().any(|mail| mail.contains("Subject: Your appointment is confirmed")));
        assert!(told.iter().all(|mail| token(mail) == guest.token));

        let moving = guest.request("POST", "/api/guest/appointment/reschedule");
        let moved = nobody.send(moving.json(&json!({ "start": second }))).await.expect(200);
        assert_eq!((&moved.body["status"], &moved.body["id"]), (&json!("pending"), &json!(id)));
        let off = guest.request("DELETE", "/api/guest/appointment");
        let off = nobody.send(off.json(&json!({ "reason": "I am ill." }))).await.expect(200);
        let path = format!("/api/appointments/{id}");
        let seen = ana.owner.api.get_after(&path, &off.position()).await.expect(200).body;
        assert_eq!(
            (&seen["status"], &seen["status_reason"]),
            (&json!("cancelled"), &json!("I am ill."))
        );
        let feed = ana.owner.api.get_after("/api/notifications", &off.position()).await;
        let kinds: Vec<Value> = feed.expect(200).body["items"]
            .as_array()
            .unwrap()
            .iter()
            .rev()
            .map(|item| item["kind"].clone())
            .collect();
        assert_eq!(
            json!(kinds),
            json!(["new_booking", "booking_rescheduled", "booking_cancelled"])
        );
    }
}

#[tokio::test]
async fn without_the_providers_word_only_the_provider_books_for_guests() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider_with("Ana", policy(false)).await;
        let bia = pontual.client("Bia").await;
        let email = "dona.guest@example.com";
        let wanted = booking(&ana, &in_days(7, "12:00:00Z"), email);
        let nobody = pontual.nobody();
        nobody.post("/api/appointments", wanted.clone()).await.expect(401);
        bia.api.post("/api/appointments", wanted.clone()).await.expect(403);
        let booked = ana.owner.api.post("/api/appointments", wanted).await.expect(201);
        assert_eq!(booked.body["status"], "confirmed", "who books in their own shop has agreed");
        let mail = mails(&pontual, email, 1).await.remove(0);
        assert!(mail.contains("Subject: Your appointment is confirmed"), "{mail}");
        let feed = ana.owner.api.get_after("/api/notifications", &booked.position()).await;
        assert_eq!(feed.expect(200).body["items"], json!([]), "she knows what she did");

        let id = booked.body["id"].as_str().unwrap();
        let why = json!({ "status": "cancelled", "reason": "The shop is flooded." });
        let off = ana.owner.api.put(&format!("/api/appointments/{id}/status"), why).await;
        let off = off.expect(200).position();
        let told = mails(&pontual, email, 2).await;
        assert!(told.iter().any(|mail| mail.contains("Subject: Your appointment was cancelled")));
        let guest = Guest { api: nobody, token: token(&mail) };
        assert_eq!(guest.see(&off).await.expect(200).body["status_reason"], "The shop is flooded.");
    }
}

#[tokio::test]
async fn a_link_that_is_missing_forged_or_anothers_lets_nobody_in() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider_with("Ana", policy(true)).await;
    let nobody = pontual.nobody();
    let mut guests = Vec::new();
    for (hour, email) in [(12, "gil@guests.example.com"), (13, "eva@guests.example.com")] {
        let start = in_days(7, &format!("{hour}:00:00Z"));
        let wanted = booking(&ana, &start, email);
        let booked = nobody.post("/api/appointments", wanted).await.expect(201);
        let token = token(&mails(&pontual, email, 1).await[0]);
        guests.push((Guest { api: nobody.clone(), token }, booked));
    }
    let [(gil, his), (eva, _)] = &guests[..] else { panic!("two guests") };
    nobody.get("/api/guest/appointment").await.expect(401);
    let (ids, tag) = gil.token.split_once('.').unwrap();
    let (evas_ids, evas_tag) = eva.token.split_once('.').unwrap();
    for forged in [
        String::new(),
        "x".to_owned(),
        format!("{ids}.{evas_tag}"),
        format!("{evas_ids}.{tag}"),
        "A".repeat(5_000),
    ] {
        let forger = Guest { api: nobody.clone(), token: forged };
        assert_eq!(forger.see(&his.position()).await.expect(422).problem(), "invalid-link");
        let off = forger.request("DELETE", "/api/guest/appointment");
        assert_eq!(nobody.send(off).await.expect(422).problem(), "invalid-link");
    }
    // To others, a guest's appointment is not there.
    let path = format!("/api/appointments/{}", his.body["id"].as_str().unwrap());
    let bia = pontual.client("Bia").await;
    bia.api.get_after(&path, &his.position()).await.expect(404);
    bia.api.delete(&path).await.expect(404);
    nobody.send(gil.request("GET", &path)).await.expect(401);
    assert_eq!(gil.see(&his.position()).await.expect(200).body["status"], "pending");
}
