//! Providers: opening a shop, and what its owner may change.

use cqrs_es::test::TestFramework;
use domain::Refusal;
use domain::account::Account;
use domain::actor::{Actor, Role};
use domain::aggregate::Context;
use domain::command::ClaimKind;
use domain::hours::{Policy, WeeklyHours, Windows, Zone};
use domain::ids::{AccountId, Id, Mint, ProviderId, RoutingSlot, ServiceId};
use domain::locale::Locale;
use domain::money::{Currency, Money};
use domain::personal::Personal;
use domain::provider::{
    AddService, ChangeProvider, ChangeProviderProfile, ChangeService, Details, Offer, OverrideDay,
    OwnersChange, Provider, ProviderCommand, ProviderEvent, RemoveOverride, RemoveService, Service,
    SetPolicy, SetWeeklyHours, Standing,
};
use domain::slots::Schedule;

use crate::world::{Shop, World, classic, every_day, instant, offer, policy, windows};

fn slot() -> RoutingSlot {
    RoutingSlot::from_bits(5)
}

fn owner() -> AccountId {
    Mint::new([5; 32]).id(slot(), 0)
}

fn service(n: u32) -> Service {
    Service::of(owner(), Mint::new([5; 32]).id(slot(), n), Offer::classic(Locale::En))
}

fn opened() -> Vec<ProviderEvent> {
    vec![
        ProviderEvent::ProviderOpened {
            account: owner(),
            slug: Personal::of(owner(), "salao-da-bia".parse().unwrap()),
            business_name: Personal::of(owner(), "Salão da Bia".parse().unwrap()),
            hourly_rate: None,
            schedule: Box::new(Schedule {
                zone: Zone::SAO_PAULO,
                weekly: WeeklyHours::classic(),
                policy: Policy::classic(),
                ..Schedule::default()
            }),
        },
        ProviderEvent::ServiceAdded { service: service(0) },
    ]
}

fn when(more: Vec<ProviderEvent>, command: ProviderCommand) -> Result<Vec<ProviderEvent>, Refusal> {
    TestFramework::<Provider>::with(Context { now: instant("2026-03-02T10:00:00Z") })
        .given(opened())
        .and(more)
        .when(command)
        .inspect_result()
}

fn brl(amount_minor: i64) -> Money {
    Money::new(amount_minor, Currency::BRL).unwrap()
}

/// A command leads to its event, and once more to nothing.
fn once(command: ProviderCommand, event: ProviderEvent) {
    assert_eq!(when(vec![], command.clone()), Ok(vec![event.clone()]), "{command:?}");
    assert_eq!(when(vec![event], command.clone()), Ok(vec![]), "{command:?} again");
}

#[test]
fn every_change_is_one_event_and_asking_for_it_again_is_none() {
    let business_name = || Personal::of(owner(), "Salão da Beatriz".parse().unwrap());
    let hourly_rate = Some(brl(12_000).try_into().unwrap());
    let details = || Details { city: Some("Recife".parse().unwrap()), ..Details::default() };
    let details = || details().said().map(|details| Personal::of(owner(), details));
    once(
        ProviderCommand::ChangeProfile {
            business_name: business_name(),
            hourly_rate,
            details: details(),
        },
        ProviderEvent::ProfileChanged {
            business_name: business_name(),
            hourly_rate,
            details: details(),
        },
    );
    let standing = || Standing { is_verified: true, plan: "pro".parse().unwrap() };
    once(
        ProviderCommand::SetStanding(standing()),
        ProviderEvent::StandingSet { standing: standing() },
    );
    let (zone, weekly) = (Zone::SAO_PAULO, every_day(&[("09:00", "12:00"), ("13:00", "24:00")]));
    once(
        ProviderCommand::SetWeeklyHours { zone, weekly: weekly.clone() },
        ProviderEvent::WeeklyHoursSet { zone, weekly },
    );
    let (day, off) = ("2026-12-25".parse().unwrap(), Windows::default());
    once(
        ProviderCommand::OverrideDay { day, windows: off.clone() },
        ProviderEvent::DayOverridden { day, windows: off },
    );
    let new = policy(|p| p.horizon_days = 30).unwrap();
    once(ProviderCommand::SetPolicy(new.clone()), ProviderEvent::PolicySet { policy: new });
    let dearer = Service { price: Some(brl(5_000)), ..service(0) };
    once(
        ProviderCommand::ChangeService(dearer.clone()),
        ProviderEvent::ServiceChanged { service: dearer },
    );
}

