//! Time off, holidays, a service's own windows, and as many bookings a day as a provider takes.

use chrono::TimeDelta;
use domain::Refusal;
use domain::actor::Actor;
use domain::appointment::{CancelAppointment, RescheduleAppointment};
use domain::bookable::OutOfPlace;
use domain::hold::HoldSlot;
use domain::holidays::{Holiday, HolidayCalendar};
use domain::provider::{
    CancelTimeOff, ChangeProvider, ChangeService, OverrideDay, Provider, RemoveService,
    SetHolidays, SetPolicy, SetWeeklyHours, TakeTimeOff,
};
use domain::time_off::TimeOff;

use crate::world::{Shop, World, classic, every_day, instant, offer, policy, windows, zone};

fn town() -> (World, Shop, Actor) {
    let mut world = World::new();
    let (shop, ana) = (world.classic(), world.person("ana"));
    (world, shop, ana)
}

fn off(from: &str, until: &str) -> TimeOff {
    TimeOff::new(from.parse().unwrap(), until.parse().unwrap()).unwrap()
}

fn take(shop: &Shop, from: &str, until: &str) -> TakeTimeOff {
    let reason = Some("Dentista".parse().unwrap());
    TakeTimeOff { provider: shop.id, time_off: off(from, until), reason }
}

fn change<C: domain::provider::OwnersChange>(world: &mut World, shop: &Shop, change: C) {
    world.run(&shop.owner, &ChangeProvider { provider: shop.id, change }).unwrap();
}

#[test]
fn time_off_takes_the_slots_it_touches_and_moves_no_other() {
    let (mut world, shop, ana) = town();
    // 10:30 to 12:00 in São Paulo, 13:30 to 15:00 UTC.
    let done =
        world.run(&shop.owner, &take(&shop, "2026-03-03T10:30", "2026-03-03T12:00")).unwrap();
    assert_eq!(done.names(), ["TimeOffTaken"]);
    let mut refused = |start: &str| world.book(&ana, &shop, start).err();
    assert_eq!(refused("2026-03-03T13:00:00Z"), Some(Refusal::TimeOff), "its end is off");
    assert_eq!(refused("2026-03-03T14:00:00Z"), Some(Refusal::TimeOff));
    assert_eq!(refused("2026-03-03T13:30:00Z"), Some(Refusal::TimeOff));
    assert_eq!(refused("2026-03-03T12:00:00Z"), None);
    assert_eq!(refused("2026-03-03T15:00:00Z"), None);
    change(&mut world, &shop, CancelTimeOff { id: done.outcome.id });
    assert!(world.book(&ana, &shop, "2026-03-03T13:00:00Z").is_ok());
    let state = world.get::<Provider>(shop.id);
    assert!(state.schedule.time_off.is_empty() && state.time_off_reasons.is_empty());
}

#[test]
fn time_off_is_the_owners_to_take_within_reach_and_its_reason_theirs() {
    let (mut world, shop, ana) = town();
    let holiday = take(&shop, "2026-12-24T12:00", "2027-01-02T00:00");
    assert_eq!(world.run(&ana, &holiday).unwrap_err(), Refusal::Forbidden);
    assert_eq!(world.run(&Actor::Anonymous, &holiday).unwrap_err(), Refusal::SignInRequired);
    let id = world.run(&shop.owner, &holiday).unwrap().outcome.id;
    let reasons = world.get::<Provider>(shop.id).time_off_reasons;
    assert_eq!(reasons[&id].subject(), shop.owner.account().unwrap().into());
    let far = take(&shop, "2050-01-01T00:00", "2050-01-02T00:00");
    assert!(matches!(world.run(&shop.owner, &far), Err(Refusal::DayOutOfReach { .. })));
    let gone = ChangeProvider { provider: shop.id, change: CancelTimeOff { id } };
    assert_eq!(world.run(&ana, &gone).unwrap_err(), Refusal::Forbidden);
    world.run(&shop.owner, &gone).unwrap();
    assert_eq!(world.run(&shop.owner, &gone).unwrap_err(), Refusal::NotFound("time off"));
}

