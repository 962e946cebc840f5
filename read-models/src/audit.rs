//! The audit trail (`S4-51`): who did what, on what, from where, with what program, when, and whether it was done.
//!
//! `SessionStarted` at 3:18 becomes the row `3:18`: account, `SignIn`, `session/0193…`, address, program, success. A wrong
//! password leaves no event; its row is noted by the program that refused it, under an id of its own. Rows of events can be
//! dropped and made again from the log; noted ones cannot, and only the latest [`NOTED_MAX`] are kept.
//!
//! Addresses and programs are personal: [`purge_person`] empties them when somebody is erased, and the log can then no
//! longer give them back. A crash leaves the rows of a batch with their checkpoint, or neither.

use std::net::IpAddr;

use domain::Instant;
use domain::ids::{AccountId, Id};
use serde_json::{Map, Value};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::paging::{Page, PageLimit, decode};
use crate::table::{Columns, TableError, database};

const TABLE: &str = "audit_trail";
const COLUMNS: Columns = Columns(TABLE);
/// The list a cursor belongs to.
const LIST: &str = "audit";
/// The most rows without an event that are kept.
pub const NOTED_MAX: i64 = 1_000_000;
/// Rows are deleted in slices, so that no lock is held for long.
const SLICE: i64 = 5_000;

/// A line of the audit trail.
#[derive(Clone, PartialEq)]
pub struct AuditRow {
    /// The position of its event, or an id of its own.
    pub id: String,
    /// When.
    pub at: Instant,
    /// Who did it, or whose account it was tried on.
    pub account: Option<AccountId>,
    /// Who asked: `account:<id>`, `system:<name>` or `anonymous`.
    pub actor: String,
    /// What: the command's name.
    pub action: String,
    /// On what.
    pub resource: Option<String>,
    /// From which address; `None` once the person was erased.
    pub ip: Option<IpAddr>,
    /// With which program; `None` once the person was erased.
    pub user_agent: Option<String>,
    /// Whether it was done.
    pub success: bool,
    /// More about it; nothing personal.
    pub details: Map<String, Value>,
}

/// Addresses and programs are not printed.
impl std::fmt::Debug for AuditRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditRow")
            .field("id", &self.id)
            .field("at", &self.at)
            .field("actor", &self.actor)
            .field("action", &self.action)
            .field("resource", &self.resource)
            .field("success", &self.success)
            .field("details", &self.details)
            .finish_non_exhaustive()
    }
}

/// Which lines are wanted; all that is said must hold.
#[derive(Clone, Default)]
pub struct Filter {
    /// Who did it, or whose account it was tried on.
    pub account: Option<AccountId>,
    /// The command's name.
    pub action: Option<String>,
    /// On what.
    pub resource: Option<String>,
    /// Whether it was done.
    pub success: Option<bool>,
    /// From which address.
    pub ip: Option<IpAddr>,
    /// Not before.
    pub from: Option<Instant>,
    /// Before.
    pub until: Option<Instant>,
}

/// Adds rows of events, in the projector's transaction. A row that is there stays as it is.
pub async fn insert(connection: &mut PgConnection, rows: &[AuditRow]) -> Result<u64, TableError> {
    write(connection, rows, "NULL::bigint").await
}

/// Adds rows that have no event.
pub async fn note(connection: &mut PgConnection, rows: &[AuditRow]) -> Result<u64, TableError> {
    write(connection, rows, "nextval('audit_trail_noted_numbers')").await
}

