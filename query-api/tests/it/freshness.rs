//! Nobody who says what they have seen gets anything older.

use domain::ids::{AccountId, ProviderId};
use domain::position::{Position, PositionToken};
use event_log::parked;
use read_models::availability::{AvailabilityCache as _, CacheBatch, CacheWrite};
use read_models::notifications::{FeedBatch, NotificationFeed as _};
use read_models::providers::{ProviderChange, ProviderWrites};
use read_models::table::Stamp;
use serde_json::json;

use crate::common::*;

const DAY: &str = "2026-03-04";

fn times(provider: ProviderId) -> String {
    format!("/api/providers/available-times?provider_id={provider}&day={DAY}")
}

fn free(answer: &Answer) -> usize {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body["slots"].as_array().unwrap().len()
}

fn last(positions: &PositionToken) -> Position {
    positions.positions().next().unwrap()
}

async fn park(world: &World, projector: &str, at: Position) {
    let mut connection = world.log().pool().acquire().await.unwrap();
    parked::park(&mut connection, projector, "a document", at, "no").await.unwrap();
}

fn minute() -> std::time::Duration {
    std::time::Duration::from_secs(60)
}

#[tokio::test]
async fn a_read_waits_until_the_tables_have_come_as_far_and_no_longer_than_it_may() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let token = world.token(ana, minute());
    let head = world.log().heads().await.unwrap().to_string();
    let late = world.get("/api/auth/me", &head, Some(&token)).await;
    assert_eq!((late.status, late.problem()), (503, "not-caught-up"));
    assert_eq!(late.retry_after.as_deref(), Some("1"));
    // The projector comes while the read waits.
    let (answer, _) = tokio::join!(world.get("/api/auth/me", &head, Some(&token)), async {
        tokio::task::yield_now().await;
        world.tables_at_head().await
    });
    // It waited for the checkpoint; that the row is not there is this test's doing.
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn a_token_whose_event_is_parked_is_never_caught_up_with() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let token = world.token(ana, minute());
    let (provider, opened) = world.shop(ana, "anas").await;
    let head = world.tables_at_head().await;
    let feed = FeedBatch { partition: P, from: 0, to: head, notifications: vec![], marks: vec![] };
    world.feed.apply(feed).await.unwrap();
    let after = opened.to_string();
    let by_slug = "/api/providers/anas";
    let services = format!("/api/services/provider/{provider}");
    for (path, token) in
        [("/api/notifications", Some(&*token)), ("/api/notifications/counts", Some(&*token))]
    {
        assert_eq!(world.get(path, &after, token).await.status, 200);
    }
    park(&world, "notifications", last(&opened)).await;
    for path in ["/api/notifications", "/api/notifications/counts"] {
        let answer = world.get(path, &after, Some(&token)).await;
        assert_eq!((answer.status, answer.problem()), (503, "not-caught-up"), "{path}");
        assert_eq!(answer.retry_after.as_deref(), Some("60"));
        assert_eq!(world.get(path, "", Some(&token)).await.status, 200, "{path}");
    }
    // The list is cached, and as fresh as can be: it still lacks what is parked.
    world.cache_at_head().await;
    assert_eq!(world.get("/api/providers", &after, None).await.status, 200);
    park(&world, "read-tables", last(&opened)).await;
    for path in [by_slug, &services, "/api/providers", "/api/auth/me", "/api/services/my-services"]
    {
        let answer = world.get(path, &after, Some(&token)).await;
        assert_eq!((answer.status, answer.problem()), (503, "not-caught-up"), "{path}");
    }
    assert_eq!(world.get("/api/providers", "", None).await.status, 200);
}

