//! Twice equals once, and from zero equals live: read tables, both feeds, both caches.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{NaiveDate, TimeDelta};
use domain::actor::Actor;
use domain::agenda::Agenda;
use domain::appointment::{
    Appointment, BookAppointment, CancelAppointment, ConfirmAppointment, DeclineAppointment,
    Parties, RescheduleAppointment,
};
use domain::category::{AddCategory, ChangeCategory, Listing, RemoveCategory};
use domain::command::Command;
use domain::event::Event;
use domain::hold::{HoldSlot, ReleaseHold};
use domain::holidays::HolidayCalendar;
use domain::hours::{Confirmation, Policy, Windows};
use domain::ids::{AccountId, AgendaId, AppointmentId, ProviderId};
use domain::locale::Locale;
use domain::notification_feed::{MarkAllNotificationsRead, MarkNotificationRead};
use domain::position::PositionToken;
use domain::provider::{
    AddService, ChangeProvider, ChangeProviderProfile, ChangeSlug, Details, Offer, OverrideDay,
    Point, Provider, RemoveService, ReorderServices, SetHolidays, SetProviderStanding, Standing,
    TakeTimeOff,
};
use domain::waitlist::{JoinWaitlist, OfferFreedSlot};
use event_log::testing::{FrozenClock, PARTITIONS, TestDatabase, options};
use event_log::{EventLog, Executor};
use projectors::read_models::availability::AvailabilityProjector;
use projectors::read_models::notifications::NotificationsProjector;
use projectors::read_models::read_tables::ReadTables;
use projectors::runner::{Batch, Projector, Runner, Sharing};
use projectors::tail::SharedTail;
use read_models::availability::{
    AvailabilityCache, InProcessCache, InProcessOptions, RedisCache, RedisOptions,
};
use read_models::fanout::InProcessFanout;
use read_models::notifications::{
    Filter, MongoFeed, MongoOptions, Notification, NotificationFeed, PostgresFeed,
};
use read_models::paging::PageLimit;
use tokio_util::sync::CancellationToken;

use crate::common::*;

const TABLES: [&str; 6] =
    ["accounts", "providers", "services", "appointments", "categories", "waits"];

/// A little town, with something of everything that happens.
struct Town {
    executor: Executor,
    clock: Arc<FrozenClock>,
    shops: Vec<ProviderId>,
    people: Vec<AccountId>,
}

impl Town {
    async fn found(database: &TestDatabase, partitions: u16) -> Self {
        // Monday, 09:00 in São Paulo.
        let clock = Arc::new(FrozenClock::at_text("2026-03-02T12:00:00Z"));
        let log = database.log_with(clock.clone(), options(partitions)).await;
        let mut town =
            Self { executor: Executor::new(log), clock, shops: Vec::new(), people: Vec::new() };
        town.live().await;
        town
    }

    fn log(&self) -> &EventLog {
        self.executor.log()
    }

    async fn person(&mut self, name: &str) -> Actor {
        let person = person(&self.executor, name).await;
        self.people.extend(person.account());
        person
    }

    /// A minute passes, and somebody does something; its last event.
    async fn does<C: Command>(&self, who: &Actor, command: C) -> (C::Outcome, PositionToken) {
        self.clock.advance(TimeDelta::minutes(1));
        let done = self.executor.execute(command, origin(who)).await.unwrap();
        (done.outcome, done.positions)
    }

    async fn books(&self, who: &Actor, shop: ProviderId, day: i64, hour: i64) -> AppointmentId {
        let monday = "2026-03-02T03:00:00Z".parse::<domain::Instant>().unwrap();
        let start = monday + TimeDelta::days(day) + TimeDelta::hours(hour);
        let notes = Some("please be gentle".parse().unwrap());
        let booking = BookAppointment { provider: shop, service: None, start, notes, hold: None };
        self.does(who, booking).await.0.appointment
    }

