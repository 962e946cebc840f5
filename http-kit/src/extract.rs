//! Extractors that answer with problems: bodies, paths, queries, headers.
//!
//! A command's handler takes a [`Submission`]: the origin, the idempotency key, the fingerprint of what was
//! sent and the parsed body. `{"emial":"ana@example.com"}` to a route that wants an `email` is answered
//! `422 invalid-input` with `errors: [{"pointer":"/emial","detail":"is not a field of this request"}]`;
//! values that were sent are never repeated. Bodies are bounded in bytes, in depth (128) and in time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, OriginalUri, Request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, NaiveDate, Timelike, Utc};
use domain::Instant;
use domain::aggregate::Version;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http_body_util::BodyExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use sha2::{Digest, Sha256};

use crate::detail::{UNKNOWN_FORM, clean};
use crate::origin::RequestOrigin;
use crate::problem::{Kind, Problem};

/// The most bytes a JSON body may have, unless a [`BodyLimit`] says otherwise.
pub const BODY_MAX_BYTES: usize = 64 * 1024;

/// How much of a body that is too large is read and thrown away, so that its sender gets to read why.
const DRAIN_MAX_BYTES: usize = 16 * 1024 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the largest body may take; the request's own time ends soon after.
const BODY_TIMEOUT_MAX: Duration = Duration::from_secs(25);

/// How long the rest of a body that is too large is read.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Put into a request's extensions, another limit than [`BODY_MAX_BYTES`].
#[derive(Debug, Clone, Copy)]
pub struct BodyLimit(pub usize);

/// What a command's handler needs of a request besides who sent it.
#[derive(Debug, Clone)]
pub struct Submission<P> {
    /// The parsed body.
    pub body: P,
    /// How it was sent.
    pub sent: Sent,
}

/// How a command was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Where it comes from.
    pub origin: RequestOrigin,
    /// The key that makes a retry safe, if the client sent one.
    pub key: Option<IdempotencyKey>,
    /// The version that what is to be changed must have (`If-Match`).
    pub if_match: Option<Version>,
    /// SHA-256 of method, path and raw body: the same key must come with the same fingerprint.
    pub fingerprint: [u8; 32],
}

impl<S: Send + Sync, P: Payload> FromRequest<S> for Submission<P> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let Ok(origin) = RequestOrigin::from_request_parts(&mut parts, &()).await;
        let key = IdempotencyKey::of(&parts.headers)?;
        let if_match = crate::headers::if_match(&parts.headers)?;
        P::accepts(&parts.headers, body.is_end_stream())?;
        let limit = parts.extensions.get::<BodyLimit>().map_or(BODY_MAX_BYTES, |limit| limit.0);
        let body = read(body, limit).await?;
        let path = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |uri| &uri.0).path();
        let fingerprint = Sha256::new()
            .chain_update(parts.method.as_str())
            .chain_update([0])
            .chain_update(path)
            .chain_update([0])
            .chain_update(&body)
            .finalize();
        let sent = Sent { origin, key, if_match, fingerprint: fingerprint.into() };
        Ok(Self { body: P::parse(&body)?, sent })
    }
}

/// What a body may be.
pub trait Payload: Sized + Send {
    /// Refuses a body by its headers, before it is read.
    fn accepts(headers: &HeaderMap, empty: bool) -> Result<(), Problem>;
    /// Parses a body that was read whole.
    fn parse(body: &[u8]) -> Result<Self, Problem>;
}

/// A JSON body, and a JSON answer.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned + Send> Payload for Json<T> {
    fn accepts(headers: &HeaderMap, _: bool) -> Result<(), Problem> {
        if is_json(headers) { Ok(()) } else { Err(Kind::UnsupportedMediaType.into()) }
    }

    fn parse(body: &[u8]) -> Result<Self, Problem> {
        from_json(body).map(Self)
    }
}

/// A JSON body, or none.
impl<T: DeserializeOwned + Send> Payload for Option<Json<T>> {
    fn accepts(headers: &HeaderMap, empty: bool) -> Result<(), Problem> {
        if empty || headers.get(CONTENT_TYPE).is_none() {
            return Ok(());
        }
        Json::<T>::accepts(headers, empty)
    }

    fn parse(body: &[u8]) -> Result<Self, Problem> {
        if body.is_empty() { Ok(None) } else { Json::parse(body).map(Some) }
    }
}

