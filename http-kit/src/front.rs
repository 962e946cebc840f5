//! What stands before both APIs' routers: origin, limits, deadline, problems, headers, measures.
//!
//! A request to `/api/nowhere` passes here like any other: its trace id and address are worked out, it is
//! counted against the quotas of its address and, with a good token, of its account, the router answers a bare
//! 404, and that leaves as a problem document in the caller's language with the security headers and
//! `Pontual-Trace`. A handler that panics is a `500 internal`, one that takes too long a `503 timed-out`. CORS
//! stands outside of all that can refuse, so that a page can read a refusal, and answers preflights, which are
//! not counted. Nothing here outlives the request.

use std::any::Any;
use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use domain::ids::AccountId;
use futures_util::FutureExt;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use metrics::Histogram;
use tracing::Instrument;

use crate::auth::Verifier;
use crate::headers::{self, PONTUAL_TRACE};
use crate::limits::{self, Limits, Rule};
use crate::origin::{RequestOrigin, TrustedProxies};
use crate::problem::{Kind, PROBLEM_JSON, Problem};

/// How long a request may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What stands before a router.
#[derive(Clone)]
pub struct Front {
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: TrustedProxies,
    /// Which origins a browser may call from; none is the same origin alone.
    pub cors_origins: Vec<HeaderValue>,
    /// The rate limits.
    pub limits: Limits,
    /// Whose tokens count against their account, too; without it only addresses are counted.
    pub verifier: Option<Verifier>,
    /// How long a request may take.
    pub timeout: Duration,
}

impl Front {
    /// No proxies, no foreign origins.
    pub fn new(limits: Limits) -> Self {
        Self {
            trusted_proxies: TrustedProxies::default(),
            cors_origins: Vec::new(),
            limits,
            verifier: None,
            timeout: REQUEST_TIMEOUT,
        }
    }

    /// Stands before a router, once all its routes are there.
    pub fn before(self, router: Router) -> Router {
        let cors = headers::cors(&self.cors_origins);
        let front = Arc::new(self);
        match cors {
            // One layer where one does: each costs every request a few allocations.
            None => router.layer(middleware::from_fn_with_state(front, stand_and_admit)),
            Some(cors) => router
                .layer(middleware::from_fn_with_state(Arc::clone(&front), admit))
                .layer(cors)
                .layer(middleware::from_fn_with_state(front, stand)),
        }
    }
}

async fn stand_and_admit(
    State(front): State<Arc<Front>>,
    request: Request,
    next: Next,
) -> Response {
    front.stand(request, |request| front.admit(request, next)).await
}

async fn stand(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    front.stand(request, |request| next.run(request)).await
}

async fn admit(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    front.admit(request, next).await
}

impl Front {
    /// Outermost: who asks, and how they are answered.
    async fn stand<F>(&self, mut request: Request, answer: impl FnOnce(Request) -> F) -> Response
    where
        F: Future<Output = Response>,
    {
        let started = std::time::Instant::now();
        let origin =
            RequestOrigin::of(request.headers(), request.extensions(), &self.trusted_proxies);
        let origin = Arc::new(origin);
        let trace = origin.trace.to_string();
        let method = request.method().clone();
        let route = request.extensions().get::<MatchedPath>().cloned();
        request.extensions_mut().insert(Arc::clone(&origin));

        let span = tracing::info_span!("request", trace = %trace);
        let mut response = answer(request).instrument(span.clone()).await;
        if response.status().is_client_error() || response.status().is_server_error() {
            let _entered = span.enter();
            response = in_their_language(response, &origin, &trace);
        }
        headers::secure(response.headers_mut());
        if let Ok(value) = HeaderValue::try_from(trace) {
            response.headers_mut().insert(PONTUAL_TRACE, value);
        }
        measure(&method, route.as_ref(), response.status(), started.elapsed());
        response
    }