async fn write(
    connection: &mut PgConnection,
    rows: &[AuditRow],
    number: &'static str,
) -> Result<u64, TableError> {
    if rows.is_empty() {
        return Ok(0);
    }
    let text =
        |column: fn(&AuditRow) -> Option<String>| rows.iter().map(column).collect::<Vec<_>>();
    let query = format!(
        "INSERT INTO audit_trail
             (id, at, account_id, actor, action, resource, ip, user_agent, success, details, noted)
         SELECT id, at, account_id, actor, action, resource, ip, user_agent, success, details::json, {number}
         FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::text[], $9::boolean[], $10::text[])
              AS new (id, at, account_id, actor, action, resource, ip, user_agent, success, details)
         ON CONFLICT (id) DO NOTHING"
    );
    let written = sqlx::query(&query)
        .bind(text(|row| Some(row.id.clone())))
        .bind(rows.iter().map(|row| row.at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.account.map(Id::uuid)).collect::<Vec<_>>())
        .bind(text(|row| Some(row.actor.clone())))
        .bind(text(|row| Some(row.action.clone())))
        .bind(text(|row| row.resource.clone()))
        .bind(text(|row| row.ip.map(|ip| ip.to_canonical().to_string())))
        // Postgres' text holds no NUL.
        .bind(text(|row| row.user_agent.as_ref().map(|agent| agent.replace('\0', ""))))
        .bind(rows.iter().map(|row| row.success).collect::<Vec<_>>())
        .bind(text(|row| Some(Value::Object(row.details.clone()).to_string())))
        .execute(connection)
        .await
        .map_err(database(TABLE))?;
    Ok(written.rows_affected())
}

/// A page of lines, the latest first.
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    cursor: Option<&str>,
    limit: PageLimit,
) -> Result<Page<AuditRow>, TableError> {
    let after: Option<(Instant, String)> = decode(LIST, cursor)?;
    let Filter { account, action, resource, success, ip, from, until } = filter;
    let mut query = QueryBuilder::<Postgres>::new(
        "SELECT id, at, account_id, actor, action, resource, ip, user_agent, success, \
         details::text AS details FROM audit_trail WHERE true",
    );
    if let Some(account) = account {
        query.push(" AND account_id = ").push_bind(account.uuid());
    }
    if let Some(action) = action {
        query.push(" AND action = ").push_bind(action);
    }
    if let Some(resource) = resource {
        query.push(" AND resource = ").push_bind(resource);
    }
    match success {
        Some(true) => query.push(" AND success"),
        Some(false) => query.push(" AND NOT success"),
        None => &mut query,
    };
    if let Some(ip) = ip {
        query.push(" AND ip = ").push_bind(ip.to_canonical().to_string());
    }
    if let Some(from) = from {
        query.push(" AND at >= ").push_bind(*from);
    }
    if let Some(until) = until {
        query.push(" AND at < ").push_bind(*until);
    }
    if let Some((at, id)) = after {
        query.push(" AND (at, id COLLATE \"C\") < (").push_bind(at).push(", ").push_bind(id);
        query.push(")");
    }
    query.push(" ORDER BY at DESC, id COLLATE \"C\" DESC LIMIT ").push_bind(limit.and_one());
    let rows: Vec<Raw> = query.build_query_as().fetch_all(pool).await.map_err(database(TABLE))?;
    let rows = rows.into_iter().map(AuditRow::try_from).collect::<Result<Vec<_>, _>>()?;
    Ok(Page::cut(rows, limit, LIST, |row| (row.at, row.id.clone())))
}

/// Empties addresses and programs of everything a person did, or that was tried on their account. To be called once the
/// projector `audit` has passed the heads of the erasure: from then on it opens no address of theirs. Says how many rows.
pub async fn purge_person(
    connection: &mut PgConnection,
    account: AccountId,
) -> Result<u64, TableError> {
    let purged = sqlx::query(
        "UPDATE audit_trail SET ip = NULL, user_agent = NULL
         WHERE account_id = $1 AND (ip IS NOT NULL OR user_agent IS NOT NULL)",
    )
    .bind(account.uuid())
    .execute(connection)
    .await
    .map_err(database(TABLE))?;
    Ok(purged.rows_affected())
}

