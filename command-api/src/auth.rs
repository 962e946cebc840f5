//! Getting in: registering, confirming an address, signing in, and back in after forgetting the password.
//!
//! None of these looks at an `Authorization` header: an old token must not stand in the way of getting a new one.
//! Nor does any tell who has an account. Registering a taken address and signing in with an unknown one do the same
//! work as their counterparts, password hashing and append included, answer the same, and no sooner than a fixed time
//! after what differs began ([`level`]).
//!
//! A crash after an append loses the answer: a retry finds it done, or is mailed again.

use std::time::Duration;

use axum::extract::State;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use domain::account::{
    Account, ConfirmEmail, ConfirmEmailChange, ReactivateAccount, RegisterAccount,
    RequestPasswordReset, ResetPassword,
};
use domain::actor::Actor;
use domain::command::{ClaimHasher, ClaimKind, SecretKey, SecretKind};
use domain::hours::Zone;
use domain::ids::{AccountId, Id, shape};
use domain::locale::Locale;
use domain::text::{EmailAddress, PersonName, Phone};
use http::StatusCode;
use http_kit::audit::Noted;
use http_kit::extract::{IdempotencyKey, Json, Sent, Submission};
use http_kit::limits::{Limits, Rule, limit};
use http_kit::links::{PresentedReset, confirmed_account, confirmed_change};
use http_kit::origin::RequestOrigin;
use http_kit::problem::CommandProblems;
use http_kit::{Kind, Problem};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::passwords::{Attempt, Password, Tried};
use crate::session::{Proof, SessionBody, refresh_routes};
use crate::{CommandState, unreadable};

/// What differs between a known and an unknown address takes a few milliseconds; the answer takes this long at least.
const LEVEL: Duration = Duration::from_millis(40);

/// A refused password is answered no sooner: imported hashes take longer than ours.
const REFUSED: Duration = Duration::from_millis(250);

pub(crate) fn routes(limits: &Limits) -> OpenApiRouter<CommandState> {
    let limited = |rule, routes: OpenApiRouter<CommandState>| {
        routes.route_layer(from_fn_with_state((limits.clone(), rule), limit))
    };
    let tries = OpenApiRouter::new().routes(routes!(login)).routes(routes!(reactivate));
    OpenApiRouter::new()
        .merge(limited(Rule::Registration, OpenApiRouter::new().routes(routes!(register))))
        .merge(limited(Rule::SignIn, tries))
        .merge(limited(Rule::PasswordReset, OpenApiRouter::new().routes(routes!(forgot))))
        .merge(limited(Rule::Refresh, refresh_routes()))
        .routes(routes!(confirm))
        .routes(routes!(confirm_change))
        .routes(routes!(reset))
}

/// Answers no sooner than so long after it began: what was found must not show in how long it took.
pub(crate) async fn level<T>(least: Duration, work: impl Future<Output = T>) -> T {
    let until = Instant::now() + least;
    let done = work.await;
    sleep_until(until).await;
    done
}

/// That a new password was typed the same twice (`S0-08`, `S0-12`).
pub(crate) fn typed_twice(password: &Password, confirmation: &Attempt) -> Result<(), Problem> {
    if password.is(confirmation) {
        return Ok(());
    }
    let detail = "password_confirmation must be the same as password";
    Err(Problem::field(Kind::InvalidInput, "/password_confirmation", detail))
}

impl CommandState {
    /// Whose address and password these are. What was tried in vain is audited as `action`.
    async fn prove(
        &self,
        email: &str,
        password: Attempt,
        action: &'static str,
        origin: &RequestOrigin,
    ) -> Result<Proof, Problem> {
        self.limits.account(Rule::SignIn, email).await?;
        let until = Instant::now() + REFUSED;
        // What is no address is nobody's; it is looked up all the same.
        let email = email.parse::<EmailAddress>().ok();
        let email = email.as_ref().map_or("", EmailAddress::as_str);
        let claim = self.log().claim_key(ClaimKind::Email, email);
        let owner = self.log().claim_owner(claim).await.map_err(|error| unreadable(&error))?;
        let owner = owner.map(AccountId::trusted);
        let account = owner.unwrap_or_else(|| nobody(&claim.hash, claim.slot()));
        if let Some(generation) = self.try_password(account, password).await? {
            return Ok(Proof { account, generation });
        }
        let reason = Kind::InvalidCredentials.slug();
        self.audit.note(Noted::refused(action, origin).of(owner).because(reason));
        sleep_until(until).await;
        Err(Kind::InvalidCredentials.into())
    }

    /// That the owner of a session knows the password, too. `field` is where they typed it.
    pub(crate) async fn prove_again(
        &self,
        account: AccountId,
        password: Attempt,
        field: &'static str,
        action: &'static str,
        origin: &RequestOrigin,
    ) -> Result<Proof, Problem> {
        self.limits.account(Rule::SignIn, &account.to_string()).await?;
        match self.try_password(account, password).await? {
            Some(generation) => Ok(Proof { account, generation }),
            None => {
                let noted = Noted::refused(action, origin).of(account);
                self.audit.note(noted.because(Kind::InvalidCredentials.slug()));
                let detail = "is not the password of this account";
                Err(Problem::field(Kind::InvalidInput, field, detail))
            }
        }
    }

