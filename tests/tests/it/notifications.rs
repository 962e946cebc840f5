//! The notification feed: unread, read, counts, pages; and who hears of what.

use end_to_end::{Pontual, Profile, in_days};
use serde_json::json;

#[tokio::test]
async fn notifications_are_read_one_by_one_and_all_at_once() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let mut position = String::new();
        for hour in 12..15 {
            position =
                bia.book(&ana, &in_days(6, &format!("{hour}:00:00Z"))).await.expect(201).position();
        }
        let feed = &ana.owner.api;
        let page = feed.get_after("/api/notifications?limit=2", &position).await.expect(200);
        assert_eq!(page.body["items"].as_array().unwrap().len(), 2);
        let cursor = page.body["next_cursor"].as_str().unwrap();
        let rest =
            feed.get(&format!("/api/notifications?limit=2&cursor={cursor}")).await.expect(200);
        assert_eq!(rest.body["items"].as_array().unwrap().len(), 1);

        let counts = feed.get_after("/api/notifications/counts", &position).await.expect(200);
        assert_eq!((&counts.body["unread"], &counts.body["total"]), (&json!(3), &json!(3)));

        let newest = page.body["items"][0]["id"].as_str().unwrap();
        let marked =
            feed.post(&format!("/api/notifications/{newest}/read"), json!({})).await.expect(204);
        let counts =
            feed.get_after("/api/notifications/counts", &marked.position()).await.expect(200);
        assert_eq!(counts.body["unread"], 2, "{profile:?}");
        let unread = feed
            .get_after("/api/notifications?status=unread", &marked.position())
            .await
            .expect(200);
        assert_eq!(unread.body["items"].as_array().unwrap().len(), 2);

        let all = feed.post("/api/notifications/read-all", json!({})).await.expect(204);
        let counts = feed.get_after("/api/notifications/counts", &all.position()).await.expect(200);
        assert_eq!((&counts.body["unread"], &counts.body["total"]), (&json!(0), &json!(3)));

        // Other people's feeds are their own.
        let mine = bia.api.get_after("/api/notifications", &all.position()).await.expect(200);
        assert_eq!(mine.body["items"], json!([]));
    }
}

#[tokio::test]
async fn the_other_side_hears_of_each_step() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let booked = bia.book(&ana, &in_days(6, "12:00:00Z")).await.expect(201);
        let path = format!("/api/appointments/{}", booked.body["id"].as_str().unwrap());
        ana.owner
            .api
            .put(&format!("{path}/status"), json!({ "status": "confirmed" }))
            .await
            .expect(200);
        ana.owner
            .api
            .post(&format!("{path}/reschedule"), json!({ "start": in_days(6, "13:00:00Z") }))
            .await
            .expect(200);
        let last = bia.api.delete(&path).await.expect(200).position();
        let kinds = |answer: end_to_end::Answer| -> Vec<String> {
            let items = answer.body["items"].as_array().unwrap().clone();
            items.iter().rev().map(|item| item["kind"].as_str().unwrap().to_owned()).collect()
        };
        let clients = bia.api.get_after("/api/notifications", &last).await.expect(200);
        assert_eq!(kinds(clients), ["booking_confirmed", "booking_rescheduled"]);
        let providers = ana.owner.api.get_after("/api/notifications", &last).await.expect(200);
        assert_eq!(kinds(providers), ["new_booking", "booking_cancelled"]);
    }
}
