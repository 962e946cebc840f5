//! The one place time comes from.

use domain::Instant;

/// Tells the time. Decisions take their `now` from here, so tests can freeze it.
pub trait Clock: Send + Sync + 'static {
    /// The present, to the microsecond.
    fn now(&self) -> Instant;

    /// What events are recorded at. `None` leaves it to the database's clock, read under the head lock:
    /// one clock for all servers, so that one with a wrong clock cannot push a partition into the future.
    fn recorded_at(&self) -> Option<Instant> {
        Some(self.now())
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    fn now(&self) -> Instant {
        to_micros(chrono::Utc::now())
    }

    fn recorded_at(&self) -> Option<Instant> {
        None
    }
}

/// Cuts an instant to the microseconds that Postgres keeps.
pub(crate) fn to_micros(instant: Instant) -> Instant {
    chrono::SubsecRound::trunc_subsecs(instant, 6)
}
