//! Moving an appointment: one id, one history, freed and taken as one.

use domain::Refusal;
use domain::actor::Actor;
use domain::appointment::{
    AppointmentEvent, AppointmentStands, CancelAppointment, ConfirmAppointment,
    RescheduleAppointment, Side, Status,
};
use domain::event::Event;
use domain::hours::Confirmation;
use domain::ids::AppointmentId;
use domain::provider::{ChangeProvider, ChangeService, OpenProvider, SetPolicy};

use crate::world::{Done, Shop, World, classic, instant, offer, policy, zone};

struct Scene {
    world: World,
    shop: Shop,
    ana: Actor,
    id: AppointmentId,
}

/// A shop and Ana's appointment there.
fn scene(open: OpenProvider, start: &str) -> Scene {
    let mut world = World::new();
    let (shop, ana) = (world.shop(open), world.person("ana"));
    let id = world.book(&ana, &shop, start).unwrap().outcome.appointment;
    Scene { world, shop, ana, id }
}

/// Tuesday at 10:00 in São Paulo, an hour long; starts every half hour.
fn half_hourly() -> Scene {
    let mut open = classic();
    open.service = offer(|o| o.interval_minutes = 30);
    scene(open, "2026-03-03T13:00:00Z")
}

impl Scene {
    fn moved(&mut self, actor: &Actor, start: &str) -> Result<Done<AppointmentStands>, Refusal> {
        let reschedule = RescheduleAppointment { appointment: self.id, start: instant(start) };
        self.world.run(actor, &reschedule)
    }

    fn by_client(&mut self, start: &str) -> Result<Done<AppointmentStands>, Refusal> {
        let ana = self.ana.clone();
        self.moved(&ana, start)
    }

    fn by_provider(&mut self, start: &str) -> Result<Done<AppointmentStands>, Refusal> {
        let owner = self.shop.owner.clone();
        self.moved(&owner, start)
    }

    fn starts(&self, day: &str) -> Vec<String> {
        let occupations = self.world.agenda(&self.shop, day).occupations;
        occupations.iter().map(|o| o.slot.start.format("%H:%M").to_string()).collect()
    }
}

#[test]
fn it_keeps_its_id_its_terms_and_its_history() {
    let mut scene = half_hourly();
    let before = scene.world.appointment(scene.id);
    let done = scene.by_client("2026-03-03T16:00:00Z").unwrap();
    assert_eq!(done.outcome.appointment, scene.id);
    assert_eq!(done.outcome.slot.start, instant("2026-03-03T16:00:00Z"));
    assert_eq!(done.names(), ["AppointmentRescheduled", "SlotFreed", "SlotTaken"]);
    assert!(done.events.iter().any(|(_, event)| matches!(
        event,
        Event::Appointment(AppointmentEvent::AppointmentRescheduled { from, to, by, .. })
            if *from == before.slot && *to == done.outcome.slot && *by == Side::Client
    )));
    let after = scene.world.appointment(scene.id);
    assert_eq!((after.slot, after.terms), (done.outcome.slot, before.terms));
    assert_eq!(scene.starts("2026-03-03"), ["16:00"]);
}

#[test]
fn it_may_move_over_its_own_time() {
    let mut scene = half_hourly();
    scene.by_client("2026-03-03T13:30:00Z").unwrap();
    assert_eq!(scene.starts("2026-03-03"), ["13:30"]);
}

#[test]
fn to_another_day_it_leaves_the_one_and_stands_in_the_other() {
    let mut scene = half_hourly();
    scene.by_client("2026-03-05T13:00:00Z").unwrap();
    assert!(scene.starts("2026-03-03").is_empty());
    assert_eq!(scene.starts("2026-03-05"), ["13:00"]);
}