/// Forgets lines of before an instant, and all but the latest `noted_max` of those without an event. Says how many.
pub async fn forget(pool: &PgPool, before: Instant, noted_max: i64) -> Result<u64, TableError> {
    let mut forgotten = 0;
    for condition in [
        "at < $1 AND $2::bigint IS NOT NULL",
        "noted <= (SELECT max(noted) FROM audit_trail WHERE noted IS NOT NULL) - $2
         AND $1::timestamptz IS NOT NULL",
    ] {
        loop {
            let slice = sqlx::query(&format!(
                "DELETE FROM audit_trail WHERE ctid = ANY (ARRAY(
                     SELECT ctid FROM audit_trail WHERE {condition} LIMIT $3))"
            ))
            .bind(before)
            .bind(noted_max)
            .bind(SLICE)
            .execute(pool)
            .await
            .map_err(database(TABLE))?
            .rows_affected();
            forgotten += slice;
            if slice < SLICE.unsigned_abs() {
                break;
            }
        }
    }
    Ok(forgotten)
}

#[derive(sqlx::FromRow)]
struct Raw {
    id: String,
    at: Instant,
    account_id: Option<Uuid>,
    actor: String,
    action: String,
    resource: Option<String>,
    ip: Option<String>,
    user_agent: Option<String>,
    success: bool,
    details: String,
}

impl TryFrom<Raw> for AuditRow {
    type Error = TableError;

