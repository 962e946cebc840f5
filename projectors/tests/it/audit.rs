//! The audit trail is made of the log, and of nobody who was erased.

use std::sync::Arc;

use chrono::TimeDelta;
use domain::account::{ConfirmEmail, EraseAccount, GrantRole};
use domain::actor::{Actor, Role};
use event_log::testing::TestDatabase;
use event_log::{EventLog, Executor, Origin, checkpoints};
use projectors::read_models::audit::AuditTrail;
use projectors::runner::{Runner, Sharing};
use projectors::tail::SharedTail;
use read_models::audit::{self, AuditRow, Filter};
use read_models::paging::PageLimit;
use tokio_util::sync::CancellationToken;

use crate::common::{caught_up, person, register};

const ADMIN: Actor = Actor::System("tests");

fn from_a_browser(actor: &Actor) -> Origin {
    Origin {
        ip: Some("203.0.113.9".parse().unwrap()),
        user_agent: Some("a marked browser".to_owned()),
        ..Origin::of(actor.clone(), "trace-2")
    }
}

/// All rows, the first first.
async fn rows(log: &EventLog) -> Vec<AuditRow> {
    let limit = PageLimit::new(100).unwrap();
    let mut page = audit::list(log.pool(), &Filter::default(), None, limit).await.unwrap();
    page.items.sort_by_key(|row| row.id.rsplit(':').next().unwrap().parse::<u64>().unwrap());
    page.items
}

async fn project(log: &EventLog) -> Vec<AuditRow> {
    let stop = CancellationToken::new();
    let mut runner = Runner::new(SharedTail::new(log.clone()), stop.clone());
    runner.start(Arc::new(AuditTrail::new(log.clone())), Sharing::Leased);
    caught_up(log, AuditTrail::NAME).await;
    stop.cancel();
    runner.join().await;
    rows(log).await
}

#[tokio::test]
async fn what_happens_to_accounts_is_told_with_who_and_from_where_and_twice_equals_once() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let executor = Executor::new(log.clone());
    let ana = register(&executor, "Ana").await;
    let confirm = ConfirmEmail { account: ana };
    executor.execute(confirm, from_a_browser(&Actor::Anonymous)).await.unwrap();
    register(&executor, "Ana").await;
    let grant = GrantRole { account: ana, role: Role::Auditor };
    executor.execute(grant, Origin::of(ADMIN, "trace-3")).await.unwrap();
    let first = project(&log).await;
    let told: Vec<_> =
        first.iter().map(|row| (row.action.as_str(), row.account, row.success)).collect();
    assert_eq!(
        told,
        [
            ("RegisterAccount", Some(ana), true),
            ("ConfirmEmail", Some(ana), true),
            ("RegisterAccount", None, false),
            ("GrantRole", None, true),
        ]
    );
    assert!(first.iter().all(|row| row.resource == Some(format!("account/{ana}"))));
    assert_eq!(first[1].ip, Some("203.0.113.9".parse().unwrap()));
    assert_eq!(first[1].user_agent.as_deref(), Some("a marked browser"));
    assert_eq!(first[1].actor, "anonymous");
    assert_eq!(first[1].details["event"], "EmailConfirmed");
    assert_eq!(first[1].details["trace"], "trace-2");
    assert_eq!(first[3].actor, "system:tests");
    assert_eq!(first[3].details["role"], "auditor");

    forget_checkpoints(&log).await;
    assert_eq!(project(&log).await, first);
}

#[tokio::test]
async fn an_erased_persons_addresses_are_purged_and_do_not_come_back_with_a_rebuild() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    let executor = Executor::new(log.clone());
    let ana = register(&executor, "Ana").await;
    let bia = person(&executor, "Bia").await;
    for actor in [Actor::Anonymous, Actor::Account { id: ana, roles: vec![Role::Client] }] {
        let confirm = ConfirmEmail { account: ana };
        executor.execute(confirm, from_a_browser(&actor)).await.unwrap();
    }
    let themselves = Actor::Account { id: ana, roles: vec![Role::Client] };
    let erase = EraseAccount { account: ana, proven_under: Some(0) };
    executor.execute(erase, from_a_browser(&themselves)).await.unwrap();
    project(&log).await;
    let mut connection = log.pool().acquire().await.unwrap();
    audit::purge_person(&mut connection, ana).await.unwrap();
    let marked = |rows: &[AuditRow]| rows.iter().filter(|row| row.user_agent.is_some()).count();
    assert_eq!(marked(&rows(&log).await), 0);

    // Another process, with no key in its memory, from nothing.
    sqlx::query("TRUNCATE audit_trail").execute(log.pool()).await.unwrap();
    forget_checkpoints(&log).await;
    let rebuilt = project(&log).await;
    assert_eq!(marked(&rebuilt), 0);
    assert!(rebuilt.iter().any(|row| row.action == "EraseAccount" && row.account == Some(ana)));
    assert!(rebuilt.iter().any(|row| row.account == bia.account()));
}

#[tokio::test]
async fn what_is_old_is_forgotten() {
    let database = TestDatabase::create().await;
    let log = database.log(1).await;
    register(&Executor::new(log.clone()), "Ana").await;
    assert_eq!(project(&log).await.len(), 1);
    let later = log.clock().now() + TimeDelta::days(1);
    assert_eq!(audit::forget(log.pool(), later, audit::NOTED_MAX).await.unwrap(), 1);
    assert!(rows(&log).await.is_empty());
}

async fn forget_checkpoints(log: &EventLog) {
    let before = checkpoints::all(log.pool(), AuditTrail::NAME).await.unwrap();
    assert!(!before.is_empty());
    sqlx::query("DELETE FROM checkpoints WHERE projector = $1")
        .bind(AuditTrail::NAME)
        .execute(log.pool())
        .await
        .unwrap();
}
