//! One projector per family of read models.

pub mod audit;
pub mod availability;
pub mod notifications;
pub mod read_tables;
