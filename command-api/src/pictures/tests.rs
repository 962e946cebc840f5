//! Pictures made here, good and bad.

use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageEncoder, Rgba, RgbaImage};

use super::*;

/// Left half red, right half blue, as this format.
fn two_halves(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, _| {
        if x < width / 2 { Rgb([220, 20, 20]) } else { Rgb([20, 20, 220]) }
    });
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn jpeg() -> Vec<u8> {
    two_halves(120, 60, ImageFormat::Jpeg)
}

/// A segment right after a JPEG's start.
fn with_segment(jpeg: &[u8], code: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xff, code], &length, content, &jpeg[2..]].concat()
}

/// EXIF that says: turn it a quarter to the right; and taken on 2026-03-02 in the southern hemisphere.
fn exif() -> Vec<u8> {
    let mut tiff = b"Exif\0\0II*\0\x08\0\0\0".to_vec();
    tiff.extend(2_u16.to_le_bytes());
    tiff.extend([0x12, 0x01, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0]);
    tiff.extend([0x25, 0x88, 4, 0, 1, 0, 0, 0, 38, 0, 0, 0]);
    tiff.extend([0; 4]);
    tiff.extend(2_u16.to_le_bytes());
    tiff.extend([0x01, 0, 2, 0, 2, 0, 0, 0, b'S', 0, 0, 0]);
    tiff.extend([0x1d, 0, 2, 0, 11, 0, 0, 0, 68, 0, 0, 0]);
    tiff.extend([0; 4]);
    tiff.extend(b"2026:03:02\0");
    tiff
}

/// Decodes the squares, after looking that each is a plain JPEG of its size.
#[track_caller]
fn drawn(picture: &[u8]) -> [RgbImage; 3] {
    let squares = squares(picture).unwrap();
    squares.map(|(size, jpeg)| {
        assert_eq!(image::guess_format(&jpeg).unwrap(), ImageFormat::Jpeg);
        for trace in [&b"Exif"[..], b"2026:03:02", b"<script", b"ICC_PROFILE"] {
            assert!(!jpeg.windows(trace.len()).any(|window| window == trace));
        }
        let image = image::load_from_memory(&jpeg).unwrap().into_rgb8();
        assert_eq!(image.dimensions(), (size.side_px(), size.side_px()));
        image
    })
}

fn is_red(pixel: &Rgb<u8>) -> bool {
    pixel.0[0] > 150 && pixel.0[2] < 90
}

fn is_blue(pixel: &Rgb<u8>) -> bool {
    pixel.0[2] > 150 && pixel.0[0] < 90
}

fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let checked = [&kind[..], content].concat();
    let mut crc = u32::MAX;
    for byte in &checked {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&length[..], &checked, &(!crc).to_be_bytes()].concat()
}

/// A PNG of a few bytes that says it is this large.
fn png_that_claims(width: u32, height: u32, depth: u8, colour: u8) -> Vec<u8> {
    let header =
        [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, colour, 0, 0, 0]].concat();
    let signature = b"\x89PNG\r\n\x1a\n";
    let data = [0x78, 0x9c, 0x03, 0, 0, 0, 0, 1];
    [&signature[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", &data), &chunk(b"IEND", &[])]
        .concat()
}

#[test]
fn the_middle_of_any_format_becomes_three_squares() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        for (width, height) in [(120, 60), (60, 120), (1, 1), (3000, 2000)] {
            for image in drawn(&two_halves(width, height, format)) {
                let side = image.width();
                if width > 1 {
                    assert!(is_red(image.get_pixel(side / 8, side / 2)), "{format:?} {width}");
                    assert!(is_blue(image.get_pixel(side * 7 / 8, side / 2)), "{format:?} {width}");
                }
            }
        }
    }
}

#[test]
fn a_turned_picture_is_turned_and_where_it_was_taken_is_gone() {
    let picture = with_segment(&jpeg(), 0xe1, &exif());
    assert!(picture.windows(10).any(|window| window == b"2026:03:02"));
    for image in drawn(&picture) {
        let side = image.width();
        assert!(is_red(image.get_pixel(side / 2, side / 8)), "what was left is above");
        assert!(is_blue(image.get_pixel(side / 2, side * 7 / 8)));
    }
}

