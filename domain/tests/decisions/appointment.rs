//! Appointments: booking, confirming, declining, calling off.

use domain::Refusal;
use domain::account::Account;
use domain::actor::Actor;
use domain::agenda::{Agenda, AgendaEvent};
use domain::aggregate::StreamId;
use domain::appointment::{
    Appointment, AppointmentEvent, BookAppointment, CancelAppointment, ConfirmAppointment,
    DeclineAppointment, RescheduleAppointment, Side, Status,
};
use domain::command::Command;
use domain::event::Event;
use domain::hours::{Confirmation, WeeklyHours};
use domain::ids::{AgendaId, AppointmentId, Id, Mint, ProviderId, RoutingSlot, ServiceId};
use domain::money::{Currency, Money};
use domain::provider::{
    AddService, ChangeProvider, ChangeService, OverrideDay, Provider, RemoveService, SetPolicy,
};
use domain::slots::Span;

use crate::world::{Shop, World, classic, every_day, instant, offer, policy, windows, zone};

fn slot_taken(alternatives: &[&str]) -> Refusal {
    Refusal::SlotTaken { alternatives: alternatives.iter().map(|start| instant(start)).collect() }
}

fn cancel(appointment: AppointmentId) -> CancelAppointment {
    CancelAppointment { appointment, reason: None }
}

fn decline(appointment: AppointmentId) -> DeclineAppointment {
    DeclineAppointment { appointment, reason: None }
}

/// A classic shop, a client, and their pending appointment on Tuesday at 10:00 in São Paulo.
fn booked() -> (World, Shop, Actor, AppointmentId) {
    let mut world = World::new();
    let (shop, ana) = (world.classic(), world.person("ana"));
    let id = world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap().outcome.appointment;
    (world, shop, ana, id)
}

// ── Booking ─────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_booking_takes_the_slot_and_writes_the_appointment_in_one_partition() {
    let mut world = World::new();
    let (shop, ana) = (world.classic(), world.person("ana"));
    let account = ana.account().unwrap();
    let start = instant("2026-03-03T13:00:00Z");
    let notes = Some("Cabelo curto".parse().unwrap());
    let book = BookAppointment {
        provider: shop.id,
        service: Some(shop.service),
        start,
        notes,
        hold: None,
    };
    let done = world.run(&ana, &book).unwrap();

    let (id, slot) =
        (done.outcome.appointment, Span { start, end: instant("2026-03-03T14:00:00Z") });
    assert_eq!((done.outcome.slot, done.outcome.status), (slot, Status::Pending));
    assert_eq!(
        (done.outcome.service, done.outcome.zone.name()),
        (shop.service, "America/Sao_Paulo")
    );
    let day = start.date_naive();
    let agenda = StreamId::of::<Agenda>(AgendaId::of(shop.id, day));
    let taken = AgendaEvent::SlotTaken {
        provider: shop.id,
        day,
        appointment: id,
        slot,
        span: slot,
        service: shop.service,
        capacity: 1,
        hold: None,
    };
    assert_eq!(done.events.len(), 2);
    assert!(done.events.contains(&(agenda, Event::Agenda(taken))));
    let history = world.history(StreamId::of::<Appointment>(id));
    let [Event::Appointment(AppointmentEvent::AppointmentBooked { terms, slot: at, status, .. })] =
        &history[..]
    else {
        panic!("{history:?}")
    };
    assert_eq!((*at, *status), (slot, Status::Pending));
    assert_eq!((terms.provider, terms.client), (shop.id, account.into()));
    assert_eq!(Some(terms.provider_account), shop.owner.account());
    assert_eq!(terms.contact.known().unwrap().email.as_str(), "ana@example.com");
    assert_eq!(terms.contact.subject(), account.into());
    assert_eq!(terms.client_notes.as_ref().unwrap().known().unwrap().as_str(), "Cabelo curto");

    // The provider must not have changed meanwhile; the client's account is only consulted.
    assert_eq!(done.required[&StreamId::of::<Provider>(shop.id)], 2);
    assert!(!done.required.contains_key(&StreamId::of::<Account>(account)));
    assert_eq!(done.slot, shop.id.slot());
    assert!(done.events.iter().all(|(stream, _)| stream.slot() == shop.id.slot()));
    assert!(done.rounds <= 4, "it took {} rounds", done.rounds);
}

