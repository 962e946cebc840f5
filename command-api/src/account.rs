//! Accounts: what people say of themselves, their password and address, and how an account stands.
//!
//! `PUT /api/users/password` for example: the old password is verified, the new one hashed, `ChangePassword` raises the
//! account's credential generation, and with that every session ends, on every node; the caller gets a new one.
//!
//! A crash after `ChangePassword` loses that new session: one signs in with the new password.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::account::{
    Account, AccountIs, ChangePassword, DeactivateAccount, EraseAccount, GrantRole,
    ReactivateAccount, RequestEmailChange, RevokeRole, Status, UpdateProfile,
};
use domain::actor::Role;
use domain::command::Command;
use domain::hours::Zone;
use domain::ids::AccountId;
use domain::locale::Locale;
use domain::text::{EmailAddress, PersonName, Phone};
use http::StatusCode;
use http_kit::Problem;
use http_kit::auth::{InSession, SignedIn};
use http_kit::extract::{Json, Path, Sent, Submission};
use http_kit::problem::CommandProblems;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::auth::{Accepted, level, typed_twice};
use crate::passwords::{Attempt, Password};
use crate::session::{Proof, SessionBody};
use crate::{CommandState, Receipt};

/// Whether an address is free must not show in how long the answer takes.
const LEVEL: std::time::Duration = std::time::Duration::from_millis(40);

pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new()
        .routes(routes!(update_profile))
        .routes(routes!(change_password))
        .routes(routes!(request_email_change))
        .routes(routes!(deactivate_own))
        .routes(routes!(erase))
        .routes(routes!(grant_role, revoke_role))
        .routes(routes!(deactivate))
        .routes(routes!(reactivate))
}

/// What is said of a person: all of it, left out is empty.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ProfileChange, example = json!({
    "name": "Ana Souza", "phone": "+55 11 98765-4321", "locale": "pt-BR", "time_zone": "America/Sao_Paulo",
}))]
struct ProfileFields {
    #[schema(value_type = String, min_length = 2, max_length = 255)]
    name: PersonName,
    #[schema(value_type = Option<String>, min_length = 3, max_length = 20)]
    phone: Option<Phone>,
    /// The language of mails: `pt-BR` or `en`.
    #[schema(value_type = String, example = "pt-BR")]
    locale: Locale,
    #[schema(value_type = Option<String>, example = "America/Sao_Paulo")]
    time_zone: Option<Zone>,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountRef)]
struct AccountRef {
    #[schema(value_type = String, format = Uuid)]
    id: AccountId,
}

/// Say something else of oneself (`S3-26`).
#[utoipa::path(
    put, path = "/api/users/profile", operation_id = "UpdateProfile", tag = "users",
    security(("bearer" = [])),
    request_body = ProfileFields,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = AccountRef), CommandProblems),
)]
async fn update_profile(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Json(body), sent }: Submission<Json<ProfileFields>>,
) -> Result<impl IntoResponse, Problem> {
    let ProfileFields { name, phone, locale, time_zone } = body;
    let command = UpdateProfile { name, phone, locale, zone: time_zone };
    let (outcome, receipt) = api.execute(actor, sent, command).await?;
    let id = outcome.account;
    Ok((receipt.of::<Account>(id), Json(AccountRef { id })))
}

/// The old password, and a new one twice.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PasswordChange)]
struct PasswordFields {
    #[schema(value_type = String, format = Password)]
    old_password: Attempt,
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    password: Password,
    /// The same once more.
    #[schema(value_type = String, format = Password)]
    password_confirmation: Attempt,
    /// Whether the new session's refresh token goes into an HttpOnly cookie instead of the answer.
    #[serde(default)]
    cookie: bool,
}

/// Set a new password (`S0-11`, `S0-12`).
///
/// Every session ends, on every device; the answer is a new one for this device.
#[utoipa::path(
    put, path = "/api/users/password", operation_id = "ChangePassword", tag = "users",
    security(("bearer" = [])),
    request_body = PasswordFields,
    responses((status = 200, body = SessionBody), CommandProblems),
)]
async fn change_password(
    State(api): State<CommandState>,
    InSession(verified): InSession,
    Submission { body: Json(body), sent }: Submission<Json<PasswordFields>>,
) -> Result<Response, Problem> {
    let PasswordFields { old_password, password, password_confirmation, cookie } = body;
    typed_twice(&password, &password_confirmation)?;
    let account = verified.account;
    let proof =
        api.prove_again(account, old_password, "/old_password", ChangePassword::NAME, &sent.origin);
    let Proof { generation, .. } = proof.await?;
    let new_hash = api.passwords.hash(password).await?;
    // The answer carries tokens, so it is never given again: a key is of no use.
    let sent = Sent { key: None, ..sent };
    let command = ChangePassword { account, generation, new_hash };
    let (outcome, _) = api.execute(verified.actor.clone(), sent.clone(), command).await?;
    let generation = outcome.generation;
    api.verifier.revocations().require(account, generation);
    api.begin_session(Proof { account, generation }, sent, cookie).await
}

/// A new address, and the password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EmailChange)]
struct EmailFields {
    #[schema(value_type = String, format = Email, max_length = 254)]
    email: EmailAddress,
    #[schema(value_type = String, format = Password)]
    password: Attempt,
}

