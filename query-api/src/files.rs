//! Files people look at: photos.
//!
//! `GET /files/photos/{photo}/512.jpg` is answered from the file store. The name is an id and one of three sizes, or it is
//! not found: no part of a path of the request's reaches the store. A file never changes, so its tag is its name, and a
//! browser need not ask again for a week; a photo that was removed is gone from caches after that.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::ids::PhotoId;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName,
    HeaderValue, IF_NONE_MATCH, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, StatusCode};
use http_kit::extract::Path;
use http_kit::files::photos::{self, PhotoSize};
use http_kit::problem::QueryProblems;
use http_kit::{Kind, Problem};

use crate::QueryState;

/// What every file is sent with: it is a picture and nothing else, whoever opens it however.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (CONTENT_TYPE, HeaderValue::from_static("image/jpeg")),
    (CONTENT_DISPOSITION, HeaderValue::from_static("inline")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
    // Pages of other origins show photos: a front end of its own address, say.
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    ),
    (CACHE_CONTROL, HeaderValue::from_static("public, max-age=604800, immutable")),
];

/// Somebody's photo, as a square JPEG.
#[utoipa::path(
    get, path = "/files/photos/{photo}/{file}", operation_id = "Photo", tag = "users",
    params(
        ("photo" = uuid::Uuid, Path, description = "The photo's id"),
        ("file" = String, Path, description = "`512.jpg`, `256.jpg` or `64.jpg`", example = "512.jpg"),
    ),
    responses(
        (status = 200, content_type = "image/jpeg", body = Vec<u8>),
        (status = 304, description = "It is what If-None-Match names"),
        QueryProblems,
    )
)]
pub async fn photo(
    State(state): State<QueryState>,
    path: Result<Path<(String, String)>, Problem>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path((photo, file)) = path.map_err(|_| Kind::NotFound)?;
    let photo: PhotoId = photo.parse().map_err(|_| Kind::NotFound)?;
    let size: PhotoSize = file.parse().map_err(|_| Kind::NotFound)?;
    let files = state.files.as_ref().ok_or(Kind::NotFound)?;
    let jpeg = files.get(&photos::file(photo, size)).await;
    let jpeg = jpeg.map_err(|error| Problem::unavailable(&error))?.ok_or(Kind::NotFound)?;
    let tag = format!("\"{photo}-{}\"", size.side_px());
    let mut response = if is_known(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        jpeg.into_response()
    };
    let sent = response.headers_mut();
    for (name, value) in HEADERS {
        sent.insert(name, value);
    }
    sent.insert(ETAG, HeaderValue::try_from(tag).expect("an id and a number are visible ASCII"));
    Ok(response)
}

/// Whether the caller has it already (RFC 9110 §13.1.2: the weak comparison).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}
