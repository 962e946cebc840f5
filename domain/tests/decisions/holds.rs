//! Holds: in others' way until they end, by themselves or by being booked.

use chrono::TimeDelta;
use domain::Refusal;
use domain::actor::Actor;
use domain::agenda::Agenda;
use domain::appointment::{
    AppointmentStands, BookAppointment, CancelAppointment, RescheduleAppointment,
};
use domain::hold::{Ended, ExpireHold, Hold, HoldSlot, ReleaseHold, SlotIsHeld};
use domain::ids::{AppointmentId, HoldId, Id};
use domain::provider::OpenProvider;
use uuid::Uuid;

use crate::world::{Done, Shop, World, classic, instant, offer, policy};

const TEN: &str = "2026-03-03T13:00:00Z";
const ELEVEN: &str = "2026-03-03T14:00:00Z";
const SYSTEM: Actor = Actor::System("hold-expiry");

fn town() -> (World, Shop, Actor, Actor) {
    let mut world = World::new();
    let (shop, ana, caio) = (world.classic(), world.person("ana"), world.person("caio"));
    (world, shop, ana, caio)
}

fn hold(
    world: &mut World,
    who: &Actor,
    shop: &Shop,
    start: &str,
) -> Result<Done<SlotIsHeld>, Refusal> {
    world.run(who, &HoldSlot { provider: shop.id, service: None, start: instant(start) })
}

fn book(
    world: &mut World,
    who: &Actor,
    shop: &Shop,
    start: &str,
    hold: Option<HoldId>,
) -> Result<Done<AppointmentStands>, Refusal> {
    let start = instant(start);
    world.run(who, &BookAppointment { provider: shop.id, service: None, start, notes: None, hold })
}

fn ended(world: &World, hold: HoldId) -> Option<Ended> {
    world.get::<Hold>(hold).placed.unwrap().ended
}

#[test]
fn a_held_slot_is_in_everybodys_way_and_the_refusal_names_what_is_free() {
    let (mut world, shop, ana, caio) = town();
    let done = hold(&mut world, &ana, &shop, TEN).unwrap();
    assert_eq!(done.names(), ["HoldPlaced", "SlotHeld"]);
    assert_eq!(done.outcome.held.expires_at, world.now + TimeDelta::minutes(10));
    for refused in [
        hold(&mut world, &caio, &shop, TEN).unwrap_err(),
        book(&mut world, &caio, &shop, TEN, None).unwrap_err(),
    ] {
        let Refusal::SlotHeld { alternatives } = refused else { panic!("{refused:?}") };
        assert_eq!(alternatives[0], instant("2026-03-03T12:00:00Z"));
        assert!(!alternatives.contains(&instant(TEN)));
    }
    assert!(book(&mut world, &caio, &shop, ELEVEN, None).is_ok());
    // Nor can an appointment move there.
    let moved = RescheduleAppointment {
        appointment: book(&mut world, &caio, &shop, "2026-03-03T15:00:00Z", None)
            .unwrap()
            .outcome
            .appointment,
        start: instant(TEN),
    };
    assert!(matches!(world.run(&caio, &moved), Err(Refusal::SlotHeld { .. })));
}

#[test]
fn booking_with_a_hold_turns_it_into_the_appointment_in_one_append() {
    let (mut world, shop, ana, caio) = town();
    let id = hold(&mut world, &ana, &shop, TEN).unwrap().outcome.hold;
    let done = book(&mut world, &ana, &shop, TEN, Some(id)).unwrap();
    assert_eq!(done.names(), ["AppointmentBooked", "HoldUsed", "SlotTaken"]);
    assert_eq!(ended(&world, id), Some(Ended::Used));
    let agenda = world.agenda(&shop, "2026-03-03");
    assert_eq!(agenda.occupations.len(), 1);
    assert_eq!(agenda.occupations[0].seats, [done.outcome.appointment]);
    assert!(agenda.occupations[0].held.is_empty());
    // Long after the hold's time the slot is still taken; once called off it is free.
    world.now += TimeDelta::hours(1);
    assert!(matches!(book(&mut world, &caio, &shop, TEN, None), Err(Refusal::SlotTaken { .. })));
    let cancel = CancelAppointment { appointment: done.outcome.appointment, reason: None };
    world.run(&ana, &cancel).unwrap();
    assert_eq!(world.agenda(&shop, "2026-03-03"), Agenda::default());
    // The hold was good once.
    assert!(book(&mut world, &caio, &shop, TEN, None).is_ok());
    assert_eq!(book(&mut world, &ana, &shop, TEN, Some(id)).unwrap_err(), Refusal::HoldUsed);
}

