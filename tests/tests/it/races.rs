//! Races over a slot and over an appointment: 64 at once, over HTTP, on two processes, with Redis and without. Whatever the
//! order, two are never in one place, the right number wins, losers hear why and what is free instead, and all readers agree
//! afterwards (`end_to_end::race` says what that means).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use chrono::TimeDelta;
use domain::Instant;
use domain::actor::Actor;
use domain::appointment::{Appointment, ExpireAppointment};
use domain::ids::AppointmentId;
use end_to_end::race::{Race, Tally, Track};
use end_to_end::{Answer, Api, Profile, Shop, in_days, registrar};
use event_log::executor::{ExecuteError, Executor, Origin};
use event_log::{Clock, SystemClock};
use futures_util::FutureExt as _;
use serde_json::{Value, json};

/// The start of the `n`-th hour that a classic shop is open, ten a day, from so many days on.
fn hour(days: u64, n: u64) -> String {
    in_days(days + n / 10, &format!("{}:00:00Z", 11 + n % 10))
}

fn hours(days: u64, count: u64) -> Vec<String> {
    (0..count).map(|n| hour(days, n)).collect()
}

fn booking(shop: &Shop, start: &str) -> Value {
    json!({ "provider_id": shop.id, "start": start })
}

fn moves(race: &mut Race, who: &'static str, api: &Api, appointment: &str, start: &str) {
    let path = format!("/api/appointments/{appointment}/reschedule");
    race.enter(who, api, "POST", path, json!({ "start": start }));
}

#[tokio::test]
async fn of_64_who_book_one_slot_one_gets_it() {
    for profile in Profile::ALL {
        let track = Track::open(profile).await;
        let (ana, people) = (track.shop("Ana", json!({})).await, track.people(64).await);
        let (start, mut race) = (hour(9, 2), Race::new());
        for person in &people {
            race.enter("book", &person.api, "POST", "/api/appointments", booking(&ana, &start));
        }
        let tally = race.run().await;
        assert_eq!(tally.won("book"), 1, "{tally}");
        tally.losers_hear(&["slot-taken"]);
        let settled = track.settled(&ana, &people, &tally).await;
        assert_eq!(settled.at(&start), 1, "{tally}");
    }
}

#[tokio::test]
async fn who_books_a_slot_and_who_moves_into_it_have_one_winner_and_a_loser_stays_where_it_was() {
    for profile in Profile::ALL {
        let track = Track::open(profile).await;
        let (ana, people) = (track.shop("Ana", json!({})).await, track.people(64).await);
        let (bookers, movers) = people.split_at(32);
        let before = hours(20, 32);
        let theirs = track.booked(&ana, movers, &before).await;
        let (start, mut race) = (hour(9, 2), Race::new());
        for person in bookers {
            race.enter("book", &person.api, "POST", "/api/appointments", booking(&ana, &start));
        }
        for (n, (person, id)) in movers.iter().zip(&theirs).enumerate() {
            match n % 4 {
                0 | 1 => moves(&mut race, "move", &person.api, id, &start),
                _ => {
                    moves(&mut race, "be moved", &ana.owner.api.at(&track.urls[n % 2]), id, &start)
                }
            }
        }
        let tally = race.run().await;
        let moved = tally.won("move") + tally.won("be moved");
        assert_eq!(tally.won("book") + moved, 1, "{tally}");
        tally.losers_hear(&["slot-taken"]);
        let settled = track.settled(&ana, &people, &tally).await;
        let stayed: usize = before.iter().map(|start| settled.at(start)).sum();
        assert_eq!((settled.at(&start), stayed), (1, 32 - moved), "{tally}");
    }
}

#[tokio::test]
async fn a_slot_that_is_given_back_and_taken_again_and_again_has_one_holder_at_any_time() {
    for profile in Profile::ALL {
        let track = Track::open(profile).await;
        let (ana, people) = (track.shop("Ana", json!({})).await, track.people(64).await);
        let (start, mut race) = (hour(9, 2), Race::new());
        let stands = track.booked(&ana, &people[..1], std::slice::from_ref(&start)).await;
        for (n, person) in people.iter().enumerate() {
            let (mut held, wanted) = (stands.get(n).cloned(), booking(&ana, &start));
            race.enter_with("cancel and book", &person.api, async move |api: Api| {
                let mut answers = Vec::new();
                for _ in 0..3 {
                    if let Some(id) = held.take() {
                        answers.push(api.delete(&format!("/api/appointments/{id}")).await);
                    }
                    let booked = api.post("/api/appointments", wanted.clone()).await;
                    if booked.status == 201 {
                        held = booked.body["id"].as_str().map(ToOwned::to_owned);
                    }
                    answers.push(booked);
                }
                answers
            });
        }
        let tally = race.run().await;
        // Whoever tried last of all has it, or found somebody who keeps it.
        let count = |status| {
            tally.answers("cancel and book").filter(|answer| answer.status == status).count()
        };
        assert!(count(200) > 0, "{tally}");
        assert_eq!(count(201), count(200), "each that was given back was taken again\n{tally}");
        tally.losers_hear(&["slot-taken"]);
        let settled = track.settled(&ana, &people, &tally).await;
        assert_eq!(settled.at(&start), 1, "{tally}");
    }
}

