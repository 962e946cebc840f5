//! Holds whose time is over.
//!
//! Nothing depends on this job: an agenda minds no hold whose time is over, nor does a reader. It appends `HoldExpired`, so that
//! sockets hear of the slot, the agenda forgets the seat, and an offer goes on to the next in line. A hold that ended
//! otherwise, or was expired already, leaves nothing to do. A job each and no sweep, as with unanswered bookings: no table
//! lists holds.

use domain::actor::Actor;
use domain::hold::ExpireHold;
use domain::ids::HoldId;
use domain::{Instant, Refusal};
use event_log::{EventLog, ExecuteError, Executor, Origin};
use uuid::Uuid;

use super::erasure::Outcome;
use super::worker::TaskError;

/// Who says so.
const ACTOR: Actor = Actor::System("hold-expiry");

/// Expires a hold whose time is over.
pub(super) async fn expire(
    log: &EventLog,
    executor: &Executor,
    hold: HoldId,
    due: Instant,
) -> Result<Outcome, TaskError> {
    if log.clock().now() < due {
        return Ok(Outcome::Later(due));
    }
    let origin = Origin::of(ACTOR, Uuid::new_v4().simple().to_string());
    match executor.execute(ExpireHold { hold }, origin).await {
        Ok(_) | Err(ExecuteError::Refused(Refusal::NotFound(_))) => Ok(Outcome::Complete),
        Err(error) => Err(TaskError::Hold(error)),
    }
}