#[test]
fn a_hold_is_good_for_one_seat_however_many_are_left() {
    let mut world = World::new();
    let shop = world.shop(OpenProvider { service: offer(|o| o.capacity = 7), ..classic() });
    let ana = world.person("ana");
    let id = hold(&mut world, &ana, &shop, TEN).unwrap().outcome.hold;
    book(&mut world, &ana, &shop, TEN, Some(id)).unwrap();
    assert_eq!(book(&mut world, &ana, &shop, TEN, Some(id)).unwrap_err(), Refusal::HoldUsed);
    assert_eq!(world.agenda(&shop, "2026-03-03").occupations[0].seats.len(), 1);
}

#[test]
fn ones_own_hold_is_in_nobodys_way_but_others() {
    let (mut world, shop, ana, _) = town();
    // Booked without naming it, it is used all the same.
    let id = hold(&mut world, &ana, &shop, TEN).unwrap().outcome.hold;
    book(&mut world, &ana, &shop, TEN, None).unwrap();
    assert_eq!(ended(&world, id), Some(Ended::Used));
    // Another slot of the day gives it back.
    let id = hold(&mut world, &ana, &shop, ELEVEN).unwrap().outcome.hold;
    let twelve = "2026-03-03T15:00:00Z";
    let booked = book(&mut world, &ana, &shop, twelve, None).unwrap();
    assert_eq!(ended(&world, id), Some(Ended::Released));
    // And an appointment can move there, if it is their own that moves.
    let appointment = booked.outcome.appointment;
    let id = hold(&mut world, &ana, &shop, ELEVEN).unwrap().outcome.hold;
    let moved = RescheduleAppointment { appointment, start: instant(ELEVEN) };
    let refused = world.run(&shop.owner, &moved).unwrap_err();
    assert!(matches!(refused, Refusal::SlotHeld { .. }), "{refused:?}");
    world.run(&ana, &moved).unwrap();
    assert_eq!(ended(&world, id), Some(Ended::Used));
    let agenda = world.agenda(&shop, "2026-03-03");
    assert!(agenda.occupations.iter().all(|o| o.held.is_empty() && o.seats.len() == 1));
}

#[test]
fn whoever_held_a_slot_in_time_has_given_notice() {
    let mut world = World::new();
    let policy = policy(|p| p.minimum_notice_minutes = 120);
    let shop = world.shop(OpenProvider { policy, ..classic() });
    let (ana, caio) = (world.person("ana"), world.person("caio"));
    world.now = instant(TEN) - TimeDelta::minutes(121);
    let id = hold(&mut world, &ana, &shop, TEN).unwrap().outcome.hold;
    world.now += TimeDelta::minutes(3);
    let late = Refusal::NoticeTooShort { notice_minutes: 120 };
    assert_eq!(book(&mut world, &caio, &shop, TEN, None).unwrap_err(), late);
    book(&mut world, &ana, &shop, TEN, Some(id)).unwrap();
}

#[test]
fn what_was_held_leaves_a_groups_size_as_it_was() {
    let mut world = World::new();
    let shop = world.shop(OpenProvider { service: offer(|o| o.capacity = 10), ..classic() });
    let [ana, caio] = ["ana", "caio"].map(|name| world.person(name));
    book(&mut world, &ana, &shop, TEN, None).unwrap();
    let size = |world: &mut World, capacity| {
        let changed = offer(|o| o.capacity = capacity).unwrap();
        let change = domain::provider::ChangeService { service: shop.service, offer: changed };
        let change = domain::provider::ChangeProvider { provider: shop.id, change };
        world.run(&shop.owner, &change).unwrap();
    };
    size(&mut world, 4);
    let held = hold(&mut world, &caio, &shop, TEN).unwrap().outcome.hold;
    world.run(&caio, &ReleaseHold { hold: held }).unwrap();
    assert_eq!(world.agenda(&shop, "2026-03-03").occupations[0].capacity, 10);
    // Held alone, booked in a group.
    size(&mut world, 1);
    let held = hold(&mut world, &caio, &shop, ELEVEN).unwrap().outcome.hold;
    size(&mut world, 10);
    book(&mut world, &caio, &shop, ELEVEN, Some(held)).unwrap();
    book(&mut world, &ana, &shop, ELEVEN, None).unwrap();
}

#[test]
fn a_hold_whose_time_is_over_is_in_nobodys_way_to_the_instant() {
    let (mut world, shop, ana, caio) = town();
    let held = hold(&mut world, &ana, &shop, TEN).unwrap().outcome;
    world.now = held.held.expires_at - TimeDelta::microseconds(1);
    assert!(matches!(book(&mut world, &caio, &shop, TEN, None), Err(Refusal::SlotHeld { .. })));
    world.now = held.held.expires_at;
    let theirs = book(&mut world, &caio, &shop, TEN, None).unwrap();
    // Who held it comes too late, and what is over ends without disturbing anybody.
    let late = book(&mut world, &ana, &shop, TEN, Some(held.hold));
    assert!(matches!(late, Err(Refusal::SlotTaken { .. })));
    let expire = ExpireHold { hold: held.hold };
    assert_eq!(world.run(&SYSTEM, &expire).unwrap().names(), ["HeldSlotFreed", "HoldExpired"]);
    assert!(world.run(&SYSTEM, &expire).unwrap().events.is_empty());
    let agenda = world.agenda(&shop, "2026-03-03");
    assert_eq!(agenda.occupations[0].seats, [theirs.outcome.appointment]);
    assert!(agenda.occupations[0].held.is_empty());
}

