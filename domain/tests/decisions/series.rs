//! Series: all or nothing, as much as can be had, and what is to come of them called off.

use domain::Refusal;
use domain::actor::Actor;
use domain::appointment::{
    AppointmentEvent, CancelAppointment, ConfirmAppointment, RescheduleAppointment, Status,
};
use domain::event::Event;
use domain::hours::Confirmation;
use domain::ids::{AppointmentId, Id};
use domain::provider::{ChangeProvider, OpenProvider, OverrideDay};
use domain::recurrence::InvalidRecurrence;
use domain::series::{
    ALTERNATIVES_EACH, BookSeries, CancelSeries, Mode, RefusedOccurrence, Series, SeriesEvent,
    SeriesIsOff, SeriesPart, SeriesStands, Unbookable, WhyKept,
};

use crate::world::{Done, Shop, World, classic, every_day, instant, offer, policy, windows, zone};

/// Tuesday, 10:00 in São Paulo.
const TUESDAY: &str = "2026-03-03T13:00:00Z";

struct Scene {
    world: World,
    shop: Shop,
    ana: Actor,
}

fn scene(open: OpenProvider) -> Scene {
    let mut world = World::new();
    let (shop, ana) = (world.shop(open), world.person("ana"));
    Scene { world, shop, ana }
}

impl Scene {
    fn series(
        &mut self,
        start: &str,
        rule: &str,
        mode: Mode,
    ) -> Result<Done<SeriesStands>, Refusal> {
        let ana = self.ana.clone();
        self.series_of(&ana, start, rule, mode)
    }

    fn series_of(
        &mut self,
        actor: &Actor,
        start: &str,
        rule: &str,
        mode: Mode,
    ) -> Result<Done<SeriesStands>, Refusal> {
        let (start, rule) = (instant(start), rule.parse().unwrap());
        let (provider, service, notes) = (self.shop.id, None, Some("Curto".parse().unwrap()));
        self.world.run(actor, &BookSeries { provider, service, start, rule, mode, notes })
    }

    fn taken(&mut self, start: &str) {
        let name = format!("other{}", start.replace(|c: char| !c.is_ascii_digit(), ""));
        let other = self.world.person(&name);
        self.world.book(&other, &self.shop, start).unwrap();
    }

    fn cancel(
        &mut self,
        actor: &Actor,
        done: &Done<SeriesStands>,
    ) -> Result<Done<SeriesIsOff>, Refusal> {
        let reason = Some("Viagem".parse().unwrap());
        self.world.run(actor, &CancelSeries { series: done.outcome.series, reason })
    }

    fn status(&self, appointment: AppointmentId) -> Status {
        self.world.appointment(appointment).status
    }
}