#[test]
fn a_zone_alone_is_a_change_of_hours() {
    let (zone, weekly) = ("Europe/Lisbon".parse().unwrap(), WeeklyHours::classic());
    once(
        ProviderCommand::SetWeeklyHours { zone, weekly: weekly.clone() },
        ProviderEvent::WeeklyHoursSet { zone, weekly },
    );
}

#[test]
fn an_override_that_is_not_there_is_removed_already() {
    let day = "2026-12-25".parse().unwrap();
    let remove = ProviderCommand::RemoveOverride { day };
    assert_eq!(when(vec![], remove.clone()), Ok(vec![]));
    let overridden = ProviderEvent::DayOverridden { day, windows: Windows::default() };
    assert_eq!(when(vec![overridden], remove), Ok(vec![ProviderEvent::OverrideRemoved { day }]));
}

#[test]
fn a_service_that_is_not_offered_can_be_neither_changed_nor_removed() {
    for order in
        [ProviderCommand::ChangeService(service(7)), ProviderCommand::RemoveService(service(7).id)]
    {
        assert_eq!(when(vec![], order), Err(Refusal::NotFound("service")));
    }
}

#[test]
fn services_come_and_go() {
    let add = when(vec![], ProviderCommand::AddService(service(1)));
    // It stands behind those that are there.
    let last = Service { sort_order: 1, ..service(1) };
    assert_eq!(add, Ok(vec![ProviderEvent::ServiceAdded { service: last }]));
    let remove = when(vec![], ProviderCommand::RemoveService(service(0).id));
    assert_eq!(remove, Ok(vec![ProviderEvent::ServiceRemoved { service: service(0).id }]));
}

#[test]
fn a_service_whose_id_is_there_is_not_added_again() {
    let again = ProviderCommand::AddService(service(0));
    assert_eq!(when(vec![], again), Err(Refusal::KeySpent));
}

#[test]
fn what_a_shop_says_of_its_services_is_its_owners() {
    let mut provider = Provider::default();
    let mut unnamed = service(1);
    // As the first version of the event reads, which does not say whose a service is.
    let nobody: AccountId = Mint::new([6; 32]).id(slot(), 0);
    unnamed.name = Personal::of(nobody, "Corte".parse().unwrap());
    unnamed.description = Some(Personal::of(nobody, "Com lavagem".parse().unwrap()));
    for event in opened().into_iter().chain([ProviderEvent::ServiceAdded { service: unnamed }]) {
        domain::aggregate::Aggregate::evolve(&mut provider, &event);
    }
    for service in provider.services.values() {
        assert_eq!(service.name.subject(), owner().into());
        let description = service.description.as_ref().map(Personal::subject);
        assert!(description.is_none_or(|subject| subject == owner().into()));
    }
    assert_eq!(provider.services.len(), 2);
}

#[test]
fn services_and_overrides_have_a_limit_that_does_not_stop_a_retry() {
    let services: Vec<_> =
        (1..200).map(|n| ProviderEvent::ServiceAdded { service: service(n) }).collect();
    let add = |n| when(services.clone(), ProviderCommand::AddService(service(n)));
    assert_eq!(add(200), Err(Refusal::LimitReached { what: "services", limit: 200 }));
    assert_eq!(add(199), Err(Refusal::KeySpent));

    let first: chrono::NaiveDate = "2026-03-02".parse().unwrap();
    let days: Vec<_> = first.iter_days().take(1001).collect();
    let overrides: Vec<_> = days[..1000]
        .iter()
        .map(|day| ProviderEvent::DayOverridden { day: *day, windows: Windows::default() })
        .collect();
    let set = |day, windows| {
        when(overrides.clone(), ProviderCommand::OverrideDay { day, windows }).map(|e| e.len())
    };
    let limit = Err(Refusal::LimitReached { what: "overrides", limit: 1000 });
    assert_eq!(set(days[1000], Windows::default()), limit);
    assert_eq!(set(days[0], Windows::default()), Ok(0));
    assert_eq!(set(days[0], Windows::classic()), Ok(1));
}

