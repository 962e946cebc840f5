//! What the tests share: ids, events that say little, a shop to book at.

use std::time::Duration;

use chrono::{NaiveDate, TimeDelta};
use domain::Instant;
use domain::account::{ConfirmEmail, RegisterAccount};
use domain::actor::{Actor, Role};
use domain::agenda::AgendaEvent;
use domain::aggregate::{StreamId, StreamKind};
use domain::appointment::BookAppointment;
use domain::command::{ClaimHasher as _, ClaimKind};
use domain::event::Event;
use domain::hours::Zone;
use domain::ids::{AccountId, AgendaId, AppointmentId, Id, Mint, ProviderId, RoutingSlot};
use domain::locale::Locale;
use domain::provider::{OpenProvider, ProviderIsOpen};
use event_log::{Append, CommandRow, EventLog, Executor, Idempotency, Origin, Recorded};
use uuid::Uuid;

/// A test that runs with 1 and with 7 partitions, each on a database of its own.
macro_rules! on_1_and_7_partitions {
    ($($(#[$meta:meta])* async fn $name:ident($database:ident, $partitions:ident) $body:block)*) => {$(
        mod $name {
            use super::*;

            $(#[$meta])*
            async fn run($database: &event_log::testing::TestDatabase, $partitions: u16) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn with_1_partition() {
                let database = event_log::testing::TestDatabase::create().await;
                run(&database, 1).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn with_7_partitions() {
                let database = event_log::testing::TestDatabase::create().await;
                run(&database, 7).await;
            }
        }
    )*};
}
pub(crate) use on_1_and_7_partitions;

pub(crate) fn slot(bits: u16) -> RoutingSlot {
    RoutingSlot::from_bits(bits)
}

/// The `n`-th agenda of a slot.
pub(crate) fn agenda(bits: u16, n: u32) -> StreamId {
    StreamId::of::<domain::agenda::Agenda>(Mint::new([1; 32]).id::<AgendaId>(slot(bits), n))
}

pub(crate) fn provider(bits: u16) -> ProviderId {
    Mint::new([2; 32]).id(slot(bits), 0)
}

fn day() -> NaiveDate {
    "2026-03-03".parse().unwrap()
}

/// An event that changes nothing, and can be told from another by its number.
pub(crate) fn event(n: u32) -> Event {
    let appointment: AppointmentId = Mint::new([3; 32]).id(slot(0), n);
    AgendaEvent::SlotFreed { provider: provider(0), day: day(), appointment }.into()
}

pub(crate) fn now() -> Instant {
    event_log::Clock::now(&event_log::SystemClock)
}

/// A row of a command without key.
pub(crate) fn row(bits: u16) -> CommandRow {
    CommandRow::without_key(slot(bits), now(), "{}")
}

/// A row of the command with this number.
pub(crate) fn keyed_row(bits: u16, n: u32, fingerprint: u8, result: &str) -> CommandRow {
    let id: Uuid = Mint::new([4; 32]).id::<domain::ids::CommandId>(slot(bits), n).uuid();
    CommandRow { id, fingerprint: [fingerprint; 32], result: result.to_owned() }
}

/// One event on one stream, by a command of its own.
pub(crate) fn one(stream: StreamId, expected: u64, n: u32) -> Append {
    Append::new(row(stream.slot().bits())).events(stream, expected, vec![event(n)])
}

/// Everything in a log, partition by partition, checked to be without gaps and in order of time.
pub(crate) async fn everything(log: &EventLog) -> Vec<Recorded> {
    let mut all = Vec::new();
    for partition in log.partitions().all() {
        let (mut after, mut last) = (0, None);
        loop {
            let page = log.tail(partition, after, 100).await.unwrap();
            let Some(end) = page.last() else { break };
            assert_eq!(
                page.iter().map(|r| r.at.number).collect::<Vec<_>>(),
                (after + 1..=end.at.number).collect::<Vec<_>>(),
            );
            assert!(page.iter().all(|r| r.at.partition == partition));
            for recorded in &page {
                assert!(Some(recorded.recorded_at) >= last, "time never runs backwards");
                last = Some(recorded.recorded_at);
            }
            after = end.at.number;
            all.extend(page);
        }
        assert_eq!(log.head(partition).await.unwrap(), after);
    }
    all
}

/// Waits until a condition holds.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "it never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether some statement of this database waits for a lock.
pub(crate) async fn somebody_waits(pool: &sqlx::PgPool) -> bool {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock')",
    )
    .fetch_one(pool)
    .await
    .unwrap()
}

pub(crate) fn origin(actor: &Actor) -> Origin {
    Origin::of(actor.clone(), "trace-1")
}

pub(crate) fn with_key(actor: &Actor, key: &str, fingerprint: u8) -> Origin {
    let idempotency = Some(Idempotency { key: key.to_owned(), fingerprint: [fingerprint; 32] });
    Origin { idempotency, ..origin(actor) }
}

/// Registers an account and confirms its address.
pub(crate) async fn person(executor: &Executor, name: &str) -> Actor {
    let email: domain::text::EmailAddress = format!("{name}@example.com").parse().unwrap();
    let register = RegisterAccount {
        name: name.parse().unwrap(),
        email: email.clone(),
        phone: None,
        locale: Locale::En,
        zone: None,
        as_provider: false,
        password_hash: "$argon2id$".to_owned(),
    };
    executor.execute(register, origin(&Actor::Anonymous)).await.unwrap();
    let claim = executor.log().claim_key(ClaimKind::Email, email.as_str());
    let id = AccountId::trusted(executor.log().claim_owner(claim).await.unwrap().unwrap());
    executor.execute(ConfirmEmail { account: id }, origin(&Actor::Anonymous)).await.unwrap();
    Actor::Account { id, roles: vec![Role::Client] }
}

/// Opens a classic shop of this account.
pub(crate) async fn shop(executor: &Executor, owner: &Actor, slug: &str) -> ProviderIsOpen {
    let open = OpenProvider {
        business_name: slug.parse().unwrap(),
        slug: slug.parse().unwrap(),
        zone: Zone::SAO_PAULO,
        hourly_rate: None,
        weekly: None,
        policy: None,
        service: None,
    };
    executor.execute(open, origin(owner)).await.unwrap().outcome
}

/// A booking of the slot that starts `hour` o'clock in São Paulo, two days from now.
pub(crate) fn booking(log: &EventLog, provider: ProviderId, hour: i64) -> BookAppointment {
    let midnight = log.clock().now().date_naive().and_hms_opt(3, 0, 0).unwrap().and_utc();
    let start = midnight + TimeDelta::days(2) + TimeDelta::hours(hour);
    BookAppointment { provider, service: None, start, notes: None, hold: None }
}

/// Whether an event is of an agenda.
pub(crate) fn of_agenda(recorded: &Recorded) -> bool {
    recorded.stream.kind == StreamKind::Agenda
}
