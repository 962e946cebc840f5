//! Guests: booked by name and address, known by one appointment, let in by its link, and forgotten.

use domain::Refusal;
use domain::actor::Actor;
use domain::aggregate::StreamId;
use domain::appointment::{
    Appointment, AppointmentEvent, AppointmentStands, BookAppointment, BookForGuest,
    CancelAppointment, Client, ConfirmAppointment, Contact, DeclineAppointment, EraseGuest, MOVES,
    Parties, RescheduleAppointment, Side, Status,
};
use domain::command::Command;
use domain::event::Event;
use domain::ids::{AppointmentId, GuestId, Id as _, Mint, RoutingSlot};
use domain::locale::Locale;
use domain::provider::{ChangeProvider, OpenProvider, SetPolicy};
use serde_json::json;

use crate::world::{Done, Shop, World, classic, instant, policy};

const START: &str = "2026-03-03T13:00:00Z";

struct Scene {
    world: World,
    shop: Shop,
}

fn open_to_guests() -> OpenProvider {
    OpenProvider { policy: policy(|p| p.guests = true), ..classic() }
}

fn scene(open: OpenProvider) -> Scene {
    let mut world = World::new();
    let shop = world.shop(open);
    Scene { world, shop }
}

impl Scene {
    fn book(&mut self, actor: &Actor, start: &str) -> Result<Done<AppointmentStands>, Refusal> {
        let notes = Some("Primeira vez".parse().unwrap());
        let (provider, start) = (self.shop.id, instant(start));
        let booking = BookAppointment { provider, service: None, start, notes, hold: None };
        let contact = Contact {
            name: "Gil Guest".parse().unwrap(),
            email: "gil@example.com".parse().unwrap(),
            phone: None,
        };
        self.world.run(actor, &BookForGuest { booking, contact, locale: Locale::En })
    }

    /// A guest who booked, by the link that was mailed to them.
    fn guest(&mut self) -> (Actor, AppointmentId) {
        let done = self.book(&Actor::Anonymous, START).unwrap();
        let appointment = done.outcome.appointment;
        (self.link(appointment), appointment)
    }

    fn link(&self, appointment: AppointmentId) -> Actor {
        let client = self.world.appointment(appointment).terms.client;
        Actor::Guest { id: client.guest().unwrap(), appointment }
    }

    fn owner<C: Command>(&mut self, command: &C) -> Result<Done<C::Outcome>, Refusal> {
        let owner = self.shop.owner.clone();
        self.world.run(&owner, command)
    }
}

fn cancel(appointment: AppointmentId) -> CancelAppointment {
    CancelAppointment { appointment, reason: Some("Imprevisto".parse().unwrap()) }
}

#[test]
fn a_guest_books_where_the_provider_allows_it_and_is_a_subject_of_their_own() {
    let mut scene = scene(open_to_guests());
    let done = scene.book(&Actor::Anonymous, START).unwrap();
    assert_eq!(done.names(), ["AppointmentBooked", "SlotTaken"]);
    assert_eq!(done.outcome.status, Status::Pending);
    assert!(done.events.iter().all(|(stream, _)| stream.slot() == scene.shop.id.slot()));
    let terms = scene.world.appointment(done.outcome.appointment).terms;
    let guest = terms.client.guest().unwrap();
    assert_eq!((terms.client.account(), guest.slot()), (None, scene.shop.id.slot()));
    assert_eq!(terms.contact.subject(), guest.into());
    assert_eq!(terms.client_notes.unwrap().subject(), guest.into());
    assert_eq!(terms.contact.known().unwrap().email.as_str(), "gil@example.com");
    assert_eq!(terms.guest_locale, Some(Locale::En));
    assert_eq!(done.origin_of, Some(guest.into()), "where they came from goes with them");

    let second = scene.book(&Actor::Anonymous, "2026-03-03T14:00:00Z").unwrap().outcome;
    let second = scene.world.appointment(second.appointment).terms.client;
    assert_ne!(second, Client::Guest { guest }, "whether they are the same nobody can tell");
    let taken = scene.book(&Actor::Anonymous, START).unwrap_err();
    assert!(matches!(taken, Refusal::SlotTaken { .. }), "{taken:?}");
}

