//! Categories, the order of services, those that are not offered, slugs that change, badge and plan.

use domain::Refusal;
use domain::account::EraseAccount;
use domain::actor::{Actor, Role};
use domain::appointment::BookAppointment;
use domain::category::{AddCategory, Category, ChangeCategory, Listing, RemoveCategory};
use domain::command::{ClaimHasher as _, ClaimKind};
use domain::ids::{CategoryId, Id as _, Mint, RoutingSlot, ServiceId};
use domain::provider::{
    AddService, ChangeProvider, ChangeService, ChangeSlug, Offer, Provider, ReorderServices,
    SetProviderStanding, Standing,
};

use crate::world::{PlainHasher, Shop, World, instant, offer};

const PONTUAL: Actor = Actor::System("test");

fn listing(slug: &str) -> Listing {
    Listing {
        name: "Cabelo".parse().unwrap(),
        slug: slug.parse().unwrap(),
        description: None,
        icon: None,
        color: None,
        is_active: true,
        sort_order: 0,
    }
}

fn category(world: &mut World, slug: &str) -> CategoryId {
    world.run(&PONTUAL, &AddCategory { listing: listing(slug) }).unwrap().outcome.category
}

fn add(world: &mut World, shop: &Shop, offer: Offer) -> Result<ServiceId, Refusal> {
    let order = ChangeProvider { provider: shop.id, change: AddService { offer } };
    world.run(&shop.owner, &order).map(|done| done.outcome.service.unwrap())
}

fn change(
    world: &mut World,
    shop: &Shop,
    service: ServiceId,
    offer: Offer,
) -> Result<Vec<&'static str>, Refusal> {
    let change = ChangeService { service, offer };
    let order = ChangeProvider { provider: shop.id, change };
    world.run(&shop.owner, &order).map(|done| done.names())
}

/// A claim's holder.
fn holder(world: &World, kind: ClaimKind, slug: &str) -> Option<uuid::Uuid> {
    world.claims.get(&PlainHasher.claim_key(kind, slug)).copied()
}

#[test]
fn a_category_is_added_changed_and_removed_and_its_slug_is_one_categorys() {
    let mut world = World::new();
    let hair = category(&mut world, "cabelo");
    assert_eq!(world.get::<Category>(hair).there(), Ok(&listing("cabelo")));
    let taken = world.run(&PONTUAL, &AddCategory { listing: listing("cabelo") }).unwrap_err();
    assert_eq!(taken, Refusal::Claimed(ClaimKind::CategorySlug));

    let renamed = ChangeCategory { category: hair, listing: listing("cabelos") };
    assert_eq!(world.run(&PONTUAL, &renamed).unwrap().names(), ["CategoryChanged"]);
    assert!(world.run(&PONTUAL, &renamed).unwrap().events.is_empty());
    let nails = category(&mut world, "cabelo");
    assert_ne!(nails, hair);
    let taken = ChangeCategory { category: hair, listing: listing("cabelo") };
    let taken = world.run(&PONTUAL, &taken).unwrap_err();
    assert_eq!(taken, Refusal::Claimed(ClaimKind::CategorySlug));

    let remove = RemoveCategory { category: hair };
    assert_eq!(world.run(&PONTUAL, &remove).unwrap().names(), ["CategoryRemoved"]);
    assert_eq!(holder(&world, ClaimKind::CategorySlug, "cabelos"), None);
    for gone in
        [world.run(&PONTUAL, &remove).unwrap_err(), world.run(&PONTUAL, &renamed).unwrap_err()]
    {
        assert_eq!(gone, Refusal::NotFound("category"));
    }
}