#[test]
fn across_midnight_it_stands_in_every_day_it_touches_and_in_no_other() {
    let mut open = classic();
    open.zone = zone("Asia/Tokyo");
    open.service = offer(|o| o.interval_minutes = 30);
    // 23:30 UTC on the 4th to 00:30 on the 5th.
    let mut scene = scene(open, "2026-03-04T23:30:00Z");
    // Over its own time, wholly into the second day.
    let done = scene.by_client("2026-03-05T00:00:00Z").unwrap();
    assert_eq!(done.names(), ["AppointmentRescheduled", "SlotFreed", "SlotFreed", "SlotTaken"]);
    assert!(scene.starts("2026-03-04").is_empty());
    assert_eq!(scene.starts("2026-03-05"), ["00:00"]);
    // And across the midnight after that.
    scene.by_client("2026-03-05T23:30:00Z").unwrap();
    assert_eq!(scene.starts("2026-03-05"), ["23:30"]);
    assert_eq!(scene.starts("2026-03-06"), ["23:30"]);
    let done = scene.by_client("2026-03-05T23:00:00Z").unwrap();
    assert_eq!(done.names(), ["AppointmentRescheduled", "SlotFreed", "SlotFreed", "SlotTaken"]);
    assert!(scene.starts("2026-03-06").is_empty());
}

#[test]
fn to_where_it_is_adds_nothing_however_late() {
    let mut scene = half_hourly();
    let (owner, appointment) = (scene.shop.owner.clone(), scene.id);
    scene.world.run(&owner, &ConfirmAppointment { appointment }).unwrap();
    scene.world.now = instant("2026-03-03T13:30:00Z");
    let done = scene.by_client("2026-03-03T13:00:00Z").unwrap();
    assert_eq!((done.events.len(), done.outcome.status), (0, Status::Confirmed));
}

#[test]
fn a_taken_time_is_refused_and_ones_own_is_no_alternative() {
    let mut scene = scene(classic(), "2026-03-03T13:00:00Z");
    let carla = scene.world.person("carla");
    scene.world.book(&carla, &scene.shop, "2026-03-03T14:00:00Z").unwrap();
    let refusal = scene.by_client("2026-03-03T14:00:00Z").unwrap_err();
    let alternatives = ["15:00", "12:00", "16:00", "11:00", "17:00"]
        .map(|time| instant(&format!("2026-03-03T{time}:00Z")));
    assert_eq!(refusal, Refusal::SlotTaken { alternatives: alternatives.into() });
    assert_eq!(scene.starts("2026-03-03"), ["13:00", "14:00"], "nothing changed");
}

#[test]
fn what_it_overlaps_of_its_own_time_is_an_alternative() {
    let mut scene = half_hourly();
    let carla = scene.world.person("carla");
    scene.world.book(&carla, &scene.shop, "2026-03-03T14:30:00Z").unwrap();
    let refused = scene.by_client("2026-03-03T14:00:00Z").unwrap_err();
    let Refusal::SlotTaken { alternatives } = refused else { panic!("{refused:?}") };
    assert_eq!(alternatives[0], instant("2026-03-03T13:30:00Z"));
}

#[test]
fn a_seat_of_a_group_moves_and_the_others_stay() {
    let mut open = classic();
    open.service = offer(|o| o.capacity = 2);
    let mut scene = scene(open, "2026-03-03T13:00:00Z");
    let (carla, davi) = (scene.world.person("carla"), scene.world.person("davi"));
    for (person, start) in [(&carla, "2026-03-03T13:00:00Z"), (&davi, "2026-03-03T15:00:00Z")] {
        scene.world.book(person, &scene.shop, start).unwrap();
    }
    scene.by_client("2026-03-03T15:00:00Z").unwrap();
    let seats: Vec<_> = scene
        .world
        .agenda(&scene.shop, "2026-03-03")
        .occupations
        .iter()
        .map(|o| (o.slot.start.format("%H:%M").to_string(), o.seats.len()))
        .collect();
    assert_eq!(seats, [("13:00".to_owned(), 1), ("15:00".to_owned(), 2)]);
}