    async fn live(&mut self) {
        let (ana, bia, caio) =
            (self.person("Ana").await, self.person("Bia").await, self.person("Caio").await);
        let eva = self.person("Eva").await;
        let careful = shop(&self.executor, &ana, "careful", None).await.provider;
        let at_once = Policy { confirmation: Confirmation::Automatic, ..Policy::classic() };
        let quick = shop(&self.executor, &eva, "quick", Some(at_once)).await.provider;
        self.shops = vec![careful, quick];
        let first = self.books(&bia, careful, 1, 9).await;
        self.does(&ana, ConfirmAppointment { appointment: first }).await;
        let second = self.books(&bia, careful, 1, 10).await;
        self.does(&ana, DeclineAppointment { appointment: second, reason: None }).await;
        let third = self.books(&caio, quick, 1, 11).await;
        // The shop has another name from here on: what was told before keeps the old one.
        let renamed = ChangeProviderProfile {
            business_name: "Quicker".parse().unwrap(),
            hourly_rate: None,
            details: Details::default(),
        };
        self.does(&eva, ChangeProvider { provider: quick, change: renamed }).await;
        self.books(&bia, quick, 1, 12).await;
        let start = "2026-03-04T17:00:00Z".parse().unwrap();
        self.does(&eva, RescheduleAppointment { appointment: third, start }).await;
        let cancel = CancelAppointment { appointment: first, reason: Some("ill".parse().unwrap()) };
        self.does(&bia, cancel).await;
        let day = "2026-03-06".parse().unwrap();
        let off = OverrideDay { day, windows: Windows::default() };
        self.does(&ana, ChangeProvider { provider: careful, change: off }).await;
        let offer = Offer { duration_minutes: 30, ..Offer::classic(Locale::En) };
        let added = ChangeProvider { provider: careful, change: AddService { offer } };
        let service = self.does(&ana, added).await.0.service.unwrap();
        let removed = ChangeProvider { provider: careful, change: RemoveService { service } };
        self.does(&ana, removed).await;
        let from_to =
            serde_json::json!({ "from": "2026-03-07T10:30", "until": "2026-03-08T00:00" });
        let time_off = serde_json::from_value(from_to).unwrap();
        let reason = Some("a rest".parse().unwrap());
        self.does(&ana, TakeTimeOff { provider: careful, time_off, reason }).await;
        let holidays = Some(HolidayCalendar::Brazil);
        self.does(&ana, ChangeProvider { provider: careful, change: SetHolidays { holidays } })
            .await;
        // One that becomes an appointment, one that is let go, one that ends by itself.
        let hold = |day: u32| {
            let start = format!("2026-03-{day:02}T13:00:00Z").parse().unwrap();
            HoldSlot { provider: careful, service: None, start }
        };
        let held = self.does(&caio, hold(9)).await.0;
        let start = held.held.slot.start;
        let (service, notes, hold_of) = (None, None, Some(held.hold));
        let booking = BookAppointment { provider: careful, service, start, notes, hold: hold_of };
        self.does(&caio, booking).await;
        let let_go = self.does(&caio, hold(10)).await.0.hold;
        self.does(&caio, ReleaseHold { hold: let_go }).await;
        self.does(&caio, hold(11)).await;
        // What was let go is offered to who waits for that day, and to nobody else.
        let waits = |from: &str, to: &str| {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            JoinWaitlist { provider: careful, service: None, from, to }
        };
        self.does(&bia, waits("2026-03-11T13:00:00Z", "2026-03-11T14:00:00Z")).await;
        self.does(&caio, waits("2026-03-11T04:00:00Z", "2026-03-11T05:00:00Z")).await;
        self.clock.advance(TimeDelta::minutes(20));
        let day = "2026-03-11".parse().unwrap();
        let offer = OfferFreedSlot { provider: careful, day };
        self.does(&Actor::System("test"), offer).await.0.offered.expect("Bia is offered it");
        // Two days for late appointments: 21:00 in São Paulo is midnight in UTC.
        self.books(&caio, careful, 2, 17).await;
        let notification = self.position_of(second).await;
        let concerns = Some(self.parties_of(second).await);
        self.does(&ana, MarkNotificationRead { notification, concerns }).await;
        let until = self.log().recorded_until().await.unwrap();
        self.does(&bia, MarkAllNotificationsRead { until }).await;
        self.books(&bia, careful, 3, 9).await;
        self.is_catalogued(&ana, careful).await;
    }

