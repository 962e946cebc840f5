//! The read tables against a real Postgres.

use domain::account::Status as Standing;
use domain::actor::Role;
use domain::appointment::{Client, Parties, Side, Status};
use domain::hours::Zone;
use domain::ids::{AccountId, AppointmentId, GuestId, ProviderId, ServiceId, SessionId};
use domain::locale::Locale;
use domain::personal::Personal;
use domain::position::Partition;
use domain::provider::{Offer, Service};
use domain::session::EndReason;
use sqlx::PgPool;

use crate::accounts::{self, AccountChange, AccountWrites};
use crate::appointment_notes::{self, AppointmentNotes, Noted};
use crate::appointments::{self, AppointmentChange, AppointmentWrites, Party, Period};
use crate::catalogue_tests::everything;
use crate::freshness::TablesFreshness;
use crate::paging::PageLimit;
use crate::provider_search::Filter;
use crate::providers::{self, ProviderChange, ProviderWrites};
use crate::services::{self, ServiceChange, ServiceWrites};
use crate::sessions::{self, SessionChange};
use crate::table::{Stamp, Table, TableError, Writes, page_database};
use crate::testing::{appointment, at, id, position, provider_in, span, stamp, with_database};

/// Flushes changes as one batch and says how many rows changed.
pub(crate) async fn flush<T: Table>(
    pool: &PgPool,
    changes: Vec<(T::Id, Stamp, T::Change)>,
) -> Result<u64, TableError> {
    let mut writes = Writes::<T>::default();
    changes.into_iter().for_each(|(id, stamp, change)| writes.push(id, stamp, change));
    let mut transaction = pool.begin().await.unwrap();
    let stored = writes.flush(&mut transaction).await?;
    transaction.commit().await.unwrap();
    Ok(stored)
}

fn registered() -> AccountChange {
    AccountChange::Registered {
        name: Some("Ana Maria".parse().unwrap()),
        email: Some("ana@example.com".parse().unwrap()),
        phone: None,
        locale: Locale::PtBr,
        zone: None,
        roles: vec![Role::Client],
    }
}

