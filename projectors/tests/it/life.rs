//! Bookings that nobody answers: a worker lets them expire on time, and only then; what races with that; who is told.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::TimeDelta;
use domain::Instant;
use domain::Refusal;
use domain::actor::Actor;
use domain::agenda::{Agenda, AgendaEvent};
use domain::aggregate::StreamId;
use domain::appointment::{
    Appointment, AppointmentEvent, BookAppointment, BookForGuest, CancelAppointment,
    CompleteAppointment, ConfirmAppointment, Contact, ExpireAppointment, MarkNoShow,
    RescheduleAppointment, Status,
};
use domain::command::Command;
use domain::event::Event;
use domain::hours::Policy;
use domain::ids::{AccountId, AgendaId, AppointmentId, ProviderId};
use domain::locale::Locale;
use event_log::testing::{FrozenClock, TestDatabase, master_key, options};
use event_log::{Clock, EventLog, ExecuteError, Executor};
use projectors::jobs::worker::Worker;
use projectors::jobs::{self, expiry};
use projectors::mail::FolderMailer;
use projectors::reactors::JobOrders;
use projectors::read_models::notifications::NotificationsProjector;
use projectors::read_models::read_tables::ReadTables;
use projectors::runner::{Batch, Projector};
use read_models::notifications::{Filter, NotificationFeed, PostgresFeed};
use read_models::paging::PageLimit;
use tokio_util::sync::CancellationToken;

use crate::common::*;

const PONTUAL: Actor = Actor::System("expiry");

fn at(text: &str) -> Instant {
    text.parse().unwrap()
}

/// A shop of Bia's that answers by hand, and its client Ana.
struct Scene {
    database: TestDatabase,
    clock: Arc<FrozenClock>,
    executor: Executor,
    owner: Actor,
    ana: Actor,
    provider: ProviderId,
}

impl Scene {
    async fn new() -> Self {
        let database = TestDatabase::create().await;
        let clock = Arc::new(FrozenClock::at_text("2026-03-02T12:00:00Z"));
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let pool = database.pool().clone();
        let log = EventLog::open(pool, master_key(), shared, options(7)).await.unwrap();
        let executor = Executor::new(log);
        let (owner, ana) = (person(&executor, "Bia").await, person(&executor, "Ana").await);
        let policy = Policy { guests: true, ..Policy::classic() };
        let provider = shop(&executor, &owner, "bia", Some(policy)).await.provider;
        Self { database, clock, executor, owner, ana, provider }
    }

    fn log(&self) -> &EventLog {
        self.executor.log()
    }

    async fn does<C: Command>(&self, who: &Actor, command: C) -> Result<C::Outcome, ExecuteError> {
        self.executor.execute(command, origin(who)).await.map(|done| done.outcome)
    }

    fn booking(&self, start: &str) -> BookAppointment {
        BookAppointment {
            provider: self.provider,
            service: None,
            start: at(start),
            notes: None,
            hold: None,
        }
    }

    async fn book(&self, start: &str) -> AppointmentId {
        self.does(&self.ana, self.booking(start)).await.unwrap().appointment
    }

    async fn status(&self, id: AppointmentId) -> Status {
        self.log().load::<Appointment>(id).await.unwrap().state.booking.as_ref().unwrap().status
    }

    /// Applies the whole log, without moving a checkpoint.
    async fn apply(&self, projector: &dyn Projector) {
        for partition in self.log().partitions().all() {
            let events = self.log().tail(partition, 0, 1000).await.unwrap();
            let events = events.iter().filter(|e| projector.document(e).is_some()).collect();
            let batch = Batch { partition, events, checkpoint: None, lease: None };
            projector.apply(&batch).await.unwrap();
        }
    }

    /// A worker that writes mails into a folder.
    fn worker(&self, folder: &std::path::Path) -> Worker {
        Worker {
            log: self.log().clone(),
            mailer: Arc::new(FolderMailer::new(folder)),
            files: http_kit::files::Files::in_memory(),
            eraser: eraser(self.log()),
            public_url: "http://pontual.test".to_owned(),
            concurrency: 1,
        }
    }
}

