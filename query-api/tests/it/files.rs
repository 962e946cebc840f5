//! Photos are served as pictures and nothing else, and nothing but photos is.

use axum::body::Body;
use bytes::Bytes;
use domain::ids::{Mint, PhotoId, RoutingSlot};
use http_body_util::BodyExt as _;
use http_kit::files::photos::{self, PhotoSize};
use tower::ServiceExt as _;

use crate::common::*;

async fn get(world: &World, path: &str, known: Option<&str>) -> http::Response<Bytes> {
    let mut request = http::Request::get(path);
    if let Some(known) = known {
        request = request.header("if-none-match", known);
    }
    let request = request.body(Body::empty()).unwrap();
    let (parts, body) = world.router.clone().oneshot(request).await.unwrap().into_parts();
    http::Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_photo_is_a_picture_that_may_be_kept() {
    let world = World::start().await;
    let photo: PhotoId = Mint::new([1; 32]).id(RoutingSlot::from_bits(7), 0);
    let jpeg = Bytes::from_static(b"\xff\xd8 a picture");
    world.files.put(&photos::file(photo, PhotoSize::Medium), jpeg.clone()).await.unwrap();
    let path = format!("/files/photos/{photo}/256.jpg");
    let answer = get(&world, &path, None).await;
    assert_eq!((answer.status().as_u16(), answer.body()), (200, &jpeg));
    let header = |name: &str| answer.headers()[name].to_str().unwrap();
    assert_eq!(header("content-type"), "image/jpeg");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-security-policy"), "default-src 'none'; sandbox");
    assert_eq!(header("cross-origin-resource-policy"), "cross-origin");
    assert_eq!(header("cache-control"), "public, max-age=604800, immutable");
    let tag = header("etag");
    for known in [tag.to_owned(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let again = get(&world, &path, Some(&known)).await;
        assert_eq!((again.status().as_u16(), again.body().len()), (304, 0), "{known}");
        assert_eq!(again.headers()["etag"], tag);
    }
    assert_eq!(get(&world, &path, Some("\"x\"")).await.status(), 200);
    world.files.delete_folder(&photos::folder(photo)).await.unwrap();
    assert_eq!(get(&world, &path, Some(tag)).await.status(), 404);
}

#[tokio::test]
async fn anything_else_is_not_found() {
    let world = World::start().await;
    let photo: PhotoId = Mint::new([1; 32]).id(RoutingSlot::from_bits(7), 0);
    for size in PhotoSize::ALL {
        world.files.put(&photos::file(photo, size), Bytes::from_static(b"x")).await.unwrap();
    }
    let plain = photo.to_string().replace('-', "");
    for path in [
        format!("/files/photos/{photo}/128.jpg"),
        format!("/files/photos/{photo}/512.png"),
        format!("/files/photos/{photo}/512"),
        format!("/files/photos/{photo}/"),
        format!("/files/photos/{photo}"),
        format!("/files/photos/{photo}/..%2f64.jpg"),
        format!("/files/photos/{photo}/64.jpg/more"),
        format!("/files/photos/..%2fphotos%2f{photo}/64.jpg"),
        format!("/files/photos/%2e%2e/photos/{photo}/64.jpg"),
        format!("/files/photos/{photo}%00/64.jpg"),
        "/files/photos/%ff/64.jpg".to_owned(),
        format!("/files/photos/{}/64.jpg", uuid::Uuid::nil()),
        format!("/files/{photo}/64.jpg"),
        "/files/".to_owned(),
    ] {
        assert_eq!(get(&world, &path, None).await.status(), 404, "{path}");
    }
    // Another way to write the same id is the same photo.
    assert_eq!(get(&world, &format!("/files/photos/{plain}/64.jpg"), None).await.status(), 200);
}
