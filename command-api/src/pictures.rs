//! Pictures people send, made harmless: decoded within limits, and drawn anew as small squares.
//!
//! A telephone's JPEG of 4000 × 3000 pixels with GPS coordinates becomes three JPEGs of 512, 256 and 64 pixels: cut from the
//! centre, turned as its EXIF says, and without EXIF, colour profiles or comments. Nothing of the file that was sent is kept,
//! so whatever else it was (a page, a script, an archive) is gone too.
//!
//! What it is, is told by its first bytes alone. Its sides and the memory to decode it are known before a pixel is decoded,
//! and limited. Decoding stands on blocking threads, a few at a time; what takes too long is not waited for. A crash leaves
//! nothing.

use std::io::Cursor;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_kit::files::photos::PhotoSize;
use http_kit::problem::Text;
use http_kit::{Kind, Problem};
use image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageResult, Limits, Rgb, RgbImage};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most bytes of a picture.
pub(crate) const PICTURE_MAX_BYTES: usize = 5 * 1024 * 1024;
/// The longest side of a picture.
const SIDE_MAX_PX: u32 = 8_000;
/// The most memory one decoding takes: what 48 megapixels need, the most a telephone takes.
const DECODE_MAX_BYTES: u64 = 160 * 1024 * 1024;
/// How long a picture is waited for.
const PATIENCE: Duration = Duration::from_secs(15);
/// How many are uploaded or wait at a time; more are refused.
const UPLOADS: usize = 16;
/// Beyond this a picture is first averaged down, which is fast, and then drawn well.
const DRAWN_FROM_PX: u32 = 1_024;
/// How good the JPEGs are, of 100.
const QUALITY: u8 = 85;

/// Why a picture is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPicture {
    #[error("it is no JPEG, PNG or WebP")]
    Format,
    #[error("a side is longer than {SIDE_MAX_PX} pixels, or it takes too much memory")]
    TooLarge,
    #[error("it cannot be read to its end")]
    Damaged,
}

impl From<InvalidPicture> for Problem {
    fn from(invalid: InvalidPicture) -> Self {
        match invalid {
            InvalidPicture::Format => Self::from(Kind::UnsupportedMediaType).with_detail(Text::new(
                "A foto precisa ser uma imagem JPEG, PNG ou WebP.",
                "The photo must be a JPEG, PNG or WebP picture.",
            )),
            InvalidPicture::TooLarge => Self::from(Kind::InvalidInput)
                .with_detail(Text::new(
                    "A imagem é grande demais: cada lado pode ter até 8000 pixels, e a imagem até cerca de 50 megapixels.",
                    "The picture is too large: a side may have up to 8000 pixels, the picture about 50 megapixels.",
                ))
                .with("max_side_px", SIDE_MAX_PX),
            InvalidPicture::Damaged => Self::from(Kind::InvalidInput).with_detail(Text::new(
                "A imagem está danificada ou incompleta.",
                "The picture is damaged or incomplete.",
            )),
        }
    }
}

/// The squares of a picture, as JPEGs.
pub(crate) type Squares = [(PhotoSize, Bytes); PhotoSize::ALL.len()];

/// Draws pictures anew. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pictures {
    uploads: Arc<Semaphore>,
    workers: Arc<Semaphore>,
}

impl Pictures {
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            // Each takes 320 MB at the worst, while the middle is cut out.
            workers: Arc::new(Semaphore::new((cores / 2).clamp(1, 2))),
        }
    }

    /// A place for an upload, to be held from before its body is read.
    pub(crate) fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.uploads).try_acquire_owned();
        place.map_err(|_| Problem::from(Kind::Busy).retry_after(2))
    }

    /// The squares of a picture.
    pub(crate) async fn squares(&self, picture: Bytes) -> Result<Squares, Problem> {
        let drawing = async {
            let worker = Arc::clone(&self.workers).acquire_owned().await;
            let worker = worker.expect("the semaphore is never closed");
            // The permit goes with the work: what is no longer waited for does not make room for another thread.
            let running = tokio::task::spawn_blocking(move || {
                let drawn = squares(&picture);
                drop(worker);
                drawn
            });
            running.await.map_err(|error| Problem::internal(&error))
        };
        let drawn = tokio::time::timeout(PATIENCE, drawing).await;
        let drawn = drawn.map_err(|_| Problem::from(Kind::Busy).retry_after(5))??;
        Ok(drawn?)
    }
}

