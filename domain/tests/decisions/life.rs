//! The life of an appointment: unanswered, taken place, missed; and what each side notes of it.

use domain::Refusal;
use domain::actor::Actor;
use domain::aggregate::StreamId;
use domain::appointment::{
    Appointment, AppointmentEvent, AppointmentStands, CancelAppointment, CompleteAppointment,
    ConfirmAppointment, DeclineAppointment, ExpireAppointment, MarkNoShow, NOTE_CHANGES,
    NoteAppointment, RescheduleAppointment, Side, Status,
};
use domain::command::Command;
use domain::event::Event;
use domain::ids::AppointmentId;
use domain::provider::OpenProvider;
use domain::text::Note;

use crate::world::{Done, Shop, World, classic, instant, policy};

const PONTUAL: Actor = Actor::System("expiry");

struct Scene {
    world: World,
    shop: Shop,
    ana: Actor,
    id: AppointmentId,
}

/// Ana's appointment on Tuesday at 10:00 in São Paulo, an hour long, which waits for the provider.
fn scene(open: OpenProvider) -> Scene {
    let mut world = World::new();
    let (shop, ana) = (world.shop(open), world.person("ana"));
    let id = world.book(&ana, &shop, "2026-03-03T13:00:00Z").unwrap().outcome.appointment;
    Scene { world, shop, ana, id }
}

/// The same, confirmed.
fn confirmed() -> Scene {
    let mut scene = scene(classic());
    let (owner, appointment) = (scene.shop.owner.clone(), scene.id);
    scene.world.run(&owner, &ConfirmAppointment { appointment }).unwrap();
    scene
}

fn answers_within(minutes: u32) -> OpenProvider {
    OpenProvider { policy: policy(|p| p.answer_within_minutes = Some(minutes)), ..classic() }
}

impl Scene {
    fn at(&mut self, now: &str) -> &mut Self {
        self.world.now = instant(now);
        self
    }

    fn owner<C: Command>(&mut self, command: &C) -> Result<Done<C::Outcome>, Refusal> {
        let owner = self.shop.owner.clone();
        self.world.run(&owner, command)
    }

    fn client<C: Command>(&mut self, command: &C) -> Result<Done<C::Outcome>, Refusal> {
        let ana = self.ana.clone();
        self.world.run(&ana, command)
    }

    fn expire(&mut self) -> Done<AppointmentStands> {
        self.world.run(&PONTUAL, &ExpireAppointment { appointment: self.id }).unwrap()
    }

    fn complete(&mut self) -> Result<Done<AppointmentStands>, Refusal> {
        self.owner(&CompleteAppointment { appointment: self.id })
    }

    fn miss(&mut self) -> Result<Done<AppointmentStands>, Refusal> {
        self.owner(&MarkNoShow { appointment: self.id })
    }

    fn status(&self) -> Status {
        self.world.appointment(self.id).status
    }

    fn taken(&self) -> usize {
        self.world.agenda(&self.shop, "2026-03-03").occupations.len()
    }
}

fn wrong(status: &'static str, wanted: &'static str) -> Refusal {
    Refusal::WrongStatus { status, wanted }
}

// ── Unanswered ──────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn what_the_provider_has_not_answered_expires_at_its_start_and_frees_its_slot() {
    let mut scene = scene(classic());
    scene.at("2026-03-03T12:59:59.999999Z");
    let early = scene.expire();
    assert_eq!((early.events.len(), early.outcome.status), (0, Status::Pending));
    let done = scene.at("2026-03-03T13:00:00Z").expire();
    assert_eq!(done.names(), ["AppointmentExpired", "SlotFreed"]);
    assert_eq!((done.outcome.status, scene.status()), (Status::Expired, Status::Expired));
    assert_eq!(scene.taken(), 0);
    let again = scene.expire();
    assert_eq!((again.events.len(), again.outcome.status), (0, Status::Expired));
}

