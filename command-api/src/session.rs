//! Sessions: begun by whoever proved a password, kept up by refresh tokens, ended one by one or all at once.
//!
//! For example Ana signs in: `SignIn` is appended with the first [`RefreshRecord`] beside it, and she gets an access
//! token for 15 minutes and a refresh token. When she refreshes, the record moves to its next number by
//! compare-and-set, and she gets the next two. Before that her account and her session are read anew from the log:
//! a refresh never trusts what this process remembers.
//!
//! A crash after the compare-and-set loses the answer; her next try with the old token gets the same new one, for half
//! a minute. A crash after `SignIn` leaves a session nobody has the token of; it ends by itself.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{AppendHeaders, IntoResponse, Response};
use domain::Instant;
use domain::account::{Account, EndAllSessions};
use domain::actor::{Actor, Role};
use domain::aggregate::Aggregate;
use domain::ids::{AccountId, Id, SessionId};
use domain::position::Position;
use domain::session::{EndForReuse, EndSession, Lifetime, RefreshRecord, Session, SignIn, SignOut};
use domain::text::UserAgent;
use event_log::Origin;
use http::{HeaderMap, StatusCode};
use http_kit::audit::Noted;
use http_kit::auth::InSession;
use http_kit::cookies::Cookies;
use http_kit::extract::{Json, Path, Sent, Submission};
use http_kit::origin::RequestOrigin;
use http_kit::problem::CommandProblems;
use http_kit::refresh::{Presented, Verdict};
use http_kit::{Kind, Problem};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::{CommandState, Receipt, unreadable};

/// How often a refresh that lost a race is judged again. Of racers with one token one wins, and the others then
/// find it done; only racers with different tokens of one session meet more often.
const TRIES: u32 = 8;

/// Routes that try refresh tokens.
pub(crate) fn refresh_routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new().routes(routes!(refresh))
}

pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    OpenApiRouter::new().routes(routes!(sign_out)).routes(routes!(end_one)).routes(routes!(end_all))
}

/// Signed in.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
pub(crate) struct SessionBody {
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Seconds.
    #[schema(example = 900)]
    expires_in: u64,
    /// Exchange it at `POST /api/auth/refresh`; good once. Not there when it went into a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "ptr_AZNdLnwRej-cK1_0AAAAAA…")]
    refresh_token: Option<String>,
    /// Until when the session lasts if it is not refreshed.
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    refresh_expires_at: Instant,
    #[schema(value_type = String, format = Uuid)]
    session_id: SessionId,
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

/// An account whose password was just proven, and under which credentials.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proof {
    pub(crate) account: AccountId,
    pub(crate) generation: u32,
}

/// A session that stands.
struct Standing<'a> {
    session: SessionId,
    account: AccountId,
    generation: u32,
    roles: &'a [Role],
    record: &'a RefreshRecord,
}

impl CommandState {
    /// Begins a session. Its answer carries tokens, so it is never given again: a key is of no use.
    pub(crate) async fn begin_session(
        &self,
        proof: Proof,
        sent: Sent,
        cookie: bool,
    ) -> Result<Response, Problem> {
        let lifetime = Lifetime::default();
        let nonce = rand::random();
        let command = SignIn {
            account: proof.account,
            generation: proof.generation,
            nonce,
            lifetime,
            ip: sent.origin.ip,
            user_agent: sent.origin.user_agent.as_deref().and_then(UserAgent::of),
        };
        let sent = Sent { key: None, ..sent };
        let (begun, receipt) = self.execute(Actor::Anonymous, sent, command).await?;
        let standing = Standing {
            session: begun.session,
            account: begun.account,
            generation: begun.generation,
            roles: &begun.roles,
            record: &RefreshRecord::first(nonce, begun.started_at, lifetime),
        };
        Ok((receipt, self.tokens(&standing, cookie)?).into_response())
    }

