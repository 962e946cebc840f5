//! Categories, the order of services, and finding providers, against a real Postgres.

use domain::category::Listing;
use domain::ids::{AccountId, CategoryId, ServiceId};
use domain::locale::Locale;
use domain::money::{Currency, Money};
use domain::provider::{Details, Offer, Point, Service, Standing};
use sqlx::PgPool;

use crate::categories::{self, CategoryChange};
use crate::paging::PageLimit;
use crate::provider_search::{
    Filter, Found, Near, OfCategory, PriceRange, Sort, plain, query_words, search,
};
use crate::providers::{self, ProviderChange};
use crate::services::{self, ServiceChange};
use crate::table::TableError;
use crate::table_tests::{flush, opened};
use crate::testing::{id, stamp, with_database};

/// Every page of a search.
pub(crate) async fn everything(pool: &PgPool, filter: &Filter, size: u16) -> Vec<Found> {
    let (limit, mut all, mut cursor) = (PageLimit::new(size).unwrap(), Vec::new(), None);
    loop {
        let page = search(pool, filter, cursor.as_deref(), limit).await.unwrap();
        assert!(page.items.len() <= size.into());
        all.extend(page.items);
        let Some(next) = page.next_cursor else { return all };
        cursor = Some(next);
    }
}

/// The names of all that a filter finds, whatever the size of the pages.
async fn found(pool: &PgPool, filter: &Filter) -> Vec<String> {
    let all = everything(pool, filter, 1).await;
    assert_eq!(all, everything(pool, filter, 100).await);
    all.into_iter().map(|one| one.row.business_name.unwrap().into()).collect()
}