#[tokio::test]
async fn a_cold_cache_is_filled_from_the_log_and_not_while_it_is_behind_its_own_ceiling() {
    let world = World::start().await;
    let (ana, bia) = (world.person("Ana").await, world.person("Bia").await);
    let (provider, _) = world.shop(ana, "anas").await;
    let booked = world.book(bia, provider, "2026-03-04T12:00:00Z").await.positions;
    let day = DAY.parse().unwrap();
    // The cache does not know where it is: answered from the log, and nothing is kept.
    assert_eq!(free(&world.get(&times(provider), "", None).await), 9);
    assert!(world.cache.get(provider, &[day]).await.unwrap().schedule.is_none());
    world.cache_at_head().await;
    assert_eq!(free(&world.get(&times(provider), &booked.to_string(), None).await), 9);
    let docs = world.cache.get(provider, &[day]).await.unwrap();
    let taken = docs.days[0].1.clone().unwrap();
    assert!(docs.schedule.is_some());
    assert!(taken.number <= last(&booked).number);
    assert_eq!(taken.value.unwrap().taken.len(), 1);

    // A projector that is ahead of what the reader finds has the last word.
    let (other, _) = world.shop(bia, "bias").await;
    let head = world.log().head(P).await.unwrap();
    world.cache.apply(CacheBatch::new(P, head, head + 1)).await.unwrap();
    assert_eq!(free(&world.get(&times(other), "", None).await), 10);
    assert!(world.cache.get(other, &[day]).await.unwrap().schedule.is_none());
}

#[tokio::test]
async fn a_cache_that_is_late_never_answers_older_than_the_token() {
    let world = World::start().await;
    let (ana, bia) = (world.person("Ana").await, world.person("Bia").await);
    let (provider, _) = world.shop(ana, "anas").await;
    world.cache_at_head().await;
    assert_eq!(free(&world.get(&times(provider), "", None).await), 10);
    for hour in 12..16 {
        let start = format!("2026-03-04T{hour}:00:00Z");
        let booked = world.book(bia, provider, &start).await.positions.to_string();
        // Nobody tells the cache. Without a token it may answer what it has; with one it may not.
        let times = times(provider);
        let seen = world.get(&times, &booked, None).await;
        assert_eq!(free(&seen), 21 - hour, "{start}");
        let month = format!("/api/providers/available-days?provider_id={provider}&month=2026-03");
        assert_eq!(world.get(&month, &booked, None).await.status, 200);
    }
}

#[tokio::test]
async fn a_token_from_beyond_the_log_is_not_caught_up_with_and_vouches_for_nothing() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let (provider, _) = world.shop(ana, "anas").await;
    let head = world.cache_at_head().await;
    for number in [head + 1, i64::MAX.unsigned_abs()] {
        let answer = world.get(&times(provider), &at(number).to_string(), None).await;
        assert_eq!((answer.status, answer.problem()), (503, "not-caught-up"));
    }
    assert!(world.cache.get(provider, &[]).await.unwrap().schedule.is_none());
}

#[tokio::test]
async fn a_token_of_partitions_the_log_does_not_have_is_refused_and_one_that_asks_for_nothing_is_not()
 {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let (provider, _) = world.shop(ana, "anas").await;
    let token = world.token(ana, minute());
    let paths = [&times(provider), "/api/providers", "/api/auth/me", "/api/notifications"];
    let every: Vec<String> = (0..4096).map(|n| format!("{n}:1")).collect();
    for path in paths {
        for after in ["1:1", "0:1,3:99", "65535:0", &every.join(",")] {
            let answer = world.get(path, after, Some(&token)).await;
            assert_eq!((answer.status, answer.problem()), (400, "invalid-header"), "{path}");
        }
        let answer = world.get(path, "0:0", Some(&token)).await;
        assert_ne!(answer.status, 503, "{path}: nothing is asked for");
    }
}

/// A cursor of a list with this key, as nobody but a forger writes it.
fn forged(list: &str, key: &serde_json::Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json!([list, key]).to_string())
}