/// What can be done to an appointment that waits for its provider.
#[derive(Clone, Copy)]
enum Act {
    Confirm,
    Decline,
    Cancel,
    Expire,
}

impl Act {
    const fn who(self) -> &'static str {
        match self {
            Self::Confirm => "confirm",
            Self::Decline => "decline",
            Self::Cancel => "cancel",
            Self::Expire => "expire",
        }
    }

    const fn event(self) -> &'static str {
        match self {
            Self::Confirm => "AppointmentConfirmed",
            Self::Decline => "AppointmentDeclined",
            Self::Cancel => "AppointmentCancelled",
            Self::Expire => "AppointmentExpired",
        }
    }

    fn enter(self, race: &mut Race, (provider, client): (&Api, &Api), id: &str, late: &Executor) {
        let path = format!("/api/appointments/{id}");
        let status = format!("{path}/status");
        match self {
            Self::Confirm => {
                race.enter(self.who(), provider, "PUT", status, json!({ "status": "confirmed" }));
            }
            Self::Decline => {
                race.enter(self.who(), provider, "PUT", status, json!({ "status": "declined" }));
            }
            Self::Cancel => race.enter(self.who(), client, "DELETE", path, Value::Null),
            Self::Expire => {
                let appointment: AppointmentId = id.parse().expect("an id");
                let late = late.clone();
                race.enter_with(self.who(), client, async move |_: Api| {
                    vec![expire(&late, appointment).await]
                });
            }
        }
    }
}

/// The sweep's command, as an answer: 200 when it expired, 204 when there was nothing to do.
async fn expire(late: &Executor, appointment: AppointmentId) -> Answer {
    let status = loop {
        let origin = Origin::of(Actor::System("expiry"), "race");
        match late.execute(ExpireAppointment { appointment }, origin).await {
            Ok(done) if done.positions.is_empty() => break 204,
            Ok(_) => break 200,
            Err(ExecuteError::Refused(_)) => break 409,
            // As the sweep does.
            Err(ExecuteError::Busy) => {}
            Err(error) => panic!("{error}"),
        }
    };
    Answer { status, headers: Default::default(), body: Value::Null }
}

/// The clock of a worker for whom the provider's time to answer is over.
struct Late;

impl Clock for Late {
    fn now(&self) -> Instant {
        SystemClock.now() + TimeDelta::hours(2)
    }

    fn recorded_at(&self) -> Option<Instant> {
        None
    }
}

/// 16 pending appointments, and on each two of either act at once; gives what then happened to each of them.
async fn both(track: &Track, shop: &Shop, acts: [Act; 2]) -> (Tally, Vec<Vec<String>>) {
    let people = track.people(16).await;
    let ids = track.booked(shop, &people, &hours(9, 16)).await;
    let late = registrar::executor(&track.pontual.database_url, &track.keys, Arc::new(Late));
    let late = late.await.expect("an executor");
    for id in &ids {
        // Else it would always come last: the others have read it.
        let id: AppointmentId = id.parse().expect("an id");
        late.log().load::<Appointment>(id).await.expect("it was booked");
    }
    let mut race = Race::new();
    for (person, id) in people.iter().zip(&ids) {
        for url in &track.urls {
            let (provider, client) = (shop.owner.api.at(url), person.api.at(url));
            for act in acts {
                act.enter(&mut race, (&provider, &client), id, &late);
            }
        }
    }
    let tally = race.run().await;
    tally.losers_hear(&["wrong-status"]);
    let settled = track.settled(shop, &people, &tally).await;
    let became = |id: &String| {
        let history = settled.history(id).into_iter();
        history.skip(1).map(ToOwned::to_owned).collect()
    };
    (tally, ids.iter().map(became).collect())
}

#[tokio::test]
async fn of_yes_no_and_a_cancellation_the_first_decides() {
    first_decides(&[[Act::Confirm, Act::Decline], [Act::Decline, Act::Cancel]]).await;
}

