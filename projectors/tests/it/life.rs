//! Bookings that nobody answers: the job that each orders lets it expire on time, and only then.

use std::sync::Arc;

use chrono::TimeDelta;
use domain::Instant;
use domain::actor::Actor;
use domain::appointment::{
    Appointment, BookAppointment, ConfirmAppointment, RescheduleAppointment, Status,
};
use domain::ids::{AppointmentId, ProviderId};
use event_log::testing::{FrozenClock, TestDatabase, master_key, options};
use event_log::{Clock, EventLog, Executor};
use projectors::jobs;
use projectors::jobs::worker::Worker;
use projectors::mail::FolderMailer;
use projectors::reactors::JobOrders;
use projectors::runner::{Batch, Projector as _};
use tokio_util::sync::CancellationToken;

use crate::common::*;

fn at(text: &str) -> Instant {
    text.parse().unwrap()
}

async fn book(executor: &Executor, who: &Actor, provider: ProviderId, hour: u8) -> AppointmentId {
    let start = at(&format!("2026-03-03T{hour}:00:00Z"));
    let booking = BookAppointment { provider, service: None, start, notes: None };
    executor.execute(booking, origin(who)).await.unwrap().outcome.appointment
}

/// Orders what all events order.
async fn order_all(log: &EventLog) {
    let reactor = JobOrders::new(log.clone());
    for partition in log.partitions().all() {
        let events = log.tail(partition, 0, 100).await.unwrap();
        let events = events.iter().filter(|e| reactor.document(e).is_some()).collect();
        reactor.apply(&Batch { partition, events, checkpoint: None, lease: None }).await.unwrap();
    }
}

#[tokio::test]
async fn what_nobody_answers_expires_when_its_job_is_due_and_nothing_else_does() {
    let database = TestDatabase::create().await;
    let clock = Arc::new(FrozenClock::at_text("2026-03-02T12:00:00Z"));
    let shared: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
    let pool = database.pool().clone();
    let log = EventLog::open(pool, master_key(), shared, options(7)).await.unwrap();
    let executor = Executor::new(log.clone());
    let (owner, ana) = (person(&executor, "Bia").await, person(&executor, "Ana").await);
    let provider = shop(&executor, &owner, "bia", None).await.provider;
    let unanswered = book(&executor, &ana, provider, 13).await;
    let confirmed = book(&executor, &ana, provider, 14).await;
    let moved = book(&executor, &ana, provider, 15).await;
    let command = ConfirmAppointment { appointment: confirmed };
    executor.execute(command, origin(&owner)).await.unwrap();
    let command = RescheduleAppointment { appointment: moved, start: at("2026-03-03T18:00:00Z") };
    executor.execute(command, origin(&ana)).await.unwrap();
    for _ in 0..2 {
        order_all(&log).await;
    }
    let status = async |id: AppointmentId| {
        log.load::<Appointment>(id).await.unwrap().state.booking.as_ref().unwrap().status
    };
    let due = || async {
        let all = jobs::list(log.pool(), false, 100).await.unwrap();
        let expiries = all.into_iter().filter(|job| job.kind == "ExpireAppointment");
        expiries.map(|job| job.run_at.format("%H:%M").to_string()).collect::<Vec<_>>()
    };
    assert_eq!(due().await, ["13:00", "14:00", "15:00", "18:00"]);

    let folder = tempfile::tempdir().unwrap();
    let stop = CancellationToken::new();
    let worker = Worker {
        log: log.clone(),
        mailer: Arc::new(FolderMailer::new(folder.path())),
        files: http_kit::files::Files::in_memory(),
        eraser: eraser(&log),
        public_url: "http://pontual.test".to_owned(),
        concurrency: 1,
    };
    let running = tokio::spawn(worker.run(stop.clone()));
    clock.set(at("2026-03-03T13:00:00Z"));
    until("it has expired", async || status(unanswered).await == Status::Expired).await;
    clock.set(at("2026-03-03T15:00:00Z") + TimeDelta::minutes(1));
    until("two more jobs are done", async || due().await == ["18:00"]).await;
    assert_eq!(status(confirmed).await, Status::Confirmed);
    assert_eq!(status(moved).await, Status::Pending, "its new time has not come");
    clock.set(at("2026-03-03T18:00:00Z"));
    until("the moved one has expired", async || status(moved).await == Status::Expired).await;
    until("nothing is left to do", async || due().await.is_empty()).await;
    stop.cancel();
    running.await.unwrap();
}