#[test]
fn the_classic_day_is_booked_from_eight_to_five_on_the_hour() {
    let mut world = World::new();
    let (shop, ana) = (world.classic(), world.person("ana"));
    for outside in ["10:00", "10:30", "11:30", "20:30", "21:00", "02:00"] {
        let refusal = world.book(&ana, &shop, &format!("2026-03-03T{outside}:00Z")).unwrap_err();
        assert_eq!(refusal, Refusal::OutsideHours, "{outside} UTC");
    }
    for hour in 11..=20 {
        world.book(&ana, &shop, &format!("2026-03-03T{hour}:00:00Z")).unwrap();
    }
    assert_eq!(world.agenda(&shop, "2026-03-03").occupations.len(), 10);
}

#[test]
fn a_start_that_is_not_in_the_future_is_refused() {
    let mut world = World::at("2026-03-03T13:00:00Z");
    let (shop, ana) = (world.classic(), world.person("ana"));
    for past in ["2026-03-03T13:00:00Z", "2026-03-03T12:00:00Z", "0001-01-01T00:00:00Z"] {
        let refusal = world.book(&ana, &shop, past).unwrap_err();
        assert_eq!(refusal, Refusal::SlotInPast, "{past}");
    }
    world.now = instant("2026-03-03T12:59:59.999999Z");
    assert!(world.book(&ana, &shop, "2026-03-03T13:00:00Z").is_ok());
}

#[test]
fn absurd_starts_are_refused_by_name() {
    let mut world = World::new();
    let (shop, ana) = (world.classic(), world.person("ana"));
    let beyond = Refusal::BeyondHorizon { horizon_days: 365 };
    for (start, refusal) in [
        ("-262143-01-01T00:00:00Z", Refusal::SlotInPast),
        ("0000-01-01T11:00:00Z", Refusal::SlotInPast),
        ("9999-12-31T23:59:59Z", beyond.clone()),
        ("+262142-12-31T23:59:59.999999999Z", beyond),
        ("2026-03-03T12:59:60Z", Refusal::OutsideHours),
        ("2026-03-03T13:00:00.0000001Z", Refusal::OutsideHours),
    ] {
        assert_eq!(world.book(&ana, &shop, start).unwrap_err(), refusal, "{start}");
    }
}

#[test]
fn one_cannot_book_with_oneself() {
    let mut world = World::new();
    let shop = world.classic();
    let owner = shop.owner.clone();
    let refusal = world.book(&owner, &shop, "2026-03-03T13:00:00Z").unwrap_err();
    assert_eq!(refusal, Refusal::OwnAppointment);
}

#[test]
fn only_whoever_confirmed_their_address_books() {
    let mut world = World::new();
    let (shop, ana) = (world.classic(), world.registered("ana"));
    let mut book = |actor| world.book(actor, &shop, "2026-03-03T13:00:00Z").unwrap_err();
    assert_eq!(book(&ana), Refusal::EmailNotConfirmed);
    assert_eq!(book(&Actor::Anonymous), Refusal::SignInRequired);
    assert_eq!(book(&Actor::System("demo")), Refusal::SignInRequired);
}

