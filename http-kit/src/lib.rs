//! What both APIs share: problems, auth, extractors, paging, limits, headers.
//!
//! A handler of either API is: extract, parse, one call, respond. What can go wrong on the way in or out is
//! answered here, as a [`problem::Problem`]. [`front::Front`] stands before the whole router.

pub mod audit;
pub mod auth;
pub mod cookies;
mod detail;
pub mod extract;
pub mod files;
pub mod front;
pub mod headers;
pub mod limits;
pub mod links;
pub mod origin;
pub mod paging;
pub mod problem;
pub mod refresh;
pub mod revocations;
pub mod schema;

pub use problem::{Kind, Problem};
