//! Accounts, as their owners and administrators see them, and the keys that verify tokens.

use axum::extract::State;
use domain::Instant;
use domain::account::Status;
use domain::actor::Role;
use domain::ids::{AccountId, ProviderId};
use domain::position::PositionToken;
use http_kit::auth::SignedIn;
use http_kit::extract::{Json, Path};
use http_kit::files::photos::PhotoUrls;
use http_kit::headers::Tag;
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};
use serde::Serialize;
use utoipa::ToSchema;

use crate::freshness::Seen;
use crate::{QueryState, rules, table_problem};

/// An account, as its owner and administrators see it.
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
    /// The address it changes to once that is confirmed.
    pending_email: Option<String>,
    /// Whether it can be used: `active`, `deactivated` or `erased`.
    #[schema(value_type = String, example = "active")]
    status: Status,
    /// Its telephone.
    phone: Option<String>,
    /// The language its owner reads.
    #[schema(example = "pt-BR")]
    locale: &'static str,
    /// Where its owner lives.
    #[schema(example = "America/Sao_Paulo")]
    time_zone: Option<&'static str>,
    /// Its owner's photo.
    photo: Option<PhotoUrls>,
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
) -> Result<(Tag, Json<AccountBody>), Problem> {
    account_of(&state, rules::own(&actor)?, &after).await
}

/// One's own profile (`S3-25`).
#[utoipa::path(
    get, path = "/api/users/profile", operation_id = "OwnAccount", tag = "users",
    responses((status = 200, body = AccountBody), QueryProblems), security(("bearer" = []))
)]
pub async fn own_account(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Seen(after): Seen,
) -> Result<(Tag, Json<AccountBody>), Problem> {
    account_of(&state, rules::own(&actor)?, &after).await
}

/// Somebody's account: one's own, or anybody's for an administrator (`S1-10`, `S2-10`).
#[utoipa::path(
    get, path = "/api/users/{id}", operation_id = "Account", tag = "users",
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = AccountBody), QueryProblems), security(("bearer" = []))
)]
pub async fn account(
    State(state): State<QueryState>,
    SignedIn(actor): SignedIn,
    Path(account): Path<AccountId>,
    Seen(after): Seen,
) -> Result<(Tag, Json<AccountBody>), Problem> {
    rules::account(&actor, account)?;
    account_of(&state, account, &after).await
}

pub(crate) async fn account_of(
    state: &QueryState,
    account: AccountId,
    after: &PositionToken,
) -> Result<(Tag, Json<AccountBody>), Problem> {
    state.tables_after(after).await?;
    let pool = state.log.pool();
    let row = read_models::accounts::by_id(pool, account).await.map_err(table_problem)?;
    let row = row.ok_or(Kind::NotFound)?;
    let shop = read_models::providers::of_account(pool, account).await.map_err(table_problem)?;
    let tag = Tag(row.stamp.version);
    let body = AccountBody {
        id: row.id,
        name: row.name.map(Into::into),
        email: row.email.map(Into::into),
        email_confirmed: row.email_confirmed,
        pending_email: row.pending_email.map(Into::into),
        status: row.status,
        phone: row.phone.map(Into::into),
        locale: row.locale.tag(),
        time_zone: row.zone.map(|zone| zone.name()),
        photo: row.photo.map(PhotoUrls::of),
        roles: row.roles,
        provider_id: shop.map(|shop| shop.id),
        created_at: row.stamp.created_at,
    };
    Ok((tag, Json(body)))
}

/// The public keys that verify access tokens (RFC 7517).
#[utoipa::path(
    get, path = "/.well-known/jwks.json", operation_id = "JsonWebKeys", tag = "accounts",
    responses((status = 200, description = "A JSON Web Key Set", body = serde_json::Value))
)]
pub async fn json_web_keys(State(state): State<QueryState>) -> Json<serde_json::Value> {
    Json(serde_json::to_value(state.verifier.jwks()).unwrap_or_default())
}
