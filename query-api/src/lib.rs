//! query-api.