    /// Categories come, change and go; a shop says much of itself, moves, and orders its services.
    async fn is_catalogued(&self, owner: &Actor, shop: ProviderId) {
        let pontual = Actor::System("test");
        let listing = |slug: &str| Listing {
            name: "Hair".parse().unwrap(),
            slug: slug.parse().unwrap(),
            description: None,
            icon: None,
            color: Some("#aa33ff".parse().unwrap()),
            is_active: true,
            sort_order: 3,
        };
        let add = |slug| AddCategory { listing: listing(slug) };
        let hair = self.does(&pontual, add("hair")).await.0.category;
        let gone = self.does(&pontual, add("gone")).await.0.category;
        let change = ChangeCategory { category: hair, listing: listing("hairs") };
        self.does(&pontual, change).await;
        self.does(&pontual, RemoveCategory { category: gone }).await;
        // Not offered at present, so that the shop still has one that goes without saying.
        let offer = Offer { category: Some(hair), is_active: false, ..Offer::classic(Locale::En) };
        let added = ChangeProvider { provider: shop, change: AddService { offer } };
        self.does(owner, added).await;
        let known = self.log().load::<Provider>(shop).await.unwrap();
        let order = known.state.services.keys().copied().rev().collect();
        let reorder = ChangeProvider { provider: shop, change: ReorderServices { order } };
        self.does(owner, reorder).await;
        let details = Details {
            description: Some("By appointment.".parse().unwrap()),
            city: Some("São Paulo".parse().unwrap()),
            point: Some(Point::from_degrees(-23.55, -46.63).unwrap()),
            specializations: vec!["Brides".parse().unwrap()].try_into().unwrap(),
            ..Details::default()
        };
        let business_name = "Careful".parse().unwrap();
        let change = ChangeProviderProfile { business_name, hourly_rate: None, details };
        self.does(owner, ChangeProvider { provider: shop, change }).await;
        let slug = "more-careful".parse().unwrap();
        self.does(owner, ChangeSlug { provider: shop, slug }).await;
        let standing = Standing { is_verified: true, plan: "pro".parse().unwrap() };
        self.does(&pontual, SetProviderStanding { provider: shop, standing }).await;
    }

    /// The position of an appointment's first event.
    async fn position_of(&self, appointment: AppointmentId) -> domain::position::Position {
        let stream =
            domain::aggregate::StreamId::of::<domain::appointment::Appointment>(appointment);
        self.log().stream(stream, 0, 1).await.unwrap()[0].at
    }

    async fn parties_of(&self, appointment: AppointmentId) -> Parties {
        let stored = self.log().load::<Appointment>(appointment).await.unwrap();
        stored.state.booked().unwrap().terms.parties()
    }

    /// The UTC days on which something was ever taken.
    async fn days(&self) -> Vec<NaiveDate> {
        let mut days = std::collections::BTreeSet::new();
        for partition in self.log().partitions().all() {
            for recorded in self.log().tail(partition, 0, 1000).await.unwrap() {
                if let Event::Agenda(event) = recorded.event {
                    days.insert(event.whose().1);
                }
            }
        }
        days.into_iter().collect()
    }
}

/// Runs projectors until they have come to the heads.
async fn follow(log: &EventLog, projectors: &[(Arc<dyn Projector>, Sharing)]) {
    let stop = CancellationToken::new();
    let mut runner = Runner::new(SharedTail::new(log.clone()), stop.clone());
    projectors.iter().for_each(|(projector, sharing)| runner.start(projector.clone(), *sharing));
    for (projector, _) in projectors {
        for partition in log.partitions().all() {
            let head = log.head(partition).await.unwrap();
            until(&format!("{} is at {partition}:{head}", projector.name()), async || {
                projector.position(partition).await.is_ok_and(|at| at == head)
            })
            .await;
        }
    }
    stop.cancel();
    runner.join().await;
}

/// Applies the whole log once more, in batches of so many, without moving a checkpoint.
async fn repeat(log: &EventLog, projector: &dyn Projector, size: usize) {
    for partition in log.partitions().all() {
        let events = log.tail(partition, 0, 1000).await.unwrap();
        for chunk in events.chunks(size) {
            let events = chunk.iter().filter(|e| projector.document(e).is_some()).collect();
            let batch = Batch { partition, events, checkpoint: None, lease: None };
            projector.apply(&batch).await.unwrap();
        }
    }
}

/// Every row of the read tables.
async fn rows(log: &EventLog) -> BTreeMap<&'static str, Vec<String>> {
    let mut all = BTreeMap::new();
    for table in TABLES {
        let sql = format!("SELECT row_to_json(t)::text FROM {table} t ORDER BY id");
        let rows: Vec<String> = sqlx::query_scalar(&sql).fetch_all(log.pool()).await.unwrap();
        assert!(!rows.is_empty(), "{table}");
        all.insert(table, rows);
    }
    all
}

/// Everybody's feed.
async fn feeds(town: &Town, feed: &dyn NotificationFeed) -> BTreeMap<AccountId, Vec<Notification>> {
    let mut all = BTreeMap::new();
    let limit = PageLimit::new(100).unwrap();
    for person in &town.people {
        let page = feed.list(*person, Filter::All, None, limit).await.unwrap();
        let unread = page.items.iter().filter(|item| !item.read).count();
        let counts = feed.counts(*person).await.unwrap();
        assert_eq!((counts.unread, counts.total), (unread as u64, page.items.len() as u64));
        all.insert(*person, page.items);
    }
    all
}

