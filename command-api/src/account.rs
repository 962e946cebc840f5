//! Registering, confirming an address, signing in.
//!
//! None of the three looks at an `Authorization` header: an old token must not stand in the way of getting a
//! new one. Registering a taken address and signing in with an unknown one do the same work as their
//! counterparts, password hashing included, and answer the same.

use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use domain::account::{Account, ConfirmEmail, RegisterAccount};
use domain::actor::{Actor, Role};
use domain::command::{ClaimHasher, ClaimKind, SecretKey, SecretKind};
use domain::ids::{AccountId, Id, RoutingSlot, SessionId, shape};
use domain::locale::Locale;
use domain::text::{EmailAddress, PersonName, Phone};
use http::StatusCode;
use http_kit::extract::{Json, Submission};
use http_kit::limits::{Limits, Rule, limit};
use http_kit::links::confirmed_account;
use http_kit::problem::CommandProblems;
use http_kit::{Kind, Problem};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::passwords::{Attempt, Password};
use crate::{CommandState, unreadable};

pub(crate) fn routes(limits: &Limits) -> OpenApiRouter<CommandState> {
    let limited = |rule| from_fn_with_state((limits.clone(), rule), limit);
    OpenApiRouter::new()
        .merge(
            OpenApiRouter::new().routes(routes!(register)).route_layer(limited(Rule::Registration)),
        )
        .merge(OpenApiRouter::new().routes(routes!(login)).route_layer(limited(Rule::SignIn)))
        .routes(routes!(confirm))
}

/// Who wants an account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "Ana Souza", "email": "ana@example.com", "password": "correct horse battery", "role": "provider",
}))]
struct Registration {
    #[schema(value_type = String, min_length = 2, max_length = 255)]
    name: PersonName,
    #[schema(value_type = String, format = Email, max_length = 254)]
    email: EmailAddress,
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    password: Password,
    #[schema(value_type = Option<String>, min_length = 3, max_length = 20)]
    phone: Option<Phone>,
    /// The language of mails: `pt-BR` or `en`; that of `Accept-Language` unless given.
    #[schema(value_type = Option<String>, example = "pt-BR")]
    locale: Option<Locale>,
    /// What they mean to do first; one can become a provider later by opening a shop.
    #[serde(default)]
    role: RegisteredRole,
}

/// A role one can register with.
#[derive(Debug, Default, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum RegisteredRole {
    #[default]
    Client,
    Provider,
}

/// The registration was received. Whether the address was free is told by mail to its owner alone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RegistrationAccepted)]
struct Accepted {
    #[schema(example = "accepted")]
    status: &'static str,
}

/// Register an account.
///
/// The answer is the same whether the address was free or not.
#[utoipa::path(
    post, path = "/api/auth/register", operation_id = "RegisterAccount", tag = "auth",
    request_body = Registration,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 202, body = Accepted), CommandProblems),
)]
async fn register(
    State(api): State<CommandState>,
    Submission { body: Json(body), sent }: Submission<Json<Registration>>,
) -> Result<impl IntoResponse, Problem> {
    let Registration { name, email, password, phone, locale, role } = body;
    let command = RegisterAccount {
        name,
        email,
        phone,
        locale: locale.unwrap_or(sent.origin.locale),
        zone: None,
        as_provider: matches!(role, RegisteredRole::Provider),
        // Before anything is looked up, so that it is done in any case.
        password_hash: api.passwords.hash(password).await?,
    };
    // No position and no version: they would tell a new account from an old one.
    api.execute(Actor::Anonymous, sent, command).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { status: "accepted" })))
}

/// The token of a confirmation mail.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = EmailConfirmation)]
struct Confirmation {
    #[schema(example = "AZNdLnwRej-cK1_0AAAAAA.kDSP4b…")]
    token: String,
}

/// The address is confirmed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EmailConfirmed)]
struct Confirmed {
    #[schema(value_type = String, format = Uuid)]
    account_id: AccountId,
    email_confirmed: bool,
}

/// Confirm an account's address with the token of the mail.
#[utoipa::path(
    post, path = "/api/auth/confirm", operation_id = "ConfirmEmail", tag = "auth",
    request_body = Confirmation,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 200, body = Confirmed), CommandProblems),
)]
async fn confirm(
    State(api): State<CommandState>,
    Submission { body: Json(body), sent }: Submission<Json<Confirmation>>,
) -> Result<impl IntoResponse, Problem> {
    let account = confirmed_account(&api.confirm_key, &body.token).ok_or(Kind::InvalidLink)?;
    let (outcome, receipt) = api.execute(Actor::Anonymous, sent, ConfirmEmail { account }).await?;
    let answer = Confirmed { account_id: outcome.account, email_confirmed: true };
    Ok((receipt.of::<Account>(account), Json(answer)))
}

/// Address and password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "ana@example.com", "password": "correct horse battery"}))]
struct Credentials {
    #[schema(format = Email)]
    email: String,
    #[schema(value_type = String, format = Password)]
    password: Attempt,
}

/// Signed in.
#[derive(Serialize, ToSchema)]
struct Session {
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds.
    #[schema(example = 900)]
    expires_in: u64,
    account: SessionAccount,
}

/// Whose session it is.
#[derive(Serialize, ToSchema)]
struct SessionAccount {
    #[schema(value_type = String, format = Uuid)]
    id: AccountId,
    #[schema(value_type = Vec<String>, example = json!(["client", "provider"]))]
    roles: Vec<Role>,
}

/// Sign in.
///
/// An unknown address and a wrong password are answered alike. An account whose address is not confirmed
/// yet may sign in, but not book.
#[utoipa::path(
    post, path = "/api/auth/login", operation_id = "SignIn", tag = "auth",
    request_body = Credentials,
    responses((status = 200, body = Session), CommandProblems),
)]
async fn login(
    State(api): State<CommandState>,
    Json(Credentials { email, password }): Json<Credentials>,
) -> Result<impl IntoResponse, Problem> {
    let log = api.log();
    // What is no address is nobody's; it is looked up all the same.
    let email = email.parse::<EmailAddress>().ok();
    let claim = log.claim_key(ClaimKind::Email, email.as_ref().map_or("", EmailAddress::as_str));
    let owner = log.claim_owner(claim).await.map_err(|error| unreadable(&error))?;
    let account = owner.map_or_else(|| random_id(claim.slot()), AccountId::trusted);
    let secret = SecretKey { owner: account.uuid(), kind: SecretKind::PasswordHash };
    let secret = log.secret(secret).await.map_err(|error| unreadable(&error))?;
    let hash = secret.and_then(|secret| String::from_utf8(secret).ok());
    if !api.passwords.verify(password, hash).await? {
        return Err(Kind::InvalidCredentials.into());
    }
    let loaded = log.load::<Account>(account).await.map_err(|error| unreadable(&error))?;
    let roles = loaded.state.roles.clone();
    let session: SessionId = random_id(account.slot());
    let issued =
        api.signer.issue(account, session, 0, &roles).map_err(|error| Problem::internal(&error))?;
    Ok(Json(Session {
        access_token: issued.token,
        token_type: "Bearer",
        expires_in: issued.expires_in.as_secs(),
        account: SessionAccount { id: account, roles },
    }))
}

fn random_id<I: Id>(slot: RoutingSlot) -> I {
    I::trusted(shape(rand::random(), slot))
}
