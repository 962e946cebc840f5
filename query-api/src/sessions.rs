//! Where one is signed in.

use axum::extract::State;
use domain::Instant;
use domain::ids::SessionId;
use http_kit::Problem;
use http_kit::auth::InSession;
use http_kit::extract::Json;
use http_kit::paging::{List, PageParams, Paging};
use http_kit::problem::QueryProblems;
use read_models::sessions::SessionRow;
use serde::Serialize;
use utoipa::ToSchema;

use crate::freshness::Seen;
use crate::{QueryState, page_limit, table_problem};

/// A device somebody is signed in on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SessionListed)]
pub struct SessionBody {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: SessionId,
    /// Whether it is the one that asks.
    current: bool,
    /// When somebody signed in.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    started_at: Instant,
    /// When it ends, however often it is refreshed.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    expires_at: Instant,
    /// From which address.
    #[schema(example = "203.0.113.9")]
    ip: Option<String>,
    /// With which program.
    user_agent: Option<String>,
}

impl SessionBody {
    fn of(row: SessionRow, current: SessionId) -> Self {
        let started_at = row.started_at();
        Self {
            id: row.id,
            current: row.id == current,
            started_at,
            expires_at: row.expires_at,
            ip: row.ip.map(Into::into),
            user_agent: row.user_agent.map(Into::into),
        }
    }
}

/// One's own sessions, the newest first: everywhere one is signed in.
#[utoipa::path(
    get, path = "/api/auth/sessions", operation_id = "ListSessions", tag = "accounts",
    params(PageParams),
    responses((status = 200, body = List<SessionBody>), QueryProblems), security(("bearer" = []))
)]
pub async fn list_sessions(
    State(state): State<QueryState>,
    InSession(verified): InSession,
    paging: Paging,
    Seen(after): Seen,
) -> Result<Json<List<SessionBody>>, Problem> {
    let limit = page_limit(paging.limit)?;
    state.tables_after(&after).await?;
    let (pool, now) = (state.log.pool(), state.log.clock().now());
    let cursor = paging.cursor.as_deref();
    let page = read_models::sessions::of_account(pool, verified.account, now, cursor, limit).await;
    let page = page.map_err(table_problem)?;
    let items = page.items.into_iter().map(|row| SessionBody::of(row, verified.session)).collect();
    Ok(Json(List { items, next_cursor: page.next_cursor }))
}