/// No body; an empty object is no body either.
impl Payload for () {
    fn accepts(headers: &HeaderMap, empty: bool) -> Result<(), Problem> {
        <Option<Json<Nothing>> as Payload>::accepts(headers, empty)
    }

    fn parse(body: &[u8]) -> Result<Self, Problem> {
        <Option<Json<Nothing>> as Payload>::parse(body).map(drop)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        Ok(Submission::<Self>::from_request(request, state).await?.body)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        Rendered::of(&self.0).into_response()
    }
}

/// A JSON body that is written already, and may be given again.
#[derive(Debug, Clone)]
pub struct Rendered(pub Bytes);

impl Rendered {
    /// Writes it.
    pub fn of(body: &impl Serialize) -> Result<Self, Problem> {
        match serde_json::to_vec(body) {
            Ok(body) => Ok(Self(body.into())),
            Err(error) => Err(Problem::internal(&error)),
        }
    }
}

impl IntoResponse for Rendered {
    fn into_response(self) -> Response {
        const JSON: http::HeaderValue = http::HeaderValue::from_static("application/json");
        ([(CONTENT_TYPE, JSON)], self.0).into_response()
    }
}

/// `application/json`, or a type built on it (RFC 6839), in UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(text)) = headers.get(CONTENT_TYPE).map(|value| value.to_str()) else {
        return false;
    };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default().to_ascii_lowercase();
    let json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    let utf_8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    json && parts.all(utf_8)
}

/// Reads a whole body, up to a limit.
async fn read(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::from(Kind::PayloadTooLarge).with("limit_bytes", limit);
    // A client that declares more than we would throw away need not be read at all.
    if body.size_hint().lower() > u64::try_from(DRAIN_MAX_BYTES).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut whole = BytesMut::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Err(Some(Kind::BadRequest)) };
            let Ok(data) = frame.into_data() else { continue };
            let read = first.as_ref().map_or(whole.len(), Bytes::len);
            if read + data.len() > limit {
                return Err(None);
            }
            match first.take() {
                None if whole.is_empty() => first = Some(data),
                None => whole.extend_from_slice(&data),
                Some(earlier) => {
                    whole.extend_from_slice(&earlier);
                    whole.extend_from_slice(&data);
                }
            }
        }
        Ok(())
    };
    match tokio::time::timeout(patience(limit), reading).await {
        Ok(Ok(())) => Ok(first.unwrap_or_else(|| whole.freeze())),
        Ok(Err(Some(kind))) => Err(kind.into()),
        Ok(Err(None)) => {
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, drain(body)).await;
            Err(too_large())
        }
        Err(_) => Err(Kind::RequestTimeout.into()),
    }
}

/// A larger body may take longer: a second more for each half megabyte, at most [`BODY_TIMEOUT_MAX`].
fn patience(limit: usize) -> Duration {
    let seconds = u64::try_from(limit / (512 * 1024)).unwrap_or_default();
    (BODY_TIMEOUT + Duration::from_secs(seconds)).min(BODY_TIMEOUT_MAX)
}

async fn drain(mut body: Body) {
    let mut left = DRAIN_MAX_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = rest;
    }
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = match serde_path_to_error::deserialize(&mut reader) {
        Ok(value) => value,
        Err(error) => {
            let inner = error.inner();
            // What is no JSON at all is malformed, whatever was found before that showed.
            if let Err(error) = serde_json::from_slice::<IgnoredAny>(body) {
                return Err(malformed(&error));
            }
            // A number where an enum is wanted, for one, is a syntax error to serde_json.
            let data = inner.classify() == Category::Data;
            let message = inner.to_string();
            let pointer = pointer(error.path(), &message);
            let detail = if data { clean(&message) } else { UNKNOWN_FORM.to_owned() };
            return Err(Problem::field(Kind::InvalidInput, pointer, &detail));
        }
    };
    reader.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::from(Kind::MalformedJson).with("line", error.line()).with("column", error.column())
}