#[test]
fn an_unknown_shop_or_service_is_not_found_and_of_several_one_must_be_named() {
    let mut world = World::new();
    let (shop, ana) = (world.classic(), world.person("ana"));
    let mint = Mint::new([8; 32]);
    let nowhere: ProviderId = mint.id(RoutingSlot::from_bits(1), 0);
    let nothing: ServiceId = mint.id(RoutingSlot::from_bits(1), 0);
    let start = instant("2026-03-03T13:00:00Z");
    let book =
        |provider, service| BookAppointment { provider, service, start, notes: None, hold: None };
    let refusal = world.run(&ana, &book(nowhere, None)).unwrap_err();
    assert_eq!(refusal, Refusal::NotFound("provider"));
    let refusal = world.run(&ana, &book(shop.id, Some(nothing))).unwrap_err();
    assert_eq!(refusal, Refusal::NotFound("service"));
    let change = AddService { offer: offer(|_| {}).unwrap() };
    world.run(&shop.owner, &ChangeProvider { provider: shop.id, change }).unwrap();
    let refusal = world.run(&ana, &book(shop.id, None)).unwrap_err();
    assert_eq!(refusal, Refusal::NotFound("service"));
    assert!(world.run(&ana, &book(shop.id, Some(shop.service))).is_ok());
}

#[test]
fn the_same_booking_decided_again_is_refused_and_adds_nothing() {
    let mut world = World::new();
    let (shop, ana) = (world.classic(), world.person("ana"));
    let start = instant("2026-03-03T13:00:00Z");
    let book = BookAppointment { provider: shop.id, service: None, start, notes: None, hold: None };
    let first = world.run_as(1000, &ana, &book).unwrap();
    assert_eq!(first.events.len(), 2);
    // A retry is given the stored answer. That is no longer there: nothing may be booked under the same id.
    assert_eq!(world.run_as(1000, &ana, &book).unwrap_err(), Refusal::KeySpent);
    // The same person asking anew is one more.
    assert!(world.run_as(1001, &ana, &book).is_err());
}

#[test]
fn racers_for_one_slot_queue_at_its_agenda() {
    let mut world = World::new();
    let shop = world.classic();
    let start = instant("2026-03-03T13:00:00Z");
    let book = BookAppointment { provider: shop.id, service: None, start, notes: None, hold: None };
    let agenda = StreamId::of::<Agenda>(AgendaId::of(shop.id, start.date_naive()));
    assert_eq!(book.queue(), Some(agenda));
    assert!(book.reads().contains(&agenda));
}

#[test]
fn automatic_confirmation_confirms_at_once() {
    let mut world = World::new();
    let mut open = classic();
    open.policy = policy(|p| p.confirmation = Confirmation::Automatic);
    let (shop, ana) = (world.shop(open), world.person("ana"));
    let done = world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap();
    assert_eq!(done.outcome.status, Status::Confirmed);
    assert_eq!(world.appointment(done.outcome.appointment).status, Status::Confirmed);
}

#[test]
fn the_price_is_agreed_when_it_is_booked() {
    let mut world = World::new();
    let mut open = classic();
    open.hourly_rate = Some(Money::new(10_001, Currency::BRL).unwrap().try_into().unwrap());
    open.service = offer(|o| {
        o.duration_minutes = 90;
        o.interval_minutes = 30;
    });
    let (shop, ana) = (world.shop(open), world.person("ana"));
    let done = world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap();
    let agreed = Money::new(15_002, Currency::BRL).unwrap();
    assert_eq!(done.outcome.price, Some(agreed));
    let dearer = offer(|o| o.price = Some(Money::new(99_999, Currency::BRL).unwrap())).unwrap();
    let change = ChangeService { service: shop.service, offer: dearer };
    world.run(&shop.owner, &ChangeProvider { provider: shop.id, change }).unwrap();
    assert_eq!(world.appointment(done.outcome.appointment).terms.price, Some(agreed));
}

// ── Time ────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn notice_is_kept_to_the_instant() {
    let mut world = World::new();
    let mut open = classic();
    open.policy = policy(|p| p.minimum_notice_minutes = 120);
    let (shop, ana) = (world.shop(open), world.person("ana"));
    world.now = instant("2026-03-03T11:00:00.000001Z");
    let refusal = world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap_err();
    assert_eq!(refusal, Refusal::NoticeTooShort { notice_minutes: 120 });
    world.now = instant("2026-03-03T11:00:00Z");
    assert!(world.book(&ana, &shop, "2026-03-03T13:00:00Z").is_ok());
}

