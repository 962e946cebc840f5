//! Holding a slot while one checks out, end to end, in both profiles.

use end_to_end::{Answer, Person, Pontual, Profile, Shop, in_days};
use serde_json::{Value, json};

async fn hold(who: &Person, shop: &Shop, start: &str) -> Answer {
    who.api.post("/api/holds", json!({ "provider_id": shop.id, "start": start })).await
}

async fn book_with(who: &Person, shop: &Shop, start: &str, hold: &Value) -> Answer {
    let body = json!({ "provider_id": shop.id, "start": start, "hold": hold });
    who.api.post("/api/appointments", body).await
}

async fn free(who: &Person, shop: &Shop, start: &str, position: &str) -> bool {
    let day = &start[..10];
    let path = format!("/api/providers/available-times?provider_id={}&day={day}", shop.id);
    let times = who.api.get_after(&path, position).await.expect(200);
    let path = format!("/api/providers/available-times/why?provider_id={}&start={start}", shop.id);
    let why = who.api.get_after(&path, position).await.expect(200);
    let listed =
        times.body["slots"].as_array().expect("a list").iter().any(|slot| slot["start"] == start);
    assert_eq!(why.body["free"], listed, "the list and the reason agree: {}", why.body);
    listed
}

#[tokio::test]
async fn a_held_slot_is_nobody_elses_until_it_is_booked_or_let_go() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let (bia, caio) = (pontual.client("Bia").await, pontual.client("Caio").await);
        let start = in_days(10, "12:00:00Z");
        assert!(free(&caio, &ana, &start, &ana.position).await);

        let held = hold(&bia, &ana, &start).await.expect(201);
        let (id, position) = (held.body["id"].clone(), held.position());
        let path = format!("/api/holds/{}", id.as_str().unwrap());
        assert_eq!(held.header("location"), Some(path.as_str()));
        let expires: chrono::DateTime<chrono::Utc> =
            held.body["expires_at"].as_str().unwrap().parse().unwrap();
        let now = chrono::DateTime::<chrono::Utc>::from(std::time::SystemTime::now());
        let seconds = (expires - now).num_seconds();
        assert!((500..=600).contains(&seconds), "{seconds} s");

        let mine = bia.api.get_after(&path, &position).await.expect(200);
        assert_eq!((&mine.body["status"], &mine.body["start"]), (&json!("held"), &json!(start)));
        caio.api.get_after(&path, &position).await.expect(404);
        assert!(!free(&caio, &ana, &start, &position).await, "{profile:?}");
        for refused in [caio.book(&ana, &start).await, hold(&caio, &ana, &start).await] {
            let refused = refused.expect(409);
            assert_eq!(refused.problem(), "slot-held");
            assert_eq!(refused.body["alternatives"][0], in_days(10, "11:00:00Z"));
        }
        book_with(&caio, &ana, &start, &id).await.expect(404);
        let other = in_days(10, "13:00:00Z");
        let wrong = book_with(&bia, &ana, &other, &id).await.expect(409);
        assert_eq!(wrong.problem(), "hold-mismatch");

        let booked = book_with(&bia, &ana, &start, &id).await.expect(201);
        let over = bia.api.get_after(&path, &booked.position()).await.expect(200);
        assert_eq!(over.body["status"], "used");
        assert_eq!(caio.book(&ana, &start).await.expect(409).problem(), "slot-taken");

        // Let go, and replaced by another of that day.
        let first = hold(&caio, &ana, &other).await.expect(201);
        assert!(!free(&bia, &ana, &other, &first.position()).await);
        let second = hold(&caio, &ana, &in_days(10, "15:00:00Z")).await.expect(201);
        assert!(free(&bia, &ana, &other, &second.position()).await, "{profile:?}");
        let path = format!("/api/holds/{}", second.body["id"].as_str().unwrap());
        bia.api.delete(&path).await.expect(404);
        let released = caio.api.delete(&path).await.expect(204);
        assert!(free(&bia, &ana, &in_days(10, "15:00:00Z"), &released.position()).await);
        caio.api.delete(&path).await.expect(204);
    }
}

#[tokio::test]
async fn a_hold_survives_a_restart() {
    let mut pontual = Pontual::start(Profile::SingleNode).await;
    let ana = pontual.provider("Ana").await;
    let (bia, caio) = (pontual.client("Bia").await, pontual.client("Caio").await);
    let start = in_days(10, "12:00:00Z");
    let held = hold(&bia, &ana, &start).await.expect(201);
    pontual.kill(0).await;
    let url = pontual.spawn(&["serve"]).await;
    let elsewhere = |who: &Person| Person { api: who.api.at(&url), ..who.clone() };
    let (bia, caio) = (elsewhere(&bia), elsewhere(&caio));
    assert_eq!(caio.book(&ana, &start).await.expect(409).problem(), "slot-held");
    assert!(!free(&caio, &ana, &start, &held.position()).await);
    book_with(&bia, &ana, &start, &held.body["id"]).await.expect(201);
}