#[test]
fn a_shop_that_keeps_holidays_is_closed_unless_it_says_otherwise_for_that_day() {
    let (mut world, shop, ana) = town();
    let tiradentes = "2026-04-21T13:00:00Z";
    let carnival = "2027-02-09T13:00:00Z";
    assert!(world.book(&ana, &shop, tiradentes).is_ok(), "nobody asked for holidays");
    change(&mut world, &shop, SetHolidays { holidays: Some(HolidayCalendar::Brazil) });
    let refusal = world.book(&ana, &shop, "2026-04-21T14:00:00Z").unwrap_err();
    assert_eq!(refusal, Refusal::Holiday(Holiday::Tiradentes));
    assert!(world.book(&ana, &shop, carnival).is_ok());
    let all = SetHolidays { holidays: Some(HolidayCalendar::BrazilWithOptional) };
    change(&mut world, &shop, all);
    let refusal = world.book(&ana, &shop, "2027-02-09T14:00:00Z").unwrap_err();
    assert_eq!(refusal, Refusal::Holiday(Holiday::Carnival));

    let (day, windows) = ("2026-04-21".parse().unwrap(), windows(&[("11:00", "13:00")]));
    change(&mut world, &shop, OverrideDay { day, windows });
    assert!(world.book(&ana, &shop, "2026-04-21T14:00:00Z").is_ok());
    let windows = crate::world::windows(&[]);
    change(&mut world, &shop, OverrideDay { day, windows });
    assert_eq!(world.book(&ana, &shop, "2026-04-21T15:00:00Z").unwrap_err(), Refusal::DayOff);
    change(&mut world, &shop, SetHolidays { holidays: None });
    assert!(world.book(&ana, &shop, "2027-02-09T14:00:00Z").is_ok());
}

#[test]
fn a_services_own_windows_meet_the_shops_and_its_grid_begins_where_they_do() {
    let (mut world, shop, ana) = town();
    let own = Some(Box::new(every_day(&[("07:00", "07:30"), ("08:30", "12:00")])));
    let offer = offer(|o| o.weekly = own).unwrap();
    change(&mut world, &shop, ChangeService { service: shop.service, offer });
    let mut refused = |start: &str| world.book(&ana, &shop, start).err();
    assert_eq!(refused("2026-03-03T11:00:00Z"), Some(Refusal::OutsideServiceHours), "08:00");
    assert_eq!(refused("2026-03-03T11:30:00Z"), None, "08:30");
    assert_eq!(refused("2026-03-03T13:00:00Z"), Some(Refusal::OutsideHours), "off the grid");
    assert_eq!(refused("2026-03-03T13:30:00Z"), None, "10:30");
    assert_eq!(refused("2026-03-03T14:30:00Z"), Some(Refusal::OutsideServiceHours), "until 12:30");
    assert_eq!(refused("2026-03-03T10:00:00Z"), Some(Refusal::OutsideHours), "07:00: no shop");
    // Time of its own on a day off of the shop is none, and what is removed leaves nothing behind.
    let day = "2026-03-04".parse().unwrap();
    change(&mut world, &shop, OverrideDay { day, windows: windows(&[]) });
    let refusal = world.book(&ana, &shop, "2026-03-04T11:30:00Z").unwrap_err();
    assert_eq!(refusal, Refusal::DayOff);
    change(&mut world, &shop, RemoveService { service: shop.service });
    assert!(world.get::<Provider>(shop.id).schedule.own_weekly.is_empty());
}

#[test]
fn a_full_day_takes_no_booking_no_hold_and_no_move_and_names_other_days() {
    let mut world = World::new();
    let mut open = classic();
    open.policy = policy(|p| p.max_per_day = Some(2));
    // 20:00 to 23:00 in São Paulo is the next day in UTC from 21:00 on.
    open.weekly = Some(every_day(&[("18:00", "23:00")]));
    let shop = world.shop(open);
    let [ana, caio] = ["ana", "caio"].map(|name| world.person(name));
    let first = world.book(&ana, &shop, "2026-03-03T22:00:00Z").unwrap().outcome.appointment;
    let hold = |start: &str| HoldSlot { provider: shop.id, service: None, start: instant(start) };
    world.run(&caio, &hold("2026-03-04T00:00:00Z")).unwrap();

    let refused = world.book(&ana, &shop, "2026-03-04T01:00:00Z").unwrap_err();
    let Refusal::DayFull { limit: 2, alternatives } = refused else { panic!("{refused:?}") };
    assert_eq!(alternatives[0], instant("2026-03-04T21:00:00Z"), "18:00 on the day after");
    let on_the_day =
        |at: &domain::Instant| (*at - TimeDelta::hours(3)).date_naive().to_string() == "2026-03-03";
    assert!(alternatives.len() == 5 && !alternatives.iter().any(on_the_day), "{alternatives:?}");
    let davi = world.person("davi");
    let full = world.run(&davi, &hold("2026-03-03T21:00:00Z"));
    assert!(matches!(full, Err(Refusal::DayFull { limit: 2, .. })));

    // Within the day one moves; into it one does not.
    let to = |start: &str| RescheduleAppointment { appointment: first, start: instant(start) };
    world.run(&ana, &to("2026-03-04T01:00:00Z")).unwrap();
    let next = world.book(&davi, &shop, "2026-03-04T22:00:00Z").unwrap().outcome.appointment;
    let into = RescheduleAppointment { appointment: next, start: instant("2026-03-03T22:00:00Z") };
    assert!(matches!(world.run(&davi, &into), Err(Refusal::DayFull { .. })));
    // A hold that is over makes room, and so does who calls off.
    world.now += TimeDelta::minutes(10);
    world.run(&davi, &into).unwrap();
    world.run(&ana, &CancelAppointment { appointment: first, reason: None }).unwrap();
    assert!(world.book(&caio, &shop, "2026-03-03T21:00:00Z").is_ok());
}

