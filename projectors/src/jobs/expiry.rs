//! Bookings that the provider did not answer in time expire, and give their slots back.
//!
//! Every few seconds, and when it starts, a worker looks in `appointments` for those that are pending and whose time to answer
//! is over, and runs `ExpireAppointment` for each. The table only points there: the aggregate decides, so one that was answered
//! a moment ago stays, and several workers do no harm. What is not done, because of a crash or otherwise, the next sweep finds.

use std::collections::HashSet;
use std::time::Duration;

use domain::actor::Actor;
use domain::appointment::ExpireAppointment;
use domain::ids::AppointmentId;
use event_log::{Executor, Origin};
use read_models::appointments;
use read_models::table::TableError;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often it is looked.
const SWEEP: Duration = Duration::from_secs(15);
/// How many are looked at together.
const SLICE: i64 = 200;
/// Who lets them expire.
const ACTOR: Actor = Actor::System("expiry");

/// Lets them expire until told to stop.
pub(super) async fn keep(executor: Executor, stop: CancellationToken) {
    let sweeping = async {
        let mut failing = HashSet::new();
        loop {
            if let Err(error) = sweep(&executor, &mut failing).await {
                tracing::warn!(error = %crate::causes(&error), "unanswered bookings could not be looked for; trying again");
            }
            tokio::time::sleep(SWEEP).await;
        }
    };
    // An append is whole or not at all: a sweep can be left at any point.
    tokio::select! {
        () = sweeping => {}
        () = stop.cancelled() => {}
    }
}

/// Lets all of them expire whose time is over. Those it cannot are `failing` afterwards, and told once.
pub async fn sweep(
    executor: &Executor,
    failing: &mut HashSet<AppointmentId>,
) -> Result<(), TableError> {
    let (pool, now) = (executor.log().pool(), executor.log().clock().now());
    let (mut after, mut failed) = (None, HashSet::new());
    loop {
        let page = appointments::unanswered(pool, now, after, SLICE).await?;
        for &(_, appointment) in &page {
            let origin = Origin::of(ACTOR, Uuid::new_v4().simple().to_string());
            let Err(error) = executor.execute(ExpireAppointment { appointment }, origin).await
            else {
                continue;
            };
            if !failing.contains(&appointment) {
                tracing::warn!(%appointment, error = %crate::causes(&error), "appointment {appointment} did not expire; trying again");
            }
            failed.insert(appointment);
        }
        after = page.last().copied();
        if after.is_none() {
            *failing = failed;
            return Ok(());
        }
    }
}
