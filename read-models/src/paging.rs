//! Lists come in pages: at most [`PageLimit::MAX`] items and an opaque cursor to the next ones.
//!
//! A cursor is the sort key of the last item that was given, so items that come or go meanwhile neither
//! repeat nor hide others. It names the list it belongs to; one of another list is [`InvalidCursor`], and so is one
//! with a key no item can have, which somebody made up and a store would choke on.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Datelike as _;
use domain::Instant;
use domain::ids::{AccountId, AppointmentId, CategoryId, ProviderId, SessionId, WaitId};
use domain::position::Partition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Longer texts are no cursors of ours: the longest holds a name of 255 characters, of up to 4 bytes each. The only
/// such limit: whatever is made here must be read here.
const MAX_CURSOR_BYTES: usize = 4096;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Where the next page starts; `None` on the last.
    pub next_cursor: Option<String>,
}

/// A text that is no cursor of this list.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a cursor of this list")]
pub struct InvalidCursor;

/// How many items a page may have: 1 to [`PageLimit::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit(u16);

/// A limit out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("limit must be between 1 and {}", PageLimit::MAX)]
pub struct InvalidLimit;

impl PageLimit {
    /// The most items of a page.
    pub const MAX: u16 = 100;

    /// Refuses 0 and more than [`Self::MAX`].
    pub const fn new(limit: u16) -> Result<Self, InvalidLimit> {
        if limit >= 1 && limit <= Self::MAX { Ok(Self(limit)) } else { Err(InvalidLimit) }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// What to ask of a store: one more, to see whether there is a next page.
    pub(crate) fn and_one(self) -> i64 {
        i64::from(self.0) + 1
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(20)
    }
}

impl<T> Page<T> {
    /// Cuts what a store gave for [`PageLimit::and_one`] to a page of the list `list`.
    pub(crate) fn cut<K: Serialize>(
        mut items: Vec<T>,
        limit: PageLimit,
        list: &str,
        key: impl Fn(&T) -> K,
    ) -> Self {
        let more = items.len() > usize::from(limit.0);
        items.truncate(limit.0.into());
        let next_cursor = items.last().filter(|_| more).map(|last| encode(list, &key(last)));
        Self { items, next_cursor }
    }

    /// The same page of something else.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}

/// The cursor after the item with this key.
pub fn encode<K: Serialize>(list: &str, key: &K) -> String {
    let json = serde_json::to_vec(&(list, key)).expect("a sort key is plain data");
    URL_SAFE_NO_PAD.encode(json)
}

/// A part of a sort key, as it may stand in a cursor.
pub trait SortKey: DeserializeOwned {
    /// Whether an item can have it, so that every store can compare with it.
    fn is_possible(&self) -> bool {
        true
    }
}

impl SortKey for u64 {}
impl SortKey for i32 {}
impl SortKey for Partition {}
impl SortKey for ProviderId {}
impl SortKey for AppointmentId {}
impl SortKey for AccountId {}
impl SortKey for SessionId {}
impl SortKey for CategoryId {}
impl SortKey for WaitId {}

impl SortKey for String {
    /// Names have no control characters, and Postgres has no text with U+0000.
    fn is_possible(&self) -> bool {
        !self.chars().any(char::is_control)
    }
}

impl SortKey for Instant {
    /// Postgres and chrono know different ends of time, and neither is the time of anything here.
    fn is_possible(&self) -> bool {
        (1970..2200).contains(&self.year())
    }
}

impl<A: SortKey, B: SortKey> SortKey for (A, B) {
    fn is_possible(&self) -> bool {
        self.0.is_possible() && self.1.is_possible()
    }
}

impl<A: SortKey, B: SortKey, C: SortKey> SortKey for (A, B, C) {
    fn is_possible(&self) -> bool {
        self.0.is_possible() && self.1.is_possible() && self.2.is_possible()
    }
}

/// Whether a store refused what a page was asked for with (SQLSTATE class 22): then it was the cursor's key, for all
/// else comes from here.
pub(crate) fn is_the_cursors_fault(error: &sqlx::Error, cursor: bool) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    cursor && code.is_some_and(|code| code.starts_with("22"))
}

/// The key a cursor holds, if there is one.
pub fn decode<K: SortKey>(list: &str, cursor: Option<&str>) -> Result<Option<K>, InvalidCursor> {
    let Some(cursor) = cursor else { return Ok(None) };
    if cursor.len() > MAX_CURSOR_BYTES {
        return Err(InvalidCursor);
    }
    let json = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor)?;
    let (of, key): (String, K) = serde_json::from_slice(&json).map_err(|_| InvalidCursor)?;
    if of == list && key.is_possible() { Ok(Some(key)) } else { Err(InvalidCursor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_by_its_own_list_only() {
        let cursor = encode("providers", &("ana", 7_u64));
        assert_eq!(decode("providers", Some(&cursor)), Ok(Some(("ana".to_owned(), 7_u64))));
        assert_eq!(decode::<(String, u64)>("services", Some(&cursor)), Err(InvalidCursor));
        assert_eq!(decode::<(u64, u64)>("providers", Some(&cursor)), Err(InvalidCursor));
        assert_eq!(decode::<(String, u64)>("providers", None), Ok(None));
    }

    #[test]
    fn garbage_is_no_cursor() {
        for text in ["", "x", "é", "bm9uc2Vuc2U", "W10", &"A".repeat(5000)] {
            assert_eq!(decode::<(String, u64)>("providers", Some(text)), Err(InvalidCursor));
        }
    }

    #[test]
    fn a_key_no_item_can_have_is_no_cursor() {
        for name in ["\u{0}", "a\u{0}b", "a\nb"] {
            let cursor = encode("providers", &(name, 7_u64));
            assert_eq!(decode::<(String, u64)>("providers", Some(&cursor)), Err(InvalidCursor));
        }
        for (year, possible) in [
            ("-200000", false),
            ("0001", false),
            ("1969", false),
            ("1970", true),
            ("2199", true),
            ("2200", false),
            ("+200000", false),
        ] {
            let cursor = encode("past", &(format!("{year}-06-01T00:00:00Z"), 7_u64));
            let key = decode::<(Instant, u64)>("past", Some(&cursor));
            assert_eq!(key.is_ok(), possible, "{year}");
        }
    }

    #[test]
    fn the_longest_name_fits_into_a_cursor() {
        for letter in ["\u{10400}", "İ", "\""] {
            let name = letter.repeat(255).to_lowercase();
            let key = (name, crate::testing::id::<ProviderId>(7));
            let cursor = encode("providers", &key);
            assert_eq!(decode("providers", Some(&cursor)), Ok(Some(key)));
        }
    }

    #[test]
    fn a_page_has_a_cursor_only_while_there_is_more() {
        let limit = PageLimit::new(2).unwrap();
        let page = Page::cut(vec![1_u64, 2, 3], limit, "n", |n| *n);
        assert_eq!(page.items, [1, 2]);
        assert_eq!(decode("n", page.next_cursor.as_deref()), Ok(Some(2_u64)));
        assert_eq!(Page::cut(vec![1, 2], limit, "n", |n| *n).next_cursor, None);
        assert!(PageLimit::new(0).is_err() && PageLimit::new(101).is_err());
    }
}