#[tokio::test]
async fn of_the_end_of_the_time_to_answer_and_all_else_the_first_decides() {
    first_decides(&[
        [Act::Expire, Act::Expire],
        [Act::Expire, Act::Confirm],
        [Act::Expire, Act::Decline],
        [Act::Expire, Act::Cancel],
    ])
    .await;
}

async fn first_decides(pairs: &[[Act; 2]]) {
    for profile in Profile::ALL {
        let track = Track::open(profile).await;
        let policy = json!({ "policy": {
            "minimum_notice_minutes": 0, "horizon_days": 90, "cancellation_window_minutes": 0,
            "confirmation": "manual", "answer_within_minutes": 60,
        } });
        for &acts in pairs {
            let shop = track.shop("Ana", policy.clone()).await;
            let (tally, became) = both(&track, &shop, acts).await;
            for happened in &became {
                let one_of_them = acts.iter().any(|act| *happened == [act.event()]);
                assert!(one_of_them, "{happened:?}\n{tally}");
            }
            for act in acts {
                let first = became.iter().filter(|happened| happened[0] == act.event()).count();
                match act {
                    // To ask for what is so already is no error.
                    Act::Confirm | Act::Decline | Act::Cancel => {
                        assert_eq!(tally.won(act.who()), 2 * first, "{}\n{tally}", act.who());
                    }
                    Act::Expire => {
                        let done = tally.answers("expire").filter(|answer| answer.status == 200);
                        assert_eq!(done.count(), first, "{tally}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_confirmed_and_called_off_at_once_ends_called_off() {
    for profile in Profile::ALL {
        let track = Track::open(profile).await;
        let shop = track.shop("Ana", json!({})).await;
        let (tally, became) = both(&track, &shop, [Act::Confirm, Act::Cancel]).await;
        let (confirmed, cancelled) = (Act::Confirm.event(), Act::Cancel.event());
        let mut first = 0;
        for happened in &became {
            let was_confirmed = *happened == [confirmed, cancelled];
            assert!(was_confirmed || *happened == [cancelled], "{happened:?}\n{tally}");
            first += usize::from(was_confirmed);
        }
        assert_eq!(tally.won("cancel"), 32, "{tally}");
        assert!((first..=2 * first).contains(&tally.won("confirm")), "{tally}");
    }
}

#[tokio::test]
async fn a_group_of_5_has_5_winners_of_those_who_book_and_those_who_move_in() {
    for profile in Profile::ALL {
        let track = Track::open(profile).await;
        let service = json!({ "name": "Yoga", "duration_minutes": 60, "capacity": 5 });
        let ana = track.shop("Ana", json!({ "service": service })).await;
        let people = track.people(64).await;
        let (alone, mixed) = (hour(9, 2), hour(9, 3));

        let mut race = Race::new();
        for person in &people {
            race.enter("book", &person.api, "POST", "/api/appointments", booking(&ana, &alone));
        }
        let tally = race.run().await;
        assert_eq!(tally.won("book"), 5, "{tally}");
        tally.losers_hear(&["group-full"]);
        assert_eq!(track.settled(&ana, &people, &tally).await.at(&alone), 5, "{tally}");

        let (bookers, movers) = people.split_at(32);
        let before: Vec<String> = (0..32).map(|n| hour(20, n / 5)).collect();
        let theirs = track.booked(&ana, movers, &before).await;
        let mut race = Race::new();
        for (booker, (mover, id)) in bookers.iter().zip(movers.iter().zip(&theirs)) {
            race.enter("book", &booker.api, "POST", "/api/appointments", booking(&ana, &mixed));
            moves(&mut race, "move", &mover.api, id, &mixed);
        }
        let tally = race.run().await;
        assert_eq!(tally.won("book") + tally.won("move"), 5, "{tally}");
        tally.losers_hear(&["group-full"]);
        let settled = track.settled(&ana, &people, &tally).await;
        assert_eq!((settled.at(&alone), settled.at(&mixed)), (5, 5), "{tally}");
    }
}

#[tokio::test]
async fn appointments_that_move_into_each_others_places_neither_wait_for_ever_nor_overlap() {
    for profile in Profile::ALL {
        let track = Track::open(profile).await;
        let service = json!({ "name": "Lesson", "duration_minutes": 30 });
        let ana = track.shop("Ana", json!({ "service": service })).await;
        let people = track.people(32).await;
        let half_hour =
            |days, n: usize| in_days(days, &format!("{}:{}:00Z", 11 + n / 2, ["00", "30"][n % 2]));
        // Pairs, on two days: one append writes both days' agendas, in either direction.
        let starts: Vec<String> = (0..32).map(|n| half_hour(9 + n as u64 % 2, n / 2)).collect();
        let ids = track.booked(&ana, &people, &starts).await;
        let other = |n: usize| &starts[n ^ 1];

        let mut race = Race::new();
        for n in 0..64 {
            let (person, id) = (&people[n / 2], &ids[n / 2]);
            moves(&mut race, "cross", &person.api.at(&track.urls[n % 2]), id, other(n / 2));
        }
        let tally = race.run().await;
        assert_eq!(tally.won("cross"), 0, "each stands in the other's way\n{tally}");
        tally.losers_hear(&["slot-taken"]);
        track.settled(&ana, &people, &tally).await;

        // The same while the provider clears all of these places.
        let mut race = Race::new();
        for (n, (person, id)) in people.iter().zip(&ids).enumerate() {
            moves(&mut race, "cross", &person.api, id, other(n));
            let provider = ana.owner.api.at(&track.urls[n / 2 % 2]);
            moves(&mut race, "clear", &provider, id, &half_hour(20 + n as u64 % 2, n / 2));
        }
        let tally = race.run().await;
        assert_eq!(tally.won("clear"), 32, "{tally}");
        tally.losers_hear(&["slot-taken"]);
        let settled = track.settled(&ana, &people, &tally).await;
        assert_eq!(settled.seats.len(), 32, "{tally}");
    }
}

#[tokio::test]
async fn guests_and_people_with_accounts_race_for_a_slot_as_equals() {
    for profile in Profile::ALL {
        let track = Track::open(profile).await;
        let policy = json!({ "policy": {
            "minimum_notice_minutes": 0, "horizon_days": 90, "cancellation_window_minutes": 0,
            "confirmation": "manual", "guests": true,
        } });
        let (ana, people) = (track.shop("Ana", policy).await, track.people(32).await);
        for n in 0..4 {
            let (start, mut race) = (hour(9, 2 + n), Race::new());
            for (n, person) in people.iter().enumerate() {
                let mut wanted = booking(&ana, &start);
                race.enter("book", &person.api, "POST", "/api/appointments", wanted.clone());
                wanted["contact"] =
                    json!({ "name": "Gil Guest", "email": format!("guest{n}@example.com") });
                race.enter("guest", &track.nobody(n), "POST", "/api/appointments", wanted);
            }
            let tally = race.run().await;
            assert_eq!(tally.won("book") + tally.won("guest"), 1, "{tally}");
            tally.losers_hear(&["slot-taken"]);
            let settled = track.settled(&ana, &people, &tally).await;
            assert_eq!(settled.at(&start), 1, "{tally}");
        }
    }
}

#[tokio::test]
async fn the_check_after_a_race_finds_what_the_log_or_a_reader_has_wrong() {
    let track = Track::open(Profile::SingleNode).await;
    let (ana, people) = (track.shop("Ana", json!({})).await, track.people(2).await);
    let mut race = Race::new();
    for (person, start) in people.iter().zip(hours(9, 2)) {
        race.enter("book", &person.api, "POST", "/api/appointments", booking(&ana, &start));
    }
    let tally = race.run().await;
    track.settled(&ana, &people, &tally).await;

    let shifted =
        |by: &str| format!("UPDATE appointments SET starts_at = starts_at + interval '{by}'");
    let told = |kind: &str| format!("UPDATE notifications SET kind = '{kind}'");
    let taken = |from: u8, to: u8| {
        format!(
            "UPDATE events SET payload = replace(payload::text, 'T{from}:', 'T{to}:')::json WHERE event_type = 'SlotTaken'"
        )
    };
    let swapped =
        "UPDATE appointments a SET client_id = b.client_id FROM appointments b WHERE a.id <> b.id";
    let pool = track.pontual.pool().await;
    for (wrong, right) in [
        (shifted("1 minute"), shifted("-1 minute")),
        (told("booking_cancelled"), told("new_booking")),
        // 11 to 12 is what one has, 12 to 13 what the other has.
        (taken(11, 10), taken(10, 11)),
        (taken(13, 14), taken(14, 13)),
        (swapped.to_owned(), swapped.to_owned()),
    ] {
        sqlx::query(&wrong).execute(&pool).await.expect(&wrong);
        let looked = AssertUnwindSafe(track.settled(&ana, &people, &tally)).catch_unwind().await;
        assert!(looked.is_err(), "nobody notices {wrong}");
        sqlx::query(&right).execute(&pool).await.expect(&right);
    }
    track.settled(&ana, &people, &tally).await;
}