    /// The tokens of a session: both in the body, or the refresh token in a cookie.
    fn tokens(&self, standing: &Standing<'_>, cookie: bool) -> Result<Response, Problem> {
        let Standing { session, account, generation, roles, record } = *standing;
        let issued = self.signer.issue(account, session, generation, roles);
        let issued = issued.map_err(|error| Problem::internal(&error))?;
        let refresh = self.keys.refresh.token(session, &record.nonce, record.number);
        let cookies = cookie.then(|| {
            let lasts = record.expires_at - self.log().clock().now();
            AppendHeaders(self.keys.cookies.set(session, &refresh, lasts))
        });
        let body = SessionBody {
            access_token: issued.token,
            token_type: "Bearer",
            expires_in: issued.expires_in.as_secs(),
            refresh_token: (!cookie).then_some(refresh),
            refresh_expires_at: record.expires_at,
            session_id: session,
            account: SessionAccount { id: account, roles: roles.to_vec() },
        };
        Ok((cookies, Json(body)).into_response())
    }

    /// An aggregate as new as the log is now, whatever is remembered of it.
    pub(crate) async fn fresh<A: Aggregate>(&self, id: A::Id) -> Result<Arc<A>, Problem> {
        let log = self.log();
        let partition = log.partition_of(id.slot());
        let number = log.head(partition).await.map_err(|error| unreadable(&error))?;
        let loaded = log.load_at_least::<A>(id, Position { partition, number }).await;
        Ok(loaded.map_err(|error| unreadable(&error))?.state)
    }

    /// The record kept of a session, as its bytes and read; `None` once it has ended.
    async fn record(
        &self,
        session: SessionId,
    ) -> Result<Option<(Vec<u8>, RefreshRecord)>, Problem> {
        let bytes = self.log().secret(RefreshRecord::key(session)).await;
        let Some(bytes) = bytes.map_err(|error| unreadable(&error))? else { return Ok(None) };
        Ok(RefreshRecord::from_bytes(&bytes).map(|record| (bytes, record)))
    }

    /// Exchanges a refresh token.
    async fn refresh(
        &self,
        presented: &Presented,
        origin: &RequestOrigin,
        cookie: bool,
    ) -> Result<Response, Problem> {
        let session = presented.session;
        for _ in 0..TRIES {
            let Some((bytes, record)) = self.record(session).await? else { break };
            let now = self.log().clock().now();
            let rotate = match self.keys.refresh.judge(presented, &record, now) {
                Verdict::Current => true,
                Verdict::JustRotated => false,
                Verdict::Expired | Verdict::Forged => break,
                Verdict::Reused => return Err(self.end_for_reuse(session, origin).await),
            };
            let begun = self.fresh::<Session>(session).await?;
            let account = begun.begun()?.account;
            let person = self.fresh::<Account>(account).await?;
            let started = match begun.alive(&person, now) {
                Ok(started) => started,
                Err(refusal) => {
                    let problem = Problem::from(refusal);
                    self.audit.note(refused(session, origin).of(account).because(slug(&problem)));
                    return Err(problem);
                }
            };
            let record = if rotate {
                let next = record.rotated(now, Lifetime::default());
                let key = RefreshRecord::key(session);
                let swapped = self.log().swap_secret(key, &bytes, &next.to_bytes()).await;
                if !swapped.map_err(|error| unreadable(&error))? {
                    continue;
                }
                next
            } else {
                record
            };
            let standing = Standing {
                session,
                account,
                generation: started.generation,
                roles: &person.roles,
                record: &record,
            };
            return self.tokens(&standing, cookie);
        }
        self.audit.note(refused(session, origin).because(Kind::SessionEnded.slug()));
        Err(Kind::SessionEnded.into())
    }

