//! As-of reads and histories come from the log alone: here no projector has ever run.

use chrono::TimeDelta;
use domain::account::EraseAccount;
use domain::actor::{Actor, Role};
use domain::appointment::{BookAppointment, CancelAppointment, RescheduleAppointment};
use domain::ids::AccountId;
use event_log::Origin;
use serde_json::{Value, json};

use crate::common::*;

fn token(world: &World, account: AccountId) -> String {
    world.token(account, std::time::Duration::from_secs(60))
}

#[tokio::test]
async fn what_was_is_read_without_any_read_model_and_without_who_was_erased_since() {
    let world = World::start().await;
    let (ana, bia, caio) =
        (world.person("Ana").await, world.person("Bia").await, world.person("Caio").await);
    let (provider, opened) = world.shop(ana, "anas").await;
    let start = "2026-03-04T12:00:00Z".parse().unwrap();
    let notes = Some("ring twice".parse().unwrap());
    let booking = BookAppointment { provider, service: None, start, notes, hold: None };
    let booked = world.executor.execute(booking, origin(bia)).await.unwrap();
    let appointment = booked.outcome.appointment;
    world.book(caio, provider, "2026-03-04T14:00:00Z").await;
    world.clock.advance(TimeDelta::minutes(1));
    let moved = RescheduleAppointment { appointment, start: start + TimeDelta::hours(1) };
    world.executor.execute(moved, origin(bia)).await.unwrap();
    world.clock.advance(TimeDelta::minutes(1));
    let reason = Some("I am ill".parse().unwrap());
    let cancel = CancelAppointment { appointment, reason };
    let cancelled = world.executor.execute(cancel, origin(bia)).await.unwrap();
    world.clock.advance(TimeDelta::minutes(1));

    let one = format!("/api/appointments/{appointment}");
    let day = format!("/api/appointments/provider/{provider}?day=2026-03-04");
    let to_ana = token(&world, ana);
    let get = async |path: String| world.get(&path, "", Some(&to_ana)).await;
    assert_eq!(get(one.clone()).await.status, 404, "no projector has run");

    let first = get(format!("{one}?as_of_position={}", booked.positions)).await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.body["start"], "2026-03-04T12:00:00Z");
    assert_eq!(
        (&first.body["client_name"], &first.body["client_notes"]),
        (&json!("Bia"), &json!("ring twice"))
    );
    // Instants, both ends included: nothing before noon, three versions a minute apart.
    for (at, status, start) in [
        ("11:59:59.999999", 404, Value::Null),
        ("12:00:00", 200, json!("2026-03-04T12:00:00Z")),
        ("12:00:59.999999", 200, json!("2026-03-04T12:00:00Z")),
        ("12:01:00", 200, json!("2026-03-04T13:00:00Z")),
        ("12:02:59", 200, json!("2026-03-04T13:00:00Z")),
        ("12:03:00", 400, Value::Null),
    ] {
        let then = get(format!("{one}?as_of=2026-03-02T{at}Z")).await;
        assert_eq!((then.status, &then.body["start"]), (status, &start), "{at}");
    }
    let of_day = async |point: String| {
        let then = get(format!("{day}&{point}")).await;
        let items = then.body["items"].as_array().cloned().unwrap_or_default();
        let told = |item: &Value| {
            (item["local_start"].to_string()[12..17].to_owned(), item["status"].clone())
        };
        (then.status, items.iter().map(told).collect::<Vec<_>>())
    };
    let line = |time: &str, status: &str| (time.to_owned(), json!(status));
    assert_eq!(of_day(format!("as_of_position={opened}")).await, (200, vec![]));
    assert_eq!(of_day("as_of_position=0:1".to_owned()).await, (404, vec![]), "there was no shop");
    let both = |first| vec![first, line("11:00", "pending")];
    assert_eq!(
        of_day("as_of=2026-03-02T12:00:30Z".to_owned()).await,
        (200, both(line("09:00", "pending")))
    );
    assert_eq!(
        of_day("as_of=2026-03-02T12:01:30Z".to_owned()).await,
        (200, both(line("10:00", "pending")))
    );
    let gone = of_day(format!("as_of_position={}", cancelled.positions)).await;
    assert_eq!(gone, (200, both(line("10:00", "cancelled"))));

    let history = get(format!("{one}/history")).await.body["items"].clone();
    assert_eq!(history[2]["reason"], "I am ill");
    assert_eq!(history[1]["changes"].as_array().unwrap().len(), 3, "start, end, local_start");
    let stranger = token(&world, caio);
    for (path, status) in [
        (format!("{one}/history"), 404),
        (format!("{one}?as_of_position={}", booked.positions), 404),
    ] {
        assert_eq!(world.get(&path, "", Some(&stranger)).await.status, status);
        assert_eq!(world.get(&path, "", None).await.status, 401);
    }
    let auditor = world.token_as(caio, &[Role::Client, Role::Auditor]);
    let audited = world.get(&format!("{one}/history"), "", Some(&auditor)).await;
    assert_eq!(audited.body["items"][2]["audit"]["operation"], "CancelAppointment");
    assert_eq!(audited.body["items"][2]["reason"], Value::Null);

    let by_bia = Origin::of(Actor::Account { id: bia, roles: vec![Role::Client] }, "t");
    let erase = EraseAccount { account: bia, proven_under: Some(0) };
    world.executor.execute(erase, by_bia).await.unwrap();
    let first = get(format!("{one}?as_of_position={}", booked.positions)).await;
    assert_eq!((first.status, &first.body["status"]), (200, &json!("pending")));
    for field in ["client_name", "client_email", "client_phone", "client_notes"] {
        assert_eq!(first.body[field], Value::Null, "{field}");
    }
    let history = get(format!("{one}/history")).await.body["items"].clone();
    assert_eq!(history.as_array().unwrap().len(), 3);
    assert_eq!((&history[2]["reason"], &history[2]["by"]["name"]), (&Value::Null, &Value::Null));
    assert_eq!(history[2]["by"]["side"], "client");
}