#[test]
fn categories_and_standings_are_for_administrators_alone() {
    let mut world = World::new();
    let hair = category(&mut world, "cabelo");
    let shop = world.classic();
    let Actor::Account { id, .. } = shop.owner.clone() else { panic!("an owner is an account") };
    // A token that says so does not make an administrator.
    let forged = Actor::Account { id, roles: vec![Role::Client, Role::Admin] };
    let standing = Standing { is_verified: true, plan: "pro".parse().unwrap() };
    let stand = SetProviderStanding { provider: shop.id, standing: standing.clone() };
    for (actor, refusal) in [
        (&shop.owner, Refusal::Forbidden),
        (&forged, Refusal::Forbidden),
        (&Actor::Anonymous, Refusal::SignInRequired),
    ] {
        let listing = listing("unhas");
        let add = AddCategory { listing: listing.clone() };
        assert_eq!(world.run(actor, &add).unwrap_err(), refusal);
        let change = ChangeCategory { category: hair, listing };
        assert_eq!(world.run(actor, &change).unwrap_err(), refusal);
        let remove = RemoveCategory { category: hair };
        assert_eq!(world.run(actor, &remove).unwrap_err(), refusal);
        assert_eq!(world.run(actor, &stand).unwrap_err(), refusal);
    }
    assert_eq!(world.get::<Provider>(shop.id).standing.plan.as_str(), "free");
    assert_eq!(world.run(&PONTUAL, &stand).unwrap().names(), ["StandingSet"]);
    assert_eq!(world.get::<Provider>(shop.id).standing, standing);
    assert!(world.run(&PONTUAL, &stand).unwrap().events.is_empty());

    world.run(&PONTUAL, &EraseAccount { account: id, proven_under: None }).unwrap();
    let gone = SetProviderStanding { provider: shop.id, standing: Standing::default() };
    assert_eq!(world.run(&PONTUAL, &gone).unwrap_err(), Refusal::NotFound("provider"));
}

#[test]
fn a_service_names_a_category_that_is_listed_and_keeps_it_when_it_is_gone() {
    let mut world = World::new();
    let (shop, hair) = (world.classic(), category(&mut world, "cabelo"));
    let of = |category| offer(|o| o.category = category).unwrap();
    let unknown = Mint::new([8; 32]).id(RoutingSlot::from_bits(8), 0);
    let refused = add(&mut world, &shop, of(Some(unknown)));
    assert_eq!(refused, Err(Refusal::NotFound("category")));
    let cut = add(&mut world, &shop, of(Some(hair))).unwrap();

    let hidden = Listing { is_active: false, ..listing("cabelo") };
    world.run(&PONTUAL, &ChangeCategory { category: hair, listing: hidden }).unwrap();
    let refused = add(&mut world, &shop, of(Some(hair)));
    assert_eq!(refused, Err(Refusal::NotFound("category")));
    world.run(&PONTUAL, &RemoveCategory { category: hair }).unwrap();
    let longer = Offer { duration_minutes: 90, ..of(Some(hair)) };
    assert_eq!(change(&mut world, &shop, cut, longer), Ok(vec!["ServiceChanged"]));
    let first = shop.service;
    let refused = change(&mut world, &shop, first, of(Some(hair)));
    assert_eq!(refused, Err(Refusal::NotFound("category")));
    assert_eq!(change(&mut world, &shop, cut, of(None)), Ok(vec!["ServiceChanged"]));
}

#[test]
fn services_are_ordered_as_a_whole() {
    let mut world = World::new();
    let shop = world.classic();
    let second = add(&mut world, &shop, offer(|_| ()).unwrap()).unwrap();
    let third = add(&mut world, &shop, offer(|_| ()).unwrap()).unwrap();
    let first = shop.service;
    let order = |world: &mut World, order: Vec<ServiceId>| {
        let order = ChangeProvider { provider: shop.id, change: ReorderServices { order } };
        world.run(&shop.owner, &order).map(|done| done.names())
    };
    assert_eq!(order(&mut world, vec![first, second, third]), Ok(vec![]));
    let reordered = order(&mut world, vec![third, first, second]);
    assert_eq!(reordered, Ok(vec!["ServicesReordered"]));
    let places = |world: &World| {
        let services = world.get::<Provider>(shop.id).services;
        [first, second, third].map(|id| services[&id].sort_order)
    };
    assert_eq!(places(&world), [1, 2, 0]);
    assert_eq!(order(&mut world, vec![third, first, second]), Ok(vec![]));
    // Another change leaves it where it is, and a new one comes last.
    change(&mut world, &shop, second, offer(|o| o.capacity = 2).unwrap()).unwrap();
    let fourth = add(&mut world, &shop, offer(|_| ()).unwrap()).unwrap();
    assert_eq!(places(&world), [1, 2, 0]);
    assert_eq!(world.get::<Provider>(shop.id).services[&fourth].sort_order, 3);

    let unknown = Mint::new([8; 32]).id(RoutingSlot::from_bits(8), 0);
    for wrong in [
        vec![],
        vec![first, second, third],
        vec![first, second, third, third],
        vec![first, second, third, fourth, fourth],
        vec![first, second, third, unknown],
    ] {
        assert_eq!(order(&mut world, wrong), Err(Refusal::NotEveryService));
    }
}

