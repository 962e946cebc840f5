//! End-to-end tests: whole processes, real stores, the public API. One module per feature.

mod accounts;
mod admin;
mod as_of;
mod audit;
mod authorization;
mod bad_input;
mod booking;
mod catalogue;
mod crashes;
mod erasure;
mod guests;
mod holds;
mod hours;
mod life;
mod limits;
mod notifications;
mod operations;
mod photos;
mod races;
mod series;
mod tokens;
mod two_processes;
mod unicode;
mod views;
mod waitlist;
mod websocket;