#[test]
fn the_horizon_counts_local_days_from_the_providers_today() {
    let mut world = World::new();
    let mut open = classic();
    open.policy = policy(|p| p.horizon_days = 1);
    let (shop, ana) = (world.shop(open), world.person("ana"));
    // In São Paulo it is still the 1st, 22:30: tomorrow is the 2nd.
    world.now = instant("2026-03-02T01:30:00Z");
    let refusal = world.book(&ana, &shop, "2026-03-03T11:00:00Z").unwrap_err();
    assert_eq!(refusal, Refusal::BeyondHorizon { horizon_days: 1 });
    assert!(world.book(&ana, &shop, "2026-03-02T20:00:00Z").is_ok());
    world.now = instant("2026-03-02T03:00:00Z");
    assert!(world.book(&ana, &shop, "2026-03-03T11:00:00Z").is_ok());
}

#[test]
fn a_day_off_has_no_slots_and_an_extra_hour_has() {
    let mut world = World::new();
    let (shop, ana) = (world.classic(), world.person("ana"));
    for (day, hours) in
        [("2026-03-03", windows(&[])), ("2026-03-04", windows(&[("19:00", "21:00")]))]
    {
        let change = OverrideDay { day: day.parse().unwrap(), windows: hours };
        world.run(&shop.owner, &ChangeProvider { provider: shop.id, change }).unwrap();
    }
    let refusal = world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap_err();
    assert_eq!(refusal, Refusal::DayOff);
    assert!(world.book(&ana, &shop, "2026-03-04T22:00:00Z").is_ok());
}

#[test]
fn the_night_the_clocks_change_is_booked_by_the_instant() {
    let mut world = World::at("2026-10-20T00:00:00Z");
    let mut open = classic();
    open.zone = zone("Europe/Lisbon");
    open.weekly = Some(every_day(&[("00:00", "04:00")]));
    let (shop, ana) = (world.shop(open), world.person("ana"));
    // 01:00 twice, an hour apart: two appointments.
    for start in ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"] {
        world.book(&ana, &shop, start).unwrap();
    }
    world.now = instant("2027-03-20T00:00:00Z");
    // 00:00, then 02:00; what would be 04:00 is out of hours.
    world.book(&ana, &shop, "2027-03-28T01:00:00Z").unwrap();
    let refusal = world.book(&ana, &shop, "2027-03-28T03:00:00Z").unwrap_err();
    assert_eq!(refusal, Refusal::OutsideHours);
}

// ── Taken ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_taken_slot_is_refused_with_the_nearest_free_starts_nearest_first() {
    let (mut world, shop, _, _) = booked();
    let carla = world.person("carla");
    let refusal = world.book(&carla, &shop, "2026-03-03T13:00:00Z").unwrap_err();
    // Of two as near, the earlier first.
    let nearest = slot_taken(&[
        "2026-03-03T12:00:00Z",
        "2026-03-03T14:00:00Z",
        "2026-03-03T11:00:00Z",
        "2026-03-03T15:00:00Z",
        "2026-03-03T16:00:00Z",
    ]);
    assert_eq!(refusal, nearest);
}

#[test]
fn alternatives_skip_what_is_taken_or_past_and_go_on_to_other_days() {
    let (mut world, shop, ana, _) = booked();
    for start in ["11:00", "12:00", "14:00", "15:00", "16:00", "17:00", "18:00", "19:00"] {
        world.book(&ana, &shop, &format!("2026-03-03T{start}:00Z")).unwrap();
    }
    world.now = instant("2026-03-02T18:30:00Z");
    let carla = world.person("carla");
    let refusal = world.book(&carla, &shop, "2026-03-03T13:00:00Z").unwrap_err();
    let nearest = slot_taken(&[
        "2026-03-03T20:00:00Z",
        "2026-03-02T20:00:00Z",
        "2026-03-02T19:00:00Z",
        "2026-03-04T11:00:00Z",
        "2026-03-04T12:00:00Z",
    ]);
    assert_eq!(refusal, nearest);
}