    /// Two have this session, and nobody can say which of them is the thief.
    async fn end_for_reuse(&self, session: SessionId, origin: &RequestOrigin) -> Problem {
        let account = match self.fresh::<Session>(session).await {
            Ok(begun) => begun.started.map(|started| started.account),
            Err(problem) => return problem,
        };
        self.audit.note(refused(session, origin).of(account).because("refresh-reused"));
        tracing::warn!(%session, "a refresh token was used twice: session {session} ends");
        // Without address and program: they may be the thief's, and stand in the audit trail.
        let asked = Origin::of(Actor::System("refresh"), origin.trace.to_string());
        match self.executor.execute(EndForReuse { session }, asked).await {
            Ok(_) => {
                self.verifier.revocations().end(session);
                Kind::SessionEnded.into()
            }
            Err(error) => crate::failed(error),
        }
    }

    /// The account of a session one has a refresh token of, good or used.
    async fn owner_by(&self, presented: &Presented) -> Result<Option<AccountId>, Problem> {
        let session = presented.session;
        let Some((_, record)) = self.record(session).await? else { return Ok(None) };
        match self.keys.refresh.judge(presented, &record, self.log().clock().now()) {
            Verdict::Forged => Ok(None),
            Verdict::Current | Verdict::JustRotated | Verdict::Reused | Verdict::Expired => {
                let begun = self.fresh::<Session>(session).await?;
                Ok(begun.started.map(|started| started.account))
            }
        }
    }
}

fn refused(session: SessionId, origin: &RequestOrigin) -> Noted {
    Noted::refused("RefreshSession", origin).on(format!("session/{session}"))
}

fn slug(problem: &Problem) -> &'static str {
    problem.kind().slug()
}

/// A refresh token, unless it comes in a cookie.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RefreshToken, example = json!({"refresh_token": "ptr_AZNdLnwRej-cK1_0AAAAAA…"}))]
struct RefreshBody {
    refresh_token: Option<RefreshText>,
}

/// A token is not printed.
#[derive(Deserialize, ToSchema)]
#[serde(transparent)]
struct RefreshText(String);

impl std::fmt::Debug for RefreshText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshText(…)")
    }
}

impl RefreshBody {
    fn token(body: Option<Json<Self>>) -> Option<String> {
        Some(body?.0.refresh_token?.0)
    }
}

/// Get a new access token, and the next refresh token.
///
/// A refresh token is good once. Its predecessor gets the same answer for half a minute, in case an answer was lost; one
/// used later, or twice, ends the session: somebody else has it. With no token in the body, the one in the cookie
/// `__Host-pontual-refresh` is taken; then the header `Pontual-Csrf` must repeat the cookie `__Host-pontual-csrf`.
#[utoipa::path(
    post, path = "/api/auth/refresh", operation_id = "RefreshSession", tag = "auth",
    request_body = Option<RefreshBody>,
    params(("Pontual-Csrf" = Option<String>, Header, description = "With cookies: what __Host-pontual-csrf says")),
    responses((status = 200, body = SessionBody), CommandProblems),
)]
async fn refresh(
    State(api): State<CommandState>,
    headers: HeaderMap,
    Submission { body, sent }: Submission<Option<Json<RefreshBody>>>,
) -> Result<Response, Problem> {
    let ended = || Problem::from(Kind::SessionEnded);
    if let Some(token) = RefreshBody::token(body) {
        let presented: Presented = token.parse().map_err(|_| ended())?;
        api.limits.account(http_kit::limits::Rule::Refresh, &presented.session.to_string()).await?;
        return api.refresh(&presented, &sent.origin, false).await;
    }
    let Some(token) = Cookies::refresh_token(&headers) else {
        return Err(Kind::SignInRequired.into());
    };
    let answer = match token.parse::<Presented>() {
        Err(_) => Err(ended()),
        Ok(presented) => {
            api.keys.cookies.guard(&headers, presented.session)?;
            let session = presented.session.to_string();
            api.limits.account(http_kit::limits::Rule::Refresh, &session).await?;
            api.refresh(&presented, &sent.origin, true).await
        }
    };
    match answer {
        // A cookie that is good for nothing goes away.
        Err(problem) if problem.kind() == Kind::SessionEnded => {
            Ok((AppendHeaders(Cookies::clear()), problem).into_response())
        }
        answer => answer,
    }
}

