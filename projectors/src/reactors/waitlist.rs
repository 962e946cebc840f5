//! Waitlists: what is given back is offered to the next in line.

use domain::agenda::AgendaEvent;
use domain::event::Event;
use event_log::Recorded;

use crate::jobs::{Priority, Task};

/// `SlotFreed` and `HeldSlotFreed` order `OfferFreedSlot`, whoever waits: whether anybody does, the line says when it runs.
pub(super) fn order(event: &Recorded) -> Option<(Task, Priority)> {
    let Event::Agenda(event) = &event.event else { return None };
    match event {
        AgendaEvent::SlotFreed { provider, day, .. }
        | AgendaEvent::HeldSlotFreed { provider, day, .. } => {
            Some((Task::OfferFreedSlot { provider: *provider, day: *day }, Priority::High))
        }
        AgendaEvent::SlotTaken { .. } | AgendaEvent::SlotHeld { .. } => None,
    }
}