#[test]
fn a_provider_who_promises_an_answer_has_that_long_but_never_beyond_the_start() {
    let due = |scene: &Scene| scene.world.appointment(scene.id).unanswered_until();
    let mut promised = scene(answers_within(60));
    assert_eq!(due(&promised), Some(instant("2026-03-02T11:00:00Z")));
    promised.at("2026-03-02T11:00:00Z").expire();
    assert_eq!((promised.status(), promised.taken()), (Status::Expired, 0));

    let late = scene(answers_within(30 * 24 * 60));
    assert_eq!(due(&late), Some(instant("2026-03-03T13:00:00Z")));

    // A client's move waits for the provider anew.
    let mut moved = scene(answers_within(60));
    moved.at("2026-03-02T10:30:00Z");
    let start = instant("2026-03-03T15:00:00Z");
    moved.client(&RescheduleAppointment { appointment: moved.id, start }).unwrap();
    assert_eq!(due(&moved), Some(instant("2026-03-02T11:30:00Z")));
    assert!(moved.at("2026-03-02T11:00:00Z").expire().events.is_empty(), "as it was");
    assert_eq!(moved.at("2026-03-02T11:30:00Z").expire().events.len(), 2, "as it is");
}

#[test]
fn a_providers_own_move_gives_them_no_longer_to_answer() {
    let due = |scene: &Scene| scene.world.appointment(scene.id).unanswered_until();
    for (open, until) in
        [(answers_within(60), "2026-03-02T11:00:00Z"), (classic(), "2026-03-03T13:00:00Z")]
    {
        let mut scene = scene(open);
        let old = Some(instant(until));
        assert_eq!(due(&scene), old);
        scene.at("2026-03-02T10:30:00Z");
        for start in ["2026-03-04T13:00:00Z", "2026-03-05T13:00:00Z"] {
            let start = instant(start);
            scene.owner(&RescheduleAppointment { appointment: scene.id, start }).unwrap();
            assert_eq!((scene.status(), due(&scene)), (Status::Pending, old));
        }
        assert_eq!(scene.at(until).expire().names(), ["AppointmentExpired", "SlotFreed"]);
    }

    // Never beyond its start.
    let mut earlier = scene(answers_within(28 * 60));
    assert_eq!(due(&earlier), Some(instant("2026-03-03T13:00:00Z")));
    let start = instant("2026-03-03T12:00:00Z");
    earlier.owner(&RescheduleAppointment { appointment: earlier.id, start }).unwrap();
    assert_eq!(due(&earlier), Some(start));
}

#[test]
fn what_was_answered_called_off_or_confirmed_at_once_does_not_expire() {
    let mut confirmed = confirmed();
    assert!(confirmed.at("2026-03-03T14:00:00Z").expire().events.is_empty());
    assert_eq!((confirmed.status(), confirmed.taken()), (Status::Confirmed, 1));
    let mut cancelled = scene(classic());
    cancelled.client(&CancelAppointment { appointment: cancelled.id, reason: None }).unwrap();
    assert!(cancelled.at("2026-03-03T14:00:00Z").expire().events.is_empty());
    assert_eq!(cancelled.status(), Status::Cancelled);
}

#[test]
fn an_answer_that_comes_too_late_is_refused_even_before_anybody_has_said_so() {
    let mut scene = scene(classic());
    scene.at("2026-03-03T13:00:00Z");
    let (id, start) = (scene.id, instant("2026-03-04T13:00:00Z"));
    let refused = scene.owner(&ConfirmAppointment { appointment: id }).unwrap_err();
    assert_eq!(refused, wrong("expired", "confirmed"));
    let refused = scene.owner(&DeclineAppointment { appointment: id, reason: None }).unwrap_err();
    assert_eq!(refused, wrong("expired", "declined"));
    let refused = scene.owner(&RescheduleAppointment { appointment: id, start }).unwrap_err();
    assert_eq!(refused, wrong("expired", "rescheduled"));
    let refused = scene.owner(&CancelAppointment { appointment: id, reason: None }).unwrap_err();
    assert_eq!(refused, wrong("expired", "cancelled"));
}

