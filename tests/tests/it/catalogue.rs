//! The catalogue through HTTP, on both profiles: categories, profiles, slugs, the order of services, search, pages.

use end_to_end::{Answer, Api, Person, Pontual, Profile, Shop, in_days};
use reqwest::redirect::Policy;
use serde_json::{Value, json};

const ADMIN: (&str, &str) = ("the.admin@example.com", "an administrator's password");

async fn admin(pontual: &Pontual) -> Person {
    let create = ["admin", "create", "--email", ADMIN.0, "--name", "Root"];
    let (made, said) = pontual.run(&create, &format!("{}\n", ADMIN.1), &[]).await;
    assert!(made, "{said}");
    pontual.sign_in(ADMIN.0, ADMIN.1).await
}

fn ids(answer: &Answer) -> Vec<String> {
    let items = answer.body["items"].as_array().expect("a list");
    items.iter().map(id).collect()
}

fn id(value: &Value) -> String {
    value["id"].as_str().expect("it has an id").to_owned()
}

/// Asks twice: what is kept is what is there.
async fn twice(api: &Api, path: &str, after: &str) -> Answer {
    let first = api.get_after(path, after).await.expect(200);
    let again = api.get(path).await.expect(200);
    assert_eq!(first.body, again.body, "{path}");
    first
}

#[tokio::test]
async fn categories_are_listed_in_order_and_what_is_gone_reads_as_absent() {
    for profile in Profile::ALL {
        let pontual = Pontual::start_with(profile, 7, &[]).await;
        let (root, ana) = (admin(&pontual).await.api, pontual.provider("Ana").await);
        let nobody = pontual.nobody();
        assert!(ids(&twice(&nobody, "/api/categories", "").await).is_empty());
        let mut made = Vec::new();
        for (slug, sort_order) in [("unhas", 2), ("cabelo", 1), ("aulas", 1)] {
            let body = json!({ "name": slug, "slug": slug, "sort_order": sort_order,
                "color": "#AA33FF", "icon": "scissors", "description": "More." });
            made.push(root.post("/api/categories", body).await.expect(201));
        }
        let [nails, hair, lessons] = [0, 1, 2].map(|n: usize| id(&made[n].body));
        let after = made.iter().map(Answer::position).collect::<Vec<_>>().join(",");
        let list = twice(&nobody, "/api/categories", &after).await;
        assert_eq!(ids(&list), [lessons.clone(), hair.clone(), nails.clone()]);
        assert_eq!(list.body["items"][0]["color"], "#aa33ff");
        let first = nobody.get("/api/categories?limit=2").await.expect(200);
        let next = first.body["next_cursor"].as_str().unwrap();
        let rest = nobody.get(&format!("/api/categories?limit=2&cursor={next}")).await.expect(200);
        assert_eq!(ids(&rest), [nails.as_str()]);
        let again = json!({ "name": "Hair", "slug": "cabelo" });
        let taken = root.post("/api/categories", again).await.expect(409);
        assert_eq!(taken.problem(), "category-slug-taken");

        let cut = json!({ "name": "Cut", "duration_minutes": 45, "category_id": hair });
        let cut = ana.owner.api.post("/api/services", cut).await.expect(201);
        let path = format!("/api/services/{}", id(&cut.body));
        let found = nobody.get_after(&path, &cut.position()).await.expect(200).body;
        assert_eq!(
            (&found["category_id"], &found["category"]["slug"]),
            (&json!(hair), &json!("cabelo"))
        );
        let of_hair = twice(&nobody, "/api/providers?category=cabelo", "").await;
        assert_eq!(ids(&of_hair), [ana.id.as_str()]);

        let hidden = json!({ "name": "Hair", "slug": "cabelo", "is_active": false });
        let hidden = root.put(&format!("/api/categories/{hair}"), hidden).await.expect(200);
        let list = twice(&nobody, "/api/categories", &hidden.position()).await;
        assert_eq!(ids(&list), [lessons.clone(), nails.clone()]);
        assert_eq!(nobody.get(&path).await.expect(200).body["category_id"], json!(null));
        nobody.get(&format!("/api/categories/{hair}")).await.expect(404);
        root.get(&format!("/api/categories/{hair}")).await.expect(200);
        let all = root.get("/api/categories?inactive=true").await.expect(200);
        assert_eq!(ids(&all).len(), 3);
        let refused = json!({ "name": "Trim", "duration_minutes": 45, "category_id": hair });
        ana.owner.api.post("/api/services", refused).await.expect(404);

        let removed = root.delete(&format!("/api/categories/{hair}")).await.expect(204);
        root.get_after(&format!("/api/categories/{hair}"), &removed.position()).await.expect(404);
        assert!(ids(&twice(&nobody, "/api/providers?category=cabelo", "").await).is_empty());
        root.delete(&format!("/api/categories/{hair}")).await.expect(404);
        root.post("/api/categories", json!({ "name": "Hair", "slug": "cabelo" })).await.expect(201);
    }
}

