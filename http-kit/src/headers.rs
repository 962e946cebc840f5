//! Headers both APIs write and read: security (K23), positions, versions, CORS.
//!
//! A command that moved an appointment to its third event is answered with `Pontual-Position: 3:1042` and
//! `ETag: "v3"`. A reader that sends the position back as `Pontual-After` sees at least that.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponseParts, ResponseParts};
use domain::aggregate::Version;
use domain::position::PositionToken;
use http::header::{self, ETAG, HeaderName, HeaderValue, IF_MATCH};
use http::request::Parts;
use http::{HeaderMap, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::cookies::PONTUAL_CSRF;
use crate::links::PONTUAL_GUEST;
use crate::problem::{Kind, Problem};

/// Where in the log what a command did stands.
pub const PONTUAL_POSITION: HeaderName = HeaderName::from_static("pontual-position");
/// What a read must have seen.
pub const PONTUAL_AFTER: HeaderName = HeaderName::from_static("pontual-after");
/// The request's trace id.
pub const PONTUAL_TRACE: HeaderName = HeaderName::from_static("pontual-trace");
/// The answer is an earlier one, given again.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What every answer of an API carries, unless it says something else itself (K23).
const SECURITY: [(HeaderName, HeaderValue); 9] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=63072000; includeSubDomains"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    // The old filter did more harm than good; 0 switches it off (OWASP).
    (header::X_XSS_PROTECTION, HeaderValue::from_static("0")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Adds the security headers an answer does not set itself.
pub(crate) fn secure(headers: &mut HeaderMap) {
    headers.reserve(SECURITY.len() + 2);
    for (name, value) in &SECURITY {
        if !headers.contains_key(name) {
            headers.insert(name, value.clone());
        }
    }
}

/// Which origins' pages may call from a browser; `None` where none are named. They may send tokens and cookies, and
/// see what an API says in headers. That lets in only whom the operator named: there is no `*`, and cookies alone
/// prove nothing without `Pontual-Csrf`.
pub(crate) fn cors(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins.iter().cloned()))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::ACCEPT_LANGUAGE,
            IF_MATCH,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("traceparent"),
            PONTUAL_AFTER,
            PONTUAL_CSRF,
            PONTUAL_GUEST,
        ])
        .expose_headers([
            PONTUAL_POSITION,
            PONTUAL_CSRF,
            PONTUAL_TRACE,
            IDEMPOTENT_REPLAYED,
            ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
        ])
        .max_age(Duration::from_secs(3600));
    Some(layer)
}

/// Answers with `Pontual-Position`. An empty token says nothing.
#[derive(Debug, Clone)]
pub struct At(pub PositionToken);

impl IntoResponseParts for At {
    type Error = Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Infallible> {
        if !self.0.is_empty()
            && let Ok(value) = HeaderValue::try_from(self.0.to_string())
        {
            response.headers_mut().insert(PONTUAL_POSITION, value);
        }
        Ok(response)
    }
}

/// Answers with the `ETag` of a stream's version.
#[derive(Debug, Clone, Copy)]
pub struct Tag(pub Version);

impl IntoResponseParts for Tag {
    type Error = Infallible;

    fn into_response_parts(self, mut response: ResponseParts) -> Result<ResponseParts, Infallible> {
        if let Ok(value) = HeaderValue::try_from(etag(self.0)) {
            response.headers_mut().insert(ETAG, value);
        }
        Ok(response)
    }
}

/// The entity tag of a version: `"v3"`.
pub fn etag(version: Version) -> String {
    format!("\"v{version}\"")
}

/// The version `If-Match` asks for; `None` without one, or with `*`: everything a command may find has a version.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<Version>, Problem> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let version = match text.strip_prefix("\"v").and_then(|rest| rest.strip_suffix('"')) {
        None if text == "*" => Some(None),
        None => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().map(Some),
        Some(_) => None,
    };
    match (version, values.next()) {
        (Some(version), None) => Ok(version),
        (Some(_) | None, _) => Err(Problem::field(
            Kind::InvalidHeader,
            "If-Match",
            "expected one entity tag such as \"v3\"",
        )),
    }
}

/// The position `Pontual-After` asks to have been seen; empty without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct After(pub PositionToken);

impl<S: Send + Sync> FromRequestParts<S> for After {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(PONTUAL_AFTER) else { return Ok(Self::default()) };
        let token = value.to_str().ok().and_then(|text| text.parse().ok());
        token.map(Self).ok_or_else(|| {
            Problem::field(Kind::InvalidHeader, "Pontual-After", "not a position token")
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http::{Request, StatusCode};
    use tower::ServiceExt;

    use super::*;

    fn app() -> Router {
        Router::new().route(
            "/",
            get(|headers: HeaderMap, After(after): After| async move {
                let version = if_match(&headers)?;
                Ok::<_, Problem>((At(after), Tag(version.unwrap_or_default()), "ok"))
            }),
        )
    }

    async fn send(name: &str, value: &str) -> axum::response::Response {
        let request = Request::get("/").header(name, value).body(Body::empty()).unwrap();
        app().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn positions_and_versions_travel_in_headers() {
        let response = send("Pontual-After", "3:10,0:7").await;
        assert_eq!(response.headers()["pontual-position"], "0:7,3:10");
        let response = send("If-Match", "\"v12\"").await;
        assert_eq!(response.headers()[ETAG], "\"v12\"");
        assert!(response.headers().get("pontual-position").is_none());
        assert_eq!(send("If-Match", "*").await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn headers_of_another_form_are_refused() {
        for (name, value) in [
            ("Pontual-After", "x"),
            ("Pontual-After", "1:9223372036854775808"),
            ("If-Match", "v1"),
            ("If-Match", ""),
            ("If-Match", "\"v1\", \"v2\""),
            ("If-Match", "W/\"v1\""),
            ("If-Match", "\"v-1\""),
            ("If-Match", "\"v+1\""),
            ("If-Match", "\"v99999999999999999999\""),
        ] {
            assert_eq!(
                send(name, value).await.status(),
                StatusCode::BAD_REQUEST,
                "{name}: {value}"
            );
        }
    }
}
