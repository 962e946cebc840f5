//! All of a person's data, for them to take away (LGPD, art. 18).
//!
//! For example Ana asks for it with `Pontual-After: 3:18`: tables, feed and audit trail have applied that, then each is
//! read page by page, up to [`MOST`] items, and answered as one file. What concerns others is in it as far as she sees it
//! anyway. Nothing is written; a crash loses the answer.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::IntoResponse;
use domain::Instant;
use domain::ids::{AccountId, SessionId, TimeOffId};
use domain::position::PositionToken;
use domain::provider::Provider;
use event_log::checkpoints;
use http::header::CONTENT_DISPOSITION;
use http_kit::Problem;
use http_kit::auth::SignedIn;
use http_kit::extract::Json;
use http_kit::problem::QueryProblems;
use read_models::appointments::{self, Party, Period};
use read_models::audit;
use read_models::notifications::Filter;
use read_models::paging::PageLimit;
use read_models::sessions::{self, SessionRow};
use read_models::waits;
use serde::Serialize;
use utoipa::ToSchema;

use crate::accounts::{AccountBody, account_of};
use crate::appointments::{AppointmentBody, seen_by};
use crate::audit::AuditBody;
use crate::freshness::Seen;
use crate::notifications::{NotificationBody, feed_problem};
use crate::providers::{ProviderPage, page_of};
use crate::waitlist::WaitBody;
use crate::{PROJECTOR_OF_TABLES, QueryState, page_limit, rules, table_problem};

/// The most items of each list; the newest are given.
const MOST: usize = 5_000;

/// Every page of a list, up to [`MOST`] items. (A macro: a function would ask for futures that are `Send` whatever they
/// borrow.)
macro_rules! every_page {
    ($truncated:ident, |$cursor:ident, $limit:ident| $page:expr) => {{
        let $limit = page_limit(PageLimit::MAX)?;
        let (mut items, mut next) = (Vec::new(), None::<String>);
        loop {
            let $cursor = next.as_deref();
            let page = $page;
            items.extend(page.items);
            next = page.next_cursor;
            $truncated |= next.is_some() && items.len() >= MOST;
            if next.is_none() || items.len() >= MOST {
                break items;
            }
        }
    }};
}

/// All that is kept of a person.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountExport {
    /// When it was put together.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    exported_at: Instant,
    /// As of which events.
    #[schema(value_type = String, example = "3:18")]
    positions: PositionToken,
    /// Whether a list was longer than 5,000 items, and only the newest are here.
    truncated: bool,
    /// The account.
    account: AccountBody,
    /// Everywhere they were signed in.
    sessions: Vec<ExportedSession>,
    /// Their shop and what it offers.
    shop: Option<ExportedShop>,
    /// What they booked.
    appointments_as_client: Vec<AppointmentBody>,
    /// What was booked with them.
    appointments_as_provider: Vec<AppointmentBody>,
    /// Where they stand or stood in line.
    waits: Vec<WaitBody>,
    /// What they were told.
    notifications: Vec<NotificationBody>,
    /// What they did, and what was tried on their account.
    audit_trail: Vec<AuditBody>,
}

/// A session, over or not.
#[derive(Debug, Serialize, ToSchema)]
struct ExportedSession {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: SessionId,
    /// When somebody signed in.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    started_at: Instant,
    /// When it ends, or would have ended.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    expires_at: Instant,
    /// When it was ended before.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    ended_at: Option<Instant>,
    /// From which address.
    ip: Option<String>,
    /// With which program.
    user_agent: Option<String>,
}

impl From<SessionRow> for ExportedSession {
    fn from(row: SessionRow) -> Self {
        let started_at = row.started_at();
        Self {
            id: row.id,
            started_at,
            expires_at: row.expires_at,
            ended_at: row.ended_at,
            ip: row.ip.map(Into::into),
            user_agent: row.user_agent.map(Into::into),
        }
    }
}

