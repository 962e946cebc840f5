//! How far the erasure of a person is, for administrators.

use axum::extract::State;
use domain::Instant;
use domain::ids::AccountId;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};
use read_models::erasures::Stage;
use serde::Serialize;
use utoipa::ToSchema;

use crate::freshness::Seen;
use crate::{QueryState, rules, table_problem};

/// How far the erasure of a person is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErasureStanding)]
pub struct ErasureBody {
    /// Whose account it was.
    #[schema(value_type = uuid::Uuid)]
    id: AccountId,
    /// `erasing` until the stores lost what they had, `purged` once they did, `erased` once nothing can come back.
    #[schema(example = "erased")]
    status: &'static str,
    /// When the log forgot them.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    erased_at: Instant,
    /// When nothing was left.
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    completed_at: Option<Instant>,
}

/// How far the erasure of a person is.
///
/// The log forgets them at once; what was made of it is purged within seconds, and once more after two minutes.
#[utoipa::path(
    get, path = "/api/users/{id}/erasure", operation_id = "AccountErasure", tag = "users",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = ErasureBody), QueryProblems), security(("bearer" = []))
)]
pub async fn erasure(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Path(account): Path<AccountId>,
    Seen(after): Seen,
) -> Result<Json<ErasureBody>, Problem> {
    rules::erasure(&actor)?;
    state.tables_after(&after).await?;
    let row = read_models::erasures::of_account(state.log.pool(), account).await;
    let row = row.map_err(table_problem)?.ok_or(Kind::NotFound)?;
    let status = match row.stage {
        Stage::Begun | Stage::Told => "erasing",
        Stage::Purged | Stage::Settling | Stage::Settled => "purged",
        Stage::Complete => "erased",
    };
    let (erased_at, completed_at) = (row.erased_at, row.completed_at);
    Ok(Json(ErasureBody { id: account, status, erased_at, completed_at }))
}
