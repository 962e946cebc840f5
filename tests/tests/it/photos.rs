//! Photos, as a person and as an attacker would send them (`S0-09`, `S0-33`).

use std::time::Duration;

use end_to_end::{Answer, PATIENCE, Person, Pontual, Profile};
use image::{ImageFormat, Rgb, RgbImage};
use tokio::time::Instant;

fn picture(colour: [u8; 3], format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_pixel(300, 200, Rgb(colour)).write_to(&mut bytes, format).expect("it is drawn");
    bytes.into_inner()
}

async fn put(person: &Person, kind: &str, body: Vec<u8>, key: Option<&str>) -> Answer {
    let mut request = person.api.request("PUT", "/api/users/photo").header("content-type", kind);
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    person.api.send(request.body(body)).await
}

fn url(answer: &Answer, size: &str) -> String {
    answer.body["photo"][size].as_str().expect("a URL").to_owned()
}

/// Status, type and bytes.
async fn fetch(pontual: &Pontual, path: &str) -> (u16, String, Vec<u8>) {
    let answer = pontual.nobody().request("GET", path).send().await.expect("pontual answers");
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    (status, kind, answer.bytes().await.expect("a whole body").to_vec())
}

async fn gone(pontual: &Pontual, path: &str) {
    let deadline = Instant::now() + PATIENCE;
    while fetch(pontual, path).await.0 != 404 {
        assert!(Instant::now() < deadline, "{path} is still there");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

#[tokio::test]
async fn a_photo_is_shown_in_three_sizes_until_another_takes_its_place() {
    for profile in Profile::ALL {
        let pontual = Pontual::start(profile).await;
        let bia = pontual.client("Bia").await;
        // Whatever the header says, it is what it is.
        let png = picture([200, 30, 30], ImageFormat::Png);
        let first = put(&bia, "image/jpeg", png.clone(), Some("key-1")).await.expect(200);
        for (size, side) in [("large", 512), ("medium", 256), ("small", 64)] {
            let (status, kind, jpeg) = fetch(&pontual, &url(&first, size)).await;
            assert_eq!((status, kind.as_str()), (200, "image/jpeg"));
            let image = image::load_from_memory_with_format(&jpeg, ImageFormat::Jpeg);
            let image = image.expect("a JPEG").into_rgb8();
            assert_eq!(image.dimensions(), (side, side));
            assert!(image.get_pixel(side / 2, side / 2).0[0] > 150);
        }
        let again = put(&bia, "image/jpeg", png, Some("key-1")).await.expect(200);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.body, first.body);
        let webp = picture([30, 30, 200], ImageFormat::WebP);
        let other = put(&bia, "image/jpeg", webp, Some("key-1")).await.expect(422);
        assert_eq!(other.problem(), "idempotency-key-reused");
        assert_eq!(fetch(&pontual, &url(&first, "small")).await.0, 200);

        let webp = picture([30, 30, 200], ImageFormat::WebP);
        let second = put(&bia, "image/webp", webp, None).await.expect(200);
        assert_ne!(url(&second, "large"), url(&first, "large"));
        gone(&pontual, &url(&first, "large")).await;
        assert_eq!(fetch(&pontual, &url(&second, "large")).await.0, 200);
        let removed = bia.api.send(bia.api.request("DELETE", "/api/users/photo")).await;
        assert_eq!(removed.status, 204);
        gone(&pontual, &url(&second, "large")).await;
        let again = bia.api.send(bia.api.request("DELETE", "/api/users/photo")).await;
        assert_eq!(again.status, 204);
    }
}

#[tokio::test]
async fn what_is_no_picture_or_too_much_of_one_is_refused_with_the_reason() {
    let pontual = Pontual::start(Profile::SingleNode).await;
    let bia = pontual.client("Bia").await;
    let page = b"<html><script>alert(1)</script></html>";
    let jpeg = picture([1, 2, 3], ImageFormat::Jpeg);
    let cut = jpeg[..jpeg.len() / 2].to_vec();
    for (kind, body, status, problem) in [
        ("image/jpeg", Vec::new(), 415, "unsupported-media-type"),
        ("image/jpeg", [&page[..], &jpeg].concat(), 415, "unsupported-media-type"),
        ("image/png", b"GIF89a\x01\0\x01\0".to_vec(), 415, "unsupported-media-type"),
        ("image/svg+xml", b"<svg/>".to_vec(), 415, "unsupported-media-type"),
        ("text/html", jpeg.clone(), 415, "unsupported-media-type"),
        ("image/jpeg", cut, 422, "invalid-input"),
        ("image/jpeg", vec![0xff; 5 * 1024 * 1024 + 1], 413, "payload-too-large"),
        ("image/jpeg", vec![0xff; 5 * 1024 * 1024], 415, "unsupported-media-type"),
    ] {
        let length = body.len();
        let answer = put(&bia, kind, body, None).await;
        assert_eq!((answer.status, answer.problem()), (status, problem), "{kind}, {length} bytes");
    }
    // A page that also is a picture is drawn anew: the page is gone.
    let both = [&jpeg[..], page].concat();
    let shown = put(&bia, "image/jpeg", both, None).await.expect(200);
    let (_, _, drawn) = fetch(&pontual, &url(&shown, "large")).await;
    assert!(!drawn.windows(7).any(|window| window == b"<script"));

    let stranger = pontual.nobody();
    let request = stranger.request("PUT", "/api/users/photo").header("content-type", "image/jpeg");
    assert_eq!(stranger.send(request.body(jpeg)).await.status, 401);
    for path in [
        "/files/photos/..%2f..%2fkeys%2fmaster.key/512.jpg",
        "/files/photos/%2e%2e/%2e%2e/keys/master.key",
    ] {
        assert_eq!(fetch(&pontual, path).await.0, 404, "{path}");
    }
}