#[test]
fn whoever_holds_the_last_place_of_a_day_books_it() {
    let (mut world, shop, ana) = town();
    change(&mut world, &shop, SetPolicy { policy: policy(|p| p.max_per_day = Some(1)).unwrap() });
    let start = instant("2026-03-03T13:00:00Z");
    let hold = HoldSlot { provider: shop.id, service: None, start };
    let hold = Some(world.run(&ana, &hold).unwrap().outcome.hold);
    let (provider, service, notes) = (shop.id, None, None);
    let book = domain::appointment::BookAppointment { provider, service, start, notes, hold };
    assert!(world.run(&ana, &book).is_ok());
}

#[test]
fn on_a_day_that_has_more_than_it_may_one_can_still_move() {
    let (mut world, shop, ana) = town();
    let mut book = |start: &str| world.book(&ana, &shop, start).unwrap().outcome.appointment;
    let (_, appointment) = (book("2026-03-03T13:00:00Z"), book("2026-03-03T14:00:00Z"));
    change(&mut world, &shop, SetPolicy { policy: policy(|p| p.max_per_day = Some(1)).unwrap() });
    let to = |start: &str| RescheduleAppointment { appointment, start: instant(start) };
    world.run(&ana, &to("2026-03-03T15:00:00Z")).unwrap();
    world.run(&ana, &to("2026-03-04T15:00:00Z")).unwrap();
    let back = world.run(&ana, &to("2026-03-03T15:00:00Z"));
    assert!(matches!(back, Err(Refusal::DayFull { limit: 1, .. })), "{back:?}");
}

#[test]
fn a_booking_on_a_shop_without_a_limit_reads_no_other_agenda() {
    let (mut world, shop, ana) = town();
    let done = world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap();
    assert_eq!((done.events.len(), done.required.len()), (2, 1), "the provider alone");
}

#[test]
fn changing_hours_touches_no_appointment_and_says_which_are_out_of_place() {
    let (mut world, shop, ana) = town();
    let start = "2026-03-03T13:00:00Z";
    let id = world.book(&ana, &shop, start).unwrap().outcome.appointment;
    let before = world.appointment(id);
    let place = |world: &World| {
        let booking = world.appointment(id);
        let schedule = world.get::<Provider>(shop.id).schedule;
        schedule.out_of_place(booking.terms.measure.service, booking.slot, booking.terms.zone)
    };
    assert_eq!(place(&world), None);
    let time_off = world.run(&shop.owner, &take(&shop, "2026-03-03T10:59", "2026-03-03T11:00"));
    assert_eq!(place(&world), Some(OutOfPlace::TimeOff));
    change(&mut world, &shop, CancelTimeOff { id: time_off.unwrap().outcome.id });
    let own = offer(|o| o.weekly = Some(Box::new(every_day(&[("10:30", "12:00")])))).unwrap();
    change(&mut world, &shop, ChangeService { service: shop.service, offer: own });
    assert_eq!(place(&world), Some(OutOfPlace::OutsideServiceHours));
    let longer = offer(|o| o.interval_minutes = 45).unwrap();
    change(&mut world, &shop, ChangeService { service: shop.service, offer: longer });
    assert_eq!(place(&world), None, "another grid does not matter");
    let weekly = every_day(&[("08:00", "10:30")]);
    change(&mut world, &shop, SetWeeklyHours { zone: zone("America/Sao_Paulo"), weekly });
    assert_eq!(place(&world), Some(OutOfPlace::OutsideHours));
    let whole = || every_day(&[("00:00", "24:00")]);
    change(&mut world, &shop, SetWeeklyHours { zone: zone("America/Fortaleza"), weekly: whole() });
    assert_eq!(place(&world), None, "another name for the same time");
    change(&mut world, &shop, SetWeeklyHours { zone: zone("America/Manaus"), weekly: whole() });
    assert_eq!(place(&world), Some(OutOfPlace::LocalTimeChanged));
    let (day, windows) = ("2026-03-03".parse().unwrap(), windows(&[]));
    change(&mut world, &shop, OverrideDay { day, windows });
    assert_eq!(place(&world), Some(OutOfPlace::DayOff));
    assert_eq!(world.appointment(id), before);
}