fn refused(result: Result<Done<SeriesStands>, Refusal>) -> Vec<RefusedOccurrence> {
    match result {
        Err(Refusal::SeriesNotBookable { refused }) => refused,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_occurrence_is_an_appointment_of_its_own_and_all_stand_in_one_append() {
    let mut scene = scene(classic());
    let done = scene.series(TUESDAY, "FREQ=WEEKLY;COUNT=4", Mode::AllOrNothing).unwrap();
    let SeriesStands { series, booked, refused, status, .. } = &done.outcome;
    assert_eq!((booked.len(), refused.len(), *status), (4, 0, Status::Pending));
    let mut expected = vec!["AppointmentBooked"; 4];
    expected.push("SeriesBooked");
    expected.extend(vec!["SlotTaken"; 4]);
    assert_eq!(done.names(), expected);
    let all_at_home = |slot| done.events.iter().all(|(stream, _)| stream.slot() == slot);
    assert!(all_at_home(scene.shop.id.slot()), "it touches one partition");
    for (n, occurrence) in booked.iter().enumerate() {
        let booking = scene.world.appointment(occurrence.appointment);
        let number = u16::try_from(n + 1).unwrap();
        assert_eq!(booking.terms.series, Some(SeriesPart { series: *series, number }));
        assert_eq!(booking.slot, occurrence.slot);
        assert_eq!(booking.terms.client_notes.unwrap().known().unwrap().as_str(), "Curto");
        let start = instant(TUESDAY) + chrono::TimeDelta::weeks(n.try_into().unwrap());
        assert_eq!(occurrence.slot.start, start);
    }
    let stored: Series = scene.world.get(*series);
    assert_eq!(stored.placed.unwrap().booked, *booked);
    // Each has its own life.
    let first = booked[0].appointment;
    let (owner, ana) = (scene.shop.owner.clone(), scene.ana.clone());
    scene.world.run(&owner, &ConfirmAppointment { appointment: first }).unwrap();
    let to = instant("2026-03-05T13:00:00Z");
    let reschedule = RescheduleAppointment { appointment: booked[1].appointment, start: to };
    scene.world.run(&ana, &reschedule).unwrap();
    assert_eq!(scene.status(first), Status::Confirmed);
    assert_eq!(scene.world.appointment(booked[1].appointment).slot.start, to);
    assert_eq!(scene.status(booked[2].appointment), Status::Pending);
}

#[test]
fn sixty_days_in_a_row_are_one_command_and_few_rounds() {
    let mut scene = scene(classic());
    let done = scene.series(TUESDAY, "FREQ=DAILY;COUNT=60", Mode::AllOrNothing).unwrap();
    assert_eq!(done.outcome.booked.len(), 60);
    assert!(done.rounds <= 4, "{} rounds", done.rounds);
    // And as few where most cannot be had.
    let done = scene.series(TUESDAY, "FREQ=DAILY;COUNT=60", Mode::BestEffort);
    let all = refused(done);
    assert_eq!(all.len(), 60);
    assert!(all.iter().all(|one| one.why == Unbookable::SlotTaken));
    assert!(all.iter().all(|one| one.alternatives.len() == ALTERNATIVES_EACH));
}

#[test]
fn all_or_nothing_is_refused_with_every_occurrence_that_cannot_be_had_and_changes_nothing() {
    let mut open = classic();
    open.policy = policy(|policy| policy.horizon_days = 20);
    let mut scene = scene(open);
    scene.taken("2026-03-10T13:00:00Z");
    let owner = scene.shop.owner.clone();
    let day = "2026-03-17".parse().unwrap();
    let change = OverrideDay { day, windows: windows(&[]) };
    let closed = ChangeProvider { provider: scene.shop.id, change };
    scene.world.run(&owner, &closed).unwrap();
    let result = scene.series(TUESDAY, "FREQ=WEEKLY;COUNT=4", Mode::AllOrNothing);
    let all = refused(result);
    let why: Vec<_> = all.iter().map(|one| (one.number, one.why)).collect();
    assert_eq!(
        why,
        [(2, Unbookable::SlotTaken), (3, Unbookable::DayOff), (4, Unbookable::BeyondHorizon)]
    );
    assert_eq!(all[0].local.to_string(), "2026-03-10 10:00:00");
    let near = ["12:00", "14:00", "11:00"].map(|t| instant(&format!("2026-03-10T{t}:00Z")));
    assert_eq!(all[0].alternatives, near);
    assert!(!all[1].alternatives.is_empty(), "the days around the closed one are open");
    assert!(all[2].alternatives.len() <= ALTERNATIVES_EACH);
    assert!(scene.world.agenda(&scene.shop, "2026-03-03").occupations.is_empty());
}

#[test]
fn best_effort_books_what_can_be_had_and_names_the_rest() {
    let mut scene = scene(classic());
    scene.taken("2026-03-10T13:00:00Z");
    let done = scene.series(TUESDAY, "FREQ=WEEKLY;COUNT=3", Mode::BestEffort).unwrap();
    let numbers: Vec<u16> = done.outcome.booked.iter().map(|one| one.number).collect();
    assert_eq!(numbers, [1, 3]);
    let refused = &done.outcome.refused;
    assert_eq!((refused.len(), refused[0].number, refused[0].why), (1, 2, Unbookable::SlotTaken));
    assert_eq!(done.names().iter().filter(|name| **name == "AppointmentBooked").count(), 2);
}

#[test]
fn alternatives_are_none_of_the_series_own_times() {
    let mut open = classic();
    // One slot a day.
    open.weekly = Some(every_day(&[("10:00", "11:00")]));
    let mut scene = scene(open);
    scene.taken("2026-03-04T13:00:00Z");
    let done = scene.series(TUESDAY, "FREQ=DAILY;COUNT=3", Mode::BestEffort).unwrap();
    // The day before and the day after are its own.
    let others = ["2026-03-02T13:00:00Z", "2026-03-06T13:00:00Z"].map(instant);
    assert_eq!(done.outcome.refused[0].alternatives, others);
}

#[test]
fn a_weekly_time_stays_where_it_is_on_the_wall_and_what_clocks_skip_cannot_be_booked() {
    let mut open = classic();
    open.zone = zone("Europe/Lisbon");
    open.weekly = Some(every_day(&[("00:00", "24:00")]));
    let mut scene = scene(open);
    let done = scene.series("2026-03-24T09:00:00Z", "FREQ=WEEKLY;COUNT=2", Mode::AllOrNothing);
    let booked = done.unwrap().outcome.booked;
    assert_eq!(booked[1].slot.start, instant("2026-03-31T08:00:00Z"));
    // 01:30 on 29 March: clocks go from 01:00 to 02:00.
    let mut open = classic();
    open.zone = zone("Europe/Lisbon");
    open.slug = "outro".parse().unwrap();
    open.weekly = Some(every_day(&[("00:00", "24:00")]));
    open.service = offer(|offer| offer.interval_minutes = 30);
    let other = scene.world.shop(open);
    scene.shop = other;
    let result = scene.series("2026-03-28T01:30:00Z", "FREQ=DAILY;COUNT=3", Mode::AllOrNothing);
    let all = refused(result);
    assert_eq!((all.len(), all[0].number, all[0].start), (1, 2, None));
    assert_eq!(all[0].why, Unbookable::NoSuchTime);
}

#[test]
fn occurrences_that_meet_in_one_utc_day_are_decided_one_after_the_other() {
    let mut open = classic();
    open.zone = zone("Asia/Tokyo");
    open.weekly = Some(every_day(&[("00:00", "24:00")]));
    // 23:30 UTC to 00:30: each stands in two agendas, and each agenda has two of them.
    open.service = offer(|offer| offer.interval_minutes = 30);
    let mut scene = scene(open);
    let done = scene.series("2026-03-03T23:30:00Z", "FREQ=DAILY;COUNT=3", Mode::AllOrNothing);
    let done = done.unwrap();
    let starts = |day| {
        let occupations = scene.world.agenda(&scene.shop, day).occupations;
        occupations.iter().map(|o| o.slot.start.to_rfc3339()).collect::<Vec<_>>()
    };
    assert_eq!(starts("2026-03-04"), ["2026-03-03T23:30:00+00:00", "2026-03-04T23:30:00+00:00"]);
    let ana = scene.ana.clone();
    let off = scene.cancel(&ana, &done).unwrap();
    assert_eq!(off.outcome.cancelled.len(), 3);
    for day in ["2026-03-03", "2026-03-04", "2026-03-05", "2026-03-06"] {
        assert!(scene.world.agenda(&scene.shop, day).occupations.is_empty(), "{day}");
    }
    // A service as long as a day is in its own way.
    let mut open = classic();
    open.slug = "retiro".parse().unwrap();
    open.weekly = Some(every_day(&[("00:00", "24:00")]));
    open.service = offer(|offer| {
        offer.duration_minutes = 24 * 60;
        offer.interval_minutes = 24 * 60;
        offer.buffer_after_minutes = 60;
    });
    scene.shop = scene.world.shop(open);
    let done = scene.series("2026-03-04T03:00:00Z", "FREQ=DAILY;COUNT=3", Mode::BestEffort);
    let done = done.unwrap().outcome;
    let numbers: Vec<u16> = done.booked.iter().map(|one| one.number).collect();
    assert_eq!((numbers, done.refused[0].why), (vec![1, 3], Unbookable::SlotTaken));
}

#[test]
fn rules_that_are_none_and_starts_they_do_not_have_are_refused() {
    let mut scene = scene(classic());
    for (start, rule, expected) in [
        (TUESDAY, "FREQ=WEEKLY;BYDAY=MO;COUNT=2", InvalidRecurrence::Start),
        (TUESDAY, "FREQ=DAILY;UNTIL=20260301", InvalidRecurrence::Empty),
        (TUESDAY, "FREQ=DAILY;UNTIL=20261231", InvalidRecurrence::TooMany),
        (TUESDAY, "FREQ=DAILY;INTERVAL=366;COUNT=60", InvalidRecurrence::TooFar),
    ] {
        let result = scene.series(start, rule, Mode::BestEffort);
        assert_eq!(result.unwrap_err(), Refusal::InvalidRecurrence(expected), "{rule}");
    }
}

#[test]
fn who_may_book_one_may_book_many_and_nobody_else() {
    let mut scene = scene(classic());
    let (owner, rule) = (scene.shop.owner.clone(), "FREQ=WEEKLY;COUNT=2");
    let new = scene.world.registered("nova");
    for (actor, expected) in [
        (owner, Refusal::OwnAppointment),
        (Actor::Anonymous, Refusal::SignInRequired),
        (new, Refusal::EmailNotConfirmed),
    ] {
        let result = scene.series_of(&actor, TUESDAY, rule, Mode::AllOrNothing);
        assert_eq!(result.unwrap_err(), expected);
    }
}

#[test]
fn a_series_is_called_off_but_for_what_could_not_be_called_off_alone() {
    let mut open = classic();
    open.policy = policy(|policy| {
        policy.cancellation_window_minutes = 24 * 60;
        policy.confirmation = Confirmation::Automatic;
    });
    let mut scene = scene(open);
    let done = scene.series(TUESDAY, "FREQ=DAILY;COUNT=6", Mode::AllOrNothing).unwrap();
    let ids: Vec<AppointmentId> = done.outcome.booked.iter().map(|one| one.appointment).collect();
    let (ana, owner) = (scene.ana.clone(), scene.shop.owner.clone());
    let fifth = CancelAppointment { appointment: ids[4], reason: None };
    scene.world.run(&ana, &fifth).unwrap();
    // The first is over, the second goes on, the third begins in less than a day.
    scene.world.now = instant("2026-03-04T13:30:00Z");
    let off = scene.cancel(&ana, &done).unwrap();
    let cancelled: Vec<u16> = off.outcome.cancelled.iter().map(|one| one.number).collect();
    assert_eq!(cancelled, [4, 6]);
    let kept: Vec<_> = off.outcome.kept.iter().map(|one| (one.number, one.why)).collect();
    assert_eq!(
        kept,
        [
            (1, WhyKept::AlreadyBegun),
            (2, WhyKept::AlreadyBegun),
            (3, WhyKept::TooLate),
            (5, WhyKept::WrongStatus)
        ]
    );
    assert_eq!(
        off.names(),
        [
            "AppointmentCancelled",
            "AppointmentCancelled",
            "SeriesCancelled",
            "SlotFreed",
            "SlotFreed"
        ]
    );
    let with_series = |event: &Event| {
        matches!(
            event,
            Event::Appointment(AppointmentEvent::AppointmentCancelled {
                with_series: true,
                reason: Some(_),
                ..
            })
        )
    };
    assert_eq!(off.events.iter().filter(|(_, event)| with_series(event)).count(), 2);
    assert!(off.events.iter().any(|(_, event)| matches!(
        event,
        Event::Series(SeriesEvent::SeriesCancelled { cancelled, .. }) if cancelled.len() == 2
    )));
    assert_eq!(scene.status(ids[2]), Status::Confirmed);
    // Again there is nothing to do; the provider can still call off the third.
    let again = scene.cancel(&ana, &done).unwrap();
    assert_eq!((again.events.len(), again.outcome.kept.len()), (0, 6));
    let off = scene.cancel(&owner, &done).unwrap();
    assert_eq!(off.outcome.cancelled.len(), 1);
    assert_eq!(scene.status(ids[2]), Status::Cancelled);
}

#[test]
fn to_others_there_is_no_such_series() {
    let mut scene = scene(classic());
    let done = scene.series(TUESDAY, "FREQ=WEEKLY;COUNT=2", Mode::AllOrNothing).unwrap();
    let stranger = scene.world.person("eva");
    let refusal = scene.cancel(&stranger, &done).unwrap_err();
    assert_eq!(refusal, Refusal::NotFound("series"));
    let refusal = scene.cancel(&Actor::Anonymous, &done).unwrap_err();
    assert_eq!(refusal, Refusal::SignInRequired);
}

#[test]
fn a_limit_of_bookings_a_day_holds_for_each_occurrence() {
    let mut open = classic();
    open.policy = policy(|policy| policy.max_per_day = Some(1));
    let mut scene = scene(open);
    scene.taken("2026-03-10T15:00:00Z");
    let done = scene.series(TUESDAY, "FREQ=WEEKLY;COUNT=3", Mode::BestEffort).unwrap();
    assert_eq!(done.outcome.booked.len(), 2);
    assert_eq!(done.outcome.refused[0].why, Unbookable::DayFull);
    assert_eq!(done.outcome.series.slot(), scene.shop.id.slot());
}