#[test]
fn when_nothing_near_is_free_there_are_no_alternatives() {
    let mut world = World::new();
    let mut open = classic();
    open.weekly = Some(every_day(&[("08:00", "09:00")]));
    open.policy = policy(|p| p.horizon_days = 1);
    let (shop, ana) = (world.shop(open), world.person("ana"));
    for start in ["2026-03-02T11:00:00Z", "2026-03-03T11:00:00Z"] {
        world.book(&ana, &shop, start).unwrap();
    }
    let carla = world.person("carla");
    let refusal = world.book(&carla, &shop, "2026-03-03T11:00:00Z").unwrap_err();
    assert_eq!(refusal, slot_taken(&[]));
}

#[test]
fn a_provider_of_one_day_a_week_offers_that_day_of_another_week() {
    let mut world = World::new();
    let mut open = classic();
    let tuesday = windows(&[("08:00", "09:00")]);
    open.weekly = Some(WeeklyHours { tuesday, ..every_day(&[]) });
    let (shop, ana, carla) = (world.shop(open), world.person("ana"), world.person("carla"));
    world.book(&ana, &shop, "2026-03-03T11:00:00Z").unwrap();
    let refusal = world.book(&carla, &shop, "2026-03-03T11:00:00Z").unwrap_err();
    let tuesdays = ["10", "17", "24", "31"].map(|day| format!("2026-03-{day}T11:00:00Z"));
    assert_eq!(refusal, slot_taken(&tuesdays.each_ref().map(String::as_str)));
}

#[test]
fn buffers_keep_the_neighbouring_slots_free() {
    let mut world = World::new();
    let mut open = classic();
    open.service = offer(|o| o.buffer_after_minutes = 15);
    let (shop, ana) = (world.shop(open), world.person("ana"));
    world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap();
    for neighbour in ["12:00", "14:00"] {
        let start = format!("2026-03-03T{neighbour}:00Z");
        assert!(matches!(world.book(&ana, &shop, &start), Err(Refusal::SlotTaken { .. })));
    }
    world.book(&ana, &shop, "2026-03-03T15:00:00Z").unwrap();
}

#[test]
fn a_group_of_three_is_booked_by_three_and_refuses_the_fourth() {
    let mut world = World::new();
    let mut open = classic();
    open.service = offer(|o| o.capacity = 3);
    let shop = world.shop(open);
    let people: Vec<_> = ["ana", "caio", "davi", "elis"].map(|name| world.person(name)).into();
    let start = "2026-03-03T13:00:00Z";
    let ids: Vec<_> = people[..3]
        .iter()
        .map(|person| world.book(person, &shop, start).unwrap().outcome.appointment)
        .collect();
    let refused = world.book(&people[3], &shop, start).unwrap_err();
    let Refusal::GroupFull { alternatives } = &refused else { panic!("{refused:?}") };
    assert_eq!(alternatives[0], instant("2026-03-03T12:00:00Z"));
    assert_eq!(world.agenda(&shop, "2026-03-03").occupations[0].seats, ids);
    world.run(&people[1], &cancel(ids[1])).unwrap();
    assert!(world.book(&people[3], &shop, start).is_ok());
}