#[test]
fn only_pontual_lets_an_appointment_expire() {
    let mut scene = scene(classic());
    scene.at("2026-03-03T14:00:00Z");
    let expire = ExpireAppointment { appointment: scene.id };
    assert_eq!(scene.owner(&expire).unwrap_err(), Refusal::Forbidden);
    assert_eq!(scene.client(&expire).unwrap_err(), Refusal::Forbidden);
    let nobody = scene.world.run(&Actor::Anonymous, &expire).unwrap_err();
    assert_eq!(nobody, Refusal::SignInRequired);
}

// ── Taken place, or missed ──────────────────────────────────────────────────────────────────────────────

#[test]
fn an_appointment_is_completed_once_it_has_ended_and_keeps_its_slot() {
    let mut scene = confirmed();
    scene.at("2026-03-03T13:59:59Z");
    let from = instant("2026-03-03T14:00:00Z");
    assert_eq!(scene.complete().unwrap_err(), Refusal::NotYet { from });
    let done = scene.at("2026-03-03T14:00:00Z").complete().unwrap();
    assert_eq!(done.names(), ["AppointmentCompleted"]);
    assert_eq!((done.outcome.status, scene.status()), (Status::Completed, Status::Completed));
    assert_eq!(scene.taken(), 1);
    assert!(scene.complete().unwrap().events.is_empty());
    let (id, start) = (scene.id, instant("2026-03-04T13:00:00Z"));
    let cancel = CancelAppointment { appointment: id, reason: None };
    assert_eq!(scene.owner(&cancel).unwrap_err(), wrong("completed", "cancelled"));
    let again = RescheduleAppointment { appointment: id, start };
    assert_eq!(scene.client(&again).unwrap_err(), wrong("completed", "rescheduled"));
}

#[test]
fn a_client_who_has_not_come_is_a_no_show_from_the_start_on() {
    let mut scene = confirmed();
    scene.at("2026-03-03T12:59:59Z");
    let from = instant("2026-03-03T13:00:00Z");
    assert_eq!(scene.miss().unwrap_err(), Refusal::NotYet { from });
    let done = scene.at("2026-03-03T13:00:00Z").miss().unwrap();
    assert_eq!(done.names(), ["AppointmentMissed"]);
    assert_eq!((done.outcome.status, scene.taken()), (Status::NoShow, 1));
    assert!(scene.miss().unwrap().events.is_empty());
    let from = instant("2026-03-03T14:00:00Z");
    assert_eq!(scene.complete().unwrap_err(), Refusal::NotYet { from }, "she may come yet");
}

#[test]
fn whether_the_client_came_can_be_set_right_for_seven_days_and_back() {
    let mut scene = confirmed();
    scene.at("2026-03-03T14:00:00Z").miss().unwrap();
    scene.at("2026-03-05T14:00:00Z").complete().unwrap();
    scene.at("2026-03-10T13:59:59Z").miss().unwrap();
    scene.at("2026-03-10T14:00:00Z");
    let until = instant("2026-03-10T14:00:00Z");
    assert_eq!(scene.complete().unwrap_err(), Refusal::CorrectionOver { until });
    assert_eq!(scene.status(), Status::NoShow);
    assert!(scene.miss().unwrap().events.is_empty(), "it is so already");
}

#[test]
fn only_the_provider_of_a_confirmed_appointment_says_whether_the_client_came() {
    let mut scene = confirmed();
    scene.at("2026-03-03T15:00:00Z");
    let complete = CompleteAppointment { appointment: scene.id };
    assert_eq!(scene.client(&complete).unwrap_err(), Refusal::Forbidden);
    let carla = scene.world.person("carla");
    let refused = scene.world.run(&carla, &MarkNoShow { appointment: scene.id }).unwrap_err();
    assert_eq!(refused, Refusal::NotFound("appointment"));

    let mut pending = self::scene(classic());
    assert_eq!(pending.miss().unwrap_err(), wrong("pending", "no_show"));
    pending.at("2026-03-03T15:00:00Z");
    assert_eq!(pending.complete().unwrap_err(), wrong("expired", "completed"));
}