/// The squares of a picture. Takes long, and at most twice [`DECODE_MAX_BYTES`].
fn squares(picture: &[u8]) -> Result<Squares, InvalidPicture> {
    let (image, orientation) = decode(picture)?;
    let square = upright_square(image, orientation);
    let mut squares = Vec::with_capacity(PhotoSize::ALL.len());
    for size in PhotoSize::ALL {
        let side = size.side_px();
        let drawn = square.resize_exact(side, side, FilterType::Lanczos3);
        let mut jpeg = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut jpeg, QUALITY);
        encoder.encode_image(&drawn).map_err(|_| InvalidPicture::Damaged)?;
        squares.push((size, Bytes::from(jpeg)));
    }
    Ok(squares.try_into().expect("there is one for each size"))
}

fn decode(picture: &[u8]) -> Result<(DynamicImage, Orientation), InvalidPicture> {
    let format = image::guess_format(picture).map_err(|_| InvalidPicture::Format)?;
    let reader = Cursor::new(picture);
    let decoded = if format == ImageFormat::Jpeg {
        if !is_whole_jpeg(picture) {
            return Err(InvalidPicture::Damaged);
        }
        JpegDecoder::new(reader).and_then(decode_with)
    } else if format == ImageFormat::Png {
        PngDecoder::with_limits(reader, limits()).and_then(decode_with)
    } else if format == ImageFormat::WebP {
        WebPDecoder::new(reader).and_then(decode_with)
    } else {
        return Err(InvalidPicture::Format);
    };
    decoded.map_err(|error| {
        if matches!(error, image::ImageError::Limits(_)) {
            InvalidPicture::TooLarge
        } else {
            InvalidPicture::Damaged
        }
    })
}

fn decode_with(mut decoder: impl ImageDecoder) -> ImageResult<(DynamicImage, Orientation)> {
    let mut limits = limits();
    let (width, height) = decoder.dimensions();
    limits.check_dimensions(width, height)?;
    // The picture itself first; what is left is for the decoder.
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    // A turn that cannot be read is none.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder)?, orientation))
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX_PX);
    limits.max_image_height = Some(SIDE_MAX_PX);
    limits.max_alloc = Some(DECODE_MAX_BYTES);
    limits
}

/// Whether a JPEG has its end. The decoder paints what is missing grey; within a scan no other `FF D9` can stand.
fn is_whole_jpeg(picture: &[u8]) -> bool {
    let marker = |code| move |pair: &[u8]| pair == [0xff, code];
    let last_scan = picture.windows(2).rposition(marker(0xda));
    last_scan.is_some_and(|scan| picture[scan..].windows(2).any(marker(0xd9)))
}

/// The square in the middle, upright, on white, at most [`DRAWN_FROM_PX`] wide. A square's middle stays its middle however
/// it is turned, so it is cut and made small before it is turned.
fn upright_square(image: DynamicImage, orientation: Orientation) -> DynamicImage {
    let side = image.width().min(image.height());
    let (x, y) = ((image.width() - side) / 2, (image.height() - side) / 2);
    let mut small = image.crop_imm(x, y, side, side);
    drop(image);
    if side > DRAWN_FROM_PX {
        small = small.thumbnail_exact(DRAWN_FROM_PX, DRAWN_FROM_PX);
    }
    small.apply_orientation(orientation);
    let small = small.into_rgba8();
    let on_white = RgbImage::from_fn(small.width(), small.height(), |x, y| {
        let [red, green, blue, alpha] = small.get_pixel(x, y).0;
        let over_white = |channel: u8| {
            let (channel, alpha) = (u16::from(channel), u16::from(alpha));
            let mixed = (channel * alpha + 255 * (255 - alpha)) / 255;
            u8::try_from(mixed).expect("a mean of two bytes is a byte")
        };
        Rgb([over_white(red), over_white(green), over_white(blue)])
    });
    DynamicImage::ImageRgb8(on_white)
}

#[cfg(test)]
mod tests;
