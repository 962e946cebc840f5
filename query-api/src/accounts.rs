//! The signed-in account, and the keys that verify its tokens.

use axum::extract::State;
use domain::Instant;
use domain::actor::Role;
use domain::ids::{AccountId, ProviderId};
use http_kit::auth::SignedIn;
use http_kit::extract::Json;
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};
use serde::Serialize;
use utoipa::ToSchema;

use crate::freshness::Seen;
use crate::{QueryState, rules, table_problem};

/// An account, as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountBody {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: AccountId,
    /// Its owner's name; `null` once erased.
    name: Option<String>,
    /// Its address.
    email: Option<String>,
    /// Whether the address was confirmed.
    email_confirmed: bool,
    /// Its telephone.
    phone: Option<String>,
    /// The language its owner reads.
    #[schema(example = "pt-BR")]
    locale: &'static str,
    /// What it may be.
    #[schema(value_type = Vec<String>, example = json!(["client", "provider"]))]
    roles: Vec<Role>,
    /// Its shop, if it has opened one.
    #[schema(value_type = Option<uuid::Uuid>)]
    provider_id: Option<ProviderId>,
    /// When it was registered.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    created_at: Instant,
}

/// The signed-in account (`S3-22`).
#[utoipa::path(
    get, path = "/api/auth/me", operation_id = "Me", tag = "accounts",
    responses((status = 200, body = AccountBody), QueryProblems), security(("bearer" = []))
)]
pub async fn me(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Seen(after): Seen,
) -> Result<Json<AccountBody>, Problem> {
    let account = rules::own(&actor)?;
    state.tables_after(&after).await?;
    let pool = state.log.pool();
    let row = read_models::accounts::by_id(pool, account).await.map_err(table_problem)?;
    let row = row.ok_or(Kind::NotFound)?;
    let shop = read_models::providers::of_account(pool, account).await.map_err(table_problem)?;
    Ok(Json(AccountBody {
        id: row.id,
        name: row.name.map(Into::into),
        email: row.email.map(Into::into),
        email_confirmed: row.email_confirmed,
        phone: row.phone.map(Into::into),
        locale: row.locale.tag(),
        roles: row.roles,
        provider_id: shop.map(|shop| shop.id),
        created_at: row.stamp.created_at,
    }))
}

/// The public keys that verify access tokens (RFC 7517).
#[utoipa::path(
    get, path = "/.well-known/jwks.json", operation_id = "JsonWebKeys", tag = "accounts",
    responses((status = 200, description = "A JSON Web Key Set", body = serde_json::Value))
)]
pub async fn json_web_keys(State(state): State<QueryState>) -> Json<serde_json::Value> {
    Json(serde_json::to_value(state.verifier.jwks()).unwrap_or_default())
}