/// Ana's profile.
fn profile() -> Value {
    json!({
        "business_name": "Salão da Ana", "hourly_rate": { "amount_minor": 9000, "currency": "BRL" },
        "description": "Corte e cor.\nDesde 1998.", "address": "Rua das Flores, 12",
        "city": "São Paulo", "state": "SP", "postal_code": "01310-100",
        "latitude": -23.5505199, "longitude": -46.6333094, "phone": "+55 11 91234-5678",
        "website": "https://salao.example/", "instagram": "salao.da.ana", "facebook": "salaodaana",
        "specializations": ["Noivas", "Cor"],
    })
}

async fn with_profile(shop: &Shop, change: Value) -> String {
    let mut body = profile();
    for (key, value) in change.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    shop.owner.api.put("/api/providers/profile", body).await.expect(200).position()
}

#[tokio::test]
async fn a_profile_is_shown_with_every_field_and_the_badge_that_an_administrator_gives() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let (root, ana) = (admin(&pontual).await.api, pontual.provider("Ana").await);
        let nobody = pontual.nobody();
        let path = format!("/api/providers/{}", ana.slug);
        let plain = nobody.get_after(&path, &ana.position).await.expect(200).body;
        assert_eq!(
            (&plain["plan"], &plain["is_verified"], &plain["city"], &plain["specializations"]),
            (&json!(null), &json!(false), &json!(null), &json!([]))
        );
        let after = with_profile(&ana, json!({})).await;
        let own = ana.owner.api.get_after("/api/providers/profile", &after).await.expect(200).body;
        let found = nobody.get(&path).await.expect(200).body;
        for (field, value) in self::profile().as_object().unwrap() {
            assert_eq!((&own[field], &found[field]), (value, value), "{field}");
        }
        let standing = format!("/api/providers/{}/standing", ana.id);
        let body = json!({ "is_verified": true, "plan": "pro" });
        let given = root.put(&standing, body).await.expect(200);
        let found = twice(&nobody, "/api/providers?verified=true", &given.position()).await.body;
        assert_eq!(found["items"][0].get("plan"), None, "that is the owner's business");
        let own = ana.owner.api.get_after("/api/providers/profile", &given.position()).await;
        assert_eq!(own.expect(200).body["plan"], "pro");
        assert!(ids(&twice(&nobody, "/api/providers?verified=false", "").await).is_empty());
        // What is left out is not said any more.
        let after =
            with_profile(&ana, json!({ "city": null, "latitude": null, "longitude": null })).await;
        let found = nobody.get_after(&path, &after).await.expect(200).body;
        assert_eq!((&found["city"], &found["latitude"]), (&json!(null), &json!(null)));
        assert_eq!(found["is_verified"], true, "a profile does not touch the badge");
    }
}