#[test]
fn a_hold_whose_time_is_over_can_still_be_booked_while_nobody_else_did() {
    let (mut world, shop, ana, _) = town();
    let id = hold(&mut world, &ana, &shop, TEN).unwrap().outcome.hold;
    world.now += TimeDelta::minutes(11);
    assert!(book(&mut world, &ana, &shop, TEN, Some(id)).is_ok());
    assert_eq!(ended(&world, id), Some(Ended::Used));

    let id = hold(&mut world, &ana, &shop, ELEVEN).unwrap().outcome.hold;
    world.now += TimeDelta::minutes(11);
    world.run(&SYSTEM, &ExpireHold { hold: id }).unwrap();
    assert!(book(&mut world, &ana, &shop, ELEVEN, Some(id)).is_ok());
    assert_eq!(ended(&world, id), Some(Ended::Expired));
}

#[test]
fn nobody_expires_a_hold_before_its_time_and_only_pontual_does() {
    let (mut world, shop, ana, caio) = town();
    let id = hold(&mut world, &ana, &shop, TEN).unwrap().outcome.hold;
    let expire = ExpireHold { hold: id };
    assert!(world.run(&SYSTEM, &expire).unwrap().events.is_empty());
    for who in [&ana, &caio, &shop.owner] {
        assert_eq!(world.run(who, &expire).unwrap_err(), Refusal::Forbidden);
    }
    assert_eq!(world.run(&Actor::Anonymous, &expire).unwrap_err(), Refusal::SignInRequired);
    assert_eq!(ended(&world, id), None);
}

#[test]
fn whoever_holds_another_slot_of_the_day_lets_the_first_go() {
    let (mut world, shop, ana, caio) = town();
    let first = hold(&mut world, &ana, &shop, TEN).unwrap().outcome.hold;
    let done = hold(&mut world, &ana, &shop, ELEVEN).unwrap();
    assert_eq!(done.names(), ["HeldSlotFreed", "HoldPlaced", "HoldReleased", "SlotHeld"]);
    assert_eq!(ended(&world, first), Some(Ended::Released));
    assert!(hold(&mut world, &caio, &shop, TEN).is_ok());
    // The same slot again is the same hold, and no longer; another day is another hold.
    world.now += TimeDelta::minutes(9);
    let again = hold(&mut world, &ana, &shop, ELEVEN).unwrap();
    assert!(again.events.is_empty());
    let again = again.outcome;
    assert_eq!(again.hold, done.outcome.hold);
    assert_eq!(again.held.expires_at, world.now + TimeDelta::minutes(1));
    hold(&mut world, &ana, &shop, "2026-03-04T14:00:00Z").unwrap();
    assert_eq!(ended(&world, again.hold), None);
}

#[test]
fn a_refused_hold_leaves_the_one_before_alone() {
    let (mut world, shop, ana, caio) = town();
    let first = hold(&mut world, &ana, &shop, TEN).unwrap().outcome.hold;
    book(&mut world, &caio, &shop, ELEVEN, None).unwrap();
    assert!(matches!(hold(&mut world, &ana, &shop, ELEVEN), Err(Refusal::SlotTaken { .. })));
    assert_eq!(ended(&world, first), None);
    assert!(book(&mut world, &ana, &shop, TEN, Some(first)).is_ok());
}

#[test]
fn a_hold_is_its_holders_and_for_its_slot_alone() {
    let (mut world, shop, ana, caio) = town();
    let id = hold(&mut world, &ana, &shop, TEN).unwrap().outcome.hold;
    let stolen = book(&mut world, &caio, &shop, TEN, Some(id)).unwrap_err();
    assert_eq!(stolen, Refusal::NotFound("hold"));
    assert_eq!(book(&mut world, &ana, &shop, ELEVEN, Some(id)).unwrap_err(), Refusal::HoldMismatch);
    let nobodys = HoldId::trusted(Uuid::from_u128(id.uuid().as_u128() ^ 1));
    assert_eq!(
        book(&mut world, &ana, &shop, TEN, Some(nobodys)).unwrap_err(),
        Refusal::NotFound("hold")
    );

    let release = ReleaseHold { hold: id };
    for other in [&caio, &shop.owner] {
        assert_eq!(world.run(other, &release).unwrap_err(), Refusal::NotFound("hold"));
    }
    assert_eq!(world.run(&Actor::Anonymous, &release).unwrap_err(), Refusal::SignInRequired);
    assert_eq!(world.run(&ana, &release).unwrap().names(), ["HeldSlotFreed", "HoldReleased"]);
    assert!(world.run(&ana, &release).unwrap().events.is_empty(), "once more changes nothing");
    assert!(book(&mut world, &caio, &shop, TEN, None).is_ok());
}