/// Sign out: end the session one uses.
///
/// Which it is, the refresh token in the body says, or the access token, or the cookie (then with `Pontual-Csrf`). A
/// session that has ended already is no error.
#[utoipa::path(
    post, path = "/api/auth/logout", operation_id = "SignOut", tag = "auth",
    request_body = Option<RefreshBody>,
    params(("Pontual-Csrf" = Option<String>, Header, description = "With cookies: what __Host-pontual-csrf says")),
    responses((status = 204, description = "Signed out"), CommandProblems),
)]
async fn sign_out(
    State(api): State<CommandState>,
    headers: HeaderMap,
    Submission { body, sent }: Submission<Option<Json<RefreshBody>>>,
) -> Result<Response, Problem> {
    let cookie = Cookies::refresh_token(&headers);
    let by_token = |token: &str| token.parse::<Presented>().ok();
    let (session, account) = if let Some(token) = RefreshBody::token(body) {
        let Some(presented) = by_token(&token) else { return Ok(signed_out(None, false)) };
        (presented.session, api.owner_by(&presented).await?)
    } else if let Some(verified) = api.verifier.of_headers(&headers).ok().flatten() {
        (verified.session, Some(verified.account))
    } else if let Some(token) = cookie {
        let Some(presented) = by_token(token) else { return Ok(signed_out(None, true)) };
        api.keys.cookies.guard(&headers, presented.session)?;
        (presented.session, api.owner_by(&presented).await?)
    } else {
        return Err(match api.verifier.of_headers(&headers) {
            Ok(_) => Kind::SignInRequired.into(),
            Err(invalid) => invalid.into(),
        });
    };
    // The cookie goes with its session; another's stays.
    let clear = cookie.and_then(by_token).is_some_and(|presented| presented.session == session);
    let Some(id) = account else { return Ok(signed_out(None, clear)) };
    let sent = Sent { key: None, ..sent };
    let actor = Actor::Account { id, roles: Vec::new() };
    match api.execute(actor, sent, SignOut { session }).await {
        Ok((_, receipt)) => {
            api.verifier.revocations().end(session);
            Ok(signed_out(Some(receipt), clear))
        }
        // Deactivated or erased: its sessions are over.
        Err(problem) if problem.kind().status().is_client_error() => Ok(signed_out(None, clear)),
        Err(problem) => Err(problem),
    }
}

fn signed_out(receipt: Option<Receipt>, clear: bool) -> Response {
    let cookies = clear.then(|| AppendHeaders(Cookies::clear()));
    (StatusCode::NO_CONTENT, receipt, cookies, ()).into_response()
}

/// End one of one's sessions.
#[utoipa::path(
    delete, path = "/api/auth/sessions/{id}", operation_id = "EndSession", tag = "auth",
    security(("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
    ),
    responses((status = 204, description = "Ended"), CommandProblems),
)]
async fn end_one(
    State(api): State<CommandState>,
    InSession(verified): InSession,
    Path(session): Path<SessionId>,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let (_, receipt) = api.execute(verified.actor.clone(), sent, EndSession { session }).await?;
    api.verifier.revocations().end(session);
    Ok((StatusCode::NO_CONTENT, receipt, ()))
}

/// End all of one's sessions, the one in use included.
#[utoipa::path(
    delete, path = "/api/auth/sessions", operation_id = "EndAllSessions", tag = "auth",
    security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe")),
    responses((status = 204, description = "Ended"), CommandProblems),
)]
async fn end_all(
    State(api): State<CommandState>,
    InSession(verified): InSession,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let command = EndAllSessions { account: verified.account };
    let (outcome, receipt) = api.execute(verified.actor.clone(), sent, command).await?;
    api.verifier.revocations().require(outcome.account, outcome.generation);
    Ok((StatusCode::NO_CONTENT, receipt, ()))
}
