//! End-to-end tests: whole processes, real stores, the public API. One module per feature.

mod accounts;
mod admin;
mod audit;
mod bad_input;
mod booking;
mod crashes;
mod erasure;
mod limits;
mod notifications;
mod operations;
mod photos;
mod two_processes;
mod websocket;
