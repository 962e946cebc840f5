//! One's photo.
//!
//! `PUT /api/users/photo` with the picture as its body: it is drawn anew as three squares (`pictures`), which are in the
//! file store before `ChangePhoto` is decided, so whoever sees the event finds the files. Until the event is there a mark
//! says that the photo is pending. A refusal deletes both; a crash, or an append of which nobody knows how it ended, leaves
//! the mark, and the worker looks after it an hour later (`http-kit/src/files/photos.rs`). The photo before is deleted by a
//! job that the event orders.

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::account::{Account, ChangePhoto, RemovePhoto};
use domain::ids::{AccountId, Id, PhotoId, shape};
use hmac::{Hmac, KeyInit, Mac};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_kit::auth::SignedIn;
use http_kit::extract::{BodyLimit, Json, Payload, Sent, Submission};
use http_kit::files::photos::{self, PhotoUrls};
use http_kit::files::{FileError, Files};
use http_kit::problem::CommandProblems;
use http_kit::{Kind, Problem};
use serde::Serialize;
use sha2::Sha256;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::CommandState;
use crate::pictures::{PICTURE_MAX_BYTES, Pictures, Squares};

pub(crate) fn routes(pictures: &Pictures) -> OpenApiRouter<CommandState> {
    let upload = OpenApiRouter::new()
        .routes(routes!(change))
        .route_layer(from_fn_with_state(pictures.clone(), hold_a_place))
        .route_layer(Extension(BodyLimit(PICTURE_MAX_BYTES)));
    upload.routes(routes!(remove))
}

/// Pictures are held in memory: only so many at a time, counted from before their bodies are read.
async fn hold_a_place(State(pictures): State<Pictures>, request: Request, next: Next) -> Response {
    if request.method() != http::Method::PUT {
        return next.run(request).await;
    }
    match pictures.place() {
        Ok(place) => {
            let response = next.run(request).await;
            drop(place);
            response
        }
        Err(busy) => busy.into_response(),
    }
}

/// A picture as it was sent. Which of the types the header names is not believed.
struct Picture(Bytes);

impl Payload for Picture {
    fn accepts(headers: &HeaderMap, _: bool) -> Result<(), Problem> {
        let essence = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = essence.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let known = ["image/jpeg", "image/png", "image/webp"];
        if known.iter().any(|name| essence.eq_ignore_ascii_case(name)) {
            Ok(())
        } else {
            Err(Kind::UnsupportedMediaType.into())
        }
    }

    fn parse(body: &[u8]) -> Result<Self, Problem> {
        Ok(Self(Bytes::copy_from_slice(body)))
    }
}

/// The photo an account shows now.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PhotoChanged)]
struct PhotoIsShown {
    /// Where it can be seen.
    photo: PhotoUrls,
}

/// Show a photo of oneself (`S0-09`, `S0-33`).
///
/// The body is the picture: JPEG, PNG or WebP, at most 5 MB, 8000 pixels a side. It is cut to a square and kept in three
/// sizes; everything else in the file, places and dates included, is thrown away.
#[utoipa::path(
    put, path = "/api/users/photo", operation_id = "ChangePhoto", tag = "users", security(("bearer" = [])),
    request_body(
        content((Vec<u8> = "image/jpeg"), (Vec<u8> = "image/png"), (Vec<u8> = "image/webp")),
        description = "The picture",
    ),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 200, body = PhotoIsShown), CommandProblems),
)]
async fn change(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: Picture(picture), sent }: Submission<Picture>,
) -> Result<impl IntoResponse, Problem> {
    let account = actor.account().ok_or(Kind::SignInRequired)?;
    let files = api.files()?;
    let squares = api.pictures.squares(picture).await?;
    let photo = photo_id(&api, account, &sent);
    put(&files, account, photo, squares).await.map_err(|error| Problem::unavailable(&error))?;
    let (outcome, receipt) = match api.execute(actor, sent, ChangePhoto { photo }).await {
        Ok(done) => done,
        Err(problem) => {
            // Only what was surely refused; of anything else nobody knows whether it happened.
            if problem.kind().status().is_client_error() {
                forget(&files, account, photo).await;
            }
            return Err(problem);
        }
    };
    // A replayed answer may be of a photo that was replaced since, and was just written again: the worker looks.
    if !receipt.replayed {
        settle(files.delete(&photos::pending(account, photo)).await);
    }
    let shown = outcome.photo.unwrap_or(photo);
    Ok((receipt.of::<Account>(account), Json(PhotoIsShown { photo: PhotoUrls::of(shown) })))
}

/// Show no photo any more.
#[utoipa::path(
    delete, path = "/api/users/photo", operation_id = "RemovePhoto", tag = "users", security(("bearer" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a retry safe"),
        ("If-Match" = Option<String>, Header, description = "The version it must be at", example = "\"v3\""),
    ),
    responses((status = 204), CommandProblems),
)]
async fn remove(
    State(api): State<CommandState>,
    SignedIn(actor): SignedIn,
    Submission { body: (), sent }: Submission<()>,
) -> Result<impl IntoResponse, Problem> {
    let account = actor.account().ok_or(Kind::SignInRequired)?;
    let (_, receipt) = api.execute(actor, sent, RemovePhoto {}).await?;
    Ok((StatusCode::NO_CONTENT, receipt.of::<Account>(account), ()))
}

/// A photo's id, which nobody can guess. A retry with the same key and picture has the same one, and writes the same files.
fn photo_id(api: &CommandState, account: AccountId, sent: &Sent) -> PhotoId {
    let mut bytes: [u8; 16] = rand::random();
    if let Some(key) = &sent.key {
        let secret = api.log().derive_key("photo-id");
        let mac = Hmac::<Sha256>::new_from_slice(&secret).expect("HMAC takes any key");
        let mac = mac
            .chain_update(account.uuid().as_bytes())
            .chain_update(sent.fingerprint)
            .chain_update(key.as_str());
        bytes.copy_from_slice(&mac.finalize().into_bytes()[..16]);
    }
    PhotoId::trusted(shape(bytes, account.slot()))
}

async fn put(
    files: &Files,
    account: AccountId,
    photo: PhotoId,
    squares: Squares,
) -> Result<(), FileError> {
    files.put(&photos::pending(account, photo), Bytes::new()).await?;
    for (size, jpeg) in squares {
        files.put(&photos::file(photo, size), jpeg).await?;
    }
    Ok(())
}

async fn forget(files: &Files, account: AccountId, photo: PhotoId) {
    let forgotten = async {
        files.delete_folder(&photos::folder(photo)).await?;
        files.delete(&photos::pending(account, photo)).await
    };
    settle(forgotten.await);
}

/// What was not deleted now the worker deletes later.
fn settle(deleted: Result<(), FileError>) {
    if let Err(error) = deleted {
        tracing::warn!(%error, "a photo's mark was not deleted; the worker will look after it");
    }
}