#[tokio::test]
async fn a_former_slug_leads_to_the_page_and_belongs_to_nobody_else() {
    for profile in Profile::ALL {
        let pontual = Pontual::start_with(profile, 7, &[]).await;
        let (ana, eva) = (pontual.provider("Ana").await, pontual.provider("Eva").await);
        let old = format!("/api/providers/{}", ana.slug);
        let slug = format!("{}-two", ana.slug);
        let page = format!("/api/providers/{}/page", ana.slug);
        pontual.nobody().get_after(&page, &ana.position).await.expect(200);
        let moved = ana.owner.api.put("/api/providers/profile/slug", json!({ "slug": slug })).await;
        let moved = moved.expect(200).position();
        pontual.nobody().get_after(&format!("/api/providers/{slug}"), &moved).await.expect(200);
        let client = reqwest::Client::builder().redirect(Policy::none()).build().unwrap();
        for (path, leads) in [
            (&old, format!("/api/providers/{slug}")),
            (&page, format!("/api/providers/{slug}/page")),
        ] {
            let answer = client.get(format!("{}{path}", pontual.url)).send().await.unwrap();
            assert_eq!(answer.status(), 308, "{path}");
            assert_eq!(answer.headers()["location"], leads.as_str());
            // Whoever follows is there.
            assert_eq!(pontual.nobody().get(path).await.expect(200).body["slug"], slug);
        }
        let theirs = json!({ "slug": ana.slug });
        let refused =
            eva.owner.api.put("/api/providers/profile/slug", theirs.clone()).await.expect(409);
        assert_eq!(refused.problem(), "slug-taken");
        let back =
            ana.owner.api.put("/api/providers/profile/slug", theirs).await.expect(200).position();
        let found = pontual.nobody().get_after(&old, &back).await.expect(200);
        assert_eq!(found.body["slug"], ana.slug);
    }
}