/// Sends 64 at once; gives what each was told.
async fn race(
    racers: &[Person],
    ask: impl Fn(usize, &Person) -> std::pin::Pin<Box<dyn Future<Output = Answer> + Send>>,
) -> Vec<Answer> {
    let mut running = tokio::task::JoinSet::new();
    for n in 0..64 {
        running.spawn(ask(n, &racers[n % racers.len()]));
    }
    running.join_all().await
}

#[tokio::test]
async fn of_sixty_four_racers_for_a_group_of_seven_just_seven_win() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let group = json!({ "name": "Aula", "duration_minutes": 60, "capacity": 7 });
        let ana = pontual.provider_with("Ana", json!({ "service": group })).await;
        let mut racers = Vec::new();
        for n in 0..8 {
            racers.push(pontual.client(&format!("Racer{n}")).await);
        }
        let start = in_days(10, "12:00:00Z");
        let told = race(&racers, |_, racer| {
            let (api, id, start) = (racer.api.clone(), ana.id.clone(), start.clone());
            Box::pin(async move {
                api.post("/api/appointments", json!({ "provider_id": id, "start": start })).await
            })
        })
        .await;
        let won = told.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(won, 7, "{profile:?}");
        for lost in told.iter().filter(|answer| answer.status != 201) {
            assert_eq!((lost.status, lost.problem()), (409, "group-full"), "{}", lost.body);
            assert!(!lost.body["alternatives"].as_array().unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn of_sixty_four_that_hold_or_book_one_slot_one_wins_and_the_holder_gets_it() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let mut racers = Vec::new();
        for n in 0..8 {
            racers.push(pontual.client(&format!("Racer{n}")).await);
        }
        let start = in_days(10, "12:00:00Z");
        let told = race(&racers, |n, racer| {
            // Even racers hold, odd ones book: nobody does both.
            let path = if n % 2 == 0 { "/api/holds" } else { "/api/appointments" };
            let (api, id, start) = (racer.api.clone(), ana.id.clone(), start.clone());
            Box::pin(
                async move { api.post(path, json!({ "provider_id": id, "start": start })).await },
            )
        })
        .await;
        let booked = told.iter().filter(|answer| answer.body["status"] == "pending").count();
        let held: Vec<_> = told.iter().filter(|a| a.body["expires_at"].is_string()).collect();
        for lost in told.iter().filter(|answer| answer.status != 201) {
            assert_eq!(lost.status, 409, "{}", lost.body);
            assert!(["slot-held", "slot-taken"].contains(&lost.problem()), "{}", lost.body);
            assert!(!lost.body["alternatives"].as_array().unwrap().is_empty());
        }
        // Whoever holds it may hold it again, so there may be several of the one who did.
        assert!(booked <= 1 && (booked == 0) != held.is_empty(), "{booked}, {} held", held.len());
        if booked == 0 {
            let mut winners = Vec::new();
            for racer in &racers {
                let again = hold(racer, &ana, &start).await;
                if again.status == 201 {
                    winners.push((racer, again.body["id"].clone()));
                }
            }
            assert_eq!(winners.len(), 1, "{profile:?}");
            let (winner, id) = &winners[0];
            book_with(winner, &ana, &start, id).await.expect(201);
        }
    }
}

#[tokio::test]
async fn whoever_holds_a_slot_books_it_though_sixty_three_others_try_at_once() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let ana = pontual.provider("Ana").await;
        let bia = pontual.client("Bia").await;
        let mut racers = Vec::new();
        for n in 0..8 {
            racers.push(pontual.client(&format!("Racer{n}")).await);
        }
        let start = in_days(10, "12:00:00Z");
        let held = hold(&bia, &ana, &start).await.expect(201);
        let told = race(&racers, |n, racer| {
            let mut body = json!({ "provider_id": ana.id, "start": start });
            let (api, path) = match n {
                31 => {
                    body["hold"] = held.body["id"].clone();
                    (bia.api.clone(), "/api/appointments")
                }
                n if n % 2 == 0 => (racer.api.clone(), "/api/holds"),
                _ => (racer.api.clone(), "/api/appointments"),
            };
            Box::pin(async move { api.post(path, body).await })
        })
        .await;
        let won: Vec<_> = told.iter().filter(|answer| answer.status == 201).collect();
        assert_eq!(won.len(), 1, "{profile:?}");
        assert_eq!(won[0].body["status"], "pending", "it is the appointment");
        bia.api.get(won[0].header("location").unwrap()).await.expect(200);
        for lost in told.iter().filter(|answer| answer.status != 201) {
            assert_eq!(lost.status, 409, "{}", lost.body);
            assert!(["slot-held", "slot-taken"].contains(&lost.problem()), "{}", lost.body);
        }
    }
}
