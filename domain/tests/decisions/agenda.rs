//! Agendas: taking, joining, freeing and moving, one UTC day alone.

use cqrs_es::test::TestFramework;
use domain::Refusal;
use domain::agenda::{Agenda, AgendaCommand, AgendaEvent, Taking};
use domain::aggregate::{Aggregate, Context};
use domain::ids::{AppointmentId, Mint, ProviderId, RoutingSlot, ServiceId};
use domain::slots::Measure;

use crate::world::instant;

fn mint() -> Mint {
    Mint::new([3; 32])
}

fn provider() -> ProviderId {
    mint().id(RoutingSlot::from_bits(3), 0)
}

fn appointment(n: u32) -> AppointmentId {
    mint().id(RoutingSlot::from_bits(3), n)
}

fn haircut() -> Measure {
    Measure {
        service: mint().id::<ServiceId>(RoutingSlot::from_bits(3), 0),
        duration_minutes: 60,
        interval_minutes: 30,
        buffer_before_minutes: 0,
        buffer_after_minutes: 0,
        capacity: 1,
    }
}

fn class(capacity: u16) -> Measure {
    Measure { capacity, ..haircut() }
}

fn other(measure: Measure) -> Measure {
    Measure { service: mint().id::<ServiceId>(RoutingSlot::from_bits(3), 1), ..measure }
}

fn taking(n: u32, time: &str, measure: Measure) -> Taking {
    Taking {
        provider: provider(),
        day: "2026-03-03".parse().unwrap(),
        appointment: appointment(n),
        slot: measure.slot_at(instant(&format!("2026-03-03T{time}:00Z"))),
        measure,
        hold: None,
    }
}

fn taken(n: u32, time: &str, measure: Measure) -> AgendaEvent {
    let Taking { provider, day, appointment, slot, measure, hold } = taking(n, time, measure);
    AgendaEvent::SlotTaken {
        provider,
        day,
        appointment,
        slot,
        span: measure.buffered(slot),
        service: measure.service,
        capacity: measure.capacity,
        hold,
    }
}

fn freed(n: u32) -> AgendaEvent {
    AgendaEvent::SlotFreed {
        provider: provider(),
        day: "2026-03-03".parse().unwrap(),
        appointment: appointment(n),
    }
}

fn when(given: &[AgendaEvent], command: AgendaCommand) -> Result<Vec<AgendaEvent>, Refusal> {
    TestFramework::<Agenda>::with(Context { now: instant("2026-03-02T10:00:00Z") })
        .given(given.to_vec())
        .when(command)
        .inspect_result()
}

fn take(
    given: &[AgendaEvent],
    n: u32,
    time: &str,
    measure: Measure,
) -> Result<Vec<AgendaEvent>, Refusal> {
    when(given, AgendaCommand::TakeSlot(taking(n, time, measure)))
}

fn moves(
    given: &[AgendaEvent],
    n: u32,
    time: &str,
    measure: Measure,
) -> Result<Vec<AgendaEvent>, Refusal> {
    when(given, AgendaCommand::MoveSlot(taking(n, time, measure)))
}

fn full() -> Result<Vec<AgendaEvent>, Refusal> {
    Err(Refusal::SlotTaken { alternatives: Vec::new() })
}

fn no_seat() -> Result<Vec<AgendaEvent>, Refusal> {
    Err(Refusal::GroupFull { alternatives: Vec::new() })
}

#[test]
fn a_free_slot_is_taken_and_one_that_intersects_it_is_not() {
    let day = [taken(1, "10:00", haircut())];
    for (time, free) in [
        ("08:30", true),
        ("09:00", true),
        ("09:01", false),
        ("10:00", false),
        ("10:30", false),
        ("10:59", false),
        ("11:00", true),
    ] {
        let expected = if free { Ok(vec![taken(2, time, haircut())]) } else { full() };
        assert_eq!(take(&day, 2, time, haircut()), expected, "{time}");
        assert_eq!(take(&day, 2, time, other(haircut())).is_ok(), free, "{time}, other service");
    }
}

#[test]
fn taking_what_one_already_holds_adds_nothing() {
    let day = [taken(1, "10:00", haircut())];
    assert_eq!(take(&day, 1, "10:00", haircut()), Ok(vec![]));
}

#[test]
fn both_sides_buffers_are_kept_free() {
    let buffered = Measure { buffer_before_minutes: 10, buffer_after_minutes: 15, ..haircut() };
    let day = [taken(1, "10:00", buffered)];
    assert_eq!(take(&day, 2, "11:20", buffered), full(), "15 after and 10 before do not fit");
    assert!(take(&day, 2, "11:25", buffered).is_ok());
    assert_eq!(take(&day, 2, "11:14", haircut()), full());
    assert!(take(&day, 2, "11:15", haircut()).is_ok());
    assert_eq!(take(&day, 2, "08:51", haircut()), full());
    assert!(take(&day, 2, "08:50", haircut()).is_ok());
}