#[test]
fn without_the_providers_word_only_the_provider_books_for_guests() {
    let mut scene = scene(classic());
    assert_eq!(scene.book(&Actor::Anonymous, START).unwrap_err(), Refusal::SignInRequired);
    let ana = scene.world.person("ana");
    assert_eq!(scene.book(&ana, START).unwrap_err(), Refusal::Forbidden);
    let owner = scene.shop.owner.clone();
    let done = scene.book(&owner, START).unwrap();
    assert_eq!(done.outcome.status, Status::Confirmed, "who books in their own shop has agreed");
    let history = scene.world.history(StreamId::of::<Appointment>(done.outcome.appointment));
    assert!(matches!(
        &history[0],
        Event::Appointment(AppointmentEvent::AppointmentBooked { by: Side::Provider, .. })
    ));
    let new = policy(|p| p.guests = true).unwrap();
    let change = SetPolicy { policy: new };
    scene.owner(&ChangeProvider { provider: scene.shop.id, change }).unwrap();
    assert!(scene.book(&Actor::Anonymous, "2026-03-03T14:00:00Z").is_ok());
    assert_eq!(scene.book(&ana, "2026-03-03T15:00:00Z").unwrap_err(), Refusal::Forbidden);
}

#[test]
fn a_guest_moves_and_cancels_by_their_link_within_the_clients_window() {
    let mut scene = scene(open_to_guests());
    let (gil, id) = scene.guest();
    scene.owner(&ConfirmAppointment { appointment: id }).unwrap();
    let start = instant("2026-03-04T13:00:00Z");
    let moved = scene.world.run(&gil, &RescheduleAppointment { appointment: id, start }).unwrap();
    assert_eq!(moved.outcome.status, Status::Pending, "a client's move waits for the provider");
    scene.world.now = start;
    let late = scene.world.run(&gil, &cancel(id)).unwrap_err();
    assert_eq!(late, Refusal::TooLate { window_minutes: 0 });
    scene.world.now = instant("2026-03-04T12:00:00Z");
    let done = scene.world.run(&gil, &cancel(id)).unwrap();
    assert_eq!(done.names(), ["AppointmentCancelled", "SlotFreed"]);
    let guest = scene.world.appointment(id).terms.client.subject();
    assert!(done.events.iter().any(|(_, event)| matches!(
        event,
        Event::Appointment(AppointmentEvent::AppointmentCancelled { by: Side::Client, reason: Some(reason), .. })
            if reason.subject() == guest
    )));
}

#[test]
fn a_link_is_good_for_its_guest_its_appointment_and_thirty_days_after_its_end() {
    let mut scene = scene(open_to_guests());
    let (gil, id) = scene.guest();
    let other = scene.book(&Actor::Anonymous, "2026-03-03T15:00:00Z").unwrap().outcome.appointment;
    let refused =
        |scene: &mut Scene, actor: &Actor, id| scene.world.run(actor, &cancel(id)).unwrap_err();
    assert_eq!(refused(&mut scene, &gil, other), Refusal::NotFound("appointment"));
    let stranger: GuestId = Mint::new([8; 32]).id(RoutingSlot::from_bits(1), 0);
    let forged = Actor::Guest { id: stranger, appointment: id };
    assert_eq!(refused(&mut scene, &forged, id), Refusal::InvalidLink);
    // Nor is it for what only accounts or the provider may do.
    let confirm = ConfirmAppointment { appointment: id };
    assert_eq!(scene.world.run(&gil, &confirm).unwrap_err(), Refusal::Forbidden);
    let decline = DeclineAppointment { appointment: id, reason: None };
    assert_eq!(scene.world.run(&gil, &decline).unwrap_err(), Refusal::Forbidden);
    let (provider, start) = (scene.shop.id, instant("2026-03-05T13:00:00Z"));
    let book = BookAppointment { provider, service: None, start, notes: None, hold: None };
    assert_eq!(scene.world.run(&gil, &book).unwrap_err(), Refusal::SignInRequired);

    scene.world.now = instant("2026-04-02T13:59:59Z");
    assert_eq!(refused(&mut scene, &gil, id), Refusal::TooLate { window_minutes: 0 });
    scene.world.now = instant("2026-04-02T14:00:00Z");
    assert_eq!(refused(&mut scene, &gil, id), Refusal::InvalidLink);
    assert_eq!(
        scene.world.run(&gil, &EraseGuest { appointment: id }).unwrap_err(),
        Refusal::InvalidLink
    );
}

