//! Drives a whole command API in process.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use command_api::{CommandState, Passwords};
use domain::command::{ClaimHasher, ClaimKind};
use domain::ids::{AccountId, AppointmentId, Id, Mint, RoutingSlot, SessionId};
use domain::position::PositionToken;
use event_log::testing::{FrozenClock, TestDatabase};
use event_log::{Clock, EventLog, Executor, LogOptions, MasterKey};
use http::{HeaderMap, HeaderName, StatusCode};
use http_body_util::BodyExt;
use http_kit::auth::{Names, Now, Signer};
use http_kit::front::Front;
use http_kit::limits::{InProcess, Limits};
use http_kit::links::{EMAIL_CONFIRM, confirm_token};
use serde_json::{Value, json};
use tower::ServiceExt;

/// It is Monday 2026-03-02, 09:00 in São Paulo.
pub(crate) const NOW: &str = "2026-03-02T12:00:00Z";
/// Tuesday at 10:00 in São Paulo.
pub(crate) const TOMORROW_10: &str = "2026-03-03T13:00:00Z";
/// Everybody's password.
const PASSWORD: &str = "correct horse";

pub(crate) struct Api {
    app: Router,
    pub(crate) log: EventLog,
    pub(crate) clock: Arc<FrozenClock>,
    _database: TestDatabase,
}

impl Api {
    /// Without limits.
    pub(crate) async fn start() -> Self {
        Self::with(|_| Limits::off()).await
    }

    /// With the seeds' limits.
    pub(crate) async fn limited() -> Self {
        Self::with(|now| Limits::new(Arc::new(InProcess::new(now)))).await
    }

    async fn with(limits: impl FnOnce(Now) -> Limits) -> Self {
        let database = TestDatabase::create().await;
        let clock = Arc::new(FrozenClock::at_text(NOW));
        let master = MasterKey::from_bytes([7; 32]);
        let shared: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let pool = database.pool().clone();
        let log = EventLog::open(pool, master, shared, LogOptions::default()).await.unwrap();
        let limits = limits(now(&clock));
        let signer = signer(1, &clock);
        let verifier = signer.verifier([]);
        let executor = Executor::new(log.clone());
        let state = CommandState::new(executor, signer, verifier, Passwords::new(), limits.clone());
        let state = state.with_origins("https://pontual.test", &[]);
        let (router, _) = command_api::router(state);
        Self { app: Front::new(limits).before(router), log, clock, _database: database }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> Request<'_> {
        let builder =
            http::Request::builder().method(method).uri(path).header("accept-language", "en");
        Request { api: self, builder, body: Body::empty() }
    }

