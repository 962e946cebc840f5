//! Where photos are: `photos/<photo>/512.jpg` and two smaller ones, and `/files/photos/<photo>/512.jpg` to the world.
//!
//! A photo's id is drawn at random (110 bits), and whoever knows it may see the photo: it is shown to strangers anyway. Its
//! files never change; another photo is another id.
//!
//! While a photo is being taken over, `pending-photos/<account>/<photo>` says so. It is written before the photo's files
//! and deleted after the event; one that stays behind (a crash, a refusal, an answer that never came) is looked at by the
//! worker an hour later, who asks the account whether that is its photo, and deletes the files if not.

use std::str::FromStr;

use domain::ids::{AccountId, PhotoId};
use serde::Serialize;
use utoipa::ToSchema;

use super::{FileName, Folder};

/// Folders of photos.
const PHOTOS: &str = "photos";
/// Folders of photos whose event may not have come.
pub const PENDING: &str = "pending-photos";

/// The sides of the squares a photo is kept as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhotoSize {
    /// 512 px
    Large,
    /// 256 px
    Medium,
    /// 64 px
    Small,
}

impl PhotoSize {
    /// All of them, the largest first.
    pub const ALL: [Self; 3] = [Self::Large, Self::Medium, Self::Small];

    /// Its side in pixels.
    pub const fn side_px(self) -> u32 {
        match self {
            Self::Large => 512,
            Self::Medium => 256,
            Self::Small => 64,
        }
    }

    /// Its file's name.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Large => "512.jpg",
            Self::Medium => "256.jpg",
            Self::Small => "64.jpg",
        }
    }
}

/// Not the name of a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("photos are 512.jpg, 256.jpg and 64.jpg")]
pub struct InvalidPhotoSize;

/// From its file's name.
impl FromStr for PhotoSize {
    type Err = InvalidPhotoSize;
    fn from_str(text: &str) -> Result<Self, InvalidPhotoSize> {
        Self::ALL.into_iter().find(|size| size.file() == text).ok_or(InvalidPhotoSize)
    }
}

/// A photo's files.
pub fn folder(photo: PhotoId) -> Folder {
    Folder::of(PHOTOS, photo)
}

/// One of them.
pub fn file(photo: PhotoId, size: PhotoSize) -> FileName {
    folder(photo).file(size.file())
}

/// Says that this account is about to show this photo.
pub fn pending(account: AccountId, photo: PhotoId) -> FileName {
    Folder::of(PENDING, account).file_of(photo)
}

/// What [`pending`] says.
pub fn read_pending(name: &FileName) -> Option<(AccountId, PhotoId)> {
    let parts = name.parts();
    let [kind, account, photo] = parts.as_slice() else { return None };
    (kind == PENDING).then_some((account.parse().ok()?, photo.parse().ok()?))
}

/// Where a photo can be seen, as an API says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Photo)]
pub struct PhotoUrls {
    /// A JPEG of 512 × 512 pixels.
    #[schema(example = "/files/photos/019bd275-f2a5-7abc-9123-456789abcdef/512.jpg")]
    large: String,
    /// 256 × 256.
    medium: String,
    /// 64 × 64.
    small: String,
}

impl PhotoUrls {
    /// Of this photo.
    pub fn of(photo: PhotoId) -> Self {
        let url = |size: PhotoSize| format!("/files/photos/{photo}/{}", size.file());
        Self {
            large: url(PhotoSize::Large),
            medium: url(PhotoSize::Medium),
            small: url(PhotoSize::Small),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::ids::{Mint, RoutingSlot};

    use super::*;

    #[test]
    fn a_size_is_one_of_three_files_and_nothing_else() {
        for size in PhotoSize::ALL {
            assert_eq!(size.file().parse(), Ok(size));
            assert_eq!(size.file(), format!("{}.jpg", size.side_px()));
        }
        for wrong in ["", "512", "512.JPG", "512.png", "../512.jpg", "0512.jpg", "128.jpg"] {
            assert_eq!(wrong.parse::<PhotoSize>(), Err(InvalidPhotoSize), "{wrong}");
        }
    }

    #[test]
    fn what_is_pending_reads_itself_back() {
        let mint = Mint::new([3; 32]);
        let slot = RoutingSlot::from_bits(9);
        let (account, photo) = (mint.id(slot, 0), mint.id(slot, 1));
        assert_eq!(read_pending(&pending(account, photo)), Some((account, photo)));
        assert_eq!(read_pending(&file(photo, PhotoSize::Small)), None);
    }
}
