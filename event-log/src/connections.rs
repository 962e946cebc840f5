//! The connections of the two statements that every command needs: those that append, and those that load.
//!
//! Not a `PgPool`: that one asks the server for a sign of life whenever a connection comes back, a round
//! trip per statement. Here a connection is used as it is, and if it turns out dead, all idle ones are let go
//! and the statement is sent again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::query::Query;
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{LogOptions, unavailable};

/// Whatever the statistics said when a connection planned a statement of the log: by index, always. For each of these
/// statements has its index, and a plan made while a table was small would stay.
pub(crate) const BY_INDEX: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
];

/// A few connections, opened as they are needed.
pub(crate) struct Connections {
    connect: PgConnectOptions,
    idle: Mutex<Vec<PgConnection>>,
    permits: Arc<Semaphore>,
    most: usize,
    patience: Duration,
}

/// A connection that is in use. Unless it is given back, it is closed.
pub(crate) struct Taken {
    pub(crate) connection: PgConnection,
    permit: OwnedSemaphorePermit,
}

impl Connections {
    /// At most so many to the database of this pool, with the server bounding every statement in time.
    pub(crate) fn new(pool: &PgPool, options: &LogOptions, name: &str, most: usize) -> Self {
        let millis = |duration: Duration| format!("{}ms", duration.as_millis());
        let connect = (*pool.connect_options()).clone().options([
            ("statement_timeout", millis(options.statement_timeout)),
            ("lock_timeout", millis(options.lock_timeout)),
        ]);
        let most = most.max(1);
        Self {
            connect: connect.options(BY_INDEX).application_name(name),
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(most)),
            most,
            patience: options.lock_timeout,
        }
    }

    /// A connection, as soon as one is free.
    pub(crate) async fn take(&self) -> Result<Taken, sqlx::Error> {
        let permit = tokio::time::timeout(self.patience, Arc::clone(&self.permits).acquire_owned());
        let permit = permit.await.map_err(|_| sqlx::Error::PoolTimedOut)?;
        let permit = permit.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle.lock().expect("nobody panics holding this lock").pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let connecting = PgConnection::connect_with(&self.connect);
                tokio::time::timeout(self.patience, connecting)
                    .await
                    .map_err(|_| sqlx::Error::PoolTimedOut)??
            }
        };
        Ok(Taken { connection, permit })
    }

    /// Gives back a connection whose last statement was answered.
    pub(crate) fn give_back(&self, taken: Taken) {
        let Taken { connection, permit } = taken;
        self.idle.lock().expect("nobody panics holding this lock").push(connection);
        drop(permit);
    }

    /// The rows of a statement that changes nothing; it is sent once more if the connection turns out dead.
    pub(crate) async fn fetch_all<'q>(
        &self,
        query: impl Fn() -> Query<'q, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let mut tried = false;
        loop {
            let mut taken = self.take().await?;
            let rows = query().fetch_all(&mut taken.connection).await;
            if !rows.as_ref().is_err_and(unavailable) {
                self.give_back(taken);
                return rows;
            }
            self.forget_idle();
            if std::mem::replace(&mut tried, true) {
                return rows;
            }
        }
    }

    /// Lets all idle connections go: one of them turned out dead.
    pub(crate) fn forget_idle(&self) {
        self.idle.lock().expect("nobody panics holding this lock").clear();
    }

    /// Waits until no connection is in use, closes them and gives out no more.
    pub(crate) async fn close(&self) {
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(self.patience, self.permits.acquire_many(all)).await;
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock().expect("nobody panics holding this lock"));
        for connection in idle {
            // Whether the goodbye arrives does not matter.
            let _ = connection.close().await;
        }
    }
}