#[test]
fn what_is_transparent_is_white() {
    let image = RgbaImage::from_pixel(80, 80, Rgba([0, 0, 0, 0]));
    let mut bytes = Vec::new();
    let encoder = WebPEncoder::new_lossless(&mut bytes);
    encoder.write_image(&image, 80, 80, ExtendedColorType::Rgba8).unwrap();
    for image in drawn(&bytes) {
        assert!(image.pixels().all(|pixel| pixel.0.iter().all(|channel| *channel > 250)));
    }
}

#[test]
fn pixels_of_sixteen_bits_and_of_grey_are_drawn_too() {
    let grey = image::ImageBuffer::from_pixel(50, 50, image::Luma([40_000_u16]));
    let mut bytes = Cursor::new(Vec::new());
    grey.write_to(&mut bytes, ImageFormat::Png).unwrap();
    let [large, ..] = drawn(bytes.get_ref());
    assert!((150..165).contains(&large.get_pixel(200, 200).0[1]));
}

#[test]
fn a_page_inside_a_picture_is_gone_and_a_picture_inside_a_page_is_none() {
    let page = b"<html><script>alert(1)</script></html>";
    let picture = [with_segment(&jpeg(), 0xfe, page), page.to_vec()].concat();
    drawn(&picture);
    let page_first = [&page[..], &jpeg()].concat();
    assert_eq!(squares(&page_first).unwrap_err(), InvalidPicture::Format);
}

#[test]
fn other_formats_are_refused_whatever_they_are_called() {
    // Two frames of one pixel.
    let frame = b"\x21\xf9\x04\0\x0a\0\0\0\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0";
    let gif = [&b"GIF89a\x01\0\x01\0\x80\0\0\xff\0\0\0\0\xff"[..], frame, frame, b"\x3b"].concat();
    let svg = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>";
    for other in [&b""[..], &gif, svg, b"%PDF-1.7", b"BM", b"\xff", b"RIFF", b"II*\0", &[0; 4096]] {
        assert_eq!(squares(other).unwrap_err(), InvalidPicture::Format, "{other:?}");
    }
}

#[test]
fn a_picture_that_would_take_too_much_memory_is_refused_before_it_is_decoded() {
    let sides = [(20_000, 20_000), (8_001, 1), (1, 8_001), (u32::MAX >> 1, u32::MAX >> 1)];
    for (width, height) in sides {
        let bomb = png_that_claims(width, height, 1, 0);
        assert!(bomb.len() < 100);
        assert_eq!(squares(&bomb).unwrap_err(), InvalidPicture::TooLarge, "{width} × {height}");
    }
    // Within the sides, but 8 bytes a pixel: 512 MB.
    let bomb = png_that_claims(8_000, 8_000, 16, 6);
    assert_eq!(squares(&bomb).unwrap_err(), InvalidPicture::TooLarge);
    // A few bytes that say they are a picture which is allowed, and are not.
    assert_eq!(squares(&png_that_claims(10, 10, 8, 2)).unwrap_err(), InvalidPicture::Damaged);
}

#[test]
fn a_picture_without_its_end_is_refused() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let whole = two_halves(300, 200, format);
        for part in 1..=16 {
            let cut = &whole[..whole.len() * part / 17];
            assert!(squares(cut).is_err(), "{format:?}: {} of {} bytes", cut.len(), whole.len());
        }
    }
    let whole = with_segment(&jpeg(), 0xe1, &exif());
    for end in 0..whole.len() - 2 {
        assert!(squares(&whole[..end]).is_err(), "{end} of {} bytes", whole.len());
    }
}

#[test]
fn damage_is_an_error_or_a_picture_and_never_a_panic() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP] {
        let whole = two_halves(40, 30, format);
        for place in 0..whole.len().min(700) {
            let mut damaged = whole.clone();
            damaged[place] ^= 0xff;
            let _ = decode(&damaged);
        }
    }
}

#[tokio::test]
async fn only_so_many_are_uploaded_at_a_time() {
    let pictures = Pictures::new();
    let places: Vec<_> = (0..UPLOADS).map(|_| pictures.place().unwrap()).collect();
    assert_eq!(pictures.place().unwrap_err().kind(), Kind::Busy);
    drop(places);
    assert!(pictures.place().is_ok());
    let squares = pictures.squares(Bytes::from(jpeg())).await.unwrap();
    assert_eq!(squares.len(), 3);
    let refused = pictures.squares(Bytes::from_static(b"GIF89a")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::UnsupportedMediaType);
}
