//! What the tests of this crate share: servers, ids, examples.

use std::future::Future;

use chrono::{DateTime, NaiveDate};
use domain::Instant;
use domain::appointment::{Client, Contact, Status};
use domain::hours::{Policy, WeeklyHours, Zone};
use domain::ids::{Id, Mint, ProviderId, RoutingSlot, ServiceId};
use domain::locale::Locale;
use domain::position::{Partition, PartitionCount, Position};
use domain::provider::{Offer, Service};
use domain::slots::{Schedule, Span};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};

use crate::appointments::NewAppointment;
use crate::availability::ScheduleDoc;
use crate::table::Stamp;

/// The URL of a real server.
pub(crate) fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run scripts/test.sh"))
}

/// A name nobody else uses.
pub(crate) fn unique(prefix: &str) -> String {
    format!("{prefix}_{:016x}", rand::random::<u64>())
}

/// Runs a test in a migrated database of its own, and drops it even when the test fails.
pub(crate) async fn with_database<F>(test: impl FnOnce(PgPool) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let url = server("TEST_DATABASE_URL");
    let name = unique("read_models");
    let admin = PgPool::connect(&url).await.expect("Postgres answers");
    admin.execute(format!("CREATE DATABASE {name}").as_str()).await.expect("may create databases");
    let (server, _) = url.rsplit_once('/').expect("the URL names a database");
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .connect(&format!("{server}/{name}"))
        .await
        .expect("the new database answers");
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
    sqlx::migrate::Migrator::new(std::path::Path::new(migrations))
        .await
        .expect("the migrations are readable")
        .run(&pool)
        .await
        .expect("the migrations apply");
    let outcome = tokio::spawn(test(pool.clone())).await;
    pool.close().await;
    admin
        .execute(format!("DROP DATABASE {name} WITH (FORCE)").as_str())
        .await
        .expect("may drop what it created");
    if let Err(failed) = outcome {
        std::panic::resume_unwind(failed.into_panic());
    }
}

pub(crate) fn partitions(count: u16) -> PartitionCount {
    PartitionCount::new(count).expect("a valid count")
}

/// The `n`-th id of its kind, in slot `n`.
pub(crate) fn id<I: Id>(n: u16) -> I {
    Mint::new([1; 32]).id(RoutingSlot::from_bits(n), n.into())
}

/// The `n`-th provider whose slot lies in this partition of so many.
pub(crate) fn provider_in(partition: u16, count: u16, n: u16) -> ProviderId {
    Mint::new([2; 32]).id(RoutingSlot::from_bits(partition + n * count), n.into())
}

pub(crate) fn at(text: &str) -> Instant {
    DateTime::parse_from_rfc3339(text).expect("an instant").into()
}

pub(crate) fn day(text: &str) -> NaiveDate {
    text.parse().expect("a date")
}

pub(crate) fn position(partition: u16, number: u64) -> Position {
    Position { partition: Partition(partition), number }
}

/// The stamp of event `number` of partition 0, its stream's `version`-th.
pub(crate) fn stamp(number: u64, version: u64) -> Stamp {
    let recorded_at = at("2026-03-01T12:00:00Z")
        + chrono::TimeDelta::seconds(i64::try_from(number).expect("a small number"));
    Stamp { at: position(0, number), version, recorded_at }
}

pub(crate) fn span(start: &str, minutes: i64) -> Span {
    let start = at(start);
    Span { start, end: start + chrono::TimeDelta::minutes(minutes) }
}

/// A classic shop in a zone, with one service.
pub(crate) fn schedule(zone: &str, service: ServiceId) -> ScheduleDoc {
    ScheduleDoc {
        schedule: Schedule {
            zone: zone.parse().expect("a zone"),
            weekly: WeeklyHours::classic(),
            policy: Policy::classic(),
            ..Schedule::default()
        },
        services: vec![Service::of(id(3), service, Offer::classic(Locale::En)).measure()],
    }
}

/// An appointment of client 1 with provider 2.
pub(crate) fn appointment(start: &str) -> NewAppointment {
    NewAppointment {
        provider: id(2),
        provider_account: id(3),
        client: Client::Account(id(1)),
        service: id(4),
        service_name: Some("Corte".parse().expect("a name")),
        slot: span(start, 60),
        zone: Zone::SAO_PAULO,
        status: Status::Pending,
        price: serde_json::from_str(r#"{"amount_minor":12000}"#).expect("money"),
        contact: Some(Contact {
            name: "Ana Maria".parse().expect("a name"),
            email: "ana@example.com".parse().expect("an address"),
            phone: Some("+55 11 99999-0000".parse().expect("a number")),
        }),
        client_notes: Some("two\nlines".parse().expect("a note")),
        answer_by: None,
        series: None,
    }
}