    async fn send(&self, method: &str, path: &str, token: Option<&str>, body: Value) -> Answer {
        let mut request = self.request(method, path);
        if let Some(token) = token {
            request = request.header("authorization", bearer(token));
        }
        if body.is_null() { request.send().await } else { request.json(body).send().await }
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Answer {
        self.send("POST", path, token, body).await
    }

    pub(crate) async fn post_empty(&self, path: &str, token: Option<&str>) -> Answer {
        self.send("POST", path, token, Value::Null).await
    }

    pub(crate) async fn put(&self, path: &str, token: Option<&str>, body: Value) -> Answer {
        self.send("PUT", path, token, body).await
    }

    pub(crate) async fn delete(&self, path: &str, token: Option<&str>) -> Answer {
        self.send("DELETE", path, token, Value::Null).await
    }

    pub(crate) async fn delete_with(&self, path: &str, token: Option<&str>, body: Value) -> Answer {
        self.send("DELETE", path, token, body).await
    }

    /// How far the log has come.
    pub(crate) async fn heads(&self) -> PositionToken {
        self.log.heads().await.unwrap()
    }

    async fn account_id(&self, email: &str) -> AccountId {
        let claim = self.log.claim_key(ClaimKind::Email, email);
        AccountId::trusted(self.log.claim_owner(claim).await.unwrap().unwrap())
    }

    pub(crate) async fn account(&self, email: &str) -> String {
        self.account_id(email).await.to_string()
    }

    /// The token the confirmation mail would carry.
    pub(crate) async fn confirmation(&self, email: &str) -> String {
        confirm_token(&self.log.derive_key(EMAIL_CONFIRM), self.account_id(email).await)
    }

    /// A new account's token; its address is not confirmed.
    pub(crate) async fn registered(&self, email: &str) -> String {
        let registration = json!({"name": "Somebody", "email": email, "password": PASSWORD});
        let answer = self.post("/api/auth/register", None, registration).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        let credentials = json!({"email": email, "password": PASSWORD});
        let answer = self.post("/api/auth/login", None, credentials).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body["access_token"].as_str().unwrap().to_owned()
    }

    /// A new account's token; its address is confirmed.
    pub(crate) async fn client(&self, email: &str) -> String {
        let token = self.registered(email).await;
        let confirmation = json!({"token": self.confirmation(email).await});
        let answer = self.post("/api/auth/confirm", None, confirmation).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        token
    }

    /// A new shop: its owner's token and its id.
    pub(crate) async fn shop(&self, slug: &str) -> (String, String) {
        let owner = self.client(&format!("{slug}@example.com")).await;
        let opening = json!({"business_name": "The shop", "slug": slug});
        let answer = self.post("/api/providers", Some(&owner), opening).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        (owner, answer.body["id"].as_str().unwrap().to_owned())
    }

    pub(crate) async fn book(&self, client: &str, shop: &str, start: &str) -> Answer {
        let booking = json!({"provider_id": shop, "start": start});
        self.post("/api/appointments", Some(client), booking).await
    }
}

pub(crate) struct Request<'a> {
    api: &'a Api,
    builder: http::request::Builder,
    body: Body,
}

impl Request<'_> {
    pub(crate) fn header(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        self.builder = self.builder.header(HeaderName::from_static(name), value.as_ref());
        self
    }

    pub(crate) fn json(self, body: Value) -> Self {
        self.raw("application/json", &body.to_string())
    }

    pub(crate) fn raw(mut self, content_type: &str, body: &str) -> Self {
        self.builder = self.builder.header("content-type", content_type);
        self.body = Body::from(body.to_owned());
        self
    }

    pub(crate) async fn send(self) -> Answer {
        let request = self.builder.body(self.body).unwrap();
        let response = self.api.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// It is a problem of this status and kind.
    #[track_caller]
    pub(crate) fn is(&self, status: u16, kind: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.body["type"], format!("/problems/{kind}"), "{}", self.body);
        assert_eq!(self.body["status"], status);
        assert_eq!(self.headers["content-type"], "application/problem+json");
    }
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A well-formed id of nothing.
pub(crate) fn an_id() -> String {
    Mint::new([99; 32]).id::<AppointmentId>(RoutingSlot::from_bits(5), 0).to_string()
}

/// A token for a real account, signed by somebody else.
pub(crate) async fn forged(api: &Api) -> String {
    let account = api.account_id("ana@example.com").await;
    let session: SessionId = Mint::new([98; 32]).id(account.slot(), 0);
    signer(2, &api.clock).issue(account, session, 0, &[]).unwrap().token
}

fn now(clock: &Arc<FrozenClock>) -> Now {
    let clock = Arc::clone(clock);
    Arc::new(move || clock.now())
}

/// An Ed25519 key in PKCS#8 PEM form is a fixed prefix and a seed.
fn signer(seed: u8, clock: &Arc<FrozenClock>) -> Signer {
    let prefix = [
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    let text = STANDARD.encode([&prefix[..], &[seed; 32]].concat());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    Signer::from_pem(pem.as_bytes(), Names::of("https://pontual.test"), now(clock)).unwrap()
}