#[tokio::test]
async fn what_nobody_answers_a_worker_lets_expire_when_its_time_has_come_and_nothing_else() {
    let scene = Scene::new().await;
    let unanswered = scene.book("2026-03-03T13:00:00Z").await;
    let confirmed = scene.book("2026-03-03T14:00:00Z").await;
    let moved = scene.book("2026-03-03T15:00:00Z").await;
    let behind = scene.book("2026-03-03T16:00:00Z").await;
    scene.does(&scene.owner, ConfirmAppointment { appointment: confirmed }).await.unwrap();
    let start = at("2026-03-03T18:00:00Z");
    scene.does(&scene.ana, RescheduleAppointment { appointment: moved, start }).await.unwrap();
    scene.apply(&ReadTables::new(scene.log().clone())).await;
    // The table has not heard of it yet.
    scene.does(&scene.owner, ConfirmAppointment { appointment: behind }).await.unwrap();
    scene.apply(&JobOrders::new(scene.log().clone())).await;
    let jobs = jobs::list(scene.log().pool(), false, 100).await.unwrap();
    // The one that moved gave its first slot back.
    let others = ["ConfirmEmailMail", "OfferFreedSlot"];
    assert!(jobs.iter().all(|job| others.contains(&job.kind.as_str())), "{jobs:?}");

    let sweep = async |now: &str| {
        scene.clock.set(at(now));
        let mut failing = HashSet::new();
        // Several workers at once.
        let (mut one, mut other) = (HashSet::new(), HashSet::new());
        let done = tokio::join!(
            expiry::sweep(&scene.executor, &mut one),
            expiry::sweep(&scene.executor, &mut other),
            expiry::sweep(&scene.executor, &mut failing),
        );
        assert!(done.0.is_ok() && done.1.is_ok() && done.2.is_ok());
        assert!(failing.is_empty() && one.is_empty() && other.is_empty());
    };
    sweep("2026-03-03T12:59:59Z").await;
    assert_eq!(scene.status(unanswered).await, Status::Pending);
    // A worker does it as soon as it starts.
    scene.clock.set(at("2026-03-03T13:00:00Z"));
    let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let running = tokio::spawn(scene.worker(folder.path()).run(stop.clone()));
    until("it expires", async || scene.status(unanswered).await == Status::Expired).await;
    stop.cancel();
    running.await.unwrap();

    sweep("2026-03-03T17:59:59Z").await;
    assert_eq!(scene.status(confirmed).await, Status::Confirmed);
    assert_eq!(scene.status(behind).await, Status::Confirmed, "the aggregate decides");
    assert_eq!(scene.status(moved).await, Status::Pending, "its new time has not come");
    sweep("2026-03-03T18:00:00Z").await;
    assert_eq!(scene.status(moved).await, Status::Expired);
    let expired = scene.log().stream(StreamId::of::<Appointment>(moved), 0, 100).await.unwrap();
    assert_eq!(expired.len(), 3, "once");
}

