//! Lists: `?limit=20&cursor=…` in, `{"items":[…],"next_cursor":null}` out.
//!
//! A cursor is opaque to clients: base64url of the sort key of the last item. It is no secret and grants
//! nothing; one that does not parse is `400 invalid-query`.

use axum::extract::FromRequestParts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::extract::from_query;
use crate::problem::{Kind, Problem};

/// The items of a page, unless the request says otherwise.
pub const LIMIT_DEFAULT: u16 = 20;
/// The most items of a page.
pub const LIMIT_MAX: u16 = 100;
/// The most characters of a cursor.
const CURSOR_MAX: usize = 1024;

/// Which page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paging {
    /// How many items, 1–100.
    pub limit: u16,
    /// After which item; `None` is the first page.
    pub cursor: Option<String>,
}

/// The page's parameters as they stand in a query; flatten-free, so that a route with more parameters
/// declares `limit` and `cursor` among its own and calls [`Paging::new`].
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageParams {
    /// How many items, 1 to 100; 20 unless given.
    #[param(minimum = 1, maximum = 100, default = 20, example = 20)]
    pub limit: Option<u16>,
    /// The `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl Paging {
    /// From the parameters of a query.
    pub fn new(limit: Option<u16>, cursor: Option<String>) -> Result<Self, Problem> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            let detail = "limit must be between 1 and 100";
            return Err(Problem::field(Kind::InvalidQuery, "limit", detail));
        }
        if cursor.as_ref().is_some_and(|cursor| cursor.len() > CURSOR_MAX) {
            return Err(wrong_cursor());
        }
        Ok(Self { limit, cursor })
    }

    /// The sort key the cursor holds.
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Problem> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong_cursor())?;
        serde_json::from_slice(&bytes).map(Some).map_err(|_| wrong_cursor())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let PageParams { limit, cursor } = from_query(parts.uri.query().unwrap_or_default())?;
        Self::new(limit, cursor)
    }
}

/// A cursor is not of this list.
pub fn wrong_cursor() -> Problem {
    Problem::field(Kind::InvalidQuery, "cursor", "not a cursor of this list")
}

/// A cursor to the items after this sort key.
pub fn cursor<K: Serialize>(key: &K) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).expect("a sort key is plain JSON"))
}

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts; `null` on the last.
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn paging(query: &str) -> Result<Paging, Problem> {
        let request = http::Request::get(format!("/?{query}")).body(()).unwrap();
        Paging::from_request_parts(&mut request.into_parts().0, &()).await
    }

    #[tokio::test]
    async fn a_page_has_1_to_100_items_and_20_unless_asked() {
        assert_eq!(paging("").await.unwrap().limit, 20);
        assert_eq!(paging("limit=100").await.unwrap().limit, 100);
        for wrong in ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=70000", "offset=3"] {
            assert_eq!(paging(wrong).await.unwrap_err().kind(), Kind::InvalidQuery, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_cursor_brings_its_key_back_and_garbage_is_refused() {
        let key = ("Ana".to_owned(), 7_u32);
        let page = paging(&format!("cursor={}", cursor(&key))).await.unwrap();
        assert_eq!(page.after::<(String, u32)>().unwrap(), Some(key));
        for wrong in ["x", "%00", "bnVsbA", "e30"] {
            let page = paging(&format!("cursor={wrong}")).await.unwrap();
            let error = page.after::<(String, u32)>().unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidQuery, "{wrong}");
        }
        let long = format!("cursor={}", "a".repeat(CURSOR_MAX + 1));
        assert_eq!(paging(&long).await.unwrap_err().kind(), Kind::InvalidQuery);
    }
}
