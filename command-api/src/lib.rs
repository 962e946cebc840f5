//! The command API: every route that changes something, one file per resource.
//!
//! A handler extracts, parses into a domain command, calls the executor once and responds. For example
//! `POST /api/appointments` becomes [`domain::appointment::BookAppointment`]; the executor decides and
//! appends, and the answer is `201` with `Location`, `ETag` and `Pontual-Position`. Who may do what is the
//! command's own rule, decided on the aggregates, not here.
//!
//! A crash before the append leaves nothing; after it the events are there, and a retry with the same
//! `Idempotency-Key` gets the first answer again, with `Idempotent-Replayed: true`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::response::{IntoResponseParts, ResponseParts};
use domain::account::ResetKey;
use domain::actor::Actor;
use domain::aggregate::{Aggregate, StreamId, Version};
use domain::command::{ClaimHasher, ClaimKind, Command};
use domain::ids::{Id, ProviderId};
use event_log::{EventLog, ExecuteError, Executed, Executor, Idempotency, LogError, Origin};
use http::HeaderValue;
use http_kit::audit::{AuditSink, Noted};
use http_kit::auth::{Signer, Verifier};
use http_kit::cookies::{CSRF, Cookies};
use http_kit::extract::{IdempotencyKey, Sent};
use http_kit::files::Files;
use http_kit::headers::{At, IDEMPOTENT_REPLAYED, Tag};
use http_kit::limits::Limits;
use http_kit::links::{EMAIL_CHANGE, EMAIL_CONFIRM, GUEST_LINK, PONTUAL_GUEST};
use http_kit::problem::{InvalidField, ProblemDocument};
use http_kit::refresh::{REFRESH_TOKEN, RefreshKey};
use http_kit::{Kind, Problem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use crate::pictures::Pictures;

mod account;
mod appointment;
mod auth;
mod category;
mod guest;
mod hold;
mod notification_feed;
mod passwords;
mod photo;
mod pictures;
mod provider;
mod series;
mod service;
mod session;
mod time_off;
mod waitlist;

pub use passwords::{Attempt, InvalidPassword, Password, Passwords, Tried};

/// What the handlers need. Cheap to clone, which happens several times a request.
#[derive(Clone)]
pub struct CommandState(Arc<Parts>);

/// The parts of a [`CommandState`].
#[derive(Clone)]
pub struct Parts {
    executor: Executor,
    signer: Signer,
    verifier: Verifier,
    passwords: Passwords,
    limits: Limits,
    keys: Arc<Keys>,
    pictures: Pictures,
    files: Option<Files>,
    audit: AuditSink,
}

/// What links, refresh tokens and cookies are made with.
struct Keys {
    confirm: [u8; 32],
    guest: [u8; 32],
    change: [u8; 32],
    reset: ResetKey,
    refresh: RefreshKey,
    cookies: Cookies,
}

impl Keys {
    fn new(log: &EventLog, public_url: &str, origins: &[HeaderValue]) -> Self {
        Self {
            confirm: log.derive_key(EMAIL_CONFIRM),
            guest: log.derive_key(GUEST_LINK),
            change: log.derive_key(EMAIL_CHANGE),
            reset: ResetKey::new(log.derive_key(ResetKey::LABEL)),
            refresh: RefreshKey::new(log.derive_key(REFRESH_TOKEN)),
            cookies: Cookies::new(log.derive_key(CSRF), public_url, origins),
        }
    }
}

impl Deref for CommandState {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl CommandState {
    /// `signer` issues access tokens, `verifier` knows its key and earlier ones; `limits` are those of
    /// signing in and registering (the general one stands in the front).
    pub fn new(
        executor: Executor,
        signer: Signer,
        verifier: Verifier,
        passwords: Passwords,
        limits: Limits,
    ) -> Self {
        let keys = Arc::new(Keys::new(executor.log(), "", &[]));
        let pictures = Pictures::new();
        let (files, audit) = (None, AuditSink::nowhere());
        let parts =
            Parts { executor, signer, verifier, passwords, limits, keys, pictures, files, audit };
        Self(Arc::new(parts))
    }

    /// With the origins whose pages may refresh by cookie: that of our public URL, and others.
    #[must_use]
    pub fn with_origins(mut self, public_url: &str, others: &[HeaderValue]) -> Self {
        let keys = Arc::new(Keys::new(self.log(), public_url, others));
        Arc::make_mut(&mut self.0).keys = keys;
        self
    }

    /// With a place for files; without one, routes that need it are unavailable.
    #[must_use]
    pub fn with_files(mut self, files: Files) -> Self {
        Arc::make_mut(&mut self.0).files = Some(files);
        self
    }

    /// With an audit trail for what is refused; without one it is not noted.
    #[must_use]
    pub fn with_audit(mut self, audit: AuditSink) -> Self {
        Arc::make_mut(&mut self.0).audit = audit;
        self
    }

    fn files(&self) -> Result<Files, Problem> {
        self.files.clone().ok_or_else(|| Kind::Unavailable.into())
    }

    fn log(&self) -> &EventLog {
        self.executor.log()
    }

    /// The one executor call of a handler.
    async fn execute<C: Command>(
        &self,
        actor: Actor,
        sent: Sent,
        command: C,
    ) -> Result<(C::Outcome, Receipt), Problem> {
        let Sent { origin, key, if_match, fingerprint } = sent;
        let idempotency =
            |key: IdempotencyKey| Idempotency { key: key.as_str().into(), fingerprint };
        let asked = Origin {
            actor: actor.clone(),
            idempotency: key.map(idempotency),
            if_match,
            correlation: None,
            causation: None,
            trace: origin.trace.to_string(),
            ip: origin.ip,
            user_agent: origin.user_agent.clone(),
        };
        let executed = self.executor.execute(command, asked).await;
        if let Err(ExecuteError::Refused(domain::Refusal::Forbidden)) = &executed {
            let noted = Noted::refused(C::NAME, &origin).by(&actor).because("forbidden");
            self.audit.note(noted);
        }
        let Executed { outcome, positions, versions, replayed } = executed.map_err(failed)?;
        Ok((outcome, Receipt { at: At(positions), tag: None, replayed, versions }))
    }

    /// The shop of the actor's account.
    async fn own_shop(&self, actor: &Actor) -> Result<ProviderId, Problem> {
        let account = actor.account().ok_or(Kind::SignInRequired)?;
        let claim = self.log().claim_key(ClaimKind::Shop, &account.to_string());
        match self.log().claim_owner(claim).await.map_err(|error| unreadable(&error))? {
            Some(shop) => Ok(ProviderId::trusted(shop)),
            None => Err(domain::Refusal::NotFound("provider").into()),
        }
    }
}

impl FromRef<CommandState> for Verifier {
    fn from_ref(state: &CommandState) -> Self {
        state.verifier.clone()
    }
}

fn failed(error: ExecuteError) -> Problem {
    match error {
        ExecuteError::Refused(refusal) => refusal.into(),
        ExecuteError::KeyReused => Kind::IdempotencyKeyReused.into(),
        ExecuteError::Busy => Kind::Busy.into(),
        ExecuteError::Unavailable(cause) => Problem::unavailable(&cause),
        ExecuteError::Internal(cause) => Problem::internal(&cause),
    }
}

/// A read of the log failed.
fn unreadable(error: &LogError) -> Problem {
    if error.is_unavailable() { Problem::unavailable(error) } else { Problem::internal(error) }
}

/// What a command's answer says of it in headers.
struct Receipt {
    at: At,
    tag: Option<Tag>,
    replayed: bool,
    versions: BTreeMap<StreamId, Version>,
}

impl Receipt {
    /// With the entity tag of the one aggregate the answer is about.
    fn of<A: Aggregate>(mut self, id: A::Id) -> Self {
        self.tag = self.versions.get(&StreamId::of::<A>(id)).copied().map(Tag);
        self
    }
}

impl IntoResponseParts for Receipt {
    type Error = Infallible;

    fn into_response_parts(self, response: ResponseParts) -> Result<ResponseParts, Infallible> {
        let mut response = self.at.into_response_parts(response)?;
        if let Some(tag) = self.tag {
            response = tag.into_response_parts(response)?;
        }
        if self.replayed {
            let value = HeaderValue::from_static("true");
            response.headers_mut().insert(IDEMPOTENT_REPLAYED, value);
        }
        Ok(response)
    }
}

/// The document every route is added to.
#[derive(OpenApi)]
#[openapi(
    info(title = "Pontual", license(identifier = "AGPL-3.0-only")),
    components(schemas(ProblemDocument, InvalidField)),
    modifiers(&Bearer),
    tags(
        (name = "auth", description = "Registering, confirming an address, signing in; sessions"),
        (name = "providers", description = "Opening a shop; its hours, overrides and policy"),
        (name = "services", description = "What a shop offers"),
        (name = "categories", description = "What kinds of services there are"),
        (name = "appointments", description = "Booking, and what becomes of it"),
        (name = "users", description = "What people say and show of themselves; how accounts stand"),
        (name = "notifications", description = "The notification feed"),
        (name = "audit", description = "Who did what, for auditors"),
    )
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("JWT")
            .description(Some("The access_token of POST /api/auth/login"))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let token = "The token of the link that was mailed to a guest";
        let guest = ApiKeyValue::with_description(PONTUAL_GUEST.as_str(), token);
        components.add_security_scheme("guest", SecurityScheme::ApiKey(ApiKey::Header(guest)));
    }
}