#[test]
fn a_service_that_is_not_offered_cannot_be_booked_and_does_not_stand_in_the_only_ones_way() {
    let mut world = World::new();
    let (shop, ana) = (world.classic(), world.person("ana"));
    let second = add(&mut world, &shop, offer(|o| o.is_active = false).unwrap()).unwrap();
    let book = |world: &mut World, service, start: &str| {
        let start = instant(start);
        let booking =
            BookAppointment { provider: shop.id, service, start, notes: None, hold: None };
        world.run(&ana, &booking).map(|done| done.outcome)
    };
    let not_found = Refusal::NotFound("service");
    let refused = book(&mut world, Some(second), "2026-03-03T12:00:00Z").unwrap_err();
    assert_eq!(refused, not_found);
    let booked = book(&mut world, None, "2026-03-03T12:00:00Z").unwrap();
    assert_eq!(booked.service, shop.service);

    change(&mut world, &shop, second, offer(|_| ()).unwrap()).unwrap();
    assert!(book(&mut world, Some(second), "2026-03-03T13:00:00Z").is_ok());
    assert_eq!(book(&mut world, None, "2026-03-03T14:00:00Z").unwrap_err(), not_found);
    for service in [shop.service, second] {
        change(&mut world, &shop, service, offer(|o| o.is_active = false).unwrap()).unwrap();
    }
    assert_eq!(book(&mut world, None, "2026-03-03T14:00:00Z").unwrap_err(), not_found);
}

#[test]
fn a_shop_keeps_its_former_slugs_up_to_ten_and_can_go_back_to_one() {
    let mut world = World::new();
    let shop = world.classic();
    let to = |world: &mut World, slug: &str| {
        let change = ChangeSlug { provider: shop.id, slug: slug.parse().unwrap() };
        world.run(&shop.owner, &change).map(|done| done.names())
    };
    let held =
        |world: &World, slug: &str| holder(world, ClaimKind::Slug, slug) == Some(shop.id.uuid());
    let slugs = |world: &World| {
        let shop = world.get::<Provider>(shop.id).shop.unwrap();
        shop.slugs().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(to(&mut world, "salao-da-bia"), Ok(vec![]));
    assert_eq!(to(&mut world, "page-one"), Ok(vec!["SlugChanged"]));
    assert_eq!(slugs(&world), ["salao-da-bia", "page-one"]);
    assert!(held(&world, "salao-da-bia") && held(&world, "page-one"));
    assert_eq!(to(&mut world, "salao-da-bia"), Ok(vec!["SlugChanged"]));
    assert_eq!(slugs(&world), ["page-one", "salao-da-bia"]);

    let eva = world.shop(domain::provider::OpenProvider {
        slug: "eva-studio".parse().unwrap(),
        ..crate::world::classic()
    });
    assert_eq!(to(&mut world, "eva-studio"), Err(Refusal::Claimed(ClaimKind::Slug)));
    let theirs = ChangeSlug { provider: eva.id, slug: "page-one".parse().unwrap() };
    let refused = world.run(&eva.owner, &theirs).unwrap_err();
    assert_eq!(refused, Refusal::Claimed(ClaimKind::Slug), "a former one is not free");
    let meddling = ChangeSlug { provider: eva.id, slug: "page-two".parse().unwrap() };
    assert_eq!(world.run(&shop.owner, &meddling).unwrap_err(), Refusal::Forbidden);

    for n in 0..9 {
        to(&mut world, &format!("name-{n}")).unwrap();
    }
    assert_eq!(slugs(&world).len(), Provider::MAX_FORMER_SLUGS + 1);
    let limit = Provider::MAX_FORMER_SLUGS;
    let full = Refusal::LimitReached { what: "former slugs", limit };
    assert_eq!(to(&mut world, "name-9"), Err(full), "none is released to anybody");
    assert_eq!(to(&mut world, "page-one"), Ok(vec!["SlugChanged"]), "but back it can go");

    let account = shop.owner.account().unwrap();
    world.run(&PONTUAL, &EraseAccount { account, proven_under: None }).unwrap();
    for slug in ["salao-da-bia", "name-0", "name-8", "page-one"] {
        assert!(!held(&world, slug), "{slug}");
    }
}