#[test]
fn a_slot_that_crosses_midnight_utc_stands_in_both_days_and_leaves_both() {
    let mut world = World::new();
    let mut open = classic();
    open.zone = zone("Asia/Tokyo");
    open.service = offer(|o| o.interval_minutes = 30);
    let (shop, ana) = (world.shop(open), world.person("ana"));
    // 08:30 to 09:30 on the 5th in Tokyo.
    let done = world.book(&ana, &shop, "2026-03-04T23:30:00Z").unwrap();
    assert_eq!(done.names(), ["AppointmentBooked", "SlotTaken", "SlotTaken"]);
    assert!(done.events.iter().all(|(stream, _)| stream.slot() == shop.id.slot()));
    for day in ["2026-03-04", "2026-03-05"] {
        let occupations = world.agenda(&shop, day).occupations;
        assert_eq!(occupations.len(), 1);
        assert_eq!(occupations[0].slot, done.outcome.slot);
    }
    let carla = world.person("carla");
    for (start, nearest) in [
        // Only in the first day, only in the second, and in both.
        ("2026-03-04T23:00:00Z", "2026-03-05T00:30:00Z"),
        ("2026-03-05T00:00:00Z", "2026-03-05T00:30:00Z"),
        ("2026-03-04T23:30:00Z", "2026-03-05T00:30:00Z"),
    ] {
        let refused = world.book(&carla, &shop, start).unwrap_err();
        let Refusal::SlotTaken { alternatives } = &refused else { panic!("{start}: {refused:?}") };
        assert_eq!(alternatives[0], instant(nearest), "{start}");
    }
    let done = world.run(&ana, &cancel(done.outcome.appointment)).unwrap();
    assert_eq!(done.names(), ["AppointmentCancelled", "SlotFreed", "SlotFreed"]);
    assert!(world.book(&carla, &shop, "2026-03-05T00:00:00Z").is_ok());
}

#[test]
fn a_slot_that_ends_at_midnight_stands_in_one_day_and_with_a_buffer_in_two() {
    for (buffer, agendas) in [(0, 1), (1, 2)] {
        let mut world = World::new();
        let mut open = classic();
        open.zone = zone("Asia/Tokyo");
        open.service = offer(|o| o.buffer_after_minutes = buffer);
        let (shop, ana) = (world.shop(open), world.person("ana"));
        let done = world.book(&ana, &shop, "2026-03-04T23:00:00Z").unwrap();
        assert_eq!(done.events.len(), 1 + agendas, "{buffer} minutes after");
    }
}

#[test]
fn a_buffer_before_midnight_is_guarded_from_the_day_before() {
    let mut world = World::new();
    let mut open = classic();
    open.zone = zone("Asia/Tokyo");
    open.service = offer(|o| {
        o.buffer_before_minutes = 30;
        o.duration_minutes = 30;
        o.interval_minutes = 30;
    });
    let (shop, ana) = (world.shop(open), world.person("ana"));
    // 09:00 in Tokyo, kept free from 08:30, which is the day before in UTC.
    world.book(&ana, &shop, "2026-03-05T00:00:00Z").unwrap();
    assert!(matches!(
        world.book(&ana, &shop, "2026-03-04T23:30:00Z"),
        Err(Refusal::SlotTaken { .. })
    ));
    assert!(world.book(&ana, &shop, "2026-03-04T23:00:00Z").is_ok());
}

// ── Who may ─────────────────────────────────────────────────────────────────────────────────────────────

/// What an actor is told when they ask for each of the four.
fn refusals(world: &mut World, actor: &Actor, id: AppointmentId) -> [Option<Refusal>; 4] {
    let start = instant("2026-03-03T15:00:00Z");
    [
        world.run(actor, &ConfirmAppointment { appointment: id }).err(),
        world.run(actor, &decline(id)).err(),
        world.run(actor, &RescheduleAppointment { appointment: id, start }).err(),
        world.run(actor, &cancel(id)).err(),
    ]
}

#[test]
fn a_stranger_cannot_tell_an_appointment_from_one_that_does_not_exist() {
    let (mut world, _, ana, id) = booked();
    let carla = world.person("carla");
    let nothing: AppointmentId = Mint::new([8; 32]).id(RoutingSlot::from_bits(1), 0);
    let not_found = [const { Some(Refusal::NotFound("appointment")) }; 4];
    assert_eq!(refusals(&mut world, &carla, id), not_found);
    assert_eq!(refusals(&mut world, &carla, nothing), not_found);
    assert_eq!(refusals(&mut world, &ana, nothing), not_found);
    let sign_in = [const { Some(Refusal::SignInRequired) }; 4];
    assert_eq!(refusals(&mut world, &Actor::Anonymous, id), sign_in);
    assert_eq!(world.appointment(id).status, Status::Pending);
}