/// The router, and its description.
pub fn router(state: CommandState) -> (Router, utoipa::openapi::OpenApi) {
    routes(&state.limits, &state.pictures).with_state(state).split_for_parts()
}

/// The description alone, for the committed OpenAPI file: needs no log and no keys.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes(&Limits::off(), &Pictures::new()).into_openapi()
}

fn routes(limits: &Limits, pictures: &Pictures) -> OpenApiRouter<CommandState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(auth::routes(limits))
        .merge(session::routes())
        .merge(account::routes())
        .merge(provider::routes())
        .merge(service::routes())
        .merge(category::routes())
        .merge(time_off::routes())
        .merge(appointment::routes())
        .merge(hold::routes())
        .merge(guest::routes())
        .merge(series::routes())
        .merge(waitlist::routes())
        .merge(notification_feed::routes())
        .merge(photo::routes(pictures))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_is_named_once_and_documents_its_failures_and_every_reference_resolves() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut names = BTreeSet::new();
        let paths = document["paths"].as_object().unwrap();
        for (path, item) in paths {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap_or_default();
                assert!(name.starts_with(char::is_uppercase), "{method} {path}");
                assert!(names.insert(name.to_owned()), "{name} stands twice");
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.keys().any(|status| status.starts_with('2')), "{name}");
                for status in ["401", "413", "422", "503"] {
                    let content = &responses[status]["content"];
                    assert!(content["application/problem+json"].is_object(), "{name} {status}");
                }
                let open = operation.get("security").is_none();
                let getting_in =
                    path.starts_with("/api/auth/") && !path.starts_with("/api/auth/sessions");
                assert_eq!(open, getting_in, "{name}");
            }
        }
        assert_eq!(names.len(), 56);
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