fn said(name: &str, details: Details) -> ProviderChange {
    ProviderChange::ProfileChanged {
        business_name: Some(name.parse().unwrap()),
        hourly_rate: Some(serde_json::from_str(r#"{"amount_minor":9000}"#).unwrap()),
        details: Box::new(details),
    }
}

fn at(latitude: f64, longitude: f64) -> Option<Point> {
    Some(Point::from_degrees(latitude, longitude).unwrap())
}

#[tokio::test]
async fn providers_are_found_by_words_city_badge_and_distance() {
    with_database(|pool| async move {
        let shops = [
            (
                "Salão da Ana",
                "São Paulo",
                "Corte, cor e penteado",
                "Noivas",
                at(-23.5505, -46.6333),
            ),
            ("Barbearia Zé", "são paulo", "Só barba.", "Degradê", at(-23.5605, -46.6333)),
            (
                "Aulas com Tiago",
                "Lisboa",
                "Matemática & física",
                "Vestibular",
                at(38.7223, -9.1393),
            ),
            ("Fiji Hair", "Suva", "Cuts", "Curls", at(-18.0, 179.9999)),
            ("Silent", "", "", "", None),
        ];
        let mut changes = Vec::new();
        for (n, (name, city, description, art, point)) in (1_u16..).zip(shops) {
            let details = Details {
                description: description.parse().ok(),
                city: city.parse().ok(),
                point,
                specializations: art.parse().into_iter().collect::<Vec<_>>().try_into().unwrap(),
                ..Details::default()
            };
            let number = u64::from(n) * 10;
            changes.push((id(n), stamp(number, 1), opened(n, &format!("slug-{n}"), Some(name))));
            changes.push((id(n), stamp(number + 1, 2), said(name, details)));
        }
        let badge = Standing { is_verified: true, plan: "pro".parse().unwrap() };
        changes.push((id(2), stamp(29, 3), ProviderChange::StandingSet(badge.clone())));
        flush::<providers::Providers>(&pool, changes).await.unwrap();
        let row = providers::by_id(&pool, id(2)).await.unwrap().unwrap();
        assert_eq!((row.standing, row.details.point), (badge, at(-23.5605, -46.6333)));
        for (q, names) in [
            ("SALAO", vec!["Salão da Ana"]),
            ("sao paulo", vec!["Barbearia Zé", "Salão da Ana"]),
            ("cor ana", vec!["Salão da Ana"]),
            ("degrade", vec!["Barbearia Zé"]),
            ("fisic", vec!["Aulas com Tiago"]),
            ("isica", vec![]),
            ("cor lisboa", vec![]),
        ] {
            let filter = Filter { words: query_words(q), ..Filter::default() };
            assert_eq!(found(&pool, &filter).await, names, "{q}");
        }
        let filter = Filter { city: Some(plain("SÃO  paulo")), ..Filter::default() };
        assert_eq!(found(&pool, &filter).await, ["Barbearia Zé", "Salão da Ana"]);
        let filter = Filter { is_verified: Some(true), ..Filter::default() };
        assert_eq!(found(&pool, &filter).await, ["Barbearia Zé"]);

        let near = |latitude, longitude, radius_m| Filter {
            near: Some(Near { point: at(latitude, longitude).unwrap(), radius_m }),
            sort: Sort::Distance,
            ..Filter::default()
        };
        let around = near(-23.5600, -46.6333, 5_000);
        assert_eq!(found(&pool, &around).await, ["Barbearia Zé", "Salão da Ana"]);
        let metres: Vec<_> =
            everything(&pool, &around, 9).await.iter().map(|one| one.distance_m).collect();
        assert_eq!(metres, [Some(56), Some(1056)]);
        assert_eq!(found(&pool, &near(-23.5600, -46.6333, 1_000)).await, ["Barbearia Zé"]);
        // Over the date line, and over a pole.
        assert_eq!(found(&pool, &near(-18.0, -179.9999, 1_000)).await, ["Fiji Hair"]);
        assert_eq!(found(&pool, &near(89.9999, 10.0, 50_000)).await, Vec::<String>::new());
        let from = search(&pool, &around, None, PageLimit::new(1).unwrap()).await.unwrap();
        let elsewhere = near(-23.0, -46.0, 100_000);
        let stray = search(&pool, &elsewhere, from.next_cursor.as_deref(), PageLimit::default());
        assert!(matches!(stray.await, Err(TableError::Cursor(_))));

        providers::purge_person(&mut pool.acquire().await.unwrap(), id(1)).await.unwrap();
        let filter = Filter { words: query_words("noivas"), ..Filter::default() };
        assert!(found(&pool, &filter).await.is_empty());
        let row = providers::by_id(&pool, id(1)).await.unwrap().unwrap();
        assert_eq!((*row.details, row.slug), (Details::default(), None));
    })
    .await;
}

#[tokio::test]
async fn providers_are_found_by_what_their_services_are_and_cost() {
    with_database(|pool| async move {
        let offer = |minutes, price: Option<i64>, category| Offer {
            duration_minutes: minutes,
            price: price.map(|minor| Money::new(minor, Currency::BRL).unwrap()),
            category,
            ..Offer::classic(Locale::En)
        };
        let (hair, nails, gone): (CategoryId, CategoryId, CategoryId) = (id(50), id(51), id(52));
        let listing = |slug: &str, is_active| Listing {
            name: "Name".parse().unwrap(),
            slug: slug.parse().unwrap(),
            description: None,
            icon: None,
            color: None,
            is_active,
            sort_order: 0,
        };
        let listed = vec![
            (hair, stamp(1, 1), CategoryChange::Added(listing("hair", true))),
            (nails, stamp(2, 1), CategoryChange::Added(listing("nails", true))),
            (gone, stamp(3, 1), CategoryChange::Added(listing("gone", true))),
            (gone, stamp(4, 2), CategoryChange::Removed),
        ];
        flush::<categories::Categories>(&pool, listed).await.unwrap();
        let mut shops = Vec::new();
        for n in [1_u16, 2, 3] {
            let name = format!("Shop {n}");
            shops.push((id(n), stamp(n.into(), 1), opened(n, &format!("shop-{n}"), Some(&name))));
            // An hour is R$ 90,00.
            shops.push((id(n), stamp(u64::from(n) + 10, 2), said(&name, Details::default())));
        }
        flush::<providers::Providers>(&pool, shops).await.unwrap();
        let owner: AccountId = id(9);
        let added = |n: u16, shop: u16, offer: Offer| {
            let service = Service::of(owner, id(n), offer);
            let added = ServiceChange::Added { provider: id(shop), service };
            (id::<ServiceId>(n), stamp(n.into(), 3), added)
        };
        let hidden = Offer { is_active: false, ..offer(60, Some(1), Some(nails)) };
        let services = vec![
            added(20, 1, offer(60, Some(5_000), Some(hair))),
            added(21, 1, offer(60, Some(20_000), Some(nails))),
            added(22, 2, offer(40, None, Some(hair))),
            added(23, 2, hidden),
            added(24, 3, offer(60, Some(5_000), Some(gone))),
        ];
        flush::<services::Services>(&pool, services).await.unwrap();
        let of = |category: Option<OfCategory>, price: Option<(i64, i64)>| {
            let currency = Currency::BRL;
            let range = |(min_minor, max_minor)| PriceRange { min_minor, max_minor, currency };
            Filter { category, price: price.map(range), ..Filter::default() }
        };
        let slug = |slug: &str| Some(OfCategory::Slug(slug.parse().unwrap()));
        assert_eq!(found(&pool, &of(slug("hair"), None)).await, ["Shop 1", "Shop 2"]);
        assert_eq!(found(&pool, &of(Some(OfCategory::Id(hair)), None)).await, ["Shop 1", "Shop 2"]);
        assert_eq!(found(&pool, &of(slug("nails"), None)).await, ["Shop 1"]);
        assert_eq!(found(&pool, &of(slug("gone"), None)).await, Vec::<String>::new());
        assert_eq!(
            found(&pool, &of(None, Some((5_500, 6_500)))).await,
            ["Shop 2"],
            "40 minutes are R$ 60,00"
        );
        assert_eq!(found(&pool, &of(None, Some((0, 5_000)))).await, ["Shop 1", "Shop 3"]);
        assert_eq!(
            found(&pool, &of(slug("hair"), Some((10_000, 30_000)))).await,
            Vec::<String>::new()
        );
        let dollars = PriceRange {
            min_minor: 0,
            max_minor: 90_000,
            currency: "USD".to_owned().try_into().unwrap(),
        };
        let filter = Filter { price: Some(dollars), ..Filter::default() };
        assert!(everything(&pool, &filter, 2).await.is_empty());

        let there = categories::list(&pool, false, None, PageLimit::default()).await.unwrap();
        assert_eq!(there.items.iter().map(|row| row.id).collect::<Vec<_>>(), [hair, nails]);
        let known = categories::listed_of(&pool, &[hair, gone]).await.unwrap();
        assert_eq!(known.iter().map(|row| row.id).collect::<Vec<_>>(), [hair]);
        assert_eq!(categories::by_id(&pool, gone).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn a_shop_is_found_by_its_former_slugs_too_and_its_services_in_their_order() {
    with_database(|pool| async move {
        let former = vec!["old-name".parse().unwrap(), "older-name".parse().unwrap()];
        let slug = Some("new-name".parse().unwrap());
        let changes = vec![
            (id(1), stamp(1, 1), opened(1, "old-name", Some("Shop"))),
            (id(1), stamp(2, 2), ProviderChange::SlugChanged { slug, former }),
        ];
        flush::<providers::Providers>(&pool, changes).await.unwrap();
        let now = providers::by_slug(&pool, &"new-name".parse().unwrap()).await.unwrap();
        let shop = now.unwrap();
        assert_eq!(providers::by_slug(&pool, &"old-name".parse().unwrap()).await.unwrap(), None);
        for before in ["old-name", "older-name"] {
            let slug = before.parse().unwrap();
            let row = providers::by_former_slug(&pool, &slug).await.unwrap();
            assert_eq!(row.as_ref(), Some(&shop));
        }
        let other = "new-name".parse().unwrap();
        assert_eq!(providers::by_former_slug(&pool, &other).await.unwrap(), None);

        let mut changes = Vec::new();
        for n in [20_u16, 21, 22] {
            let service = Service::of(id(9), id(n), Offer::classic(Locale::En));
            let added = ServiceChange::Added { provider: shop.id, service };
            changes.push((id::<ServiceId>(n), stamp(n.into(), n.into()), added));
        }
        flush::<services::Services>(&pool, changes).await.unwrap();
        let order = [22_u16, 20, 21];
        let placed = |n| ServiceChange::Placed { sort_order: n };
        let places = order.iter().zip(0..).map(|(n, place)| (id(*n), stamp(30, 30), placed(place)));
        flush::<services::Services>(&pool, places.collect()).await.unwrap();
        let listed = services::of_provider(&pool, shop.id, false).await.unwrap();
        let ids: Vec<_> = listed.iter().map(|row| row.measure.service).collect();
        assert_eq!(ids, order.map(id::<ServiceId>));
    })
    .await;
}
