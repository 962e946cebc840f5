//! Personal data: sealed in the log, opened by readers, erased for good.

use std::collections::BTreeSet;

use domain::account::{Account, AccountEvent};
use domain::actor::Actor;
use domain::aggregate::StreamId;
use domain::ids::{AccountId, Id, Mint, SubjectId};
use domain::locale::Locale;
use domain::personal::Personal;
use domain::text::PersonName;
use event_log::{Append, AppendError, EventLog, ExecuteError, Executor, LogError, OpenedOrigin};

use crate::common::*;

fn account(n: u32) -> AccountId {
    Mint::new([8; 32]).id(slot(10), n)
}

fn registered(n: u32, name: &str) -> domain::event::Event {
    AccountEvent::AccountRegistered {
        name: Personal::of(account(n), name.parse().unwrap()),
        email: Personal::of(account(n), "ana@example.com".parse().unwrap()),
        phone: None,
        locale: Locale::PtBr,
        zone: None,
        roles: Vec::new(),
    }
    .into()
}

/// A request that registers an account whose subject is new.
fn registering(n: u32, name: &str) -> Append {
    let stream = StreamId::of::<Account>(account(n));
    let mut request = Append::new(row(10)).events(stream, 0, vec![registered(n, name)]);
    request.new_subjects.insert(account(n).into());
    request
}

async fn name_of(log: &EventLog, n: u32) -> Personal<PersonName> {
    let loaded = log.load::<Account>(account(n)).await.unwrap();
    loaded.state.profile.as_ref().unwrap().name.clone()
}