#[tokio::test]
async fn read_tables_applied_twice_or_rebuilt_from_zero_are_the_same_row_by_row() {
    for partitions in PARTITIONS {
        let database = TestDatabase::create().await;
        let town = Town::found(&database, partitions).await;
        let log = town.log();
        let tables: Arc<dyn Projector> = Arc::new(ReadTables::new(log.clone()));
        follow(log, &[(tables.clone(), Sharing::Leased)]).await;
        let live = rows(log).await;
        assert_eq!(live["appointments"].len(), 7);
        for size in [1, 7, 500] {
            repeat(log, &*tables, size).await;
            assert_eq!(rows(log).await, live, "in batches of {size}");
        }
        let mut transaction = log.pool().begin().await.unwrap();
        for table in TABLES {
            sqlx::query(&format!("TRUNCATE {table}")).execute(&mut *transaction).await.unwrap();
        }
        event_log::checkpoints::reset(&mut transaction, ReadTables::NAME).await.unwrap();
        transaction.commit().await.unwrap();
        follow(log, &[(tables, Sharing::Leased)]).await;
        assert_eq!(rows(log).await, live, "from zero");
    }
}

#[tokio::test]
async fn both_feeds_applied_twice_or_rebuilt_from_zero_say_the_same() {
    for partitions in PARTITIONS {
        let database = TestDatabase::create().await;
        let town = Town::found(&database, partitions).await;
        let log = town.log();
        let name = format!("projectors_{:032x}", rand::random::<u128>());
        let url = format!("{}/{name}", server("TEST_MONGODB_URL").trim_end_matches('/'));
        let mongo = async |generation| {
            let options = MongoOptions { generation, ..MongoOptions::default() };
            Arc::new(MongoFeed::new(&url, log.partitions(), options).await.unwrap())
        };
        let (first, second): (Arc<dyn NotificationFeed>, Arc<dyn NotificationFeed>) =
            (mongo(1).await, mongo(2).await);
        let in_postgres: Arc<dyn NotificationFeed> =
            Arc::new(PostgresFeed::new(log.pool().clone(), log.partitions()));
        let mut live = None;
        for feed in [in_postgres, first, second] {
            let projector: Arc<dyn Projector> =
                Arc::new(NotificationsProjector::new(log.clone(), feed.clone(), None));
            follow(log, &[(projector.clone(), Sharing::Leased)]).await;
            let told = feeds(&town, &*feed).await;
            assert_eq!(*live.get_or_insert_with(|| told.clone()), told);
            for size in [1, 500] {
                repeat(log, &*projector, size).await;
                assert_eq!(feeds(&town, &*feed).await, told, "in batches of {size}");
            }
            assert_eq!(feed.applied_all().await.unwrap(), log.heads().await.unwrap());
        }
        let [ana, bia, caio, eva] = town.people[..] else { panic!("four people") };
        let told = live.unwrap();
        let lines = |person| -> Vec<String> {
            let line = |n: &Notification| {
                let other = n.content.other_name.as_ref().map_or("", |name| name.as_str());
                format!(
                    "{} {other} {}",
                    n.content.kind.as_str(),
                    if n.read { "read" } else { "new" }
                )
            };
            told[&person].iter().map(line).collect()
        };
        assert_eq!(
            lines(ana),
            [
                "new_booking Bia new",
                "new_booking Caio new",
                "new_booking Caio new",
                "booking_cancelled Bia new",
                "new_booking Bia read",
                "new_booking Bia new"
            ]
        );
        assert_eq!(
            lines(bia),
            [
                "waitlist_offer careful read",
                "booking_confirmed Quicker read",
                "booking_declined careful read",
                "booking_confirmed careful read"
            ]
        );
        assert_eq!(lines(caio), ["booking_rescheduled Quicker new", "booking_confirmed quick new"]);
        assert_eq!(lines(eva), ["new_booking Bia new", "new_booking Caio new"]);
        let client = mongodb::Client::with_uri_str(&url).await.unwrap();
        client.database(&name).drop().await.unwrap();
    }
}

