//! What was given back is offered to who waits for it.
//!
//! The job asks again until nobody is left for whom something of that day is free: each answer is one append, so a crash in
//! between only begins anew, and two workers offer nothing twice. Where nobody waits it finds that out by one read.

use chrono::TimeDelta;
use domain::actor::Actor;
use domain::ids::ProviderId;
use domain::waitlist::OfferFreedSlot;
use event_log::{ExecuteError, Executor, Origin};
use uuid::Uuid;

use super::erasure::Outcome;
use super::worker::TaskError;

/// Who offers it.
const ACTOR: Actor = Actor::System("waitlist");
/// How many offers are made before another job has its turn: then this one is tried again.
const AT_ONCE: usize = 20;

/// How often it is looked whether a provider who is away is back.
const AWAY: TimeDelta = TimeDelta::minutes(5);

/// Offers what is free of a provider's UTC day.
pub(super) async fn offer(
    executor: &Executor,
    provider: ProviderId,
    day: chrono::NaiveDate,
) -> Result<Outcome, TaskError> {
    for _ in 0..AT_ONCE {
        let origin = Origin::of(ACTOR, Uuid::new_v4().simple().to_string());
        match executor.execute(OfferFreedSlot { provider, day }, origin).await {
            Ok(done) if done.outcome.more => {}
            Ok(done) if done.outcome.paused => {
                return Ok(Outcome::Later(executor.log().clock().now() + AWAY));
            }
            Ok(_) | Err(ExecuteError::Refused(_)) => return Ok(Outcome::Complete),
            Err(error) => return Err(TaskError::Waitlist(error)),
        }
    }
    Ok(Outcome::Later(executor.log().clock().now()))
}