#[tokio::test]
async fn an_appointment_whose_command_fails_is_remembered_and_tried_again() {
    let scene = Scene::new().await;
    let (first, second) =
        (scene.book("2026-03-03T13:00:00Z").await, scene.book("2026-03-03T14:00:00Z").await);
    scene.apply(&ReadTables::new(scene.log().clone())).await;
    // A row of an appointment that the log does not know.
    let lost =
        "UPDATE appointments SET id = overlay(id::text placing 'dead' from 1)::uuid WHERE id = $1";
    sqlx::query(lost).bind(uuid::Uuid::from(first)).execute(scene.database.pool()).await.unwrap();
    scene.clock.set(at("2026-03-03T15:00:00Z"));
    let mut failing = HashSet::new();
    for _ in 0..2 {
        expiry::sweep(&scene.executor, &mut failing).await.unwrap();
        assert_eq!(failing.len(), 1, "the other is not held up");
        assert_eq!(scene.status(second).await, Status::Expired);
    }
    let gone = "DELETE FROM appointments WHERE id <> $1";
    sqlx::query(gone).bind(uuid::Uuid::from(second)).execute(scene.database.pool()).await.unwrap();
    expiry::sweep(&scene.executor, &mut failing).await.unwrap();
    assert!(failing.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_an_answer_and_an_expiry_at_once_just_one_happens_and_the_slot_goes_with_the_expiry() {
    let scene = Scene::new().await;
    for day in 3..15 {
        let (start, before) =
            (format!("2026-03-{day:02}T13:00:00Z"), format!("2026-03-{day:02}T12:59:59Z"));
        let appointment = scene.book(&start).await;
        scene.clock.set(at(&before));
        let answer = spawn(&scene, &scene.owner, ConfirmAppointment { appointment });
        if day % 2 == 0 {
            tokio::task::yield_now().await;
        }
        scene.clock.set(at(&start));
        let expire = spawn(&scene, &PONTUAL, ExpireAppointment { appointment });
        let (answer, expire) = (answer.await.unwrap(), expire.await.unwrap().unwrap());
        let (kept, freed) = ends(&scene, appointment, &start).await;
        match answer {
            Ok(_) => assert_eq!((expire, kept, freed), (Status::Confirmed, "confirmed", 0)),
            Err(ExecuteError::Refused(refusal)) => {
                let late = Refusal::WrongStatus { status: "expired", wanted: "confirmed" };
                assert_eq!((refusal, expire, kept, freed), (late, Status::Expired, "expired", 1));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_cancellation_and_an_expiry_at_once_just_one_happens_and_the_slot_is_freed_once() {
    let scene = Scene::new().await;
    for day in 3..15 {
        let (start, before) =
            (format!("2026-03-{day:02}T13:00:00Z"), format!("2026-03-{day:02}T12:59:59Z"));
        let appointment = scene.book(&start).await;
        scene.clock.set(at(&before));
        let cancel = CancelAppointment { appointment, reason: None };
        let cancel = spawn(&scene, &scene.owner, cancel);
        if day % 2 == 0 {
            tokio::task::yield_now().await;
        }
        scene.clock.set(at(&start));
        let expire = spawn(&scene, &PONTUAL, ExpireAppointment { appointment });
        let (cancel, expire) = (cancel.await.unwrap(), expire.await.unwrap().unwrap());
        let (kept, freed) = ends(&scene, appointment, &start).await;
        match cancel {
            Ok(_) => assert_eq!((expire, kept, freed), (Status::Cancelled, "cancelled", 1)),
            Err(ExecuteError::Refused(refusal)) => {
                let late = Refusal::WrongStatus { status: "expired", wanted: "cancelled" };
                assert_eq!((refusal, expire, kept, freed), (late, Status::Expired, "expired", 1));
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Runs a command about an appointment on its own; where it stands afterwards.
fn spawn<C: Command<Outcome = domain::appointment::AppointmentStands> + 'static>(
    scene: &Scene,
    who: &Actor,
    command: C,
) -> tokio::task::JoinHandle<Result<Status, ExecuteError>> {
    let (executor, origin) = (scene.executor.clone(), origin(who));
    tokio::spawn(async move { Ok(executor.execute(command, origin).await?.outcome.status) })
}

/// What happened to an appointment after it was booked: one thing; and how often its slot was freed.
async fn ends(scene: &Scene, appointment: AppointmentId, start: &str) -> (&'static str, usize) {
    let history = scene.log().stream(StreamId::of::<Appointment>(appointment), 0, 100).await;
    let history = history.unwrap();
    let [_, last] = history.as_slice() else { panic!("{} events", history.len()) };
    let Event::Appointment(last) = &last.event else { panic!("{last:?}") };
    let what = match last {
        AppointmentEvent::AppointmentConfirmed { .. } => "confirmed",
        AppointmentEvent::AppointmentCancelled { .. } => "cancelled",
        AppointmentEvent::AppointmentExpired { .. } => "expired",
        AppointmentEvent::AppointmentBooked { .. }
        | AppointmentEvent::AppointmentDeclined { .. }
        | AppointmentEvent::AppointmentRescheduled { .. }
        | AppointmentEvent::AppointmentCompleted { .. }
        | AppointmentEvent::AppointmentMissed { .. }
        | AppointmentEvent::AppointmentNoted { .. }
        | AppointmentEvent::GuestErased { .. } => panic!("{last:?}"),
    };
    let agenda = AgendaId::of(scene.provider, at(start).date_naive());
    let agenda = scene.log().stream(StreamId::of::<Agenda>(agenda), 0, 100).await.unwrap();
    let freed = |event: &Event| matches!(event, Event::Agenda(AgendaEvent::SlotFreed { .. }));
    (what, agenda.iter().filter(|recorded| freed(&recorded.event)).count())
}

#[tokio::test]
async fn both_sides_hear_that_a_booking_expired_and_the_client_alone_whether_they_came() {
    let scene = Scene::new().await;
    scene.book("2026-03-03T13:00:00Z").await;
    let (came, missed) =
        (scene.book("2026-03-03T14:00:00Z").await, scene.book("2026-03-03T15:00:00Z").await);
    for appointment in [came, missed] {
        scene.does(&scene.owner, ConfirmAppointment { appointment }).await.unwrap();
    }
    scene.apply(&ReadTables::new(scene.log().clone())).await;
    scene.clock.set(at("2026-03-03T16:00:00Z"));
    expiry::sweep(&scene.executor, &mut HashSet::new()).await.unwrap();
    scene.clock.advance(TimeDelta::minutes(1));
    scene.does(&scene.owner, CompleteAppointment { appointment: came }).await.unwrap();
    scene.clock.advance(TimeDelta::minutes(1));
    scene.does(&scene.owner, MarkNoShow { appointment: missed }).await.unwrap();

    let partitions = scene.log().partitions();
    let feed: Arc<dyn NotificationFeed> =
        Arc::new(PostgresFeed::new(scene.log().pool().clone(), partitions));
    scene.apply(&NotificationsProjector::new(scene.log().clone(), feed.clone(), None)).await;
    let told = async |who: &Actor| -> Vec<String> {
        let account: AccountId = who.account().unwrap();
        let limit = PageLimit::new(100).unwrap();
        let page = feed.list(account, Filter::All, None, limit).await.unwrap();
        let line = |n: &read_models::notifications::Notification| {
            let other = n.content.other_name.as_ref().map_or("", |name| name.as_str());
            format!("{} {other} {}", n.content.kind.as_str(), n.content.start.format("%H:%M"))
        };
        page.items.iter().map(line).collect()
    };
    let later = |lines: Vec<String>| -> Vec<String> {
        lines
            .into_iter()
            .filter(|line| !line.contains("new_booking") && !line.contains("confirmed"))
            .collect()
    };
    assert_eq!(
        later(told(&scene.ana).await),
        ["booking_missed bia 15:00", "booking_completed bia 14:00", "booking_expired bia 13:00"]
    );
    assert_eq!(later(told(&scene.owner).await), ["booking_expired Ana 13:00"]);
}

#[tokio::test]
async fn a_guest_is_told_in_their_language_that_their_booking_expired() {
    let scene = Scene::new().await;
    for (start, locale) in
        [("2026-03-03T13:00:00Z", Locale::PtBr), ("2026-03-03T14:00:00Z", Locale::En)]
    {
        let contact = Contact {
            name: "Gil".parse().unwrap(),
            email: "gil@example.com".parse().unwrap(),
            phone: None,
        };
        let booking = BookForGuest { booking: scene.booking(start), contact, locale };
        scene.does(&Actor::Anonymous, booking).await.unwrap();
    }
    scene.apply(&ReadTables::new(scene.log().clone())).await;
    scene.clock.set(at("2026-03-03T14:00:00Z"));
    expiry::sweep(&scene.executor, &mut HashSet::new()).await.unwrap();
    scene.apply(&JobOrders::new(scene.log().clone())).await;

    let (folder, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
    let running = tokio::spawn(scene.worker(folder.path()).run(stop.clone()));
    let subjects = || {
        let files = std::fs::read_dir(folder.path()).into_iter().flatten().flatten();
        let text =
            |file: std::fs::DirEntry| std::fs::read_to_string(file.path()).unwrap_or_default();
        files.map(text).collect::<Vec<_>>().concat()
    };
    for subject in
        ["Subject: Seu pedido de agendamento expirou", "Subject: Your booking request expired"]
    {
        until(subject, async || subjects().contains(subject)).await;
    }
    stop.cancel();
    running.await.unwrap();
}