    /// The generation of the credentials that a password is right under; `None` if it is wrong. The generation is
    /// read before the hash: whoever replaces both in between is noticed when the command is decided.
    async fn try_password(
        &self,
        account: AccountId,
        password: Attempt,
    ) -> Result<Option<u32>, Problem> {
        let log = self.log();
        let generation = self.fresh::<Account>(account).await?.generation;
        let key = SecretKey { owner: account.uuid(), kind: SecretKind::PasswordHash };
        let kept = log.secret(key).await.map_err(|error| unreadable(&error))?;
        let hash = kept.clone().and_then(|kept| String::from_utf8(kept).ok());
        match (self.passwords.verify(password, hash).await?, kept) {
            (Tried::Wrong, _) => Ok(None),
            (Tried::RightWith(better), Some(kept)) => {
                // Whoever changed it meanwhile has a good one.
                let swapped = log.swap_secret(key, &kept, better.as_bytes()).await;
                swapped.map_err(|error| unreadable(&error))?;
                Ok(Some(generation))
            }
            (Tried::Right | Tried::RightWith(_), _) => Ok(Some(generation)),
        }
    }
}

/// The id an address would have that nobody has: the same each time, as a known one's is.
fn nobody(hash: &[u8; 32], slot: domain::ids::RoutingSlot) -> AccountId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[16..]);
    AccountId::trusted(shape(bytes, slot))
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
    /// Where they live.
    #[schema(value_type = Option<String>, example = "America/Sao_Paulo")]
    time_zone: Option<Zone>,
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

/// The request was received. What came of it is told by mail, to whom it concerns alone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    #[schema(example = "accepted")]
    status: &'static str,
}

impl Accepted {
    /// No position and no version: they would tell what was found.
    pub(crate) fn answer() -> Response {
        (StatusCode::ACCEPTED, Json(Self { status: "accepted" })).into_response()
    }
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
) -> Result<Response, Problem> {
    let Registration { name, email, password, phone, locale, time_zone, role } = body;
    let command = RegisterAccount {
        name,
        email,
        phone,
        locale: locale.unwrap_or(sent.origin.locale),
        zone: time_zone,
        as_provider: matches!(role, RegisteredRole::Provider),
        // Before anything is looked up, so that it is done in any case.
        password_hash: api.passwords.hash(password).await?,
    };
    level(LEVEL, api.execute(Actor::Anonymous, sent, command)).await?;
    Ok(Accepted::answer())
}

/// The token of a mail's link.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MailToken {
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
    request_body = MailToken,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 200, body = Confirmed), CommandProblems),
)]
async fn confirm(
    State(api): State<CommandState>,
    Submission { body: Json(body), sent }: Submission<Json<MailToken>>,
) -> Result<impl IntoResponse, Problem> {
    let account = confirmed_account(&api.keys.confirm, &body.token).ok_or(Kind::InvalidLink)?;
    let (outcome, receipt) = api.execute(Actor::Anonymous, sent, ConfirmEmail { account }).await?;
    let answer = Confirmed { account_id: outcome.account, email_confirmed: true };
    Ok((receipt.of::<Account>(account), Json(answer)))
}

/// Confirm the address an account changes to, with the token of the mail to it. The old one is told.
#[utoipa::path(
    post, path = "/api/auth/confirm-email-change", operation_id = "ConfirmEmailChange", tag = "auth",
    request_body = MailToken,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 200, body = Confirmed), CommandProblems),
)]
async fn confirm_change(
    State(api): State<CommandState>,
    Submission { body: Json(body), sent }: Submission<Json<MailToken>>,
) -> Result<impl IntoResponse, Problem> {
    let read = confirmed_change(&api.keys.change, &body.token);
    let (account, change) = read.ok_or(Kind::InvalidLink)?;
    let command = ConfirmEmailChange { account, change };
    let (outcome, receipt) = api.execute(Actor::Anonymous, sent, command).await?;
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
    /// Whether the refresh token goes into an HttpOnly cookie instead of the answer.
    #[serde(default)]
    cookie: bool,
}

/// Sign in.
///
/// An unknown address and a wrong password are answered alike. An account whose address is not confirmed
/// yet may sign in, but not book. With `"cookie": true` the refresh token is set as the cookie
/// `__Host-pontual-refresh`, which no script can read.
#[utoipa::path(
    post, path = "/api/auth/login", operation_id = "SignIn", tag = "auth",
    request_body = Credentials,
    responses((status = 200, body = SessionBody), CommandProblems),
)]
async fn login(
    State(api): State<CommandState>,
    Submission { body: Json(body), sent }: Submission<Json<Credentials>>,
) -> Result<Response, Problem> {
    let Credentials { email, password, cookie } = body;
    let proof = api.prove(&email, password, "SignIn", &sent.origin).await?;
    api.begin_session(proof, sent, cookie).await
}