/// A JSON pointer (RFC 6901) to what is wrong. Keys are the client's: long ones are cut.
fn pointer(path: &serde_path_to_error::Path, message: &str) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    let mut push = |key: &str| {
        pointer.push('/');
        pointer.extend(key.chars().filter(|c| !c.is_control()).take(64).flat_map(|c| match c {
            '~' => vec!['~', '0'],
            '/' => vec!['~', '1'],
            c => vec![c],
        }));
    };
    for segment in path.iter().take(32) {
        match segment {
            Segment::Seq { index } => push(&index.to_string()),
            Segment::Map { key } => push(key),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    if let Some(rest) = message.strip_prefix("missing field `")
        && let Some((field, _)) = rest.split_once('`')
    {
        push(field);
    }
    // A check of several fields together fails for the whole object, and says which field it was.
    if let Some((field, _)) = message.split_once(" must be between ")
        && field.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        && !pointer.ends_with(field)
    {
        pointer.push('/');
        pointer.push_str(field);
    }
    pointer
}

/// Segments of the path; what does not parse is `400 invalid-path`.
#[derive(Debug, Clone)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(error)) => {
                Err(invalid_path(error.kind()))
            }
            Err(error) => Err(Problem::internal(&error)),
        }
    }
}

fn invalid_path(kind: &ErrorKind) -> Problem {
    let field =
        |pointer: &str, detail: &str| Problem::field(Kind::InvalidPath, pointer, &clean(detail));
    #[expect(clippy::wildcard_enum_match_arm, reason = "axum's enum is open, and not ours")]
    match kind {
        ErrorKind::ParseErrorAtKey { key, .. } => field(key, UNKNOWN_FORM),
        ErrorKind::DeserializeError { key, message, .. } => field(key, message),
        ErrorKind::InvalidUtf8InPathParam { key } => field(key, UNKNOWN_FORM),
        ErrorKind::Message(message) => {
            Problem::from(Kind::InvalidPath).with_field("", &clean(message))
        }
        _ => Kind::InvalidPath.into(),
    }
}

/// Query parameters; what does not parse is `400 invalid-query`.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        from_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

pub(crate) fn from_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let reader = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let message = error.inner().to_string();
        let unknown = message.starts_with("unknown field ");
        let detail =
            if unknown { "is not a parameter of this request".to_owned() } else { clean(&message) };
        let name = pointer(error.path(), &message);
        Problem::field(Kind::InvalidQuery, name.trim_start_matches('/'), &detail)
    })
}

/// The `Idempotency-Key` of a command: 1 to 255 visible ASCII characters. Not logged.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The header's name.
    pub const HEADER: &'static str = "idempotency-key";

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key nobody has used: for a command whose row must be written in any case.
    pub fn mint() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }

    fn of(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut values = headers.get_all(Self::HEADER).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let bytes = value.as_bytes();
        let ok = (1..=255).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        match (ok, values.next(), value.to_str()) {
            (true, None, Ok(key)) => Ok(Some(Self(key.to_owned()))),
            _ => Err(Problem::field(
                Kind::InvalidHeader,
                "Idempotency-Key",
                "Idempotency-Key must be 1 to 255 visible ASCII characters",
            )),
        }
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(…)")
    }
}

/// An instant at the edge: RFC 3339 with any offset, no leap second, from 1970 to 2200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Timestamp(pub Instant);

/// A text that is no such instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a time must be an RFC 3339 instant such as 2026-03-02T13:00:00Z, from 1970 to 2200")]
pub struct InvalidTimestamp;

impl TryFrom<String> for Timestamp {
    type Error = InvalidTimestamp;
    fn try_from(text: String) -> Result<Self, InvalidTimestamp> {
        text.parse()
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let at = DateTime::parse_from_rfc3339(text).map_err(|_| InvalidTimestamp)?;
        let at = at.with_timezone(&Utc);
        // A leap second is kept by chrono as 60 seconds' worth of nanoseconds.
        let leap = at.nanosecond() >= 1_000_000_000;
        if leap || !in_years(at.date_naive()) { Err(InvalidTimestamp) } else { Ok(Self(at)) }
    }
}

/// A date at the edge: `YYYY-MM-DD`, from 1970 to 2200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Date(pub NaiveDate);

/// A text that is no such date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a day must be a date such as 2026-03-02, from 1970 to 2200")]
pub struct InvalidDate;

impl TryFrom<String> for Date {
    type Error = InvalidDate;
    fn try_from(text: String) -> Result<Self, InvalidDate> {
        text.parse()
    }
}