#[test]
fn the_client_may_move_and_cancel_but_not_confirm_or_decline() {
    let (mut world, _, ana, id) = booked();
    let told = refusals(&mut world, &ana, id);
    assert_eq!(told, [Some(Refusal::Forbidden), Some(Refusal::Forbidden), None, None]);
}

// ── Confirming, declining, calling off ──────────────────────────────────────────────────────────────────

#[test]
fn the_provider_confirms_once() {
    let (mut world, shop, _, id) = booked();
    let confirm = ConfirmAppointment { appointment: id };
    let done = world.run(&shop.owner, &confirm).unwrap();
    assert_eq!(done.names(), ["AppointmentConfirmed"]);
    assert_eq!(done.outcome.status, Status::Confirmed);
    assert_eq!(done.slot, shop.id.slot());
    let again = world.run(&shop.owner, &confirm).unwrap();
    assert_eq!((again.events.len(), again.outcome.status), (0, Status::Confirmed));
}

#[test]
fn declining_frees_the_slot_and_is_for_pending_appointments_only() {
    let (mut world, shop, ana, id) = booked();
    let decline = DeclineAppointment {
        appointment: id,
        reason: Some("Estou de folga nesse dia".parse().unwrap()),
    };
    let done = world.run(&shop.owner, &decline).unwrap();
    assert_eq!(done.names(), ["AppointmentDeclined", "SlotFreed"]);
    assert_eq!(done.outcome.status, Status::Declined);
    let reason = done.events.iter().find_map(|(_, event)| match event {
        Event::Appointment(AppointmentEvent::AppointmentDeclined { reason, .. }) => reason.clone(),
        Event::Account(_)
        | Event::Provider(_)
        | Event::Agenda(_)
        | Event::Appointment(_)
        | Event::NotificationFeed(_)
        | Event::Session(_)
        | Event::Category(_)
        | Event::Hold(_)
        | Event::Series(_)
        | Event::Waitlist(_) => None,
    });
    assert_eq!(reason.unwrap().subject(), shop.owner.account().unwrap().into());
    assert!(world.run(&shop.owner, &decline).unwrap().events.is_empty());

    let next = world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap().outcome.appointment;
    world.run(&shop.owner, &ConfirmAppointment { appointment: next }).unwrap();
    let refusal = world.run(&shop.owner, &self::decline(next)).unwrap_err();
    assert_eq!(refusal, Refusal::WrongStatus { status: "confirmed", wanted: "declined" });
}

#[test]
fn either_side_calls_it_off_which_frees_the_slot_once() {
    for provider_does in [true, false] {
        let (mut world, shop, ana, id) = booked();
        let (actor, side) =
            if provider_does { (&shop.owner, Side::Provider) } else { (&ana, Side::Client) };
        let done = world.run(actor, &cancel(id)).unwrap();
        assert_eq!(done.names(), ["AppointmentCancelled", "SlotFreed"]);
        assert_eq!(done.outcome.status, Status::Cancelled);
        assert!(done.events.iter().any(|(_, event)| matches!(
            event,
            Event::Appointment(AppointmentEvent::AppointmentCancelled { by, .. }) if *by == side
        )));
        assert!(world.agenda(&shop, "2026-03-03").occupations.is_empty());
        for either in [&ana, &shop.owner] {
            let again = world.run(either, &cancel(id)).unwrap();
            assert_eq!((again.events.len(), again.outcome.status), (0, Status::Cancelled));
        }
    }
}