#[tokio::test]
async fn a_forged_cursor_is_the_callers_mistake_and_no_outage() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let token = world.token(ana, minute());
    let id = ana.to_string();
    let (provider, _) = world.shop(ana, "anas").await;
    let mut writes = ProviderWrites::default();
    let recorded_at = world.log().clock().now();
    let stamp = Stamp { at: at(1), version: 1, recorded_at };
    writes.push(provider, stamp, opened_by(ana, "anas", "Ana's"));
    write(&world, writes).await;
    let day = format!("/api/appointments/provider/{provider}?day={DAY}");
    for (path, list, keys) in [
        ("/api/providers?limit=1", "providers", [json!(["\u{0}", id]), json!(["a\u{0}b", id])]),
        (
            "/api/users/appointments?when=upcoming",
            "appointments.upcoming",
            [json!(["-200000-01-01T00:00:00Z", id]), json!(["+200000-01-01T00:00:00Z", id])],
        ),
        (
            "/api/users/appointments?when=past",
            "appointments.past",
            [json!(["-4800-01-01T00:00:00Z", id]), json!(["9999-01-01T00:00:00Z", id])],
        ),
        (
            &day,
            "appointments.provider",
            [json!(["-200000-01-01T00:00:00Z", id]), json!(["+200000-01-01T00:00:00Z", id])],
        ),
        (
            "/api/notifications?status=all",
            "notifications",
            [json!(["-200000-01-01T00:00:00Z", 0, 1]), json!(["+200000-01-01T00:00:00Z", 0, 1])],
        ),
    ] {
        for key in keys {
            let cursor = forged(list, &key);
            let answer = world.get(&format!("{path}&cursor={cursor}"), "", Some(&token)).await;
            assert_eq!((answer.status, answer.problem()), (400, "invalid-query"), "{path} {key}");
        }
    }
}

#[tokio::test]
async fn a_list_of_the_longest_names_takes_its_own_cursor() {
    let world = World::start().await;
    let (ana, bia) = (world.person("Ana").await, world.person("Bia").await);
    let mut writes = ProviderWrites::default();
    let recorded_at = world.log().clock().now();
    let longest = "\u{1d11e}".repeat(255);
    for (number, owner, slug) in [(1, ana, "anas"), (2, bia, "bias")] {
        let (provider, _) = world.shop(owner, slug).await;
        let stamp = Stamp { at: at(number), version: 1, recorded_at };
        writes.push(provider, stamp, opened_by(owner, slug, &longest));
    }
    write(&world, writes).await;
    let first = world.get("/api/providers?limit=1", "", None).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let cursor = first.body["next_cursor"].as_str().unwrap();
    assert!(cursor.len() > 1024, "{}", cursor.len());
    let second = world.get(&format!("/api/providers?limit=1&cursor={cursor}"), "", None).await;
    assert_eq!(second.status, 200, "{}", second.body);
    assert_ne!(first.body["items"][0]["id"], second.body["items"][0]["id"]);
    assert_eq!(second.body["next_cursor"], json!(null));
}

fn opened_by(account: AccountId, slug: &str, name: &str) -> ProviderChange {
    ProviderChange::Opened {
        account,
        slug: Some(slug.parse().unwrap()),
        business_name: Some(name.parse().unwrap()),
        hourly_rate: None,
        zone: domain::hours::Zone::SAO_PAULO,
    }
}

async fn write(world: &World, writes: ProviderWrites) {
    let mut transaction = world.log().pool().begin().await.unwrap();
    writes.flush(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_list_that_lacks_what_is_parked_is_not_cached() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let (provider, opened) = world.shop(ana, "anas").await;
    let head = world.tables_at_head().await;
    world.cache_at_head().await;
    park(&world, "read-tables", last(&opened)).await;
    let list = async || world.get("/api/providers", "", None).await.body["items"].clone();
    assert_eq!(list().await, json!([]));
    let cached = async || world.cache.get_catalogue().await.unwrap()[0].1.doc.clone();
    assert!(cached().await.is_none());

    // It is applied after all, and no event says so.
    let mut writes = ProviderWrites::default();
    let change = opened_by(ana, "anas", "Ana's");
    let recorded_at = world.log().clock().now();
    writes.push(provider, Stamp { at: last(&opened), version: 1, recorded_at }, change);
    let mut transaction = world.log().pool().begin().await.unwrap();
    writes.flush(&mut transaction).await.unwrap();
    parked::reset(&mut transaction, "read-tables").await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(list().await[0]["slug"], "anas");
    assert_eq!(cached().await.unwrap().number, head);
    // From here on the cache answers, and an older fill changes nothing.
    let older = vec![CacheWrite::catalogue(P, head - 1)];
    world.cache.fill(P, head - 1, older).await.unwrap();
    assert_eq!(list().await[0]["slug"], "anas");
}