#[test]
fn a_group_has_as_many_seats_as_its_capacity_and_a_freed_one_is_taken_again() {
    let mut day = Vec::new();
    for n in 1..=3 {
        let events = take(&day, n, "10:00", class(3)).unwrap();
        assert_eq!(events, [taken(n, "10:00", class(3))]);
        day.extend(events);
    }
    assert_eq!(take(&day, 4, "10:00", class(3)), no_seat());
    day.push(freed(2));
    assert!(take(&day, 4, "10:00", class(3)).is_ok());
}

#[test]
fn a_group_is_joined_only_at_its_start_and_only_for_its_service() {
    let day = [taken(1, "10:00", class(3))];
    assert_eq!(take(&day, 2, "10:30", class(3)), full());
    assert_eq!(take(&day, 2, "10:00", other(class(3))), full());
}

#[test]
fn who_booked_alone_stays_alone_when_the_service_becomes_a_group() {
    let day = [taken(1, "10:00", class(1))];
    assert_eq!(take(&day, 2, "10:00", class(3)), full());
}

#[test]
fn who_books_alone_does_not_join_a_group_booked_before_the_change() {
    let day = [taken(1, "10:00", class(3))];
    assert_eq!(take(&day, 2, "10:00", class(1)), full());
}

#[test]
fn the_smallest_group_anybody_booked_counts_for_all_that_come_later() {
    let mut day = vec![taken(1, "10:00", class(5))];
    day.extend(take(&day, 2, "10:00", class(2)).unwrap());
    assert_eq!(take(&day, 3, "10:00", class(5)), no_seat());
}

#[test]
fn a_service_that_became_longer_joins_no_shorter_slot_and_guards_its_own_end() {
    let (short, long) = (class(3), Measure { duration_minutes: 90, ..class(3) });
    assert_eq!(take(&[taken(1, "10:00", short)], 2, "10:00", long), full());
    assert_eq!(take(&[taken(1, "10:00", long)], 2, "10:00", short), full());
    let buffered = Measure { buffer_after_minutes: 30, ..short };
    assert_eq!(take(&[taken(1, "10:00", short)], 2, "10:00", buffered), full());
}

#[test]
fn freeing_what_one_does_not_hold_adds_nothing() {
    let free = |n| AgendaCommand::FreeSlot {
        provider: provider(),
        day: "2026-03-03".parse().unwrap(),
        appointment: appointment(n),
    };
    let day = [taken(1, "10:00", haircut())];
    assert_eq!(when(&day, free(1)), Ok(vec![freed(1)]));
    assert_eq!(when(&day, free(2)), Ok(vec![]));
    assert_eq!(when(&[day[0].clone(), freed(1)], free(1)), Ok(vec![]));
}

#[test]
fn one_may_move_over_ones_own_time_but_not_over_others() {
    let day = [taken(1, "10:00", haircut()), taken(2, "11:30", haircut())];
    assert_eq!(
        moves(&day, 1, "10:30", haircut()),
        Ok(vec![freed(1), taken(1, "10:30", haircut())])
    );
    assert_eq!(moves(&day, 1, "11:00", haircut()), full());
}

#[test]
fn moving_into_a_day_where_one_holds_nothing_only_takes() {
    assert_eq!(moves(&[], 1, "10:00", haircut()), Ok(vec![taken(1, "10:00", haircut())]));
}

#[test]
fn the_last_of_a_group_may_move_over_it_and_one_of_several_may_not() {
    let alone = [taken(1, "10:00", class(3))];
    assert!(moves(&alone, 1, "10:30", class(3)).is_ok());
    let together = [taken(1, "10:00", class(3)), taken(2, "10:00", class(3))];
    assert_eq!(moves(&together, 1, "10:30", class(3)), full());
    // Into the seat one leaves: it is free for the one who leaves it.
    let both = [taken(1, "10:00", class(2)), taken(2, "10:00", class(2))];
    assert!(moves(&both, 1, "10:00", class(2)).is_ok());
}

#[test]
fn an_agenda_of_two_hundred_bookings_folds_and_frees_to_nothing() {
    let mut agenda = Agenda::default();
    for n in 0..200 {
        let time = format!("{:02}:{:02}", n / 60, n % 60);
        let minute = Measure { duration_minutes: 1, ..haircut() };
        agenda.evolve(&taken(n, &time, minute));
    }
    assert_eq!((agenda.occupations.len(), agenda.taken().len()), (200, 200));
    (0..200).for_each(|n| agenda.evolve(&freed(n)));
    assert_eq!(agenda, Agenda::default());
}