#[tokio::test]
async fn services_stand_in_their_order_and_what_is_not_offered_is_its_owners_alone() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let (ana, bia) = (pontual.provider("Ana").await, pontual.client("Bia").await);
        let (api, nobody) = (&ana.owner.api, pontual.nobody());
        let listed = format!("/api/services/provider/{}", ana.id);
        let mut services = ids(&nobody.get_after(&listed, &ana.position).await.expect(200));
        let mut after = String::new();
        for name in ["Second", "Third"] {
            let offer = json!({ "name": name, "duration_minutes": 30 });
            let added = api.post("/api/services", offer).await.expect(201);
            services.push(id(&added.body));
            after = added.position();
        }
        assert_eq!(ids(&nobody.get_after(&listed, &after).await.expect(200)), services);
        services.rotate_left(1);
        let order = json!({ "services": services });
        let done = api.post("/api/services/reorder", order).await.expect(200);
        let page = format!("/api/providers/{}/page", ana.slug);
        let shown = twice(&nobody, &page, &done.position()).await.body;
        let shown: Vec<_> = shown["services"].as_array().unwrap().iter().map(id).collect();
        assert_eq!(shown, services);

        let hidden = json!({ "name": "Second", "duration_minutes": 30, "is_active": false });
        let second = format!("/api/services/{}", services[0]);
        let after = api.put(&second, hidden).await.expect(200).position();
        assert_eq!(ids(&nobody.get_after(&listed, &after).await.expect(200)), services[1..]);
        let mine = api.get_after("/api/services/my-services", &after).await.expect(200);
        assert_eq!(ids(&mine), services);
        nobody.get(&second).await.expect(404);
        bia.api.get(&second).await.expect(404);
        assert_eq!(api.get(&second).await.expect(200).body["is_active"], false);
        let day = in_days(3, "");
        let times = format!(
            "/api/providers/available-times?provider_id={}&service_id={}&day={}",
            ana.id,
            services[0],
            &day[..10]
        );
        nobody.get_after(&times, &after).await.expect(404);
        let booking = json!({ "provider_id": ana.id, "service_id": services[0],
            "start": in_days(3, "12:00:00Z") });
        bia.api.post("/api/appointments", booking).await.expect(404);
        let shown = twice(&nobody, &page, &after).await.body;
        assert_eq!(shown["services"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn providers_are_searched_by_words_place_and_price_page_by_page() {
    for profile in Profile::ALL {
        let pontual = Pontual::start_with(profile, 7, &[]).await;
        let mut shops = Vec::new();
        let mut after = Vec::new();
        for (n, change) in [
            json!({ "business_name": "Salão da Ana" }),
            json!({ "business_name": "Ávila Barbearia", "latitude": -23.5605199, "city": "sao paulo",
                "specializations": ["Degradê"] }),
            json!({ "business_name": "Zilda Aulas", "city": "Lisboa", "latitude": 38.7, "longitude": -9.1,
                "hourly_rate": { "amount_minor": 20000, "currency": "EUR" } }),
        ]
        .into_iter()
        .enumerate()
        {
            let shop = pontual.provider(["Ana", "Avila", "Zilda"][n]).await;
            after.push(with_profile(&shop, change).await);
            shops.push(shop.id);
        }
        let (nobody, after) = (pontual.nobody(), after.join(","));
        let [ana, avila, zilda] = [0, 1, 2].map(|n: usize| shops[n].as_str());
        for (query, found) in [
            ("", vec![avila, ana, zilda]),
            ("q=SALAO", vec![ana]),
            ("q=corte+sao+pau", vec![avila, ana]),
            ("q=degrade", vec![avila]),
            ("city=S%C3%83O%20Paulo", vec![avila, ana]),
            ("near=-23.5505199,-46.6333094", vec![ana, avila]),
            ("near=-23.5505199,-46.6333094&radius_km=1", vec![ana]),
            ("near=-23.5505199,-46.6333094&sort=name", vec![avila, ana]),
            ("min_price_minor=8000&max_price_minor=10000", vec![avila, ana]),
            ("max_price_minor=8999", vec![]),
            ("min_price_minor=20000&currency=EUR", vec![zilda]),
            ("q=aulas&city=lisboa&verified=false", vec![zilda]),
            ("category=nothing-of-it", vec![]),
        ] {
            let path = format!("/api/providers?{query}");
            assert_eq!(ids(&twice(&nobody, &path, &after).await), found, "{query}");
            let (mut all, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = nobody.get(&format!("{path}&limit=1{cursor}")).await.expect(200);
                all.extend(ids(&page));
                let Some(next) = page.body["next_cursor"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!(all, found, "{query}, one by one");
        }
        let near = nobody.get("/api/providers?near=-23.5505199,-46.6333094").await.expect(200);
        assert_eq!(near.body["items"][0]["distance_m"], 0);
        assert_eq!(near.body["items"][1]["distance_m"], 1112);
    }
}

#[tokio::test]
async fn a_page_says_all_in_one_call_in_the_readers_language_and_follows_changes() {
    for profile in Profile::ALL {
        let mut pontual = Pontual::start(profile).await;
        let second = pontual.spawn(&["serve"]).await;
        let ana = pontual.provider("Ana").await;
        let path = format!("/api/providers/{}/page", ana.slug);
        let nobody = pontual.nobody();
        let page = twice(&nobody, &path, &ana.position).await.body;
        assert_eq!(page["services"].as_array().unwrap().len(), 1);
        assert_eq!(page["policy"]["confirmation"], "manual");
        assert_eq!(
            (&page["hours"][0]["name"], &page["hours"][0]["text"]),
            (&json!("segunda-feira"), &json!("08:00–18:00"))
        );
        let english = nobody.request("GET", &path).header("accept-language", "en");
        let english = nobody.send(english).await.expect(200).body;
        assert_eq!(english["hours"][0]["name"], "Monday");

        // Another process keeps answers of its own, and hears of changes all the same.
        let there = nobody.at(&second);
        there.get_after(&path, &ana.position).await.expect(200);
        let hours = json!({ "time_zone": "America/Sao_Paulo", "weekly": {
            "monday": [{ "from": "09:00", "to": "12:00" }, { "from": "13:00", "to": "17:00" }] } });
        let changed = ana.owner.api.put("/api/providers/hours", hours).await.expect(200);
        for api in [&nobody, &there] {
            let page = twice(api, &path, &changed.position()).await.body;
            assert_eq!(page["hours"][0]["text"], "09:00–12:00, 13:00–17:00");
            assert_eq!(page["hours"][6]["text"], "Fechado");
        }
        let after = with_profile(&ana, json!({})).await;
        for api in [&nobody, &there] {
            assert_eq!(twice(api, &path, &after).await.body["business_name"], "Salão da Ana");
        }
        nobody.get("/api/providers/nobody-at-all/page").await.expect(404);
    }
}
