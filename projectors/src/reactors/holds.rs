//! Holds: whoever waits for the slot is told when its time is over.

use domain::event::Event;
use domain::hold::HoldEvent;
use domain::ids::{HoldId, Id};
use event_log::Recorded;

use crate::jobs::{Priority, Task};

/// `HoldPlaced` orders `ExpireHold` for when it ends. One that is booked or let go before that leaves the job nothing to do.
pub(super) fn order(event: &Recorded) -> Option<(Task, Priority)> {
    let Event::Hold(HoldEvent::HoldPlaced { held }) = &event.event else { return None };
    let hold = HoldId::trusted(event.stream.id);
    Some((Task::ExpireHold { hold, due: held.expires_at }, Priority::High))
}