#[test]
fn from_its_end_on_nobody_moves_a_confirmed_appointment_or_calls_it_off() {
    let mut scene = confirmed();
    let (id, start) = (scene.id, instant("2026-03-04T13:00:00Z"));
    let cancel = CancelAppointment { appointment: id, reason: None };
    let again = RescheduleAppointment { appointment: id, start };
    let at = instant("2026-03-03T14:00:00Z");
    for now in ["2026-03-03T14:00:00Z", "2026-03-09T14:00:00Z"] {
        scene.at(now);
        assert_eq!(scene.owner(&cancel).unwrap_err(), Refusal::Ended { at });
        assert_eq!(scene.owner(&again).unwrap_err(), Refusal::Ended { at });
        assert_eq!(scene.client(&again).unwrap_err(), Refusal::Ended { at });
    }
    assert_eq!((scene.status(), scene.taken()), (Status::Confirmed, 1));
    assert_eq!(scene.miss().unwrap().outcome.status, Status::NoShow);

    // Until then the provider may.
    let mut scene = confirmed();
    assert_eq!(scene.at("2026-03-03T13:59:59Z").owner(&cancel).unwrap().events.len(), 2);
}

// ── Notes ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn each_side_notes_for_itself_and_the_notes_are_its_own_data() {
    let mut scene = scene(classic());
    let note = |id, text: &str| NoteAppointment {
        appointment: id,
        notes: (!text.is_empty()).then(|| text.parse::<Note>().unwrap()),
    };
    let id = scene.id;
    let done = scene.owner(&note(id, "Chega atrasada")).unwrap();
    assert_eq!((done.names(), done.outcome.status), (vec!["AppointmentNoted"], Status::Pending));
    assert!(scene.owner(&note(id, "Chega atrasada")).unwrap().events.is_empty());
    scene.client(&note(id, "Levar dinheiro")).unwrap();
    let notes = scene.world.appointment(id).private_notes;
    let of = |side| notes.of(side).map(|note| (note.known().unwrap().to_string(), note.subject()));
    let (owner, ana) = (scene.shop.owner.account().unwrap(), scene.ana.account().unwrap());
    assert_eq!(of(Side::Provider), Some(("Chega atrasada".to_owned(), owner.into())));
    assert_eq!(of(Side::Client), Some(("Levar dinheiro".to_owned(), ana.into())));

    // At any time, and away again.
    scene.at("2026-05-03T14:00:00Z").owner(&note(id, "")).unwrap();
    let notes = scene.world.appointment(id).private_notes;
    assert_eq!((notes.provider, notes.client.is_some()), (None, true));
    let carla = scene.world.person("carla");
    let refused = scene.world.run(&carla, &note(id, "x")).unwrap_err();
    assert_eq!(refused, Refusal::NotFound("appointment"));
    assert!(
        !format!("{:?}", scene.world.history(StreamId::of::<Appointment>(id))).contains("Levar")
    );
    assert!(matches!(
        &scene.world.history(StreamId::of::<Appointment>(id))[1],
        Event::Appointment(AppointmentEvent::AppointmentNoted { by: Side::Provider, .. })
    ));
}

#[test]
fn each_side_changes_its_notes_a_hundred_times_and_can_always_take_them_away() {
    let mut scene = scene(classic());
    let id = scene.id;
    let note = |text: Option<String>| NoteAppointment {
        appointment: id,
        notes: text.map(|text| text.parse::<Note>().unwrap()),
    };
    for n in 0..NOTE_CHANGES {
        scene.owner(&note(Some(n.to_string()))).unwrap();
    }
    let full = Refusal::LimitReached { what: "changes of notes", limit: 100 };
    assert_eq!(scene.owner(&note(Some("more".to_owned()))).unwrap_err(), full);
    assert!(scene.owner(&note(Some("99".to_owned()))).unwrap().events.is_empty(), "it is so");
    assert_eq!(scene.owner(&note(None)).unwrap().names(), ["AppointmentNoted"]);
    assert!(scene.owner(&note(None)).unwrap().events.is_empty());
    assert_eq!(scene.owner(&note(Some("more".to_owned()))).unwrap_err(), full);
    assert_eq!(scene.client(&note(Some("mine".to_owned()))).unwrap().events.len(), 1);
}