    /// Within CORS: whether they may ask, and for how long.
    async fn admit(&self, request: Request, next: Next) -> Response {
        // A token that proves nothing is nobody's: what needs one refuses it by itself.
        let verified = self.verifier.as_ref().and_then(|v| v.of_headers(request.headers()).ok()?);
        let account = verified.and_then(|verified| verified.actor.account());
        let ip = request.extensions().get::<Arc<RequestOrigin>>().and_then(|origin| origin.ip);
        let counted = limits::announced(async {
            match self.count(ip, account).await {
                Ok(()) => AssertUnwindSafe(next.run(request)).catch_unwind().await,
                Err(refused) => Ok(refused.into_response()),
            }
            .unwrap_or_else(panicked)
        });
        match tokio::time::timeout(self.timeout, counted).await {
            Ok(response) => response,
            Err(_) => Problem::from(Kind::TimedOut).into_response(),
        }
    }

    /// Counts a request against its address and the account it is signed in to.
    async fn count(&self, ip: Option<IpAddr>, account: Option<AccountId>) -> Result<(), Problem> {
        self.limits.address(Rule::General, ip).await?;
        match account {
            Some(account) => self.limits.account(Rule::General, &account.to_string()).await,
            None => Ok(()),
        }
    }
}

/// A failure as a problem document in the caller's language, its other headers kept.
fn in_their_language(response: Response, origin: &RequestOrigin, trace: &str) -> Response {
    let problem = match response.extensions().get::<Arc<Problem>>() {
        Some(problem) => Arc::clone(problem),
        // Not ours: the router's own 404 or 405, or a library's. A status of its own meaning is kept.
        None => {
            let problem = Problem::of_status(response.status());
            if problem.kind().status() != response.status() || is_a_problem(&response) {
                return response;
            }
            Arc::new(problem)
        }
    };
    let mut written = problem.render(origin.locale, Some(trace));
    let its_own = written.headers().clone();
    for (name, value) in response.headers() {
        // Every value of a header that comes several times, as Set-Cookie does.
        if *name != http::header::CONTENT_LENGTH && !its_own.contains_key(name) {
            written.headers_mut().append(name, value.clone());
        }
    }
    written
}

fn is_a_problem(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(PROBLEM_JSON.as_bytes()))
}

/// The durations of one route, by [`METHODS`] and [`STATUSES`].
type OfRoute = [[OnceLock<Histogram>; STATUSES.len()]; METHODS.len()];

/// Finding a metric by its labels costs more than recording it, so each is found once.
static DURATIONS: LazyLock<RwLock<HashMap<String, Arc<OfRoute>>>> = LazyLock::new(RwLock::default);

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "other"];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

fn measure(method: &http::Method, route: Option<&MatchedPath>, status: StatusCode, took: Duration) {
    // The route, never the path: a path holds ids, and each would be a series of its own.
    let route = route.map_or("none", MatchedPath::as_str);
    let known = DURATIONS.read().unwrap_or_else(PoisonError::into_inner).get(route).cloned();
    let durations = known.unwrap_or_else(|| {
        let mut all = DURATIONS.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(route.to_owned()).or_default())
    });
    let other = METHODS.len() - 1;
    let method = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(other);
    let status = usize::from(status.as_u16() / 100).clamp(1, STATUSES.len()) - 1;
    let histogram = || {
        let (method, status) = (METHODS[method], STATUSES[status]);
        metrics::histogram!(
            "http_request_duration_seconds",
            "method" => method, "route" => route.to_owned(), "status" => status
        )
    };
    durations[method][status].get_or_init(histogram).record(took.as_secs_f64());
}