#[tokio::test]
async fn both_caches_applied_twice_or_from_zero_hold_what_the_log_says() {
    for partitions in PARTITIONS {
        let database = TestDatabase::create().await;
        // The local one starts at the heads: it must be there before anything happens.
        let log = database.log(partitions).await;
        let in_process: Arc<dyn AvailabilityCache> =
            Arc::new(InProcessCache::new(log.partitions(), InProcessOptions::default()));
        let fanout = Arc::new(InProcessFanout::default());
        let local =
            AvailabilityProjector::local(log, in_process.clone(), fanout.clone()).await.unwrap();
        let town = Town::found(&database, partitions).await;
        let log = town.log();
        let redis = || -> Arc<dyn AvailabilityCache> {
            let namespace = format!("projectors-{:032x}:", rand::random::<u128>());
            let ttl = std::time::Duration::from_secs(600);
            let options = RedisOptions { namespace, ttl, ..RedisOptions::default() };
            let url = server("TEST_REDIS_URL");
            Arc::new(RedisCache::new(&url, log.partitions(), options).unwrap())
        };
        let in_redis = redis();
        let shared = AvailabilityProjector::shared(log.clone(), in_redis.clone(), fanout.clone());
        let (local, shared): (Arc<dyn Projector>, Arc<dyn Projector>) =
            (Arc::new(local), Arc::new(shared));
        follow(log, &[(local.clone(), Sharing::Local), (shared.clone(), Sharing::Leased)]).await;

        let days = town.days().await;
        let mut live = None;
        for (cache, projector) in [(in_process, local), (in_redis, shared)] {
            let look = async || {
                let mut seen = Vec::new();
                for shop in &town.shops {
                    let mut docs = cache.get(*shop, &days).await.unwrap();
                    let partition = log.partition_of(domain::ids::Id::slot(*shop));
                    assert_eq!(
                        // Taken out: of two caches each counts its own epochs.
                        docs.state.take().map(|state| state.applied()),
                        Some(log.head(partition).await.unwrap())
                    );
                    assert!(docs.schedule.is_some());
                    for (day, doc) in &docs.days {
                        let id = AgendaId::of(*shop, *day);
                        let agenda = log.load::<Agenda>(id).await.unwrap();
                        let number = agenda.last.map(|last| last.number);
                        assert_eq!(doc.as_ref().map(|doc| doc.number), number, "{day}");
                        let taken =
                            doc.as_ref().and_then(|doc| Some(doc.value.as_ref()?.taken.clone()));
                        assert_eq!(taken.unwrap_or_default(), agenda.state.taken(), "{day}");
                    }
                    seen.push(docs);
                }
                seen
            };
            let once = look().await;
            assert_eq!(*live.get_or_insert_with(|| once.clone()), once);
            for size in [1, 7, 500] {
                repeat(log, &*projector, size).await;
                assert_eq!(look().await, once, "in batches of {size}");
            }
        }
    }
}

#[tokio::test]
async fn a_cache_that_was_lost_is_noticed_without_an_event_and_filled_from_the_log() {
    let database = TestDatabase::create().await;
    let town = Town::found(&database, 1).await;
    let log = town.log();
    let cache = Arc::new(InProcessCache::new(log.partitions(), InProcessOptions::default()));
    let fanout = Arc::new(InProcessFanout::default());
    let projector: Arc<dyn Projector> =
        Arc::new(AvailabilityProjector::shared(log.clone(), cache.clone(), fanout));
    let stop = CancellationToken::new();
    let mut runner = Runner::new(SharedTail::new(log.clone()), stop.clone());
    runner.start(projector, Sharing::Leased);
    caught_up(log, AvailabilityProjector::NAME).await;
    let head = log.heads().await.unwrap();
    until("the cache is applied", async || cache.applied().await.unwrap() == head).await;
    cache.clear();
    assert!(cache.applied().await.unwrap().is_empty());
    until("the heartbeat tells it where the log is", async || {
        cache.applied().await.unwrap() == head
    })
    .await;
    let docs = cache.get(town.shops[0], &town.days().await).await.unwrap();
    assert!(docs.schedule.is_none(), "cold, not wrong");
    // The next event of the shop finds its place again, although the cache has forgotten all before it.
    let bia = Actor::Account { id: town.people[1], roles: Vec::new() };
    town.books(&bia, town.shops[0], 3, 11).await;
    caught_up(log, AvailabilityProjector::NAME).await;
    let day = "2026-03-05".parse().unwrap();
    let docs = cache.get(town.shops[0], &[day]).await.unwrap();
    let doc = docs.days[0].1.clone().unwrap();
    assert_eq!(doc.value.unwrap().taken.len(), 2, "the whole day, not what came since");
    stop.cancel();
    runner.join().await;
}