#[test]
fn whoever_could_not_book_cannot_hold() {
    let (mut world, shop, ..) = town();
    assert_eq!(
        hold(&mut world, &Actor::Anonymous, &shop, TEN).unwrap_err(),
        Refusal::SignInRequired
    );
    let davi = world.registered("davi");
    assert_eq!(hold(&mut world, &davi, &shop, TEN).unwrap_err(), Refusal::EmailNotConfirmed);
    let owner = shop.owner.clone();
    assert_eq!(hold(&mut world, &owner, &shop, TEN).unwrap_err(), Refusal::OwnAppointment);
    let eva = world.person("eva");
    let mut refused = |start| hold(&mut world, &eva, &shop, start).unwrap_err();
    assert_eq!(refused("2026-03-02T09:00:00Z"), Refusal::SlotInPast);
    assert_eq!(refused("2026-03-03T13:10:00Z"), Refusal::OutsideHours);
}

#[test]
fn in_a_group_a_hold_takes_a_seat_and_the_last_seat_is_held_or_full() {
    let mut world = World::new();
    let mut open = classic();
    open.service = offer(|o| o.capacity = 2);
    let shop = world.shop(open);
    let [ana, caio, davi] = ["ana", "caio", "davi"].map(|name| world.person(name));
    book(&mut world, &ana, &shop, TEN, None).unwrap();
    let held = hold(&mut world, &caio, &shop, TEN).unwrap().outcome.hold;
    assert!(matches!(book(&mut world, &davi, &shop, TEN, None), Err(Refusal::SlotHeld { .. })));
    let booked = book(&mut world, &caio, &shop, TEN, Some(held)).unwrap().outcome.appointment;
    assert!(matches!(book(&mut world, &davi, &shop, TEN, None), Err(Refusal::GroupFull { .. })));
    let seats: Vec<AppointmentId> = world.agenda(&shop, "2026-03-03").occupations[0].seats.clone();
    assert_eq!((seats.len(), seats[1]), (2, booked));
}

#[test]
fn a_hold_over_midnight_utc_stands_in_both_agendas_and_leaves_both() {
    let mut world = World::new();
    let mut open = classic();
    open.weekly = Some(crate::world::every_day(&[("00:00", "24:00")]));
    open.policy = policy(|p| p.hold_minutes = Some(60));
    let shop = world.shop(open);
    let (ana, caio) = (world.person("ana"), world.person("caio"));
    let late = "2026-03-03T23:00:00Z";
    let shifted = offer(|o| o.buffer_after_minutes = 30).unwrap();
    let change = domain::provider::ChangeService { service: shop.service, offer: shifted };
    let change = domain::provider::ChangeProvider { provider: shop.id, change };
    world.run(&shop.owner, &change).unwrap();
    let done = hold(&mut world, &ana, &shop, late).unwrap();
    assert_eq!(done.names(), ["HoldPlaced", "SlotHeld", "SlotHeld"]);
    assert_eq!(done.outcome.held.expires_at, world.now + TimeDelta::minutes(60));
    let refused = book(&mut world, &caio, &shop, "2026-03-04T00:00:00Z", None);
    assert!(matches!(refused, Err(Refusal::SlotHeld { .. })), "its buffer is held, too");
    // Replaced by one that stands in one of them alone.
    let next = hold(&mut world, &ana, &shop, "2026-03-03T20:00:00Z").unwrap();
    let names = ["HeldSlotFreed", "HeldSlotFreed", "HoldPlaced", "HoldReleased", "SlotHeld"];
    assert_eq!(next.names(), names);
    assert_eq!(world.agenda(&shop, "2026-03-04"), Agenda::default());

    let over = hold(&mut world, &caio, &shop, late).unwrap().outcome.hold;
    let booked = book(&mut world, &caio, &shop, late, Some(over)).unwrap();
    assert_eq!(booked.names(), ["AppointmentBooked", "HoldUsed", "SlotTaken", "SlotTaken"]);
    for day in ["2026-03-03", "2026-03-04"] {
        let held =
            world.agenda(&shop, day).occupations.iter().filter(|o| !o.held.is_empty()).count();
        assert_eq!(held, usize::from(day == "2026-03-03"), "only Ana's");
    }
}