#[test]
fn an_absurd_day_cannot_be_overridden() {
    let set = |day: &str| {
        let day = day.parse().unwrap();
        when(vec![], ProviderCommand::OverrideDay { day, windows: Windows::default() })
    };
    let beyond = Err(Refusal::DayOutOfReach { reach_days: 3650 });
    assert!(set("2016-03-04").is_ok() && set("2036-02-28").is_ok());
    assert_eq!(set("2016-03-03"), beyond);
    assert_eq!(set("-262143-01-01"), beyond);
    assert_eq!(set("2036-02-29"), beyond);
    assert_eq!(set("+262142-12-31"), beyond);
}

#[test]
fn nothing_can_be_asked_of_a_shop_that_was_not_opened() {
    let result = TestFramework::<Provider>::with(Context { now: instant("2026-03-02T10:00:00Z") })
        .given_no_previous_events()
        .when(ProviderCommand::SetPolicy(Policy::classic()))
        .inspect_result();
    assert_eq!(result, Err(Refusal::NotFound("provider")));
}

#[test]
fn the_price_is_the_services_own_else_the_hourly_rate_else_none() {
    let mut provider = Provider::default();
    for event in opened() {
        domain::aggregate::Aggregate::evolve(&mut provider, &event);
    }
    let priced = |price, duration_minutes| Service { price, duration_minutes, ..service(0) };
    assert_eq!(provider.price_of(&priced(None, 60)), None);
    assert_eq!(provider.price_of(&priced(Some(brl(7)), 60)), Some(brl(7)));
    provider.shop.as_mut().unwrap().hourly_rate = Some(brl(10_001).try_into().unwrap());
    assert_eq!(provider.price_of(&priced(None, 90)), Some(brl(15_002)), "rounded half up");
    assert_eq!(provider.price_of(&priced(Some(brl(0)), 90)), Some(brl(0)), "free is a price");
}

#[test]
fn opening_a_shop_gives_the_classic_profile_and_the_role() {
    let mut world = World::new();
    let bia = world.person("bia");
    let done = world.run(&bia, &classic()).unwrap();
    assert_eq!(done.names(), ["ProviderOpened", "RoleGranted", "ServiceAdded"]);
    let provider: Provider = world.get(done.outcome.provider);
    assert_eq!(provider.schedule.policy, Policy::classic());
    assert_eq!(provider.schedule.weekly, WeeklyHours::classic());
    let offered = &provider.services[&done.outcome.service];
    assert_eq!((offered.duration_minutes, offered.interval_minutes), (60, 60));
    assert_eq!(
        offered.name.known().unwrap().as_str(),
        "Atendimento",
        "in the language of its owner"
    );
    let account: Account = world.get(bia.account().unwrap());
    assert_eq!(account.roles, [Role::Client, Role::Provider]);
    // Whatever belongs to the shop, its name's claim included, is routed with it.
    assert_eq!(done.outcome.service.slot(), done.outcome.provider.slot());
    assert_eq!(done.slot, done.outcome.provider.slot());
}

#[test]
fn a_name_is_taken_by_one_shop_and_an_account_has_one_shop() {
    let mut world = World::new();
    let shop = world.classic();
    let ana = world.person("ana");
    let taken = world.run(&ana, &classic()).unwrap_err();
    assert_eq!(taken, Refusal::Claimed(ClaimKind::Slug));
    let mut second = classic();
    second.slug = "outro-salao".parse().unwrap();
    let taken = world.run(&shop.owner, &second).unwrap_err();
    assert_eq!(taken, Refusal::Claimed(ClaimKind::Shop));
    assert!(world.run(&ana, &second).is_ok(), "a refused command takes no claim");
}

