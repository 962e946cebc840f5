//! For tests: a database of one's own, a clock that stands still.

use std::sync::Mutex;

use domain::Instant;
use sqlx::PgPool;

use crate::clock::{Clock, to_micros};

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct FrozenClock(Mutex<Instant>);

impl FrozenClock {
    /// Stands at this instant.
    pub fn at(instant: Instant) -> Self {
        Self(Mutex::new(to_micros(instant)))
    }

    /// Stands at an RFC 3339 instant.
    pub fn at_text(instant: &str) -> Self {
        Self::at(instant.parse().expect("an RFC 3339 instant"))
    }

    /// Moves it.
    pub fn set(&self, instant: Instant) {
        *self.0.lock().expect("nobody panics holding the clock") = to_micros(instant);
    }

    /// Moves it forward.
    pub fn advance(&self, by: chrono::TimeDelta) {
        let mut now = self.0.lock().expect("nobody panics holding the clock");
        *now += by;
    }
}

impl Clock for FrozenClock {
    fn now(&self) -> Instant {
        *self.0.lock().expect("nobody panics holding the clock")
    }
}

/// A database of one's own, migrated, dropped at the end.
pub struct TestDatabase {
    pool: PgPool,
}

impl TestDatabase {
    /// Clones the migrated template.
    pub async fn create() -> Self {
        todo!()
    }

    /// Its pool.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        todo!()
    }
}
