//! The `pontual` binary's parts: configuration, the private Postgres cluster, telemetry, the command line, the doctor,
//! and the wiring of the roles.

pub mod admin;
pub mod audit;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod database;
pub mod demo;
pub mod doctor;
pub mod health;
pub mod jobs;
pub mod log;
pub mod openapi;
mod probes;
pub mod production;
pub mod serve;
pub mod telemetry;