#[tokio::test]
async fn an_empty_batch_writes_nothing() {
    with_database(|pool| async move {
        let mut connection = pool.acquire().await.unwrap();
        assert!(AccountWrites::default().is_empty());
        assert_eq!(AccountWrites::default().flush(&mut connection).await.unwrap(), 0);
        assert_eq!(ProviderWrites::default().flush(&mut connection).await.unwrap(), 0);
        assert_eq!(ServiceWrites::default().flush(&mut connection).await.unwrap(), 0);
        assert_eq!(AppointmentWrites::default().flush(&mut connection).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn several_events_of_an_account_in_one_batch_become_one_row() {
    with_database(|pool| async move {
        let ana: AccountId = id(7);
        let batch = || {
            vec![
                (ana, stamp(5, 1), registered()),
                (ana, stamp(6, 2), AccountChange::EmailConfirmed),
                (ana, stamp(9, 3), AccountChange::RoleGranted(Role::Provider)),
            ]
        };
        assert_eq!(flush::<accounts::Accounts>(&pool, batch()).await.unwrap(), 1);
        let row = accounts::by_id(&pool, ana).await.unwrap().unwrap();
        assert!(row.email_confirmed);
        assert_eq!(row.roles, [Role::Client, Role::Provider]);
        assert_eq!(row.name.as_ref().unwrap().as_str(), "Ana Maria");
        assert_eq!((row.stamp.at, row.stamp.version), (position(0, 9), 3));
        assert_eq!(row.stamp.created_at, stamp(5, 1).recorded_at);
        assert_eq!(row.stamp.updated_at, stamp(9, 3).recorded_at);

        assert_eq!(flush::<accounts::Accounts>(&pool, batch()).await.unwrap(), 0);
        assert_eq!(accounts::by_id(&pool, ana).await.unwrap().unwrap(), row);
        assert_eq!(accounts::by_id(&pool, id(8)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_later_batch_changes_what_an_earlier_one_began_and_an_older_one_does_not() {
    with_database(|pool| async move {
        let ana: AccountId = id(7);
        flush::<accounts::Accounts>(&pool, vec![(ana, stamp(5, 1), registered())]).await.unwrap();
        let confirmed = vec![(ana, stamp(8, 2), AccountChange::EmailConfirmed)];
        assert_eq!(flush::<accounts::Accounts>(&pool, confirmed).await.unwrap(), 1);
        let row = accounts::by_id(&pool, ana).await.unwrap().unwrap();
        assert!(row.email_confirmed);
        assert_eq!(row.stamp.created_at, stamp(5, 1).recorded_at);

        for older in [
            vec![(ana, stamp(8, 2), AccountChange::RoleGranted(Role::Admin))],
            vec![(ana, stamp(7, 2), AccountChange::RoleGranted(Role::Admin))],
            vec![(ana, stamp(5, 1), registered())],
        ] {
            assert_eq!(flush::<accounts::Accounts>(&pool, older).await.unwrap(), 0);
            assert_eq!(accounts::by_id(&pool, ana).await.unwrap().unwrap(), row);
        }
    })
    .await;
}

#[tokio::test]
async fn a_change_of_what_never_began_is_an_error_that_names_the_row() {
    with_database(|pool| async move {
        let changes = vec![(id(7), stamp(8, 2), AccountChange::EmailConfirmed)];
        let error = flush::<accounts::Accounts>(&pool, changes).await.unwrap_err();
        assert!(
            matches!(error, TableError::NoRow { table: "accounts", id: row, at }
                if row == uuid::Uuid::from(id::<AccountId>(7)) && at == position(0, 8)),
            "{error}"
        );
    })
    .await;
}

#[tokio::test]
async fn what_was_erased_is_stored_as_null() {
    with_database(|pool| async move {
        let erased = AccountChange::Registered {
            name: None,
            email: None,
            phone: None,
            locale: Locale::En,
            zone: None,
            roles: vec![],
        };
        flush::<accounts::Accounts>(&pool, vec![(id(7), stamp(5, 1), erased)]).await.unwrap();
        let row = accounts::by_id(&pool, id(7)).await.unwrap().unwrap();
        assert_eq!((row.name, row.email, row.phone, row.roles), (None, None, None, vec![]));

        let mut booking = appointment("2026-03-10T13:00:00Z");
        booking.contact = None;
        booking.client_notes = None;
        let booked = AppointmentChange::Booked(Box::new(booking));
        let changes = vec![(id(9), stamp(6, 1), booked)];
        flush::<appointments::Appointments>(&pool, changes).await.unwrap();
        let row = appointments::by_id(&pool, id(9)).await.unwrap().unwrap();
        assert_eq!((row.contact, row.client_notes), (None, None));
    })
    .await;
}

pub(crate) fn opened(account: u16, slug: &str, name: Option<&str>) -> ProviderChange {
    ProviderChange::Opened {
        account: id(account),
        slug: Some(slug.parse().unwrap()),
        business_name: name.map(|name| name.parse().unwrap()),
        hourly_rate: None,
        zone: Zone::SAO_PAULO,
    }
}

#[tokio::test]
async fn a_provider_is_found_by_id_slug_and_account_and_its_version_rises_with_every_event() {
    with_database(|pool| async move {
        let shop: ProviderId = id(2);
        let rate = serde_json::from_str(r#"{"amount_minor":9000}"#).unwrap();
        let changed = ProviderChange::ProfileChanged {
            business_name: Some("Salão da Bia".parse().unwrap()),
            hourly_rate: Some(rate),
            details: Box::default(),
        };
        let changes = vec![
            (shop, stamp(1, 1), opened(3, "salao-da-ana", Some("Salão da Ana"))),
            (shop, stamp(2, 2), ProviderChange::Touched),
            (shop, stamp(3, 3), changed),
            (shop, stamp(4, 4), ProviderChange::ZoneSet("Europe/Lisbon".parse().unwrap())),
        ];
        flush::<providers::Providers>(&pool, changes).await.unwrap();
        let row = providers::by_id(&pool, shop).await.unwrap().unwrap();
        assert_eq!(row.business_name.as_ref().unwrap().as_str(), "Salão da Bia");
        assert_eq!(
            (row.hourly_rate, row.zone.name(), row.is_open),
            (Some(rate), "Europe/Lisbon", true)
        );
        assert_eq!(row.stamp.version, 4);
        let slug = "salao-da-ana".parse().unwrap();
        assert_eq!(providers::by_slug(&pool, &slug).await.unwrap().as_ref(), Some(&row));
        assert_eq!(providers::of_account(&pool, id(3)).await.unwrap(), Some(row));
        assert_eq!(providers::by_slug(&pool, &"other".parse().unwrap()).await.unwrap(), None);
        assert_eq!(providers::of_account(&pool, id(4)).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn the_provider_list_is_by_name_whatever_the_size_of_its_pages() {
    with_database(|pool| async move {
        const PARTITIONS: u16 = 7;
        let names = [
            "zeta",
            "Alfa",
            "alfa",
            "Ágata",
            "ágata",
            "Émile",
            "beta",
            "BETA",
            "İstanbul",
            "ß",
            "Straße",
            "çelik",
            "a b",
            "a-b",
            "a_b",
            "01",
            "10",
            "9",
            "Ω",
            "ω",
            "日本",
            "😀 fun",
            "Beta",
            "Beta",
            "Beta",
        ];
        let mut changes = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let i = u16::try_from(i).unwrap();
            let partition = i % PARTITIONS;
            let stamp = Stamp { at: position(partition, i.into()), ..stamp(i.into(), 1) };
            let name =
                if name.chars().count() < 2 { format!("{name}{name}") } else { (*name).to_owned() };
            let change = opened(i, &format!("slug-{i}"), Some(&name));
            changes.push((provider_in(partition, PARTITIONS, i), stamp, change));
        }
        let stamp = stamp(100, 1);
        changes.push((provider_in(0, PARTITIONS, 99), stamp, opened(99, "erased", None)));
        flush::<providers::Providers>(&pool, changes).await.unwrap();
        for size in [1, 3, 10, 100] {
            let all = everything(&pool, &Filter::default(), size).await;
            assert_eq!(all.len(), names.len(), "an erased shop is not listed");
            assert!(all.is_sorted_by_key(|found| found.row.list_key()));
        }
    })
    .await;
}

#[tokio::test]
async fn a_removed_service_stays_removed_when_an_older_write_comes_again() {
    with_database(|pool| async move {
        let (shop, service): (ProviderId, ServiceId) = (id(2), id(4));
        let offer = Offer {
            name: "Corte".parse().unwrap(),
            description: Some("with\ncare".parse().unwrap()),
            duration_minutes: 45,
            interval_minutes: 15,
            price: Some(serde_json::from_str(r#"{"amount_minor":5000}"#).unwrap()),
            buffer_after_minutes: 10,
            capacity: 3,
            ..Offer::classic(Locale::En)
        };
        let owner: AccountId = id(3);
        let cut = Service::of(owner, service, offer);
        let classic = Service::of(owner, id(5), Offer::classic(Locale::En));
        let added =
            |service: &Service| ServiceChange::Added { provider: shop, service: service.clone() };
        let changes =
            vec![(service, stamp(2, 2), added(&cut)), (id(5), stamp(1, 1), added(&classic))];
        assert_eq!(flush::<services::Services>(&pool, changes.clone()).await.unwrap(), 2);
        let listed = services::of_provider(&pool, shop, false).await.unwrap();
        for (row, service) in listed.iter().zip([&classic, &cut]) {
            assert_eq!((&row.measure, row.price), (&service.measure(), service.price));
            assert_eq!(row.name.as_ref(), service.name.known());
            assert_eq!(
                row.description.as_ref(),
                service.description.as_ref().and_then(Personal::known)
            );
        }
        assert_eq!(listed.len(), 2);

        let removed = vec![(service, stamp(3, 3), ServiceChange::Removed)];
        flush::<services::Services>(&pool, removed).await.unwrap();
        assert_eq!(flush::<services::Services>(&pool, changes).await.unwrap(), 0);
        let changed = vec![(service, stamp(2, 2), ServiceChange::Changed(cut))];
        assert_eq!(flush::<services::Services>(&pool, changed).await.unwrap(), 0);
        assert_eq!(services::of_provider(&pool, shop, false).await.unwrap().len(), 1);
        assert_eq!(services::by_id(&pool, service).await.unwrap(), None);
        assert!(services::by_id(&pool, id(5)).await.unwrap().is_some());

        // Read again once its owner is erased: it is there, and not offered.
        let erased = Service {
            name: Personal::Erased(owner.into()),
            ..Service::of(owner, id(6), Offer::classic(Locale::En))
        };
        flush::<services::Services>(&pool, vec![(id(6), stamp(4, 4), added(&erased))])
            .await
            .unwrap();
        let rename = Service::of(owner, id(5), Offer::classic(Locale::PtBr));
        let changes = vec![
            (id(6), stamp(5, 5), ServiceChange::Changed(erased.clone())),
            (id(5), stamp(6, 6), ServiceChange::Changed(rename)),
        ];
        flush::<services::Services>(&pool, changes).await.unwrap();
        assert_eq!(services::of_provider(&pool, shop, false).await.unwrap().len(), 1);
        services::forget_of(&mut pool.acquire().await.unwrap(), &[shop]).await.unwrap();
        assert!(services::of_provider(&pool, shop, false).await.unwrap().is_empty());
    })
    .await;
}

fn booked(start: &str) -> AppointmentChange {
    AppointmentChange::Booked(Box::new(appointment(start)))
}

#[tokio::test]
async fn an_appointment_follows_its_events() {
    with_database(|pool| async move {
        let which: AppointmentId = id(9);
        let changes = vec![(which, stamp(1, 1), booked("2026-03-10T13:00:00Z"))];
        flush::<appointments::Appointments>(&pool, changes).await.unwrap();
        let row = appointments::by_id(&pool, which).await.unwrap().unwrap();
        assert_eq!(row.local_start().to_string(), "2026-03-10 10:00:00");
        let contact = row.contact.as_ref().unwrap();
        assert_eq!(
            (contact.name.as_str(), contact.email.as_str()),
            ("Ana Maria", "ana@example.com")
        );
        assert_eq!(row.price.unwrap().amount_minor, 12_000);

        let moved = span("2026-03-11T14:00:00Z", 60);
        let reason: Option<domain::text::Note> = Some("ill".parse().unwrap());
        let cancelled = AppointmentChange::StatusChanged {
            status: Status::Cancelled,
            reason: reason.clone(),
            reason_by: None,
        };
        let changes = vec![
            (
                which,
                stamp(2, 2),
                AppointmentChange::Rescheduled {
                    to: moved,
                    status: Status::Confirmed,
                    answer_by: None,
                },
            ),
            (id(10), stamp(3, 1), booked("2026-03-12T13:00:00Z")),
            (which, stamp(4, 3), cancelled),
        ];
        assert_eq!(flush::<appointments::Appointments>(&pool, changes).await.unwrap(), 2);
        let after = appointments::by_id(&pool, which).await.unwrap().unwrap();
        assert_eq!(
            (after.slot, after.status, &after.status_reason),
            (moved, Status::Cancelled, &reason)
        );
        assert_eq!((after.stamp.version, after.client_notes), (3, row.client_notes));
        let local: chrono::NaiveDateTime =
            sqlx::query_scalar("SELECT local_start FROM appointments WHERE id = $1")
                .bind(uuid::Uuid::from(which))
                .fetch_one(&pool)
                .await
                .unwrap();
        assert_eq!(local.to_string(), "2026-03-11 11:00:00");
        let json = serde_json::to_string(&after.id).unwrap();
        assert_eq!(json, format!("\"{which}\""));

        // What one side notes for itself, the row does not tell the other; the version is the stream's.
        let noted = vec![(which, stamp(5, 4), AppointmentChange::Noted)];
        assert_eq!(flush::<appointments::Appointments>(&pool, noted).await.unwrap(), 1);
        let noted = appointments::by_id(&pool, which).await.unwrap().unwrap();
        assert_eq!((noted.stamp.version, noted.stamp.updated_at), (4, after.stamp.updated_at));
    })
    .await;
}

#[tokio::test]
async fn pending_appointments_whose_time_to_answer_is_over_are_found_oldest_first_in_pages() {
    with_database(|pool| async move {
        let by = |text: &str| Some(at(text));
        let new = |start: &str, answer_by| {
            let new = appointments::NewAppointment { answer_by, ..appointment(start) };
            AppointmentChange::Booked(Box::new(new))
        };
        let moved = AppointmentChange::Rescheduled {
            to: span("2026-03-20T13:00:00Z", 60),
            status: Status::Pending,
            answer_by: by("2026-03-09T08:00:00Z"),
        };
        let confirmed = AppointmentChange::StatusChanged {
            status: Status::Confirmed,
            reason: None,
            reason_by: None,
        };
        let changes = vec![
            (id(1), stamp(1, 1), new("2026-03-10T12:00:00Z", None)),
            (id(2), stamp(2, 1), new("2026-03-10T12:00:01Z", None)),
            (id(3), stamp(3, 1), new("2026-03-30T12:00:00Z", by("2026-03-09T12:00:00Z"))),
            (id(4), stamp(4, 1), new("2026-03-09T12:00:00Z", None)),
            (id(5), stamp(5, 1), new("2026-03-08T12:00:00Z", None)),
            (id(5), stamp(6, 2), confirmed),
            (id(6), stamp(7, 1), new("2026-03-20T12:00:00Z", by("2026-03-19T12:00:00Z"))),
            (id(7), stamp(8, 1), new("2026-03-08T12:00:00Z", None)),
            (id(7), stamp(9, 2), moved),
        ];
        flush::<appointments::Appointments>(&pool, changes).await.unwrap();
        let (now, mut after, mut found) = (at("2026-03-10T12:00:00Z"), None, Vec::new());
        loop {
            let page = appointments::unanswered(&pool, now, after, 2).await.unwrap();
            found.extend(page.iter().map(|(_, id)| *id));
            after = page.last().copied();
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, [7, 3, 4, 1].map(id::<AppointmentId>));
    })
    .await;
}

#[tokio::test]
async fn a_guests_row_has_no_account_and_loses_them_with_their_erasure() {
    with_database(|pool| async move {
        let (which, guest): (AppointmentId, GuestId) = (id(9), id(8));
        let mut new = appointment("2026-03-10T13:00:00Z");
        new.client = Client::Guest { guest };
        let reason: Option<domain::text::Note> = Some("ill".parse().unwrap());
        let cancelled = AppointmentChange::StatusChanged {
            status: Status::Cancelled,
            reason,
            reason_by: Some(guest.into()),
        };
        let changes = || {
            vec![
                (which, stamp(1, 1), AppointmentChange::Booked(Box::new(new.clone()))),
                (which, stamp(2, 2), cancelled.clone()),
            ]
        };
        for stored in [1, 0] {
            let done = flush::<appointments::Appointments>(&pool, changes()).await.unwrap();
            assert_eq!(done, stored, "twice equals once");
        }
        let row = appointments::by_id(&pool, which).await.unwrap().unwrap();
        assert_eq!((row.client, row.client.account()), (Client::Guest { guest }, None));
        assert!(row.contact.is_some() && row.status_reason.is_some());
        let erased = vec![(which, stamp(3, 3), AppointmentChange::GuestErased)];
        flush::<appointments::Appointments>(&pool, erased).await.unwrap();
        let row = appointments::by_id(&pool, which).await.unwrap().unwrap();
        assert_eq!((row.contact, row.client_notes), (None, None));
        assert_eq!((row.status_reason, row.reason_by), (None, None));
        assert_eq!((row.status, row.client), (Status::Cancelled, Client::Guest { guest }));
    })
    .await;
}

#[tokio::test]
async fn each_sides_notes_are_kept_apart_and_go_with_their_author() {
    with_database(|pool| async move {
        let which: AppointmentId = id(9);
        let parties =
            Parties { provider: id(2), provider_account: id(3), client: Client::Account(id(1)) };
        let note = |by, text: &str| Noted { parties, by, notes: Some(text.parse().unwrap()) };
        let changes = || {
            vec![
                (which, stamp(2, 2), note(Side::Client, "bring cash")),
                (which, stamp(3, 3), note(Side::Provider, "likes it short")),
            ]
        };
        let of = async |side| {
            let notes = appointment_notes::of_side(&pool, &[which, id(10)], side).await.unwrap();
            notes.get(&which).map(ToString::to_string)
        };
        for stored in [1, 0] {
            let done = flush::<AppointmentNotes>(&pool, changes()).await.unwrap();
            assert_eq!(done, stored, "twice equals once");
        }
        // In a batch of its own, one side's leave the other's as they are.
        let later = vec![(which, stamp(4, 4), note(Side::Client, "bring a card"))];
        flush::<AppointmentNotes>(&pool, later).await.unwrap();
        assert_eq!(of(Side::Client).await.as_deref(), Some("bring a card"));
        assert_eq!(of(Side::Provider).await.as_deref(), Some("likes it short"));
        let mut connection = pool.acquire().await.unwrap();
        let client: AccountId = id(1);
        appointment_notes::purge_person(&mut connection, client.into()).await.unwrap();
        assert_eq!((of(Side::Client).await, of(Side::Provider).await.is_some()), (None, true));
        let owner: AccountId = id(3);
        appointment_notes::purge_person(&mut connection, owner.into()).await.unwrap();
        assert_eq!(of(Side::Provider).await, None);
    })
    .await;
}

#[tokio::test]
async fn a_client_sees_what_is_to_come_and_what_is_over_and_nothing_twice_or_never() {
    with_database(|pool| async move {
        let now = at("2026-03-10T12:30:00Z");
        let mut changes = Vec::new();
        // Two at the same instant, one going on right now, one cancelled though it is to come.
        let starts = [
            "2026-03-08T13:00:00Z",
            "2026-03-09T13:00:00Z",
            "2026-03-10T11:30:00Z",
            "2026-03-10T12:00:00Z",
            "2026-03-11T13:00:00Z",
            "2026-03-11T13:00:00Z",
            "2026-03-12T13:00:00Z",
            "2026-03-13T13:00:00Z",
        ];
        for (n, start) in (1_u16..).zip(starts) {
            changes.push((id(n), stamp(n.into(), 1), booked(start)));
        }
        let declined = AppointmentChange::StatusChanged {
            status: Status::Declined,
            reason: None,
            reason_by: None,
        };
        changes.push((id(7), stamp(20, 2), declined));
        let mut foreign = appointment("2026-03-11T13:00:00Z");
        foreign.client = Client::Account(id(55));
        changes.push((id(30), stamp(30, 1), AppointmentChange::Booked(Box::new(foreign))));
        flush::<appointments::Appointments>(&pool, changes).await.unwrap();

        let pages = async |period| {
            let (mut all, mut cursor) = (Vec::new(), None);
            loop {
                let page = appointments::of_party(
                    &pool,
                    Party::Client(id(1)),
                    period,
                    &[],
                    now,
                    cursor.as_deref(),
                    PageLimit::new(2).unwrap(),
                );
                let page = page.await.unwrap();
                all.extend(page.items);
                cursor = page.next_cursor;
                if cursor.is_none() {
                    return all;
                }
            }
        };
        let upcoming = pages(Period::Upcoming).await;
        let past = pages(Period::Past).await;
        let start = |row: &appointments::AppointmentRow| (row.slot.start, row.id);
        assert_eq!((upcoming.len(), past.len()), (4, 4));
        assert!(upcoming.is_sorted_by_key(start) && past.iter().rev().is_sorted_by_key(start));
        assert_eq!(upcoming[0].slot.start, at("2026-03-10T12:00:00Z"));
        assert!(past.iter().any(|row| row.status == Status::Declined));

        let limit = PageLimit::new(1).unwrap();
        let client = Party::Client(id(1));
        let page = appointments::of_party(&pool, client, Period::Past, &[], now, None, limit);
        let page = page.await.unwrap();
        let foreign = page.next_cursor.as_deref();
        let wrong =
            appointments::of_party(&pool, client, Period::Upcoming, &[], now, foreign, limit).await;
        assert!(matches!(wrong, Err(TableError::Cursor(_))));

        let most = PageLimit::new(100).unwrap();
        let of = async |party, period, statuses: &[Status]| {
            let page = appointments::of_party(&pool, party, period, statuses, now, None, most);
            page.await.unwrap().items
        };
        let declined = of(client, Period::Past, &[Status::Declined, Status::Cancelled]).await;
        assert!(!declined.is_empty());
        assert!(declined.iter().all(|row| !row.status.is_live()));
        assert!(of(client, Period::Upcoming, &[Status::Declined]).await.is_empty());
        // The provider has those of all its clients.
        let provider = of(Party::Provider(id(2)), Period::Upcoming, &[]).await;
        assert_eq!(provider.len(), upcoming.len() + 1);
        assert!(of(Party::Provider(id(3)), Period::Upcoming, &[]).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn what_runs_into_a_stretch_or_out_of_it_shares_an_instant_with_it() {
    with_database(|pool| async move {
        let starts = [
            ("2026-03-09T23:00:00Z", false),
            ("2026-03-09T23:30:00Z", true),
            ("2026-03-10T12:00:00Z", true),
            ("2026-03-10T23:30:00Z", true),
            ("2026-03-11T00:00:00Z", false),
        ];
        let changes =
            (1_u16..).zip(starts).map(|(n, (start, _))| (id(n), stamp(n.into(), 1), booked(start)));
        flush::<appointments::Appointments>(&pool, changes.collect()).await.unwrap();
        let day = span("2026-03-10T00:00:00Z", 24 * 60);
        let found = async |statuses: &[Status], most| {
            let rows = appointments::intersecting(&pool, id(2), day, statuses, most).await.unwrap();
            rows.into_iter().map(|row| row.slot.start).collect::<Vec<_>>()
        };
        let expected: Vec<_> = starts.iter().filter(|s| s.1).map(|s| at(s.0)).collect();
        assert_eq!(found(&[], 10).await, expected);
        assert_eq!(found(&[Status::Pending], 2).await, expected[..2]);
        assert!(found(&[Status::Confirmed], 10).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_providers_day_is_a_stretch_of_instants_its_end_not_included() {
    with_database(|pool| async move {
        let starts = [
            "2026-03-10T02:59:00Z",
            "2026-03-10T03:00:00Z",
            "2026-03-10T13:00:00Z",
            "2026-03-11T02:30:00Z",
            "2026-03-11T03:00:00Z",
        ];
        let changes =
            (1_u16..).zip(starts).map(|(n, start)| (id(n), stamp(n.into(), 1), booked(start)));
        flush::<appointments::Appointments>(&pool, changes.collect()).await.unwrap();
        let within = span("2026-03-10T03:00:00Z", 24 * 60);
        let day = appointments::whole_day(&pool, id(2), within).await.unwrap().unwrap();
        assert_eq!(day.iter().map(|row| row.id).collect::<Vec<_>>(), [id(2), id(3), id(4)]);
        let limit = PageLimit::new(2).unwrap();
        let first = appointments::of_provider(&pool, id(2), within, None, limit).await.unwrap();
        let cursor = first.next_cursor.as_deref();
        let rest = appointments::of_provider(&pool, id(2), within, cursor, limit).await.unwrap();
        assert_eq!([first.items, rest.items].concat(), day);
        assert_eq!(rest.next_cursor, None);
        assert!(appointments::whole_day(&pool, id(5), within).await.unwrap().unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn freshness_is_what_the_projectors_checkpoint_says() {
    with_database(|pool| async move {
        sqlx::query(
            "INSERT INTO checkpoints (projector, partition, position)
             VALUES ('tables', 0, 7), ('tables', 3, 12), ('other', 0, 99)",
        )
        .execute(&pool)
        .await
        .unwrap();
        let freshness = TablesFreshness::new(pool, "tables");
        let applied = async |of: &[u16]| {
            let partitions: Vec<_> = of.iter().copied().map(Partition).collect();
            freshness.applied(&partitions).await.unwrap().to_string()
        };
        assert_eq!(applied(&[3]).await, "3:12");
        assert_eq!(applied(&[1]).await, "");
        let every: Vec<u16> = (0..4096).collect();
        assert_eq!(applied(&every).await, "0:7,3:12");
    })
    .await;
}

#[tokio::test]
async fn a_key_postgres_cannot_compare_with_is_a_wrong_cursor_and_never_a_failure_of_postgres() {
    with_database(|pool| async move {
        let refused = async |text: &str| {
            let asked = sqlx::query("SELECT $1::text").bind(text.to_owned()).execute(&pool).await;
            asked.unwrap_err()
        };
        let error = page_database("providers", true)(refused("\u{0}").await);
        assert!(matches!(error, TableError::Cursor(_)), "{error}");
        // Without a cursor it is no client's fault.
        let error = page_database("providers", false)(refused("\u{0}").await);
        assert!(matches!(error, TableError::Database { table: "providers", .. }), "{error}");
        let error = page_database("providers", true)(sqlx::Error::PoolTimedOut);
        assert!(matches!(error, TableError::Database { table: "providers", .. }), "{error}");
    })
    .await;
}

#[test]
fn a_row_shows_nothing_personal_when_it_is_debugged() {
    let booking = appointment("2026-03-10T13:00:00Z");
    let text = format!("{booking:?} {:?}", registered());
    for personal in ["Ana", "example.com", "99999", "lines"] {
        assert!(!text.contains(personal), "{text}");
    }
}

#[tokio::test]
async fn an_account_shows_what_its_events_made_of_it_until_it_is_erased() {
    with_database(|pool| async move {
        let ana: AccountId = id(7);
        let email = |text: &str| Some(text.parse().unwrap());
        let photo = Some(id(3));
        let changes = vec![
            (ana, stamp(1, 1), registered()),
            (
                ana,
                stamp(2, 2),
                AccountChange::ProfileSet {
                    name: Some("Ana Lima".parse().unwrap()),
                    phone: Some("11 91234-5678".parse().unwrap()),
                    locale: Locale::En,
                    zone: Some("Europe/Lisbon".parse().unwrap()),
                },
            ),
            (ana, stamp(3, 3), AccountChange::EmailPending(email("new@example.com"))),
            (ana, stamp(4, 4), AccountChange::PhotoSet(photo)),
            (ana, stamp(5, 5), AccountChange::RoleGranted(Role::Admin)),
        ];
        flush::<accounts::Accounts>(&pool, changes).await.unwrap();
        let row = accounts::by_id(&pool, ana).await.unwrap().unwrap();
        assert_eq!(row.name.as_ref().unwrap().as_str(), "Ana Lima");
        assert_eq!(row.phone.as_ref().unwrap().as_str(), "11 91234-5678");
        assert_eq!((row.locale, row.zone.unwrap().name()), (Locale::En, "Europe/Lisbon"));
        assert_eq!(row.pending_email, email("new@example.com"));
        assert_eq!((row.photo, row.status, row.generation), (photo, Standing::Active, 0));

        let changed = AccountChange::EmailChanged(email("new@example.com"));
        let changes = vec![
            (ana, stamp(6, 6), changed),
            (ana, stamp(7, 7), AccountChange::RoleRevoked(Role::Admin)),
            (ana, stamp(8, 8), AccountChange::SessionsEnded),
            (ana, stamp(9, 9), AccountChange::EmailPending(email("third@example.com"))),
            (ana, stamp(10, 10), AccountChange::CredentialsRenewed),
        ];
        flush::<accounts::Accounts>(&pool, changes).await.unwrap();
        let row = accounts::by_id(&pool, ana).await.unwrap().unwrap();
        assert_eq!((row.email, row.email_confirmed), (email("new@example.com"), true));
        assert_eq!((row.roles, row.generation, row.pending_email), (vec![Role::Client], 3, None));

        let changes = vec![(ana, stamp(11, 11), AccountChange::Deactivated)];
        flush::<accounts::Accounts>(&pool, changes).await.unwrap();
        let row = accounts::by_id(&pool, ana).await.unwrap().unwrap();
        assert_eq!((row.status, row.generation), (Standing::Deactivated, 4));
        let changes = vec![
            (ana, stamp(12, 12), AccountChange::Reactivated),
            (ana, stamp(13, 13), AccountChange::PhotoSet(None)),
            (ana, stamp(14, 14), AccountChange::Erased),
        ];
        flush::<accounts::Accounts>(&pool, changes).await.unwrap();
        let row = accounts::by_id(&pool, ana).await.unwrap().unwrap();
        assert_eq!((&row.name, &row.email, &row.phone), (&None, &None, &None));
        assert_eq!((row.zone, row.photo, row.roles.len()), (None, None, 0));
        assert_eq!((row.status, row.generation), (Standing::Erased, 5));
    })
    .await;
}

#[tokio::test]
async fn accounts_are_listed_newest_first_page_by_page() {
    with_database(|pool| async move {
        let mut second = stamp(6, 1);
        second.at = position(1, 6);
        let changes = vec![
            (id(1), stamp(5, 1), registered()),
            (id(2), second, registered()),
            (id(3), stamp(7, 1), registered()),
        ];
        flush::<accounts::Accounts>(&pool, changes).await.unwrap();
        let limit = PageLimit::new(2).unwrap();
        let first = accounts::list(&pool, None, limit).await.unwrap();
        let ids: Vec<AccountId> = first.items.iter().map(|row| row.id).collect();
        assert_eq!(ids, [id(3), id(2)]);
        let rest = accounts::list(&pool, first.next_cursor.as_deref(), limit).await.unwrap();
        assert_eq!((rest.items[0].id, rest.items.len(), rest.next_cursor), (id(1), 1, None));
        assert!(accounts::list(&pool, Some("nonsense"), limit).await.is_err());
    })
    .await;
}

fn started(account: AccountId, generation: u32) -> SessionChange {
    SessionChange::Started {
        account,
        generation,
        expires_at: at("2026-06-01T00:00:00Z"),
        ip: Some("203.0.113.9".parse().unwrap()),
        user_agent: Some("Firefox".parse().unwrap()),
    }
}

#[tokio::test]
async fn a_session_is_listed_until_it_ends_expires_or_its_accounts_credentials_change() {
    with_database(|pool| async move {
        let (ana, bia): (AccountId, AccountId) = (id(7), id(8));
        let now = at("2026-03-01T00:00:00Z");
        let listed = async |account, now| {
            let page = sessions::of_account(&pool, account, now, None, PageLimit::default());
            page.await.unwrap().items.iter().map(|row| row.id).collect::<Vec<SessionId>>()
        };
        let accounts = vec![(ana, stamp(1, 1), registered()), (bia, stamp(2, 1), registered())];
        flush::<accounts::Accounts>(&pool, accounts).await.unwrap();
        let batch = || {
            vec![
                (id(1), stamp(3, 1), started(ana, 0)),
                (id(2), stamp(4, 1), started(ana, 0)),
                (id(3), stamp(5, 1), started(bia, 0)),
                (id(4), stamp(6, 1), started(ana, 0)),
            ]
        };
        assert_eq!(flush::<sessions::Sessions>(&pool, batch()).await.unwrap(), 4);
        assert_eq!(flush::<sessions::Sessions>(&pool, batch()).await.unwrap(), 0, "twice is once");
        assert_eq!(listed(ana, now).await, [id(4), id(2), id(1)]);
        assert_eq!(listed(bia, now).await, [id(3)]);
        assert!(listed(ana, at("2026-06-01T00:00:00Z")).await.is_empty(), "their time is up");

        let ended = SessionChange::Ended { at: now, reason: EndReason::EndedByOwner };
        flush::<sessions::Sessions>(&pool, vec![(id(2), stamp(7, 2), ended)]).await.unwrap();
        assert_eq!(listed(ana, now).await, [id(4), id(1)]);
        let row = sessions::by_id(&pool, id(2)).await.unwrap().unwrap();
        assert_eq!((row.ended_at, row.end_reason), (Some(now), Some(EndReason::EndedByOwner)));
        assert_eq!(row.started_at(), stamp(4, 1).recorded_at);
        assert_eq!(row.ip.as_ref().unwrap().as_str(), "203.0.113.9");

        let limit = PageLimit::new(1).unwrap();
        let first = sessions::of_account(&pool, ana, now, None, limit).await.unwrap();
        let cursor = first.next_cursor.as_deref();
        let next = sessions::of_account(&pool, ana, now, cursor, limit).await.unwrap();
        assert_eq!((next.items[0].id, next.next_cursor), (id(1), None));

        let renewed = vec![(ana, stamp(8, 2), AccountChange::CredentialsRenewed)];
        flush::<accounts::Accounts>(&pool, renewed).await.unwrap();
        assert!(listed(ana, now).await.is_empty(), "one event of the account ends them all");
        let again = vec![(id(5), stamp(9, 1), started(ana, 1))];
        flush::<sessions::Sessions>(&pool, again).await.unwrap();
        assert_eq!(listed(ana, now).await, [id(5)]);
        let closed = vec![(bia, stamp(10, 2), AccountChange::Deactivated)];
        flush::<accounts::Accounts>(&pool, closed).await.unwrap();
        assert!(listed(bia, now).await.is_empty());

        sessions::forget_whose(&mut pool.acquire().await.unwrap(), &[ana]).await.unwrap();
        for (session, known) in [(id(2), false), (id(5), false), (id(3), true)] {
            let row = sessions::by_id(&pool, session).await.unwrap().unwrap();
            assert_eq!((row.ip.is_some(), row.user_agent.is_some()), (known, known));
        }
    })
    .await;
}

#[tokio::test]
async fn a_shop_whose_doors_are_shut_has_no_page_and_is_not_listed() {
    with_database(|pool| async move {
        let shop: ProviderId = id(2);
        let slug = "salao-da-ana".parse().unwrap();
        let found = async || {
            let listed = everything(&pool, &Filter::default(), 20).await;
            (providers::by_slug(&pool, &slug).await.unwrap().is_some(), listed.len())
        };
        let opened = vec![(shop, stamp(1, 1), opened(3, "salao-da-ana", Some("Salão da Ana")))];
        flush::<providers::Providers>(&pool, opened).await.unwrap();
        for (number, change, expected) in [
            (2, ProviderChange::DoorsSet { is_open: false }, (false, 0)),
            (3, ProviderChange::DoorsSet { is_open: true }, (true, 1)),
            (4, ProviderChange::Closed, (false, 0)),
        ] {
            flush::<providers::Providers>(&pool, vec![(shop, stamp(number, number), change)])
                .await
                .unwrap();
            assert_eq!(found().await, expected);
        }
        let row = providers::by_id(&pool, shop).await.unwrap().unwrap();
        assert_eq!((row.slug, row.business_name), (None, None));
    })
    .await;
}
