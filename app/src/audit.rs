//! Keeps the audit trail: writes what the command side notes, forgets what is old.
//!
//! A refused sign-in is noted by its handler in a bounded queue; [`write`] takes up to a few hundred notes at a time and
//! inserts them with one statement. While Postgres is away it tries again for a while, then gives that batch up and counts
//! it: the queue behind it is bounded, so memory is too. On a graceful stop what is in the queue is written; on a crash it
//! is lost. [`keep`] runs beside the worker and forgets, once an hour, what is older than `PONTUAL_AUDIT_DAYS` and what was
//! noted beyond [`read_models::audit::NOTED_MAX`].

use std::time::Duration;

use chrono::TimeDelta;
use domain::Instant;
use event_log::EventLog;
use http_kit::audit::{Noted, Notes, dropped};
use read_models::audit::{self, AuditRow};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The most notes of one insert.
const BATCH: usize = 500;
/// How often a batch is tried, and how long between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the trail is swept.
const SWEEP: Duration = Duration::from_secs(3600);

/// Writes notes until told to stop, then what is left of them.
pub async fn write(log: EventLog, mut notes: Notes, stop: CancellationToken) {
    loop {
        let batch = tokio::select! {
            batch = notes.next(BATCH) => batch,
            () = stop.cancelled() => break,
        };
        if batch.is_empty() {
            return;
        }
        insert(&log, batch, TRIES, &stop).await;
    }
    loop {
        let rest = notes.rest(BATCH);
        if rest.is_empty() {
            return;
        }
        insert(&log, rest, 1, &stop).await;
    }
}

async fn insert(log: &EventLog, notes: Vec<Noted>, tries: u32, stop: &CancellationToken) {
    let now = log.clock().now();
    let rows: Vec<AuditRow> = notes.into_iter().map(|noted| row(noted, now)).collect();
    for left in (0..tries).rev() {
        let written = async {
            let mut connection = log.pool().acquire().await.map_err(|error| error.to_string())?;
            audit::note(&mut connection, &rows).await.map_err(|error| error.to_string())
        };
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => {
                tracing::warn!(%error, left, "refusals were not written to the audit trail")
            }
            Err(_) => tracing::warn!(left, "refusals were not written to the audit trail in time"),
        }
        if left > 0 {
            let _ = tokio::time::timeout(PAUSE, stop.cancelled()).await;
        }
    }
    dropped(rows.len() as u64);
}

/// The id is drawn once, so that a batch that is tried twice is there once.
fn row(noted: Noted, at: Instant) -> AuditRow {
    let Noted { account, actor, action, resource, ip, user_agent, trace, success, reason } = noted;
    let mut details = Map::new();
    if !reason.is_empty() {
        details.insert("reason".to_owned(), Value::from(reason));
    }
    details.insert("trace".to_owned(), Value::from(trace));
    AuditRow {
        id: Uuid::from_bytes(rand::random()).to_string(),
        at,
        account,
        actor,
        action: action.to_owned(),
        resource,
        ip,
        user_agent,
        success,
        details,
    }
}

/// Forgets what is older than so many days, now and then, until told to stop.
pub async fn keep(log: EventLog, days: u32, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let before = log.clock().now() - TimeDelta::days(days.into());
        match audit::forget(log.pool(), before, audit::NOTED_MAX).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(rows, "old lines of the audit trail were forgotten"),
            Err(error) => tracing::warn!(%error, "the audit trail was not swept"),
        }
        let _ = tokio::time::timeout(SWEEP, stop.cancelled()).await;
    }
}
