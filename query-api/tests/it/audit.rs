//! Auditors read the audit trail, and nobody else.

use domain::actor::Role;
use domain::ids::AccountId;
use event_log::checkpoints;
use read_models::audit::{AuditRow, insert, note};
use serde_json::{Map, json};

use crate::common::*;

fn row(id: &str, second: i64, account: AccountId, action: &str, success: bool) -> AuditRow {
    AuditRow {
        id: id.to_owned(),
        at: chrono::DateTime::from_timestamp(1_770_000_000 + second, 0).unwrap(),
        account: Some(account),
        actor: "anonymous".to_owned(),
        action: action.to_owned(),
        resource: Some(format!("account/{account}")),
        ip: Some("203.0.113.9".parse().unwrap()),
        user_agent: Some("a browser".to_owned()),
        success,
        details: Map::new(),
    }
}

#[tokio::test]
async fn the_trail_is_for_auditors_alone() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let nobody = world.get("/api/audit", "", None).await;
    assert_eq!((nobody.status, nobody.problem()), (401, "sign-in-required"));
    for role in [Role::Client, Role::Provider, Role::Admin] {
        let token = world.token_as(ana, &[role]);
        let refused = world.get("/api/audit", "", Some(&token)).await;
        assert_eq!((refused.status, refused.problem()), (403, "forbidden"), "{role:?}");
    }
    let token = world.token_as(ana, &[Role::Client, Role::Auditor]);
    let answer = world.get("/api/audit", "", Some(&token)).await;
    assert_eq!((answer.status, answer.body), (200, json!({"items": [], "next_cursor": null})));
}

#[tokio::test]
async fn lines_are_filtered_and_paged_the_latest_first() {
    let world = World::start().await;
    let (ana, bia) = (world.person("Ana").await, world.person("Bia").await);
    let mut connection = world.log().pool().acquire().await.unwrap();
    let rows = [row("0:1", 1, ana, "SignIn", true), row("0:2", 2, bia, "SignOut", true)];
    insert(&mut connection, &rows).await.unwrap();
    note(&mut connection, &[row("n", 3, ana, "SignIn", false)]).await.unwrap();
    let token = world.token_as(ana, &[Role::Auditor]);
    let ids = async |query: &str| {
        let answer = world.get(&format!("/api/audit?{query}"), "", Some(&token)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let items = answer.body["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, ["n", "0:2", "0:1"]);
    assert_eq!(ids(&format!("account={ana}")).await, ["n", "0:1"]);
    assert_eq!(ids("action=SignIn&success=true").await, ["0:1"]);
    assert_eq!(ids(&format!("resource=account/{bia}")).await, ["0:2"]);
    assert_eq!(ids("ip=203.0.113.9&success=false").await, ["n"]);
    assert!(ids("ip=203.0.113.10").await.is_empty());
    assert_eq!(ids("from=2026-02-02T02:40:02Z&until=2026-02-02T02:40:03Z").await, ["0:2"]);
    let page = world.get("/api/audit?limit=2", "", Some(&token)).await.body;
    assert_eq!(page["items"][0]["account_id"], ana.to_string());
    assert_eq!(page["items"][0]["ip"], "203.0.113.9");
    assert_eq!(page["items"][0]["user_agent"], "a browser");
    assert_eq!(page["items"][0]["at"], "2026-02-02T02:40:03Z");
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(ids(&format!("limit=2&cursor={cursor}")).await, ["0:1"]);
    for wrong in
        ["account=x", "ip=1.2.3", "success=yes", "from=today", "cursor=x", "limit=0", "who=x"]
    {
        let answer = world.get(&format!("/api/audit?{wrong}"), "", Some(&token)).await;
        assert_eq!((answer.status, answer.problem()), (400, "invalid-query"), "{wrong}");
    }
}

#[tokio::test]
async fn a_read_waits_for_the_trails_own_checkpoint() {
    let world = World::start().await;
    let ana = world.person("Ana").await;
    let token = world.token_as(ana, &[Role::Auditor]);
    let head = world.log().heads().await.unwrap().to_string();
    world.tables_at_head().await;
    let late = world.get("/api/audit", &head, Some(&token)).await;
    assert_eq!((late.status, late.problem()), (503, "not-caught-up"));
    let mut connection = world.log().pool().acquire().await.unwrap();
    let to = world.log().head(P).await.unwrap();
    checkpoints::advance(&mut connection, "audit", P, 0, to, None).await.unwrap();
    assert_eq!(world.get("/api/audit", &head, Some(&token)).await.status, 200);
}