on_1_and_7_partitions! {
    async fn what_is_personal_is_sealed_in_the_table_and_opened_for_readers(database, partitions) {
        let log = database.log(partitions).await;
        let mut request = registering(0, "Ana Lima");
        request.origin = OpenedOrigin { ip: Some("203.0.113.9".parse().unwrap()), user_agent: Some("Firefox".to_owned()) };
        log.append(request).await.unwrap();
        let dump: String = sqlx::query_scalar(
            "SELECT string_agg(e::text, ' ') || (SELECT string_agg(c::text, ' ') FROM commands c)
                 || (SELECT string_agg(k::text, ' ') FROM subject_keys k) FROM events e",
        ).fetch_one(log.pool()).await.unwrap();
        for secret in ["Ana", "Lima", "ana@", "203.0", "Firefox", "$personal"] {
            assert!(!dump.contains(secret), "{secret} stands in {dump}");
        }
        // Another server, without anything in memory.
        let other = database.log(partitions).await;
        assert_eq!(name_of(&other, 0).await.known().unwrap().as_str(), "Ana Lima");
        let all = everything(&other).await;
        assert_eq!(all[0].event, registered(0, "Ana Lima"));
        let opened = other.open_origin(&all[0]).await.unwrap().unwrap();
        assert_eq!(opened.ip, Some("203.0.113.9".parse().unwrap()));
        assert_eq!(opened.user_agent.as_deref(), Some("Firefox"));
        assert!(!format!("{all:?}").contains("Lima"), "nor does Debug show it");
    }

    async fn an_erased_person_reads_as_erased_everywhere_and_never_gets_a_key_again(database, partitions) {
        let log = database.log(partitions).await;
        log.append(registering(0, "Ana Lima")).await.unwrap();
        log.append(registering(1, "Bia Souza")).await.unwrap();
        let before = everything(&log).await;
        assert_eq!(name_of(&log, 0).await.known().unwrap().as_str(), "Ana Lima");
        let erasure = log.erase_subject(account(0).into()).await.unwrap();
        assert_eq!(erasure.heads, log.heads().await.unwrap());
        assert_eq!(log.erasure(account(0).into()).await.unwrap().unwrap(), erasure);
        assert_eq!(log.erasure(account(1).into()).await.unwrap(), None);

        let other = database.log(partitions).await;
        for log in [&log, &other] {
            assert_eq!(name_of(log, 0).await, Personal::Erased(account(0).into()));
            assert_eq!(name_of(log, 1).await.known().unwrap().as_str(), "Bia Souza");
            // Of a new stream, as if the subject were new too.
            let mut again = registering(7, "Ana Lima");
            again.streams[0].events = vec![registered(0, "Ana Lima")];
            again.new_subjects = BTreeSet::from([account(0).into()]);
            let refused = log.append(again).await;
            assert!(matches!(refused, Err(AppendError::SubjectErased)), "{refused:?}");
            let stream = StreamId::of::<Account>(account(0));
            let known = Append::new(row(10)).events(stream, 1, vec![registered(0, "Ana")]);
            let refused = log.append(known).await;
            assert!(matches!(refused, Err(AppendError::SubjectErased)), "{refused:?}");
        }
        // The log itself was not rewritten: all positions are there, and it verifies.
        assert_eq!(everything(&log).await.len(), before.len());
        log.verify(log.partition_of(slot(10)), None).await.unwrap();
        // Erasing again changes nothing.
        assert_eq!(log.erase_subject(account(0).into()).await.unwrap(), erasure);
    }

    async fn a_missing_key_without_a_tombstone_stops_the_reader(database, partitions) {
        let log = database.log(partitions).await;
        log.append(registering(0, "Ana Lima")).await.unwrap();
        sqlx::query("DELETE FROM subject_keys").execute(log.pool()).await.unwrap();
        let other = database.log(partitions).await;
        let refused = other.load::<Account>(account(0)).await;
        assert!(matches!(refused, Err(LogError::Unreadable { .. })), "{:?}", refused.err());
        assert!(other.tail(other.partition_of(slot(10)), 0, 10).await.is_err());
        // Nor can anything be sealed for somebody who was never announced.
        let stream = StreamId::of::<Account>(account(5));
        let unannounced = Append::new(row(10)).events(stream, 0, vec![registered(5, "Eva")]);
        assert!(matches!(other.append(unannounced).await, Err(AppendError::Failed(_))));
    }

    async fn a_person_who_is_new_to_two_requests_gets_one_key(database, partitions) {
        let log = database.log(partitions).await;
        let other = database.log(partitions).await;
        log.append(registering(0, "Ana Lima")).await.unwrap();
        // The other believes it has to make the key: it finds and uses the one there is.
        let stream = agenda(10, 0);
        let mut second = Append::new(row(10)).events(stream, 0, vec![event(1)]);
        second.new_subjects.insert(account(0).into());
        second.origin.user_agent = Some("Firefox".to_owned());
        other.append(second).await.unwrap();
        for log in [&log, &other] {
            for recorded in everything(log).await {
                log.open_origin(&recorded).await.unwrap();
            }
        }
        assert_eq!(name_of(&other, 0).await.known().unwrap().as_str(), "Ana Lima");
    }

    async fn a_snapshot_holds_nothing_in_the_clear_and_is_erased_with_its_person(database, partitions) {
        let mut eager = event_log::testing::options(partitions);
        eager.snapshot_every = 1;
        eager.hot_aggregates = 0;
        let clock = std::sync::Arc::new(event_log::SystemClock);
        let log = database.log_with(clock.clone(), eager.clone()).await;
        log.append(registering(0, "Ana Lima")).await.unwrap();
        name_of(&log, 0).await;
        let snapshot = async || {
            sqlx::query_scalar::<_, String>("SELECT payload::text FROM snapshots")
                .fetch_optional(log.pool()).await.unwrap()
        };
        until("a snapshot is taken", async || snapshot().await.is_some()).await;
        let stored = snapshot().await.unwrap();
        assert!(stored.contains("$sealed") && !stored.contains("Ana"), "{stored}");
        assert_eq!(name_of(&log, 0).await.known().unwrap().as_str(), "Ana Lima");
        log.erase_subject(account(0).into()).await.unwrap();
        let other = database.log_with(clock, eager).await;
        assert_eq!(name_of(&other, 0).await, Personal::Erased(account(0).into()));
        // A snapshot taken after the erasure reads too.
        let stream = StreamId::of::<Account>(account(0));
        other.append(Append::new(row(10)).events(stream, 1, vec![AccountEvent::EmailConfirmed {}.into()])).await.unwrap();
        name_of(&other, 0).await;
        until("a later snapshot is taken", async || snapshot().await.unwrap().contains("$erased")).await;
        assert_eq!(name_of(&other, 0).await, Personal::Erased(account(0).into()));
    }

    async fn a_restore_replays_the_erasures(database, partitions) {
        let log = database.log(partitions).await;
        log.append(registering(0, "Ana Lima")).await.unwrap();
        let backup: Vec<u8> = sqlx::query_scalar("SELECT wrapped FROM subject_keys").fetch_one(log.pool()).await.unwrap();
        log.erase_subject(account(0).into()).await.unwrap();
        let kept_apart = log.erasures().await.unwrap();
        sqlx::query("UPDATE subject_keys SET wrapped = $1, erased_at = NULL, erased_heads = NULL")
            .bind(backup).execute(log.pool()).await.unwrap();
        let restored = database.log(partitions).await;
        assert_eq!(event_log::erasure::replay(&restored, &kept_apart).await.unwrap(), 1);
        assert_eq!(event_log::erasure::replay(&restored, &kept_apart).await.unwrap(), 0);
        assert_eq!(name_of(&restored, 0).await, Personal::Erased(account(0).into()));
    }

    async fn a_command_about_an_erased_person_is_refused_not_broken(database, partitions) {
        let executor = Executor::new(database.log(partitions).await);
        let log = executor.log();
        let (bia, ana) = (person(&executor, "bia").await, person(&executor, "ana").await);
        let shop = shop(&executor, &bia, "salao").await;
        let id: SubjectId = ana.account().unwrap().into();
        log.erase_subject(id).await.unwrap();
        let refused = executor.execute(booking(log, shop.provider, 10), origin(&ana)).await;
        assert!(matches!(refused, Err(ExecuteError::Refused(domain::Refusal::NotFound(_)))), "{refused:?}");
        let erased: BTreeSet<_> = log.erasures().await.unwrap().into_iter().map(|e| e.subject).collect();
        assert_eq!(erased, BTreeSet::from([id]));
        // What the system or nobody does has an origin too.
        let mut from_afar = origin(&Actor::System("reminders"));
        from_afar.ip = Some("198.51.100.1".parse().unwrap());
        let account = bia.account().unwrap();
        executor.execute(domain::account::ConfirmEmail { account }, from_afar).await.unwrap();
        let _ = account.uuid();
    }
}
