//! Lists: `?limit=20&cursor=…` in, `{"items":[…],"next_cursor":null}` out.
//!
//! A cursor is opaque here as it is to clients: whoever has the list makes it and reads it
//! (`read-models/src/paging.rs`). It is no secret and grants nothing; one that is not of the list is
//! `400 invalid-query`.

use axum::extract::FromRequestParts;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::extract::from_query;
use crate::problem::{Kind, Problem};

/// The items of a page, unless the request says otherwise.
pub const LIMIT_DEFAULT: u16 = 20;
/// The most items of a page.
pub const LIMIT_MAX: u16 = 100;

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
        Ok(Self { limit, cursor })
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
}