#[test]
fn a_guest_who_is_erased_is_forgotten_and_what_is_to_come_is_called_off() {
    let mut scene = scene(open_to_guests());
    let (gil, id) = scene.guest();
    let guest = scene.world.appointment(id).terms.client.subject();
    let erase = EraseGuest { appointment: id };
    assert_eq!(scene.owner(&erase).unwrap_err(), Refusal::Forbidden);
    let done = scene.world.run(&gil, &erase).unwrap();
    assert_eq!(done.names(), ["AppointmentCancelled", "GuestErased", "SlotFreed"]);
    assert_eq!(done.outcome.status, Status::Cancelled);
    assert!(scene.world.erased.contains(&guest));
    let booking = scene.world.appointment(id);
    assert_eq!((booking.terms.contact.known(), booking.terms.client_notes), (None, None));
    assert!(scene.world.agenda(&scene.shop, "2026-03-03").occupations.is_empty());
    assert_eq!(scene.world.run(&gil, &erase).unwrap_err(), Refusal::InvalidLink);
    assert_eq!(scene.world.run(&gil, &cancel(id)).unwrap_err(), Refusal::InvalidLink);
}

#[test]
fn what_has_taken_place_stays_when_its_guest_is_erased() {
    let mut scene = scene(classic());
    let owner = scene.shop.owner.clone();
    let id = scene.book(&owner, START).unwrap().outcome.appointment;
    let gil = scene.link(id);
    scene.world.now = instant("2026-03-03T15:00:00Z");
    let done = scene.world.run(&gil, &EraseGuest { appointment: id }).unwrap();
    assert_eq!((done.names(), done.outcome.status), (vec!["GuestErased"], Status::Confirmed));
    assert_eq!(scene.world.agenda(&scene.shop, "2026-03-03").occupations.len(), 1);
}

#[test]
fn an_account_is_written_as_before_there_were_guests() {
    let mint = Mint::new([1; 32]);
    let slot = RoutingSlot::from_bits(1);
    let parties =
        |client| Parties { provider: mint.id(slot, 0), provider_account: mint.id(slot, 0), client };
    let (account, guest) =
        (mint.id::<domain::ids::AccountId>(slot, 1), mint.id::<GuestId>(slot, 1));
    for (client, written) in [
        (Client::Account(account), json!(account)),
        (Client::Guest { guest }, json!({ "guest": guest })),
    ] {
        let value = serde_json::to_value(parties(client)).unwrap();
        assert_eq!(value["client"], written);
        assert_eq!(serde_json::from_value::<Parties>(value).unwrap().client, client);
    }
}

#[test]
fn two_guests_may_choose_the_same_key_and_one_guest_who_tries_again_is_the_same() {
    let scene = scene(open_to_guests());
    let target = |actor: &Actor, email: &str| {
        let (provider, start) = (scene.shop.id, instant(START));
        let booking = BookAppointment { provider, service: None, start, notes: None, hold: None };
        let contact =
            Contact { name: "Gil".parse().unwrap(), email: email.parse().unwrap(), phone: None };
        let command = BookForGuest { booking, contact, locale: Locale::En };
        scene.world.target_of(actor, &command)
    };
    let gil = target(&Actor::Anonymous, "gil@example.com");
    assert_eq!(target(&Actor::Anonymous, "Gil@Example.com"), gil);
    assert_ne!(target(&Actor::Anonymous, "eva@example.com").name, gil.name);
    assert!(!gil.name.contains("gil"), "{}", gil.name);
    assert_eq!(gil.stream, target(&scene.shop.owner, "gil@example.com").stream);
}

#[test]
fn an_appointment_is_not_moved_for_ever() {
    let mut scene = scene(open_to_guests());
    let (guest, appointment) = scene.guest();
    let mut to = |n: u8| {
        let start = instant(if n.is_multiple_of(2) { "2026-03-03T14:00:00Z" } else { START });
        scene.world.run(&guest, &RescheduleAppointment { appointment, start }).map(|_| ())
    };
    for n in 0..MOVES {
        to(n).unwrap();
    }
    let limit = Refusal::LimitReached { what: "moves", limit: MOVES.into() };
    assert_eq!(to(MOVES), Err(limit));
    scene.owner(&ConfirmAppointment { appointment }).unwrap();
}