#[test]
fn only_whoever_confirmed_their_address_opens_a_shop() {
    let mut world = World::new();
    let ana = world.registered("ana");
    assert_eq!(world.run(&ana, &classic()).unwrap_err(), Refusal::EmailNotConfirmed);
    let nobody = Actor::Anonymous;
    assert_eq!(world.run(&nobody, &classic()).unwrap_err(), Refusal::SignInRequired);
    let system = Actor::System("demo");
    assert_eq!(world.run(&system, &classic()).unwrap_err(), Refusal::SignInRequired);
}

#[test]
fn the_same_opening_decided_again_adds_nothing() {
    let mut world = World::new();
    let bia = world.person("bia");
    let first = world.run_as(1000, &bia, &classic()).unwrap();
    let again = world.run_as(1000, &bia, &classic()).unwrap();
    assert!(again.events.is_empty());
    assert_eq!(again.outcome.provider, first.outcome.provider);
}

/// The owner may, another is told 403, nobody is told to sign in, and an unknown shop is not found.
fn only_the_owner<C: OwnersChange>(change: C) {
    let mut world = World::new();
    let shop: Shop = world.classic();
    let ana = world.person("ana");
    let order = |provider: ProviderId| ChangeProvider { provider, change: change.clone() };
    let refused = |result: Result<crate::world::Done<_>, Refusal>| result.unwrap_err();
    assert_eq!(refused(world.run(&ana, &order(shop.id))), Refusal::Forbidden, "{}", C::NAME);
    let nobody = Actor::Anonymous;
    assert_eq!(refused(world.run(&nobody, &order(shop.id))), Refusal::SignInRequired);
    let unknown: ProviderId = Mint::new([8; 32]).id(slot(), 0);
    assert_eq!(refused(world.run(&shop.owner, &order(unknown))), Refusal::NotFound("provider"));
    let done = world.run(&shop.owner, &order(shop.id)).unwrap();
    assert_eq!(done.slot, shop.id.slot());
}

#[test]
fn only_the_owner_may_change_a_shop() {
    only_the_owner(ChangeProviderProfile {
        business_name: "Salão da Beatriz".parse().unwrap(),
        hourly_rate: None,
        details: Details::default(),
    });
    only_the_owner(SetWeeklyHours { zone: Zone::SAO_PAULO, weekly: every_day(&[]) });
    only_the_owner(OverrideDay { day: "2026-12-25".parse().unwrap(), windows: windows(&[]) });
    only_the_owner(RemoveOverride { day: "2026-12-25".parse().unwrap() });
    only_the_owner(SetPolicy { policy: Policy::classic() });
    only_the_owner(AddService { offer: Offer::classic(Locale::En) });
}

#[test]
fn services_are_added_changed_and_removed_by_their_id() {
    let mut world = World::new();
    let shop = world.classic();
    let order = |change| ChangeProvider { provider: shop.id, change };
    let massage = offer(|o| o.name = "Massagem".parse().unwrap()).unwrap();
    let added = world.run(&shop.owner, &order(AddService { offer: massage.clone() })).unwrap();
    let id: ServiceId = added.outcome.service.unwrap();
    assert_eq!(added.names(), ["ServiceAdded"]);
    assert_eq!(id.slot(), shop.id.slot());

    let order = |change| ChangeProvider { provider: shop.id, change };
    let longer = offer(|o| o.duration_minutes = 90).unwrap();
    let change = ChangeService { service: id, offer: longer.clone() };
    assert_eq!(world.run(&shop.owner, &order(change)).unwrap().names(), ["ServiceChanged"]);
    let owner = shop.owner.account().unwrap();
    let last = Service { sort_order: 1, ..Service::of(owner, id, longer) };
    assert_eq!(world.get::<Provider>(shop.id).services[&id], last);

    let order = |change| ChangeProvider { provider: shop.id, change };
    let remove = || order(RemoveService { service: id });
    assert_eq!(world.run(&shop.owner, &remove()).unwrap().names(), ["ServiceRemoved"]);
    let gone = world.run(&shop.owner, &remove()).unwrap_err();
    assert_eq!(gone, Refusal::NotFound("service"));
    assert_eq!(world.get::<Provider>(shop.id).services.len(), 1);
}