/// Open one's deactivated account again, and sign in.
///
/// What an administrator has deactivated, only an administrator can open.
#[utoipa::path(
    post, path = "/api/auth/reactivate", operation_id = "ReactivateAccount", tag = "auth",
    request_body = Credentials,
    responses((status = 200, body = SessionBody), CommandProblems),
)]
async fn reactivate(
    State(api): State<CommandState>,
    Submission { body: Json(body), sent }: Submission<Json<Credentials>>,
) -> Result<Response, Problem> {
    let Credentials { email, password, cookie } = body;
    let proof = api.prove(&email, password, "ReactivateAccount", &sent.origin).await?;
    let Proof { account, generation } = proof;
    let command = ReactivateAccount { account, proven_under: Some(generation) };
    let unkeyed = Sent { key: None, ..sent.clone() };
    let (outcome, _) = api.execute(Actor::Anonymous, unkeyed, command).await?;
    let proof = Proof { account, generation: outcome.generation };
    api.begin_session(proof, sent, cookie).await
}

/// Whose password was forgotten.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ForgottenPassword)]
struct Forgotten {
    #[schema(value_type = String, format = Email, example = "ana@example.com")]
    email: EmailAddress,
}

/// Have a link mailed that sets a new password (`S0-01`, `S3-23`).
///
/// The answer is the same whether there is such an account or not. The link is good once, for two hours.
#[utoipa::path(
    post, path = "/api/auth/forgot", operation_id = "RequestPasswordReset", tag = "auth",
    request_body = Forgotten,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 202, body = Accepted), CommandProblems),
)]
async fn forgot(
    State(api): State<CommandState>,
    Submission { body: Json(Forgotten { email }), sent }: Submission<Json<Forgotten>>,
) -> Result<Response, Problem> {
    api.limits.account(Rule::PasswordReset, email.as_str()).await?;
    // With a key the command's row is written even where there is nobody: the same append in any case.
    let key = sent.key.clone().unwrap_or_else(IdempotencyKey::mint);
    let sent = Sent { key: Some(key), ..sent };
    let command = RequestPasswordReset { email, key: api.keys.reset.clone() };
    level(LEVEL, api.execute(Actor::Anonymous, sent, command)).await?;
    Ok(Accepted::answer())
}

/// The token of the mail, and a new password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PasswordReset)]
struct Reset {
    #[schema(example = "AZNdLnwRej-cK1_0AAAAAA.kDSP4b…")]
    token: String,
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    password: Password,
    /// The same once more.
    #[schema(value_type = String, format = Password)]
    password_confirmation: Attempt,
}

/// Set a new password with the token of the mail (`S0-03`, `S3-24`).
///
/// Every session of the account ends.
#[utoipa::path(
    post, path = "/api/auth/reset", operation_id = "ResetPassword", tag = "auth",
    request_body = Reset,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 204, description = "The new password stands"), CommandProblems),
)]
async fn reset(
    State(api): State<CommandState>,
    Submission { body: Json(body), sent }: Submission<Json<Reset>>,
) -> Result<impl IntoResponse, Problem> {
    let Reset { token, password, password_confirmation } = body;
    typed_twice(&password, &password_confirmation)?;
    let refused = |account: Option<AccountId>| {
        let noted = Noted::refused("ResetPassword", &sent.origin).of(account);
        api.audit.note(noted.because(Kind::InvalidLink.slug()));
        Problem::from(Kind::InvalidLink)
    };
    let Some(read) = PresentedReset::read(&token) else { return Err(refused(None)) };
    let (account, reset) = (read.account, read.reset);
    let key = SecretKey { owner: account.uuid(), kind: SecretKind::PasswordReset };
    let kept = api.log().secret(key).await.map_err(|error| unreadable(&error))?;
    // Where nothing is kept the token was used: the executor may know that it was by this very request.
    let used_by_us = kept.is_none() && sent.key.is_some() && read.is_ours(&api.keys.reset);
    if !used_by_us && !read.is(kept.as_deref()) {
        return Err(refused(Some(account)));
    }
    let new_hash = api.passwords.hash(password).await?;
    let origin = sent.origin.clone();
    let command = ResetPassword { account, reset, new_hash };
    match api.execute(Actor::Anonymous, sent, command).await {
        Ok((outcome, receipt)) => {
            api.verifier.revocations().require(account, outcome.generation);
            Ok((StatusCode::NO_CONTENT, receipt, ()))
        }
        Err(problem) => {
            let noted = Noted::refused("ResetPassword", &origin).of(account);
            api.audit.note(noted.because(problem.kind().slug()));
            Err(problem)
        }
    }
}
