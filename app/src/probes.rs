//! What an orchestrator asks: is it alive, is it ready.
//!
//! `GET /health/ready` looks at Postgres, and at Redis and MongoDB where there are any, each for 2 s at most. The answer is
//! kept for a second, and whoever asks while somebody looks waits for that look: a thousand probes a second cost the stores
//! one. Whether the process is stopping is never kept. A crash loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use event_log::EventLog;
use http::StatusCode;
use read_models::notifications::NotificationFeed;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// No store is waited for longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer is kept.
const KEPT: Duration = Duration::from_secs(1);

/// What the probes look at.
#[derive(Clone)]
pub(crate) struct Health {
    /// Taken back when the process stops.
    pub(crate) ready: Arc<AtomicBool>,
    pub(crate) log: EventLog,
    pub(crate) redis: Option<redis::Client>,
    /// The feed, when it is a store of its own.
    pub(crate) feed: Option<Arc<dyn NotificationFeed>>,
    /// Locked by whoever looks.
    pub(crate) last: Arc<Mutex<Option<(Instant, Stores)>>>,
}

/// How the stores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stores {
    postgres: bool,
    redis: &'static str,
    feed: &'static str,
}

impl Health {
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/health/live", get(|| async { axum::Json(json!({ "status": "live" })) }))
            .route("/health/ready", get(ready))
            .with_state(self)
    }

    /// As they were a second ago at most.
    async fn stores(&self) -> Stores {
        let mut last = self.last.lock().await;
        if let Some((at, stores)) = *last
            && at.elapsed() < KEPT
        {
            return stores;
        }
        let stores = self.look().await;
        *last = Some((Instant::now(), stores));
        stores
    }

    async fn look(&self) -> Stores {
        let postgres = async {
            let ping = sqlx::query("SELECT 1").execute(self.log.pool());
            matches!(tokio::time::timeout(PATIENCE, ping).await, Ok(Ok(_)))
        };
        let redis = async {
            let Some(client) = &self.redis else { return "none, in process" };
            let ping = async {
                let mut connection = client.get_multiplexed_async_connection().await?;
                redis::cmd("PING").query_async::<String>(&mut connection).await
            };
            up_or_down(matches!(tokio::time::timeout(PATIENCE, ping).await, Ok(Ok(_))))
        };
        let feed = async {
            let Some(feed) = &self.feed else { return "none, in Postgres" };
            let asked = tokio::time::timeout(PATIENCE, feed.applied_all()).await;
            up_or_down(matches!(asked, Ok(Ok(_))))
        };
        let (postgres, redis, feed) = tokio::join!(postgres, redis, feed);
        Stores { postgres, redis, feed }
    }
}

const fn up_or_down(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

/// Ready while Postgres answers; without Redis or MongoDB it is degraded, and still ready.
async fn ready(State(health): State<Health>) -> Response {
    let Stores { postgres, redis, feed } = health.stores().await;
    let serving = health.ready.load(Ordering::Relaxed) && postgres;
    let status = match (serving, redis == "down" || feed == "down") {
        (false, _) => "not ready",
        (true, true) => "degraded",
        (true, false) => "ready",
    };
    let parts = json!({
        "status": status,
        "postgres": up_or_down(postgres),
        "redis": redis,
        "mongodb": feed,
    });
    let code = if serving { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, axum::Json(parts)).into_response()
}

#[cfg(test)]
mod tests {
    use event_log::testing::TestDatabase;
    use tokio::net::TcpListener;

    use super::*;

    /// What stands for a Redis that accepts and says nothing, and counts its callers.
    async fn mute() -> (redis::Client, Arc<std::sync::atomic::AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let callers = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = callers.clone();
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                open.push(stream);
            }
        });
        (redis::Client::open(url).unwrap(), callers)
    }

    #[tokio::test]
    async fn a_crowd_of_probes_asks_the_stores_once_and_waits_no_longer_than_one() {
        let database = TestDatabase::create().await;
        let (redis, callers) = mute().await;
        let health = Health {
            ready: Arc::new(AtomicBool::new(true)),
            log: database.log(1).await,
            redis: Some(redis),
            feed: None,
            last: Arc::default(),
        };
        let began = Instant::now();
        let crowd = (0..200).map(|_| {
            let health = health.clone();
            tokio::spawn(async move { ready(State(health)).await.status() })
        });
        for probe in crowd.collect::<Vec<_>>() {
            assert_eq!(probe.await.unwrap(), StatusCode::OK, "degraded is ready");
        }
        assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
        assert_eq!(callers.load(Ordering::Relaxed), 1);
        assert_eq!(health.stores().await.redis, "down");
        // That it stops is said at once, whatever is kept.
        health.ready.store(false, Ordering::Relaxed);
        assert_eq!(ready(State(health)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
