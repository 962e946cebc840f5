//! read-models.
