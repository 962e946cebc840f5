//! The audit trail, for auditors.

use std::net::IpAddr;

use axum::extract::State;
use domain::Instant;
use domain::ids::AccountId;
use http_kit::Problem;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Query, Timestamp};
use http_kit::paging::{List, Paging};
use http_kit::problem::QueryProblems;
use read_models::audit::{AuditRow, Filter};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::freshness::Seen;
use crate::{QueryState, page_limit, rules, table_problem};

/// A line of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditBody {
    /// Its id: the position of the event it is of, or one of its own.
    #[schema(example = "3:18")]
    id: String,
    /// When it happened.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    at: Instant,
    /// Who did it, or whose account it was tried on; `null` if nobody's.
    #[schema(value_type = Option<uuid::Uuid>)]
    account_id: Option<AccountId>,
    /// Who asked: `account:<id>`, `system:<name>` or `anonymous`.
    #[schema(example = "anonymous")]
    actor: String,
    /// What: the operation's name.
    #[schema(example = "SignIn")]
    action: String,
    /// On what.
    #[schema(example = "session/019bd275-f2a5-7abc-9123-456789abcdef")]
    resource: Option<String>,
    /// From which address; `null` once its person was erased.
    #[schema(value_type = Option<String>, example = "203.0.113.9")]
    ip: Option<IpAddr>,
    /// With which program; `null` once its person was erased.
    user_agent: Option<String>,
    /// Whether it was done.
    success: bool,
    /// More about it: `event`, `reason`, `role`, `trace`.
    #[schema(value_type = Object, example = json!({"event": "SessionStarted"}))]
    details: serde_json::Map<String, serde_json::Value>,
}

impl From<AuditRow> for AuditBody {
    fn from(row: AuditRow) -> Self {
        let AuditRow { id, at, account, actor, action, resource, ip, user_agent, success, details } =
            row;
        Self {
            id,
            at,
            account_id: account,
            actor,
            action,
            resource,
            ip,
            user_agent,
            success,
            details,
        }
    }
}

/// Which lines; all that is said must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct AuditParams {
    /// Who did it, or whose account it was tried on.
    #[param(value_type = Option<uuid::Uuid>)]
    account: Option<AccountId>,
    /// The operation's name, such as `SignIn`.
    action: Option<String>,
    /// On what, such as `account/019b…`.
    resource: Option<String>,
    /// Only what was done, or only what was refused.
    success: Option<bool>,
    /// From which address.
    #[param(value_type = Option<String>)]
    ip: Option<IpAddr>,
    /// Not before.
    #[param(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    from: Option<Timestamp>,
    /// Before.
    #[param(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    until: Option<Timestamp>,
    /// How many items, 1 to 100; 20 unless given.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u16>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// The audit trail, the latest first (`S4-51`).
///
/// What was refused is there within a second or two.
#[utoipa::path(
    get, path = "/api/audit", operation_id = "AuditTrail", tag = "audit",
    params(AuditParams),
    responses((status = 200, body = List<AuditBody>), QueryProblems), security(("bearer" = []))
)]
pub async fn audit_trail(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Query(params): Query<AuditParams>,
    Seen(after): Seen,
) -> Result<Json<List<AuditBody>>, Problem> {
    rules::audit(&actor)?;
    let AuditParams { account, action, resource, success, ip, from, until, limit, cursor } = params;
    let paging = Paging::new(limit, cursor)?;
    let limit = page_limit(paging.limit)?;
    state.audit_after(&after).await?;
    let filter = Filter {
        account,
        action,
        resource,
        success,
        ip,
        from: from.map(|from| from.0),
        until: until.map(|until| until.0),
    };
    let pool = state.log.pool();
    let page = read_models::audit::list(pool, &filter, paging.cursor.as_deref(), limit).await;
    let page = page.map_err(table_problem)?.map(AuditBody::from);
    Ok(Json(List { items: page.items, next_cursor: page.next_cursor }))
}