#[test]
fn a_clients_move_waits_for_the_provider_again_and_the_providers_own_does_not() {
    let mut scene = half_hourly();
    let confirm = ConfirmAppointment { appointment: scene.id };
    scene.world.run(&scene.shop.owner, &confirm).unwrap();
    let done = scene.by_provider("2026-03-03T15:00:00Z").unwrap();
    assert_eq!(done.outcome.status, Status::Confirmed);
    let done = scene.by_client("2026-03-03T16:00:00Z").unwrap();
    assert_eq!(done.outcome.status, Status::Pending);
    assert_eq!(scene.world.appointment(scene.id).status, Status::Pending);

    let automatic = policy(|p| p.confirmation = Confirmation::Automatic).unwrap();
    let change = SetPolicy { policy: automatic };
    let provider = scene.shop.id;
    scene.world.run(&scene.shop.owner, &ChangeProvider { provider, change }).unwrap();
    let done = scene.by_client("2026-03-03T17:00:00Z").unwrap();
    assert_eq!(done.outcome.status, Status::Confirmed);
}

#[test]
fn the_clients_time_to_move_ends_at_the_window_and_the_providers_does_not() {
    let mut open = classic();
    open.policy = policy(|p| p.cancellation_window_minutes = 60);
    let mut scene = scene(open, "2026-03-03T13:00:00Z");
    scene.world.now = instant("2026-03-03T12:00:00Z");
    let refusal = scene.by_client("2026-03-03T16:00:00Z").unwrap_err();
    assert_eq!(refusal, Refusal::TooLate { window_minutes: 60 });
    scene.world.now = instant("2026-03-03T11:59:59Z");
    scene.by_client("2026-03-03T16:00:00Z").unwrap();
    let (owner, appointment) = (scene.shop.owner.clone(), scene.id);
    scene.world.run(&owner, &ConfirmAppointment { appointment }).unwrap();
    scene.world.now = instant("2026-03-03T16:30:00Z");
    scene.by_provider("2026-03-03T18:00:00Z").unwrap();
}

#[test]
fn the_new_time_is_judged_as_a_bookings_is() {
    let mut open = classic();
    open.policy = policy(|p| {
        p.minimum_notice_minutes = 60;
        p.horizon_days = 7;
    });
    let mut scene = scene(open, "2026-03-03T13:00:00Z");
    scene.world.now = instant("2026-03-02T12:30:00Z");
    for (start, refusal) in [
        ("2026-03-02T12:00:00Z", Refusal::SlotInPast),
        ("2026-03-02T13:00:00Z", Refusal::NoticeTooShort { notice_minutes: 60 }),
        ("2026-03-10T13:00:00Z", Refusal::BeyondHorizon { horizon_days: 7 }),
        ("+262142-12-31T23:00:00Z", Refusal::BeyondHorizon { horizon_days: 7 }),
        ("2026-03-03T21:00:00Z", Refusal::OutsideHours),
        ("2026-03-03T13:30:00Z", Refusal::OutsideHours),
    ] {
        assert_eq!(scene.by_client(start).unwrap_err(), refusal, "{start}");
    }
    scene.by_client("2026-03-09T20:00:00Z").unwrap();
}

#[test]
fn it_keeps_the_length_it_was_booked_with() {
    let mut scene = half_hourly();
    let change = ChangeService {
        service: scene.shop.service,
        offer: offer(|o| o.duration_minutes = 30).unwrap(),
    };
    let provider = scene.shop.id;
    scene.world.run(&scene.shop.owner, &ChangeProvider { provider, change }).unwrap();
    let done = scene.by_client("2026-03-03T16:00:00Z").unwrap();
    assert_eq!(done.outcome.slot.end, instant("2026-03-03T17:00:00Z"));
}

#[test]
fn after_any_move_calling_off_frees_what_it_holds_now() {
    let mut scene = half_hourly();
    scene.by_client("2026-03-04T13:00:00Z").unwrap();
    scene.by_client("2026-03-04T13:30:00Z").unwrap();
    let cancel = CancelAppointment { appointment: scene.id, reason: None };
    let done = scene.world.run(&scene.ana, &cancel).unwrap();
    assert_eq!(done.names(), ["AppointmentCancelled", "SlotFreed"]);
    assert!(scene.starts("2026-03-03").is_empty() && scene.starts("2026-03-04").is_empty());
}