/// A shop with its hours.
#[derive(Debug, Serialize, ToSchema)]
struct ExportedShop {
    /// The shop and its services.
    #[serde(flatten)]
    page: ProviderPage,
    /// Its hours, overrides and rules.
    #[schema(value_type = Object)]
    schedule: domain::slots::Schedule,
    /// Why it has time off, by the ids of `schedule`.
    #[schema(value_type = Object)]
    time_off_reasons: BTreeMap<TimeOffId, String>,
}

/// All of one's own data, as a file.
#[utoipa::path(
    get, path = "/api/users/export", operation_id = "ExportAccount", tag = "users",
    responses((status = 200, body = AccountExport), QueryProblems), security(("bearer" = []))
)]
pub async fn export(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Seen(after): Seen,
) -> Result<impl IntoResponse, Problem> {
    let account = rules::own(&actor)?;
    state.tables_after(&after).await?;
    state.feed_after(&after).await?;
    state.audit_after(&after).await?;
    let export = put_together(&state, account, &after).await?;
    let attachment = [(CONTENT_DISPOSITION, "attachment; filename=\"pontual-export.json\"")];
    Ok((attachment, Json(export)))
}

async fn put_together(
    state: &QueryState,
    account: AccountId,
    after: &PositionToken,
) -> Result<AccountExport, Problem> {
    let (pool, now) = (state.log.pool(), state.log.clock().now());
    let positions = checkpoints::all(pool, PROJECTOR_OF_TABLES).await;
    let positions = positions.map_err(|error| Problem::unavailable(&error))?;
    let (_, Json(body)) = account_of(state, account, after).await?;
    let mut truncated = false;

    let sessions = every_page!(truncated, |cursor, limit| {
        sessions::all_of_account(pool, account, cursor, limit).await.map_err(table_problem)?
    });

    let row = read_models::providers::of_account(pool, account).await.map_err(table_problem)?;
    let (mut shop, mut appointments_as_provider) = (None, Vec::new());
    if let Some(row) = row {
        let id = row.id;
        let known = state.log.load_at_least::<Provider>(id, row.stamp.at).await;
        let known = known.map_err(|error| Problem::unavailable(&error))?;
        let page = page_of(state, row, true).await?;
        let reasons = known.state.time_off_reasons.iter();
        let time_off_reasons =
            reasons.filter_map(|(id, why)| Some((*id, why.known()?.to_string()))).collect();
        let schedule = known.state.schedule.clone();
        shop = Some(ExportedShop { page, schedule, time_off_reasons });
        appointments_as_provider = every_page!(truncated, |cursor, limit| {
            appointments::all_of_provider(pool, id, cursor, limit).await.map_err(table_problem)?
        });
    }

    let client = Party::Client(account);
    let mut appointments_as_client = every_page!(truncated, |cursor, limit| {
        let period = Period::Upcoming;
        appointments::of_party(pool, client, period, &[], now, cursor, limit)
            .await
            .map_err(table_problem)?
    });
    appointments_as_client.extend(every_page!(truncated, |cursor, limit| {
        let period = Period::Past;
        appointments::of_party(pool, client, period, &[], now, cursor, limit)
            .await
            .map_err(table_problem)?
    }));

    let in_line = every_page!(truncated, |cursor, limit| {
        waits::of_account(pool, account, now, cursor, limit).await.map_err(table_problem)?
    });
    let notifications = every_page!(truncated, |cursor, limit| {
        state.feed.list(account, Filter::All, cursor, limit).await.map_err(feed_problem)?
    });

    let filter = audit::Filter { account: Some(account), ..audit::Filter::default() };
    let audit_trail = every_page!(truncated, |cursor, limit| {
        audit::list(pool, &filter, cursor, limit).await.map_err(table_problem)?
    });

    Ok(AccountExport {
        exported_at: now,
        positions,
        truncated,
        account: body,
        sessions: sessions.into_iter().map(Into::into).collect(),
        shop,
        appointments_as_client: seen_by(state, account, appointments_as_client).await?,
        appointments_as_provider: seen_by(state, account, appointments_as_provider).await?,
        waits: in_line.into_iter().map(|placed| WaitBody::of(placed, now)).collect(),
        notifications: notifications.iter().map(Into::into).collect(),
        audit_trail: audit_trail.into_iter().map(Into::into).collect(),
    })
}
