//! Commands: decided, decided again, answered again.

use std::sync::Arc;

use domain::Refusal;
use domain::account::{AccountEvent, RequestPasswordReset, ResetKey};
use domain::actor::Actor;
use domain::aggregate::StreamKind;
use domain::appointment::{CancelAppointment, ConfirmAppointment, RescheduleAppointment};
use domain::event::Event;
use domain::ids::Id as _;
use domain::notification_feed::MarkAllNotificationsRead;
use event_log::testing::{FrozenClock, options};
use event_log::{Clock as _, ExecuteError, Executor, Origin};
use futures_util::future::join_all;

use crate::common::*;

on_1_and_7_partitions! {
    async fn a_shop_opens_and_a_client_books(database, partitions) {
        let executor = Executor::new(database.log(partitions).await);
        let log = executor.log();
        let (bia, ana) = (person(&executor, "bia").await, person(&executor, "ana").await);
        let shop = shop(&executor, &bia, "salao").await;
        let booked = executor.execute(booking(log, shop.provider, 10), origin(&ana)).await.unwrap();
        assert!(!booked.replayed);
        let appointment = booked.outcome.appointment;
        assert_eq!(booked.versions.len(), 2);
        let stored = log.load::<domain::appointment::Appointment>(appointment).await.unwrap();
        let terms = &stored.state.booking.as_ref().unwrap().terms;
        assert_eq!(terms.contact.known().unwrap().name.as_str(), "ana");
        let last = stored.last.unwrap();
        assert_eq!(booked.positions.number(last.partition), last.number);
        // Its events say who, by what command, and from which request.
        let all = everything(log).await;
        let event = all.iter().find(|r| r.stream.kind == StreamKind::Appointment).unwrap();
        assert_eq!(event.metadata.operation, "BookAppointment");
        assert_eq!(event.metadata.actor, ana.label());
        assert_eq!((event.metadata.trace.as_str(), event.metadata.roles.as_str()), ("trace-1", "client"));
        let same = all.iter().filter(|r| r.metadata.command == event.metadata.command);
        assert_eq!(same.count(), 2, "the agenda's and the appointment's");
    }

    async fn a_retry_is_answered_from_the_log_even_when_it_would_now_be_refused(database, partitions) {
        let executor = Executor::new(database.log(partitions).await);
        let log = executor.log();
        let (bia, ana) = (person(&executor, "bia").await, person(&executor, "ana").await);
        let shop = shop(&executor, &bia, "salao").await;
        let book = || booking(log, shop.provider, 10);
        let first = executor.execute(book(), with_key(&ana, "k1", 1)).await.unwrap();
        let events = everything(log).await;

        // Without the key the slot is taken, by oneself.
        let refused = executor.execute(book(), origin(&ana)).await;
        let Err(ExecuteError::Refused(Refusal::SlotTaken { alternatives })) = refused else { panic!() };
        assert_eq!(alternatives.len(), 5);
        // With it: here, where all is hot; on another server; and on one that remembers nothing.
        let mut cold = options(partitions);
        cold.hot_aggregates = 0;
        let others = [
            Executor::new(database.log(partitions).await),
            Executor::new(database.log_with(Arc::new(event_log::SystemClock), cold).await),
        ];
        for executor in [&executor, &executor, &others[0], &others[0], &others[1]] {
            let again = executor.execute(book(), with_key(&ana, "k1", 1)).await.unwrap();
            assert!(again.replayed);
            assert_eq!(again.outcome.appointment, first.outcome.appointment);
            assert_eq!((again.positions, again.versions), (first.positions.clone(), first.versions.clone()));
        }
        // Another body, another person, another key.
        let reused = executor.execute(book(), with_key(&ana, "k1", 2)).await;
        assert!(matches!(reused, Err(ExecuteError::KeyReused)), "{reused:?}");
        let carla = person(&executor, "carla").await;
        for (who, key) in [(&carla, "k1"), (&ana, "k2")] {
            let refused = executor.execute(book(), with_key(who, key, 1)).await;
            assert!(matches!(refused, Err(ExecuteError::Refused(Refusal::SlotTaken { .. }))));
        }
        let after = everything(log).await;
        assert_eq!(after.iter().filter(|r| of_agenda(r)).count(), events.iter().filter(|r| of_agenda(r)).count());
    }

    async fn a_retry_of_what_has_been_undone_since_is_still_the_first_answer(database, partitions) {
        let executor = Executor::new(database.log(partitions).await);
        let log = executor.log();
        let (bia, ana) = (person(&executor, "bia").await, person(&executor, "ana").await);
        let shop = shop(&executor, &bia, "salao").await;
        let book = || booking(log, shop.provider, 10);
        let first = executor.execute(book(), with_key(&ana, "k1", 1)).await.unwrap();
        let appointment = first.outcome.appointment;
        executor.execute(CancelAppointment { appointment, reason: None }, origin(&ana)).await.unwrap();
        // The slot is free again, and yet the retry books nothing.
        let again = executor.execute(book(), with_key(&ana, "k1", 1)).await.unwrap();
        assert!(again.replayed);
        assert_eq!(again.outcome.appointment, appointment);
    }

    async fn what_is_already_true_adds_no_event_and_its_answer_is_kept(database, partitions) {
        let executor = Executor::new(database.log(partitions).await);
        let log = executor.log();
        let (bia, ana) = (person(&executor, "bia").await, person(&executor, "ana").await);
        let shop = shop(&executor, &bia, "salao").await;
        let booked = executor.execute(booking(log, shop.provider, 10), origin(&ana)).await.unwrap();
        let confirm = || ConfirmAppointment { appointment: booked.outcome.appointment };
        let first = executor.execute(confirm(), with_key(&bia, "k1", 1)).await.unwrap();
        assert!(!first.positions.is_empty());
        let events = everything(log).await;
        for key in ["k2", "k2"] {
            let again = executor.execute(confirm(), with_key(&bia, key, 1)).await.unwrap();
            assert!(again.positions.is_empty());
            assert!(again.versions.values().any(|version| *version == 2));
        }
        assert!(executor.execute(confirm(), with_key(&bia, "k2", 1)).await.unwrap().replayed);
        let without = executor.execute(confirm(), origin(&bia)).await.unwrap();
        assert!(without.positions.is_empty() && !without.replayed);
        assert_eq!(everything(log).await, events);
    }

    async fn no_refusal_is_answered_from_memory(database, partitions) {
        // Two servers: what the first holds hot, the second changes.
        let here = Executor::new(database.log(partitions).await);
        let there = Executor::new(database.log(partitions).await);
        let (bia, ana) = (person(&here, "bia").await, person(&here, "ana").await);
        let shop = shop(&here, &bia, "salao").await;
        let book = || booking(here.log(), shop.provider, 10);
        let first = here.execute(book(), origin(&ana)).await.unwrap();
        let appointment = first.outcome.appointment;
        there.execute(CancelAppointment { appointment, reason: None }, origin(&ana)).await.unwrap();
        // In memory the slot is taken still; in the log it is free.
        here.execute(book(), origin(&ana)).await.unwrap();
        // In memory it is confirmed by nobody; the empty outcome is not answered from memory either.
        let confirm = || ConfirmAppointment { appointment };
        let refused = here.execute(confirm(), origin(&bia)).await;
        assert!(matches!(refused, Err(ExecuteError::Refused(Refusal::WrongStatus { .. }))), "{refused:?}");
    }

    async fn of_64_who_want_one_slot_one_gets_it_on_two_servers(database, partitions) {
        let executors = [
            Executor::new(database.log(partitions).await),
            Executor::new(database.log(partitions).await),
        ];
        let bia = person(&executors[0], "bia").await;
        let shop = shop(&executors[0], &bia, "salao").await;
        let mut people = Vec::new();
        for n in 0..8 {
            people.push(person(&executors[n % 2], &format!("client{n}")).await);
        }
        let wanted = (0..64).map(|n| {
            let (executor, who) = (executors[n % 2].clone(), people[n % 8].clone());
            let book = booking(executor.log(), shop.provider, 10 + (n as i64 / 32));
            tokio::spawn(async move { executor.execute(book, origin(&who)).await })
        });
        let (mut got, mut taken) = (0, 0);
        for one in join_all(wanted).await {
            match one.unwrap() {
                Ok(_) => got += 1,
                Err(ExecuteError::Refused(Refusal::SlotTaken { .. })) => taken += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!((got, taken), (2, 62));
    }

    async fn the_same_booking_64_times_at_once_is_one_booking_and_64_equal_answers(database, partitions) {
        let executors = [
            Executor::new(database.log(partitions).await),
            Executor::new(database.log(partitions).await),
        ];
        let (bia, ana) = (person(&executors[0], "bia").await, person(&executors[1], "ana").await);
        let shop = shop(&executors[0], &bia, "salao").await;
        let answers = join_all((0..64).map(|n| {
            let (executor, ana) = (executors[n % 2].clone(), ana.clone());
            let book = booking(executor.log(), shop.provider, 10);
            tokio::spawn(async move { executor.execute(book, with_key(&ana, "k", 1)).await.unwrap() })
        }))
        .await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.iter().filter(|a| !a.replayed).count(), 1);
        assert!(answers.iter().all(|a| a.outcome.appointment == answers[0].outcome.appointment));
        assert!(answers.iter().all(|a| (&a.positions, &a.versions) == (&answers[0].positions, &answers[0].versions)));
        let booked = everything(executors[0].log()).await;
        assert_eq!(booked.iter().filter(|r| of_agenda(r)).count(), 1);
    }

    async fn a_decisions_now_is_never_before_what_it_read(database, partitions) {
        let clock = Arc::new(FrozenClock::at_text("2026-03-01T12:00:00Z"));
        let executor = Executor::new(database.log_with(clock.clone(), options(partitions)).await);
        let ana = person(&executor, "ana").await;
        let then = clock.now();
        clock.advance(chrono::TimeDelta::hours(-5));
        let email = "ana@example.com".parse().unwrap();
        let forgot = RequestPasswordReset { email, key: ResetKey::new([1; 32]) };
        executor.execute(forgot, origin(&Actor::Anonymous)).await.unwrap();
        let events = everything(executor.log()).await;
        let asked = events.iter().find(|r| r.stream.id == ana.account().unwrap().uuid() && r.sequence == 3).unwrap();
        let Event::Account(AccountEvent::PasswordResetRequested { expires_at, .. }) = &asked.event else { panic!() };
        let hours = chrono::TimeDelta::hours(RequestPasswordReset::HOURS);
        assert_eq!((*expires_at - hours, asked.recorded_at), (then, then));
    }

    async fn who_names_a_version_changes_that_one_or_nothing(database, partitions) {
        let executor = Executor::new(database.log(partitions).await);
        let (bia, ana) = (person(&executor, "bia").await, person(&executor, "ana").await);
        let shop = shop(&executor, &bia, "salao").await;
        let booked = executor.execute(booking(executor.log(), shop.provider, 10), origin(&ana)).await.unwrap();
        let appointment = booked.outcome.appointment;
        let at = |who: &Actor, version| Origin { if_match: Some(version), ..with_key(who, "k", 1) };
        let confirm = || ConfirmAppointment { appointment };
        for version in [0, 2] {
            let refused = executor.execute(confirm(), at(&bia, version)).await;
            let Err(ExecuteError::Refused(Refusal::AnotherVersion { current })) = refused else { panic!("{refused:?}") };
            assert_eq!(current, Some(1));
        }
        // Whoever may not know of it does not hear its version.
        let stranger = person(&executor, "eva").await;
        let refused = executor.execute(confirm(), at(&stranger, 2)).await;
        assert!(matches!(refused, Err(ExecuteError::Refused(Refusal::NotFound(_)))), "{refused:?}");
        let done = executor.execute(confirm(), at(&bia, 1)).await.unwrap();
        assert_eq!(done.versions.values().copied().collect::<Vec<_>>(), [2]);
        // The answer was lost: asked again, it is not a conflict with itself. By another server, without anything in memory.
        let other = Executor::new(database.log(partitions).await);
        assert!(other.execute(confirm(), at(&bia, 1)).await.unwrap().replayed);
        // What is so already is at the version it is at, or it is not.
        let again = |version| Origin { if_match: Some(version), ..origin(&bia) };
        assert!(other.execute(confirm(), again(2)).await.unwrap().positions.is_empty());
        assert!(other.execute(confirm(), again(1)).await.is_err());
        // What is no stream is at no version.
        let forgot = RequestPasswordReset { email: "ana@example.com".parse().unwrap(), key: ResetKey::new([1; 32]) };
        let refused = other.execute(forgot, again(1)).await;
        assert!(matches!(refused, Err(ExecuteError::Refused(Refusal::AnotherVersion { current: None }))));
    }

    async fn of_many_who_name_the_same_version_one_changes_it(database, partitions) {
        let executors = [Executor::new(database.log(partitions).await), Executor::new(database.log(partitions).await)];
        let (bia, ana) = (person(&executors[0], "bia").await, person(&executors[0], "ana").await);
        let shop = shop(&executors[0], &bia, "salao").await;
        let booked = executors[0].execute(booking(executors[0].log(), shop.provider, 10), origin(&ana)).await.unwrap();
        let appointment = booked.outcome.appointment;
        let tries = (0..16).map(|n| {
            let start = booking(executors[0].log(), shop.provider, 11 + n % 6).start;
            let origin = Origin { if_match: Some(1), ..origin(&ana) };
            let executor = executors[usize::from(n % 2 == 0)].clone();
            tokio::spawn(async move { executor.execute(RescheduleAppointment { appointment, start }, origin).await })
        });
        let mut moved = 0;
        for tried in join_all(tries).await {
            match tried.unwrap() {
                Ok(_) => moved += 1,
                Err(ExecuteError::Refused(Refusal::AnotherVersion { current: Some(2) })) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(moved, 1);
    }

    async fn an_anonymous_actor_is_refused_and_nothing_is_kept(database, partitions) {
        let executor = Executor::new(database.log(partitions).await);
        let mark = MarkAllNotificationsRead { until: executor.log().recorded_until().await.unwrap() };
        let refused = executor.execute(mark, with_key(&Actor::Anonymous, "k", 1)).await;
        assert!(matches!(refused, Err(ExecuteError::Refused(Refusal::SignInRequired))));
        let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM commands")
            .fetch_one(database.pool())
            .await
            .unwrap();
        assert_eq!(rows, 0);
    }
}
