//! End-to-end tests: whole processes, real stores, the public API. One module per feature.

mod bad_input;
mod booking;
mod crashes;
mod notifications;
mod operations;
mod two_processes;
mod websocket;