#[test]
fn what_has_ended_stays_ended() {
    let wrong = |status, wanted| Some(Refusal::WrongStatus { status, wanted });
    let (mut world, shop, ana, id) = booked();
    world.run(&ana, &cancel(id)).unwrap();
    let told = refusals(&mut world, &shop.owner, id);
    let expected = ["confirmed", "declined", "rescheduled"].map(|w| wrong("cancelled", w));
    assert_eq!((&told[..3], &told[3]), (&expected[..], &None));

    let (mut world, shop, _, id) = booked();
    world.run(&shop.owner, &decline(id)).unwrap();
    let told = refusals(&mut world, &shop.owner, id);
    assert_eq!(
        told,
        [
            wrong("declined", "confirmed"),
            None,
            wrong("declined", "rescheduled"),
            wrong("declined", "cancelled")
        ]
    );
}

#[test]
fn the_clients_time_to_call_off_ends_at_the_window_and_the_providers_does_not() {
    let (mut world, shop, ana, id) = booked();
    let new = policy(|p| p.cancellation_window_minutes = 120).unwrap();
    let change = SetPolicy { policy: new };
    world.run(&shop.owner, &ChangeProvider { provider: shop.id, change }).unwrap();
    world.now = instant("2026-03-03T11:00:00Z");
    let too_late = Refusal::TooLate { window_minutes: 120 };
    assert_eq!(world.run(&ana, &cancel(id)).unwrap_err(), too_late);
    world.now = instant("2026-03-03T10:59:59.999999Z");
    assert!(world.run(&ana, &cancel(id)).is_ok());
    world.now = instant("2026-03-03T12:00:00Z");
    assert!(world.run(&ana, &cancel(id)).is_ok(), "it is called off already, however late");

    let (mut world, shop, _, id) = booked();
    world.run(&shop.owner, &ConfirmAppointment { appointment: id }).unwrap();
    world.now = instant("2026-03-03T13:30:00Z");
    assert!(world.run(&shop.owner, &cancel(id)).is_ok());
}

#[test]
fn without_a_window_the_client_may_call_off_until_the_start() {
    let (mut world, _, ana, id) = booked();
    world.now = instant("2026-03-03T13:00:00Z");
    let refusal = world.run(&ana, &cancel(id)).unwrap_err();
    assert_eq!(refusal, Refusal::TooLate { window_minutes: 0 });
    world.now = instant("2026-03-03T12:59:59Z");
    assert!(world.run(&ana, &cancel(id)).is_ok());
}

// ── When the shop changes ───────────────────────────────────────────────────────────────────────────────

#[test]
fn a_removed_service_cannot_be_booked_and_leaves_its_appointments() {
    let (mut world, shop, ana, id) = booked();
    let change = RemoveService { service: shop.service };
    world.run(&shop.owner, &ChangeProvider { provider: shop.id, change }).unwrap();
    let refusal = world.book(&ana, &shop, "2026-03-03T15:00:00Z").unwrap_err();
    assert_eq!(refusal, Refusal::NotFound("service"));
    assert!(world.run(&shop.owner, &ConfirmAppointment { appointment: id }).is_ok());
    assert!(world.run(&ana, &cancel(id)).is_ok());
}

#[test]
fn a_longer_service_cannot_slip_into_a_group_that_ends_sooner() {
    let mut world = World::new();
    let mut open = classic();
    open.service = offer(|o| o.capacity = 3);
    let (shop, ana) = (world.shop(open), world.person("ana"));
    world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap();
    let longer = offer(|o| {
        o.capacity = 3;
        o.duration_minutes = 90;
    });
    let change = ChangeService { service: shop.service, offer: longer.unwrap() };
    world.run(&shop.owner, &ChangeProvider { provider: shop.id, change }).unwrap();
    let carla = world.person("carla");
    let refused = world.book(&carla, &shop, "2026-03-03T13:00:00Z").unwrap_err();
    assert!(matches!(refused, Refusal::SlotTaken { .. }), "{refused:?}");
}