impl FromStr for Date {
    type Err = InvalidDate;
    fn from_str(text: &str) -> Result<Self, InvalidDate> {
        let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| InvalidDate)?;
        if plain && in_years(day) { Ok(Self(day)) } else { Err(InvalidDate) }
    }
}

fn in_years(day: NaiveDate) -> bool {
    use chrono::Datelike;
    (1970..=2200).contains(&day.year())
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::{get, post};
    use http::{Request, StatusCode};
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read from JSON")]
    struct Order {
        name: domain::text::PersonName,
        #[serde(default)]
        seats: Vec<Seat>,
        at: Option<Timestamp>,
        price: Option<domain::money::Money>,
        locale: Option<domain::locale::Locale>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read from JSON")]
    struct Seat {
        row: u16,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Search {
        #[expect(dead_code, reason = "only read from the query")]
        day: Option<Date>,
    }

    fn app() -> Router {
        Router::new()
            .route(
                "/orders",
                post(|order: Submission<Json<Order>>| async move { format!("{order:?}") }),
            )
            .route("/empty", post(|_: Submission<()>| async {}))
            .route(
                "/orders/{id}",
                get(|Path(id): Path<domain::ids::AppointmentId>| async move { id.to_string() }),
            )
            .route("/search", get(|_: Query<Search>| async {}))
    }

    async fn send(request: Request<Body>) -> (StatusCode, Value) {
        let response = app().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn post_json(path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        send(request.body(body.into()).unwrap()).await
    }

    async fn get_path(path: &str) -> (StatusCode, Value) {
        send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    #[tokio::test]
    async fn a_wrong_field_is_named_by_a_pointer_and_its_value_is_not_repeated() {
        for (body, pointer) in [
            (r#"{"name":"Ana","secret-key":1}"#, "/secret-key"),
            (r#"{"name":"\u0000secret"}"#, "/name"),
            (r#"{"name":["secret"]}"#, "/name"),
            (r#"{}"#, "/name"),
            (r#"{"name":"Ana","name":"Eva"}"#, "/name"),
            (r#"{"name":"Ana","seats":[{"row":1},{"row":"secret"}]}"#, "/seats/1/row"),
            (r#"{"name":"Ana","seats":[{"row":70000}]}"#, "/seats/0/row"),
            (r#"{"name":"Ana","at":"9999-01-01T00:00:00Z"}"#, "/at"),
            (r#"{"name":"Ana","at":"0001-01-01T00:00:00Z"}"#, "/at"),
            (r#"{"name":"Ana","at":"2016-12-31T23:59:60Z"}"#, "/at"),
            (r#"{"name":"Ana","at":"+12026-01-01T00:00:00Z"}"#, "/at"),
            (r#"{"name":"Ana","at":1767225600}"#, "/at"),
            (r#"{"name":"Ana","locale":7}"#, "/locale"),
            (r#"{"name":"Ana","locale":{"secret":1}}"#, "/locale"),
            (r#"{"name":"Ana","locale":["secret"]}"#, "/locale"),
            (r#"{"name":"Ana","price":{"amount_minor":-1}}"#, "/price/amount_minor"),
            (r#"[]"#, ""),
            (r#""secret""#, ""),
            ("null", ""),
        ] {
            let (status, problem) = post_json("/orders", body).await;
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
            assert_eq!(problem["type"], "/problems/invalid-input", "{body}");
            if body != r#"{"name":"Ana","name":"Eva"}"# {
                assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
            }
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(!detail.contains("secret"), "{detail}");
        }
    }

    #[tokio::test]
    async fn what_is_no_json_is_malformed() {
        for body in ["", "{", "{\"name\":\"Ana\"} x", "nonsense", "{\"name\":\"\u{1}\"}", "{'a':1}"]
        {
            let (status, problem) = post_json("/orders", body.to_owned()).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
            assert_eq!(problem["type"], "/problems/malformed-json", "{body}");
        }
        let deep = format!("{{\"name\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
        let (status, _) = post_json("/orders", deep).await;
        assert!(status.is_client_error(), "{status}");
        let (status, _) =
            post_json("/orders", vec![b'{', b'"', 0xff, b'"', b':', b'1', b'}']).await;
        assert!(status.is_client_error(), "{status}");
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_or_no_json_by_its_type_is_refused() {
        let large = format!("{{\"name\":\"{}\"}}", "a".repeat(10 * 1024 * 1024));
        let (status, problem) = post_json("/orders", large).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(problem["limit_bytes"], BODY_MAX_BYTES);
        for content_type in
            ["text/plain", "application/jsonp", "application/json; charset=latin1", ""]
        {
            let request = Request::post("/orders")
                .header(CONTENT_TYPE, content_type)
                .body("{}".into())
                .unwrap();
            assert_eq!(send(request).await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
        }
        let request = Request::post("/orders")
            .header(CONTENT_TYPE, "Application/JSON; charset=\"UTF-8\"")
            .body(r#"{"name":"Ana"}"#.into())
            .unwrap();
        assert_eq!(send(request).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn whoever_sends_ten_megabytes_over_a_socket_gets_to_read_why_not() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, app()).await });
        // Up to a point it is read and thrown away; what is announced as larger is not read at all.
        for (length, sent) in [(10 << 20, 10 << 20), (1 << 30, 0)] {
            let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            socket.write_all(head.as_bytes()).await.unwrap();
            socket.write_all(&vec![b' '; sent]).await.unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
            assert!(answer.contains("/problems/payload-too-large"), "{answer}");
        }
        server.abort();
    }

    #[tokio::test]
    async fn a_body_in_many_pieces_is_one_body() {
        let pieces =
            [r#"{"na"#, r#"me":"#, r#""Ana"}"#].map(|p| Ok::<_, std::io::Error>(Bytes::from(p)));
        let stream = futures_util::stream::iter(pieces);
        let (status, _) = post_json("/orders", Body::from_stream(stream)).await;
        assert_eq!(status, StatusCode::OK);
    }

    #[tokio::test]
    async fn paths_and_queries_that_do_not_parse_are_bad_requests() {
        for path in ["/orders/x", "/orders/6f1c2b1e-8f0b-4c59-9f5e-2d3c4b5a6978", "/orders/%ff"] {
            let (status, problem) = get_path(path).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(problem["type"], "/problems/invalid-path", "{path}");
        }
        for (path, name) in [
            ("/search?day=9999-01-01", "day"),
            ("/search?day=2026-02-30", "day"),
            ("/search?day=2026-2-3", "day"),
            ("/search?dya=2026-02-03", "dya"),
        ] {
            let (status, problem) = get_path(path).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(problem["type"], "/problems/invalid-query", "{path}");
            assert_eq!(problem["errors"][0]["pointer"], name, "{path}");
        }
    }

    #[tokio::test]
    async fn an_empty_body_may_be_left_out_or_be_an_empty_object() {
        for (body, status) in [("", 200), ("{}", 200), ("{\"a\":1}", 422), ("x", 400)] {
            assert_eq!(post_json("/empty", body).await.0, status, "{body}");
        }
        let bare = Request::post("/empty").body(Body::empty()).unwrap();
        assert_eq!(send(bare).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn an_idempotency_key_is_visible_ascii_and_given_once() {
        let request = |key: &[u8]| {
            Request::post("/empty").header("Idempotency-Key", key).body(Body::empty()).unwrap()
        };
        assert_eq!(send(request(b"k-1")).await.0, StatusCode::OK);
        for wrong in [&b""[..], b"a b", b"\xc3\xa1", &[b'k'; 256]] {
            let (status, problem) = send(request(wrong)).await;
            assert_eq!(status, StatusCode::BAD_REQUEST);
            assert_eq!(problem["type"], "/problems/invalid-header");
        }
        let mut twice = request(b"a");
        twice.headers_mut().append("Idempotency-Key", "b".parse().unwrap());
        assert_eq!(send(twice).await.0, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn the_fingerprint_is_of_method_path_and_body() {
        async fn of(method: &str, path: &str, body: &'static str) -> [u8; 32] {
            let request =
                Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
            Submission::<()>::from_request(request, &()).await.unwrap().sent.fingerprint
        }
        let one = of("POST", "/a", "{}").await;
        assert_eq!(one, of("POST", "/a", "{}").await);
        assert_ne!(one, of("PUT", "/a", "{}").await);
        assert_ne!(one, of("POST", "/b", "{}").await);
        assert_ne!(one, of("POST", "/a", "{ }").await);
    }
}