    fn try_from(raw: Raw) -> Result<Self, TableError> {
        let Raw { id, at, account_id, actor, action, resource, ip, user_agent, success, details } =
            raw;
        Ok(Self {
            id,
            at,
            account: account_id.map(|id| COLUMNS.id("account_id", id)).transpose()?,
            actor,
            action,
            resource,
            ip: ip.map(|ip| ip.parse().map_err(|_| COLUMNS.corrupt("ip"))).transpose()?,
            user_agent,
            success,
            details: serde_json::from_str(&details).map_err(|_| COLUMNS.corrupt("details"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, with_database};

    fn at(second: i64) -> Instant {
        chrono::DateTime::from_timestamp(1_770_000_000 + second, 0).unwrap()
    }

    fn row(id_text: &str, second: i64, account: Option<AccountId>, success: bool) -> AuditRow {
        AuditRow {
            id: id_text.to_owned(),
            at: at(second),
            account,
            actor: account.map_or("anonymous".to_owned(), |id| format!("account:{id}")),
            action: "SignIn".to_owned(),
            resource: Some("session/1".to_owned()),
            ip: Some("203.0.113.9".parse().unwrap()),
            user_agent: Some("a \0browser".to_owned()),
            success,
            details: Map::from_iter([("event".to_owned(), Value::from("SessionStarted"))]),
        }
    }

    async fn ids(pool: &PgPool, filter: Filter) -> Vec<String> {
        let page = list(pool, &filter, None, PageLimit::default()).await.unwrap();
        page.items.into_iter().map(|row| row.id).collect()
    }

    #[tokio::test]
    async fn a_row_seen_twice_is_there_once_and_pages_follow_each_other() {
        with_database(|pool| async move {
            let mut connection = pool.acquire().await.unwrap();
            let rows: Vec<_> =
                (1..=5).map(|n| row(&format!("0:{n}"), n / 2, Some(id(7)), true)).collect();
            assert_eq!(insert(&mut connection, &rows).await.unwrap(), 5);
            assert_eq!(insert(&mut connection, &rows).await.unwrap(), 0);
            assert_eq!(insert(&mut connection, &[]).await.unwrap(), 0);
            let (mut cursor, mut seen) = (None, Vec::new());
            loop {
                let limit = PageLimit::new(2).unwrap();
                let page = list(&pool, &Filter::default(), cursor.as_deref(), limit).await.unwrap();
                seen.extend(page.items.into_iter().map(|row| row.id));
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(seen, ["0:5", "0:4", "0:3", "0:2", "0:1"]);
            let wrong = list(&pool, &Filter::default(), Some("x"), PageLimit::default()).await;
            assert!(matches!(wrong, Err(TableError::Cursor(_))));
            let first = list(&pool, &Filter::default(), None, PageLimit::default()).await.unwrap();
            let mut expected = rows[4].clone();
            expected.user_agent = Some("a browser".to_owned());
            assert_eq!(first.items[0], expected);
        })
        .await;
    }

    #[tokio::test]
    async fn every_filter_narrows_and_all_hold_together() {
        with_database(|pool| async move {
            let mut connection = pool.acquire().await.unwrap();
            let (ana, bia) = (id(7), id(8));
            let mut other = row("0:3", 3, Some(bia), true);
            other.action = "ChangePassword".to_owned();
            other.resource = Some("account/8".to_owned());
            other.ip = Some("2001:db8::1".parse().unwrap());
            insert(&mut connection, &[row("0:1", 1, Some(ana), true), other]).await.unwrap();
            note(&mut connection, &[row("n", 2, Some(ana), false)]).await.unwrap();
            let none = Filter::default;
            assert_eq!(ids(&pool, none()).await, ["0:3", "n", "0:1"]);
            assert_eq!(ids(&pool, Filter { account: Some(ana), ..none() }).await, ["n", "0:1"]);
            assert_eq!(ids(&pool, Filter { success: Some(false), ..none() }).await, ["n"]);
            assert_eq!(ids(&pool, Filter { success: Some(true), ..none() }).await, ["0:3", "0:1"]);
            let action = Some("ChangePassword".to_owned());
            assert_eq!(ids(&pool, Filter { action, ..none() }).await, ["0:3"]);
            let resource = Some("session/1".to_owned());
            assert_eq!(ids(&pool, Filter { resource, ..none() }).await, ["n", "0:1"]);
            let ip = Some("::ffff:203.0.113.9".parse().unwrap());
            assert_eq!(ids(&pool, Filter { ip, ..none() }).await, ["n", "0:1"]);
            let (from, until) = (Some(at(2)), Some(at(3)));
            assert_eq!(ids(&pool, Filter { from, until, ..none() }).await, ["n"]);
            let both = Filter { account: Some(bia), success: Some(false), ..none() };
            assert!(ids(&pool, both).await.is_empty());
        })
        .await;
    }

    #[tokio::test]
    async fn an_erased_persons_addresses_and_programs_go_and_nobody_elses() {
        with_database(|pool| async move {
            let mut connection = pool.acquire().await.unwrap();
            let rows = [row("0:1", 1, Some(id(7)), true), row("0:2", 2, Some(id(8)), true)];
            insert(&mut connection, &rows).await.unwrap();
            assert_eq!(purge_person(&mut connection, id(7)).await.unwrap(), 1);
            assert_eq!(purge_person(&mut connection, id(7)).await.unwrap(), 0);
            let page = list(&pool, &Filter::default(), None, PageLimit::default()).await.unwrap();
            let of = |n: usize| (page.items[n].ip, page.items[n].user_agent.is_some());
            assert_eq!(of(1), (None, false));
            assert_eq!(of(0), (rows[1].ip, true));
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_old_is_forgotten_and_only_so_many_refusals_are_kept() {
        with_database(|pool| async move {
            let mut connection = pool.acquire().await.unwrap();
            let old = [row("0:1", -100, None, true), row("0:2", 50, None, true)];
            insert(&mut connection, &old).await.unwrap();
            let noted: Vec<_> =
                (0..10).map(|n| row(&format!("n{n}"), 100 + n, None, false)).collect();
            note(&mut connection, &noted).await.unwrap();
            assert_eq!(forget(&pool, at(0), 3).await.unwrap(), 1 + 7);
            assert_eq!(ids(&pool, Filter::default()).await, ["n9", "n8", "n7", "0:2"]);
            assert_eq!(forget(&pool, at(0), 3).await.unwrap(), 0);
        })
        .await;
    }
}