/// Ask for another address.
///
/// A link is mailed to the new address; until it is used the old one stays. The answer is the same whether the new
/// address was free or not.
#[utoipa::path(
    put, path = "/api/users/email", operation_id = "RequestEmailChange", tag = "users",
    security(("bearer" = [])),
    request_body = EmailFields,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 202, body = Accepted), CommandProblems),
)]
async fn request_email_change(
    State(api): State<CommandState>,
    InSession(verified): InSession,
    Submission { body: Json(body), sent }: Submission<Json<EmailFields>>,
) -> Result<Response, Problem> {
    let EmailFields { email, password } = body;
    let (account, action) = (verified.account, RequestEmailChange::NAME);
    let proof = api.prove_again(account, password, "/password", action, &sent.origin).await?;
    let command = RequestEmailChange { email, generation: proof.generation };
    level(LEVEL, api.execute(verified.actor.clone(), sent, command)).await?;
    Ok(Accepted::answer())
}

/// How an account stands.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountStands)]
struct AccountStands {
    #[schema(value_type = String, format = Uuid)]
    id: AccountId,
    #[schema(value_type = String, example = "active")]
    status: Status,
    #[schema(value_type = Vec<String>, example = json!(["client", "provider"]))]
    roles: Vec<Role>,
}

/// Decides a command about an account and says how it stands then.
async fn decided<C: Command<Outcome = AccountIs>>(
    api: &CommandState,
    actor: domain::actor::Actor,
    sent: Sent,
    command: C,
) -> Result<(Receipt, Json<AccountStands>), Problem> {
    let (outcome, receipt) = api.execute(actor, sent, command).await?;
    let AccountIs { account, status, roles, generation } = outcome;
    // This process need not wait to hear of it.
    api.verifier.revocations().require(account, generation);
    Ok((receipt.of::<Account>(account), Json(AccountStands { id: account, status, roles })))
}

/// Close one's account; it can be opened again (`S3-28`).
///
/// Every session ends. `POST /api/auth/reactivate` opens it again.
#[utoipa::path(
    post, path = "/api/users/deactivate", operation_id = "DeactivateAccount", tag = "users",
    security(("bearer" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = AccountStands), CommandProblems),
)]
async fn deactivate_own(
    State(api): State<CommandState>,
    InSession(verified): InSession,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let command = DeactivateAccount { account: verified.account };
    decided(&api, verified.actor.clone(), sent, command).await
}

/// The password of whoever erases themselves; an administrator needs none.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Erasure)]
struct ErasureFields {
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<Attempt>,
}

/// Erasing has begun.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErasureBegun)]
struct ErasureBegun {
    #[schema(value_type = String, format = Uuid)]
    id: AccountId,
    #[schema(example = "erasing")]
    status: &'static str,
}

/// Erase a person for good (`S2-12`, K12).
///
/// Whoever erases themselves gives their password; an administrator may erase anybody. With the answer the person's data
/// key is destroyed; copies elsewhere follow.
#[utoipa::path(
    delete, path = "/api/users/{id}", operation_id = "EraseAccount", tag = "users",
    security(("bearer" = [])),
    request_body = Option<ErasureFields>,
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
    ),
    responses((status = 202, body = ErasureBegun), CommandProblems),
)]
async fn erase(
    State(api): State<CommandState>,
    InSession(verified): InSession,
    Path(account): Path<AccountId>,
    Submission { body, sent }: Submission<Option<Json<ErasureFields>>>,
) -> Result<impl IntoResponse, Problem> {
    let password = body.and_then(|Json(fields)| fields.password);
    // Of one's own account: an administrator's says nothing of anybody else's.
    let proven_under = match password.filter(|_| verified.account == account) {
        Some(password) => {
            let action = EraseAccount::NAME;
            let proof = api.prove_again(account, password, "/password", action, &sent.origin);
            Some(proof.await?.generation)
        }
        None => None,
    };
    let command = EraseAccount { account, proven_under };
    let (receipt, _) = decided(&api, verified.actor.clone(), sent, command).await?;
    let answer = ErasureBegun { id: account, status: "erasing" };
    Ok((StatusCode::ACCEPTED, receipt, Json(answer)))
}

/// Let an account be one thing more.
#[utoipa::path(
    put, path = "/api/users/{id}/roles/{role}", operation_id = "GrantRole", tag = "users",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid),
        ("role" = String, Path, description = "client, provider, admin or auditor"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = AccountStands), CommandProblems),
)]
async fn grant_role(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path((account, role)): Path<(AccountId, Role)>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    decided(&api, actor, sent, GrantRole { account, role }).await
}

/// Let an account be one thing less; its sessions end.
#[utoipa::path(
    delete, path = "/api/users/{id}/roles/{role}", operation_id = "RevokeRole", tag = "users",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid),
        ("role" = String, Path, description = "client, provider, admin or auditor"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = AccountStands), CommandProblems),
)]
async fn revoke_role(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path((account, role)): Path<(AccountId, Role)>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    decided(&api, actor, sent, RevokeRole { account, role }).await
}

/// Close somebody's account, as an administrator; only an administrator can open it again.
#[utoipa::path(
    post, path = "/api/users/{id}/deactivate", operation_id = "DeactivateSomebody", tag = "users",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = AccountStands), CommandProblems),
)]
async fn deactivate(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(account): Path<AccountId>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    decided(&api, actor, sent, DeactivateAccount { account }).await
}

/// Open somebody's account again, as an administrator.
#[utoipa::path(
    post, path = "/api/users/{id}/reactivate", operation_id = "ReactivateSomebody", tag = "users",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = AccountStands), CommandProblems),
)]
async fn reactivate(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Path(account): Path<AccountId>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    decided(&api, actor, sent, ReactivateAccount { account, proven_under: None }).await
}
