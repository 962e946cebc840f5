//! The main store, whichever it is: the one that `DATABASE_URL` names, or the private cluster.

use std::str::FromStr;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgPool};
use thiserror::Error;

use crate::cluster::{Cluster, ClusterError};
use crate::config::Config;

/// Why there is no database.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The private cluster does not run.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The server that `DATABASE_URL` names does not let us in.
    #[error("the database of DATABASE_URL cannot be reached")]
    Connect(#[source] sqlx::Error),
}

/// Who runs the private cluster, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenancy {
    /// We do, and nobody else on this data folder: for servers.
    Owner,
    /// Whoever does already, else we: for commands.
    Guest,
}

/// A pool, and the cluster behind it if it is ours.
#[derive(Debug)]
pub struct Database {
    /// Connections to the database.
    pub pool: PgPool,
    cluster: Option<Cluster>,
}

/// Every statement is written for one plan, by index. Left to itself Postgres plans a batch's `INSERT … FROM unnest(…)`
/// anew each time, which costs as much as running it.
const PLANS: [(&str, &str); 1] = [("plan_cache_mode", "force_generic_plan")];

/// How long the private cluster may take to stop, of the 25 s that a stop may take in all.
const STOP_WITHIN: Duration = Duration::from_secs(3);

impl Database {
    /// Connects to the database of the configuration, and starts the private cluster if that is what it says. Waits for a
    /// server that is not there yet as long as one connection may take (2 s).
    pub async fn open(config: &Config, tenancy: Tenancy) -> Result<Self, DatabaseError> {
        let (options, cluster) = match (&config.database_url, tenancy) {
            (Some(url), _) => {
                let options = PgConnectOptions::from_str(url.expose_secret());
                (options.map_err(DatabaseError::Connect)?, None)
            }
            (None, Tenancy::Owner) => {
                let mut cluster = Cluster::start(&config.data_dir).await?;
                cluster.keep_running();
                (cluster.options(), Some(cluster))
            }
            (None, Tenancy::Guest) => {
                let cluster = Cluster::join_or_start(&config.data_dir).await?;
                (cluster.options(), Some(cluster))
            }
        };
        let pool = PgPoolOptions::new()
            .max_connections(config.database_pool)
            .acquire_timeout(Duration::from_secs(2))
            .max_lifetime(Duration::from_secs(3600))
            .idle_timeout(Duration::from_secs(600))
            // S3-70's pre-ping, where it can find something out: a ping for each use would double the round trips.
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    if about.idle_for > Duration::from_secs(5) {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(options.application_name("pontual").options(PLANS))
            .await
            .map_err(DatabaseError::Connect)?;
        Ok(Self { pool, cluster })
    }

    /// Closes the pool, and stops the cluster if it is ours.
    pub async fn close(self) -> Result<(), ClusterError> {
        // A connection that somebody still holds must not hold up the end: stopping the server cuts it.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.pool.close()).await;
        let Some(cluster) = self.cluster else { return Ok(()) };
        match tokio::time::timeout(STOP_WITHIN, cluster.stop()).await {
            Ok(stopped) => stopped,
            Err(_) => {
                tracing::warn!("Postgres takes longer to stop; it goes on with that by itself");
                Ok(())
            }
        }
    }
}