/// A handler keeps nothing between requests that a panic could leave half-done.
fn panicked(cause: Box<dyn Any + Send>) -> Response {
    let message = cause
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| cause.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(panic = %message, "a handler panicked");
    Problem::from(Kind::Internal).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::{get, post};
    use chrono::DateTime;
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::auth::{Names, Signer};
    use crate::extract::{Json, Submission};
    use crate::limits::{InProcess, Quota, Quotas, limit};

    fn app(front: Front) -> Router {
        let limits = front.limits.clone();
        let login = post(|| async { "welcome" })
            .route_layer(middleware::from_fn_with_state((limits, Rule::SignIn), limit));
        let router = Router::new()
            .route("/fine", get(|| async { "fine" }))
            .route("/login", login)
            .route("/echo", post(|_: Submission<Json<Value>>| async { "read" }))
            .route("/panic", get(|| async { panic!("no personal data here") as &str }))
            .route("/stuck", get(std::future::pending::<&str>))
            .route(
                "/refused",
                get(|| async { Problem::from(domain::Refusal::NotFound("service")) }),
            );
        front.before(router)
    }

    fn unlimited() -> Router {
        app(Front { timeout: Duration::from_millis(50), ..Front::new(Limits::off()) })
    }

    async fn send(app: &Router, request: http::request::Builder) -> (Response<()>, Value) {
        let request = request.body(Body::empty()).unwrap();
        let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    #[tokio::test]
    async fn every_failure_is_a_problem_in_the_callers_language() {
        let app = unlimited();
        for (path, method, status, kind, title) in [
            ("/nowhere", "GET", 404, "not-found", "Not found"),
            ("/fine", "POST", 405, "method-not-allowed", "Method not allowed"),
            ("/echo", "POST", 415, "unsupported-media-type", "Unsupported media type"),
            ("/panic", "GET", 500, "internal", "Internal error"),
            ("/stuck", "GET", 503, "timed-out", "Timed out"),
            ("/refused", "GET", 404, "not-found", "Not found"),
        ] {
            let request =
                Request::builder().method(method).uri(path).header("accept-language", "en");
            let (response, problem) = send(&app, request).await;
            assert_eq!(response.status(), status, "{path}");
            assert_eq!(response.headers()[CONTENT_TYPE], PROBLEM_JSON, "{path}");
            assert_eq!(problem["type"], format!("/problems/{kind}"), "{path}");
            assert_eq!(problem["title"], title, "{path}");
            assert_eq!(
                problem["trace_id"],
                response.headers()["pontual-trace"].to_str().unwrap(),
                "{path}"
            );
        }
        let (response, problem) = send(&app, Request::get("/nowhere")).await;
        assert_eq!(problem["title"], "Não encontrado");
        assert_eq!(response.headers()["content-language"], "pt-BR");
        let (response, _) = send(&app, Request::post("/fine")).await;
        assert_eq!(response.headers()["allow"], "GET,HEAD");
    }

    #[tokio::test]
    async fn a_trace_is_continued_and_every_answer_is_hardened() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let request =
            Request::get("/fine").header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
        let (response, _) = send(&unlimited(), request).await;
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("pontual-trace"), trace);
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"));
        assert!(header("strict-transport-security").contains("includeSubDomains"));
        assert_eq!(header("x-xss-protection"), "0");
        assert_eq!(header("cross-origin-resource-policy"), "same-origin");
        assert_eq!(header("cache-control"), "no-store");
    }

    #[tokio::test]
    async fn limits_answer_429_and_say_when_to_come_back() {
        let now = DateTime::from_timestamp(1_770_000_000, 0).unwrap();
        let quotas = Quotas {
            general: Quota::per_minute(3),
            sign_in: Quota::per_minute(1),
            ..Quotas::SEEDS
        };
        let limiter = InProcess::new(Arc::new(move || now));
        let app = app(Front::new(Limits::new(Arc::new(limiter)).with(quotas)));
        let (response, _) = send(&app, Request::post("/login")).await;
        assert_eq!(response.status(), 200);
        let policies: Vec<_> = response.headers().get_all("ratelimit-policy").iter().collect();
        assert_eq!(policies, ["\"sign-in\";q=1;w=60", "\"general\";q=3;w=60"]);
        let (response, problem) = send(&app, Request::post("/login")).await;
        assert_eq!(response.status(), 429);
        assert_eq!(problem["type"], "/problems/too-many-requests");
        assert_eq!(response.headers()["retry-after"], "60");
        assert_eq!(send(&app, Request::get("/fine")).await.0.status(), 200);
        let (response, _) = send(&app, Request::get("/fine")).await;
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "20");
        assert_eq!(response.headers()["ratelimit"], "\"general\";r=0;t=20");
    }

    #[tokio::test]
    async fn an_account_is_limited_however_many_addresses_it_has_and_so_is_one_that_is_tried() {
        let now = DateTime::from_timestamp(1_770_000_000, 0).unwrap();
        let clock: crate::auth::Now = Arc::new(move || now);
        let quotas = Quotas { account: Quota::per_minute(2), ..Quotas::SEEDS };
        let limits = Limits::new(Arc::new(InProcess::new(Arc::clone(&clock)))).with(quotas);
        let tried = limits.clone();
        let router = Router::new().route("/fine", get(|| async { "fine" })).route(
            "/login",
            post(move || async move { tried.account(Rule::SignIn, "ana@example.com").await }),
        );
        let signer = Signer::from_pem(&test_key(), Names::of("https://a.test"), clock).unwrap();
        let front = Front {
            trusted_proxies: TrustedProxies(vec!["127.0.0.1".parse().unwrap()]),
            verifier: Some(signer.verifier([])),
            ..Front::new(limits)
        };
        let app = front.before(router);
        let from = |n: u8, request: http::request::Builder| {
            let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
            request
                .extension(axum::extract::ConnectInfo(peer))
                .header("x-forwarded-for", format!("203.0.113.{n}"))
        };
        let token = test_token(&signer);
        let ask =
            |n| from(n, Request::get("/fine").header("authorization", format!("Bearer {token}")));
        for n in [1, 2] {
            let (response, _) = send(&app, ask(n)).await;
            assert_eq!(response.status(), 200);
            let policies: Vec<_> = response.headers().get_all("ratelimit-policy").iter().collect();
            assert_eq!(policies, ["\"account\";q=2;w=60", "\"general\";q=100;w=60"]);
        }
        let (response, _) = send(&app, ask(3)).await;
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "30");
        let (response, _) = send(&app, from(3, Request::get("/fine"))).await;
        assert_eq!(response.status(), 200, "the address itself is free");
        let wrong = Request::get("/fine").header("authorization", "Bearer x");
        assert_eq!(send(&app, from(3, wrong)).await.0.status(), 200, "and it is nobody's");

        for n in 10..15 {
            let (response, _) = send(&app, from(n, Request::post("/login"))).await;
            assert_eq!(response.status(), 200);
            let policies = response.headers().get_all("ratelimit-policy").iter().count();
            assert_eq!(policies, 1, "it does not tell what others tried");
        }
        let (response, problem) = send(&app, from(15, Request::post("/login"))).await;
        assert_eq!(response.status(), 429);
        assert_eq!(problem["type"], "/problems/too-many-requests");
        assert_eq!(response.headers()["retry-after"], "12");
        assert_eq!(response.headers()["ratelimit"], "\"sign-in-account\";r=0;t=12");
    }

    fn test_key() -> Vec<u8> {
        use base64::Engine as _;
        let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        der.extend([9; 32]);
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n").into_bytes()
    }

    fn test_token(signer: &Signer) -> String {
        use domain::ids::{Mint, RoutingSlot};
        let mint = Mint::new([1; 32]);
        let slot = RoutingSlot::from_bits(1);
        signer.issue(mint.id(slot, 0), mint.id(slot, 1), 1, &[]).unwrap().token
    }

    const PAGE: &str = "https://app.pontual.test";

    fn called_from_a_page(limits: Limits) -> Router {
        app(Front {
            cors_origins: vec![HeaderValue::from_static(PAGE)],
            timeout: Duration::from_millis(50),
            ..Front::new(limits)
        })
    }

    /// What a browser asks of an answer before it shows it to a page that sends cookies.
    fn readable(response: &Response<()>) -> bool {
        let is = |name: &str, value: &str| response.headers().get(name).is_some_and(|v| v == value);
        is("access-control-allow-origin", PAGE) && is("access-control-allow-credentials", "true")
    }

    #[tokio::test]
    async fn a_browser_may_call_from_the_origins_that_were_named_and_no_others() {
        let app = called_from_a_page(Limits::off());
        let (response, _) = send(&app, Request::get("/fine").header("origin", PAGE)).await;
        assert!(readable(&response));
        assert!(
            response.headers()["access-control-expose-headers"]
                .to_str()
                .unwrap()
                .contains("pontual-csrf")
        );
        assert!(
            response
                .headers()
                .get_all("vary")
                .iter()
                .any(|v| v.to_str().unwrap().contains("origin"))
        );
        for stranger in [
            "https://evil.test",
            "null",
            "http://app.pontual.test",
            "https://app.pontual.test.evil.test",
        ] {
            let (response, _) = send(&app, Request::get("/fine").header("origin", stranger)).await;
            assert!(!response.headers().contains_key("access-control-allow-origin"), "{stranger}");
        }
        let (response, _) = send(&unlimited(), Request::get("/fine").header("origin", PAGE)).await;
        assert!(!response.headers().contains_key("access-control-allow-origin"), "none was named");
    }

    #[tokio::test]
    async fn a_preflight_is_answered_and_hardened_and_not_counted() {
        let now = DateTime::from_timestamp(1_770_000_000, 0).unwrap();
        let quotas = Quotas { general: Quota::per_minute(1), ..Quotas::SEEDS };
        let limiter = InProcess::new(Arc::new(move || now));
        let app = called_from_a_page(Limits::new(Arc::new(limiter)).with(quotas));
        for _ in 0..3 {
            let request = Request::options("/login")
                .header("origin", PAGE)
                .header("access-control-request-method", "POST")
                .header(
                    "access-control-request-headers",
                    "content-type,pontual-csrf,idempotency-key",
                );
            let (response, _) = send(&app, request).await;
            assert_eq!(response.status(), 200);
            assert!(readable(&response));
            let allowed = |name: &str| response.headers()[name].to_str().unwrap().to_lowercase();
            assert!(allowed("access-control-allow-methods").contains("delete"));
            for header in
                ["authorization", "content-type", "idempotency-key", "if-match", "pontual-csrf"]
            {
                assert!(allowed("access-control-allow-headers").contains(header), "{header}");
            }
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        }
        let stranger = Request::options("/login")
            .header("origin", "https://evil.test")
            .header("access-control-request-method", "POST");
        let (response, _) = send(&app, stranger).await;
        assert!(!response.headers().contains_key("access-control-allow-origin"));
    }

    #[tokio::test]
    async fn a_page_can_read_why_it_was_refused() {
        let now = DateTime::from_timestamp(1_770_000_000, 0).unwrap();
        let quotas = Quotas { general: Quota::per_minute(3), ..Quotas::SEEDS };
        let limiter = InProcess::new(Arc::new(move || now));
        let app = called_from_a_page(Limits::new(Arc::new(limiter)).with(quotas));
        for (path, status) in [("/panic", 500), ("/stuck", 503), ("/nowhere", 404), ("/fine", 429)]
        {
            let (response, problem) = send(&app, Request::get(path).header("origin", PAGE)).await;
            assert_eq!(response.status(), status, "{path}");
            assert!(readable(&response), "{path}");
            assert_eq!(problem["status"], status, "{path}");
        }
    }
}
