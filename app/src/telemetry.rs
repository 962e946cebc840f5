//! What the program says of itself: log lines on standard error, metrics on a private port.
//!
//! `PONTUAL_LOG=info,event_log=debug PONTUAL_LOG_FORMAT=json`, for example, writes one JSON object a line; a panic is such
//! a line, too. Nothing here outlives the process: lines are written as they come, so a crash loses none, and metrics
//! start from zero, as Prometheus expects.

use std::io::IsTerminal as _;
use std::net::SocketAddr;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, LogFormat};

/// What keeps the program from speaking.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error("PONTUAL_LOG is not a filter, as info,event_log=debug is")]
    Filter(#[from] ParseError),
    /// Somebody set up logging before.
    #[error("logging is already set up")]
    Logging(#[source] tracing_subscriber::util::TryInitError),
    /// The port is taken, or not ours to take.
    #[error(
        "metrics cannot be served on {address}; choose another PONTUAL_METRICS_LISTEN, or `off`"
    )]
    Metrics {
        /// Where they should be.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: BuildError,
    },
}

/// The bounds of every histogram in seconds: from a cache's microseconds to a statement's timeout.
const SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Sets up logging. Call once, first.
pub fn log(config: &Config) -> Result<(), TelemetryError> {
    // Postgres's "already exists, skipping" is not news; whoever wants it says so, and the last word counts.
    let filter = EnvFilter::try_new(format!("sqlx::postgres::notice=warn,{}", config.log))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match config.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_ansi(false)
            .finish()
            .try_init(),
    };
    set.map_err(TelemetryError::Logging)?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let said = panic.payload_as_str().unwrap_or("nothing");
        tracing::error!(place, "a task panicked at {place}: {said}");
    }));
    Ok(())
}

/// Serves metrics at `/metrics`, if they are wanted. Call once, in the runtime that is to serve them.
pub fn metrics(config: &Config) -> Result<(), TelemetryError> {
    let Some(address) = config.metrics_listen else { return Ok(()) };
    let failed = |source| TelemetryError::Metrics { address, source };
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
        .and_then(PrometheusBuilder::install)
        .map_err(failed)
}
